"""Runs tasks here and now: on this thread, on its database connections, inside its open transactions. For tests.

`InlineBroker` is the broker of CELERY_ALWAYS_EAGER: the sender runs what it sends, by the code of a child, from the
encoded message to the stored result. `run_here` and `kept` also serve the worker of `celery.testing`.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, transaction

from celery import backends, broker, states
from celery.backends import exceptions as stored_exceptions
from celery.backends.base import Result
from celery.broker import store
from celery.broker.base import Broker, Consumer
from celery.exceptions import UnpickleableExceptionWrapper, WouldWaitForever
from celery.message import Message
from celery.worker import child, job, writes
from celery.worker.chore import ROW_ERRORS
from celery.worker.job import Job, Outcome
from celery.worker.writer import unstorable

Value = TypeVar("Value")

logger = logging.getLogger("celery.worker")

#: What stands in a result for the name of its worker.
WORKER: Final = "eager"
#: Attempts of one task after which its sender is told that they may never end.
MOST_ATTEMPTS: Final = 1000


class InlineBroker(Broker):
    """Runs each message as it is sent. When `send` returns, the task and its retries have ended and are stored.

    Nothing waits: not for `eta`, `countdown` or the pause before a retry, and not for the commit of a transaction. A
    failure of the task is stored, not raised. What no worker could run at all is raised to the sender: NotRegistered,
    UndecodableMessage. So is what the backend raises.
    """

    def send(self, messages: Sequence[Message]) -> str | None:
        """Run `messages`, one after the other."""
        for message in messages:
            _run_to_its_end(message)
        return None

    def publish(self, messages: Sequence[Message]) -> None:
        """Run `messages`."""
        self.send(messages)

    def consumer(self, owner: str, queues: Sequence[str]) -> Consumer:
        """Refuse: there is nothing to take."""
        raise ImproperlyConfigured(f"{broker.EAGER_TEXT} no worker gets anything of {', '.join(queues)} for {owner}.")

    def depth(self, queue: str) -> int:  # noqa: ARG002 - nothing waits in any
        """Return 0."""
        return 0

    def discard_all(self, queue: str) -> int:  # noqa: ARG002 - nothing waits in any
        """Return 0."""
        return 0


def _run_to_its_end(message: Message) -> None:
    following: Message | None = message
    for _ in range(MOST_ATTEMPTS):
        if following is None:
            return
        following = _run(following)
    raise WouldWaitForever(
        f"{message.task} was tried {MOST_ATTEMPTS} times and asks for more, without a pause between, since "
        "CELERY_ALWAYS_EAGER is on. Give it max_retries, or test it with celery.testing.worker."
    )


def _run(message: Message) -> Message | None:
    """Run one attempt, store what it came to, and return the next one if it asked for that."""
    outcome = run_here(Job(0, job.SETTLED, job.as_delivery(message, relayed=True)))
    if outcome.kind in {job.UNKNOWN, job.UNDECODABLE}:
        raise_error(outcome)
    return kept(outcome, _store)


def _store(outcome: Outcome) -> Message | None:
    """Store the result, in the open transaction if there is one, and return the message that follows if that won."""
    plan = job.consequences(outcome, worker=WORKER, unknown_patience=0)
    won = _stored(plan.result) if plan.result else set()
    writes.announce(outcome, plan)
    return plan.message if plan.message and plan.message.task_id in won else None


def _stored(result: Result) -> set[str]:
    backend = backends.default()
    if backend.alias is None:
        return backend.store([result])
    with transaction.atomic(using=backend.alias):
        return backend.store([result])


# -- for whoever runs jobs on a thread that is not a worker's own


def run_here(work: Job) -> Outcome:
    """Run one job. The transactions that are open on this thread stay open and usable, whatever the task does to them.

    KeyboardInterrupt gets out: somebody at the terminal wants to end the program, not the task.
    """
    before = [_Before(alias) for alias in _aliases_in_use()]
    outcome = child.execute(work)
    known = {one.alias for one in before}
    for one in before:
        one.restore(outcome)
    for alias in _aliases_in_use():
        if alias not in known:
            _end_transaction(alias)
    if outcome.kind == states.FAILURE and _is_interrupt(stored_exceptions.load(outcome.result)):
        raise KeyboardInterrupt
    return outcome


def kept(outcome: Outcome, write: Callable[[Outcome], Value]) -> Value:
    """Return what `write` returns; if it refuses this very result, write the failure that says so."""
    try:
        return write(outcome)
    except ROW_ERRORS as error:
        return write(unstorable(outcome, error))


def raise_error(outcome: Outcome) -> NoReturn:
    """Raise the exception that is the result of a failed job."""
    raise stored_exceptions.load(outcome.result)


def _is_interrupt(error: BaseException) -> bool:
    """Tell whether this stands for KeyboardInterrupt, which is never rebuilt."""
    if not isinstance(error, UnpickleableExceptionWrapper):
        return False
    return (error.exc_module, error.exc_cls_name) == ("builtins", "KeyboardInterrupt")


def _aliases_in_use() -> list[str]:
    return [connection.alias for connection in connections.all(initialized_only=True) if connection.connection]


class _Before:
    """One connection as it was before a task ran on it. An open transaction gets a savepoint.

    It is no `atomic` block of ours: the task could tell, by ``atomic(durable=True)``.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self._connection: Any = connections[alias]
        self._savepoint: str | None = None
        self._was_in_transaction = store.is_in_transaction(alias)
        self._hooks = len(self._connection.run_on_commit)
        if self._was_in_transaction:
            self._savepoint = self._connection.savepoint()

    def restore(self, outcome: Outcome) -> None:
        """End what the task left open; or, inside a transaction of the sender's, undo what broke that."""
        if not self._was_in_transaction:
            _end_transaction(self.alias)
        elif self._savepoint and not self._is_released():
            self._connection.needs_rollback = False
            self._connection.savepoint_rollback(self._savepoint)
            del self._connection.run_on_commit[self._hooks :]
            logger.warning(
                "Task %s broke the transaction in which it ran, so all that it wrote there is undone. "
                "In a worker it has a connection of its own.",
                outcome.name,
            )

    def _is_released(self) -> bool:
        """Release the savepoint. Refused where PostgreSQL has aborted the transaction, or Django says it must end."""
        try:
            self._connection.savepoint_commit(self._savepoint)
        except DatabaseError:
            return False
        return True


def _end_transaction(alias: str) -> None:
    """Roll back what a task left open on a connection that had no transaction, as a worker does between tasks."""
    connection: Any = connections[alias]
    if not store.is_in_transaction(alias) or not connection.settings_dict["AUTOCOMMIT"]:
        return
    connection.in_atomic_block = False
    connection.needs_rollback = False
    connection.rollback()
    connection.set_autocommit(True)
