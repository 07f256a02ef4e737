"""``manage.py celery_status``: queues, workers, the schedule, the outbox and the dead, at one look."""

import json
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Count, Min, Q
from django.utils import timezone

from celery import broker, conf
from celery.broker.base import Broker
from celery.exceptions import CeleryError
from celery.management.output import database_of, duration, iso, table
from celery.models import Message, Worker

READY = Q(owner__isnull=True, visible_at__isnull=True, dead_at__isnull=True)
SCHEDULED = Q(owner__isnull=True, visible_at__isnull=False, dead_at__isnull=True)
#: A row with both an owner and a moment is being relayed.
IN_RELAY = Q(owner__isnull=False, visible_at__isnull=False, dead_at__isnull=True)


class Command(BaseCommand):
    """Shows what waits, who works, and what went wrong."""

    help = "Shows queues with depth and age of the oldest message, workers, scheduled and dead messages."

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument("--json", action="store_true", help="as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        """Print the status. Raises CommandError at the end if the broker did not answer."""
        current = broker.current()
        with database_of(current.alias):
            status = Status(current).collect()
        self.stdout.write(json.dumps(status, indent=2) if options["json"] else _for_people(status))
        if status["error"]:
            raise CommandError(status["error"])


class Status:
    """The state of everything, as plain data. Moments are ISO 8601, durations seconds."""

    def __init__(self, current: Broker) -> None:
        self._broker = current
        self._messages = Message.objects.using(current.alias)
        self._now = timezone.now()
        self._error: str | None = None

    def collect(self) -> dict[str, Any]:
        """Ask the database, and the broker if it is another one."""
        workers = [self._worker(row) for row in Worker.objects.using(self._broker.alias).order_by("name", "owner")]
        names = {conf.AMQP_CONSUMER_QUEUE, *(queue for worker in workers for queue in worker["queues"])}
        return {
            "queues": self._remote_queues(names) if self._broker.relays else self._own_queues(names),
            "workers": workers,
            "scheduled": self._scheduled(),
            "outbox": self._outbox(),
            "dead": self._messages.filter(dead_at__isnull=False).count(),
            "error": self._error,
        }

    def _own_queues(self, names: set[str]) -> list[dict[str, Any]]:
        ready = self._messages.filter(READY).values_list("queue").annotate(Count("id"), Min("created_at")).order_by()
        found = {queue: (depth, self._since(oldest)) for queue, depth, oldest in ready}
        return [_queue(name, *found.get(name, (0, None))) for name in sorted(names | set(found))]

    def _remote_queues(self, names: set[str]) -> list[dict[str, Any]]:
        return [_queue(name, self._depth(name), None) for name in sorted(names)]

    def _depth(self, queue: str) -> int | None:
        if self._error:  # each further question would wait in vain as long as the first
            return None
        try:
            return self._broker.depth(queue)
        except (CeleryError, OSError) as error:
            self._error = f"the broker does not answer: {error}"
            return None

    def _worker(self, row: Worker) -> dict[str, Any]:
        return {
            "name": row.name,
            "pid": row.pid,
            "queues": row.queues.split(","),
            "children": row.concurrency,
            "started": iso(row.started_at),
            "seen": self._since(row.seen_at),
            "is_silent": self._since(row.seen_at) > row.lease,
        }

    def _scheduled(self) -> dict[str, Any]:
        ours = self._messages.filter(SCHEDULED & Q(visible_at__gt=self._now) if self._broker.relays else SCHEDULED)
        found = ours.aggregate(count=Count("id"), next_due=Min("visible_at"))
        return {"count": found["count"], "next_due": iso(found["next_due"])}

    def _outbox(self) -> int:
        """Count what waits to be published; 0 where the database is the queue."""
        if not self._broker.relays:
            return 0
        due = SCHEDULED & Q(visible_at__lte=self._now)
        return self._messages.filter(READY | due | IN_RELAY).count()

    def _since(self, moment: datetime) -> float:
        return round(max((self._now - moment).total_seconds(), 0.0), 1)


def _queue(name: str, depth: int | None, oldest: float | None) -> dict[str, Any]:
    return {"name": name, "depth": depth, "oldest": oldest}


def _seen(worker: dict[str, Any]) -> str:
    return f"{worker['seen']:.0f} s ago{', lost?' if worker['is_silent'] else ''}"


def _for_people(status: dict[str, Any]) -> str:
    queues = [(queue["name"], queue["depth"], duration(queue["oldest"])) for queue in status["queues"]]
    workers = [
        (row["name"], row["pid"], ",".join(row["queues"]), row["children"], row["started"], _seen(row))
        for row in status["workers"]
    ]
    scheduled = status["scheduled"]
    counts = [
        ("scheduled", scheduled["count"], f"next at {scheduled['next_due']}" if scheduled["count"] else ""),
        ("outbox", status["outbox"], ""),
        ("dead", status["dead"], "see `manage.py celery_dead list`" if status["dead"] else ""),
    ]
    lines = [
        table(("queue", "depth", "oldest"), queues),
        table(("worker", "pid", "queues", "children", "started", "seen"), workers) if workers else "No worker runs.",
        "\n".join(f"{name}: {count}{f', {more}' if more else ''}" for name, count, more in counts),
    ]
    return "\n\n".join(lines)
