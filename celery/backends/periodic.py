"""Sends what is due of the periodic tasks, each due moment once however many workers look: ``celery_periodictaskmeta``.

One row a task says which moment was taken last. Taking the next one is a conditional update, and the message is
inserted in the same transaction: who changes the row sends, and nobody else can. What is due is decided by the clock of
the database, so workers whose own clocks differ agree; theirs only measure how long to sleep.
"""

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, connections, transaction
from django.db.models import Q
from django.utils import timezone

from celery import schedules
from celery.broker import store
from celery.calling import message_of
from celery.exceptions import InvalidSchedule, SchemaMissing
from celery.moments import as_moment, as_stored
from celery.registry import tasks
from celery.schedules import EPOCH, Schedule

if TYPE_CHECKING:
    from django.db.models import QuerySet

logger = logging.getLogger("celery.worker")

#: Ids of messages are made of the task's name and what was taken: a moment has one id, whoever sends it.
NAMESPACE: Final = uuid.UUID("5f0c3a0e-6c5d-4b8e-9a53-8a1f2d9c7e41")
#: How far in the future the last moment may be, before the clock that wrote it is taken to have been wrong.
TOLERANCE: Final = timedelta(minutes=1)
#: Rows in one SELECT.
PAGE: Final = 500
#: Seconds that one pass may take.
SLICE: Final = 2.0
#: Seconds between looks at the clock, should the next moment be later: the database's clock may be set.
LONGEST_PAUSE: Final = 5.0
#: How long a task is left alone that could not be sent.
PAUSE_AFTER_FAILURE: Final = timedelta(seconds=60)

#: The present moment, in UTC, without a zone. SQLite has the clock of the machine that we are on.
CLOCKS: Final = {
    "postgresql": "SELECT clock_timestamp() AT TIME ZONE 'UTC'",
    "mysql": "SELECT UTC_TIMESTAMP(6)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the table says of a task. `count` changes with each moment that is taken."""

    id: int
    last: datetime | None
    count: int
    message_id: str


class PeriodicTasks:
    """The periodic tasks of this process, and their rows in the database `alias`."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self._looked_at = EPOCH
        self._next: dict[str, datetime] = {}
        self._troubles: dict[str, str] = {}
        self._waiting: set[str] = set()

    def run(self) -> float:
        """Send what is due, for a slice at most, and return the seconds until the next moment.

        What is wrong with one task is logged and keeps no other. Raises what the database raises, SchemaMissing.
        """
        started, now = time.monotonic(), self.now()
        if now < self._looked_at:  # the clock was put back
            self._next.clear()
        self._looked_at = now
        known = tasks.get_all_periodic()
        to_look_at = sorted((self._next.get(name, EPOCH), name) for name in known)
        due = [name for moment, name in to_look_at if moment <= now]
        rows = self._rows(due)
        for name in due:
            if time.monotonic() - started > SLICE:
                return 0.0
            self._next[name] = self._look_at(name, known[name], rows.get(name), now)
        nearest = min((self._next[name] for name in known), default=now + timedelta(days=1))
        wait = (nearest - now).total_seconds() - (time.monotonic() - started)
        return min(max(wait, 0.0), LONGEST_PAUSE)

    def now(self) -> datetime:
        """Return the present moment by the clock of the database."""
        statement = CLOCKS.get(connections[self.alias].vendor)
        if not statement:
            return datetime.now(UTC)
        ((moment,),) = store.of(self.alias).rows(statement, [])
        found: datetime = moment.replace(tzinfo=UTC)
        return found

    # -- one task

    def _look_at(self, name: str, task: Any, row: Row | None, now: datetime) -> datetime:
        """Send the task if it is due, and return the moment of the next look."""
        try:
            schedule = schedules.schedule_of(task.run_every)
            self._send_if_due(name, task, schedule, row or self._new_row(name, schedule, now), now)
            following = _checked(schedule.following(now), now)
        except (Exception, SystemExit) as error:  # a schedule may be the project's own code
            if _is_of_the_world(error):
                raise
            return self._note_trouble(name, error, now)
        if self._troubles.pop(name, None):
            logger.warning("Periodic task %s: possible again.", name)
        return following

    def _note_trouble(self, name: str, error: BaseException, now: datetime) -> datetime:
        text = f"{type(error).__name__}: {error}"
        if self._troubles.get(name) != text:
            logger.error("Periodic task %s cannot be sent: %s", name, text)
        self._troubles[name] = text
        return now + PAUSE_AFTER_FAILURE

    def _send_if_due(self, name: str, task: Any, schedule: Schedule, row: Row, now: datetime) -> None:
        last = row.last or EPOCH
        if last > now + TOLERANCE and last > schedule.following(now):
            self._start_anew(name, schedule, row, now)
        elif due := schedules.overdue(schedule, row.last, now):
            self._send(name, task, row, due, now)

    def _send(self, name: str, task: Any, row: Row, due: datetime, now: datetime) -> None:
        """Take the moment `due` and insert its message, in one transaction; nothing if another was faster.

        While the message of an earlier moment still waits in the table, there is no second one: it will run after
        `due`, too. So they do not pile up where no worker takes from the queue.
        """
        task_id = str(uuid.uuid5(NAMESPACE, f"{name} {due.isoformat()} {row.count}"))
        expires = getattr(task, "expires", None)
        lifetime = schedules.every(expires).length if expires is not None else None
        message = message_of(task, task_id=task_id, expires=now + lifetime if lifetime else None)
        with transaction.atomic(using=self.alias):
            is_waiting = self._is_waiting(row.message_id)
            kept = row.message_id if is_waiting else task_id
            taken = self._change(row, last_run_at=as_stored(due), total_run_count=row.count + 1, last_task_id=kept)
            if taken and not is_waiting:
                store.of(self.alias).insert([message])
        self._note_waiting(name, message.queue, is_waiting=is_waiting)

    def _note_waiting(self, name: str, queue: str, *, is_waiting: bool) -> None:
        if is_waiting and name not in self._waiting:
            text = "Periodic task %s is due again, and its last message still waits in queue %s: it stands for both."
            logger.warning(text, name, queue)
        (self._waiting.add if is_waiting else self._waiting.discard)(name)

    def _start_anew(self, name: str, schedule: Schedule, row: Row, now: datetime) -> None:
        """Forget a moment that lies beyond the next one: the clock was wrong when it was taken, and was put right.

        The next one itself, taken too early, is not forgotten: it is not sent again, and the one after it is in time.
        """
        latest = schedule.latest(now)
        if self._change(row, last_run_at=as_stored(latest)):
            logger.warning(
                "Periodic task %s was last sent for %s, which is still to come: a clock was wrong. It goes on from %s.",
                *(name, row.last, latest),
            )

    # -- rows

    def _table(self) -> "QuerySet[Any]":
        return apps.get_model("celery", "PeriodicTaskMeta")._base_manager.using(self.alias)  # noqa: SLF001 - Django's name

    def _rows(self, names: Sequence[str]) -> dict[str, Row]:
        """Return the rows that can be read: SQLite stores anything, PostgreSQL has moments that Python has not."""
        try:
            pages = [self._read(names[start : start + PAGE]) for start in range(0, len(names), PAGE)]
        except Exception as error:
            if _is_of_the_world(error):
                raise
            if len(names) == 1:
                return {}
            pages = [self._rows([name]) for name in names]
        return {name: row for page in pages for name, row in page.items()}

    def _read(self, names: Sequence[str]) -> dict[str, Row]:
        found = self._table().filter(name__in=names)
        return {
            name: Row(id=row_id, last=as_moment(last), count=count, message_id=message_id)
            for name, row_id, last, count, message_id in found.values_list(
                "name", "id", "last_run_at", "total_run_count", "last_task_id"
            )
        }

    def _new_row(self, name: str, schedule: Schedule, now: datetime) -> Row:
        """Return the row of a task that had none; another worker may make it at the same time.

        Raises whatever it takes if there is one that cannot be read.
        """
        last = None if schedule.runs_at_once else as_stored(now)
        made = self._table().model(name=name, last_run_at=last)
        self._table().bulk_create([made], ignore_conflicts=True)
        row = self._read([name]).get(name)
        if row is None:
            text = f"{name!r} has no row, and gets none: the database takes another name for the same"
            raise ValueError(text)
        return row

    def _change(self, row: Row, **changes: Any) -> bool:
        """Change a row. False: since we read it another worker has taken a moment."""
        return self._table().filter(id=row.id, total_run_count=row.count).update(**changes) > 0

    def _is_waiting(self, message_id: str) -> bool:
        if not message_id:
            return False
        messages = apps.get_model("celery", "Message")._base_manager.using(self.alias)  # noqa: SLF001
        is_untouched = Q(owner__isnull=True) | Q(visible_at__isnull=False)  # a relay's claims have a moment, too
        return bool(messages.filter(is_untouched, task_id=message_id, attempt=1, dead_at__isnull=True).exists())


@cache
def of(alias: str) -> PeriodicTasks:
    """Return the periodic tasks of this process with their rows in the database `alias`."""
    return PeriodicTasks(alias)


def _checked(moment: Any, now: datetime) -> datetime:
    """Return what a schedule answered, if it is a moment to come: anything else would stop us, or never let us rest."""
    if not isinstance(moment, datetime) or not timezone.is_aware(moment) or moment <= now:
        raise InvalidSchedule(f"following({now}) is an aware moment after that, not {moment!r:.80}")
    return moment


def _is_of_the_world(error: BaseException) -> bool:
    """Tell whether an error concerns the database as a whole, and not a row or a task."""
    if isinstance(error, DataError | IntegrityError):
        return False
    return isinstance(error, DatabaseError | InterfaceError | SchemaMissing)
