"""What results in a cache come to when its server is away, slow, or back again."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache.backends.memcached import PyMemcacheCache
from django.core.cache.backends.redis import RedisCache
from django.core.signals import request_finished
from django.db import close_old_connections

from celery import states
from celery.backends.base import BaseBackend, Result
from celery.backends.cache import client as cache_client
from celery.backends.cache import key_of
from celery.backends.cache.client import clients
from celery.exceptions import ResultBackendUnreachable, UnencodableResult
from tests.contract.of_cache import DJANGO
from tests.helpers import eventually
from tests.servers.base import Server
from tests.servers.memcached import Memcached
from tests.servers.redis import Redis

Making = Callable[..., BaseBackend]


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
def on_server(cached: Making, server: Server) -> Making:
    """Make a backend on the server."""
    cls = "memcached.PyMemcacheCache" if isinstance(server, Memcached) else "redis.RedisCache"
    return lambda **entry: cached(**{"BACKEND": f"{DJANGO}.{cls}", "LOCATION": server.url, **entry})


def done(task_id: str, value: Any = 1, **fields: Any) -> Result:
    return Result(task_id=task_id, state=states.DONE, result=json.dumps(value), **fields)


def test_silence_of_a_stopped_server_is_never_taken_for_an_answer(on_server: Making, server: Server) -> None:
    """A client of pymemcache raises once, then answers for a second as if the cache were empty."""
    backend = on_server()
    backend.store([done("x")])

    server.kill()

    for _ in range(20):
        with pytest.raises(ResultBackendUnreachable, match="the cache of results 'results'"):
            backend.fetch(["x"])
        with pytest.raises(ResultBackendUnreachable):
            backend.get_status("x")
        with pytest.raises(ResultBackendUnreachable):
            backend.closed([("x", 1)])
        with pytest.raises(ResultBackendUnreachable):
            backend.store([done("y")])


def test_a_server_that_is_back_is_used_at_once(on_server: Making, server: Server) -> None:
    """A client of pymemcache that has failed three times asks no more for a minute."""
    backend = on_server()
    server.kill()
    for _ in range(5):
        with pytest.raises(ResultBackendUnreachable):
            backend.store([done("x")])

    server.start()

    assert backend.store([done("x")]) == {"x"}
    assert backend.get_result("x") == 1


def test_a_restart_between_two_calls_is_not_even_noticed(on_server: Making, server: Server) -> None:
    backend = on_server()
    backend.store([done("x")])

    server.restart()
    is_kept = "x" in backend.fetch(["x"])
    server.restart()

    assert backend.store([done("y"), done("z")]) == {"y", "z"}
    assert is_kept == isinstance(server, Redis)


@pytest.mark.parametrize("options", [{"ignore_exc": True}, {"default_noreply": True}], ids=str)
def test_what_other_uses_of_the_cache_swallow_is_raised_for_results(
    on_server: Making, server: Server, options: dict[str, Any]
) -> None:
    if not isinstance(server, Memcached):
        pytest.skip("it has no such options")
    backend = on_server(OPTIONS=options)
    assert backend.store([done("x")]) == {"x"}
    with pytest.raises(UnencodableResult):
        backend.store([done("x", "x" * 2_000_000, attempt=2)])

    server.kill()

    for _ in range(5):
        with pytest.raises(ResultBackendUnreachable):
            backend.fetch(["x"])
        with pytest.raises(ResultBackendUnreachable):
            backend.store([done("y")])


def _stands_still(pid: int) -> bool:
    """Tell whether every thread of a process is stopped: the signal takes a moment."""
    found = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(found) == {"T"}


def test_a_server_that_hangs_is_given_up_after_seconds(
    on_server: Making, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    for kind, names in {PyMemcacheCache: ["timeout"], RedisCache: ["socket_timeout"]}.items():
        assert {name: cache_client.DEFAULTS[kind][name] for name in names} == dict.fromkeys(names, 5.0)
        monkeypatch.setitem(cache_client.DEFAULTS, kind, dict.fromkeys(names, 0.1))
    backend = on_server()
    backend.store([done("x")])
    assert server._process

    # when
    server._process.send_signal(signal.SIGSTOP)
    pid = server._process.pid

    # then
    try:
        eventually(lambda: _stands_still(pid))
        with pytest.raises(ResultBackendUnreachable):
            backend.fetch(["x"])
        with pytest.raises(ResultBackendUnreachable):
            backend.store([done("x")])
    finally:
        server._process.send_signal(signal.SIGCONT)
    assert backend.fetch(["x"]).keys() == {"x"}


def test_what_is_too_large_is_told_from_what_is_not_to_be_reached(on_server: Making, server: Server) -> None:
    if not isinstance(server, Memcached):
        pytest.skip("it takes 512 MB")
    backend = on_server()

    with pytest.raises(UnencodableResult, match=r"does not keep its 2,000,\d+ bytes .*too large.*memcached takes 1 MB"):
        backend.store([done("small"), done("large", "x" * 2_000_000), done("another")])

    assert backend.store([done("small", 2)]) <= {"small"}
    assert backend.store([done("another")]) <= {"another"}
    assert backend.fetch(["small", "large", "another"]).keys() == {"small", "another"}


def test_the_time_of_a_result_is_the_setting(on_server: Making, server: Server, settings: Any) -> None:
    """Memcached takes more than 30 days for a moment since 1970, which is over."""
    for seconds in (60, 40 * 24 * 3600, 10**9):
        settings.CELERY_TASK_RESULT_EXPIRES = seconds
        backend = on_server()

        assert backend.store([done(f"x {seconds}")]) == {f"x {seconds}"}

        assert backend.fetch([f"x {seconds}"])
        if isinstance(server, Redis):
            cache: Any = clients.get()
            left = cache._cache.get_client().ttl(cache.make_key(key_of(f"x {seconds}")))
            assert min(seconds, 365 * 24 * 3600) - 30 <= left <= seconds


def test_a_replica_is_not_asked_because_it_lags(on_server: Making, server: Server) -> None:
    if not isinstance(server, Redis):
        pytest.skip("it has no replicas")
    for location in (f"{server.url},redis://127.0.0.1:1", [server.url, "redis://127.0.0.1:1"]):
        backend = on_server(LOCATION=location)

        backend.store([done("x")])

        assert all(backend.fetch(["x"]) for _ in range(5))


def test_a_forked_process_has_a_connection_of_its_own(on_server: Making, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = on_server()
    backend.store([done("x")])
    mine = clients.get()
    assert clients.get() is mine

    monkeypatch.setattr(cache_client, "os", SimpleNamespace(getpid=lambda: 1))

    assert clients.get() is not mine
    assert backend.fetch(["x"])


def test_the_connection_of_a_request_ends_with_it(on_server: Making) -> None:
    backend = on_server()
    backend.store([done("x")])
    client: Any = clients.get()

    request_finished.disconnect(close_old_connections)  # it is about databases, which this test has none of
    try:
        request_finished.send(sender=None)
    finally:
        request_finished.connect(close_old_connections)

    assert clients.get() is not client
    assert backend.fetch(["x"])
