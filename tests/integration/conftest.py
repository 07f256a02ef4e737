"""Places for a real celeryd: SQLite, PostgreSQL, MariaDB, RabbitMQ beside PostgreSQL, and Redis beside SQLite.

`place` belongs to one test. `shared` is a worker of a whole module, for tests that leave it as they found it.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pytest_django import DjangoDbBlocker

from tests import mariadb
from tests.integration import places
from tests.integration.places import Place, opened
from tests.integration.worker import WorkerProcess

PLACES = (
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.postgres),
    pytest.param("rabbitmq", marks=[pytest.mark.postgres, pytest.mark.rabbitmq]),
)
#: A third database of which the store alone differs: for the modules whose tests meet the store under stress.
MARIADB = pytest.param("mariadb", marks=pytest.mark.mariadb)
ON_MARIADB_TOO = frozenset({"test_crashes", "test_lost_processes", "test_round_trip", "test_volume"})
#: A second broker beside a database, in a database of its own on the server.
REDIS = pytest.param("redis", marks=pytest.mark.redis)
ON_REDIS_TOO = frozenset({"test_crashes", "test_round_trip"})
REDIS_DATABASE = 3


def _chooses(metafunc: pytest.Metafunc, fixture: str) -> bool:
    """Tell whether a test says itself in which places it runs."""
    return any(fixture in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test its places in turn."""
    module = metafunc.module.__name__.rpartition(".")[2]
    more = [MARIADB] if module in ON_MARIADB_TOO else []
    brokers = [REDIS] if module in ON_REDIS_TOO else []
    for fixture, usual in (
        ("place", [*PLACES, *brokers]),
        ("database_place", PLACES[:2]),
        ("shared", [*PLACES, *brokers]),
    ):
        if fixture in metafunc.fixturenames and not _chooses(metafunc, fixture):
            metafunc.parametrize(fixture, [*usual, *more], indirect=True)


@pytest.fixture(scope="session")
def sqlite_template(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Path:
    with django_db_blocker.unblock():
        return places.sqlite_template(tmp_path_factory.mktemp("templates"))


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str, django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    with django_db_blocker.unblock(), places.postgres_database(postgres_url) as database:
        places.migrate(database)
        yield database


@pytest.fixture(scope="session")
def mariadb_template(mariadb_url: str, django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    with django_db_blocker.unblock(), mariadb.mariadb_database(mariadb_url, "integration") as database:
        places.migrate(database)
        yield database


@contextmanager
def made(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    """Make a place of this kind and open it."""
    blocker: DjangoDbBlocker = request.getfixturevalue("django_db_blocker")
    request.getfixturevalue("django_db_setup")
    with (
        _database(kind, request, folder) as database,
        blocker.unblock(),
        opened(Place(kind=kind, database=database, broker_url=_broker(kind, request), folder=folder)) as place,
    ):
        yield place


def _database(kind: str, request: pytest.FixtureRequest, folder: Path) -> AbstractContextManager[str]:
    if kind in {"sqlite", "redis"}:
        return nullcontext(places.copy_of_sqlite(request.getfixturevalue("sqlite_template"), folder))
    if kind == "mariadb":
        return places.mariadb_copy(request.getfixturevalue("mariadb_template"))
    template: str = request.getfixturevalue("postgres_template")
    return places.postgres_database(request.getfixturevalue("postgres_url"), template=template)


def _broker(kind: str, request: pytest.FixtureRequest) -> str:
    if kind == "redis":
        return f"{request.getfixturevalue('redis_url')}/{REDIS_DATABASE}"
    return _rabbitmq(request) if kind == "rabbitmq" else "django://"


def _rabbitmq(request: pytest.FixtureRequest) -> str:
    if find_spec("celery.broker.amqp") is None:
        pytest.skip("there is no driver for RabbitMQ yet")
    url: str = request.getfixturevalue("amqp_url")
    return url


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """The place in turn, empty."""
    with made(request.param, request, tmp_path) as found:
        yield found


@pytest.fixture
def database_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place whose database is the queue."""
    with made(request.param, request, tmp_path) as found:
        yield found


@pytest.fixture
def sqlite_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A SQLite file, for what does not depend on the place."""
    with made("sqlite", request, tmp_path) as found:
        yield found


@pytest.fixture
def postgres_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A database of PostgreSQL."""
    with made("postgresql", request, tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def shared_settings() -> dict[str, Any]:
    """The settings of the shared worker; a module may have its own."""
    return {"CELERY_UNKNOWN_TASK_PATIENCE": 0.5, "CELERYD_LEASE": 5}


@pytest.fixture(scope="module")
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shared_settings: dict[str, Any]
) -> Iterator[WorkerProcess]:
    """A worker with two children that the tests of a module share."""
    folder = tmp_path_factory.mktemp(request.param)
    with made(request.param, request, folder) as found, WorkerProcess(found, settings=shared_settings) as worker:
        yield worker
