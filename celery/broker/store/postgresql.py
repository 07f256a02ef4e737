"""The store on PostgreSQL: SKIP LOCKED claims in one statement, NOTIFY only to workers that say they are idle."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from django.db import connections, transaction

from celery.broker.store import prepared
from celery.broker.store.base import COLUMNS, READY, TAKEN, Hints, Store, deliveries
from celery.broker.store.statements import Merge, Row
from celery.broker.store.workers import TABLE
from celery.message import Delivery

CHANNEL: Final = "celery"
QUEUE: Final = COLUMNS.index("queue")
#: Serialization failures, where the server or a role sets such a level by default, and deadlocks.
CONFLICTS: Final = frozenset({"40001", "40P01"})
POKE: Final = f"SELECT pg_notify('{CHANNEL}', '') FROM celery_worker WHERE idle LIMIT 1"
#: The same, beside an INSERT: only for those who wait for one of these queues. Each is a value: psycopg needs 8 us more
#: for a list.
POKE_FOR: Final = f"{POKE.removesuffix(' LIMIT 1')} AND string_to_array(queues, ',') && ARRAY[{{}}]::text[] LIMIT 1"
#: Rows that are still given value by value: to read JSON costs the server as much as four of them.
FEW: Final = 4

#: So many rows that nobody sees any more are worth a VACUUM: some 5 MB. With fewer, autovacuum will do.
MOST_DEAD: Final = 10_000
#: Bytes. A larger table is one of messages that wait, and a VACUUM of it would keep the steward from its other duties.
LARGEST: Final = 2**28
REMAINS: Final = f"SELECT n_dead_tup, pg_table_size(relid) FROM pg_stat_user_tables WHERE relid = '{TABLE}'::regclass"
#: Whoever is at it already, autovacuum or another worker, is not waited for. Giving room back to the system needs a
#: lock that keeps others out, and is left to autovacuum.
VACUUM: Final = f"VACUUM (SKIP_LOCKED, TRUNCATE FALSE) {TABLE}"


class NotifyHints(Hints):
    """LISTEN on the dispatcher's own connection; psycopg hands on what arrives with any answer of the server."""

    patience = 1.0

    def __init__(self, alias: str) -> None:
        with connections[alias].cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        self._wrapper = connections[alias]
        self._connection: Any = self._wrapper.connection
        self._connection.add_notify_handler(self._note)
        self._fileno = int(self._connection.fileno())
        self._news = False

    def _note(self, _notification: Any) -> None:
        self._news = True

    def fileno(self) -> int:
        """Return the descriptor of the connection: the same even when that is lost."""
        return self._fileno

    def pending(self) -> bool:
        """Tell whether a notification came, and read it off the socket. Raises what the database raises."""
        with self._wrapper.wrap_database_errors:
            self._connection.pgconn.consume_input()
            while self._connection.pgconn.notifies():
                self._news = True
        news, self._news = self._news, False
        return news


class PostgresqlStore(Store):
    """`Store` on PostgreSQL."""

    skip_locked = " FOR UPDATE SKIP LOCKED"
    share_lock = " FOR SHARE"
    #: With IN the planner may run the locking SELECT once for each row of the table, each time with a LIMIT of its own:
    #: then all rows are taken, and that takes seconds. An array is made once.
    one_of = "= ANY (ARRAY({}))"
    #: In a form that no index answers: statistics of a moment in which nobody held anything would have the planner go
    #: through all that a worker holds, instead of by the ids (decision 0030).
    is_held = "owner IS NOT DISTINCT FROM %s"

    def claim(self, owner: str, queue: str, limit: int) -> list[Delivery]:
        """Take messages as `Store.claim` does, in one statement, one round trip and one commit."""
        found = f"SELECT id FROM {TABLE} WHERE queue = %s AND {READY} ORDER BY rank, id LIMIT %s{self.skip_locked}"
        rows = self.rows(
            f"WITH me AS (SELECT 1 FROM celery_worker WHERE owner = %s FOR SHARE)"
            f" UPDATE {TABLE} SET owner = %s WHERE EXISTS (SELECT 1 FROM me) AND id {self.one_of.format(found)}"
            f" RETURNING {TAKEN}",
            [owner, owner, queue, limit],
        )
        return deliveries(rows)

    def is_conflict(self, error: Exception) -> bool:
        """Tell it by the code, which psycopg calls the state and psycopg2 the code."""
        cause = error.__cause__
        return (getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)) in CONFLICTS

    def _insert_page(self, rows: Sequence[Row], rule: Merge) -> list[int]:
        if connections[self.alias].in_atomic_block:
            self._poke_after_commit()
            return super()._insert_page(rows, rule)
        statement, parameters = self.merging(rule, rows)
        queues = {row[QUEUE] for row in rows}
        poking = f"{statement}, ({POKE_FOR.format(', '.join(['%s'] * len(queues)))})"  # once, if at all
        return [row_id for row_id, _ in self._inserted(poking, [*parameters, *queues])]

    def merge(self, rule: Merge, rows: Sequence[Row]) -> list[Any]:
        """Merge as `Statements.merge` does, by a prepared statement where that is safe."""
        return [answer for (answer,) in self._inserted(*self.merging(rule, rows))]

    def _inserted(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        with prepared.cursor_of(connections[self.alias]) as cursor:
            self._execute(cursor, statement, parameters)
            return list(cursor.fetchall())

    def _poke_after_commit(self) -> None:
        """Poke once a transaction, as far as that is seen from its last hooks."""
        last = connections[self.alias].run_on_commit[-2:]
        if not any(hook == self.poke for _, hook, *_ in last):
            transaction.on_commit(self.poke, using=self.alias, robust=True)

    def poke(self) -> None:
        """Wake the workers that wait. NOTIFY takes a lock at commit, so it is spared where nobody is idle."""
        self.rows(POKE, [])

    def clear_away(self) -> bool:
        """VACUUM the table of messages if there is enough to clear away and the table is small enough."""
        ((dead, size),) = self.rows(REMAINS, [])
        if dead < MOST_DEAD or size > LARGEST:
            return True
        if not connections[self.alias].get_autocommit():  # of the project's own choice; VACUUM refuses transactions
            return False
        self.run(VACUUM, [])
        ((left, _),) = self.rows(REMAINS, [])
        return bool(left < dead / 2)

    def hints(self) -> Hints:
        """Listen for NOTIFY."""
        return NotifyHints(self.alias)

    def source(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[str, list[Any]]:
        """Return many rows as one parameter, a JSON text: a third of the CPU of one parameter a value."""
        if len(rows) <= FEW:
            return super().source(table, columns, rows)
        text = json.dumps([dict(zip(columns, row, strict=True)) for row in rows], default=_as_json)
        names = ", ".join(columns)
        return f"SELECT {names} FROM json_populate_recordset(NULL::{table}, %s)", [text]

    def among(self, ids: Sequence[Any]) -> tuple[str, list[Any]]:
        """Return the condition "one of these": one array, so that the statement's text never changes."""
        return "= ANY (%s)", [list(ids)]


def _as_json(value: Any) -> str:
    """Return a moment or bytes in the text form that PostgreSQL casts from."""
    return value.isoformat() if isinstance(value, datetime) else f"\\x{value.hex()}"
