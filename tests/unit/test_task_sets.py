from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction

from celery.current import Running, running
from celery.exceptions import BrokerUnreachable, InvalidTask, NotRegistered, UnsendableArgument, WouldWaitForever
from celery.message import Call, Message, decode
from celery.result import TaskSetResult
from celery.task import TaskSet, dmap, dmap_async, task, tasks
from celery.task.sending import BATCH
from tests.memory_backend import MemoryBackend
from tests.shop import tasks as shop
from tests.unit.conftest import Recorder


@pytest.fixture(autouse=True)
def default(monkeypatch: pytest.MonkeyPatch) -> MemoryBackend:
    """The backend of the settings."""
    backend = MemoryBackend()
    monkeypatch.setattr("celery.backends.default", lambda: backend)
    return backend


@pytest.fixture
def _inside_a_task() -> Iterator[None]:
    token = running.set(Running("shop.outer", "7", 1))
    yield
    running.reset(token)


def call_of(message: Message) -> Call:
    return decode(message.body, content_type=message.content_type, content_encoding="utf-8", headers={})


def plain(x: int, y: int) -> int:
    return x + y


def never_registered(x: int, y: int) -> int:
    return x + y


class TestItself:
    @pytest.mark.parametrize(
        "known_as",
        [shop.add, "shop.add", shop.Multiply, shop.Multiply()],
        ids=["function", "name", "class", "instance"],
    )
    def test_the_task_is_anything_that_has_a_name(self, known_as: Any, sent: Recorder) -> None:
        calls: TaskSet[Any] = TaskSet(known_as, [[[1, 2], {}]])

        calls.run()

        assert calls.task_name == sent.message.task == call_of(sent.message).task
        assert calls.task_name in {"shop.add", "shop.multiply"}

    def test_a_plain_function_that_was_registered_will_do(self, sent: Recorder) -> None:
        tasks.register(plain, "shop.plain")

        TaskSet(plain, [[[1, 2]]]).run()

        assert sent.message.task == "shop.plain"

    def test_a_name_that_nobody_registered_is_refused(self) -> None:
        with pytest.raises(NotRegistered, match=r"no task named 'shop\.gone'"):
            TaskSet("shop.gone", [])

    def test_a_function_that_is_no_task_is_refused(self) -> None:
        with pytest.raises(InvalidTask, match="has no task name"):
            TaskSet(never_registered, [[[1, 2]]]).run()

    def test_it_keeps_its_calls(self) -> None:
        calls = TaskSet(shop.add, ([[number, 1], {}] for number in range(3)))

        assert calls.arguments == [[[0, 1], {}], [[1, 1], {}], [[2, 1], {}]]
        assert calls.total == 3

    @pytest.mark.parametrize(
        "item", [[1, 2], "ab", ["ab"], [[1], {}, 3], [], [[1], [2]], {}, 7, None, [{"x": 1}]], ids=repr
    )
    def test_a_call_of_another_form_is_refused_with_its_number(self, item: Any) -> None:
        with pytest.raises(TypeError, match=r"call 2 of a task set of shop.add is \[args, kwargs\]"):
            TaskSet(shop.add, [[[1, 2], {}], item])


class TestRunning:
    def test_each_call_is_a_message_of_the_set(self, sent: Recorder) -> None:
        results = TaskSet(shop.add, [[[4, 2], {}], [[9], {"y": 3}], ((5, 6),)]).run()

        assert results.subtask_ids == [message.task_id for message in sent.messages]
        calls = [call_of(message) for message in sent.messages]
        assert [(call.args, call.kwargs) for call in calls] == [([4, 2], {}), ([9], {"y": 3}), ([5, 6], {})]
        assert {call.taskset for call in calls} == {results.taskset_id}

    def test_each_run_is_a_set_of_its_own(self, sent: Recorder) -> None:
        calls = TaskSet(shop.add, [[[4, 2]]])

        first, second = calls.run(), calls.run()

        assert first.taskset_id != second.taskset_id
        assert first.subtask_ids != second.subtask_ids

    def test_they_are_sent_in_batches(self, sent: Recorder) -> None:
        results = TaskSet(shop.add, [[[number, 1]] for number in range(2 * BATCH + 1)]).run()

        assert [len(batch) for batch in sent.batches] == [BATCH, BATCH, 1]
        assert results.total == 2 * BATCH + 1

    def test_options_of_the_task_hold(self, sent: Recorder) -> None:
        urgent = task(name="shop.urgent", queue="mail", priority=7, ignore_result=True)(plain)

        results = TaskSet(urgent, [[[1, 2]]]).run()

        assert (sent.message.queue, sent.message.priority) == ("mail", 7)
        assert results.ignored
        assert results.subtasks[0].ignored

    def test_an_empty_set_sends_nothing_and_is_done(self, sent: Recorder) -> None:
        nothing: TaskSet[int] = TaskSet(shop.add, [])

        assert (nothing.total, nothing.run().total, nothing.join(), list(nothing.iterate())) == (0, 0, [], [])
        assert sent.batches == []

    def test_a_batch_that_fails_says_how_many_were_sent(self, sent: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("celery.task.batches.BATCH", 2)
        keep = sent.send

        def send(messages: list[Message]) -> str | None:
            if len(sent.batches) == 2:
                raise BrokerUnreachable("gone")
            return keep(messages)

        monkeypatch.setattr(sent, "send", send)

        with pytest.raises(BrokerUnreachable, match="gone") as caught:
            TaskSet(shop.add, [[[number, 1]] for number in range(5)]).run()

        (note,) = caught.value.__notes__
        assert note.startswith("Of the 5 subtasks of task set ")
        assert note.endswith("the first 4 were sent.")

    def test_an_argument_that_cannot_be_sent_says_so_too(self, sent: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("celery.task.batches.BATCH", 2)

        with pytest.raises(UnsendableArgument, match=r"argument 2 of shop\.add") as caught:
            TaskSet(shop.add, [[[1, 1]], [[2, 2]], [[3, 3]], [[4, object()]]]).run()

        assert caught.value.__notes__[0].endswith("the first 2 were sent.")
        assert len(sent.messages) == 2


class TestWaiting:
    @pytest.mark.django_db(transaction=True)
    def test_it_knows_the_transaction_that_it_was_sent_in(
        self, sent: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sent, "send", lambda _: "default")

        with transaction.atomic():
            results = TaskSet(shop.add, [[[1, 2]]]).run()
            with pytest.raises(WouldWaitForever, match="transaction that is still open"):
                results.join()

    def test_joining_sends_and_waits(self, sent: Recorder, default: MemoryBackend) -> None:
        _answer(sent, default)

        assert TaskSet(shop.add, [[[1, 2]], [[3, 4]]]).join(timeout=1) == [3, 7]

    def test_iterating_sends_and_waits(self, sent: Recorder, default: MemoryBackend) -> None:
        _answer(sent, default)

        assert sorted(TaskSet(shop.add, [[[1, 2]], [[3, 4]]]).iterate(timeout=1)) == [3, 7]

    @pytest.mark.usefixtures("_inside_a_task")
    @pytest.mark.parametrize("name", ["join", "iterate"])
    def test_inside_a_task_nothing_is_sent_to_be_waited_for(self, sent: Recorder, name: str) -> None:
        with pytest.raises(WouldWaitForever, match=r"shop.add was not sent.*this is itself a task"):
            getattr(TaskSet(shop.add, [[[1, 2]]]), name)()

        assert sent.batches == []

    def test_what_is_ignored_is_not_sent_to_be_waited_for(self, sent: Recorder) -> None:
        quiet = task(name="shop.quiet", ignore_result=True)(plain)

        with pytest.raises(WouldWaitForever, match="ignore_result"):
            TaskSet(quiet, [[[1, 2]]]).join()

        assert sent.batches == []

    @pytest.mark.usefixtures("_inside_a_task")
    def test_inside_a_task_a_map_is_sent_only_if_nobody_waits_for_it(self, sent: Recorder) -> None:
        with pytest.raises(WouldWaitForever):
            dmap(plain, [[1, 2]])
        assert sent.batches == []

        dmap_async(plain, [[1, 2]])
        assert len(sent.messages) == 1


def _answer(sent: Recorder, backend: MemoryBackend) -> None:
    """Run each message as it is sent."""

    def send(messages: list[Message]) -> None:
        for message in messages:
            backend.mark_as_done(message.task_id, sum(call_of(message).args))

    sent.send = send  # type: ignore[method-assign, assignment]


def test_a_set_is_the_result_of_running_it(sent: Recorder) -> None:
    assert isinstance(TaskSet(shop.add, [[[1, 2]]]).run(), TaskSetResult)
