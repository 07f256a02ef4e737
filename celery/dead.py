"""Messages that are dead: kept with a reason and no longer tried, until a person requeues or drops them.

However many are meant, they are worked on 500 at a time, each time in a transaction of its own. So it is not all or
nothing: what ends early leaves the rest dead, and may be repeated.
"""

from django.db import transaction
from django.db.models import F, Max, QuerySet

from celery import broker, waiting
from celery import message as wire
from celery.broker import store
from celery.models import Message
from celery.standing import DEAD

#: What a message has gone through so far; a requeued one starts afresh.
HISTORY = (wire.ATTEMPT, wire.CRASHES, wire.STARTS, wire.RELAYED, wire.UNKNOWN_FOR)


def messages() -> QuerySet[Message]:
    """Return the dead as a query of `celery.models.Message`, the longest dead first."""
    return Message.objects.using(broker.current().alias).filter(DEAD).order_by("dead_at", "id")


def requeue(dead: QuerySet[Message]) -> int:
    """Make those of these messages that are dead ready, each as a new attempt, and return their number.

    One that has a later attempt in the table already stays dead: its result could never win. What dies after this has
    begun is left alone.
    """
    return sum(len(requeue_page(page)) for page in waiting.pages(dead.filter(DEAD)))


def drop(dead: QuerySet[Message]) -> int:
    """Delete those of these messages for good that are dead, and return their number. Their results stay."""
    return sum(page.filter(DEAD).order_by().delete()[0] for page in waiting.pages(dead.filter(DEAD)))


def requeue_page(page: QuerySet[Message]) -> list[Message]:
    """Do so in one transaction with a page of 500 messages at most, and return those that were requeued, as they were.

    Later attempts are looked for first: MySQL changes no table by a condition on the same table.
    """
    with transaction.atomic(using=page.db):
        light = page.filter(DEAD).order_by("pk").only("task_id", "attempt", "task", "headers")
        rows = list(light.select_for_update())
        latest = _latest_attempts([row.task_id for row in rows], page.db)
        requeued = [row for row in rows if row.attempt >= latest[row.task_id]]
        _forget_history(requeued)
        Message.objects.using(page.db).filter(DEAD, pk__in=[row.pk for row in requeued]).update(
            attempt=F("attempt") + 1,
            dead_at=None,
            reason="",
            crashes=0,
            starts=0,
            suspect=False,
            owner=None,
            visible_at=None,
        )
    store.of(page.db).poke()
    return requeued


def _latest_attempts(task_ids: list[str], alias: str) -> dict[str, int]:
    rows = Message.objects.using(alias).filter(task_id__in=task_ids).order_by()
    return dict(rows.values_list("task_id").annotate(Max("attempt")))


def _forget_history(dead: list[Message]) -> None:
    for message in dead:
        if not message.headers:
            continue
        content_type, encoding, headers = wire.unpack_headers(message.headers)
        kept = {name: value for name, value in headers.items() if name not in HISTORY}
        if content_type != wire.JSON:
            kept |= {"content-type": content_type, "content-encoding": encoding}
        message.headers = wire.to_json(kept) if kept else ""
        message.save(update_fields=["headers"])
