"""Task sets, maps and remote calls: sent here, run by a real celeryd, and waited for here."""

import io
import json
import operator
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction

from celery import broker
from celery.calling import message_of
from celery.exceptions import UntrustedMessage, WouldWaitForever
from celery.message import Message
from celery.result import AsyncResult
from celery.task import ExecuteRemoteTask, TaskSet, dmap, dmap_async, execute_remote
from celery.timer import TimeoutError as ResultTimeoutError
from tests.helpers import eventually
from tests.integration.oddities import tasks as oddities
from tests.integration.places import Place
from tests.integration.worker import WorkerProcess
from tests.shop import ledger, tasks

SOON = 20.0
MANY = 10_000
#: What two children may have run without having stored it.
MOST_UNWRITTEN = 8


class Screen(io.StringIO):
    """A terminal that keeps all that was drawn."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _unharmed(request: pytest.FixtureRequest) -> Iterator[None]:
    """No task of the shared worker costs a process."""
    if "shared" not in request.fixturenames:
        yield
        return
    with request.getfixturevalue("shared").unharmed():
        yield


# Task sets


def test_values_come_in_the_order_of_the_calls(shared: WorkerProcess) -> None:
    # given
    calls = TaskSet(tasks.add, [[[number, 1], {}] for number in range(100)])

    # when
    results = calls.run()

    # then
    assert results.join(timeout=SOON) == list(range(1, 101))
    assert (results.ready(), results.successful(), results.completed_count()) == (True, True, 100)
    assert sorted(calls.iterate(timeout=SOON)) == list(range(1, 101))


def test_a_set_that_is_known_by_its_ids_alone_is_joined_too(shared: WorkerProcess) -> None:
    # given
    sent = TaskSet("shop.multiply", [[[3], {"y": number}] for number in range(5)]).run()

    # when
    found = type(sent)(sent.taskset_id, sent.subtask_ids)

    # then
    assert list(found.subtasks) == [AsyncResult(task_id) for task_id in sent.subtask_ids]
    assert found.join(timeout=SOON) == [0, 3, 6, 9, 12]


def test_the_first_failure_of_a_set_is_raised(shared: WorkerProcess) -> None:
    # given
    results = TaskSet(tasks.fail, [[[f"no {number}"]] for number in range(5)]).run()

    # when
    with pytest.raises(ValueError, match=r"^no \d$"):
        results.join(timeout=SOON)

    # then
    assert results.failed()
    eventually(results.ready, within=SOON)
    assert (results.successful(), results.completed_count()) == (False, 0)


def test_a_set_that_takes_longer_than_one_wants_to_wait_says_what_is_missing(
    shared: WorkerProcess, tmp_path: Path
) -> None:
    # given
    gate = tmp_path / "gate"
    calls = [
        [[shared.place.ledger, token, str(path)]] for token, path in (("1", tmp_path), ("2", gate), ("3", tmp_path))
    ]
    results = TaskSet(oddities.hold, calls).run()
    eventually(lambda: results.completed_count() == 2, within=SOON)

    # when
    with pytest.raises(ResultTimeoutError, match=r"^1 of 3 results of task set .* are missing after 0\.2 s"):
        results.join(timeout=0.2)

    # then
    assert results.waiting()
    gate.touch()
    assert results.join(timeout=SOON) == ["1", "2", "3"]


def test_a_set_is_not_waited_for_inside_the_transaction_that_sent_it(shared: WorkerProcess) -> None:
    # when
    with transaction.atomic(using=shared.place.alias):
        results = TaskSet(tasks.add, [[[1, 2]], [[3, 4]]]).run()
        with pytest.raises(WouldWaitForever, match="transaction that is still open"):
            results.join(timeout=SOON)

    # then
    assert results.join(timeout=SOON) == [3, 7]


def test_an_empty_set_is_joined_without_a_worker(sqlite_place: Place) -> None:
    assert TaskSet(tasks.add, []).join() == []
    assert sqlite_place.messages() == []


@pytest.mark.slow
def test_ten_thousand_subtasks_and_their_bar(database_place: Place) -> None:
    # given
    calls = TaskSet(tasks.add, ([[number, number]] for number in range(MANY)))

    # when
    with WorkerProcess(database_place) as worker, redirect_stderr(Screen()) as screen:
        results = calls.run()
        values = results.join(timeout=90, progress=True)

        # then
        assert worker.stop() == 0
    assert values == [2 * number for number in range(MANY)]
    assert (results.total, results.completed_count(), results.failed()) == (MANY, MANY, False)
    drawn = screen.getvalue().split("\r")
    assert "0/10000" in drawn[1]
    assert "10000/10000" in drawn[-1]
    assert "failed=0" in drawn[-1]
    assert len(drawn) > 3, "the bar never moved"


# Maps


def test_a_map_returns_the_values_in_the_order_of_the_calls(shared: WorkerProcess) -> None:
    assert dmap(operator.add, [[2, 2], [4, 4], [8, 8]], timeout=SOON) == [4, 8, 16]
    assert TaskSet.map(operator.neg, [[1], [2]], timeout=SOON) == [-1, -2]


def test_a_map_without_a_wait_is_one_result(shared: WorkerProcess) -> None:
    # when
    result = dmap_async(operator.add, [[number, 1] for number in range(50)])
    nothing = dmap_async(operator.add, [])

    # then
    assert result.get(timeout=SOON) == list(range(1, 51))
    assert nothing.get(timeout=SOON) == []


def test_a_map_fails_with_the_failure_of_its_call(shared: WorkerProcess) -> None:
    with pytest.raises(ZeroDivisionError):
        dmap_async(operator.truediv, [[1, 1], [1, 0]]).get(timeout=SOON)
    with pytest.raises(ZeroDivisionError):
        dmap(operator.truediv, [[1, 1], [1, 0]], timeout=SOON)


def test_a_map_that_is_not_done_in_time_fails(shared: WorkerProcess, tmp_path: Path) -> None:
    # given
    gate = tmp_path / "gate"
    result = dmap_async(oddities.hold, [[shared.place.ledger, "held", str(gate)]], timeout=0.5)

    # when
    with pytest.raises(ResultTimeoutError, match="1 of 1 results of the map"):
        result.get(timeout=SOON)

    # then
    gate.touch()
    assert execute_remote(operator.add, 1, 1).get(timeout=SOON) == 2


def test_maps_that_are_sent_by_tasks_do_not_wait_for_each_other(place: Place) -> None:
    """One child, and in it twenty maps at once: if any of them waited, none would end."""
    # given
    with WorkerProcess(place, children=1):
        # when
        results = [dmap_async(operator.add, [[number, x] for x in range(3)]) for number in range(10)]
        nested = [oddities.map_from_within.delay(number) for number in range(10)]

        # then
        assert [result.get(timeout=60) for result in results] == [[n, n + 1, n + 2] for n in range(10)]
        inner = [AsyncResult[Any](result.get(timeout=60)) for result in nested]
        assert [result.get(timeout=60) for result in inner] == [[-n, -n] for n in range(10)]


def test_a_map_survives_its_worker(place: Place) -> None:
    # given
    short = {"CELERYD_LEASE": 3}
    tokens = [f"mapped {number}" for number in range(200)]
    with WorkerProcess(place, settings=short) as worker:
        result = dmap_async(tasks.record_and_sleep, [[place.ledger, token, 0.01] for token in tokens])
        eventually(lambda: len(place.executions()) > 20, within=SOON)

        # when
        worker.send(signal.SIGKILL)
        worker.wait()
    done = len(place.executions())
    with WorkerProcess(place, name="second", settings=short):
        # then
        assert done < len(tokens), "the kill came too late"
        assert result.get(timeout=60) == tokens
    counted = place.executions()
    assert set(counted) == set(tokens)
    assert sum(counted.values()) <= len(tokens) + MOST_UNWRITTEN


# Remote calls


def test_a_function_that_is_no_task_is_called(shared: WorkerProcess) -> None:
    # when
    result = execute_remote(ledger.append, shared.place.ledger, "remote call")

    # then
    assert result.get(timeout=SOON) is None
    assert shared.place.executions()["remote call"] == 1
    assert execute_remote(sorted, [3, 1, 2], reverse=True).get(timeout=SOON) == [3, 2, 1]


def test_a_failure_of_the_function_is_raised_here(shared: WorkerProcess) -> None:
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        execute_remote(operator.truediv, 1, 0).get(timeout=SOON)


def test_a_remote_call_in_a_transaction_waits_for_the_commit(shared: WorkerProcess) -> None:
    # when
    with transaction.atomic(using=shared.place.alias):
        kept = execute_remote(operator.add, 1, 2)
    with transaction.atomic(using=shared.place.alias):
        execute_remote(ledger.append, shared.place.ledger, "rolled back call")
        transaction.set_rollback(True, using=shared.place.alias)

    # then
    assert kept.get(timeout=SOON) == 3
    assert not shared.place.was_executed("rolled back call")


def message_sent_by(place: Place, token: str) -> Message:
    """Return the message of a call that writes `token` to the ledger, without sending it."""
    kept: list[Message] = []
    real = broker.current()
    with _instead_of_sending(kept):
        execute_remote(ledger.append, place.ledger, token)
    assert broker.current() is real
    return kept[0]


@contextmanager
def _instead_of_sending(kept: list[Message]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broker.current(), "send", kept.extend)
        yield


def forged(message: Message, **fields: Any) -> Message:
    """Return a message like it, with other fields, as somebody would write it who can write to the queue."""
    body = json.loads(message.body) | fields
    return replace(message, body=json.dumps(body).encode(), task_id=body["id"])


def _forgeries(message: Message, place: Place) -> Mapping[str, Message]:
    name, arguments, seal = json.loads(message.body)["args"]
    plain = message_of(ExecuteRemoteTask, (place.ledger, "forged: no seal"))
    return {
        "other arguments": forged(message, args=[name, arguments.replace("token", "forged"), seal], id="forgery-1"),
        "another function": forged(message, args=["os:_exit", "[[1], {}]", seal], id="forgery-2"),
        "another id": forged(message, id="forgery-3"),
        "a seal of their own": forged(message, args=[name, arguments, "x" * 43], id="forgery-4"),
        "no seal": plain,
    }


@pytest.mark.parametrize(
    "kind", ["other arguments", "another function", "another id", "a seal of their own", "no seal"]
)
def test_a_forged_call_is_dead_at_once_and_logged(shared: WorkerProcess, kind: str) -> None:
    # given
    place = shared.place
    message = _forgeries(message_sent_by(place, f"token of {kind}"), place)[kind]

    # when
    broker.current().send([message])

    # then
    with pytest.raises(UntrustedMessage, match="is not run"):
        AsyncResult[Any](message.task_id).get(timeout=SOON)
    (dead,) = [row for row in place.dead() if row.task_id == message.task_id]
    assert "UntrustedMessage" in dead.reason
    eventually(lambda: shared.said(message.task_id), within=SOON)
    assert not [token for token in place.executions() if "forged" in token or kind in token]


def test_a_verbatim_copy_is_not_run_again(shared: WorkerProcess) -> None:
    # given
    place = shared.place
    message = message_sent_by(place, "original")
    result = AsyncResult[Any](message.task_id)
    broker.current().send([message])
    result.get(timeout=SOON)

    # when
    broker.current().send([message])
    broker.current().send([replace(message, attempt=2)])

    # then
    for _ in range(3):
        assert execute_remote(operator.add, 1, 1).get(timeout=SOON) == 2
    eventually(lambda: place.waiting() == 0 and len(place.messages()) == len(place.dead()), within=SOON)
    assert place.executions()["original"] == 1
    assert message.task_id not in {row.task_id for row in place.dead()}


def test_a_call_is_run_after_the_key_was_replaced_if_the_old_one_is_kept(sqlite_place: Place, settings: Any) -> None:
    # given
    old = settings.SECRET_KEY
    kept = execute_remote(operator.add, 1, 2)

    # when
    with WorkerProcess(sqlite_place, settings={"SECRET_KEY": "a new dummy", "SECRET_KEY_FALLBACKS": [old]}):
        assert kept.get(timeout=SOON) == 3
    lost = execute_remote(operator.add, 1, 2)

    # then
    with WorkerProcess(sqlite_place, name="second", settings={"SECRET_KEY": "a new dummy"}):
        with pytest.raises(UntrustedMessage, match="SECRET_KEY_FALLBACKS may keep the old one"):
            lost.get(timeout=SOON)
        assert [row.task_id for row in sqlite_place.dead()] == [lost.task_id]
