"""celery.backends and its modules: where results live."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from celery import backends
from celery.backends import base, cache, database, tyrant
from celery.backends.base import BaseBackend
from celery.backends.cache.client import clients
from celery.models import TaskMeta
from celery.result import AsyncResult
from celery.task import Task, tasks
from celery.testing import Worker
from celery.timer import TimeoutError as CeleryTimeoutError
from tests.memory_backend import MemoryBackend
from tests.seed.table import rows_of
from tests.tyrant.records import HASH
from tests.tyrant.stand_in import StandIn

pytestmark = pytest.mark.django_db

row = rows_of("celery.backends")
of_base = rows_of("celery.backends.base")
of_database = rows_of("celery.backends.database")
of_cache = rows_of("celery.backends.cache")
of_tyrant = rows_of("celery.backends.tyrant")

MINE = "tests.memory_backend.MemoryBackend"


class Echo(Task):
    name = "seed.echo"

    def run(self, value: Any) -> Any:
        return value


@pytest.fixture(autouse=True)
def _tasks() -> None:
    tasks.register(Echo)


# -- by name


@row("get_backend_cls")
def test_a_backend_is_found_by_its_name_or_its_path() -> None:
    assert backends.get_backend_cls("database") is database.Backend
    assert backends.get_backend_cls("cache") is cache.Backend
    assert backends.get_backend_cls("tyrant") is tyrant.Backend
    assert backends.get_backend_cls("celery.backends.database") is database.Backend
    assert backends.get_backend_cls(MINE) is MemoryBackend


@row("get_default_backend_cls", "DefaultBackend", "default_backend")
def test_the_default_backend_is_that_of_the_settings(settings: Settings) -> None:
    assert backends.get_default_backend_cls() is backends.DefaultBackend is database.Backend
    assert type(backends.default_backend) is database.Backend

    settings.CELERY_BACKEND = MINE

    assert backends.get_default_backend_cls() is backends.DefaultBackend
    assert isinstance(backends.default_backend, MemoryBackend)
    backends.default_backend.mark_as_done("x", 5)
    assert AsyncResult[int]("x").get() == 5


@row("get_default_periodicstatus_backend_cls", "DefaultPeriodicStatusBackend", "default_periodic_status_backend")
def test_so_is_the_backend_of_periodic_tasks(settings: Settings) -> None:
    assert backends.get_default_periodicstatus_backend_cls() is backends.DefaultPeriodicStatusBackend
    assert backends.DefaultPeriodicStatusBackend is database.Backend
    assert backends.default_periodic_status_backend.run_periodic_tasks() >= 0

    settings.CELERY_PERIODIC_STATUS_BACKEND = MINE

    assert issubclass(backends.DefaultPeriodicStatusBackend, MemoryBackend)
    assert isinstance(backends.default_periodic_status_backend, MemoryBackend)


@row("fix: settings were frozen and models loaded at import")
def test_importing_needs_neither_settings_nor_applications() -> None:
    program = """
import celery.backends, celery.result, celery.task, celery.registry, celery.messaging
from django.conf import settings
settings.configure(INSTALLED_APPS=["celery"], CELERY_BACKEND="tests.memory_backend.MemoryBackend")
import django, sys
assert "celery.models" not in sys.modules
django.setup()
print(celery.backends.DefaultBackend.__name__)
"""
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=root, env={}, capture_output=True, text=True, check=False
    )

    assert ended.stdout == "MemoryBackend\n", ended.stderr


# -- what all of them have


@pytest.fixture(params=["database", "cache", "tyrant"])
def backend(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[BaseBackend]:
    """Each backend in turn, as the default one."""
    settings.CELERY_BACKEND = request.param
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": str(tmp_path),
            "OPTIONS": {"MAX_ENTRIES": 100_000},
        }
    }
    with StandIn(HASH) as server:
        settings.TT_HOST, settings.TT_PORT = "127.0.0.1", server.port
        yield backends.default_backend
        clients.drop()


@of_base("BaseBackend", "BaseBackend.capabilities")
@of_database("Backend")
@of_cache("Backend")
@of_tyrant("Backend")
def test_a_task_finds_its_way_through_every_backend(backend: BaseBackend, bench: Worker) -> None:
    # when
    results = {word: Echo.delay(word) for word in ("a", "b")}
    bench.run()

    # then
    assert {word: result.get() for word, result in results.items()} == {"a": "a", "b": "b"}
    assert isinstance(backend, BaseBackend)
    assert type(backend).__name__ == "Backend"
    assert "ResultStore" in backend.capabilities
    assert ("PeriodicStatus" in backend.capabilities) is isinstance(backend, database.Backend)
    assert TaskMeta.objects.count() == (2 if isinstance(backend, database.Backend) else 0)


@of_base("BaseBackend.mark_as_done", "BaseBackend.get_status", "BaseBackend.get_result", "BaseBackend.is_done")
def test_a_value_can_be_stored(backend: BaseBackend) -> None:
    assert (backend.get_status("x"), backend.get_result("x"), backend.is_done("x")) == ("PENDING", None, False)

    backend.mark_as_done("x", {"a": [1]})

    assert (backend.get_status("x"), backend.get_result("x"), backend.is_done("x")) == ("DONE", {"a": [1]}, True)


@of_base("BaseBackend.mark_as_failure", "BaseBackend.mark_as_retry", "BaseBackend.get_result", "BaseBackend.is_done")
def test_an_exception_can_be_stored(backend: BaseBackend) -> None:
    backend.mark_as_failure("x", KeyError("no such feed"))
    backend.mark_as_retry("y", OSError(113, "no route"))

    assert [backend.get_status(task_id) for task_id in "xy"] == ["FAILURE", "RETRY"]
    assert backend.get_result("x").args == ("no such feed",)
    assert type(backend.get_result("x")) is KeyError
    assert (type(backend.get_result("y")), backend.get_result("y").errno) == (OSError, 113)
    assert not backend.is_done("x")


@of_base("BaseBackend.store_result")
def test_a_result_can_be_stored_by_its_state(backend: BaseBackend) -> None:
    backend.store_result("x", [1, 2], "DONE")
    backend.store_result(task_id="y", result=ValueError("no"), status="FAILURE")

    assert backend.get_result("x") == [1, 2]
    assert isinstance(backend.get_result("y"), ValueError)


@of_base("fix: None was stored as True")
def test_none_stays_none(backend: BaseBackend, bench: Worker) -> None:
    result = Echo.delay(None)
    bench.run()

    assert result.get() is None
    assert result.successful()
    assert backend.get_result(result.task_id) is None
    backend.mark_as_done("x", None)
    assert (backend.get_status("x"), backend.get_result("x"), backend.wait_for("x")) == ("DONE", None, None)


@of_base("BaseBackend.wait_for")
def test_a_result_can_be_waited_for(backend: BaseBackend) -> None:
    backend.mark_as_done("x", 4)
    backend.mark_as_failure("y", KeyError("no such feed"))

    assert backend.wait_for("x") == backend.wait_for("x", timeout=1) == 4
    with pytest.raises(KeyError, match="no such feed"):
        backend.wait_for("y")
    with pytest.raises(CeleryTimeoutError):
        MemoryBackend().wait_for("z", timeout=0)


@of_base("BaseBackend.cleanup")
def test_what_has_expired_is_cleaned_up(
    backend: BaseBackend, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server does so by itself, or later, it is at least not found any more."""
    # given
    settings.CELERY_TASK_RESULT_EXPIRES = 3600
    backend.mark_as_done("x", 1)
    if isinstance(backend, database.Backend):
        TaskMeta.objects.update(date_done="2020-01-01T00:00:00Z")
    later = time.time() + 2 * 3600

    # when
    monkeypatch.setattr(time, "time", lambda: later)
    count = backend.cleanup()

    # then
    assert count == 1
    assert backend.get_status("x") == "PENDING"


# -- values and exceptions as text


class FeedError(Exception):
    """An exception of the application."""


@of_base("BaseBackend.prepare_result", "BaseBackend.prepare_exception", "BaseBackend.exception_to_python")
def test_what_is_prepared_comes_back_as_it_was() -> None:
    mine = MemoryBackend()

    assert mine.prepare_result([1, None]) == "[1, null]"
    with pytest.raises((TypeError, ValueError)):
        mine.prepare_result(object())
    again = mine.exception_to_python(mine.prepare_exception(FeedError("gone", 404)))
    assert (type(again), again.args) == (FeedError, ("gone", 404))


@of_base("BaseBackend.prepare_exception", "UnpickleableExceptionWrapper", "BaseBackend.create_exception_cls")
def test_an_exception_that_is_not_known_here_comes_as_one_of_the_same_name() -> None:
    # given
    mine = MemoryBackend()
    elsewhere = base.UnpickleableExceptionWrapper("far.away", "DistantError", ("gone", 404))

    # when
    again = mine.exception_to_python(mine.prepare_exception(elsewhere))

    # then
    assert type(again).__name__ == "DistantError"
    assert isinstance(again, base.UnpickleableExceptionWrapper)
    assert (again.exc_module, again.exc_cls_name, tuple(again.exc_args)) == ("far.away", "DistantError", ("gone", 404))
    made = mine.create_exception_cls("DistantError", "far.away")
    assert (made.__name__, made.__module__, issubclass(made, Exception)) == ("DistantError", "far.away", True)


@of_base("find_nearest_pickleable_exception")
def test_the_nearest_exception_that_can_travel_is_found() -> None:
    class Local(FeedError): ...

    class Alone(Exception): ...

    found = base.find_nearest_pickleable_exception(Local("gone", 404))
    itself = FeedError("gone")

    assert isinstance(found, FeedError)
    assert (type(found), found.args) == (FeedError, ("gone", 404))
    assert base.find_nearest_pickleable_exception(itself) is itself
    assert base.find_nearest_pickleable_exception(Alone("gone")) is None


# -- Tokyo Tyrant


@of_tyrant("Backend", "Backend.get_server")
def test_tyrant_may_be_told_its_server(settings: Settings) -> None:
    settings.TT_HOST, settings.TT_PORT = "nowhere.invalid", 1
    with StandIn(HASH) as server:
        mine = tyrant.Backend(tyrant_host="127.0.0.1", tyrant_port=server.port)
        mine.mark_as_done("x", 1)

        assert mine.get_server() is mine.get_server()
        assert len(server.records.keys()) >= 1
        assert mine.get_result("x") == 1


@of_tyrant("without TT_HOST and TT_PORT")
@pytest.mark.parametrize(("host", "port"), [(None, None), ("127.0.0.1", None), (None, 1978)])
def test_tyrant_without_an_address_is_refused(settings: Settings, host: Any, port: Any) -> None:
    settings.TT_HOST, settings.TT_PORT = host, port

    with pytest.raises(ImproperlyConfigured, match="TT_HOST and TT_PORT"):
        tyrant.Backend()
