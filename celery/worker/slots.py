"""Memory that the processes of one worker share: what each child runs and has done, and two pulses, the lease.

A slot names the victim when a child is killed. Each value is eight aligned bytes, written in one store, by one thread.
"""

import mmap
import time
from typing import Final, NamedTuple

from celery import states

#: The columns of a child: the job that it runs, its deadline, and what it has stored since the worker's start; then how
#: many jobs the child in this place has begun, and how many it has reported.
RUNNING, DEADLINE, LIMIT, DONE, FAILED, RETRIED, RUNTIME, BEGUN, REPORTED = range(9)
WIDTH: Final = 9
COUNTED: Final = {states.DONE: DONE, states.FAILURE: FAILED, states.RETRY: RETRIED}

#: Seconds without a turn of the dispatcher's loop after which a broker may have given its messages to others: RabbitMQ
#: waits for 20 s (`amqp.HEARTBEAT`), Redis for longer.
LONGEST_SILENCE: Final = 10.0


def count_nothing(_kind: str, _runtime: float) -> None:
    """Stand in for `Slots.count` where there is no worker."""


def note_nothing(_count: int) -> None:
    """Stand in for `Slots.note_reported` likewise."""


class Totals(NamedTuple):
    """What a worker has stored since its start; `runtime` in seconds."""

    done: int
    failed: int
    retried: int
    runtime: float


class Slots:
    """One slot a child, one for the steward, one for the history, two pulses, the lease. Made before the forks."""

    def __init__(self, children: int) -> None:
        #: Where the steward counts what it stores itself.
        self.stewards = children
        memory = memoryview(mmap.mmap(-1, 8 * (WIDTH * (children + 2) + 3)))
        self._numbers = memory.cast("Q")
        self._floats = memory.cast("d")
        self._recorded = WIDTH * (children + 1)
        self._pulse = WIDTH * (children + 2)
        self.extend_lease(float("inf"))
        self._floats[self._pulse] = float("inf")

    def begin(self, index: int, number: int) -> None:
        """Say that child `index` runs job `number` (from 1) now."""
        self._numbers[WIDTH * index + RUNNING] = number
        self._numbers[WIDTH * index + BEGUN] += 1

    def end(self, index: int) -> None:
        """Say that child `index` runs nothing."""
        self._floats[WIDTH * index + DEADLINE] = 0.0
        self._numbers[WIDTH * index + RUNNING] = 0

    def clear(self, index: int) -> None:
        """Say that a new child takes the place `index`: it has nothing in hand."""
        self.end(index)
        self._numbers[WIDTH * index + BEGUN] = self._numbers[WIDTH * index + REPORTED] = 0

    def note_reported(self, index: int, count: int) -> None:
        """Say that child `index` has reported so many jobs: they are stored."""
        self._numbers[WIDTH * index + REPORTED] += count

    def is_busy(self, index: int) -> bool:
        """Tell whether child `index` runs a job, or has one that is not stored yet."""
        return self._numbers[WIDTH * index + BEGUN] != self._numbers[WIDTH * index + REPORTED]

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

    def beat_as_steward(self) -> None:
        """Say that the steward's loop turns."""
        self._floats[self._pulse + 1] = time.monotonic()

    def pulse_of_dispatcher(self) -> float:
        """Return the moment of the dispatcher's last beat, of the monotonic clock."""
        return self._floats[self._pulse]

    def pulse_of_steward(self) -> float:
        """Return the moment of the steward's last beat."""
        return self._floats[self._pulse + 1]

    def silence(self) -> float:
        """Return the seconds since the dispatcher's last beat."""
        return time.monotonic() - self.pulse_of_dispatcher()

    def extend_lease(self, until: float) -> None:
        """Say that nobody can take over what this worker holds before a moment of the monotonic clock."""
        self._floats[self._pulse + 2] = until

    def may_start(self, *, has_row: bool) -> bool:
        """Tell whether a job that a child holds is its worker's for certain: else others may have taken it over.

        One with a row is ours while the lease lasts. One of a broker is, while the dispatcher looks after the
        connection that it came on. True where there is neither steward nor dispatcher.
        """
        return time.monotonic() < self._floats[self._pulse + 2] if has_row else self.silence() < LONGEST_SILENCE
