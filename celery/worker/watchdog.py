"""The watchdog: a process of the worker whose loop has stood still for long is as good as dead, and is killed.

Its death has an answer already; its silence would have none, where no other worker is there to notice. Only time in
which the supervisor itself was awake counts: a machine that slept has not made anybody silent.
"""

from collections.abc import Callable
from typing import Final

from celery import conf

#: Seconds of silence, at least. More than any wait for a database (`deadlines.ANSWER`), and than the lease (30 s).
STALLED: Final = 45.0
#: Seconds that one turn of the supervisor's loop takes, at most, while it is awake.
LONGEST_TURN: Final = 2.0


def patience() -> float:
    """Return the seconds of silence that are suffered. Who publishes waits for a broker as long as the project says."""
    return max(STALLED, 2.0 * float(conf.PUBLISH_TIMEOUT))


class Watchdog:
    """Watches one pulse: a number that changes with each turn of somebody's loop."""

    def __init__(self, pulse: Callable[[], float]) -> None:
        self._pulse = pulse
        self._seen = 0.0
        self._looked_at = 0.0
        self._silence = 0.0

    def begin(self, now: float) -> None:
        """Watch a process that starts at the moment `now`."""
        self._seen, self._looked_at, self._silence = self._pulse(), now, 0.0

    def is_stalled(self, now: float) -> bool:
        """Look at the moment `now`, and tell whether it is time to kill."""
        pulse = self._pulse()
        elapsed, self._looked_at = min(now - self._looked_at, LONGEST_TURN), now
        self._silence = self._silence + elapsed if pulse == self._seen else 0.0
        self._seen = pulse
        return self._silence > patience()
