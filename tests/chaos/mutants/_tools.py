"""What several mutants do."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from celery.broker import store
from celery.broker.amqp import AmqpConsumer
from celery.broker.database import DatabaseConsumer
from celery.message import Delivery

Change = Callable[[Any, list[Delivery]], list[Delivery]]


def change_what_is_taken(change: Change) -> None:
    """Have `change(consumer, deliveries)` say what each consumer has taken."""
    for consumer in (DatabaseConsumer, AmqpConsumer):
        consumer.take = _changed(consumer.take, change)  # type: ignore[method-assign]


def _changed(take: Any, change: Change) -> Any:
    @wraps(take)
    def take_and_change(self: Any, limit: int) -> list[Delivery]:
        return change(self, take(self, limit))

    return take_and_change


def acknowledge(consumer: Any, deliveries: Sequence[Delivery]) -> None:
    """Delete the rows, or acknowledge the tags, of messages that have not run."""
    if rows := [delivery.row_id for delivery in deliveries if delivery.row_id]:
        store.of(consumer._alias).finish(consumer._owner, rows)
    if tagged := [delivery for delivery in deliveries if delivery.tag is not None]:
        consumer.settle(tagged)
