"""Proof of life: one counter a worker, watched by all others, each by its own clock. No clock is ever compared."""

import logging
import time
from typing import Final

from celery.broker.store.base import Store
from celery.worker import announcer
from celery.worker.announcer import Announce

logger = logging.getLogger("celery.worker")

#: A worker counts this many times within its lease.
BEATS_PER_LEASE: Final = 3
#: Of an interval: what sums of fractions may fall short of.
NEARLY: Final = 0.01


class Heartbeat:
    """The steward's part in it: renewing our own row, and taking over from workers whose counter stands still."""

    def __init__(self, store: Store, owner: str, lease: float, announce: Announce = announcer.announce) -> None:
        self.interval = lease / BEATS_PER_LEASE
        self._store = store
        self._owner = owner
        self._announce = announce
        self._last_round = time.monotonic()
        #: Of each other worker: its counter, and for how many seconds of our own proven life it stood there.
        self._seen: dict[str, tuple[int, float]] = {}

    def beat(self) -> bool:
        """Renew our row, then look at the others. False: our row is gone, and what we held is not ours any more."""
        if not self._store.renew(self._owner):
            return False
        now = time.monotonic()
        elapsed, self._last_round = min(now - self._last_round, self.interval), now
        self._look_at_others(elapsed)
        return True

    def _look_at_others(self, elapsed: float) -> None:
        """Count only rounds in which we could write ourselves: when the database is away, nobody is dead.

        A round counts as one interval at most, the shorter one of ours and theirs: who was held up as long as we were
        gets time to say so. The sum is reached by counting whole intervals, or nearly so.
        """
        others = {row[0]: row for row in self._store.census() if row[0] != self._owner}
        seen, self._seen = self._seen, {}
        for owner, name, counter, lease in others.values():
            step = min(self.interval, lease / BEATS_PER_LEASE)
            known, silence = seen.get(owner, (None, 0.0))
            silence = silence + min(elapsed, step) if known == counter else 0.0
            self._seen[owner] = (counter, silence)
            if silence >= lease - NEARLY * step:
                self._take_over(owner, name, counter)

    def _take_over(self, owner: str, name: str, counter: int) -> None:
        released = self._store.retire(owner, counter=counter)
        if released < 0:
            return
        del self._seen[owner]
        logger.warning("Worker %s is lost; %d messages that it held are tried again.", name, released)
        self._announce("worker_lost", {"owner": owner, "name": name, "released": released})
        self._store.poke()
