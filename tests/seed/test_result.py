"""celery.result: what is to come of a task, and of a set of tasks."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from celery import backends, states
from celery.backends.base import Result
from celery.result import AsyncResult, BaseAsyncResult, TaskSetResult
from celery.task import Task, tasks
from celery.testing import Worker
from celery.timer import TimeoutError as CeleryTimeoutError
from tests.memory_backend import MemoryBackend
from tests.seed.table import rows_of

pytestmark = pytest.mark.django_db

row = rows_of("celery.result")


class Divide(Task):
    name = "seed.divide"

    def run(self, x: float, y: float) -> float:
        return x / y


class TryForEver(Task):
    name = "seed.try_for_ever"
    max_retries = 1

    def run(self) -> None:
        self.retry(exc=ConnectionError("nobody answers"))


@pytest.fixture(autouse=True)
def _tasks() -> None:
    tasks.register(Divide)
    tasks.register(TryForEver)


# -- one task


@row("AsyncResult", "AsyncResult.task_id", "AsyncResult.backend", "BaseAsyncResult.__str__", "BaseAsyncResult.__repr__")
def test_a_result_is_its_id_at_the_default_backend(bench: Worker) -> None:
    result: AsyncResult[Any] = AsyncResult(Divide.delay(6, 3).task_id)
    bench.run()

    assert result.get() == 2
    assert isinstance(result.backend, backends.DefaultBackend)
    assert str(result) == result.task_id
    assert repr(result) == f"<AsyncResult: {result.task_id}>"
    assert (result.__str__(), result.__repr__()) == (str(result), repr(result))


@row("BaseAsyncResult", "BaseAsyncResult.task_id", "BaseAsyncResult.backend")
def test_a_result_may_be_that_of_another_backend() -> None:
    # given
    mine = MemoryBackend()
    mine.mark_as_done("x", [1, None])

    # when
    result: BaseAsyncResult[Any] = BaseAsyncResult("x", mine)

    # then
    assert (result.task_id, result.backend) == ("x", mine)
    assert result.get() == [1, None]
    assert AsyncResult[Any]("x").status == states.PENDING


@row("status PENDING", "BaseAsyncResult.status", "BaseAsyncResult.result")
def test_a_task_that_waits_is_pending_and_has_no_result(bench: Worker) -> None:
    result = Divide.delay(6, 3)

    assert (result.status, result.result) == ("PENDING", None)
    assert not result.ready()
    assert not result.successful()


@row("status DONE", "BaseAsyncResult.is_done", "BaseAsyncResult.successful")
def test_a_task_that_succeeded_is_done_and_has_its_value(bench: Worker) -> None:
    result = Divide.delay(6, 3)
    bench.run()

    assert (result.status, result.result) == ("DONE", 2)
    assert result.is_done()
    assert result.successful()


@row("status FAILURE", "BaseAsyncResult.is_done")
def test_a_task_that_raised_is_a_failure_and_has_its_exception(bench: Worker) -> None:
    result = Divide.delay(6, 0)
    bench.run()

    assert result.status == "FAILURE"
    assert isinstance(result.result, ZeroDivisionError)
    assert not result.is_done()
    assert not result.successful()


@row("status FAILURE", "status RETRY")
def test_a_task_waits_for_its_retries_and_fails_with_the_last_of_them(bench: Worker) -> None:
    result = TryForEver.delay()

    bench.run()
    assert result.status == "RETRY"

    bench.run_scheduled()
    assert result.status == "FAILURE"
    assert str(result.result) == "nobody answers"


@row("BaseAsyncResult.ready", "fix: ready was always true")
def test_only_what_has_ended_is_ready(bench: Worker) -> None:
    done, failed, retried, waiting = Divide.delay(6, 3), Divide.delay(6, 0), TryForEver.delay(), Divide
    bench.run()
    pending = waiting.delay(1, 1)

    assert [result.ready() for result in (done, failed, retried, pending)] == [True, True, False, False]
    assert retried.status == states.RETRY


@row("BaseAsyncResult.wait", "BaseAsyncResult.get")
def test_waiting_ends_with_the_value_or_the_exception_of_the_task(bench: Worker) -> None:
    done, failed = Divide.delay(6, 3), Divide.delay(6, 0)
    bench.run()

    assert done.wait() == done.get() == 2
    for wait in (failed.wait, failed.get):
        with pytest.raises(ZeroDivisionError, match="division by zero"):
            wait()


@row("BaseAsyncResult.wait")
@pytest.mark.parametrize("timeout", [0, 0.01])
def test_waiting_ends_when_the_time_is_up(bench: Worker, timeout: float) -> None:
    result: BaseAsyncResult[Any] = BaseAsyncResult("nobody's", MemoryBackend())

    with pytest.raises(CeleryTimeoutError):
        result.wait(timeout=timeout)


# -- a set of tasks


def ended(bench: Worker, *divisors: int) -> TaskSetResult[Any]:
    """Return the results of a set that has ended: six divided by each."""
    ids = [Divide.delay(6, divisor).task_id for divisor in divisors]
    bench.run()
    return TaskSetResult("set", ids)


@row("TaskSetResult", "TaskSetResult.taskset_id", "TaskSetResult.subtask_ids", "TaskSetResult.total")
@row("TaskSetResult.subtasks", "TaskSetResult.itersubtasks")
def test_a_set_has_a_result_for_each_subtask(bench: Worker) -> None:
    result = ended(bench, 1, 2)

    assert isinstance(result, TaskSetResult)
    assert (result.taskset_id, result.total) == ("set", 2)
    assert [subtask.get() for subtask in result.subtasks] == [6, 3]
    assert [subtask.task_id for subtask in result.itersubtasks()] == result.subtask_ids


@row("TaskSetResult.successful", "TaskSetResult.failed", "TaskSetResult.waiting", "TaskSetResult.ready")
@row("TaskSetResult.completed_count")
def test_a_set_tells_how_far_it_is(bench: Worker) -> None:
    good, bad = ended(bench, 1, 2), ended(bench, 1, 0)
    unfinished: TaskSetResult[Any] = TaskSetResult("set", [*good.subtask_ids, "waits"])

    told = [
        (result.successful(), result.failed(), result.waiting(), result.ready(), result.completed_count())
        for result in (good, bad, unfinished)
    ]
    assert told == [(True, False, False, True, 2), (False, True, False, True, 1), (False, False, True, False, 2)]


@row("fix: failed was true for unfinished tasks")
def test_a_set_of_which_nothing_has_run_has_not_failed(bench: Worker) -> None:
    result: TaskSetResult[Any] = TaskSetResult("set", [Divide.delay(6, 3).task_id])

    assert not result.failed()


@row("TaskSetResult.join")
def test_joining_returns_the_values_in_the_order_of_the_calls(bench: Worker) -> None:
    result = ended(bench, 1, 3, 2)

    assert result.join() == result.join(timeout=1) == [6, 2, 3]


@row("TaskSetResult.join")
def test_joining_ends_when_the_time_is_up_or_a_task_has_failed(bench: Worker) -> None:
    result: TaskSetResult[Any] = TaskSetResult("set", ["nobody's"])
    result.backend = MemoryBackend()

    with pytest.raises(CeleryTimeoutError):
        result.join(timeout=0)
    with pytest.raises(ZeroDivisionError):
        ended(bench, 1, 0).join()


@row("TaskSetResult.iterate", "TaskSetResult.iter")
def test_iterating_yields_values_and_raises_the_first_exception(bench: Worker) -> None:
    good = ended(bench, 1, 2, 3)
    assert sorted(good.iterate()) == sorted(good.iter()) == sorted(good) == [2, 3, 6]

    bad = ended(bench, 0)
    with pytest.raises(ZeroDivisionError):
        list(bad.iterate())


@row("TaskSetResult.iterate")
def test_iterating_yields_what_has_ended_before_all_have() -> None:
    # given
    result: TaskSetResult[Any] = TaskSetResult("set", ["first", "second"])
    result.backend = MemoryBackend()
    result.backend.mark_as_done("second", 2)

    # when
    values = result.iterate()

    # then
    assert next(values) == 2
    result.backend.mark_as_done("first", 1)
    assert list(values) == [1]


class Slow(MemoryBackend):
    """Has the results when it was asked for them ten times."""

    def fetch(self, task_ids: Sequence[str]) -> dict[str, Result]:
        found = super().fetch(task_ids)
        return found if len(self.asked) > 10 else {}


@row("fix: join and iterate spun")
@pytest.mark.parametrize("wait", [TaskSetResult.join, lambda result: list(result.iterate())], ids=["join", "iterate"])
def test_there_is_a_pause_between_two_looks(
    wait: Callable[[TaskSetResult[Any]], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    result: TaskSetResult[Any] = TaskSetResult("set", ["a", "b"])
    result.backend = Slow()
    result.backend.mark_as_done("a", 1)
    result.backend.mark_as_done("b", 2)
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)

    # when
    values = wait(result)

    # then
    assert values == [1, 2]
    assert len(pauses) == 9  # the first look is that of the result itself, the last one finds all
    assert 0 < pauses[0] < pauses[-1]
