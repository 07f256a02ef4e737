"""How many messages a worker holds at once: few when tasks are slow, so that other workers get their share."""

import time
from typing import Final

PER_CHILD: Final = 2
MOST: Final = 1024
MOST_BYTES: Final = 64 * 1024 * 1024
#: Seconds of work, at the present pace, that the window holds.
HORIZON: Final = 0.2
#: Seconds between two looks at the pace.
INTERVAL: Final = 0.02
#: How much of the former pace is kept at a look: settling comes in bursts.
INERTIA: Final = 0.8


class Window:
    """Adapts to the pace of settling: from two a child to about 1,000, bounded by the bytes held."""

    def __init__(self, children: int) -> None:
        self.smallest = PER_CHILD * max(children, 1)
        self.size = self.smallest
        self._settled = 0
        self._pace = 0.0
        self._body_size = 1024.0
        self._looked_at = time.monotonic()

    def note_settled(self, count: int) -> None:
        """Count jobs that are done with."""
        self._settled += count

    def note_body(self, size: int) -> None:
        """Keep the running mean of the sizes of bodies."""
        self._body_size += (size - self._body_size) / 64

    def adapt(self, now: float) -> None:
        """Move towards the present pace: growing by doubling at most, shrinking by a tenth at most."""
        elapsed = now - self._looked_at
        if elapsed < INTERVAL:
            return
        self._pace += (self._settled / elapsed - self._pace) * (1 - INERTIA)
        wanted = self._pace * HORIZON
        self._settled, self._looked_at = 0, now
        most = max(self.smallest, min(MOST, int(MOST_BYTES / max(self._body_size, 1.0))))
        bounded = min(max(wanted, self.size * 0.9), self.size * 2)
        self.size = int(min(max(bounded, self.smallest), most))
