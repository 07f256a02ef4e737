"""celery.task: sets of calls, and calls of any function by its name."""

import json
import operator

import pytest
from pytest_django import Settings

from celery.exceptions import InvalidTask, UntrustedMessage
from celery.message import Call
from celery.models import Message
from celery.result import AsyncResult, TaskSetResult
from celery.task import (
    AsynchronousMapTask,
    ExecuteRemoteTask,
    Task,
    TaskSet,
    dmap,
    dmap_async,
    execute_remote,
    tasks,
)
from celery.testing import Worker, run_inline
from celery.timer import TimeoutError as CeleryTimeoutError
from tests.seed.table import rows_of

pytestmark = pytest.mark.django_db

row = rows_of("celery.task")


class Join(Task):
    name = "seed.join"

    def run(self, *words: str, separator: str = " ") -> str:
        return separator.join(words)


@pytest.fixture(autouse=True)
def _tasks() -> None:
    tasks.register(Join)


def calls() -> "TaskSet[str]":
    return TaskSet(Join, args=[[["a", "b"], {}], [["c", "d"], {"separator": "-"}], [["e"], {}]])


# -- TaskSet


@row("TaskSet", "TaskSet.task_name", "TaskSet.arguments", "TaskSet.total")
def test_a_set_has_its_calls() -> None:
    made = TaskSet(Join, [[["a"], {}], [["b"], {"separator": "-"}]])

    assert made.task_name == "seed.join"
    assert made.arguments == [[["a"], {}], [["b"], {"separator": "-"}]]
    assert made.total == 2


@row("TaskSet.run")
def test_running_a_set_sends_its_calls(bench: Worker) -> None:
    result = calls().run()

    assert isinstance(result, TaskSetResult)
    assert result.total == Message.objects.count() == 3
    assert {run.task_id for run in bench.run()} == set(result.subtask_ids)
    assert result.join() == ["a b", "c-d", "e"]


@row("TaskSet.join")
def test_joining_a_set_runs_it_and_returns_the_values_in_the_order_of_the_calls(db: None) -> None:
    with run_inline():
        assert calls().join() == calls().join(timeout=1) == ["a b", "c-d", "e"]


@row("TaskSet.join", "TaskSet.iterate")
@pytest.mark.django_db(transaction=True)
def test_a_set_without_a_worker_ends_when_the_time_is_up() -> None:
    with pytest.raises(CeleryTimeoutError):
        calls().join(timeout=0)
    with pytest.raises(CeleryTimeoutError):
        list(calls().iterate(timeout=0))


@row("TaskSet.iterate")
def test_iterating_over_a_set_runs_it_and_yields_the_values(db: None) -> None:
    with run_inline():
        assert sorted(calls().iterate()) == ["a b", "c-d", "e"]


@row("TaskSet.remote_execute")
def test_a_set_may_be_of_any_function(bench: Worker) -> None:
    result = TaskSet.remote_execute(operator.mul, [[2, 3], [4, 5]])
    bench.run()

    assert isinstance(result, TaskSetResult)
    assert result.join() == [6, 20]


@row("TaskSet.map", "dmap")
def test_mapping_waits_for_the_values(db: None) -> None:
    with run_inline():
        assert dmap(operator.add, [[2, 2], [4, 4], [8, 8]]) == [4, 8, 16]
        assert TaskSet.map(operator.add, [[1, 2]]) == [3]


@row("TaskSet.map", "dmap")
@pytest.mark.django_db(transaction=True)
def test_mapping_ends_when_the_time_is_up() -> None:
    for mapped in (dmap, TaskSet.map):
        with pytest.raises(CeleryTimeoutError):
            mapped(operator.add, [[2, 2]], timeout=0)


@row("TaskSet.map_async", "dmap_async", "AsynchronousMapTask")
def test_mapping_may_be_left_to_a_task(bench: Worker) -> None:
    results = [dmap_async(operator.add, [[2, 2], [4, 4]]), TaskSet.map_async(operator.add, args=[[1, 2]])]
    assert {message.task for message in Message.objects.all()} == {AsynchronousMapTask.name}

    bench.run_scheduled()

    assert all(isinstance(result, AsyncResult) for result in results)
    assert [result.get() for result in results] == [[4, 8], [3]]


@row("dmap_async", "TaskSet.map_async")
def test_a_map_that_is_late_fails(bench: Worker) -> None:
    results = [mapped(operator.add, [[2, 2]], timeout=0) for mapped in (dmap_async, TaskSet.map_async)]
    bench.run()

    for result in results:
        with pytest.raises(CeleryTimeoutError):
            result.get()


# -- any function


@row("execute_remote", "ExecuteRemoteTask")
def test_any_function_can_be_called_by_a_worker(bench: Worker) -> None:
    result = execute_remote(sorted, [3, 1, 2], reverse=True)
    (run,) = bench.run()

    assert run.task == ExecuteRemoteTask.name
    assert isinstance(result, AsyncResult)
    assert result.get() == [3, 2, 1]


@row("execute_remote")
def test_what_the_function_raises_is_raised_to_the_caller(bench: Worker) -> None:
    result = execute_remote(operator.truediv, 1, 0)
    bench.run()

    with pytest.raises(ZeroDivisionError):
        result.get()


@row("fix: functions travelled pickled")
def test_a_function_travels_by_its_sealed_name(bench: Worker) -> None:
    execute_remote(operator.add, 2, 2)

    (message,) = Message.objects.all()
    assert b'"_operator:add"' in bytes(message.body)
    assert b"pickle" not in bytes(message.body)


@row("fix: functions travelled pickled")
def test_what_is_not_sealed_with_our_key_is_refused(bench: Worker, settings: Settings) -> None:
    # given
    task_id = execute_remote(operator.add, 2, 2).task_id
    name, arguments, seal = sealed(task_id)

    def admit(*args: str, task_id: str = task_id) -> None:
        ExecuteRemoteTask().admit(Call(task=ExecuteRemoteTask.name, task_id=task_id, args=args, kwargs={}))

    # then
    admit(name, arguments, seal)
    for forged in [("os:system", arguments, seal), (name, arguments.replace("2", "3"), seal), (name, arguments)]:
        with pytest.raises(UntrustedMessage):
            admit(*forged)
    with pytest.raises(UntrustedMessage):
        admit(name, arguments, seal, task_id="another id")
    settings.SECRET_KEY = "another key"
    with pytest.raises(UntrustedMessage):
        admit(name, arguments, seal)


def sealed(task_id: str) -> tuple[str, str, str]:
    """Return the arguments of a message as they travel."""
    name, arguments, seal = json.loads(bytes(Message.objects.get(task_id=task_id).body))["args"]
    return name, arguments, seal


@row("lambdas and local functions")
def test_functions_without_a_name_that_leads_to_them_are_refused() -> None:
    def local() -> None: ...

    for function in (lambda: None, local):
        for send in (execute_remote, lambda found: dmap(found, [[]]), lambda found: dmap_async(found, [[]])):
            with pytest.raises(InvalidTask, match="cannot be called remotely"):
                send(function)
