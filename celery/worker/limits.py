"""Limits on tasks and children. Here is the child's side: the supervisor kills who passes the deadline in its slot.

The soft limit is an alarm of the child's own, raised in its main thread, where the task runs.
"""

import logging
import os
import signal
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Self

from celery.exceptions import SoftTimeLimitExceeded
from celery.worker.options import Bounds
from celery.worker.slots import Slots

logger = logging.getLogger("celery.worker")

#: Sizes of processes, in pages: the second number is what is resident.
STATM: Final = Path("/proc/self/statm")
KIB_A_PAGE: Final = os.sysconf("SC_PAGE_SIZE") // 1024

#: Modules that swallow, or turn into another one, what is raised while they are at work. The soft limit waits for them,
#: as it does for finalizers; looks again after so many seconds, and waits no longer than so many.
SWALLOWERS: Final = frozenset({"logging", "celery.message"})
LOOK_AGAIN: Final = 0.001
LONGEST_WAIT: Final = 1.0


class TimeLimit:
    """A block in which a task of this child runs. Raises SoftTimeLimitExceeded in it, once."""

    def __init__(self, slots: Slots, index: int, bounds: Bounds) -> None:
        self._slots = slots
        self._index = index
        self._bounds = bounds
        self._soft: float | None = None
        self._hard: float | None = None
        self._is_armed = False
        self._pid = 0
        self._latest = 0.0
        self._before: Any = None
        self._was_hit = False

    def of(self, task: Any) -> Self:
        """Take the limits of `task`; where it says nothing, those of the worker. 0 is no limit."""
        hard, soft = getattr(task, "time_limit", None), getattr(task, "soft_time_limit", None)
        self._hard = self._bounds.time_limit if hard is None else hard
        self._soft = self._bounds.soft_time_limit if soft is None else soft
        return self

    def __enter__(self) -> None:
        self._pid = os.getpid()
        if self._hard:
            self._slots.set_limit(self._index, self._hard)
        if self._soft:
            self._is_armed = True
            self._latest = time.monotonic() + self._soft + LONGEST_WAIT
            self._before = signal.signal(signal.SIGALRM, self._expire)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})  # an earlier task may have blocked it
            signal.setitimer(signal.ITIMER_REAL, self._soft)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_armed = False  # first: an alarm that comes now is too late, and must not hit what follows
        if self._hard and os.getpid() == self._pid:  # a forked copy of the task: the slot is the task's own
            self._slots.set_limit(self._index, 0.0)

    def disarm(self) -> bool:
        """Leave no alarm behind, neither ours nor the task's, and have SIGALRM mean what it meant before the task.

        True: the task was interrupted, and whatever it was talking to may be in the middle of something.
        """
        self._is_armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self._before is not None and signal.getsignal(signal.SIGALRM) == self._expire:
            signal.signal(signal.SIGALRM, self._before)
        was_hit, self._was_hit = self._was_hit, False
        return was_hit

    def _expire(self, _number: int, frame: FrameType | None) -> None:
        if self._is_armed and _is_swallowed(frame) and time.monotonic() < self._latest:
            signal.setitimer(signal.ITIMER_REAL, LOOK_AGAIN)
        elif self._is_armed:
            self._is_armed, self._was_hit = False, True
            raise SoftTimeLimitExceeded(f"the task ran longer than its soft time limit of {self._soft:g} s")


def _is_swallowed(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "__del__" or frame.f_globals.get("__name__") in SWALLOWERS:
            return True
        frame = frame.f_back
    return False


class Wear:
    """What a child has used up of what it may."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._tasks = 0

    def note_task(self) -> bool:
        """Count a task. True: it was the last one, this child is to be replaced."""
        self._tasks += 1
        most_tasks, most_memory = self._bounds.max_tasks, self._bounds.max_memory
        if most_tasks and self._tasks >= most_tasks:
            text = "A child is replaced: it has run %d of %d tasks."
            logger.info(text, self._tasks, most_tasks, extra={"tasks": self._tasks})
            return True
        if most_memory and (memory := resident()) > most_memory:
            text = "A child is replaced: it holds %d KiB, more than %d."
            logger.info(text, memory, most_memory, extra={"tasks": self._tasks, "memory": memory})
            return True
        return False


def resident() -> int:
    """Return the resident memory of this process, in KiB."""
    return int(STATM.read_bytes().split()[1]) * KIB_A_PAGE
