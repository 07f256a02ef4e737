"""Where a contender keeps its messages and results: a database and a queue of its own on the given servers.

Messages wait in a `Queue`: on RabbitMQ, or in a table. Results are `Results`: rows, or what `places_redis` has. What
the tasks themselves write down is in `Marks`.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import kombu
import psycopg
from amqp.exceptions import NotFound, PreconditionFailed

PERSISTENT = 2
BYTES_OF_A_MARK = 16


class Database(Protocol):
    """A database of the run's own."""

    @property
    def settings(self) -> dict[str, str]:
        """The entry of Django's DATABASES."""

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Execute one statement of our own."""

    def clear(self, table: str) -> None:
        """Empty a table, leaving nothing behind that would slow the next round down."""

    def remove(self) -> None:
        """Remove it with all that it holds."""


class PostgreSQL:
    """A database on the server behind `url`."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._on_server(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # of a run that was killed
        self._on_server(f"CREATE DATABASE {name}")
        self._connection = psycopg.connect(urlsplit(url)._replace(path=f"/{name}").geturl(), autocommit=True)

    @property
    def settings(self) -> dict[str, str]:
        parts = urlsplit(self._url)
        address = {"HOST": parts.hostname or "", "PORT": str(parts.port or ""), "USER": parts.username or ""}
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": self._name,
            "PASSWORD": parts.password or "",
        } | address

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(statement)
        return cursor.fetchall() if cursor.description else []

    def clear(self, table: str) -> None:
        self.rows(f"TRUNCATE {table} CASCADE")

    def remove(self) -> None:
        self._connection.close()
        self._on_server(f"DROP DATABASE {self._name} WITH (FORCE)")

    def _on_server(self, statement: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(statement)


class SQLite:
    """A file in the run's temporary folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=20)
        self.rows("PRAGMA journal_mode = WAL")  # as celeryd does at its first start

    @property
    def settings(self) -> dict[str, str]:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(self._path)}

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement).fetchall()

    def clear(self, table: str) -> None:
        self.rows(f"DELETE FROM {table}")

    def remove(self) -> None:
        self._connection.close()


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What a product's `places` are made of: addresses of servers, and the name and database of one contender."""

    postgres: str
    amqp: str
    redis: str
    name: str
    database: Database


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of a table that count: messages that wait, or results. `good` are the results as they should be."""

    table: str
    counted: str = "TRUE"
    good: str = "TRUE"
    key: str = "task_id"


class Queue(Protocol):
    """Where messages wait."""

    broker: str
    name: str

    def depth(self) -> int:
        """How many wait."""

    def clear(self) -> None:
        """Forget all of them."""

    def remove(self) -> None:
        """Leave nothing on the server."""

    def facts(self) -> dict[str, str]:
        """What the server says of a message that waits now, which is used up."""


class Table:
    """A queue in the database; that of ``django://`` if nothing else is said."""

    broker = "django://"
    name = "bench"

    def __init__(self, database: Database, rows: Rows) -> None:
        self._database = database
        self._rows = rows

    def depth(self) -> int:
        return int(self._database.rows(f"SELECT count(*) FROM {self._rows.table} WHERE {self._rows.counted}")[0][0])

    def clear(self) -> None:
        self._database.clear(self._rows.table)

    def remove(self) -> None:
        """It goes with its database."""

    def facts(self) -> dict[str, str]:
        return {"message": "a row of the database"}


class AmqpQueue:
    """A queue on RabbitMQ."""

    def __init__(self, url: str, name: str) -> None:
        self.broker = url
        self.name = name

    def depth(self) -> int:
        with self._channel() as channel:
            try:
                return int(channel.queue_declare(self.name, passive=True).message_count)
            except NotFound:
                return 0

    def clear(self) -> None:
        """Delete it: whoever publishes or consumes next declares it."""
        with self._channel() as channel:
            channel.queue_delete(self.name)

    def remove(self) -> None:
        self.clear()

    def facts(self) -> dict[str, str]:
        with self._channel() as channel:
            message = channel.basic_get(self.name, no_ack=True)
            mode = message.properties.get("delivery_mode") if message else None
        return {"message": "persistent" if mode == PERSISTENT else f"delivery_mode {mode}", "queue": self._durability()}

    def _durability(self) -> str:
        """Declare it durable again: the server refuses that of any other queue, and of other arguments."""
        with self._channel() as channel:
            try:
                channel.queue_declare(self.name, durable=True, auto_delete=False)
            except PreconditionFailed as refused:
                return "durable" if "x-" in str(refused) else "not durable"
        return "durable"

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        with kombu.Connection(self.broker) as connection:
            yield connection.channel()


class Results(Protocol):
    """Where results are stored."""

    url: str

    def stored(self) -> int:
        """How many there are."""

    def good(self) -> int:
        """Of how many tasks there is a good one."""

    def clear(self) -> None:
        """Forget all of them."""


class ResultRows:
    """Results in a table of the contender's database."""

    url = ""

    def __init__(self, database: Database, rows: Rows) -> None:
        self._database = database
        self._rows = rows

    def stored(self) -> int:
        return self._number("count(*)", self._rows.counted)

    def good(self) -> int:
        return self._number(f"count(DISTINCT {self._rows.key})", self._rows.good)

    def clear(self) -> None:
        self._database.clear(self._rows.table)

    def _number(self, what: str, condition: str) -> int:
        return int(self._database.rows(f"SELECT {what} FROM {self._rows.table} WHERE {condition}")[0][0])


class Marks:
    """The file to which tasks append a line of 16 bytes each."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def count(self) -> int:
        return self.path.stat().st_size // BYTES_OF_A_MARK if self.path.exists() else 0

    def clear(self) -> None:
        """Empty it; who has it open goes on appending."""
        self.path.write_bytes(b"")

    def lines(self) -> list[str]:
        return parsed(self.path.read_bytes())


def parsed(content: bytes) -> list[str]:
    """The marks as text; ValueError if they are not whole lines of 16 bytes."""
    lines = content.decode().splitlines()
    if len(content) % BYTES_OF_A_MARK or any(len(line) != BYTES_OF_A_MARK - 1 for line in lines):
        raise ValueError("a mark that is not 16 bytes")
    return lines
