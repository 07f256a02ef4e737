"""RabbitMQ and databases for contracts: a SQLite file and a PostgreSQL database, both migrated, rows committed.

Each is made once a session under an alias of its own, after pytest-django has made its own (which would otherwise
replace ours by one in memory). No test runs inside a transaction; the tables are emptied after each.
"""

import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import amqp
import psycopg
import pytest
from django.core.management import call_command
from django.db import connections, router
from pytest_django import DjangoDbBlocker, Settings

from celery.backends import get_backend_cls
from celery.backends.base import BaseBackend
from celery.broker import store
from celery.broker.amqp import AmqpBroker
from celery.broker.store.base import Store
from tests.contract.of_cache import (  # noqa: F401 - fixtures
    cached,
    file_cache_backend,
    memcached_backend,
    redis_cache_backend,
    table_cache_backend,
)
from tests.contract.of_databases import DATABASES
from tests.contract.of_tyrant import tyrant_backend, tyrant_server  # noqa: F401 - fixtures
from tests.helpers import OneDatabase
from tests.mariadb import mariadb_database
from tests.proxy import Proxy
from tests.shop.database_url import database_from

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
TABLES = (
    *("celery_message", "celery_worker", "celery_taskmeta", "celery_periodictaskmeta"),
    *("celery_throughput", "celery_queuedepth"),
)


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


@pytest.fixture(scope="session")
def mariadb_alias(mariadb_url: str, django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """A database of its own on the private MariaDB."""
    with (
        mariadb_database(mariadb_url, "contract") as url,
        django_db_blocker.unblock(),
        _database("contract_mariadb", url) as alias,
    ):
        yield alias


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


@pytest.fixture
def on_database(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, django_db_blocker: DjangoDbBlocker
) -> Iterator[Callable[[str], str]]:
    """Make Django's routers send everything to one of `DATABASES`, empty, and return its alias."""
    chosen: list[str] = []

    def choose(name: str) -> str:
        alias: str = request.getfixturevalue(f"{name}_alias")
        monkeypatch.setattr(router, "routers", [OneDatabase(alias)])
        chosen.append(alias)
        return alias

    with django_db_blocker.unblock():
        yield choose
        for alias in chosen:
            _empty(alias)


@pytest.fixture(params=DATABASES)
def alias(request: pytest.FixtureRequest, on_database: Callable[[str], str]) -> str:
    """The alias of the database in turn."""
    return on_database(request.param)


def _empty(alias: str) -> None:
    with connections[alias].cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"DELETE FROM {table}")


@pytest.fixture
def own_backend(monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path) -> BaseBackend:
    """The example of the documentation."""
    monkeypatch.syspath_prepend(EXAMPLES)
    settings.RESULTS_FOLDER = tmp_path
    return get_backend_cls("own_backend.Backend")()


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


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, and its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files]
    subprocess.run(command, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both
