"""Sending tasks: the functions behind `delay` and `apply_async`, which give messages to the broker."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final

from django.utils.asyncio import async_unsafe

from celery import backends, broker
from celery.calling import message_of, moment
from celery.exceptions import MeaninglessOption
from celery.message import Message
from celery.registry import tasks
from celery.result import AsyncResult, OpenTransaction, SentResults

#: Messages that are published, and waited for, together.
BATCH: Final = 1000

BLOCKING: Final = (
    "Sending a task or a query of its result blocks, and this thread runs an event loop. "
    "Write: await sync_to_async(mytask.delay)(...), with asgiref.sync.sync_to_async."
)


def send(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> AsyncResult[Any]:
    """Send one call with the task's own options."""
    return send_messages(task, [message_of(task, args, kwargs)])[0]


def send_many(task: Any, calls: Iterable[Sequence[Any]]) -> SentResults[Any]:
    """Send one call for every tuple of arguments, in batches: one wait for the broker a batch, one batch in memory.

    If a batch fails, its exception is raised and the batches before it are sent.
    """
    results: SentResults[Any] = SentResults(ignored=getattr(task, "ignore_result", False))
    pending = iter(calls)
    while batch := [message_of(task, args) for args in islice(pending, BATCH)]:
        sent_in = give(batch)
        results.extend((message.task_id for message in batch), sent_in)
    return results


def apply_async(  # noqa: PLR0913, PLR0917 - the classic signature
    task: Any,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    routing_key: str | None = None,
    immediate: bool | None = None,  # noqa: ARG001, FBT001 - accepted: every message is mandatory, which is what it asked
    mandatory: bool | None = None,  # noqa: ARG001, FBT001 - for, since RabbitMQ 3.0 removed the other
    connect_timeout: float | None = None,
    priority: int | None = None,
    *,
    queue: str | None = None,
    countdown: float | None = None,
    eta: datetime | None = None,
    expires: datetime | float | None = None,
    task_id: str | None = None,
    serializer: str | None = None,
) -> AsyncResult[Any]:
    """Send `task`, with options that win over the task's own.

    `countdown` (seconds) or `eta` (a moment; a naive one is in the current time zone of Django) delays it through the
    durable schedule. `expires` (seconds, or a moment): not started before it, the task fails with TaskExpired. A
    `task_id` of your own must be unique; while a message with it waits, another one is not added. `queue` (or
    `routing_key`), `priority` and `serializer` as in `celery.task.base.TaskOptions`. `immediate` and `mandatory` change
    nothing; `connect_timeout` is accepted with the warning MeaninglessOption.

    When it returns, the message is durable, or will be when the open transaction commits. Raises UnsendableArgument or
    MessageTooLarge for arguments, TypeError or ValueError for options. Raises BrokerUnreachable where RabbitMQ or Redis
    does not answer for CELERY_PUBLISH_TIMEOUT seconds, `django.db.Error` where the database cannot be had,
    UnroutableMessage, SchemaMissing; in a thread with an event loop Django's SynchronousOnlyOperation.
    """
    if connect_timeout is not None:
        text = "connect_timeout means nothing any more: CELERY_PUBLISH_TIMEOUT bounds every wait for the broker"
        warnings.warn(text, MeaninglessOption, stacklevel=2)
    message = message_of(
        task,
        () if args is None else args,
        kwargs,
        task_id=task_id,
        queue=queue or routing_key,
        priority=priority,
        serializer=serializer,
        eta=moment("countdown", countdown) or moment("eta", eta),
        expires=moment("expires", expires),
    )
    return send_messages(task, [message])[0]


def delay_task(task_name: str, *args: Any, **kwargs: Any) -> AsyncResult[Any]:
    """Send the task registered here as `task_name`. Raises NotRegistered, and what `apply_async` raises."""
    return send(tasks[task_name], args, kwargs)


def requeue(task: Any, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> AsyncResult[Any]:
    """Send a task again under the id that it had: a new attempt if the last one is over, so that its result counts."""
    message = message_of(task, args, kwargs, task_id=task_id, attempt=backends.default().next_attempt(task_id))
    return send_messages(task, [message])[0]


def is_done(task_id: str) -> bool:
    """Tell whether the task with this id executed successfully. Raises what the result backend raises."""
    return backends.default().is_done(task_id)


@async_unsafe(BLOCKING)
def give(messages: Sequence[Message]) -> OpenTransaction | None:
    """Give messages to the broker, and return the transaction in which they were sent, if one is open here."""
    alias = broker.current().send(messages)
    return OpenTransaction(alias) if alias else None


def send_messages(task: Any, messages: Sequence[Message]) -> list[AsyncResult[Any]]:
    """Give messages of one task to the broker, and return their results to come."""
    sent_in = give(messages)
    ignored = getattr(task, "ignore_result", False)
    return [AsyncResult(message.task_id, ignored=ignored, sent_in=sent_in) for message in messages]
