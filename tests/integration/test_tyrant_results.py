"""A whole worker whose results live in Tokyo Tyrant: a stand-in for it, in the process of the tests."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from celery import backends
from celery.backends.base import BaseBackend
from celery.exceptions import ResultBackendUnreachable
from tests.helpers import eventually
from tests.integration.places import Place
from tests.integration.worker import WorkerProcess
from tests.shop import tasks
from tests.tyrant.records import HASH, TABLE
from tests.tyrant.stand_in import StandIn

SOON = 15.0


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn(HASH) as made:
        yield made


@pytest.fixture
def in_tyrant(server: StandIn) -> Iterator[dict[str, Any]]:
    """The settings of results on the server, in force here; a worker has to be told."""
    settings = {
        "CELERY_BACKEND": "tyrant",
        "TT_HOST": "127.0.0.1",
        "TT_PORT": str(server.port),
        "CELERY_TT_TIMEOUT": 2,
    }
    with override_settings(**settings):
        yield settings


@pytest.fixture
def backend(in_tyrant: dict[str, Any]) -> BaseBackend:
    return backends.default()


def test_fifty_tasks_return_though_the_server_is_restarted_in_the_middle(
    sqlite_place: Place, in_tyrant: dict[str, Any], server: StandIn
) -> None:
    with WorkerProcess(sqlite_place, settings=in_tyrant) as worker, worker.unharmed():
        # when
        tokens = [f"{number}" for number in range(50)]
        results = [tasks.record.delay(sqlite_place.ledger, token) for token in tokens[:25]]
        assert results[0].get(timeout=SOON) == "0"
        server.restart()
        results += [tasks.record.delay(sqlite_place.ledger, token) for token in tokens[25:]]
        failure = tasks.fail.delay("no more milk")

        # then
        assert [result.get(timeout=SOON) for result in results] == tokens
        with pytest.raises(ValueError, match="no more milk"):
            failure.get(timeout=SOON)
        assert sqlite_place.executions() == dict.fromkeys(tokens, 1)
        assert sqlite_place.results() == {}
        eventually(lambda: sqlite_place.messages() == [])


def test_results_wait_for_their_server_and_no_message_goes_before(
    sqlite_place: Place, in_tyrant: dict[str, Any], server: StandIn
) -> None:
    with WorkerProcess(sqlite_place, settings=in_tyrant) as worker, worker.unharmed():
        # given
        assert tasks.add.delay(1, 1).get(timeout=SOON) == 2
        eventually(lambda: sqlite_place.messages() == [])

        # when
        server.stop()
        tokens = [f"{number}" for number in range(10)]
        results = [tasks.record.delay(sqlite_place.ledger, token) for token in tokens]

        # then
        eventually(sqlite_place.executions, within=SOON)
        eventually(lambda: worker.said("trying until"), within=SOON)
        assert worker.said("Tokyo Tyrant at 127.0.0.1")
        assert len(sqlite_place.messages()) == 10
        with pytest.raises(ResultBackendUnreachable, match="Is it running"):
            results[0].get(timeout=SOON)

        # when
        server.start()

        # then
        assert [result.get(timeout=SOON) for result in results] == tokens
        eventually(lambda: sqlite_place.messages() == [], within=SOON)
        assert sqlite_place.executions() == dict.fromkeys(tokens, 1)


def test_a_server_that_rotates_its_log_leaves_nobody_waiting(
    sqlite_place: Place, in_tyrant: dict[str, Any], server: StandIn
) -> None:
    """After SIGHUP old connections look open and are never answered."""
    with WorkerProcess(sqlite_place, children=1, settings=in_tyrant) as worker, worker.unharmed():
        # given
        assert tasks.add.delay(1, 1).get(timeout=SOON) == 2

        # when
        server.hush()
        result = tasks.record.delay(sqlite_place.ledger, "token")

        # then
        assert result.get(timeout=SOON) == "token"
        assert sqlite_place.executions() == {"token": 1}
        assert worker.said("trying until") == 0


def test_a_worker_does_not_store_into_a_table_and_says_what_to_do(
    sqlite_place: Place, in_tyrant: dict[str, Any], server: StandIn
) -> None:
    # given
    server.records.kind = TABLE
    result = tasks.add.delay(2, 3)

    with WorkerProcess(sqlite_place, settings=in_tyrant) as worker, worker.unharmed():
        eventually(lambda: worker.said("in which results would be lost. Start ttserver"), within=SOON)
        assert server.records.rows == {}

        # when
        server.records.kind = HASH

        # then
        assert result.get(timeout=SOON) == 5


def test_a_result_that_expires_is_purged(
    sqlite_place: Place, in_tyrant: dict[str, Any], server: StandIn, backend: BaseBackend
) -> None:
    """The clock cannot be turned for a worker, so that the bucket is moved instead."""
    settings = {**in_tyrant, "CELERY_TASK_RESULT_EXPIRES": 1}
    with WorkerProcess(sqlite_place, settings=settings), override_settings(CELERY_TASK_RESULT_EXPIRES=1):
        result = tasks.add.delay(2, 3)
        eventually(lambda: any(b"r:" + result.task_id.encode() in key for key in server.records.rows), within=SOON)
        eventually(lambda: result.status == "PENDING", within=SOON)

    rows = server.records.rows
    (bucket,) = (key for key in rows if key.startswith(b"celery:x:"))
    rows[b"celery:x:" + str(int(bucket.rpartition(b":")[2]) - 3).encode()] = rows.pop(bucket)
    assert backend.cleanup() == 1
    assert rows.keys() == {b"celery:purged"}
