"""Task sets: many calls of one task, sent together and waited for together."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

from celery import conf
from celery.calling import message_of
from celery.exceptions import WouldWaitForever
from celery.message import Message
from celery.registry import tasks
from celery.result import AsyncResult, TaskSetResult, refusal
from celery.task import callables
from celery.task.base import FunctionTask
from celery.task.batches import send_set
from celery.task.remote import send_calls, send_map

R = TypeVar("R")


class TaskSet(Generic[R]):
    """Calls of `task`, which is a task, a registered function or the name of one.

    Each item of `args` is a call: ``[args, kwargs]``, or ``[args]``. Raises TypeError for other forms, NotRegistered
    for a name that is unknown here.

    >>> from celery.task import TaskSet, task
    >>> @task(name="docs.divide")
    ... def divide(x: float, y: float = 2) -> float:
    ...     return x / y
    >>> calls = TaskSet(divide, [[[4, 2], {}], [[9], {"y": 3}], [[5]]])
    >>> calls.task_name, calls.total
    ('docs.divide', 3)
    """

    @overload
    def __init__(self: "TaskSet[R]", task: FunctionTask[..., R], args: Iterable[Sequence[Any]]) -> None: ...

    @overload
    def __init__(self: "TaskSet[Any]", task: Any, args: Iterable[Sequence[Any]]) -> None: ...

    def __init__(self, task: Any, args: Iterable[Sequence[Any]]) -> None:
        self.task = tasks[task] if isinstance(task, str) else task
        #: The name of the task.
        self.task_name: str = getattr(self.task, "name", "")
        #: The calls, as they were given.
        self.arguments = list(args)
        for number, item in enumerate(self.arguments, 1):
            _check_call(self.task_name, number, item)

    @property
    def total(self) -> int:
        """The number of calls."""
        return len(self.arguments)

    def run(self) -> TaskSetResult[R]:
        """Send the calls, and return their results to come.

        They are sent in batches, each confirmed by the broker before the next is made. If one fails, its exception is
        raised, with a note that says how many were sent. Raises what `celery.task.apply_async` raises.
        """
        taskset_id = str(uuid.uuid4())
        return send_set(self.task, taskset_id, self._messages(taskset_id), self.total)

    def _messages(self, taskset_id: str) -> Iterator[Message]:
        for args, *rest in self.arguments:
            yield message_of(self.task, args, rest[0] if rest else None, taskset=taskset_id)

    def iterate(self, timeout: float | None = None) -> Iterator[R]:
        """Send the calls and yield the values as they end; see `celery.result.TaskSetResult.iterate`."""
        self._refuse_to_wait()
        return self.run().iterate(timeout)

    def join(self, timeout: float | None = None, *, progress: bool = False) -> list[R]:
        """Send the calls, wait, and return the values in their order; see `celery.result.TaskSetResult.join`."""
        self._refuse_to_wait()
        return self.run().join(timeout, progress=progress)

    def _refuse_to_wait(self) -> None:
        _refuse_to_wait(self.task_name, self.total, ignored=getattr(self.task, "ignore_result", False))

    @classmethod
    def remote_execute(cls, func: Callable[..., R], args: Iterable[Sequence[Any]]) -> TaskSetResult[R]:
        """Have workers call `func`, as `execute_remote` does, once for each list of arguments."""
        return send_calls(callables.name_of(func), _lists(args), str(uuid.uuid4()))

    @classmethod
    def map(cls, func: Callable[..., R], args: Iterable[Sequence[Any]], timeout: float | None = None) -> list[R]:
        """Do as `dmap` does."""
        return dmap(func, args, timeout)

    @classmethod
    def map_async(
        cls, func: Callable[..., R], args: Iterable[Sequence[Any]], timeout: float | None = None
    ) -> AsyncResult[list[R]]:
        """Do as `dmap_async` does."""
        return dmap_async(func, args, timeout)


def dmap(func: Callable[..., R], args: Iterable[Sequence[Any]], timeout: float | None = None) -> list[R]:
    """Have workers call `func` once for each list of arguments; wait, and return the values in that order.

    ``dmap(operator.add, [[2, 2], [4, 4]])`` is ``[4, 8]``. `timeout`: seconds, None: for ever. Raises what
    `execute_remote` and `celery.result.TaskSetResult.join` raise.
    """
    calls = _lists(args)
    _refuse_to_wait(callables.name_of(func), len(calls))
    return TaskSet.remote_execute(func, calls).join(timeout)


def dmap_async(
    func: Callable[..., R], args: Iterable[Sequence[Any]], timeout: float | None = None
) -> AsyncResult[list[R]]:
    """Do as `dmap` does without waiting: the result is that of one task, whose value is the list of all values.

    It fails with the first exception that is found, or with celery.timer.TimeoutError when not all have ended within
    `timeout` seconds from now. It may be called inside a task.
    """
    return send_map(callables.name_of(func), _lists(args), timeout)


def _check_call(name: str, number: int, item: Any) -> None:
    match item:
        case [list() | tuple()] | [list() | tuple(), Mapping()]:
            return
    raise TypeError(
        f"call {number} of a task set of {name} is [args, kwargs], as in [[2, 2], {{}}], but this one is {item!r:.80}"
    )


def _lists(calls: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
    found = list(calls)
    for number, call in enumerate(found, 1):
        if not isinstance(call, list | tuple):
            raise TypeError(
                f"call {number} is a list of arguments, as in [[2, 2], [4, 4]], but this one is {call!r:.80}"
            )
    return found


def _refuse_to_wait(name: str, total: int, *, ignored: bool = False) -> None:
    """Raise WouldWaitForever before anything is sent in vain. In eager mode nobody waits."""
    if not total or conf.ALWAYS_EAGER:
        return
    reason = refusal(None, ignored=ignored)
    if reason:
        raise WouldWaitForever(f"{name} was not sent, because its results cannot be waited for: {reason}")
