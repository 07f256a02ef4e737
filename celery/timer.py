"""Timers of the classic interface, by the monotonic clock; `TimeoutError` is what a wait raises when its time is up."""

import time
from collections.abc import Callable

from celery.exceptions import TimeoutError  # noqa: A004 - the classic name

__all__ = ["EventTimer", "TimeoutError", "TimeoutTimer"]


class EventTimer:
    """Calls `event` when `tick` is called and at least `interval` seconds have passed since it was last called.

    Without an interval `tick` does nothing. The first interval begins with the first tick.

    >>> from celery.timer import EventTimer
    >>> timer = EventTimer(lambda: print("an hour has passed"), interval=3600)
    >>> timer.tick()
    """

    def __init__(self, event: Callable[[], object], interval: float | None = None) -> None:
        self.event = event
        self.interval = interval
        self.last_triggered: float | None = None

    def tick(self) -> None:
        """Call the event if it is time. What the event raises comes out here, and counts as a call."""
        if self.interval is None:
            return
        now = time.monotonic()
        if self.last_triggered is None:
            self.last_triggered = now
        elif now >= self.last_triggered + self.interval:
            self.last_triggered = now
            self.event()


class TimeoutTimer:
    """Raises `TimeoutError` when `tick` is called `timeout` seconds or more after the timer was made.

    None means for ever. 0 is a timeout: the first tick raises.

    >>> from celery.timer import TimeoutTimer
    >>> TimeoutTimer(0, "no longer").tick()
    Traceback (most recent call last):
    ...
    celery.exceptions.TimeoutError: no longer
    """

    def __init__(self, timeout: float | None, timeout_msg: str = "The operation timed out") -> None:
        self.timeout = timeout
        self.timeout_msg = timeout_msg
        self.time_start = time.monotonic()

    def tick(self) -> None:
        """Raise TimeoutError if the time is up."""
        if self.timeout is not None and time.monotonic() >= self.time_start + self.timeout:
            raise TimeoutError(self.timeout_msg)
