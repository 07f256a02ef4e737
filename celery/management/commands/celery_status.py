"""``manage.py celery_status``: queues, workers, the schedule, the outbox and the dead, at one look."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from celery import broker, status
from celery.management.output import database_of, duration, iso, table


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
            found = status.collect(current)
        self.stdout.write(json.dumps(_as_data(found), indent=2) if options["json"] else _for_people(found))
        if found.error:
            raise CommandError(found.error)


def _as_data(found: status.Status) -> dict[str, Any]:
    """Return what `--json` prints. Moments are ISO 8601, durations seconds."""
    return {
        "queues": [{"name": queue.name, "depth": queue.depth, "oldest": queue.oldest} for queue in found.queues],
        "workers": [_worker(worker) for worker in found.workers],
        "scheduled": {"count": found.scheduled, "next_due": iso(found.next_due)},
        "outbox": found.outbox,
        "dead": found.dead,
        "error": found.error,
    }


def _worker(worker: status.WorkerStatus) -> dict[str, Any]:
    return {
        "name": worker.name,
        "pid": worker.pid,
        "queues": list(worker.queues),
        "children": worker.children,
        "started": iso(worker.started),
        "seen": worker.seen,
        "is_silent": worker.is_silent,
    }


def _seen(worker: status.WorkerStatus) -> str:
    return f"{worker.seen:.0f} s ago{', lost?' if worker.is_silent else ''}"


def _for_people(found: status.Status) -> str:
    queues = [(queue.name, queue.depth, duration(queue.oldest)) for queue in found.queues]
    workers = [
        (worker.name, worker.pid, ",".join(worker.queues), worker.children, iso(worker.started), _seen(worker))
        for worker in found.workers
    ]
    counts = [
        ("scheduled", found.scheduled, f"next at {iso(found.next_due)}" if found.scheduled else ""),
        ("outbox", found.outbox, ""),
        ("dead", found.dead, "see `manage.py celery_dead list`" if found.dead else ""),
    ]
    lines = [
        table(("queue", "depth", "oldest"), queues),
        table(("worker", "pid", "queues", "children", "started", "seen"), workers) if workers else "No worker runs.",
        "\n".join(f"{name}: {count}{f', {more}' if more else ''}" for name, count, more in counts),
    ]
    return "\n\n".join(lines)
