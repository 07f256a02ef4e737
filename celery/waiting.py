"""Messages that no worker has taken: those that wait, are scheduled, or are dead. A person may hurry or drop them.

However many are meant, they are worked on 500 at a time, each time in a transaction of its own: little is locked, and
little is in memory. What ends early leaves the rest as it was, and may be repeated.
"""

from collections.abc import Iterator
from typing import Final

from django.db import transaction
from django.db.models import QuerySet

from celery import backends, broker, states
from celery.backends import exceptions as stored_exceptions
from celery.backends.base import Result
from celery.broker import store
from celery.exceptions import TaskDropped
from celery.models import Message
from celery.standing import FREE, SCHEDULED

#: Messages of one transaction.
PAGE: Final = 500


def messages() -> QuerySet[Message]:
    """Return what waits or is scheduled as a query of `celery.models.Message`, in the database of messages."""
    return Message.objects.using(broker.current().alias).filter(FREE, dead_at__isnull=True).order_by("pk")


def run_now(messages: QuerySet[Message]) -> int:
    """Make those of these messages ready that are scheduled, and return their number.

    What comes after it has begun is left alone.
    """
    return sum(len(run_page_now(page)) for page in pages(messages.filter(SCHEDULED)))


def drop(messages: QuerySet[Message]) -> int:
    """Delete those of these messages for good that no worker has taken, and return their number.

    Who waits for a task that was not dead gets TaskDropped. It is stored before the message goes, while no worker can
    take that. Raises what the result backend raises; then nothing more is dropped, and what was dropped before that
    stays so. What comes after it has begun is left alone.
    """
    return sum(len(drop_page(page)) for page in pages(messages.filter(FREE)))


def pages(messages: QuerySet[Message]) -> Iterator[QuerySet[Message]]:
    """Yield the messages that there are now, page by page: whoever acts on one may change the next ones, too."""
    in_order = messages.order_by("pk")
    newest = in_order.values_list("pk", flat=True).last()
    last = 0
    while newest is not None and last < newest:
        following = in_order.filter(pk__gt=last, pk__lte=newest)
        keys = list(following.values_list("pk", flat=True)[:PAGE])
        if not keys:
            return
        yield in_order.filter(pk__in=keys)
        last = keys[-1]


# -- one page, of 500 messages at most, in one transaction


def run_page_now(page: QuerySet[Message]) -> list[Message]:
    """Make those of a page ready that are scheduled, and return them."""
    with transaction.atomic(using=page.db):
        rows = _locked(page.filter(SCHEDULED))
        _only(rows, page).filter(SCHEDULED).update(visible_at=None)
    store.of(page.db).poke()
    return rows


def drop_page(page: QuerySet[Message]) -> list[Message]:
    """Delete those of a page that no worker has taken, as `drop` does, and return them."""
    with transaction.atomic(using=page.db):
        rows = _locked(page.filter(FREE))
        failures = [_failure(row) for row in rows if row.dead_at is None]
        if failures:
            backends.default().store(failures)
        _only(rows, page).filter(FREE).delete()
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
