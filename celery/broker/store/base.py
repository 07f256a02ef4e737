"""What every dialect of the store shares. Each public method is one transaction, or joins the caller's.

Fencing: whatever changes a row that a worker holds says ``AND owner = me``; the rows that answered are the truth.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any, ClassVar, Final

from django.db import transaction

from celery import message as wire
from celery.broker.store.statements import Merge, Row, as_bytes, now
from celery.broker.store.workers import TABLE, WorkerRows
from celery.exceptions import LeaseLost
from celery.message import Delivery, Message

#: Rows in one INSERT; keeps statements below every database's limit on parameters.
PAGE: Final = 500

COLUMNS: Final = (
    *("task_id", "attempt", "task", "queue", "rank", "body", "headers", "created_at"),
    *("visible_at", "owner", "suspect", "starts", "crashes", "dead_at", "reason"),
)
#: What a message takes over from its copy that a relay has published, and would delete in a moment: never fewer marks.
TAKEN_OVER: Final = ("headers", "visible_at", "owner", "suspect", "starts", "crashes", "dead_at", "reason")
INCOMING: Final = Merge(
    table=TABLE,
    columns=COLUMNS,
    key=("task_id", "attempt"),
    changes=TAKEN_OVER,
    answer="id",
    condition=f"{TABLE}.owner IS NOT NULL AND {TABLE}.visible_at IS NOT NULL AND {TABLE}.starts <= excluded.starts",
    decides_by=("owner", "visible_at", "starts"),
    may_replace=lambda stored, new: None not in stored and stored[2] <= new[COLUMNS.index("starts")],
)
#: What is no copy of a relay's: a row stays as it is, whoever has it.
STAYING: Final = replace(INCOMING, changes=(), condition="FALSE", may_replace=lambda *_: False)
TAKEN: Final = "task_id, attempt, queue, rank, headers, body, id, suspect, starts, crashes"
READY: Final = "owner IS NULL AND visible_at IS NULL AND dead_at IS NULL"
DUE: Final = "visible_at <= %s AND owner IS NULL AND dead_at IS NULL ORDER BY visible_at"


class Hints:
    """Where news of ready messages may come from. This one never has any: the worker polls."""

    #: Seconds between polls while nothing happens; short here, for a poll is all the news there is.
    patience: ClassVar[float] = 0.05

    def fileno(self) -> int:
        """Return a descriptor that becomes readable with the news, or -1."""
        return -1

    def pending(self) -> bool:
        """Tell whether there was news since the last call."""
        return False

    def close(self) -> None:
        """Stop listening."""


class Store(WorkerRows):
    """The table of messages in one database."""

    #: What is asked of a row that is claimed, and of one that is to be published.
    taken = TAKEN
    relayed = f"task, {TAKEN}"
    #: Appended to a SELECT that must not wait for rows that others hold.
    skip_locked = ""
    #: The order in which the relay takes what is ready; a database needs an index that has it.
    relay_order = "queue, rank, id"
    #: How an id says that it is one of those which a SELECT finds.
    one_of = "IN ({})"
    #: How a row that is named by its id says whose it is.
    is_held = "owner = %s"
    #: How changes of rows begin that are named by their ids.
    updating = f"UPDATE {TABLE}"
    deleting = f"DELETE FROM {TABLE}"

    # -- producing

    def insert(
        self,
        messages: Iterable[Message],
        *,
        owner: str | None = None,
        hold: datetime | None = None,
        takes_over: bool = False,
    ) -> list[int]:
        """Keep `messages` and return the ids of their rows; one whose id and attempt have a row already is left out.

        `takes_over`: a row that a relay is just publishing is no such row, for its copy is what we hold.
        `hold` makes rows without a moment of their own invisible until then. Raises SchemaMissing.
        """
        ids: list[int] = []
        pending = iter(messages)
        while page := list(islice(pending, PAGE)):
            rows = {(message.task_id, message.attempt): self._row(message, owner, hold) for message in reversed(page)}
            ids += self._insert_page(list(reversed(rows.values())), INCOMING if takes_over else STAYING)
        return ids

    def _insert_page(self, rows: Sequence[Row], rule: Merge) -> list[int]:
        return self.merge(rule, rows)

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
            wire.sane(message.headers.get(wire.STARTS)),
            wire.sane(message.crashes),
            moment if message.reason else None,
            message.reason or "",
        )

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
            if not self.has_lease(owner):
                return []
            which = f"{self.through('celery_message_ready')} WHERE queue = %s AND {READY} ORDER BY rank, id LIMIT %s"
            rows = self._change_some("owner = %s", [owner], which, [queue, limit], answer=self.taken)
        return deliveries(rows)

    def finish(self, owner: str, ids: Sequence[int]) -> set[int]:
        """Delete messages that `owner` holds and return the ids that were really its own."""
        return self._own(self.deleting, owner, ids)

    def held(self, owner: str, ids: Sequence[int]) -> set[int]:
        """Return those of the rows `ids` that `owner` holds. Only a look: nothing is locked."""
        if not ids:
            return set()
        among, wanted = self.among(ids)
        found = self.rows(f"SELECT id FROM {TABLE} WHERE id {among} AND {self.is_held}", [*wanted, owner])
        return {row_id for (row_id,) in found}

    def release(self, owner: str, ids: Sequence[int], *, marked: bool = False) -> set[int]:
        """Give messages back, clean and uncounted. `marked` ones lose the start mark that this worker had put."""
        return self._own(f"{self.updating} SET owner = NULL, starts = starts - {int(marked)}", owner, ids)

    def mark_started(self, owner: str, row_id: int, *, starts: int) -> bool:
        """Note durably that a suspect is about to run, for the `starts`-th time. False if it is not ours.

        A mark that stays tells of a start without an end. Said twice it is the same mark.
        """
        statement = f"UPDATE {TABLE} SET suspect = TRUE, starts = %s WHERE id = %s AND {self.is_held}"
        return self.run(statement, [starts, row_id, owner]) > 0

    def count_crash(self, owner: str, row_id: int, *, crashes: int, marked: bool) -> bool:
        """Give a message back after it killed its process: a start mark becomes the `crashes`-th crash.

        False if it is not ours, or if this crash is counted already.
        """
        change = f"owner = NULL, suspect = FALSE, crashes = crashes + 1, starts = starts - {int(marked)}"
        statement = f"UPDATE {TABLE} SET {change} WHERE id = %s AND {self.is_held} AND crashes = %s"
        return self.run(statement, [row_id, owner, crashes - 1]) > 0

    def held_row(self, owner: str, task_id: str, attempt: int) -> int:
        """Return the row of this attempt if `owner` holds it, else 0."""
        statement = f"SELECT id FROM {TABLE} WHERE task_id = %s AND attempt = %s AND owner = %s AND visible_at IS NULL"
        rows = self.rows(statement, [task_id, attempt, owner])
        return int(rows[0][0]) if rows else 0

    def bury(self, owner: str, row_id: int, *, crashes: int, reason: str) -> bool:
        """Keep a message as dead, with the reason. False if it was not ours."""
        change = "owner = NULL, visible_at = NULL, dead_at = %s, reason = %s, crashes = %s"
        statement = f"UPDATE {TABLE} SET {change} WHERE id = %s AND {self.is_held}"
        return self.run(statement, [self.moment(now()), reason, crashes, row_id, owner]) > 0

    def _change_some(
        self, change: str, values: Row, which: str, criteria: Row, *, answer: str
    ) -> list[tuple[Any, ...]]:
        """Change the rows that `which`, the end of a SELECT, finds and nobody has locked.

        Returns of each what the change leaves as it was.
        """
        found = f"SELECT id FROM {which}{self.skip_locked}"
        statement = f"UPDATE {TABLE} SET {change} WHERE id {self.one_of.format(found)} RETURNING {answer}"
        return self.rows(statement, [*values, *criteria])

    def _own(self, change: str, owner: str, ids: Sequence[int], values: Row = ()) -> set[int]:
        """Change or delete those of the rows `ids` that `owner` holds, and return their ids."""
        if not ids:
            return set()
        among, wanted = self.among(ids)
        statement = f"{change} WHERE id {among} AND {self.is_held} RETURNING id"
        return {row_id for (row_id,) in self.rows(statement, [*values, *wanted, owner])}

    def release_all_but(self, owner: str, ids: Collection[int]) -> int:
        """Give back, as suspects, what `owner` holds without knowing: claims whose answer was lost.

        Looks before it writes, and writes by id: a statement that the server carries out late, when its client has long
        asked again, must not hit what was claimed meanwhile.
        """
        held = f"SELECT id FROM {self.through('celery_message_owner')} WHERE owner = %s AND visible_at IS NULL"
        unknown = {row_id for (row_id,) in self.rows(held, [owner])}.difference(ids)
        return len(self._own(f"{self.updating} SET owner = NULL, suspect = TRUE", owner, sorted(unknown)))

    # -- the steward's chores

    def promote(self, now: datetime, limit: int) -> int:
        """Make up to `limit` due messages ready, and return their number."""
        which = f"{self.through('celery_message_due')} WHERE {DUE} LIMIT %s"
        return len(self._change_some("visible_at = NULL", [], which, [self.moment(now), limit], answer="id"))

    def take_for_relay(self, owner: str, now: datetime, limit: int) -> list[tuple[int, Message]]:
        """Claim up to `limit` due or ready messages of any queue, to be published and then finished.

        A row with both an owner and a moment is the relay's; see `drop_relay_claims`. Raises LeaseLost.
        """
        with transaction.atomic(using=self.alias):
            if not self.has_lease(owner):
                text = f"the worker {owner} has no row any more"
                raise LeaseLost(text)
            rows = self._take(owner, now, self._ready_for_relay, [], limit)
            if len(rows) < limit:
                due = f"{self.through('celery_message_due')} WHERE {DUE}"
                rows += self._take(owner, now, due, [self.moment(now)], limit - len(rows))
        return [relayed_message(row) for row in rows]

    def _take(self, owner: str, now: datetime, which: str, values: list[Any], limit: int) -> list[tuple[Any, ...]]:
        change = "owner = %s, visible_at = %s"
        claim = [owner, self.moment(now)]
        return self._change_some(change, claim, f"{which} LIMIT %s", [*values, limit], answer=self.relayed)

    @property
    def _ready_for_relay(self) -> str:
        return f"{self.through('celery_message_owner')} WHERE {READY} ORDER BY {self.relay_order}"

    def postpone(self, owner: str, ids: Sequence[int], until: datetime) -> None:
        """Give messages back that nobody shall take before `until`."""
        self._own(f"{self.updating} SET owner = NULL, visible_at = %s", owner, ids, [self.moment(until)])

    def has_relayable(self, now: datetime) -> bool:
        """Tell whether `take_for_relay` would find something, without a lock."""
        ready = self.rows(f"SELECT 1 FROM {self._ready_for_relay} LIMIT 1", [])
        due = self.next_due()
        return bool(ready) or (due is not None and due <= now)

    def lock_rows(self, ids: Sequence[int]) -> list[tuple[int, Message]]:
        """Return those of `ids` that nobody holds, kept from others until the caller's transaction ends."""
        among, values = self.among(ids)
        statement = f"SELECT {self.relayed} FROM {TABLE} WHERE id {among} AND owner IS NULL{self.skip_locked}"
        return [relayed_message(row) for row in self.rows(statement, values)]

    def delete_rows(self, ids: Sequence[int]) -> None:
        """Delete rows that the caller's transaction has locked."""
        among, values = self.among(ids)
        self.run(f"DELETE FROM {TABLE} WHERE id {among}", values)

    def drop_relay_claims(self, owner: str) -> int:
        """Let go of what an interrupted relay of this worker had claimed."""
        return self.run(f"{self._of_owners} SET owner = NULL WHERE owner = %s AND visible_at IS NOT NULL", [owner])

    def clear_away(self) -> bool:
        """Make room usable again that deleted messages have left, where the database has to be told. False: in vain."""
        return True

    def next_due(self) -> datetime | None:
        """Return the earliest moment for which a message waits."""
        waiting = "visible_at IS NOT NULL AND owner IS NULL AND dead_at IS NULL"
        statement = (
            f"SELECT visible_at FROM {self.through('celery_message_due')} WHERE {waiting} ORDER BY visible_at LIMIT 1"
        )
        rows = self.rows(statement, [])
        return self.read_moment(rows[0][0]) if rows else None


def deliveries(rows: Iterable[tuple[Any, ...]]) -> list[Delivery]:
    """Return claimed rows as deliveries, in the order of the queue (an UPDATE answers in any order).

    What is no name, no text or no count is made one: SQLite keeps values of any type in any column.
    """
    found = [
        Delivery(
            wire.name_in(task_id),
            wire.sane(attempt, wire.LARGEST_ATTEMPT),
            wire.name_in(queue),
            _rank(rank),
            _packed(headers),
            as_bytes(body),
            row_id,
            suspect=bool(suspect),
            starts=wire.sane(starts),
            crashes=wire.sane(crashes),
        )
        for task_id, attempt, queue, rank, headers, body, row_id, suspect, starts, crashes in rows
    ]
    return sorted(found, key=lambda delivery: (delivery.rank, delivery.row_id))


def _packed(headers: Any) -> str:
    """Return the headers of a row; none where a row holds no text, or one that no encoding has."""
    if not headers:
        return ""
    try:
        return headers.decode() if isinstance(headers, bytes) else str(headers.encode(), "utf-8")
    except (AttributeError, UnicodeError):
        return ""


def _rank(value: Any) -> int:
    """Return the rank of a row; 0, the usual one, for what no 16-bit column would hold."""
    return value if type(value) is int and abs(value) <= wire.LARGEST_COUNT else 0


def relayed_message(row: tuple[Any, ...]) -> tuple[int, Message]:
    """Return a row as its id and the message to publish; the counters travel as headers, and that it is a suspect."""
    task, task_id, attempt, queue, rank, packed, body, row_id, suspect, starts, crashes = row
    content_type, encoding, headers = wire.unpack_headers(_packed(packed))
    headers = {name: value for name, value in headers.items() if name not in wire.COUNTERS}
    relayed = wire.SUSPECT if suspect else 1  # its workers were lost: the copy must be marked before it runs again
    counters = {wire.RELAYED: relayed, wire.STARTS: wire.sane(starts), wire.CRASHES: wire.sane(crashes)}
    return row_id, Message(
        task_id=wire.name_in(task_id),
        task=wire.name_in(task),
        body=as_bytes(body),
        queue=wire.name_in(queue),
        attempt=wire.sane(attempt, wire.LARGEST_ATTEMPT) or 1,
        priority=-_rank(rank) or None,
        headers={**headers, **{name: count for name, count in counters.items() if count}},
        content_type=content_type,
        content_encoding=encoding,
    )
