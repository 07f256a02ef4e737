"""Results to come: `AsyncResult` and `TaskSetResult` ask the result backend, and wait smartly."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from typing import Any, Final, Generic, TypeVar, cast, overload
from uuid import UUID

from django.db import connections, transaction
from django.utils.module_loading import import_string

from celery import backends, states
from celery.backends.base import BaseBackend, Result
from celery.current import running
from celery.exceptions import TimeoutError, WouldWaitForever  # noqa: A004 - the classic name

R = TypeVar("R")
_Arrivals = Generator[Result, None, None]

#: Bytes of a UUID.
ID_SIZE: Final = 16
#: Shows results as they pass. Found by name: it needs a package that is optional.
PROGRESS: Final = "celery.progress.watched"


class OpenTransaction:
    """The transaction that a message was sent in: until it commits, no worker can see the message."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        transaction.on_commit(self._committed, using=alias, robust=True)

    def _committed(self) -> None:
        """Be recognised among the hooks of the transaction; there is nothing to do."""

    def is_open(self) -> bool:
        """Tell whether that very transaction is still open on this thread."""
        return any(hook == self._committed for _, hook, *_ in connections[self._alias].run_on_commit)


def refusal(
    backend: BaseBackend | None,
    *,
    ignored: bool = False,
    sent_in: OpenTransaction | None = None,
    inside_task: bool = False,
) -> str | None:
    """Return why waiting here for a result that is not there can never end, or None."""
    if ignored:
        return "its task says ignore_result, so nothing is stored. Remove that, or do not wait."
    if sent_in and sent_in.is_open():
        return "it was sent inside a transaction that is still open here, so no worker has it. Wait after the commit."
    if running.get() and not inside_task:
        return (
            "this is itself a task; if all children wait, none is left to run it. Say inside_task=True if that is safe."
        )
    return backend.refusal() if backend else None


class BaseAsyncResult(Generic[R]):
    """The result of the task `task_id`, kept by `backend`.

    Each look asks the backend again, and raises what that raises. `ignored` and `sent_in` come from whoever sent the
    task: they tell which waits can never end. Two results are equal if their ids are; ``str(result)`` is the id.
    """

    def __init__(
        self, task_id: str, backend: BaseBackend, *, ignored: bool = False, sent_in: OpenTransaction | None = None
    ) -> None:
        #: The unique id of the task.
        self.task_id = task_id
        #: The result backend that is asked.
        self.backend = backend
        self.ignored = ignored
        self.sent_in = sent_in

    def get(self, timeout: float | None = None, *, inside_task: bool = False) -> R:
        """Alias of `wait`."""
        return self.wait(timeout, inside_task=inside_task)

    def wait(self, timeout: float | None = None, *, inside_task: bool = False) -> R:
        """Wait up to `timeout` seconds (None: for ever) and return the value, or raise the task's own exception.

        Raises `celery.timer.TimeoutError` when the time is up, and WouldWaitForever at once where no result can ever
        arrive. A task that waits for another one occupies a child meanwhile; with as many of them as there are
        children all wait for ever, so that is refused unless `inside_task` says otherwise.
        """
        stored = self.backend.ready_result(self.task_id)
        if stored is None:
            reason = refusal(self.backend, ignored=self.ignored, sent_in=self.sent_in, inside_task=inside_task)
            if reason:
                raise WouldWaitForever(f"the result of task {self.task_id} cannot be waited for: {reason}")
        return cast("R", self.backend.wait_for(self.task_id, timeout))

    @property
    def status(self) -> str:
        """The state, as of now: PENDING, RETRY, FAILURE or DONE.

        ``PENDING``: the task waits, or runs, or nothing is known of this id. ``RETRY``: an attempt has failed, and
        another one follows. ``FAILURE``: it raised, or was tried again more often than its limit; `result` is the
        exception. ``DONE``: it executed successfully; `result` is its value.
        """
        return self.backend.get_status(self.task_id)

    @property
    def result(self) -> Any:
        """The value, the exception instance if an attempt failed, or None while there is neither. Never waits."""
        return self.backend.get_result(self.task_id)

    def is_done(self) -> bool:
        """Tell whether the task executed successfully: its state is DONE."""
        return self.status == states.DONE

    def successful(self) -> bool:
        """Alias of `is_done`."""
        return self.is_done()

    def ready(self) -> bool:
        """Tell whether the task has ended, with a value or an exception; not while it waits, also for a retry."""
        return self.status in states.READY_STATES

    def __str__(self) -> str:
        return self.task_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.task_id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BaseAsyncResult) and other.task_id == self.task_id

    def __hash__(self) -> int:
        return hash(self.task_id)


class AsyncResult(BaseAsyncResult[R]):
    """The result of the task `task_id`, kept by the backend of the settings.

    >>> from celery.result import AsyncResult
    >>> AsyncResult("0b8a1d0e")
    <AsyncResult: 0b8a1d0e>
    """

    def __init__(self, task_id: str, *, ignored: bool = False, sent_in: OpenTransaction | None = None) -> None:
        super().__init__(task_id, backends.default(), ignored=ignored, sent_in=sent_in)


class SentResults(Sequence[AsyncResult[R]]):
    """The results of many calls, in the order of the calls. Each is made when it is asked for.

    A million of them take 16 bytes each: what is kept is the ids, which are UUIDs.

    >>> from celery.result import SentResults
    >>> results = SentResults()
    >>> results.extend(["0199c7b2-4a51-7c6e-8d3f-5b6a7c8d9e0f"])
    >>> len(results), results[0]
    (1, <AsyncResult: 0199c7b2-4a51-7c6e-8d3f-5b6a7c8d9e0f>)
    """

    def __init__(self, *, ignored: bool = False) -> None:
        self._ids = bytearray()
        self._ignored = ignored
        self._sent_in: OpenTransaction | None = None

    def extend(self, task_ids: Iterable[str], sent_in: OpenTransaction | None = None) -> None:
        """Add the results of tasks that were sent, all of them in the same transaction or none."""
        self._ids += bytes.fromhex("".join(task_ids).replace("-", ""))
        self._sent_in = self._sent_in or sent_in

    def __len__(self) -> int:
        return len(self._ids) // ID_SIZE

    @overload
    def __getitem__(self, index: int) -> AsyncResult[R]: ...

    @overload
    def __getitem__(self, index: slice) -> list[AsyncResult[R]]: ...

    def __getitem__(self, index: int | slice) -> AsyncResult[R] | list[AsyncResult[R]]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        start = range(len(self))[index] * ID_SIZE
        task_id = str(UUID(bytes=bytes(self._ids[start : start + ID_SIZE])))
        return AsyncResult(task_id, ignored=self._ignored, sent_in=self._sent_in)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, others: Iterable[AsyncResult[R]]) -> list[AsyncResult[R]]:
        return [*self, *others]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} of them>"


class TaskSetResult(Generic[R]):
    """The results of the subtasks `subtask_ids`, in the order of their calls.

    What has ended is remembered and not asked for again.

    >>> from celery.result import TaskSetResult
    >>> nothing = TaskSetResult("7c3d", [])
    >>> nothing.total, nothing.ready(), nothing.join()
    (0, True, [])
    """

    def __init__(
        self,
        taskset_id: str,
        subtask_ids: Iterable[str],
        *,
        ignored: bool = False,
        sent_in: OpenTransaction | None = None,
    ) -> None:
        #: The id of the set.
        self.taskset_id = taskset_id
        #: The ids of its tasks, in the order of the calls.
        self.subtask_ids = list(subtask_ids)
        self.backend = backends.default()
        self.ignored = ignored
        self.sent_in = sent_in
        self._ended: dict[str, Result] = {}

    @cached_property
    def subtasks(self) -> list[AsyncResult[R]]:
        """The result of each subtask, as an AsyncResult."""
        return [AsyncResult(task_id, ignored=self.ignored, sent_in=self.sent_in) for task_id in self.subtask_ids]

    def itersubtasks(self) -> Iterator[AsyncResult[R]]:
        """Iterate over `subtasks`."""
        return iter(self.subtasks)

    @property
    def total(self) -> int:
        """The number of subtasks."""
        return len(self.subtask_ids)

    def successful(self) -> bool:
        """Tell whether every subtask executed successfully."""
        return self.completed_count() == self.total

    def failed(self) -> bool:
        """Tell whether at least one subtask has failed."""
        return any(stored.state == states.FAILURE for stored in self._look().values())

    def waiting(self) -> bool:
        """Tell whether at least one subtask has not ended."""
        return not self.ready()

    def ready(self) -> bool:
        """Tell whether every subtask has ended, with a value or an exception."""
        return self._look().keys() >= set(self.subtask_ids)

    def completed_count(self) -> int:
        """Return how many subtasks executed successfully."""
        found = self._look()
        return sum(task_id in found and found[task_id].state == states.DONE for task_id in self.subtask_ids)

    def iterate(self, timeout: float | None = None, *, inside_task: bool = False) -> Iterator[R]:
        """Yield the values as the subtasks end; raise the first exception that is found.

        Waits as `join` does, and raises the same.
        """
        with closing(self._arrivals(timeout, inside_task=inside_task)) as arrivals:
            for stored in arrivals:
                yield self.backend.value_of(stored)

    def iter(self) -> Iterator[R]:
        """Alias of `iterate`, without a timeout."""
        return self.iterate()

    def __iter__(self) -> Iterator[R]:
        return self.iterate()

    def join(self, timeout: float | None = None, *, progress: bool = False, inside_task: bool = False) -> list[R]:
        """Wait up to `timeout` seconds (None: for ever) and return the values, in the order of the calls.

        Raises the first exception that is found, without waiting for the rest; celery.timer.TimeoutError when the time
        is up; WouldWaitForever where `BaseAsyncResult.wait` does. `progress` shows a bar on a terminal (it needs tqdm:
        ImportError says so).
        """
        watched: Callable[[_Arrivals, int], _Arrivals] = _progress() if progress else _unwatched
        values: dict[str, R] = {}
        arrivals = self._arrivals(timeout, inside_task=inside_task)
        with closing(arrivals), closing(watched(arrivals, self.total)) as seen:
            for stored in seen:
                values[stored.task_id] = self.backend.value_of(stored)
        return [values[task_id] for task_id in self.subtask_ids]

    def _look(self) -> dict[str, Result]:
        """Ask for all that had not ended; return all that has, by id."""
        self._ended |= self.backend.ready_results(self._missing())
        return self._ended

    def _missing(self) -> list[str]:
        return [task_id for task_id in dict.fromkeys(self.subtask_ids) if task_id not in self._ended]

    def _arrivals(self, timeout: float | None, *, inside_task: bool) -> _Arrivals:
        """Yield what has ended, then what ends."""
        yield from list(self._look().values())
        missing = self._missing()
        if not missing:
            return
        reason = refusal(self.backend, ignored=self.ignored, sent_in=self.sent_in, inside_task=inside_task)
        if reason:
            raise WouldWaitForever(f"the results of {self} cannot be waited for: {reason}")
        try:
            with closing(self.backend.wait_for_many(missing, timeout)) as arrivals:
                for stored in arrivals:
                    self._ended[stored.task_id] = stored
                    yield stored
        except TimeoutError as error:
            number = len(self._missing())
            raise TimeoutError(f"{number} of {self.total} results of {self} are missing after {timeout} s") from error

    def __str__(self) -> str:
        return f"task set {self.taskset_id}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.taskset_id}>"


def _unwatched(arrivals: _Arrivals, _total: int) -> _Arrivals:
    return arrivals


def _progress() -> Any:
    try:
        return import_string(PROGRESS)
    except ImportError as error:
        raise ImportError(
            "join(progress=True) shows its bar with tqdm, which cannot be imported. "
            "Install it (pip install tqdm, or this package with its extra 'progress'), or leave progress out."
        ) from error
