"""Both sides over one RabbitMQ, whose default queue nobody has declared yet; our side with a database of its own."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.interop.environment import python_of_celery
from tests.interop.sides import Ours, Theirs, forget_queue


@pytest.fixture(scope="session")
def python_of_theirs() -> Path:
    """The interpreter of the environment that has PyPI's Celery."""
    try:
        return python_of_celery()
    except RuntimeError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def database(postgres_url: str) -> Iterator[str]:
    """A database of this run's own."""
    name = f"interop_{os.getpid()}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}".encode())
        yield urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
        server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="session")
def migrated(database: str, amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same database with our tables."""
    Ours(broker=amqp_url, database=database, folder=tmp_path_factory.mktemp("migrate")).migrate()
    return database


@pytest.fixture
def broker(amqp_url: str) -> Iterator[str]:
    """RabbitMQ without the default queue and exchange, before the test and after it."""
    forget_queue(amqp_url)
    yield amqp_url
    forget_queue(amqp_url)


@pytest.fixture
def ours(broker: str, migrated: str, tmp_path: Path) -> Ours:
    """Our side; both record to one ledger in the test's folder."""
    return Ours(broker=broker, database=migrated, folder=tmp_path)


@pytest.fixture
def theirs(broker: str, python_of_theirs: Path, tmp_path: Path) -> Theirs:
    """PyPI's Celery."""
    return Theirs(python=python_of_theirs, broker=broker, folder=tmp_path)
