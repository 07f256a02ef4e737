"""A monotonic clock that can be stepped from outside, for one worker.

libfaketime can do so too, but then waits of threads with a timeout never end: they compare with the kernel's own clock.
So the kernel's clock stays true, as do all waits, and only what `time.monotonic()` tells is wrong. `history.now` is
not concerned.

CHAOS_CLOCK   a file with the seconds by which to be wrong

Beside libfaketime `time.sleep` fails, whichever clock it changes: Python sleeps until a moment of the monotonic clock,
which libfaketime (0.9.10) compares with the other one. So a process that it is loaded into sleeps by select(2).
"""

import os
import select
import time
from pathlib import Path
from typing import Final, SupportsIndex

from tests.chaos import history

#: Seconds between two looks into the file.
PAUSE: Final = 0.1


class Stepped:
    """In place of time.monotonic."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._true = time.monotonic
        self._offset = 0.0
        self._look_at = 0.0

    def __call__(self) -> float:
        now = self._true()
        if now >= self._look_at:
            self._look_at = now + PAUSE
            before, self._offset = self._offset, self._read()
            if self._offset != before:
                history.current().note("stepped", pid=os.getpid(), seconds=self._offset)
        return now + self._offset

    def _read(self) -> float:
        try:
            return float(self._path.read_text(encoding="ascii"))
        except (OSError, ValueError):  # somebody writes it just now
            return self._offset


def plant() -> None:
    """Have this process and its forks see the clock of the environment, if there is one."""
    if "faketime" in os.environ.get("LD_PRELOAD", ""):
        time.sleep = _sleep
    if path := os.environ.get("CHAOS_CLOCK"):
        time.monotonic = Stepped(Path(path))


def _sleep(seconds: float | SupportsIndex, /) -> None:
    select.select([], [], [], float(seconds))
