"""Messages that are dead: kept with a reason and no longer tried, until a person requeues or drops them."""

from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet

from celery import broker
from celery import message as wire
from celery.broker import store
from celery.models import Message

#: What a message has gone through so far; a requeued one starts afresh.
HISTORY = (wire.ATTEMPT, wire.CRASHES, wire.STARTS, wire.RELAYED, wire.UNKNOWN_SINCE)


def messages() -> QuerySet[Message]:
    """Return the dead as a query of `celery.models.Message`, the longest dead first."""
    return Message.objects.using(broker.current().alias).filter(dead_at__isnull=False).order_by("dead_at", "id")


def requeue(dead: QuerySet[Message]) -> int:
    """Make these messages ready, each as a new attempt, and return their number.

    One that has a later attempt in the table already stays dead: its result could never win.
    """
    with transaction.atomic(using=dead.db):
        _forget_history(dead)
        later = Message.objects.filter(task_id=OuterRef("task_id"), attempt__gt=OuterRef("attempt"))
        requeued = dead.order_by().filter(~Exists(later))
        number = requeued.update(
            attempt=F("attempt") + 1,
            dead_at=None,
            reason="",
            crashes=0,
            starts=0,
            suspect=False,
            owner=None,
            visible_at=None,
        )
    store.of(dead.db).poke()
    return number


def _forget_history(dead: QuerySet[Message]) -> None:
    for message in dead.exclude(headers="").only("headers").iterator():
        content_type, encoding, headers = wire.unpack_headers(message.headers)
        kept = {name: value for name, value in headers.items() if name not in HISTORY}
        if content_type != wire.JSON:
            kept |= {"content-type": content_type, "content-encoding": encoding}
        message.headers = wire.to_json(kept) if kept else ""
        message.save(update_fields=["headers"])


def drop(dead: QuerySet[Message]) -> int:
    """Delete these messages for good, and return their number. Their results stay."""
    return dead.order_by().delete()[0]
