"""The dispatcher acknowledges a message as soon as it has it: whoever dies with it takes it along."""

from typing import Any

from celery.message import Delivery
from tests.chaos.mutants._tools import acknowledge, change_what_is_taken


def plant() -> None:
    change_what_is_taken(_acknowledged)


def _acknowledged(consumer: Any, deliveries: list[Delivery]) -> list[Delivery]:
    acknowledge(consumer, deliveries)
    return [delivery._replace(tag=None, row_id=0, suspect=False) for delivery in deliveries]
