"""A whole worker whose results live in a cache, which may be away, or come back empty."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from celery.backends.cache.client import clients
from celery.exceptions import ResultBackendUnreachable, UnencodableResult
from tests.helpers import eventually
from tests.integration.places import Place
from tests.integration.worker import WorkerProcess, run_celeryd
from tests.servers.base import Server
from tests.servers.memcached import Memcached
from tests.servers.redis import Redis
from tests.shop import tasks

SOON = 15.0
DJANGO = "django.core.cache.backends"


@pytest.fixture(
    params=[
        pytest.param(("memcached_address", Memcached), marks=pytest.mark.memcached, id="memcached"),
        pytest.param(("redis_url", Redis), marks=pytest.mark.redis, id="redis"),
    ]
)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of our own, which can be stopped; where the shared one is missing, this one is, too."""
    name, kind = request.param
    request.getfixturevalue(name)
    with kind.running() as running:
        yield running


@pytest.fixture
def cached(server: Server) -> Iterator[dict[str, Any]]:
    """The settings of results on the server, in force here; a worker has to be told."""
    kind = "memcached.PyMemcacheCache" if isinstance(server, Memcached) else "redis.RedisCache"
    settings = {
        "CACHES": {"default": {"BACKEND": f"{DJANGO}.{kind}", "LOCATION": server.url}},
        "CELERY_BACKEND": "cache",
    }
    with override_settings(**settings):
        yield settings
        clients.drop()


def test_a_hundred_tasks_return_and_one_fails(place: Place, cached: dict[str, Any]) -> None:
    with WorkerProcess(place, settings=cached) as worker, worker.unharmed():
        # when
        results = [tasks.add.delay(number, 1) for number in range(100)]
        failure = tasks.fail.delay("no more milk")

        # then
        assert [result.get(timeout=SOON) for result in results] == list(range(1, 101))
        with pytest.raises(ValueError, match="no more milk"):
            failure.get(timeout=SOON)
        assert place.results() == {}
        eventually(lambda: place.messages() == [])


def test_results_wait_for_their_server_and_no_message_goes_before(
    sqlite_place: Place, cached: dict[str, Any], server: Server
) -> None:
    with WorkerProcess(sqlite_place, settings=cached) as worker, worker.unharmed():
        # given
        assert tasks.add.delay(1, 1).get(timeout=SOON) == 2
        eventually(lambda: sqlite_place.messages() == [])

        # when
        server.kill()
        tokens = [f"{number}" for number in range(10)]
        results = [tasks.record.delay(sqlite_place.ledger, token) for token in tokens]

        # then
        eventually(sqlite_place.executions, within=SOON)
        eventually(lambda: worker.said("trying until"), within=SOON)
        assert len(sqlite_place.messages()) == 10
        with pytest.raises(ResultBackendUnreachable, match="the cache of results 'default'"):
            results[0].get(timeout=SOON)

        # when
        server.start()

        # then
        assert [result.get(timeout=SOON) for result in results] == tokens
        eventually(lambda: sqlite_place.messages() == [], within=SOON)
        assert sqlite_place.executions() == dict.fromkeys(tokens, 1)


def test_a_worker_starts_without_the_server_of_results_and_waits_for_it(
    sqlite_place: Place, cached: dict[str, Any], server: Server
) -> None:
    # given
    server.kill()
    result = tasks.add.delay(2, 3)

    with WorkerProcess(sqlite_place, settings=cached) as worker, worker.unharmed():
        eventually(lambda: worker.said("trying until"), within=SOON)

        # when
        server.start()

        # then
        assert result.get(timeout=SOON) == 5


def test_a_worker_that_is_killed_while_results_wait_has_its_tasks_run_again(
    sqlite_place: Place, cached: dict[str, Any], server: Server
) -> None:
    """Nothing was acknowledged, so nothing is lost."""
    settings = {**cached, "CELERYD_LEASE": 1}
    with WorkerProcess(sqlite_place, name="first", settings=settings) as worker:
        server.kill()
        result = tasks.record.delay(sqlite_place.ledger, "token")
        eventually(lambda: worker.said("trying until"), within=SOON)
    server.start()

    with WorkerProcess(sqlite_place, name="second", settings=settings):
        assert result.get(timeout=30) == "token"

    assert sqlite_place.executions() == {"token": 2}


def test_a_result_that_is_too_large_for_the_cache_is_a_failure_that_says_so(
    sqlite_place: Place, cached: dict[str, Any], server: Server
) -> None:
    if not isinstance(server, Memcached):
        pytest.skip("it takes 512 MB")
    with WorkerProcess(sqlite_place, settings=cached) as worker, worker.unharmed():
        # when
        large, small = tasks.echo.delay("x" * 2_000_000), tasks.add.delay(1, 1)

        # then
        with pytest.raises(UnencodableResult, match=r"does not keep its 2,000,\d+ bytes .*memcached takes 1 MB"):
            large.get(timeout=SOON)
        assert small.get(timeout=SOON) == 2


def test_each_attempt_of_a_task_that_is_tried_again_runs_once(sqlite_place: Place, cached: dict[str, Any]) -> None:
    with WorkerProcess(sqlite_place, settings=cached) as worker, worker.unharmed():
        results = [tasks.record_and_retry.delay(sqlite_place.ledger, f"{number}", 2) for number in range(10)]

        for result in results:
            result.get(timeout=SOON)

    assert sqlite_place.executions() == {f"{number}": 3 for number in range(10)}


def test_a_worker_refuses_to_start_on_a_cache_that_nobody_else_sees(sqlite_place: Place) -> None:
    settings = {"CACHES": {"default": {"BACKEND": f"{DJANGO}.locmem.LocMemCache"}}, "CELERY_BACKEND": "cache"}

    done = run_celeryd(sqlite_place, settings=settings)

    assert done.returncode
    assert "celery.E008" in done.stderr
    assert "is a cache in the memory of one process" in done.stderr
