"""The steward's part in the history: each minute, what this worker has stored, and what waits in its queues.

Rows of ``celery_throughput`` and ``celery_queuedepth``, in the database of messages whatever the broker; both are
deleted after a week. What was stored is counted in `celery.worker.slots`, where it outlives the steward.
"""

import time
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.apps import apps

from celery.broker import store
from celery.broker.base import Broker
from celery.broker.store import depths
from celery.exceptions import CeleryError
from celery.moments import as_stored
from celery.worker.slots import Slots

#: Seconds; whole minutes are such by the clock of the wall.
MINUTE: Final = 60
#: Workers take turns within the first seconds of a minute, by their names: who comes later finds the samples taken.
LAST_TURN: Final = 3.0
#: How long rows are kept, and seconds between looks for older ones.
KEPT_FOR: Final = timedelta(days=7)
CLEANUP_EVERY: Final = 3600.0
#: Messages of a queue that are counted at most.
MOST_COUNTED: Final = 100_000
#: Seconds of sampling, and of deleting, between two looks at what else the steward has to do.
SLICE: Final = 1.0
#: Rows that one statement deletes.
PAGE: Final = 500


class Tally:
    """Writes the history of the worker called `name`. Every step may be repeated after trouble: nothing is lost."""

    def __init__(
        self, broker: Broker, name: str, queues: Sequence[str], slots: Slots, clock: Callable[[], float] = time.time
    ) -> None:
        self._broker = broker
        self._name = name
        self._queues = queues
        self._slots = slots
        self._clock = clock
        self._turn = zlib.crc32(name.encode(errors="replace")) % 1000 / 1000 * LAST_TURN
        self._written_at = self._now()
        self._cleanup_at = 0.0

    def step(self) -> float:
        """Write what happened since the last time and what waits now; return the seconds until the next step."""
        self._record()
        is_complete = self._sample()
        self._clean_up()
        return self._until_next_turn() if is_complete else 0.0

    def finish(self) -> float:
        """Write what happened since the last step: nothing will happen any more."""
        self._record()
        return float("inf")

    def _until_next_turn(self) -> float:
        return (self._turn - self._clock()) % MINUTE or float(MINUTE)

    def _now(self) -> datetime:
        """Return the present moment to the second."""
        return datetime.fromtimestamp(int(self._clock()), UTC)

    # -- what was done

    def _record(self) -> None:
        """Insert the difference; it is forgotten only when that is durable."""
        totals, recorded = self._slots.totals(), self._slots.recorded()
        moment = self._end()
        done, failed, retried = (new - old for new, old in zip(totals[:3], recorded[:3], strict=True))
        if done or failed or retried:
            row = {"done": done, "failed": failed, "retried": retried, "runtime": totals.runtime - recorded.runtime}
            self._rows("Throughput").create(at=as_stored(moment), worker=self._name, **row)
            self._slots.record(totals)
        self._written_at = moment

    def _end(self) -> datetime:
        """Return the end of the interval: the minute that has just ended, where its end is news."""
        now = self._now()
        minute = now.replace(second=0)
        return minute if minute > self._written_at else now

    # -- what waits

    def _sample(self) -> bool:
        """Sample those queues of which this minute has no sample. False: the time was over first, ask again."""
        until = time.monotonic() + SLICE
        minute = as_stored(self._now().replace(second=0))
        rows = self._rows("QueueDepth")
        taken = set(rows.filter(at=minute, queue__in=self._queues).values_list("queue", flat=True))
        for number, queue in enumerate(queue for queue in self._queues if queue not in taken):
            if number and time.monotonic() > until:
                return False
            try:
                depth, oldest = self._depth(queue)
            except (CeleryError, OSError):  # a gap; who has to wait for this broker tells of it
                return True
            row = rows.model(at=minute, queue=queue, depth=depth, oldest=oldest)
            rows.bulk_create([row], ignore_conflicts=True)
        return True

    def _depth(self, queue: str) -> tuple[int, float | None]:
        if self._broker.relays:
            return self._broker.depth(queue), None
        return depths.ready(store.of(self._broker.alias), queue, limit=MOST_COUNTED)

    # -- what is forgotten

    def _clean_up(self) -> None:
        """Delete what is too old, page by page; what does not fit into the time is left to the next step."""
        if time.monotonic() < self._cleanup_at:
            return
        until = time.monotonic() + SLICE
        limit = as_stored(self._now() - KEPT_FOR)
        for table in ("Throughput", "QueueDepth"):
            old = self._rows(table).filter(at__lt=limit).order_by("at")
            while page := list(old.values_list("pk", flat=True)[:PAGE]):
                self._rows(table).filter(pk__in=page).delete()
                if time.monotonic() > until:
                    return
        self._cleanup_at = time.monotonic() + CLEANUP_EVERY

    def _rows(self, model: str) -> Any:
        return apps.get_model("celery", model)._base_manager.using(self._broker.alias)  # noqa: SLF001 - Django's name
