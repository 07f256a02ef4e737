"""Where messages and results are kept in a test: a database of its own, and the broker beside it.

A place is made from a migrated template, so that it costs a copy. While it is open, this process sends and asks there.
"""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import kombu
import psycopg
from django.core.management import call_command
from django.db import connections, router
from django.test import override_settings

from celery import broker
from celery.broker import store
from celery.broker.store.base import Store
from celery.models import Message, TaskMeta, Worker
from tests import mariadb
from tests.helpers import OneDatabase
from tests.shop import ledger
from tests.shop.database_url import database_from

APPS = ("celery", "shop")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A database, a broker, a queue, and a ledger that counts executions."""

    kind: str
    database: str
    broker_url: str
    folder: Path
    queue: str = field(default_factory=lambda: f"integration-{uuid.uuid4().hex[:12]}")
    alias: str = field(default_factory=lambda: f"place_{uuid.uuid4().hex[:8]}")

    @property
    def ledger(self) -> str:
        return str(self.folder / "ledger")

    @property
    def is_relaying(self) -> bool:
        return self.broker_url != "django://"

    @property
    def kept(self) -> Store:
        """The store of messages."""
        return store.of(self.alias)

    def environment(self) -> dict[str, str]:
        """Return what tells a worker of this place."""
        return {"SHOP_DATABASE": self.database, "CELERY_BROKER_URL": self.broker_url, "SHOP_QUEUE": self.queue}

    def executions(self) -> dict[str, int]:
        """Return how often each token was executed."""
        return dict(ledger.executions(self.ledger))

    def was_executed(self, *tokens: str) -> bool:
        """Tell whether each of `tokens` was executed at least once."""
        return set(tokens) <= set(self.executions())

    def messages(self) -> list[Message]:
        """Return all rows of messages, whatever their state."""
        return list(Message.objects.order_by("id"))

    def dead(self) -> list[Message]:
        """Return the rows of the dead."""
        return list(Message.objects.filter(dead_at__isnull=False).order_by("id"))

    def results(self) -> dict[str, TaskMeta]:
        """Return the stored results by id of their tasks."""
        return {row.task_id: row for row in TaskMeta.objects.all()}

    def workers(self) -> list[Worker]:
        """Return the rows of workers."""
        return list(Worker.objects.all())

    def waiting(self) -> int:
        """Return how many messages wait in the queue."""
        return broker.current().depth(self.queue)


@contextmanager
def opened(place: Place) -> Iterator[Place]:
    """Let this process send to `place` and ask there, until the block ends."""
    connections.settings[place.alias] = {**connections.settings["default"], **database_from(place.database)}
    routers, router.routers = router.routers, [OneDatabase(place.alias)]
    try:
        with override_settings(CELERY_BROKER_URL=place.broker_url, CELERY_AMQP_CONSUMER_QUEUE=place.queue):
            yield place
    finally:
        router.routers = routers
        connections[place.alias].close()
        del connections[place.alias]
        del connections.settings[place.alias]
        if place.is_relaying:
            _delete_queue(place)


def _delete_queue(place: Place) -> None:
    if place.broker_url.startswith("redis:"):
        broker.by_url(place.broker_url).discard_all(place.queue)
        return
    with kombu.Connection(place.broker_url) as connection:
        connection.default_channel.queue_delete(place.queue)


def migrate(database: str) -> None:
    """Make our tables in `database`."""
    alias = f"template_{uuid.uuid4().hex[:8]}"
    connections.settings[alias] = {**connections.settings["default"], **database_from(database)}
    try:
        for app in APPS:
            call_command("migrate", app, database=alias, verbosity=0)
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.settings[alias]


def sqlite_template(folder: Path) -> Path:
    """Return a migrated SQLite file."""
    path = folder / "template.sqlite3"
    migrate(str(path))
    return path


def copy_of_sqlite(template: Path, folder: Path) -> str:
    """Return the path of a database of its own."""
    path = folder / "shop.sqlite3"
    shutil.copy(template, path)
    return str(path)


@contextmanager
def postgres_database(url: str, *, template: str | None = None) -> Iterator[str]:
    """Make a database on the server of `url`, a copy of `template` if there is one, and remove it at the end."""
    name = f"integration_{uuid.uuid4().hex}"
    address = url.replace("postgres://", "postgresql://")
    copied = f" TEMPLATE {template.rpartition('/')[2]}" if template else ""
    with psycopg.connect(address, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}{copied}")
    yield f"{url.rpartition('/')[0]}/{name}"
    with psycopg.connect(address, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextmanager
def mariadb_copy(template: str) -> Iterator[str]:
    """Make a database beside the one of the URL `template`, with the same tables and no rows, and remove it."""
    with mariadb.mariadb_database(template, "integration") as url:
        name, source = url.rpartition("/")[2], template.rpartition("/")[2]
        with mariadb.connected(url) as server, server.cursor() as cursor:
            cursor.execute(f"SHOW TABLES FROM {source}")
            for (table,) in cursor.fetchall():
                cursor.execute(f"CREATE TABLE {name}.{table} LIKE {source}.{table}")
        yield url
