"""Memory that the processes of one worker share: what each child runs and has done, and the dispatcher's pulse.

A slot names the victim when a child is killed. Each value is eight aligned bytes, written in one store, by one process.
"""

import mmap
import time
from typing import Final, NamedTuple

from celery import states

#: The columns of a child: the job that it runs, its deadline, and what it has stored since the worker's start.
RUNNING, DEADLINE, LIMIT, DONE, FAILED, RETRIED, RUNTIME = range(7)
WIDTH: Final = 7
COUNTED: Final = {states.DONE: DONE, states.FAILURE: FAILED, states.RETRY: RETRIED}


def count_nothing(_kind: str, _runtime: float) -> None:
    """Stand in for `Slots.count` where there is no worker."""


class Totals(NamedTuple):
    """What a worker has stored since its start; `runtime` in seconds."""

    done: int
    failed: int
    retried: int
    runtime: float


class Slots:
    """One slot a child, one for the steward, one for the history, and one pulse. Made before the forks."""

    def __init__(self, children: int) -> None:
        #: Where the steward counts what it stores itself.
        self.stewards = children
        memory = memoryview(mmap.mmap(-1, 8 * (WIDTH * (children + 2) + 1)))
        self._numbers = memory.cast("Q")
        self._floats = memory.cast("d")
        self._recorded = WIDTH * (children + 1)
        self._pulse = WIDTH * (children + 2)

    def begin(self, index: int, number: int) -> None:
        """Say that child `index` runs job `number` (from 1) now."""
        self._numbers[WIDTH * index + RUNNING] = number

    def end(self, index: int) -> None:
        """Say that child `index` runs nothing."""
        self._floats[WIDTH * index + DEADLINE] = 0.0
        self._numbers[WIDTH * index + RUNNING] = 0

    def running(self, index: int) -> int:
        """Return the number of the job that child `index` runs, or 0."""
        return self._numbers[WIDTH * index + RUNNING]

    def set_limit(self, index: int, seconds: float) -> None:
        """Say that what child `index` runs must end within so many seconds; 0.0: whenever it likes."""
        self._floats[WIDTH * index + LIMIT] = seconds
        self._floats[WIDTH * index + DEADLINE] = time.monotonic() + seconds if seconds else 0.0

    def limit(self, index: int) -> float:
        """Return the seconds that were last set as a limit of child `index`."""
        return self._floats[WIDTH * index + LIMIT]

    def deadline(self, index: int) -> float:
        """Return the moment of the monotonic clock by which what child `index` runs must end, or 0.0."""
        return self._floats[WIDTH * index + DEADLINE]

    def count(self, index: int, kind: str, runtime: float) -> None:
        """Count an outcome that was stored; kinds that are no end of an attempt count for nothing."""
        if kind in COUNTED:
            self._numbers[WIDTH * index + COUNTED[kind]] += 1
            self._floats[WIDTH * index + RUNTIME] += runtime

    def totals(self) -> Totals:
        """Return what all children and the steward have stored."""
        rows = range(0, self._recorded, WIDTH)
        done, failed, retried = (sum(self._numbers[row + kind] for row in rows) for kind in COUNTED.values())
        return Totals(done, failed, retried, sum(self._floats[row + RUNTIME] for row in rows))

    def record(self, totals: Totals) -> None:
        """Say that the history has `totals`: here, so that the next steward knows what this one has written."""
        for kind, count in zip(COUNTED.values(), totals[:3], strict=True):
            self._numbers[self._recorded + kind] = count
        self._floats[self._recorded + RUNTIME] = totals.runtime

    def recorded(self) -> Totals:
        """Return the totals that the history has."""
        done, failed, retried = (self._numbers[self._recorded + kind] for kind in COUNTED.values())
        return Totals(done, failed, retried, self._floats[self._recorded + RUNTIME])

    def done(self) -> int:
        """Return how many tasks have ended, well or not."""
        totals = self.totals()
        return totals.done + totals.failed

    def beat(self) -> None:
        """Say that the dispatcher's loop turns."""
        self._floats[self._pulse] = time.monotonic()

    def silence(self) -> float:
        """Return the seconds since the dispatcher's last beat."""
        return time.monotonic() - self._floats[self._pulse]
