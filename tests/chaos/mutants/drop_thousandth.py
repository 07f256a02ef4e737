"""Every so many messages one is dropped: acknowledged, and not run."""

from itertools import count
from typing import Any

from celery.message import Delivery
from tests.chaos.mutants._tools import acknowledge, change_what_is_taken

#: A short run has no thousand messages a worker.
EVERY = 100

numbers = count(1)


def plant() -> None:
    change_what_is_taken(_most)


def _most(consumer: Any, deliveries: list[Delivery]) -> list[Delivery]:
    numbered = [(next(numbers), delivery) for delivery in deliveries]
    acknowledge(consumer, [delivery for number, delivery in numbered if number % EVERY == 0])
    return [delivery for number, delivery in numbered if number % EVERY]
