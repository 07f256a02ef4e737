"""Many tasks: each exactly once by the ledger, each result stored. And servers that restart in the middle."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connections

from tests.helpers import eventually
from tests.integration import places
from tests.integration.oddities import tasks as oddities
from tests.integration.places import Place, opened
from tests.integration.worker import WorkerProcess
from tests.servers import postgresql, rabbitmq
from tests.servers.base import Server
from tests.shop import tasks

MANY = 10_000


def _tokens(number: int) -> list[str]:
    return [f"task {number}" for number in range(number)]


def _assert_each_once(place: Place, number: int) -> None:
    counted = place.executions()
    assert set(counted) == set(_tokens(number))
    assert {token: count for token, count in counted.items() if count > 1} == {}


def _all_stored(place: Place, ids: set[str]) -> bool:
    return ids <= {task_id for task_id, row in place.results().items() if row.status == "DONE"}


@pytest.mark.slow
def test_ten_thousand_tasks_run_once_each(place: Place) -> None:
    # given
    results = tasks.record.delay_many((place.ledger, token) for token in _tokens(MANY))

    # when
    with _quiet(place) as worker:
        eventually(lambda: len(place.executions()) == MANY, within=60)
        eventually(lambda: _all_stored(place, {result.task_id for result in results}), within=20)

        # then
        assert worker.stop() == 0
    _assert_each_once(place, MANY)
    assert place.messages() == []
    assert place.waiting() == 0


def _quiet(place: Place, name: str = "worker") -> WorkerProcess:
    return WorkerProcess(place, name=name)


def test_two_workers_share_the_tasks(place: Place) -> None:
    # when
    with _quiet(place, "first"), _quiet(place, "second"):
        results = tasks.record_and_sleep.delay_many((place.ledger, token, 0.001) for token in _tokens(2000))
        eventually(lambda: _all_stored(place, {result.task_id for result in results}), within=60)

    # then
    _assert_each_once(place, 2000)
    assert {row.worker for row in place.results().values()} == {"first", "second"}


def test_the_more_urgent_tasks_run_first(database_place: Place) -> None:
    # given
    for priority in (0, 5, 9, None, 5):
        tasks.record.apply_async((database_place.ledger, f"priority {priority or 0}"), priority=priority)

    # when
    with WorkerProcess(database_place, children=1):
        eventually(lambda: len(database_place.results()) == 5, within=20)

    # then
    order = [line.rpartition(" ")[0] for line in Path(database_place.ledger).read_text().splitlines()]
    assert order == ["priority 9", "priority 5", "priority 5", "priority 0", "priority 0"]


def test_a_worker_takes_only_from_its_queues(place: Place) -> None:
    # given
    others = [f"{place.queue}-{name}" for name in ("mail", "video")]
    with WorkerProcess(place, queues=",".join([place.queue, others[0]])):
        # when
        taken = tasks.add.apply_async((1, 2), queue=others[0])
        left = tasks.add.apply_async((3, 4), queue=others[1])

        # then
        assert taken.get(timeout=10) == 3
        assert tasks.add.delay(5, 6).get(timeout=10) == 11
        assert not left.ready()
    with WorkerProcess(place, name="second", queues=others[1]):
        assert left.get(timeout=10) == 7


# Servers that restart


@contextmanager
def _place_on(server: Server, request: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    blocker = request.getfixturevalue("django_db_blocker")
    request.getfixturevalue("django_db_setup")
    if server.name == "rabbitmq":
        template, url = request.getfixturevalue("postgres_template"), request.getfixturevalue("postgres_url")
        databases = places.postgres_database(url, template=template)
        broker_url = server.url
    else:
        databases = places.postgres_database(server.url)
        broker_url = "django://"
    with databases as database, blocker.unblock():
        if server.name == "postgresql":
            places.migrate(database)
        with opened(Place(kind=server.name, database=database, broker_url=broker_url, folder=folder)) as place:
            yield place


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.rabbitmq
def test_all_is_done_when_rabbitmq_restarts_in_the_middle(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    # given
    with rabbitmq.running() as server, _place_on(server, request, tmp_path) as place:
        results = tasks.record.delay_many((place.ledger, token) for token in _tokens(MANY))
        with _quiet(place) as worker:
            eventually(lambda: len(place.executions()) > MANY // 10, within=30)

            # when
            server.restart()
            assert len(place.executions()) < MANY, "the restart came too late"

            # then
            eventually(lambda: _all_stored(place, {result.task_id for result in results}), within=60)
            assert worker.said("Connected to the broker again") == 1
            assert worker.stop() == 0
        assert set(place.executions()) == set(_tokens(MANY))


@pytest.mark.slow
@pytest.mark.postgres
def test_all_is_done_when_postgresql_restarts_in_the_middle(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    # given
    with postgresql.running() as server, _place_on(server, request, tmp_path) as place:
        results = tasks.record_and_sleep.delay_many((place.ledger, token, 0.001) for token in _tokens(4000))
        with _quiet(place) as worker:
            eventually(lambda: len(place.executions()) > 400, within=30)

            # when
            server.restart()

            # then
            with _fresh_connection(place):
                eventually(lambda: _all_stored(place, {result.task_id for result in results}), within=60)
            assert worker.said("died (") == 0, worker.last_words()
            assert worker.stop() == 0
        _assert_each_once(place, 4000)


@pytest.mark.slow
@pytest.mark.postgres
def test_a_database_that_is_away_kills_no_child(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    # given
    gate = tmp_path / "gate"
    with postgresql.running() as server, _place_on(server, request, tmp_path) as place, _quiet(place) as worker:
        results = [oddities.hold.delay(place.ledger, token, str(gate)) for token in ("one", "other")]
        eventually(lambda: place.was_executed("one", "other"), within=20)

        # when
        server.stop()
        gate.touch()
        eventually(lambda: worker.said("Storing 1 results: not possible now") == 2 or worker.said("died ("), within=20)
        server.start()

        # then
        with _fresh_connection(place):
            assert [result.get(timeout=30) for result in results] == ["one", "other"]
        assert worker.said("died (") == 0, worker.last_words()
        assert place.executions() == {"one": 1, "other": 1}


@contextmanager
def _fresh_connection(place: Place) -> Iterator[None]:
    """Forget the connection that the restart has broken."""
    connections[place.alias].close()
    yield
