"""From a task and its arguments to a message: what a call says, and where it is silent what its task says."""

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.utils import timezone

from celery import conf
from celery.exceptions import InvalidTask
from celery.message import LONGEST_NAME, Call, Message, encode, is_name

#: The column is a 16-bit number.
HIGHEST_PRIORITY: Final = 32767
#: The bits of a UUID that say what kind of UUID it is.
_FIXED: Final = 0xF000 << 64 | 0xC000 << 48
_VERSION_AND_VARIANT: Final = 0x7000 << 64 | 0x8000 << 48


def message_of(  # noqa: PLR0913 - what a call can say
    task: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    task_id: str | None = None,
    queue: str | None = None,
    priority: int | None = None,
    serializer: str | None = None,
    eta: datetime | None = None,
    expires: datetime | None = None,
    taskset: str | None = None,
    attempt: int = 1,
) -> Message:
    """Return the message that asks for `task` with these arguments. `eta` and `expires` are aware.

    Raises InvalidTask, TypeError or ValueError for what cannot be, UnsendableArgument, MessageTooLarge.
    """
    name = getattr(task, "name", None)
    if not name:
        text = f"{task!r} has no task name, so it cannot be sent. Decorate it with @task or register it."
        raise InvalidTask(text)
    queue = queue or getattr(task, "queue", None) or getattr(task, "routing_key", None) or conf.AMQP_CONSUMER_QUEUE
    priority = priority if priority is not None else getattr(task, "priority", None)
    _check_options(task=name, task_id=task_id or None, queue=queue, priority=priority)
    call = Call(
        task=name,
        task_id=task_id or new_id(),
        args=args,
        kwargs=kwargs or {},
        eta=eta,
        expires=expires,
        taskset=taskset,
    )
    content_type, encoding, body = encode(call, serializer or getattr(task, "serializer", None) or conf.TASK_SERIALIZER)
    return Message(
        task_id=call.task_id,
        task=name,
        body=body,
        queue=queue,
        attempt=attempt,
        priority=priority,
        content_type=content_type,
        content_encoding=encoding,
        visible_at=eta,
    )


def new_id() -> str:
    """Return a unique id: a UUID of version 7 (RFC 9562), so one that is larger than those of earlier milliseconds.

    Whatever is stored by it, a message or a result, then goes to the end of its index. Random ids go everywhere: beside
    a million rows each of them wrote another page of the index, and PostgreSQL a copy of that to its log.
    """
    milliseconds = time.time_ns() // 1_000_000
    number = milliseconds << 80 | int.from_bytes(os.urandom(10), "big")
    return str(uuid.UUID(int=number & ~_FIXED | _VERSION_AND_VARIANT))


def _check_options(*, task: str, task_id: str | None, queue: str, priority: int | None) -> None:
    for label, value in (("the name of a task", task), ("task_id", task_id), ("queue", queue)):
        if value is not None and not is_name(value):
            text = f"{label} is a text of at most {LONGEST_NAME} characters, without NUL, not {value!r:.80}"
            raise ValueError(text)
    if priority is not None and (type(priority) is not int or abs(priority) > HIGHEST_PRIORITY):
        text = f"priority is a whole number from -{HIGHEST_PRIORITY} to {HIGHEST_PRIORITY}, not {priority!r:.80}"
        raise ValueError(text)


def moment(label: str, value: datetime | float | None) -> datetime | None:
    """Return seconds from now, or a moment, as an aware moment in UTC; a naive one is in Django's current time zone.

    Raises TypeError, ValueError or OverflowError, naming `label`.
    """
    if value is None:
        return None
    if isinstance(value, datetime):
        aware = value if timezone.is_aware(value) else timezone.make_aware(value)
        return aware.astimezone(UTC)
    try:
        return datetime.now(UTC) + timedelta(seconds=_number(value))
    except (TypeError, ValueError, OverflowError) as error:
        text = f"{label} is a number of seconds{'' if label == 'countdown' else ' or a datetime'}, not {value!r:.80}"
        raise type(error)(text) from error


def _number(value: float) -> float:
    if isinstance(value, bool):  # timedelta would take it for a number
        raise TypeError(value)
    return value
