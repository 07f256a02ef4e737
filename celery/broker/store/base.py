"""What every dialect of the store shares. Each public method is one transaction, or joins the caller's.

Fencing: whatever changes a row that a worker holds says ``AND owner = me``; the rows that answered are the truth.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from django.conf import settings
from django.db import connections, transaction
from django.db.utils import OperationalError, ProgrammingError
from django.utils import timezone

from celery import message as wire
from celery.broker.base import Delivery
from celery.exceptions import LeaseLost, SchemaMissing
from celery.message import Message

#: Rows in one INSERT; keeps statements below every database's limit on parameters.
PAGE: Final = 500

TABLE: Final = "celery_message"
INSERT: Final = (
    f"INSERT INTO {TABLE} (task_id, attempt, task, queue, rank, body, headers, created_at, visible_at, owner, suspect,"
    " starts, crashes, dead_at, reason) VALUES "
)
ROW: Final = "(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
TAKEN: Final = "task_id, attempt, queue, rank, headers, body, id, suspect, starts, crashes"
MISSING: Final = re.compile(r"no such (table|column)|relation \"celery_\w+\" does not exist|column .* does not exist")
READY: Final = "owner IS NULL AND visible_at IS NULL AND dead_at IS NULL"


class Hints:
    """Where news of ready messages may come from. This one never has any: the worker polls."""

    def fileno(self) -> int:
        """Return a descriptor that becomes readable with the news, or -1."""
        return -1

    def pending(self) -> bool:
        """Tell whether there was news since the last call."""
        return False

    def close(self) -> None:
        """Stop listening."""


class Store:
    """The table of messages in one database."""

    #: Appended to a SELECT that must not wait for rows that others hold.
    skip_locked = ""
    #: Appended to the SELECT that keeps the own worker row from vanishing during a transaction.
    share_lock = ""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    # -- producing

    def insert(self, messages: Iterable[Message], *, owner: str | None = None, hold: datetime | None = None) -> list[int]:
        """Keep `messages` and return the ids of their rows; one whose id and attempt have a row already is left out.

        `hold` makes rows without a moment of their own invisible until then. Raises SchemaMissing.
        """
        ids: list[int] = []
        pending = iter(messages)
        while page := list(islice(pending, PAGE)):
            parameters = [value for message in page for value in self._row(message, owner, hold)]
            statement = f"{INSERT}{', '.join([ROW] * len(page))} ON CONFLICT (task_id, attempt) DO NOTHING RETURNING id"
            ids += self._insert_page(statement, parameters)
        return ids

    def _row(self, message: Message, owner: str | None, hold: datetime | None) -> tuple[Any, ...]:
        moment = self.moment(now())
        return (
            message.task_id,
            message.attempt,
            message.task,
            message.queue,
            -(message.priority or 0),
            message.body,
            wire.pack_headers(message),
            moment,
            self.moment(message.visible_at or hold),
            owner,
            False,
            message.headers.get(wire.STARTS, 0),
            message.crashes,
            moment if message.reason else None,
            message.reason or "",
        )

    def _insert_page(self, statement: str, parameters: list[Any]) -> list[int]:
        return [row_id for (row_id,) in self.rows(statement, parameters)]

    def poke(self) -> None:
        """Hint to idle workers that something became ready. Only a hint: polling is the truth."""

    def hints(self) -> Hints:
        """Start listening for news of ready messages, on this thread's connection."""
        return Hints()

    # -- consuming, in the name of a worker

    def claim(self, owner: str, queue: str, limit: int) -> list[Delivery]:
        """Take up to `limit` ready messages of `queue`, the most urgent and oldest first.

        Takes nothing for an owner without a row in ``celery_worker``: a lost worker cannot come back by claiming.
        """
        with transaction.atomic(using=self.alias):
            if not self._has_lease(owner):
                return []
            rows = self.rows(
                f"UPDATE {TABLE} SET owner = %s WHERE id IN (SELECT id FROM {TABLE} WHERE queue = %s AND {READY}"
                f" ORDER BY rank, id LIMIT %s{self.skip_locked}) RETURNING {TAKEN}",
                [owner, queue, limit],
            )
        return deliveries(rows)

    def finish(self, owner: str, ids: Sequence[int]) -> set[int]:
        """Delete messages that `owner` holds and return the ids that were really its own."""
        return self._own(f"DELETE FROM {TABLE}", owner, ids)

    def release(self, owner: str, ids: Sequence[int], *, marked: bool = False) -> set[int]:
        """Give messages back, clean and uncounted. `marked` ones lose the start mark that this worker had put."""
        return self._own(f"UPDATE {TABLE} SET owner = NULL, starts = starts - {int(marked)}", owner, ids)

    def mark_started(self, owner: str, ids: Sequence[int]) -> set[int]:
        """Note durably that suspects are about to run; a mark that stays tells of a start without an end."""
        return self._own(f"UPDATE {TABLE} SET suspect = TRUE, starts = starts + 1", owner, ids)

    def count_crash(self, owner: str, row_id: int, *, marked: bool) -> bool:
        """Give a message back after it killed its process: a start mark becomes a crash. False if it was not ours."""
        change = f"owner = NULL, suspect = FALSE, crashes = crashes + 1, starts = starts - {int(marked)}"
        return bool(self._own(f"UPDATE {TABLE} SET {change}", owner, [row_id]))

    def bury(self, owner: str, row_id: int, *, crashes: int, reason: str) -> bool:
        """Keep a message as dead, with the reason. False if it was not ours."""
        statement = f"UPDATE {TABLE} SET owner = NULL, dead_at = %s, reason = %s, crashes = %s WHERE id = %s AND owner = %s"
        return self.run(statement, [self.moment(now()), reason, crashes, row_id, owner]) > 0

    def _own(self, change: str, owner: str, ids: Sequence[int]) -> set[int]:
        if not ids:
            return set()
        among, values = self.among(ids)
        return {row_id for (row_id,) in self.rows(f"{change} WHERE id {among} AND owner = %s RETURNING id", [*values, owner])}

    # -- the steward's chores

    def promote(self, now: datetime, limit: int) -> int:
        """Make up to `limit` due messages ready, and return their number."""
        return self.run(
            f"UPDATE {TABLE} SET visible_at = NULL WHERE id IN (SELECT id FROM {TABLE} WHERE visible_at <= %s"
            f" AND owner IS NULL AND dead_at IS NULL ORDER BY visible_at LIMIT %s{self.skip_locked})",
            [self.moment(now), limit],
        )

    def take_for_relay(self, owner: str, now: datetime, limit: int) -> list[tuple[int, Message]]:
        """Claim up to `limit` due or ready messages of any queue, to be published and then finished.

        A row with both an owner and a moment is the relay's; see `drop_relay_claims`. Raises LeaseLost.
        """
        moment = self.moment(now)
        with transaction.atomic(using=self.alias):
            if not self._has_lease(owner):
                text = f"the worker {owner} has no row any more"
                raise LeaseLost(text)
            rows = self.rows(
                f"UPDATE {TABLE} SET owner = %s, visible_at = %s WHERE id IN (SELECT id FROM {TABLE} WHERE owner IS NULL"
                f" AND dead_at IS NULL AND (visible_at IS NULL OR visible_at <= %s) LIMIT %s{self.skip_locked})"
                f" RETURNING task, {TAKEN}",
                [owner, moment, moment, limit],
            )
        return [relayed_message(row) for row in rows]

    def has_relayable(self, now: datetime) -> bool:
        """Tell whether `take_for_relay` would find something, without a lock."""
        ready = self.rows(f"SELECT 1 FROM {TABLE} WHERE {READY} LIMIT 1", [])
        due = self.next_due()
        return bool(ready) or (due is not None and due <= now)

    def lock_rows(self, ids: Sequence[int]) -> list[tuple[int, Message]]:
        """Return those of `ids` that nobody holds, kept from others until the caller's transaction ends."""
        among, values = self.among(ids)
        statement = f"SELECT task, {TAKEN} FROM {TABLE} WHERE id {among} AND owner IS NULL{self.skip_locked}"
        return [relayed_message(row) for row in self.rows(statement, values)]

    def delete_rows(self, ids: Sequence[int]) -> None:
        """Delete rows that the caller's transaction has locked."""
        among, values = self.among(ids)
        self.run(f"DELETE FROM {TABLE} WHERE id {among}", values)

    def drop_relay_claims(self, owner: str) -> int:
        """Let go of what an interrupted relay of this worker had claimed."""
        return self.run(f"UPDATE {TABLE} SET owner = NULL WHERE owner = %s AND visible_at IS NOT NULL", [owner])

    def next_due(self) -> datetime | None:
        """Return the earliest moment for which a message waits."""
        statement = f"SELECT MIN(visible_at) FROM {TABLE} WHERE visible_at IS NOT NULL AND owner IS NULL"
        ((value,),) = self.rows(statement, [])
        return self.read_moment(value)

    # -- workers: proof of life

    def enlist(self, owner: str, *, name: str, pid: int, queues: Sequence[str], concurrency: int, lease: float) -> None:
        """Write the row that lets `owner` hold messages. `lease` in seconds."""
        moment = self.moment(now())
        self.run(
            "INSERT INTO celery_worker (owner, name, pid, queues, concurrency, lease, counter, idle, started_at, seen_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, 0, FALSE, %s, %s)",
            [owner, name, pid, ",".join(queues), concurrency, lease, moment, moment],
        )

    def renew(self, owner: str) -> bool:
        """Give proof of life. False: the row is gone, others have taken over what `owner` held."""
        statement = "UPDATE celery_worker SET counter = counter + 1, seen_at = %s WHERE owner = %s"
        return self.run(statement, [self.moment(now()), owner]) > 0

    def set_idle(self, owner: str, *, idle: bool) -> None:
        """Ask producers to poke, or not to."""
        self.run("UPDATE celery_worker SET idle = %s WHERE owner = %s", [idle, owner])

    def census(self) -> list[tuple[str, str, int, float]]:
        """Return owner, name, counter and lease of every worker."""
        return self.rows("SELECT owner, name, counter, lease FROM celery_worker", [])  # type: ignore[return-value]

    def retire(self, owner: str, *, counter: int | None = None) -> int:
        """Remove a worker and give back what it holds, in one transaction; the messages return as suspects.

        With `counter`: only if its proof of life still stands there; -1 if it moved, else the number of messages.
        """
        guard, values = ("", []) if counter is None else (" AND counter = %s", [counter])
        with transaction.atomic(using=self.alias):
            removed = self.run(f"DELETE FROM celery_worker WHERE owner = %s{guard}", [owner, *values])
            if not removed and counter is not None:
                return -1
            return self._give_back_all("owner = %s", [owner])

    def retire_orphans(self) -> int:
        """Give back what is held in the name of workers that have no row."""
        return self._give_back_all("owner IS NOT NULL AND owner NOT IN (SELECT owner FROM celery_worker)", [])

    def _give_back_all(self, condition: str, values: list[Any]) -> int:
        change = f"UPDATE {TABLE} SET owner = NULL, suspect = (suspect OR visible_at IS NULL) WHERE "
        return self.run(change + condition, values)

    def _has_lease(self, owner: str) -> bool:
        return bool(self.rows(f"SELECT 1 FROM celery_worker WHERE owner = %s{self.share_lock}", [owner]))

    # -- statements

    def rows(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Execute and return all rows. Raises SchemaMissing, and what the database raises."""
        with connections[self.alias].cursor() as cursor:
            self._execute(cursor, statement, parameters)
            return cursor.fetchall()

    def run(self, statement: str, parameters: Sequence[Any]) -> int:
        """Execute and return the number of rows changed. Raises as `rows` does."""
        with connections[self.alias].cursor() as cursor:
            self._execute(cursor, statement, parameters)
            return int(cursor.rowcount)

    def _execute(self, cursor: Any, statement: str, parameters: Sequence[Any]) -> None:
        try:
            cursor.execute(statement, parameters)
        except (ProgrammingError, OperationalError) as error:
            if not MISSING.search(str(error)):
                raise
            text = f"the tables of celery are missing or too old in DATABASES[{self.alias!r}]: run `manage.py migrate`"
            raise SchemaMissing(text) from error

    def among(self, ids: Sequence[int]) -> tuple[str, list[Any]]:
        """Return the condition "one of these" and its parameters."""
        return f"IN ({', '.join(['%s'] * len(ids))})", list(ids)

    def moment(self, value: datetime | None) -> Any:
        """Return an aware moment as this database takes it in raw statements."""
        if value is not None and not settings.USE_TZ:
            value = timezone.make_naive(value, timezone.get_default_timezone())
        return connections[self.alias].ops.adapt_datetimefield_value(value)

    def read_moment(self, value: Any) -> datetime | None:
        """Return what a raw statement answered as an aware moment."""
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if moment is None or timezone.is_aware(moment):
            return moment  # type: ignore[no-any-return]
        return timezone.make_aware(moment, connections[self.alias].timezone)


def now() -> datetime:
    """Return the present moment, aware, whatever USE_TZ says."""
    return datetime.now(UTC)


def deliveries(rows: Iterable[tuple[Any, ...]]) -> list[Delivery]:
    """Return claimed rows as deliveries, in the order of the queue (an UPDATE answers in any order)."""
    found = [
        Delivery(task_id, attempt, queue, rank, headers, bytes(body), row_id, None, bool(suspect), False, starts, crashes)
        for task_id, attempt, queue, rank, headers, body, row_id, suspect, starts, crashes in rows
    ]
    return sorted(found, key=lambda delivery: (delivery.rank, delivery.row_id))


def relayed_message(row: tuple[Any, ...]) -> tuple[int, Message]:
    """Return a row as its id and the message to publish; the counters travel as headers."""
    task, task_id, attempt, queue, rank, packed, body, row_id, _suspect, starts, crashes = row
    content_type, encoding, headers = wire.unpack_headers(packed)
    counters = {wire.RELAYED: 1, wire.STARTS: starts, wire.CRASHES: crashes}
    return row_id, Message(
        task_id=task_id,
        task=task,
        body=bytes(body),
        queue=queue,
        attempt=attempt,
        priority=-rank or None,
        headers={**headers, **{name: count for name, count in counters.items() if count}},
        content_type=content_type,
        content_encoding=encoding,
    )
