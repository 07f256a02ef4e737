"""The steward's part in periodic tasks: has what is due sent, and sleeps until the next moment.

What is due and who sends it is decided in the backend that CELERY_PERIODIC_STATUS_BACKEND names. Every worker may ask
at any time; each due moment is sent once.
"""

from collections.abc import Callable

from celery import backends


class Beat:
    """Sends periodic tasks until it is told to rest. `after` is called when something may have been sent."""

    def __init__(self, after: Callable[[], None]) -> None:
        self._after = after
        self._is_resting = False

    def rest(self) -> None:
        """Send nothing more: the worker is stopping, and others, or the next one, will."""
        self._is_resting = True

    def step(self) -> float:
        """Send what is due, and return the seconds until the next look."""
        if self._is_resting:
            return float("inf")
        wait = backends.default_periodic_status().run_periodic_tasks()
        self._after()
        return wait
