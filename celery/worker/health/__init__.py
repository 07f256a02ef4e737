"""What the world outside may know of a worker: systemd by its notifications, everybody else by a socket.

It runs in the supervisor and is as quiet as that: no thread, no connection, no user code, and no call that waits.
Alive means that the supervisor's loop turns and the dispatcher's does; neither depends on the broker or the database.
"""

import json
import os
import selectors
import socket
import time
from datetime import UTC, datetime
from typing import Any, Final

from celery.worker.health.listener import Listener
from celery.worker.health.systemd import Notifier
from celery.worker.options import Options
from celery.worker.slots import Slots

STARTING: Final = "starting"
READY: Final = "ready"
RELOADING: Final = "reloading"
STOPPING: Final = "stopping"
DRAINING: Final = (RELOADING, STOPPING)

#: Seconds of the dispatcher's silence until it counts as stuck; its loop turns once a second at least.
LONGEST_SILENCE: Final = 30.0


class Health:
    """The state of one worker, told to whom it may concern. Harmless when nobody is there to hear.

    Made before anything is forked; SystemExit with a sentence if the socket cannot be had.
    """

    def __init__(self, options: Options, slots: Slots) -> None:
        self._options = options
        self._slots = slots
        self._state = STARTING
        self._deadline = 0.0
        self._since = datetime.now(UTC)
        self._systemd = Notifier()
        self._listener = Listener(options.socket, self._answer) if options.socket else None
        self._systemd.be_alive(time.monotonic())

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Have `selector` call us when a ping comes; ``key.data()`` answers it."""
        if self._listener:
            self._listener.watch(selector)

    def descriptors(self) -> list[socket.socket]:
        """Return what a forked process closes."""
        return [*self._systemd.descriptors(), *(self._listener.descriptors() if self._listener else [])]

    def turn(self, now: float) -> None:
        """Say what is due; to be called once a second at least."""
        self._systemd.flush()
        is_alive = self._is_alive(min(LONGEST_SILENCE, self._systemd.watchdog or LONGEST_SILENCE))
        if is_alive:
            self._systemd.be_alive(now)
        if is_alive and self._state != READY:
            self._systemd.extend(now)
        self._systemd.show(self._sentence(now), now)
        if self._listener:
            self._listener.turn(now)

    def note_ready(self) -> None:
        """The dispatcher takes messages. Of no interest once the worker stops."""
        if self._state == STARTING:
            self._state = READY
            self._systemd.ready()

    def note_stopping(self, deadline: float) -> None:
        """The worker drains until `deadline` of the monotonic clock, and ends."""
        if self._state != STOPPING:
            self._systemd.stopping()
        self._drain(STOPPING, deadline)

    def note_reloading(self, deadline: float) -> None:
        """The worker drains until `deadline` of the monotonic clock, and starts anew in the same process."""
        if self._state != RELOADING:
            self._systemd.reloading()
        self._drain(RELOADING, deadline)

    def _drain(self, state: str, deadline: float) -> None:
        self._state, self._deadline = state, deadline

    def close(self, *, is_restarting: bool = False) -> None:
        """Say no more. `is_restarting`: leave socket and notification to the program that follows in this process."""
        if is_restarting:
            self._systemd.say("WATCHDOG=1")  # the next one comes when the project is imported
        self._systemd.close(hand_down=is_restarting)
        if self._listener:
            self._listener.close(hand_down=is_restarting)
            self._listener = None

    def facts(self) -> dict[str, Any]:
        """Return what a ping is told, as plain values."""
        now = time.monotonic()
        return {
            "name": self._options.name,
            "pid": os.getpid(),
            "state": self._state,
            "is_alive": self._is_alive(LONGEST_SILENCE),
            "silence": round(self._slots.silence(), 3),
            "children": self._options.children,
            "busy": self._busy(),
            "done": self._slots.done(),
            "queues": list(self._options.queues),
            "since": self._since.isoformat(timespec="seconds"),
            "status": self._sentence(now),
        }

    def _answer(self) -> bytes:
        return json.dumps(self.facts()).encode() + b"\n"

    def _is_alive(self, longest_silence: float) -> bool:
        """Tell whether somebody should leave us alone: a worker that drains ends by its own deadlines."""
        return self._state in DRAINING or self._slots.silence() <= longest_silence

    def _busy(self) -> int:
        return sum(1 for index in range(self._options.children) if self._slots.running(index))

    def _sentence(self, now: float) -> str:
        """Return a line for people."""
        if self._state == STARTING:
            return "takes no messages yet"
        done = f"{_tasks(self._slots.done())} done"
        if self._state in DRAINING:
            left = max(self._deadline - now, 0.0)
            return f"{_tasks(self._busy())} still running, {left:.0f} s left, {done}"
        return f"{self._busy()} of {self._options.children} children busy, {done}, queues: {self._queues()}"

    def _queues(self) -> str:
        return ", ".join(self._options.queues)


def _tasks(number: int) -> str:
    return "1 task" if number == 1 else f"{number:,} tasks"
