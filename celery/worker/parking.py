"""Parking: what has run for very long is kept in a row of ours, out of the reach of the broker's own time limit."""

import time
from collections.abc import Mapping
from typing import Final

from celery.worker import errands
from celery.worker.crew import Held
from celery.worker.errands import Errands

#: Seconds that a message may stay unacknowledged: RabbitMQ's consumer_timeout is 30 minutes by default.
PARK_AFTER: Final = 600.0


class Parking:
    """Looks at all jobs in hand now and then, and has the steward park those that are due."""

    def __init__(self, held: Mapping[int, Held], errands: Errands) -> None:
        self._held = held
        self._errands = errands
        self._look_at = time.monotonic() + PARK_AFTER

    def turn(self, now: float) -> None:
        """Look, if it is time to."""
        if now < self._look_at:
            return
        for held in self._held.values():
            is_long = held.delivery.tag is not None and now - held.taken_at > PARK_AFTER
            if is_long and held.number not in self._errands:
                held.is_parking = True
                self._errands.ask(errands.PARK, held)
        self._look_at = now + PARK_AFTER / 10
