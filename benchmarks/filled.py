"""Places with a million rows: a schema, or a file, beside that of a contender, filled by statements of the server.

They are made at the first use in a run, and go with the contender's own place. What a drain has taken is put back.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.contender import Contender
from benchmarks.places import Database, Ground, SQLite
from benchmarks.raw.command import TASK, call

WAITING, FUTURE, STORED = "waiting", "future", "stored"
KINDS: Final = (WAITING, FUTURE, STORED)
TABLES: Final[Mapping[str, str]] = {
    WAITING: "celery_message",
    FUTURE: "celery_message",
    STORED: "celery_taskmeta",
}
#: Which rows of the table are the filling, in SQL.
FILLING: Final[Mapping[str, str]] = {
    WAITING: "visible_at IS NULL",
    FUTURE: "visible_at IS NOT NULL",
    STORED: "worker = 'filled'",
}
MESSAGE: Final = (
    "INSERT INTO celery_message (task_id, attempt, task, queue, rank, body, headers, created_at, visible_at, owner,"
    " suspect, starts, crashes, dead_at, reason)"
)
RESULT: Final = (
    "INSERT INTO celery_taskmeta (task_id, name, status, attempt, result, traceback, worker, runtime, date_done)"
)
SERIES: Final = "WITH RECURSIVE series (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM series WHERE i < {count})"
#: Ids as ours are: of version 7, each a millisecond later than the one before.
UUID_ON_SQLITE: Final = (
    "printf('%08x-%04x-7', ({first} + i) >> 16, ({first} + i) & 65535)"
    " || lower(substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))"
)
UUID_ON_POSTGRESQL: Final = (
    "left(lpad(to_hex({first} + i), 12, '0'), 8) || '-' || right(to_hex({first} + i), 4) || '-7' || substr(random, 16)"
)


class Schema:
    """A schema of its own in the database of a contender on PostgreSQL."""

    def __init__(self, url: str, settings: Mapping[str, Any], name: str) -> None:
        path = f"-c search_path={name}"
        self.settings: dict[str, Any] = {**settings, "OPTIONS": {"options": path}}
        self._connection = psycopg.connect(url, dbname=settings["NAME"], options=path, autocommit=True)
        self.rows(f"CREATE SCHEMA IF NOT EXISTS {name}")

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(statement)
        return cursor.fetchall() if cursor.description else []

    def clear(self, table: str) -> None:
        self.rows(f"TRUNCATE {table}")

    def remove(self) -> None:
        """End the connection; the schema goes with its database."""
        self._connection.close()


class Filling:
    """The statements that fill the tables of a database, and what the servers would do by themselves meanwhile."""

    def __init__(self, database: Database, *, is_sqlite: bool, queue: str) -> None:
        self._database = database
        self._is_sqlite = is_sqlite
        self._queue = queue

    def top_up(self, kind: str, count: int) -> None:
        """Make it `count` rows again."""
        statement = f"SELECT count(*) FROM {TABLES[kind]} WHERE {FILLING[kind]}"
        missing = count - int(self._database.rows(statement)[0][0])
        if self._is_sqlite:  # of this connection alone: with 2 MB, each random id would be written again and again
            self._database.rows("PRAGMA cache_size = -500000")
        if missing > 0:
            self._database.rows(self.statement(kind, missing))
        if missing == count and not self._is_sqlite:
            self._database.rows("CHECKPOINT")  # so much was written that the next drain would find the server at it

    def statement(self, kind: str, count: int) -> str:
        """The INSERT of `count` rows, of the size that `noop` has."""
        before, source = self._on_sqlite(count) if self._is_sqlite else self._on_postgresql(count)
        if kind == STORED:
            values = f"u, '{TASK}', 'DONE', 1, '7', '', 'filled', 0.00001, {self._moment(days=0)}"
            return f"{before}{RESULT} SELECT {values} FROM {source}"
        moment = self._moment(days=365) if kind == FUTURE else self._nothing
        envelope = f"u, 1, '{TASK}', '{self._queue}', 0, {self._body()}, '', {self._moment(days=0)}, {moment}"
        return f"{before}{MESSAGE} SELECT {envelope}, NULL, FALSE, 0, 0, {self._nothing}, '' FROM {source}"

    def settle(self) -> None:
        """Do as autovacuum has done by then with rows that lie there."""
        if self._is_sqlite:
            self._database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
            return
        for table in ("celery_message", "celery_taskmeta"):
            self._database.rows(f"VACUUM (ANALYZE) {table}")

    @property
    def _nothing(self) -> str:
        """No moment, of the type that the column has."""
        return "NULL" if self._is_sqlite else "NULL::timestamptz"

    @staticmethod
    def _on_postgresql(count: int) -> tuple[str, str]:
        random = f"(SELECT i, gen_random_uuid()::text AS random FROM generate_series(1, {count}) AS i) AS series"
        return "", f"(SELECT i, {UUID_ON_POSTGRESQL.format(first=_first(count))} AS u FROM {random}) AS filling"

    @staticmethod
    def _on_sqlite(count: int) -> tuple[str, str]:
        ids = f"SELECT i, {UUID_ON_SQLITE.format(first=_first(count))} AS u FROM series"
        return f"{SERIES.format(count=count)}, filling AS MATERIALIZED ({ids}) ", "filling"

    def _moment(self, *, days: int) -> str:
        """The present moment or a later one; each row its own, as in life."""
        if self._is_sqlite:
            return f"strftime('%Y-%m-%d %H:%M:%f', 'now', '{days} days', (i / 1000.0) || ' seconds')"
        return f"now() + {days} * interval '1 day' + i * interval '1 ms'"

    def _body(self) -> str:
        """The body of a call, with the id of its row."""
        one = call(7)
        text = one.body.decode().replace("'", "''")
        replaced = f"replace('{text}', '{one.task_id}', u)"
        return f"CAST({replaced} AS BLOB)" if self._is_sqlite else f"convert_to({replaced}, 'UTF8')"


def _first(count: int) -> int:
    """The milliseconds of the first of `count` ids, the last of which is one of now."""
    return time.time_ns() // 1_000_000 - count


def beside(contender: Contender, folder: Path, url: str, kind: str) -> Contender:
    """The same contender on a place for rows of that kind, which may be empty yet; without a kind, itself."""
    if not kind:
        return contender
    name, own = f"with_{kind}", contender.database
    database: Any = SQLite(folder / f"{name}.sqlite3") if contender.product.in_file else Schema(url, own.settings, name)
    queue, results = contender.product.places(Ground(postgres=url, amqp="", redis="", name=name, database=database))
    return replace(contender, queue=queue, results=results, database=database)


def filling_of(place: Contender) -> Filling:
    """How its database is filled."""
    return Filling(place.database, is_sqlite=place.product.in_file, queue=place.queue.name)
