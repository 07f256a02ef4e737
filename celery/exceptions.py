"""Every exception of the package; the classic modules re-export the classic names.

An exception's text tells its reader what to do next.
"""

import builtins
from datetime import datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured


class CeleryError(Exception):
    """Base of the exceptions of this package."""


def described(error: BaseException) -> str:
    """Return class and text of `error`; its class alone where it carries a stranger's values that have no text."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - whatever such a value raises
        return type(error).__name__


class NotRegistered(CeleryError, KeyError):
    """No task has this name."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class UnknownTask(NotRegistered):
    """A message asks for a task that is not registered here."""


class EmptyQueue(CeleryError):
    """There is no message. Kept for code of 0.2 that catches it: workers wait instead."""


class AlreadyRegistered(CeleryError):
    """Two tasks claim one name."""


class InvalidTask(CeleryError, TypeError):
    """This object cannot be a task: it has no importable name, or no name at all."""


class InvalidSchedule(CeleryError, ValueError):
    """A periodic task has no `run_every`, or one that is no interval and no schedule."""


class UnsendableArgument(CeleryError, TypeError):
    """An argument that the configured serializer cannot carry."""


class MessageTooLarge(CeleryError, ValueError):
    """A message above ``CELERY_MESSAGE_MAX_BYTES``."""


class UndecodableMessage(CeleryError, ValueError):
    """A message from which no call can be read."""


class UntrustedMessage(UndecodableMessage):
    """A message that its task does not admit: unsigned, or signed for something else."""


class UnencodableResult(CeleryError, TypeError):
    """A return value that JSON cannot carry. Stored as the failure of its task."""


class UnreadableResult(CeleryError, ValueError):
    """What is stored as the value of a task is not what this package stores: something else has written or cut it."""


class TaskExpired(CeleryError):
    """The task was not started before its ``expires``."""


class TaskDropped(CeleryError):
    """A person deleted the message of the task before a worker took it."""


class WorkerLost(CeleryError):
    """The process that ran the task died, and kept dying when it was tried again."""


class TimeLimitExceeded(CeleryError):
    """The task ran longer than its ``time_limit``; its process was killed."""


class SoftTimeLimitExceeded(CeleryError):
    """Raised in a task that runs longer than its ``soft_time_limit``; it may catch this, tidy up and end."""


class RetryTask(CeleryError):
    """Ends an attempt that asked for another one. Let it pass: the worker answers it.

    `new_args` and `new_kwargs` replace those of the call where they are not None; `when` is an aware moment.
    """

    def __init__(self, exc: BaseException | None, *, args: Any, kwargs: Any, when: datetime) -> None:
        super().__init__(f"to be tried again at {when.isoformat(timespec='seconds')}")
        self.exc = exc
        self.new_args = args
        self.new_kwargs = kwargs
        self.when = when


class MaxRetriesExceeded(CeleryError):
    """The task asked for another attempt, and has had all that it may have."""


class NotInATask(CeleryError, RuntimeError):
    """This only works inside a task that a worker runs."""


class TimeoutError(CeleryError, builtins.TimeoutError):  # noqa: A001 - the classic name, kept
    """The result did not arrive in time."""


class WouldWaitForever(CeleryError, RuntimeError):
    """A wait that cannot end; raised at once instead."""


class BrokerUnreachable(CeleryError, ConnectionError):
    """The broker did not accept the message in time."""


class ResultBackendUnreachable(CeleryError, ConnectionError):
    """The result backend did not keep or did not return a result; it may be down. Try again later."""


class ResultBackendUnusable(CeleryError, ImproperlyConfigured):
    """The result backend is there, and is set up so that results would be lost."""


class UnroutableMessage(CeleryError):
    """The broker has no queue for this message."""


class SchemaMissing(CeleryError, ImproperlyConfigured):
    """The tables of the package are missing or too old."""


class LeaseLost(CeleryError):
    """Another worker declared this one dead; what it held is not its own any more."""


class MeaninglessOption(UserWarning):
    """An option of the classic interface that is accepted and changes nothing."""


class UnpickleableExceptionWrapper(CeleryError):
    """Stands for an exception that cannot be rebuilt here; its class has the original's name."""

    def __init__(self, exc_module: str, exc_cls_name: str, exc_args: Any) -> None:
        self.exc_module = exc_module
        self.exc_cls_name = exc_cls_name
        self.exc_args = exc_args
        super().__init__(exc_module, exc_cls_name, exc_args)

    def __str__(self) -> str:
        if isinstance(self.exc_args, list | tuple) and len(self.exc_args) == 1:
            return f"{self.exc_args[0]}"
        return f"{tuple(self.exc_args)}" if self.exc_args else ""

    def __repr__(self) -> str:
        return f"{self.exc_cls_name}({', '.join(map(repr, self.exc_args or ()))})"


__all__ = [
    "AlreadyRegistered",
    "BrokerUnreachable",
    "CeleryError",
    "EmptyQueue",
    "ImproperlyConfigured",
    "InvalidSchedule",
    "InvalidTask",
    "LeaseLost",
    "MaxRetriesExceeded",
    "MeaninglessOption",
    "MessageTooLarge",
    "NotInATask",
    "NotRegistered",
    "ResultBackendUnreachable",
    "ResultBackendUnusable",
    "RetryTask",
    "SchemaMissing",
    "SoftTimeLimitExceeded",
    "TaskDropped",
    "TaskExpired",
    "TimeLimitExceeded",
    "TimeoutError",
    "UndecodableMessage",
    "UnencodableResult",
    "UnknownTask",
    "UnpickleableExceptionWrapper",
    "UnreadableResult",
    "UnroutableMessage",
    "UnsendableArgument",
    "UntrustedMessage",
    "WorkerLost",
    "WouldWaitForever",
]
