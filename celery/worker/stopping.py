"""What the signals so far have asked of the worker: to go on, to end by some moment, to start anew afterwards."""

import signal
from typing import Final

#: Seconds within which signals to stop are one request: some programs signal a process and its group.
SAME_REQUEST: Final = 0.3


class Stopping:
    """TERM and INT drain, a second one and QUIT end at once, HUP starts anew unless the worker is to stop for good."""

    def __init__(self, drain_timeout: float) -> None:
        self._drain_timeout = drain_timeout
        self._last = (0, 0.0)
        #: The monotonic moment at which what still runs is killed; None: nobody has asked for an end.
        self.deadline: float | None = None
        self.wants_restart = False

    def ask(self, number: int, now: float) -> bool:
        """Take a signal. True: stopping begins with it."""
        is_repeated = number == self._last[0] and now - self._last[1] < SAME_REQUEST
        is_stopping = self.deadline is not None
        if is_repeated or (number == signal.SIGHUP and is_stopping):
            return False
        is_change_of_mind = self.wants_restart and is_stopping
        self._last = (number, now)
        self.wants_restart = number == signal.SIGHUP
        if number == signal.SIGQUIT or (is_stopping and not is_change_of_mind):
            self.deadline = now
        elif not is_stopping:
            self.deadline = now + self._drain_timeout
        return not is_stopping
