"""Messages that no worker has taken: those that wait, are scheduled, or are dead. A person may hurry or drop them."""

from django.db import transaction
from django.db.models import Q, QuerySet

from celery import backends, states
from celery.backends import exceptions as stored_exceptions
from celery.backends.base import Result
from celery.broker import store
from celery.exceptions import TaskDropped
from celery.models import Message

#: No worker holds it, neither to run nor to relay it.
FREE = Q(owner__isnull=True)
SCHEDULED = FREE & Q(visible_at__isnull=False, dead_at__isnull=True)


def run_now(messages: QuerySet[Message]) -> list[Message]:
    """Make those of these messages ready that are scheduled, and return them."""
    with transaction.atomic(using=messages.db):
        rows = _locked(messages.filter(SCHEDULED))
        _only(rows, messages).filter(SCHEDULED).update(visible_at=None)
    store.of(messages.db).poke()
    return rows


def drop(messages: QuerySet[Message]) -> list[Message]:
    """Delete those of these messages for good that no worker has taken, and return them.

    Who waits for a task that was not dead gets TaskDropped. It is stored before the message goes, while no worker can
    take that. Raises what the result backend raises; then nothing is dropped.
    """
    with transaction.atomic(using=messages.db):
        rows = _locked(messages.filter(FREE))
        failures = [_failure(row) for row in rows if row.dead_at is None]
        if failures:
            backends.default().store(failures)
        _only(rows, messages).filter(FREE).delete()
    return rows


def _locked(messages: QuerySet[Message]) -> list[Message]:
    """Return the rows that nobody else has locked; until the end of the transaction no worker takes them."""
    light = messages.order_by("pk").only("task_id", "attempt", "task", "dead_at")
    return list(light.select_for_update(skip_locked=True))


def _only(rows: list[Message], messages: QuerySet[Message]) -> QuerySet[Message]:
    return Message.objects.using(messages.db).filter(pk__in=[row.pk for row in rows])


def _failure(message: Message) -> Result:
    error = TaskDropped(f"{message.task} was dropped before a worker took it")
    return Result(
        task_id=message.task_id,
        state=states.FAILURE,
        result=stored_exceptions.dump(error),
        attempt=message.attempt,
        name=message.task,
    )
