"""Memory that the processes of one worker share: what each child runs now, and the dispatcher's pulse.

A slot names the victim when a child is killed. Each value is eight aligned bytes, written in one store.
"""

import mmap
import time


class Slots:
    """One slot a child, and one pulse. Made by the supervisor before it forks."""

    def __init__(self, children: int) -> None:
        memory = memoryview(mmap.mmap(-1, 8 * (children + 1)))
        self._running = memory[: 8 * children].cast("Q")
        self._pulse = memory[8 * children :].cast("d")

    def begin(self, index: int, number: int) -> None:
        """Say that child `index` runs job `number` (from 1) now."""
        self._running[index] = number

    def end(self, index: int) -> None:
        """Say that child `index` runs nothing."""
        self._running[index] = 0

    def running(self, index: int) -> int:
        """Return the number of the job that child `index` runs, or 0."""
        return self._running[index]

    def beat(self) -> None:
        """Say that the dispatcher's loop turns."""
        self._pulse[0] = time.monotonic()

    def silence(self) -> float:
        """Return the seconds since the dispatcher's last beat."""
        return time.monotonic() - self._pulse[0]
