"""The store on MariaDB 10.6 or MySQL 8.0.17, or later: SELECT ... FOR UPDATE SKIP LOCKED first, then the change.

Nothing here needs RETURNING, which MySQL does not have. Each statement names the index that it must use, because what
a statement reads on its way it also locks; the indexes are made by migration 0002. Reads that decide anything lock what
they read, so they see the newest commit also under REPEATABLE READ, where only waiting and deadlocks are more frequent.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any, Final

from django.core.checks import CheckMessage, Warning  # noqa: A004 - Django's name
from django.db import DataError, IntegrityError, OperationalError, connections, transaction

from celery.broker.store.base import READY, TAKEN, Store, relayed_message
from celery.broker.store.statements import Merge, Row
from celery.broker.store.workers import TABLE
from celery.message import Delivery, Message

READ_COMMITTED: Final = "read committed"
#: ER_DUP_ENTRY
DUPLICATE: Final = 1062
#: ER_CHECKREAD of MariaDB under REPEATABLE READ, ER_LOCK_DEADLOCK
CONFLICTS: Final = frozenset({1020, 1213})
#: The indexes by which rows are found that a `Merge` may overwrite.
UNIQUE: Final = {TABLE: "celery_message_attempt", "celery_taskmeta": "task_id"}
#: Times that a row may appear and vanish between our look and our insert.
MOST_TRIES: Final = 5
#: Characters in one INSERT before the server is asked for its max_allowed_packet, which is a megabyte at least.
SMALL: Final = 200_000
#: Bytes that a character can become: four in UTF-8, two when it is escaped.
WIDEST: Final = 4
#: Bytes of a row that are no text.
OVERHEAD: Final = 500
ESCAPED: Final = "\0\n\r\x1a\"'\\"


#: The rows of given ids, each by a look-up of its own: ``id IN (...)`` may read, and lock, all of a small table.
BY_IDS: Final = (
    "JSON_TABLE(%s, '$[*]' COLUMNS (wanted BIGINT PATH '$')) AS ids"
    f" STRAIGHT_JOIN {TABLE} FORCE INDEX (PRIMARY) ON {TABLE}.id = ids.wanted"
)


class MysqlStore(Store):
    """`Store` on MariaDB and MySQL."""

    skip_locked = " FOR UPDATE SKIP LOCKED"
    share_lock = " LOCK IN SHARE MODE"  # FOR SHARE is MySQL's alone
    unless_enlisted = " ON DUPLICATE KEY UPDATE owner = celery_worker.owner"
    relay_order = "rank, id"
    updating = f"UPDATE {BY_IDS}"
    deleting = f"DELETE {TABLE} FROM {BY_IDS}"

    def through(self, index: str) -> str:
        """Name the index: in a small table the optimizer would rather read, and lock, all of it."""
        return f"{TABLE} FORCE INDEX ({index})"

    def among(self, ids: Sequence[Any]) -> tuple[str, list[Any]]:
        """Return the condition "one of these", also of none."""
        return super().among(ids) if ids else ("IS NULL AND FALSE", [])

    def _execute(self, cursor: Any, statement: str, parameters: Row) -> None:
        super()._execute(cursor, statement.replace("rank", "`rank`"), parameters)  # a function's name in MySQL 8

    def _together(self) -> AbstractContextManager[None]:
        return transaction.atomic(using=self.alias, savepoint=False)

    def check(self) -> list[CheckMessage]:
        """Warn of another level of isolation than Django's own."""
        level = connections[self.alias].settings_dict.get("OPTIONS", {}).get("isolation_level", READ_COMMITTED)
        if str(level).lower() == READ_COMMITTED:
            return []
        text = f"Transactions on DATABASES[{self.alias!r}] are {(level or 'what the server says').upper()} instead of "
        return [
            Warning(
                f"{text}READ COMMITTED. No message is lost or worked twice by that, but locks then cover the gaps "
                "between rows: who sends waits for who takes, and more transactions end in a deadlock.",
                hint=f"Leave 'isolation_level' out of DATABASES[{self.alias!r}]['OPTIONS'], or keep messages under "
                "another alias: 'django://alias'.",
                id="celery.W005",
            )
        ]

    def shortcoming(self) -> str | None:
        """Name a server that is too old."""
        connection: Any = connections[self.alias]
        if connection.features.has_select_for_update_skip_locked:
            return None
        return f"{connection.display_name} {'.'.join(map(str, connection.mysql_version))} cannot skip locked rows"

    def is_conflict(self, error: Exception) -> bool:
        """Tell it by the number."""
        return bool(error.args) and error.args[0] in CONFLICTS

    # -- consuming

    def claim(self, owner: str, queue: str, limit: int) -> list[Delivery]:
        """Take messages as `Store.claim` does, after a look that takes no lock and needs no transaction."""
        ready = f"{self.through('celery_message_ready')} WHERE queue = %s AND {READY}"
        if not self.rows(f"SELECT 1 FROM {ready} LIMIT 1", [queue]):
            return []
        return super().claim(owner, queue, limit)

    def _change_some(self, change: str, values: Row, which: str, criteria: Row, *, answer: str) -> list[Any]:
        with self._together():
            rows = self.rows(f"SELECT id, {answer} FROM {which}{self.skip_locked}", criteria)
            if rows:
                self.run(f"{self.updating} SET {change}", [_ids(row[0] for row in rows), *values])
        return [row[1:] for row in rows]

    def _own(self, change: str, owner: str, ids: Sequence[int], values: Row = ()) -> set[int]:
        if not ids:
            return set()
        with self._together():
            found = f"SELECT id FROM {BY_IDS} WHERE owner = %s FOR UPDATE"
            ours = {row_id for (row_id,) in self.rows(found, [_ids(ids), owner])}
            if ours:
                self.run(change, [_ids(ours), *values])
        return ours

    def lock_rows(self, ids: Sequence[int]) -> list[tuple[int, Message]]:
        """Return those of `ids` that nobody holds, kept from others until the caller's transaction ends."""
        statement = f"SELECT task, {TAKEN} FROM {BY_IDS} WHERE owner IS NULL{self.skip_locked}"
        return [relayed_message(row) for row in self.rows(statement, [_ids(ids)])]

    def delete_rows(self, ids: Sequence[int]) -> None:
        """Delete rows that the caller's transaction has locked."""
        self.run(self.deleting, [_ids(ids)])

    # -- inserting what may be there already

    def merge(self, rule: Merge, rows: Sequence[Row]) -> list[Any]:
        """Merge as `Statements.merge` does. Raises DataError for a row that no statement can carry."""
        pages = list(self._pages(rule, rows))
        with self._together() if len(pages) > 1 else nullcontext():
            return [answer for page in pages for answer in self._merge_page(rule, page)]

    def _merge_page(self, rule: Merge, rows: Sequence[Row]) -> list[Any]:
        """Insert; only where some of the rows are there already, lock these, and overwrite those that may be."""
        won = self._insert_new(rule, rows)
        if won is not None:
            return won
        with self._together():
            for _ in range(MOST_TRIES):
                stored = self._stored(rule, rows, lock=" FOR UPDATE")
                new = [row for row in rows if _key(rule, row) not in stored]
                won = self._insert_new(rule, new) if new else []
                if won is not None:
                    known = [(row, stored[_key(rule, row)]) for row in rows if _key(rule, row) in stored]
                    better = [row for row, (_, *old) in known if rule.may_replace(old, row)]
                    self._overwrite(rule, better)
                    return won + [stored[_key(rule, row)][0] for row in better]
        raise OperationalError(DUPLICATE, f"rows of {rule.table} appear and vanish too quickly to be written")

    def _insert_new(self, rule: Merge, rows: Sequence[Row]) -> list[Any] | None:
        """Insert rows that have none yet and return their answers; nothing and None if one of them has."""
        answer_is_ours = rule.answer in rule.columns
        with nullcontext() if answer_is_ours or len(rows) == 1 else self._together():
            try:
                last_id = self._insert(rule, rows)
            except IntegrityError as error:
                if error.args[0] != DUPLICATE:
                    raise
                return None
            if answer_is_ours:
                at = rule.columns.index(rule.answer)
                return [row[at] for row in rows]
            if len(rows) == 1:
                return [last_id]
            stored = self._stored(rule, rows)
            return [stored[_key(rule, row)][0] for row in rows]

    def _insert(self, rule: Merge, rows: Sequence[Row], conflict: str = "") -> int:
        source, parameters = self.source(rule.table, rule.columns, rows)
        statement = f"INSERT INTO {rule.table} ({', '.join(rule.columns)}) {source}{conflict}"
        with connections[self.alias].cursor() as cursor:
            self._execute(cursor, statement, parameters)
            return int(cursor.lastrowid or 0)

    def _overwrite(self, rule: Merge, rows: Sequence[Row]) -> None:
        """Overwrite rows that are there and locked, all in one statement."""
        if rows:
            changes = ", ".join(f"{column} = VALUES({column})" for column in rule.changes)
            self._insert(rule, rows, f" ON DUPLICATE KEY UPDATE {changes}")

    def _stored(self, rule: Merge, rows: Sequence[Row], lock: str = "") -> dict[tuple[Any, ...], tuple[Any, ...]]:
        """Return what is stored under the keys of `rows`: the answer, and what decides whether it may be replaced."""
        among, values = self.among(sorted({row[0] for row in rows}))
        columns = ", ".join([*rule.key, rule.answer, *rule.decides_by])
        table = f"{rule.table} FORCE INDEX ({UNIQUE[rule.table]})"
        found = self.rows(f"SELECT {columns} FROM {table} WHERE {rule.key[0]} {among}{lock}", values)
        return {_key(rule, row): row[len(rule.key) :] for row in found}

    # -- what one statement can carry

    def _pages(self, rule: Merge, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        """Yield `rows` in pages that the server takes as one statement."""
        sizes = [sum(len(value) for value in row if isinstance(value, str | bytes)) for row in rows]
        if sum(sizes) + OVERHEAD * len(rows) <= SMALL:
            yield rows
            return
        ((packet,),) = self.rows("SELECT @@max_allowed_packet", [])
        starts, room = [0], packet
        for position, (row, size) in enumerate(zip(rows, sizes, strict=True)):
            needed = size * WIDEST + OVERHEAD
            if needed > packet:
                needed = _require_room(rule, row, packet)
            room -= needed
            if room < SMALL and position > starts[-1]:
                starts.append(position)
                room = packet - needed
        for start, end in pairwise([*starts, len(rows)]):
            yield rows[start:end]


def _ids(ids: Iterable[int]) -> str:
    """Return ids as one parameter, in the order in which everybody locks them."""
    return json.dumps(sorted(ids))


def _require_room(rule: Merge, row: Row, packet: int) -> int:
    """Return the bytes that the server has to take for one row. Raises DataError for too many."""
    needed = OVERHEAD + sum(map(_length, row))
    if needed > packet - OVERHEAD * 2:
        text = (
            f"a row for {rule.table} takes {needed:,} bytes, and this database takes no statement of more than"
            f" {packet:,}: send or return less, or raise max_allowed_packet on the server"
        )
        raise DataError(text)
    return needed


def _length(value: Any) -> int:
    """Return how many bytes a text or a body has in a statement, at most: PyMySQL writes bytes as hexadecimal."""
    if isinstance(value, str):
        return len(value.encode()) + sum(map(value.count, ESCAPED))
    return 2 * len(value) if isinstance(value, bytes) else 0


def _key(rule: Merge, row: Row) -> tuple[Any, ...]:
    return tuple(row[: len(rule.key)])
