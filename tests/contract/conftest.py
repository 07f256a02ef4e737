"""RabbitMQ and databases for contracts: a SQLite file and a PostgreSQL database, both migrated, rows committed.

Each is made once a session under an alias of its own, after pytest-django has made its own (which would otherwise
replace ours by one in memory). No test runs inside a transaction; the tables are emptied after each.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import amqp
import psycopg
import pytest
from django.core.management import call_command
from django.db import connections, router
from pytest_django import DjangoDbBlocker

from celery.broker import store
from celery.broker.amqp import AmqpBroker
from celery.broker.store.base import Store
from tests.helpers import OneDatabase
from tests.proxy import Proxy
from tests.shop.database_url import database_from

TABLES = ("celery_message", "celery_worker", "celery_taskmeta")


@pytest.fixture(scope="session")
def sqlite_alias(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[str]:
    """A database in a SQLite file."""
    path = tmp_path_factory.mktemp("contract") / "contract.sqlite3"
    with django_db_blocker.unblock(), _database("contract_sqlite", str(path)) as alias:
        yield alias


@pytest.fixture(scope="session")
def postgres_alias(postgres_url: str, django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """A database of its own on the private PostgreSQL."""
    name = f"contract_{uuid.uuid4().hex}"
    address = postgres_url.replace("postgres://", "postgresql://")
    with psycopg.connect(address, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        with (
            django_db_blocker.unblock(),
            _database("contract_postgresql", f"{postgres_url.rpartition('/')[0]}/{name}") as alias,
        ):
            yield alias
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def _database(alias: str, url: str) -> Iterator[str]:
    """Add a database to those that Django knows, migrated."""
    connections.settings[alias] = {**connections.settings["default"], **database_from(url)}
    call_command("migrate", "celery", database=alias, verbosity=0)
    try:
        yield alias
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.settings[alias]


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)],
)
def alias(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, django_db_blocker: DjangoDbBlocker
) -> Iterator[str]:
    """The database in turn, empty; Django's routers send everything to it."""
    name: str = request.getfixturevalue("sqlite_alias" if request.param == "sqlite" else "postgres_alias")
    monkeypatch.setattr(router, "routers", [OneDatabase(name)])
    with django_db_blocker.unblock():
        yield name
        _empty(name)


def _empty(alias: str) -> None:
    with connections[alias].cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"DELETE FROM {table}")


@pytest.fixture
def kept(alias: str) -> Store:
    """The store of messages of the database in turn."""
    return store.of(alias)


# -- RabbitMQ


@pytest.fixture
def broker(amqp_url: str) -> Iterator[AmqpBroker]:
    made = AmqpBroker(amqp_url)
    yield made
    made._publisher.drop()


@pytest.fixture
def server(amqp_url: str) -> Iterator[Any]:
    """A plain channel, for what our own publisher would never send."""
    parts = urlsplit(amqp_url)
    with amqp.Connection(f"{parts.hostname}:{parts.port}", virtual_host="/") as connection:
        yield connection.channel()


@pytest.fixture
def queue(server: Any) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex}"
    yield name
    server.queue_delete(name)


@pytest.fixture
def proxy(amqp_url: str) -> Iterator[Proxy]:
    parts = urlsplit(amqp_url)
    with Proxy(parts.hostname or "", parts.port or 0) as made:
        yield made
