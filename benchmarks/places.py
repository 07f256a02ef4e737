"""Where a contender keeps its messages and results: a database and a queue of its own on the given servers."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import kombu
import psycopg
from amqp.exceptions import NotFound, PreconditionFailed

PERSISTENT = 2


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
        self.rows(f"TRUNCATE {table}")

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


class Queue(Protocol):
    """Where messages wait."""

    broker: str
    name: str

    def depth(self) -> int:
        """How many wait."""

    def clear(self) -> None:
        """Forget all of them."""

    def facts(self) -> dict[str, str]:
        """What the server says of a message that waits now, which is used up."""


class Table:
    """The queue of ``django://``."""

    broker = "django://"
    name = "bench"

    def __init__(self, database: Database) -> None:
        self._database = database

    def depth(self) -> int:
        return int(self._database.rows("SELECT count(*) FROM celery_message")[0][0])

    def clear(self) -> None:
        self._database.clear("celery_message")

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
        """Declare it durable again: the server refuses that of any other queue."""
        with self._channel() as channel:
            try:
                channel.queue_declare(self.name, durable=True, auto_delete=False)
            except PreconditionFailed:
                return "not durable"
        return "durable"

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        with kombu.Connection(self.broker) as connection:
            yield connection.channel()
