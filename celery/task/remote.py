"""Remote calls: any importable callable is run by a worker, by its sealed name; see `celery.task.callables`."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

from django.db import Error as DatabaseTrouble

from celery import backends, states
from celery.backends.base import Result
from celery.calling import message_of
from celery.current import running
from celery.exceptions import NotInATask, TimeoutError  # noqa: A004 - the classic name
from celery.message import Call, Message, from_json
from celery.registry import tasks
from celery.result import AsyncResult, TaskSetResult
from celery.task import callables
from celery.task.base import Task
from celery.task.batches import send_set
from celery.task.sending import send_messages

P = ParamSpec("P")
R = TypeVar("R")

#: Seconds between two looks of a map at its subtasks.
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
GROWTH: Final = 1.5
#: Grown far beyond the longest: no larger power is needed.
MOST_GROWTH: Final = 20

SUBTASKS: Final = uuid.UUID("6f2f1d3e-6b0e-4f52-9d6c-0f3ff1f0a7a5")


class SealedTask(Task):
    """Runs only what was sealed with SECRET_KEY for this task and this id, and nothing whose result is stored."""

    #: The worker asks for the stored result before it runs a call: a copy of a message that has run is not run again.
    #: Copies that are worked at the same time are not told apart; the result of one of them is kept.
    looks_up_first = True
    #: What is sealed is a text already.
    serializer = "json"

    def admit(self, call: Call) -> None:
        """Refuse what is not sealed, before anything is imported."""
        callables.check(call)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Check again, and run: not all that runs a task asks `admit` first (`TaskWrapper`, `jail`)."""
        self.admit(Call(task=self.name, task_id=_own_id(self.name), args=args, kwargs=kwargs))
        return self.run(*args, **kwargs)


class ExecuteRemoteTask(SealedTask):
    """Calls a callable by its name: the task behind `celery.task.execute_remote`."""

    name = "celery.execute_remote"

    def run(self, function: str, arguments: str, _seal: str) -> Any:
        """Import the function and call it."""
        args, kwargs = from_json(arguments)
        return callables.find(function)(*args, **kwargs)


class AsynchronousMapTask(SealedTask):
    """Sends a call for each list of arguments, and ends when all have: the task behind `celery.task.dmap_async`.

    It never waits: it looks, and asks for another attempt a little later. So it occupies no child meanwhile.
    """

    name = "celery.map_async"
    max_retries = None

    def run(self, function: str, arguments: str, _seal: str) -> list[Any]:
        """Send the calls if `arguments` has them; else it has their number. Return the values when all are there."""
        task_id = _own_id(self.name)
        todo, deadline = from_json(arguments)
        try:
            if isinstance(todo, list):
                todo = send_calls(function, todo, task_id).total
            found = backends.default().ready_results(_subtask_ids(task_id, todo))
        except (DatabaseTrouble, ConnectionError) as error:  # broker or backend are away: no fault of the calls
            return self._look_again(function, todo, deadline, error)
        if len(found) == todo or any(stored.state == states.FAILURE for stored in found.values()):
            return _values(found, _subtask_ids(task_id, todo))
        if deadline is not None and time.time() >= deadline:
            raise TimeoutError(
                f"{todo - len(found)} of {todo} results of the map {task_id} are missing at its deadline"
            )
        return self._look_again(function, todo, deadline)

    def _look_again(
        self, function: str, todo: Any, deadline: float | None, trouble: Exception | None = None
    ) -> NoReturn:
        """End this attempt. The next one has their number instead of the calls, once they are sent."""
        now = running.get()
        retries = now.retries if now else 0
        pause = min(FIRST_PAUSE * GROWTH ** min(retries, MOST_GROWTH), LONGEST_PAUSE)
        if deadline is not None and trouble is None:  # trouble may outlast the deadline, and is not asked ever faster
            pause = min(pause, max(0.0, deadline - time.time()))
        parts = callables.sealed(self.name, _own_id(self.name), function, [todo, deadline])
        self.retry(parts, exc=trouble, countdown=pause)


def _own_id(name: str) -> str:
    now = running.get()
    if now is None:
        raise NotInATask(f"{name} sends calls in the name of its own id, so only a worker runs it")
    return now.task_id


def _values(found: Mapping[str, Result], ids: Sequence[str]) -> list[Any]:
    """Return the values in the order of the calls; raise the first exception."""
    return [backends.default().value_of(found[task_id]) for task_id in ids if task_id in found]


tasks.register(ExecuteRemoteTask)
tasks.register(AsynchronousMapTask)


def execute_remote(func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
    """Have a worker call `func`, which needs not be a task, with these arguments.

    `func` is sent by its name, so it must be importable in the worker; arguments and value are JSON, as those of tasks.
    The call is signed with SECRET_KEY: nobody without it can have a worker call anything. Raises InvalidTask for a
    lambda, a local function and whatever else has no name that leads back to it, and what `celery.task.apply_async`
    raises.
    """
    message = _call_message(callables.name_of(func), args, kwargs, str(uuid.uuid4()))
    return send_messages(ExecuteRemoteTask, [message])[0]


def send_map(name: str, calls: Sequence[Sequence[Any]], timeout: float | None) -> AsyncResult[Any]:
    """Send the task that sends a call of the callable `name` for each list of arguments."""
    task_id = str(uuid.uuid4())
    deadline = None if timeout is None else time.time() + timeout
    args = callables.sealed(AsynchronousMapTask.name, task_id, name, [[list(call) for call in calls], deadline])
    return send_messages(AsynchronousMapTask, [message_of(AsynchronousMapTask, args, task_id=task_id)])[0]


def send_calls(name: str, calls: Sequence[Sequence[Any]], taskset_id: str) -> TaskSetResult[Any]:
    """Send a call of the callable `name` for each list of arguments, as a task set.

    The ids follow from that of the set: sending it twice adds nothing to what waits, or has run.
    """
    return send_set(ExecuteRemoteTask, taskset_id, _messages(name, calls, taskset_id), len(calls))


def _messages(name: str, calls: Sequence[Sequence[Any]], taskset_id: str) -> Iterator[Message]:
    for number, args in enumerate(calls):
        yield _call_message(name, args, {}, _subtask_id(taskset_id, number), taskset=taskset_id)


def _call_message(name: str, args: Sequence[Any], kwargs: Any, task_id: str, taskset: str | None = None) -> Message:
    parts = callables.sealed(ExecuteRemoteTask.name, task_id, name, [list(args), kwargs])
    return message_of(ExecuteRemoteTask, parts, task_id=task_id, taskset=taskset)


def _subtask_id(taskset_id: str, number: int) -> str:
    return str(uuid.uuid5(SUBTASKS, f"{number} of {taskset_id}"))


def _subtask_ids(taskset_id: str, total: int) -> list[str]:
    return [_subtask_id(taskset_id, number) for number in range(total)]
