"""Results to come: `AsyncResult` asks the result backend, and waits smartly."""

from typing import Any, Generic, TypeVar, cast

from django.db import connections, transaction

from celery import backends, states
from celery.backends.base import BaseBackend
from celery.current import running
from celery.exceptions import WouldWaitForever

R = TypeVar("R")


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


class BaseAsyncResult(Generic[R]):
    """The result of the task `task_id`, kept by `backend`."""

    def __init__(
        self, task_id: str, backend: BaseBackend, *, ignored: bool = False, sent_in: OpenTransaction | None = None
    ) -> None:
        self.task_id = task_id
        self.backend = backend
        self._ignored = ignored
        self._sent_in = sent_in

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
        reason = None if stored else self._refusal(inside_task=inside_task)
        if reason:
            text = f"the result of task {self.task_id} cannot be waited for: {reason}"
            raise WouldWaitForever(text)
        return cast("R", self.backend.wait_for(self.task_id, timeout))

    def _refusal(self, *, inside_task: bool) -> str | None:
        if self._ignored:
            return "its task says ignore_result, so nothing is stored. Remove that, or do not wait."
        if self._sent_in and self._sent_in.is_open():
            return (
                "it was sent inside a transaction that is still open here, so no worker has it. Wait after the commit."
            )
        if running.get() and not inside_task:
            return (
                "this is itself a task; if all children wait, none is left to run it. "
                "Say get(inside_task=True) if that is safe."
            )
        return self.backend.refusal()

    @property
    def status(self) -> str:
        """The state: PENDING (not finished, or unknown), RETRY, FAILURE or DONE."""
        return self.backend.get_status(self.task_id)

    @property
    def result(self) -> Any:
        """The value, the exception instance if the task failed, or None while there is neither."""
        return self.backend.get_result(self.task_id)

    def is_done(self) -> bool:
        """Tell whether the task executed successfully."""
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
