"""The state of everything at one look: queues, workers, the schedule, the outbox and the dead."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import Count, Min, Q, QuerySet
from django.utils import timezone

from celery import broker, conf
from celery.broker import store
from celery.broker.base import Broker
from celery.broker.store import depths
from celery.exceptions import CeleryError
from celery.models import Message, Worker
from celery.standing import DEAD, IN_RELAY, READY, SCHEDULED

#: Queues that are looked for in the table where counts have a limit, beside those of workers.
MOST_QUEUES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue; `oldest` in seconds. None: the broker did not answer, or cannot tell."""

    name: str
    depth: int | None
    oldest: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """What a worker says of itself; `seen`: seconds since its last proof of life; `is_silent`: more than its lease."""

    owner: str
    name: str
    pid: int
    queues: tuple[str, ...]
    children: int
    started: datetime
    seen: float
    is_silent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of everything. `next_due`: when the first scheduled message is due; `error`: what the broker said.

    Counts are exact, or at most `limit`: a count that equals the limit means "that many, or more".
    """

    queues: tuple[Queue, ...]
    workers: tuple[WorkerStatus, ...]
    scheduled: int
    next_due: datetime | None
    outbox: int
    dead: int
    error: str | None
    limit: int | None


def collect(current: Broker | None = None, *, limit: int | None = None) -> Status:
    """Ask the database, and the broker if it is another one. With `limit`, nothing is counted beyond it.

    A broker that does not answer is told in `error`. Raises what the database raises.
    """
    return _Collector(current or broker.current(), limit).collect()


class _Collector:
    def __init__(self, current: Broker, limit: int | None) -> None:
        self._broker = current
        self._limit = limit
        self._messages = Message.objects.using(current.alias)
        self._now = timezone.now()
        self._error: str | None = None

    def collect(self) -> Status:
        workers = [self._worker(row) for row in Worker.objects.using(self._broker.alias).order_by("name", "owner")]
        names = {conf.AMQP_CONSUMER_QUEUE, *(queue for worker in workers for queue in worker.queues)}
        queues = self._remote_queues(names) if self._broker.relays else self._own_queues(names)
        scheduled = self._scheduled()
        return Status(
            queues=tuple(queues),
            workers=tuple(workers),
            scheduled=self._count(scheduled),
            next_due=scheduled.order_by("visible_at").values_list("visible_at", flat=True).first(),
            outbox=self._outbox(),
            dead=self._count(self._messages.filter(DEAD)),
            error=self._error,
            limit=self._limit,
        )

    def _count(self, rows: QuerySet[Any]) -> int:
        return rows.count() if self._limit is None else rows.order_by()[: self._limit].count()

    # -- queues

    def _own_queues(self, names: set[str]) -> Iterator[Queue]:
        found = self._counted() if self._limit is None else self._counted_up_to(self._limit, names)
        for name in sorted(names | set(found)):
            depth, oldest = found.get(name, (0, None))
            yield Queue(name=name, depth=depth, oldest=oldest)

    def _counted(self) -> dict[str, tuple[int, float | None]]:
        ready = self._messages.filter(READY).values_list("queue").annotate(Count("id"), Min("created_at")).order_by()
        return {queue: (depth, self._since(oldest)) for queue, depth, oldest in ready}

    def _counted_up_to(self, limit: int, names: set[str]) -> dict[str, tuple[int, float | None]]:
        keeper = store.of(self._broker.alias)
        counted = {name: depths.ready(keeper, name, limit=limit) for name in {*names, *self._names_in_use()}}
        return {name: (depth, _rounded(oldest)) for name, (depth, oldest) in counted.items()}

    def _names_in_use(self) -> Iterator[str]:
        """Go from queue to queue by the index: reading every message would take as long as there are many."""
        name = ""
        for _ in range(MOST_QUEUES):
            following = self._messages.filter(READY, queue__gt=name).order_by("queue").values_list("queue", flat=True)
            name = following.first() or ""
            if not name:
                return
            yield name

    def _remote_queues(self, names: set[str]) -> Iterator[Queue]:
        for name in sorted(names):
            yield Queue(name=name, depth=self._depth(name), oldest=None)

    def _depth(self, queue: str) -> int | None:
        if self._error:  # each further question would wait in vain as long as the first
            return None
        try:
            return self._broker.depth(queue)
        except (CeleryError, OSError) as error:
            self._error = f"the broker does not answer: {error}"
            return None

    # -- everything else

    def _worker(self, row: Worker) -> WorkerStatus:
        seen = self._since(row.seen_at)
        return WorkerStatus(
            owner=row.owner,
            name=row.name,
            pid=row.pid,
            queues=tuple(row.queues.split(",")),
            children=row.concurrency,
            started=row.started_at,
            seen=seen,
            is_silent=seen > row.lease,
        )

    def _scheduled(self) -> QuerySet[Message]:
        return self._messages.filter(SCHEDULED & Q(visible_at__gt=self._now) if self._broker.relays else SCHEDULED)

    def _outbox(self) -> int:
        """Count what waits to be published; 0 where the database is the queue."""
        if not self._broker.relays:
            return 0
        due = SCHEDULED & Q(visible_at__lte=self._now)
        found = sum(self._count(self._messages.filter(which)) for which in (READY, due, IN_RELAY))
        return found if self._limit is None else min(found, self._limit)

    def _since(self, moment: datetime) -> float:
        return round(max((self._now - moment).total_seconds(), 0.0), 1)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
