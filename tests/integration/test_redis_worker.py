"""A real celeryd on Redis: killed workers, and a server that restarts in the middle."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers import eventually
from tests.integration import places
from tests.integration.places import Place, opened
from tests.integration.worker import WorkerProcess, run_celeryd
from tests.servers import redis
from tests.servers.redis import Redis
from tests.shop import tasks

pytestmark = pytest.mark.redis

SOON = 20.0
SETTINGS = {"CELERYD_LEASE": 3}
TOKENS = [f"task {number}" for number in range(500)]


@contextmanager
def _place(url: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    """A place on this Redis, beside a SQLite file."""
    blocker = request.getfixturevalue("django_db_blocker")
    database = places.copy_of_sqlite(request.getfixturevalue("sqlite_template"), folder)
    with blocker.unblock(), opened(Place(kind="redis", database=database, broker_url=url, folder=folder)) as place:
        yield place


@pytest.fixture
def hasty(redis_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place whose Redis gives a worker up after two seconds."""
    with _place(f"{redis_url}/3?visibility_timeout=2", request, tmp_path) as place:
        yield place


def _assert_all_done(place: Place, ids: list[str], *, twice: int) -> None:
    """All results are there, and few tasks ran twice."""
    eventually(lambda: len(place.results()) == len(ids), within=2 * SOON)
    assert {place.results()[task_id].status for task_id in ids} == {"DONE"}
    counted = place.executions()
    assert set(counted) == set(TOKENS[: len(ids)])
    assert sum(counted.values()) <= len(counted) + twice
    eventually(lambda: not place.messages() and not place.waiting(), within=SOON)


def test_what_a_killed_worker_held_comes_again_after_the_visibility_timeout(hasty: Place) -> None:
    # given
    with WorkerProcess(hasty, name="killed", settings=SETTINGS) as worker:
        sent = tasks.record_and_sleep.delay_many((hasty.ledger, token, 0.05) for token in TOKENS[:60])
        eventually(lambda: len(hasty.executions()) > 5, within=SOON)

        # when
        worker.send_to_group(signal.SIGKILL)
        worker.process.wait()
    assert len(hasty.results()) < 60

    # then
    with WorkerProcess(hasty, name="heir", settings=SETTINGS) as heir:
        _assert_all_done(hasty, [result.task_id for result in sent], twice=8)
        assert heir.stop() == 0


def test_a_killed_dispatcher_is_replaced_and_nothing_is_lost(hasty: Place) -> None:
    # given
    with WorkerProcess(hasty, settings=SETTINGS) as worker:
        sent = tasks.record_and_sleep.delay_many((hasty.ledger, token, 0.02) for token in TOKENS[:60])
        eventually(lambda: len(hasty.executions()) > 5, within=SOON)

        # when
        worker.dispatcher.send(signal.SIGKILL)

        # then
        worker.wait_until_ready(times=2)
        _assert_all_done(hasty, [result.task_id for result in sent], twice=8)
        assert worker.stop() == 0


def test_a_worker_that_is_stopped_gives_everything_back_at_once(
    redis_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    # given
    with _place(f"{redis_url}/3", request, tmp_path) as place:
        with WorkerProcess(place, settings={**SETTINGS, "CELERYD_DRAIN_TIMEOUT": 10}) as worker:
            sent = tasks.record_and_sleep.delay_many((place.ledger, token, 0.05) for token in TOKENS[:100])
            eventually(lambda: len(place.executions()) > 5, within=SOON)

            # when
            assert worker.stop() == 0

        # then
        assert place.waiting() + len(place.results()) == 100
        with WorkerProcess(place, name="heir", settings=SETTINGS):
            _assert_all_done(place, [result.task_id for result in sent], twice=0)


def test_all_is_done_when_redis_restarts_in_the_middle(
    redis_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    # given
    with (
        redis.running() as server,
        _place(server.url, request, tmp_path) as place,
        WorkerProcess(place, settings=SETTINGS) as worker,
    ):
        sent = tasks.record_and_sleep.delay_many((place.ledger, token, 0.005) for token in TOKENS)
        eventually(lambda: len(place.executions()) > 50, within=SOON)

        # when
        _restart(server)
        assert len(place.executions()) < len(TOKENS), "the restart came too late"

        # then
        _assert_all_done(place, [result.task_id for result in sent], twice=20)
        assert worker.said("Connected to the broker again") == 1
        assert worker.stop() == 0


def _restart(server: Redis) -> None:
    """End it as a crash would, and start it on the same port and data."""
    server.kill()
    server.start()


def test_celeryd_refuses_a_broker_that_nobody_else_can_reach(sqlite_place: Place) -> None:
    # when
    done = run_celeryd(sqlite_place, settings={"CELERY_BROKER_URL": "memory://"})

    # then
    assert done.returncode == 1
    assert "memory://" in done.stderr
    assert "django://" in done.stderr
