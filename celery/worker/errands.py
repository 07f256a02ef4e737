"""What the dispatcher asks of the steward: whatever takes a database for one job in hand.

An errand is kept until it is answered, and asked again of the next steward if this one dies: each can be repeated.
"""

import socket
from typing import Any, Final

from celery.message import Delivery
from celery.worker import channel
from celery.worker.crew import Held

#: May this suspect (or relayed copy) run? RUN with its row, if it has one, or SETTLE.
EXAMINE: Final = "examine"
#: This suspect has a child to itself: note durably that it starts. RUN, or SETTLE if its row is not ours any more.
MARK: Final = "mark"
#: Its child died running it: count that, and keep it for another try, or as dead. SETTLE.
CRASHED: Final = "crashed"
#: It ran into its hard time limit, and its child was killed: it has failed. SETTLE.
OVERDUE: Final = "overdue"
#: It must run at most once: keep it in a row, marked so that it never starts again. RUN with the row; SETTLE if that is
#: not ours, or the task is over.
START_ONCE: Final = "start once"
#: Its only start was noted, and its process died: tell who waits, and delete its row. SETTLE.
ABANDONED: Final = "abandoned"
#: It runs for very long: keep it in a row of ours. RUN with the row, or SETTLE if there is one already.
PARK: Final = "park"
#: Delete its row. SETTLE.
FINISH: Final = "finish"
#: Give its row back, uncounted; if it is UNSTARTED, without the mark of an only start, too. SETTLE.
RELEASE: Final = "release"

UNSTARTED: Final = "unstarted"

RUN: Final = "run"
SETTLE: Final = "settle"


class Errands:
    """The dispatcher's side."""

    def __init__(self) -> None:
        self.end: socket.socket | None = None
        self._open: dict[int, tuple[str, Held, str]] = {}
        self._unsent: list[int] = []

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, number: int) -> bool:
        return number in self._open

    def connect(self, end: socket.socket) -> None:
        """Go to a new steward, with everything that is unanswered."""
        self.close()
        self.end = end
        self._unsent = list(self._open)
        self.flush()

    def ask(self, kind: str, held: Held, detail: str = "") -> None:
        """Send an errand about a job."""
        self._open[held.number] = (kind, held, detail)
        self._unsent.append(held.number)

    def flush(self) -> None:
        """Send what waits, as far as the steward takes it now."""
        while self._unsent and self.end and self._send(self._unsent[0]):
            self._unsent.pop(0)

    def _send(self, number: int) -> bool:
        kind, held, detail = self._open[number]
        words = (kind, number, held.marked, detail, tuple(held.delivery._replace(tag=None)))
        try:
            return bool(self.end and channel.tell(self.end, *words, wait=False))
        except OSError:  # the steward is gone; the next one will be asked
            return False

    def answers(self) -> list[tuple[str, Held, str, int]]:
        """Return kind, job, verdict and row of every errand that was answered."""
        found: list[tuple[str, Held, str, int]] = []
        try:
            while self.end and (heard := channel.listen(self.end)):
                number, verdict, row_id = heard[0]
                kind, held, _ = self._open.pop(number)
                found.append((kind, held, verdict, row_id))
        except (EOFError, OSError):
            self.close()
        return found

    def close(self) -> None:
        """Close the channel."""
        if self.end:
            self.end.close()
            self.end = None


class Asked:
    """One errand, as the steward hears it."""

    __slots__ = ("delivery", "detail", "kind", "marked", "number")

    def __init__(self, words: tuple[Any, ...]) -> None:
        self.kind, self.number, self.marked, self.detail, fields = words
        self.delivery = Delivery(*fields)
