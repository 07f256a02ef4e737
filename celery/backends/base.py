"""The port of result backends: what becomes of a task's value or exception, and waiting for it.

A driver implements `store`, `fetch` and `closed`; all else is here. Nothing is ever unpickled or imported.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

from django.core.checks import CheckMessage

from celery import conf, states
from celery.backends import exceptions as stored_exceptions
from celery.exceptions import TimeoutError  # noqa: A004 - the classic name
from celery.message import from_json, to_json

FIRST_PAUSE: Final = 0.0005
LONGEST_PAUSE: Final = 0.05
GROWTH: Final = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A result as it is stored: `result` is JSON text, `traceback` plain text."""

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
    """Stores results and finds them again."""

    #: What the backend can do, as in the classic interface. "PeriodicStatus": it has `run_periodic_tasks`.
    capabilities: tuple[str, ...] = ("ResultStore",)

    #: True if `store` compares and writes in one step, so that two writers at once cannot break the attempt rule.
    is_conditional: ClassVar[bool] = True

    #: The alias of the database that holds the results, if one does: results and acknowledgement can share a commit.
    alias: str | None = None

    @abstractmethod
    def store(self, results: Sequence[Result]) -> set[str]:
        """Store `results` in one go and return the ids of those that won (see `states.may_replace`)."""

    @abstractmethod
    def fetch(self, task_ids: Sequence[str]) -> dict[str, Result]:
        """Return the stored results, by id; an id without one is absent."""

    def closed(self, attempts: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
        """Return those pairs of id and attempt that need not run any more."""
        wanted = list(attempts)
        found = self.fetch([task_id for task_id, _ in wanted])
        return {
            (task_id, attempt)
            for task_id, attempt in wanted
            if (stored := found.get(task_id))
            and not states.may_replace(stored=stored.state, stored_attempt=stored.attempt, new_attempt=attempt)
        }

    def refusal(self) -> str | None:
        """Return why waiting on this thread can never end, or None."""
        return None

    # -- one task, as in the classic interface

    def store_result(self, task_id: str, result: Any, status: str) -> None:
        """Store a value, or an exception instance for FAILURE and RETRY."""
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

    def is_done(self, task_id: str) -> bool:
        """Tell whether the task executed successfully."""
        return self.get_status(task_id) == states.DONE

    def wait_for(self, task_id: str, timeout: float | None = None) -> Any:
        """Wait up to `timeout` seconds (None: for ever) and return the value, or raise the task's exception.

        Raises celery.timer.TimeoutError when the time is up, WouldWaitForever.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = FIRST_PAUSE
        while not (stored := self.ready_result(task_id)):
            remaining = LONGEST_PAUSE if deadline is None else deadline - time.monotonic()
            if remaining <= 0:
                text = f"no result of task {task_id} within {timeout} seconds"
                raise TimeoutError(text)
            time.sleep(min(pause, remaining))
            pause = min(pause * GROWTH, LONGEST_PAUSE)
        outcome = self.to_python(stored)
        if stored.state == states.FAILURE:
            raise outcome
        return outcome

    def ready_result(self, task_id: str) -> Result | None:
        """Return the stored result if the task is done or has failed."""
        stored = self.fetch([task_id]).get(task_id)
        return stored if stored and stored.state in states.READY_STATES else None

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

    def to_python(self, stored: Result) -> Any:
        """Return the value or exception behind a stored result."""
        if stored.state == states.DONE:
            return from_json(stored.result)
        return self.exception_to_python(stored.result)

    # -- housekeeping

    @property
    def lifetime(self) -> float:
        """Return the seconds for which a result is kept (CELERY_TASK_RESULT_EXPIRES)."""
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
