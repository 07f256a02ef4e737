"""What systemd is told of a worker, by the protocol of sd_notify(3): one datagram a message, and never a wait.

Why this is no library: docs/decisions/0021-systemd-notification.rst.
"""

import logging
import os
import socket
import time
from collections import deque
from typing import Final

logger = logging.getLogger("celery.worker")

VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
#: Seconds between two lines of status, and between two requests for more time.
STATUS_PAUSE: Final = 2.0
EXTEND_PAUSE: Final = 2.0
#: Seconds that are asked for, again and again, to start or to stop: much longer than the pause.
EXTENSION: Final = 15.0
#: Seconds between two turns of the supervisor's loop at most, and between two signs of life at least.
LONGEST_TURN: Final = 1.0
SHORTEST_PAUSE: Final = 0.25
LONGEST_STATUS: Final = 500
MICROSECONDS: Final = 1_000_000


class Notifier:
    """The way to the systemd that started this process. Silent, and harmless, when none did.

    Its variables are taken out of the environment, so that no program that a task starts speaks in our name.
    """

    def __init__(self) -> None:
        self._taken = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
        self._address, self._socket = _opened(self._taken.get("NOTIFY_SOCKET", ""))
        #: Seconds without a sign of life after which systemd acts, or 0.0.
        self.watchdog = self._find_watchdog() if self._socket else 0.0
        self._waiting: deque[bytes] = deque()
        self._status = ""
        self._status_at = self._extended_at = self._alive_at = float("-inf")

    def _find_watchdog(self) -> float:
        if self._taken.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            return 0.0
        interval = self._taken.get("WATCHDOG_USEC", "0")
        if not interval.isdigit():
            logger.warning("WATCHDOG_USEC=%s is no number: systemd gets no signs of life.", interval)
            return 0.0
        return int(interval) / MICROSECONDS

    def descriptors(self) -> list[socket.socket]:
        """Return what a forked process closes."""
        return [self._socket] if self._socket else []

    def say(self, message: str) -> None:
        """Send a message, now or as soon as systemd reads again; it may have several lines ``NAME=value``."""
        if self._socket:
            self._waiting.append(message.encode("utf-8", "replace"))
            self.flush()

    def flush(self) -> None:
        """Send what waits. Never blocks; what nobody will ever read is dropped."""
        while self._socket and self._waiting:
            try:
                self._socket.sendto(self._waiting[0], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, self._address)
            except BlockingIOError:  # its queue is full: at the next turn
                return
            except OSError:
                pass  # it listened at our start; what we do does not depend on its being there
            self._waiting.popleft()

    def ready(self) -> None:
        """Say that the worker has begun to take messages."""
        self.say("READY=1")

    def reloading(self) -> None:
        """Say that the worker starts anew; `ready` follows, from the same pid."""
        self.say(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Say that the worker stops."""
        self.say("STOPPING=1")

    def be_alive(self, now: float) -> None:
        """Give a sign of life at half of what systemd waits for; early rather than a turn too late."""
        is_due = now - self._alive_at >= max(self.watchdog / 2 - LONGEST_TURN, SHORTEST_PAUSE)
        if self.watchdog and is_due and self._can_speak():
            self._alive_at = now
            self.say("WATCHDOG=1")

    def show(self, status: str, now: float) -> None:
        """Show a line to people, if it has changed, and not too often."""
        is_due = status != self._status and now - self._status_at >= STATUS_PAUSE
        if is_due and self._can_speak():
            self._status, self._status_at = status, now
            line = "".join(letter if letter.isprintable() else " " for letter in status[:LONGEST_STATUS])
            self.say(f"STATUS={line}")

    def extend(self, now: float) -> None:
        """Ask for some more time to start or to stop; to be called for as long as that goes on."""
        if now - self._extended_at >= EXTEND_PAUSE and self._can_speak():
            self._extended_at = now
            self.say(f"EXTEND_TIMEOUT_USEC={int(EXTENSION * MICROSECONDS)}")

    def _can_speak(self) -> bool:
        """Tell whether there is somebody who reads. What is said again and again is not kept for one who does not."""
        return self._socket is not None and not self._waiting

    def close(self, *, hand_down: bool) -> None:
        """Say no more; what waits is lost. `hand_down`: the program that follows in this process speaks on."""
        self.flush()
        if self._socket:
            self._socket.close()
            self._socket = None
        if hand_down:
            os.environ.update(self._taken)
        self._taken = {}


def _opened(variable: str) -> tuple[str, socket.socket | None]:
    """Return the address that NOTIFY_SOCKET means, and a socket if somebody listens there."""
    if not variable:
        return "", None
    if variable[0] not in "/@":
        logger.warning("NOTIFY_SOCKET=%s is no unix socket: systemd is told nothing.", variable)
        return "", None
    address = f"\0{variable[1:]}" if variable[0] == "@" else variable
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
    except OSError as error:
        logger.warning("NOTIFY_SOCKET=%s: %s. systemd is told nothing.", variable, error.strerror or error)
        return "", None
    return address, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
