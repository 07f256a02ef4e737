import asyncio
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import transaction

from celery import states
from celery.backends.base import LARGEST_ROUND, Result
from celery.current import Running, running
from celery.exceptions import UnpickleableExceptionWrapper, WouldWaitForever
from celery.result import AsyncResult, BaseAsyncResult, OpenTransaction, TaskSetResult
from celery.timer import TimeoutError as ResultTimeoutError
from tests.memory_backend import MemoryBackend


class Clock(SimpleNamespace):
    """Stands for the module `time`: sleeping takes no time, and `meanwhile` happens instead."""

    def __init__(self) -> None:
        super().__init__(now=0.0)
        self.pauses: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        return float(self.now)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        self.meanwhile()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time that waiting knows."""
    found = Clock()
    monkeypatch.setattr("celery.backends.base.time", found)
    return found


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def result(backend: MemoryBackend) -> BaseAsyncResult[Any]:
    """The result of a task that has not run yet."""
    return BaseAsyncResult("0b8a", backend)


@pytest.fixture
def _inside_a_task() -> Iterator[None]:
    token = running.set(Running("shop.outer", "7", 1))
    yield
    running.reset(token)


class TestGetting:
    def test_the_value_is_returned(self, result: BaseAsyncResult[Any], backend: MemoryBackend) -> None:
        backend.mark_as_done("0b8a", {"sum": 4})

        assert result.get() == result.wait() == {"sum": 4}

    def test_the_exception_of_the_task_is_raised(self, result: BaseAsyncResult[Any], backend: MemoryBackend) -> None:
        backend.mark_as_failure("0b8a", KeyError("door"))

        with pytest.raises(KeyError, match="door"):
            result.get()

    @pytest.mark.parametrize("call", [lambda result: result.get(timeout=0), lambda result: result.wait(0)])
    def test_with_a_timeout_of_0_it_does_not_wait_at_all(
        self, result: BaseAsyncResult[Any], monkeypatch: pytest.MonkeyPatch, call: Callable[[Any], object]
    ) -> None:
        monkeypatch.setattr("celery.backends.base.time.sleep", lambda _: pytest.fail("it slept"))

        with pytest.raises(ResultTimeoutError, match="no result of task 0b8a within 0 seconds"):
            call(result)

    def test_the_timeout_is_one_of_python_too(self, result: BaseAsyncResult[Any]) -> None:
        with pytest.raises(TimeoutError):
            result.get(timeout=0)

    def test_it_waits_for_what_arrives_meanwhile(
        self, result: BaseAsyncResult[Any], backend: MemoryBackend, clock: Clock
    ) -> None:
        clock.meanwhile = lambda: backend.mark_as_done("0b8a", 4) if len(clock.pauses) == 40 else None

        assert result.get() == 4
        assert clock.pauses[0] == pytest.approx(0.0005)
        assert clock.pauses == sorted(clock.pauses)
        assert clock.pauses[-1] == pytest.approx(0.05)

    def test_a_retry_is_waited_past(self, result: BaseAsyncResult[Any], backend: MemoryBackend) -> None:
        backend.mark_as_retry("0b8a", OSError("away"))

        with pytest.raises(ResultTimeoutError):
            result.get(timeout=0)


class TestRefusals:
    """Each is a wait that could never end."""

    def test_a_result_that_is_ignored(self, backend: MemoryBackend) -> None:
        with pytest.raises(WouldWaitForever, match="its task says ignore_result"):
            BaseAsyncResult("0b8a", backend, ignored=True).get(timeout=1)

    def test_the_failure_of_a_task_with_ignored_results_is_stored_and_so_raised(self, backend: MemoryBackend) -> None:
        backend.mark_as_failure("0b8a", KeyError("door"))

        with pytest.raises(KeyError):
            BaseAsyncResult("0b8a", backend, ignored=True).get()

    @pytest.mark.usefixtures("_inside_a_task")
    def test_inside_a_task(self, result: BaseAsyncResult[Any]) -> None:
        with pytest.raises(WouldWaitForever, match=r"this is itself a task.*Say inside_task=True"):
            result.get(timeout=1)

    @pytest.mark.usefixtures("_inside_a_task")
    def test_inside_a_task_it_may_be_allowed(self, result: BaseAsyncResult[Any]) -> None:
        with pytest.raises(ResultTimeoutError):
            result.get(timeout=0, inside_task=True)

    @pytest.mark.usefixtures("_inside_a_task")
    def test_inside_a_task_a_result_that_is_there_is_returned(
        self, result: BaseAsyncResult[Any], backend: MemoryBackend
    ) -> None:
        backend.mark_as_done("0b8a", 4)

        assert result.get() == 4

    def test_where_the_backend_refuses(self, result: BaseAsyncResult[Any], backend: MemoryBackend) -> None:
        backend.refuses = "the moon is full"

        with pytest.raises(WouldWaitForever, match="0b8a cannot be waited for: the moon is full"):
            result.get(timeout=1)

    @pytest.mark.django_db(transaction=True)
    def test_inside_the_transaction_that_sent_it(self, backend: MemoryBackend) -> None:
        with transaction.atomic():
            result: BaseAsyncResult[Any] = BaseAsyncResult("0b8a", backend, sent_in=OpenTransaction("default"))
            with pytest.raises(
                WouldWaitForever, match=r"inside a transaction that is still open here.*Wait after the commit"
            ):
                result.get(timeout=1)

        with pytest.raises(ResultTimeoutError):
            result.get(timeout=0)

    @pytest.mark.django_db(transaction=True)
    def test_another_transaction_than_the_one_that_sent_it_does_not_matter(self, backend: MemoryBackend) -> None:
        with transaction.atomic():
            result: BaseAsyncResult[Any] = BaseAsyncResult("0b8a", backend, sent_in=OpenTransaction("default"))

        with transaction.atomic(), pytest.raises(ResultTimeoutError):
            result.get(timeout=0)

    @pytest.mark.django_db(transaction=True)
    def test_a_savepoint_that_was_rolled_back_will_never_send_it(self, backend: MemoryBackend) -> None:
        with transaction.atomic():
            with transaction.atomic():
                result: BaseAsyncResult[Any] = BaseAsyncResult("0b8a", backend, sent_in=OpenTransaction("default"))
                transaction.set_rollback(True)

            with pytest.raises((WouldWaitForever, ResultTimeoutError)):
                result.get(timeout=0)


class TestAsking:
    def test_nothing_known_is_pending(self, result: BaseAsyncResult[Any]) -> None:
        assert (result.status, result.result) == (states.PENDING, None)
        assert (result.ready(), result.successful(), result.is_done()) == (False, False, False)

    def test_a_value(self, result: BaseAsyncResult[Any], backend: MemoryBackend) -> None:
        backend.mark_as_done("0b8a", 4)

        assert (result.status, result.result) == (states.DONE, 4)
        assert (result.ready(), result.successful(), result.is_done()) == (True, True, True)

    def test_a_failure(self, result: BaseAsyncResult[Any], backend: MemoryBackend) -> None:
        backend.mark_as_failure("0b8a", KeyError("door"))

        assert (result.status, repr(result.result)) == (states.FAILURE, "KeyError('door')")
        assert (result.ready(), result.successful(), result.is_done()) == (True, False, False)

    def test_a_retry(self, result: BaseAsyncResult[Any], backend: MemoryBackend) -> None:
        backend.mark_as_retry("0b8a", OSError("away"))

        assert (result.status, str(result.result)) == (states.RETRY, "away")
        assert (result.ready(), result.successful(), result.is_done()) == (False, False, False)

    def test_an_exception_that_is_unknown_here_has_a_stand_in(
        self, result: BaseAsyncResult[Any], backend: MemoryBackend
    ) -> None:
        text = '{"module": "elsewhere", "class": "Unpayable", "args": ["order 7"]}'
        backend.store([Result(task_id="0b8a", state=states.FAILURE, result=text)])

        with pytest.raises(UnpickleableExceptionWrapper, match="order 7"):
            result.get()


class TestItself:
    def test_its_text_is_the_id(self, result: BaseAsyncResult[Any]) -> None:
        assert str(result) == "0b8a"

    def test_its_repr_names_class_and_id(self, result: BaseAsyncResult[Any]) -> None:
        assert repr(result) == "<BaseAsyncResult: 0b8a>"
        assert repr(AsyncResult("0b8a")) == "<AsyncResult: 0b8a>"

    def test_two_with_the_same_id_are_equal(self, result: BaseAsyncResult[Any]) -> None:
        assert result == AsyncResult("0b8a")
        assert len({result, AsyncResult("0b8a")}) == 1

    def test_two_with_other_ids_are_not(self, result: BaseAsyncResult[Any]) -> None:
        assert result != AsyncResult("7")
        assert result != "0b8a"

    def test_making_one_asks_nobody(self) -> None:
        async def view() -> str:
            return AsyncResult("0b8a").task_id

        assert asyncio.run(view()) == "0b8a"


# Task sets


@pytest.fixture
def default(backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch) -> MemoryBackend:
    """The backend of the settings."""
    monkeypatch.setattr("celery.backends.default", lambda: backend)
    return backend


@pytest.fixture
def three(default: MemoryBackend) -> TaskSetResult[Any]:
    """The results of a set of three subtasks, none of which has run yet."""
    return TaskSetResult("5e7", ["a", "b", "c"])


def claims(results: TaskSetResult[Any]) -> tuple[bool, bool, bool, bool, int]:
    return (
        results.ready(),
        results.waiting(),
        results.successful(),
        results.failed(),
        results.completed_count(),
    )


class TestTaskSet:
    def test_it_knows_its_subtasks(self, three: TaskSetResult[Any]) -> None:
        assert (three.taskset_id, three.subtask_ids, three.total) == ("5e7", ["a", "b", "c"], 3)
        assert three.subtasks == [*three.itersubtasks()] == [AsyncResult("a"), AsyncResult("b"), AsyncResult("c")]

    def test_its_repr_names_class_and_id(self, three: TaskSetResult[Any]) -> None:
        assert repr(three) == "<TaskSetResult: 5e7>"

    def test_nothing_has_ended(self, three: TaskSetResult[Any]) -> None:
        assert claims(three) == (False, True, False, False, 0)

    def test_some_have_ended(self, three: TaskSetResult[Any], default: MemoryBackend) -> None:
        default.mark_as_done("b", 1)

        assert claims(three) == (False, True, False, False, 1)

    def test_a_retry_is_neither_an_end_nor_a_failure(self, three: TaskSetResult[Any], default: MemoryBackend) -> None:
        default.mark_as_retry("b", OSError("away"))

        assert claims(three) == (False, True, False, False, 0)

    def test_one_has_failed(self, three: TaskSetResult[Any], default: MemoryBackend) -> None:
        default.mark_as_failure("b", KeyError("door"))

        assert claims(three) == (False, True, False, True, 0)

    def test_all_have_ended_and_one_has_failed(self, three: TaskSetResult[Any], default: MemoryBackend) -> None:
        default.mark_as_done("a", 1)
        default.mark_as_failure("b", KeyError("door"))
        default.mark_as_done("c", 3)

        assert claims(three) == (True, False, False, True, 2)

    def test_all_are_done(self, three: TaskSetResult[Any], default: MemoryBackend) -> None:
        for task_id in "abc":
            default.mark_as_done(task_id, task_id)

        assert claims(three) == (True, False, True, False, 3)

    @pytest.mark.usefixtures("default")
    def test_an_empty_set_is_done(self) -> None:
        nothing: TaskSetResult[Any] = TaskSetResult("5e7", [])

        assert claims(nothing) == (True, False, True, False, 0)
        assert nothing.join() == list(nothing) == []

    def test_what_has_ended_is_not_asked_for_again(self, three: TaskSetResult[Any], default: MemoryBackend) -> None:
        default.mark_as_done("b", 1)

        three.ready()
        three.ready()

        assert default.asked == [["a", "b", "c"], ["a", "c"]]

    def test_all_subtasks_are_one_query(self, default: MemoryBackend) -> None:
        many: TaskSetResult[Any] = TaskSetResult("5e7", map(str, range(10_000)))

        many.completed_count()

        assert len(default.asked) == 1


class TestJoining:
    def test_values_come_in_the_order_of_the_calls(self, three: TaskSetResult[Any], default: MemoryBackend) -> None:
        for task_id in "cba":
            default.mark_as_done(task_id, f"value of {task_id}")

        assert three.join() == ["value of a", "value of b", "value of c"]

    def test_a_call_that_is_named_twice_has_its_value_twice(self, default: MemoryBackend) -> None:
        default.mark_as_done("a", 1)

        assert TaskSetResult[Any]("5e7", ["a", "a"]).join() == [1, 1]

    def test_it_waits_for_what_arrives_meanwhile(
        self, three: TaskSetResult[Any], default: MemoryBackend, clock: Clock
    ) -> None:
        clock.meanwhile = lambda: default.mark_as_done("cab"[len(clock.pauses) - 1], len(clock.pauses))

        assert three.join() == [2, 3, 1]

    def test_the_first_exception_is_raised_without_waiting_for_the_rest(
        self, three: TaskSetResult[Any], default: MemoryBackend, clock: Clock
    ) -> None:
        clock.meanwhile = lambda: default.mark_as_failure("c", KeyError("door"))

        with pytest.raises(KeyError, match="door"):
            three.join()

    def test_when_the_time_is_up_it_says_how_many_are_missing(
        self, three: TaskSetResult[Any], default: MemoryBackend, clock: Clock
    ) -> None:
        clock.meanwhile = lambda: default.mark_as_done("b", 1)

        with pytest.raises(ResultTimeoutError, match=r"2 of 3 results of task set 5e7 are missing after 2\.5 s"):
            three.join(timeout=2.5)

        assert sum(clock.pauses) == pytest.approx(2.5)

    def test_with_a_timeout_of_0_it_does_not_wait_at_all(self, three: TaskSetResult[Any], clock: Clock) -> None:
        with pytest.raises(ResultTimeoutError):
            three.join(timeout=0)

        assert clock.pauses == []

    def test_with_a_timeout_of_0_a_large_set_that_has_ended_is_returned(self, default: MemoryBackend) -> None:
        ids = [str(number) for number in range(5000)]
        default.store([Result(task_id=task_id, state=states.DONE, result=task_id) for task_id in ids])

        assert TaskSetResult[Any]("5e7", ids).join(timeout=0) == list(range(5000))

    def test_a_slow_backend_is_asked_half_of_the_time_at_most(
        self, three: TaskSetResult[Any], default: MemoryBackend, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fetch = default.fetch

        def slow(task_ids: Sequence[str]) -> dict[str, Result]:
            clock.now += 0.4
            return fetch(task_ids)

        monkeypatch.setattr(default, "fetch", slow)

        with pytest.raises(ResultTimeoutError):
            three.join(timeout=20)

        assert sum(clock.pauses) >= 20 / 2 - 0.5

    def test_a_round_asks_for_no_more_than_a_thousand(self, default: MemoryBackend, clock: Clock) -> None:
        many: TaskSetResult[Any] = TaskSetResult("5e7", map(str, range(10_000)))

        with pytest.raises(ResultTimeoutError):
            many.join(timeout=60)

        first, *rounds, last = default.asked
        assert len(first) == len(last) == 10_000
        assert {len(task_ids) for task_ids in rounds} <= set(range(LARGEST_ROUND // 2, LARGEST_ROUND + 1))
        assert len(rounds) > 100

    def test_within_a_few_rounds_each_subtask_is_asked_for(self, default: MemoryBackend, clock: Clock) -> None:
        many: TaskSetResult[Any] = TaskSetResult("5e7", map(str, range(10_000)))
        clock.meanwhile = lambda: default.mark_as_failure("9999", KeyError("door"))

        with pytest.raises(KeyError):
            many.join()

        assert len(clock.pauses) <= 10_000 / (LARGEST_ROUND / 2)

    def test_full_rounds_follow_each_other_at_once(self, default: MemoryBackend, clock: Clock) -> None:
        ids = [str(number) for number in range(10_000)]
        clock.meanwhile = lambda: default.store([Result(task_id=task_id, state=states.DONE) for task_id in ids])

        TaskSetResult[Any]("5e7", ids).join()

        assert len(clock.pauses) == 1


class TestIterating:
    def test_values_come_as_they_arrive(self, three: TaskSetResult[Any], default: MemoryBackend, clock: Clock) -> None:
        clock.meanwhile = lambda: default.mark_as_done("cab"[len(clock.pauses) - 1], len(clock.pauses))

        assert list(three.iterate()) == [1, 2, 3]
        assert list(three.iter()) == list(three) == [1, 2, 3]

    def test_values_that_are_there_come_before_the_wait(
        self, three: TaskSetResult[Any], default: MemoryBackend, clock: Clock
    ) -> None:
        default.mark_as_done("b", 1)

        assert next(three.iterate()) == 1
        assert clock.pauses == []

    def test_the_exception_is_raised_when_its_turn_comes(
        self, three: TaskSetResult[Any], default: MemoryBackend
    ) -> None:
        default.mark_as_done("a", 1)
        default.mark_as_failure("b", KeyError("door"))
        values = three.iterate()

        assert next(values) == 1
        with pytest.raises(KeyError, match="door"):
            next(values)

    def test_when_the_time_is_up_it_says_so(self, three: TaskSetResult[Any], clock: Clock) -> None:
        with pytest.raises(ResultTimeoutError, match="3 of 3"):
            list(three.iterate(timeout=1))


class TestRefusalsOfSets:
    def test_results_that_are_ignored(self, default: MemoryBackend) -> None:
        with pytest.raises(WouldWaitForever, match=r"results of task set 5e7 cannot be waited for: .*ignore_result"):
            TaskSetResult[Any]("5e7", ["a"], ignored=True).join(timeout=1)

    @pytest.mark.usefixtures("_inside_a_task")
    def test_inside_a_task(self, three: TaskSetResult[Any]) -> None:
        with pytest.raises(WouldWaitForever, match="this is itself a task"):
            three.join(timeout=1)
        with pytest.raises(WouldWaitForever, match="this is itself a task"):
            next(three.iterate(timeout=1))

    @pytest.mark.usefixtures("_inside_a_task")
    def test_inside_a_task_it_may_be_allowed(self, three: TaskSetResult[Any]) -> None:
        with pytest.raises(ResultTimeoutError):
            three.join(timeout=0, inside_task=True)

    @pytest.mark.usefixtures("_inside_a_task")
    def test_inside_a_task_results_that_are_there_are_returned(
        self, three: TaskSetResult[Any], default: MemoryBackend
    ) -> None:
        for task_id in "abc":
            default.mark_as_done(task_id, task_id)

        assert three.join() == list(three) == ["a", "b", "c"]

    def test_where_the_backend_refuses(self, three: TaskSetResult[Any], default: MemoryBackend) -> None:
        default.refuses = "the moon is full"

        with pytest.raises(WouldWaitForever, match="the moon is full"):
            three.join(timeout=1)

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.usefixtures("default")
    def test_inside_the_transaction_that_sent_it(self) -> None:
        with transaction.atomic():
            results: TaskSetResult[Any] = TaskSetResult("5e7", ["a"], sent_in=OpenTransaction("default"))
            with pytest.raises(WouldWaitForever, match="inside a transaction that is still open here"):
                results.join(timeout=1)

        with pytest.raises(ResultTimeoutError):
            results.join(timeout=0)
