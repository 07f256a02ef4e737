"""The steward's part in keeping the table of messages small: it makes room usable again that deleted rows have left.

Only PostgreSQL needs it, whose own autovacuum looks once a minute: see docs/decisions/0025.
"""

import time
from collections.abc import Callable
from typing import Final

from celery.broker.store.base import Store
from celery.worker.slots import Slots

#: Seconds between looks while tasks end; and at most, while what is there cannot be cleared away.
LOOK: Final = 2.0
LONGEST_PAUSE: Final = 60.0
#: It may take this part of the steward's time.
SHARE: Final = 0.05


class Vacuum:
    """Looks while this worker has work; a worker that idles asks the database nothing."""

    def __init__(self, store: Store, slots: Slots, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._slots = slots
        self._clock = clock
        self._totals = slots.totals()
        self._pause = LOOK
        #: A chore is repeated soon after trouble; one that was broken off after long, by our own deadline, is not.
        self._not_before = 0.0

    def step(self) -> float:
        """Clear away what there is, if it is worth it, and return the seconds until the next look."""
        totals = self._slots.totals()
        if totals == self._totals or self._clock() < self._not_before:
            return LOOK
        began = self._clock()
        try:
            is_of_use = self._store.clear_away()
        except Exception:
            self._not_before = self._clock() + (self._clock() - began) / SHARE
            raise
        took = self._clock() - began
        self._totals = totals
        self._pause = LOOK if is_of_use else min(self._pause * 2, LONGEST_PAUSE)
        return max(self._pause, took / SHARE)
