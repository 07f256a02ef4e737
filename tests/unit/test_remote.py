import json
import operator
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError

from celery import states
from celery.backends.base import Result
from celery.exceptions import BrokerUnreachable, InvalidTask, NotInATask, UnsendableArgument, UntrustedMessage
from celery.message import Delivery, Message, pack_headers
from celery.task import AsynchronousMapTask, ExecuteRemoteTask, TaskSet, dmap, dmap_async, execute_remote, tasks
from celery.worker import child, jail, job
from celery.worker.job import Job, Outcome
from tests.memory_backend import MemoryBackend
from tests.unit.conftest import Recorder

calls: list[tuple[Any, ...]] = []


def note(*args: Any, **kwargs: Any) -> int:
    """Remember a call."""
    calls.append((*args, kwargs))
    return len(calls)


def divide(x: float, y: float) -> float:
    return x / y


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


@pytest.fixture(autouse=True)
def default(monkeypatch: pytest.MonkeyPatch) -> MemoryBackend:
    """The backend of the settings."""
    backend = MemoryBackend()
    monkeypatch.setattr("celery.backends.default", lambda: backend)
    return backend


def run(message: Message) -> Outcome:
    """Do what a child does with a message that was due."""
    headers = pack_headers(message)
    delivery = Delivery(message.task_id, message.attempt, message.queue, 0, headers, message.body, row_id=1)
    return child.execute(Job(1, 0, delivery))


def store(backend: MemoryBackend, outcome: Outcome) -> None:
    planned = job.consequences(outcome, worker="w", unknown_patience=0)
    assert planned.result
    backend.store([planned.result])


def changed(message: Message, **fields: Any) -> Message:
    return replace(message, body=json.dumps(json.loads(message.body) | fields).encode())


class TestExecuteRemote:
    def test_a_worker_calls_the_function(self, sent: Recorder) -> None:
        result = execute_remote(note, 1, "two", three=[3])

        outcome = run(sent.message)

        assert (outcome.kind, outcome.result) == (states.DONE, "1")
        assert calls == [(1, "two", {"three": [3]})]
        assert result.task_id == sent.message.task_id
        assert sent.message.task == "celery.execute_remote" == ExecuteRemoteTask.name

    def test_values_arrive_as_arguments_of_tasks_do(self, sent: Recorder) -> None:
        execute_remote(note, datetime(2026, 11, 22, tzinfo=UTC), {"__type__": "date", "__value__": "none"}, b"\0")

        run(sent.message)

        assert calls == [(datetime(2026, 11, 22, tzinfo=UTC), {"__type__": "date", "__value__": "none"}, b"\0", {})]

    def test_an_exception_of_the_function_is_the_failure_of_the_task(self, sent: Recorder) -> None:
        execute_remote(divide, 1, 0)

        outcome = run(sent.message)

        assert (outcome.kind, outcome.error) == (states.FAILURE, "ZeroDivisionError: division by zero")

    def test_what_no_worker_could_find_is_not_sent(self, sent: Recorder) -> None:
        with pytest.raises(InvalidTask, match="a lambda cannot be called remotely"):
            execute_remote(lambda: 1)

        assert sent.batches == []

    def test_arguments_that_cannot_be_sent_are_refused(self, sent: Recorder) -> None:
        with pytest.raises(UnsendableArgument, match="Send plain data"):
            execute_remote(note, object())

    def test_it_is_sent_as_json_whatever_the_serializer(self, sent: Recorder, settings: Any) -> None:
        settings.CELERY_TASK_SERIALIZER = "yaml"

        execute_remote(note, 1)

        assert sent.message.content_type == "application/json"


class TestForgeries:
    """None of them runs; each is dead at once."""

    @pytest.mark.parametrize(
        "number",
        range(5),
        ids=["other arguments", "another function", "another id", "no seal", "the arguments of a plain task"],
    )
    def test_it_is_dead_and_not_run(self, sent: Recorder, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        execute_remote(note, 1)
        name, arguments, seal = json.loads(sent.message.body)["args"]
        forgeries: list[dict[str, Any]] = [
            {"args": [name, arguments.replace("1", "2"), seal]},
            {"args": ["antigravity:geohash", arguments, seal]},
            {"id": "another"},
            {"args": [name, arguments]},
            {"args": [1], "kwargs": {"three": 3}},
        ]
        monkeypatch.setattr("celery.task.callables.import_module", lambda name: pytest.fail(f"it imported {name}"))

        outcome = run(changed(sent.message, **forgeries[number]))

        planned = job.consequences(outcome, worker="w", unknown_patience=0)
        assert (outcome.kind, calls) == (job.UNDECODABLE, [])
        assert planned.message
        assert "UntrustedMessage: " in str(planned.message.reason)

    def test_a_call_of_one_task_is_none_of_another(self, sent: Recorder) -> None:
        execute_remote(note, 1)

        assert run(changed(sent.message, task=AsynchronousMapTask.name)).kind == job.UNDECODABLE

    def test_the_classic_way_around_the_worker_does_not_run_it_either(
        self, sent: Recorder, default: MemoryBackend
    ) -> None:
        execute_remote(note, 1)
        name, arguments, seal = json.loads(sent.message.body)["args"]

        ended = jail("another", tasks["celery.execute_remote"], [name, arguments, seal], {})

        assert isinstance(ended.exception, UntrustedMessage)
        assert calls == []
        assert jail(sent.message.task_id, tasks["celery.execute_remote"], [name, arguments, seal], {}) == 1

    def test_a_key_that_was_replaced_and_not_kept_is_no_key(self, sent: Recorder, settings: Any) -> None:
        execute_remote(note, 1)
        settings.SECRET_KEY = "another key"

        assert run(sent.message).kind == job.UNDECODABLE

    def test_a_key_that_was_replaced_and_kept_will_do(self, sent: Recorder, settings: Any) -> None:
        execute_remote(note, 1)
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = "another key"

        assert run(sent.message).kind == states.DONE

    @pytest.mark.parametrize("state", [states.DONE, states.FAILURE])
    def test_a_verbatim_copy_of_what_is_over_is_not_run(
        self, sent: Recorder, default: MemoryBackend, state: str
    ) -> None:
        execute_remote(note, 1)
        default.store([Result(task_id=sent.message.task_id, state=state)])

        assert run(sent.message).kind == job.CLOSED
        assert calls == []


class TestMaps:
    """A map sends its calls, then comes back until all have ended."""

    def test_its_first_attempt_sends_the_calls(self, sent: Recorder) -> None:
        result = dmap_async(operator.add, [[2, 2], (4, 4)])
        (message,) = sent.messages

        outcome = run(message)

        _, first, second = sent.messages
        assert (outcome.kind, message.task_id) == (states.RETRY, result.task_id)
        assert {first.task, second.task} == {"celery.execute_remote"}
        assert {json.loads(one.body)["taskset"] for one in (first, second)} == {result.task_id}
        assert [run(first).result, run(second).result] == ["4", "8"]

    def test_it_comes_back_without_the_calls(self, sent: Recorder) -> None:
        dmap_async(operator.add, [["x" * 10_000, "y"]])

        following = run(sent.messages[0]).following

        assert following
        assert len(following.body) < 500
        assert following.attempt == 2
        assert run(following).kind == states.RETRY
        assert len(sent.messages) == 2

    def test_when_all_have_ended_its_value_is_theirs_in_the_order_of_the_calls(
        self, sent: Recorder, default: MemoryBackend
    ) -> None:
        dmap_async(operator.sub, [[9, number] for number in range(5)])
        following = run(sent.messages[0]).following
        for message in reversed(sent.messages[1:]):
            store(default, run(message))

        assert following
        outcome = run(following)

        assert (outcome.kind, outcome.result) == (states.DONE, "[9, 8, 7, 6, 5]")

    def test_an_empty_map_ends_at_once(self, sent: Recorder) -> None:
        dmap_async(operator.add, [])

        outcome = run(sent.message)

        assert (outcome.kind, outcome.result) == (states.DONE, "[]")

    def test_the_first_failure_is_its_failure_without_waiting_for_the_rest(
        self, sent: Recorder, default: MemoryBackend
    ) -> None:
        dmap_async(divide, [[1, 1], [2, 0], [3, 1]])
        following = run(sent.messages[0]).following
        store(default, run(sent.messages[2]))

        assert following
        outcome = run(following)

        assert (outcome.kind, outcome.error) == (states.FAILURE, "ZeroDivisionError: division by zero")

    def test_a_failure_of_a_call_that_looks_like_trouble_is_a_failure(
        self, sent: Recorder, default: MemoryBackend
    ) -> None:
        dmap_async(divide, [[1, 1]])
        following = run(sent.messages[0]).following
        default.mark_as_failure(sent.messages[1].task_id, ConnectionError("of the call"))

        assert following
        assert run(following).kind == states.FAILURE

    def test_at_its_deadline_it_says_how_many_are_missing(self, sent: Recorder, default: MemoryBackend) -> None:
        dmap_async(divide, [[1, 1], [2, 1]], timeout=0)

        outcome = run(sent.messages[0])

        assert outcome.kind == states.FAILURE
        assert outcome.error.startswith("TimeoutError: 2 of 2 results of the map")

    def test_it_looks_again_ever_later_and_no_later_than_at_its_deadline(self, sent: Recorder) -> None:
        dmap_async(divide, [[1, 1]], timeout=1000)
        message: Message | None = sent.messages[0]

        pauses = []
        for _ in range(15):
            assert message
            before = datetime.now(UTC)
            message = run(message).following
            assert message
            assert message.visible_at
            pauses.append((message.visible_at - before).total_seconds())

        assert pauses[0] == pytest.approx(0.1, abs=0.09)
        assert pauses[5] > 5 * pauses[0]
        assert max(pauses) == pytest.approx(5, abs=0.5)

    def test_it_does_not_sleep_past_its_deadline(self, sent: Recorder) -> None:
        dmap_async(divide, [[1, 1]], timeout=0.05)

        following = run(sent.messages[0]).following

        assert following
        assert following.visible_at
        assert following.visible_at <= datetime.now(UTC) + timedelta(seconds=0.05)

    def test_sending_twice_sends_the_same_ids(self, sent: Recorder) -> None:
        dmap_async(operator.add, [[2, 2], [4, 4]])
        (message,) = sent.messages

        run(message)
        run(message)

        _, *both = [one.task_id for one in sent.messages]
        assert both[:2] == both[2:]
        assert len(set(both)) == 2

    def test_while_the_broker_is_away_it_comes_back_with_the_calls(
        self, sent: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dmap_async(operator.add, [[2, 2]])
        (message,) = sent.messages
        with monkeypatch.context() as patch:
            patch.setattr(sent, "send", _raise(BrokerUnreachable("gone")))
            outcome = run(message)

        assert (outcome.kind, outcome.error) == (states.RETRY, "BrokerUnreachable: gone")
        assert outcome.following
        run(outcome.following)
        assert len(sent.messages) == 2

    def test_while_the_backend_is_away_it_comes_back(
        self, sent: Recorder, default: MemoryBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dmap_async(operator.add, [[2, 2]])
        following = run(sent.messages[0]).following
        assert following
        monkeypatch.setattr(default, "ready_results", _raise(OperationalError("gone")))

        outcome = run(following)

        assert (outcome.kind, outcome.error) == (states.RETRY, "OperationalError: gone")

    def test_trouble_past_its_deadline_is_not_asked_without_a_pause(
        self, sent: Recorder, default: MemoryBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dmap_async(operator.add, [[2, 2]], timeout=-1)
        monkeypatch.setattr(default, "ready_results", _raise(OperationalError("gone")))
        before = datetime.now(UTC)

        following = run(sent.messages[0]).following

        assert following
        assert following.visible_at
        assert following.visible_at >= before + timedelta(seconds=0.1)

    @pytest.mark.parametrize("by_hand", [AsynchronousMapTask(), ExecuteRemoteTask()])
    def test_by_hand_it_does_not_run(self, by_hand: Any) -> None:
        with pytest.raises(NotInATask):
            by_hand("_operator:add", "[[], null]", "")

    @pytest.mark.parametrize("send", [dmap, dmap_async, TaskSet.map, TaskSet.map_async, TaskSet.remote_execute])
    def test_what_is_no_list_of_arguments_is_refused_with_its_number(self, sent: Recorder, send: Any) -> None:
        with pytest.raises(TypeError, match="call 2 is a list of arguments"):
            send(operator.neg, [[1], 2])

        assert sent.batches == []

    @pytest.mark.parametrize("send", [dmap, dmap_async, TaskSet.map, TaskSet.map_async, TaskSet.remote_execute])
    def test_what_no_worker_could_find_is_not_sent(self, sent: Recorder, send: Any) -> None:
        with pytest.raises(InvalidTask, match="a lambda"):
            send(lambda x: x, [[1], [2]])

        assert sent.batches == []


class TestMapsOfASet:
    @pytest.mark.parametrize("mapped", [dmap, TaskSet.map])
    def test_a_map_waits_for_its_values(self, sent: Recorder, default: MemoryBackend, mapped: Any) -> None:
        _answer(sent, default)

        assert mapped(operator.add, [[2, 2], [4, 4], [8, 8]], timeout=5) == [4, 8, 16]

    def test_remote_execute_is_a_map_to_wait_for_later(self, sent: Recorder, default: MemoryBackend) -> None:
        _answer(sent, default)

        results = TaskSet.remote_execute(operator.add, [[2, 2], [4, 4]])

        assert results.total == 2
        assert results.join() == [4, 8]

    def test_a_generator_of_arguments_will_do(self, sent: Recorder, default: MemoryBackend) -> None:
        _answer(sent, default)

        assert dmap(operator.neg, ([number] for number in range(3))) == [0, -1, -2]

    def test_map_async_is_dmap_async(self, sent: Recorder) -> None:
        TaskSet.map_async(operator.add, [[2, 2]])

        assert sent.message.task == "celery.map_async"


def _answer(sent: Recorder, backend: MemoryBackend) -> None:
    """Run each message as it is sent."""

    def send(messages: Sequence[Message]) -> None:
        for message in messages:
            store(backend, run(message))

    sent.send = send  # type: ignore[method-assign]


def _raise(error: Exception) -> Any:
    def fail(*_: Any) -> None:
        raise error

    return fail
