"""The port of result backends: what becomes of a task's value or exception, and waiting for it.

A driver implements `BaseBackend.store` and `BaseBackend.fetch`; all else is here. Nothing is unpickled or imported.
"""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, ClassVar, Final

from django.core.checks import CheckMessage

from celery import conf, states
from celery.backends import exceptions as stored_exceptions
from celery.backends.exceptions import find_nearest_pickleable_exception
from celery.exceptions import (
    TimeoutError,  # noqa: A004 - the classic name
    UnpickleableExceptionWrapper,
    UnreadableResult,
    described,
)
from celery.message import from_json, to_json

__all__ = ["BaseBackend", "Result", "UnpickleableExceptionWrapper", "find_nearest_pickleable_exception"]

FIRST_PAUSE: Final = 0.0005
LONGEST_PAUSE: Final = 0.05
GROWTH: Final = 1.25
#: Ids that one round of waiting asks for: half of them from the head of what is missing, half in turn from all of it.
LARGEST_ROUND: Final = 1000
#: Characters of what a reader says of a value that it cannot read.
LONGEST_REASON: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A result as it is stored.

    `result` is the value or the exception as JSON text, `traceback` plain text; `attempt` counts from 1; `runtime` is
    in seconds; `date_done` is aware.
    """

    task_id: str
    state: str
    result: str = "null"
    traceback: str = ""
    attempt: int = 1
    name: str = ""
    worker: str = ""
    runtime: float | None = None
    date_done: datetime = field(default_factory=lambda: datetime.now(UTC))


class BaseBackend(ABC):
    """Stores results and finds them again.

    Where the place of the results cannot be reached, all methods that ask it raise what its driver raises:
    `django.db.Error` of a database, ResultBackendUnreachable of a cache or Tokyo Tyrant.
    """

    #: What the backend can do, as in the classic interface. "PeriodicStatus": it has `run_periodic_tasks`.
    capabilities: tuple[str, ...] = ("ResultStore",)

    #: True if `store` compares and writes in one step, so that two writers at once cannot break the attempt rule.
    is_conditional: ClassVar[bool] = True

    #: True if `store` keeps a group of results whole or not at all.
    is_atomic: ClassVar[bool] = True

    #: The alias of the database that holds the results, if one does: results and acknowledgement can share a commit.
    alias: str | None = None

    @abstractmethod
    def store(self, results: Sequence[Result]) -> set[str]:
        """Store `results` in one go and return the ids of those that won (see `celery.states.may_replace`)."""

    @abstractmethod
    def fetch(self, task_ids: Sequence[str]) -> dict[str, Result]:
        """Return the stored results, by id; an id without one is absent."""

    def closed(self, attempts: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
        """Return those pairs of id and attempt that need not run any more."""
        wanted = list(attempts)
        found = self.stages([task_id for task_id, _ in wanted])
        return {
            (task_id, attempt)
            for task_id, attempt in wanted
            if (stage := found.get(task_id))
            and not states.may_replace(stored=stage[0], stored_attempt=stage[1], new_attempt=attempt)
        }

    def stages(self, task_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Return the state and the attempt of the stored results, by id; an id without one is absent."""
        return {task_id: (stored.state, stored.attempt) for task_id, stored in self.fetch(task_ids).items()}

    def refusal(self) -> str | None:
        """Return why waiting on this thread can never end, or None."""
        return None

    # -- one task, as in the classic interface

    def store_result(self, task_id: str, result: Any, status: str) -> None:
        """Store a value, or an exception instance for FAILURE and RETRY, as that of the first attempt.

        A stored attempt that is over stays as it is. Raises TypeError or ValueError for a value that JSON cannot carry.
        """
        failed = isinstance(result, BaseException)
        text = self.prepare_exception(result) if failed else self.prepare_result(result)
        trace = stored_exceptions.traceback_text(result) if failed else ""
        self.store([Result(task_id=task_id, state=status, result=text, traceback=trace)])

    def mark_as_done(self, task_id: str, result: Any) -> None:
        """Store the value of a successful task."""
        self.store_result(task_id, result, states.DONE)

    def mark_as_failure(self, task_id: str, exc: BaseException) -> None:
        """Store the exception of a failed task."""
        self.store_result(task_id, exc, states.FAILURE)

    def mark_as_retry(self, task_id: str, exc: BaseException) -> None:
        """Store the exception of an attempt that will be followed by another."""
        self.store_result(task_id, exc, states.RETRY)

    def get_status(self, task_id: str) -> str:
        """Return the state of a task; PENDING if nothing is known of it."""
        stored = self.fetch([task_id]).get(task_id)
        return stored.state if stored else states.PENDING

    def get_result(self, task_id: str) -> Any:
        """Return the value, the exception instance of a failed attempt, or None."""
        stored = self.fetch([task_id]).get(task_id)
        return self.to_python(stored) if stored else None

    def next_attempt(self, task_id: str) -> int:
        """Return the number of the attempt whose result would be accepted now."""
        stored = self.fetch([task_id]).get(task_id)
        return stored.attempt + (stored.state in states.CLOSED_STATES) if stored else 1

    def is_done(self, task_id: str) -> bool:
        """Tell whether the task executed successfully."""
        return self.get_status(task_id) == states.DONE

    def wait_for(self, task_id: str, timeout: float | None = None) -> Any:
        """Wait up to `timeout` seconds (None: for ever) and return the value, or raise the task's exception.

        Raises celery.timer.TimeoutError when the time is up. Waits that can never end are refused by
        `celery.result.BaseAsyncResult.wait`, not here.
        """
        (stored,) = self.wait_for_many([task_id], timeout)
        return self.value_of(stored)

    def wait_for_many(self, task_ids: Iterable[str], timeout: float | None = None) -> Generator[Result, None, None]:
        """Wait up to `timeout` seconds in all (None: for ever), and yield the results of ended tasks as they arrive.

        Each id once, in no order that is promised. At the end of the time, all that are missing are asked for a last
        time; if some still are, celery.timer.TimeoutError says how many. At most half of a core is spent on waiting.
        """
        missing = _Missing(task_ids)
        total = len(missing)
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = FIRST_PAUSE
        with self.reader() as fetch:
            while missing:
                began = time.monotonic()
                is_last = deadline is not None and began >= deadline
                wanted = missing.all() if is_last else missing.next_round()
                arrived = _ended(fetch(wanted))
                missing.remove(arrived)
                took = time.monotonic() - began
                yield from arrived.values()
                if is_last and missing:
                    raise TimeoutError(_too_late(missing.all(), total, timeout))
                if len(arrived) == len(wanted):
                    continue  # there may be more: ask for the next at once
                remaining = LONGEST_PAUSE + took if deadline is None else deadline - time.monotonic()
                time.sleep(max(0.0, min(max(pause, took), remaining)))
                pause = min(pause * GROWTH, LONGEST_PAUSE)

    def reader(self) -> AbstractContextManager[Callable[[Sequence[str]], Mapping[str, Result]]]:
        """Lend a `fetch` to whoever waits: it sees what is stored meanwhile, whatever transaction is open here."""
        return nullcontext(self.fetch)

    def value_of(self, stored: Result) -> Any:
        """Return the value of an ended task, or raise its exception."""
        outcome = self.to_python(stored)
        if stored.state == states.FAILURE:
            raise outcome
        return outcome

    def ready_result(self, task_id: str) -> Result | None:
        """Return the stored result if the task is done or has failed."""
        return self.ready_results([task_id]).get(task_id)

    def ready_results(self, task_ids: Sequence[str]) -> dict[str, Result]:
        """Return the stored results of those tasks that are done or have failed, by id."""
        return _ended(self.fetch(task_ids))

    # -- values and exceptions as text

    def prepare_result(self, result: Any) -> str:
        """Return a value as stored text; TypeError or ValueError if JSON cannot carry it."""
        return to_json(result)

    def prepare_exception(self, exc: BaseException) -> str:
        """Return an exception as stored text. Never fails, whatever the exception is made of."""
        return stored_exceptions.dump(exc)

    def exception_to_python(self, text: str) -> BaseException:
        """Rebuild an exception from its text; see `celery.backends.exceptions`."""
        return stored_exceptions.load(text)

    def create_exception_cls(self, name: str, module: str) -> type[UnpickleableExceptionWrapper]:
        """Return the class that stands for the exception `name` of `module` where that cannot be rebuilt."""
        return stored_exceptions.create_exception_cls(name, module)

    def to_python(self, stored: Result) -> Any:
        """Return the value or exception behind a stored result. Raises UnreadableResult where there is neither."""
        if stored.state == states.DONE:
            try:
                return from_json(stored.result)
            except Exception as error:  # rows are untrusted, and readers raise anything
                raise UnreadableResult(_unreadable(stored, error)) from error
        return self.exception_to_python(stored.result)

    # -- housekeeping

    @property
    def lifetime(self) -> float:
        """The seconds for which a result is kept (CELERY_TASK_RESULT_EXPIRES)."""
        expires = conf.TASK_RESULT_EXPIRES
        return float(expires.total_seconds() if isinstance(expires, timedelta) else expires)

    def cleanup(self) -> int:
        """Delete expired results, in batches, if this backend has to do that itself; return how many."""
        return 0

    def run_periodic_tasks(self) -> float:
        """Send what is due of the periodic tasks, each moment once however many workers ask; return seconds to wait.

        Only for backends with the capability "PeriodicStatus".
        """
        raise NotImplementedError

    def check(self) -> list[CheckMessage]:
        """Return what Django's system checks should say of the settings of this backend. Opens no connection."""
        return []


def survivors(results: Iterable[Result]) -> dict[str, Result]:
    """Return what a group comes to, by id, when it is stored one after the other: what a `store` has to write."""
    latest: dict[str, Result] = {}
    for result in results:
        known = latest.get(result.task_id)
        if known is None or may_replace(known, result):
            latest[result.task_id] = result
    return latest


def may_replace(stored: Result, new: Result) -> bool:
    """Tell whether `new` may overwrite `stored`: `celery.states.may_replace`, for results."""
    return states.may_replace(stored=stored.state, stored_attempt=stored.attempt, new_attempt=new.attempt)


class _Missing:
    """Ids whose results are awaited, in the order of the calls, and which of them to ask for next.

    Messages wait in line, so the head of the ids is where most will arrive; but any of them may fail early.
    """

    def __init__(self, task_ids: Iterable[str]) -> None:
        self._ids = dict.fromkeys(task_ids)
        self._turns = deque(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def all(self) -> list[str]:
        return list(self._ids)

    def next_round(self) -> list[str]:
        """Return at most `LARGEST_ROUND` ids; within a few rounds each comes up."""
        if len(self._ids) <= LARGEST_ROUND:
            return self.all()
        chosen = dict.fromkeys(islice(self._ids, LARGEST_ROUND // 2))
        while len(chosen) < LARGEST_ROUND:
            task_id = self._turns.popleft()
            if task_id in self._ids:
                self._turns.append(task_id)
                chosen[task_id] = None
        return list(chosen)

    def remove(self, arrived: Iterable[str]) -> None:
        for task_id in arrived:
            self._ids.pop(task_id, None)


def _ended(found: Mapping[str, Result]) -> dict[str, Result]:
    return {task_id: stored for task_id, stored in found.items() if stored.state in states.READY_STATES}


def _unreadable(stored: Result, error: Exception) -> str:
    reason = described(error)[:LONGEST_REASON]
    return f"the stored value of task {stored.task_id} cannot be read ({reason}): what has written to that place?"


def _too_late(missing: Sequence[str], total: int, timeout: float | None) -> str:
    if total == 1:
        return f"no result of task {missing[0]} within {timeout} seconds"
    return f"{len(missing)} of {total} results are missing after {timeout} seconds; the first is that of {missing[0]}"
