"""The children as the dispatcher sees them: what each has in hand, handing over, and taking back what is not started.

The dispatcher keeps a duplicate of each child's end. Whoever receives a datagram has it alone, so a job that the
dispatcher receives there was certainly not started.
"""

import contextlib
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Final

from celery.message import Delivery
from celery.worker import channel, job

logger = logging.getLogger("celery.worker")

#: Jobs that wait in one child's channel, at most.
DEEPEST: Final = 256


class Held:
    """A job in the dispatcher's hands."""

    __slots__ = ("after_parking", "delivery", "flags", "is_parked", "is_parking", "marked", "number", "taken_at")

    def __init__(self, number: int, delivery: Delivery, taken_at: float) -> None:
        self.number = number
        self.delivery = delivery
        self.flags = 0
        #: Its row carries a start mark that this worker put there.
        self.marked = False
        #: It was stored while its task ran, and acknowledged; the steward deletes the row in the end.
        self.is_parked = False
        #: It is being stored; what happens to it meanwhile has to wait.
        self.is_parking = False
        self.after_parking: Callable[[], None] | None = None
        self.taken_at = taken_at

    @property
    def is_ours(self) -> bool:
        """Tell whether it is ours to run: it is not when parking found its row in other hands."""
        return bool(self.delivery.tag is not None or self.delivery.row_id or self.flags & job.SETTLED)

    def when_parked(self, act: Callable[[], None]) -> None:
        """Do it now, or when the steward has answered that the job is parked: one errand a job at a time."""
        if self.is_parking:
            self.after_parking = act
        else:
            act()

    def leave_mark(self) -> None:
        """Have it tried again although nobody knows whether it began: it is a suspect, and its mark stays."""
        self.delivery = self.delivery._replace(suspect=True, starts=self.delivery.starts + self.marked)
        self.marked = False

    def note_end(self, cause: str) -> None:
        """Log that its task was killed because the worker stops, if it ran at all."""
        if cause:
            name, task_id = job.name_of(self.delivery), self.delivery.task_id
            extra = {"task_id": task_id, "task_name": name}
            logger.warning("Task %s[%s] had not ended in time: killed, and given back.", name, task_id, extra=extra)

    def note_parked(self) -> None:
        """Go on with what had to wait."""
        self.is_parking, self.is_parked = False, True
        act, self.after_parking = self.after_parking, None
        if act:
            act()


class Member:
    """One child."""

    def __init__(self, index: int, pid: int, end: socket.socket, recall: socket.socket) -> None:
        self.index = index
        self.pid = pid
        self.end = end
        self._recall = recall
        self.held: dict[int, Held] = {}
        #: True: it is for a suspect; None: it is being cleared for one; False: it takes any job.
        self.works_alone: bool | None = False

    def hand_over(self, held: Held) -> bool:
        """Send a job; False if the child has enough."""
        try:
            sent = channel.send(self.end, job.pack(held.number, held.flags, held.delivery))
        except OSError:  # it died; its death will be told
            sent = False
        if sent:
            self.held[held.number] = held
        return sent

    def take_back(self, most: int) -> list[Held]:
        """Receive up to `most` jobs that the child has not started."""
        found: list[Held] = []
        while len(found) < most:
            received = self._receive_back()
            if received is None:
                break
            if received[:1] == job.JOB and (held := self.held.pop(job.number_of(received), None)):
                found.append(held)
        return found

    def _receive_back(self) -> bytes | None:
        with contextlib.suppress(EOFError, OSError):
            received = channel.receive(self._recall, wait=False)
            return received[0] if received else None
        return None

    def answers(self) -> list[tuple[int, int]]:
        """Return what the child has reported."""
        found: list[tuple[int, int]] = []
        with contextlib.suppress(EOFError, OSError):
            while received := channel.receive(self.end, wait=False):
                found += job.unpack_answers(received[0])
        return found

    def dismiss(self) -> None:
        """Tell the child to store what it has and end."""
        with contextlib.suppress(OSError):
            channel.send(self.end, [job.STOP])

    def close(self) -> None:
        """Close both ends."""
        self.end.close()
        self._recall.close()


class Crew:
    """All children."""

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}

    def deal(self, jobs: Sequence[Held]) -> Sequence[Held]:
        """Hand jobs over, each to the child with the fewest in hand; return those that nobody can take now."""
        ready = [
            member for member in self.members.values() if member.works_alone is False and len(member.held) < DEEPEST
        ]
        for position, held in enumerate(jobs):
            if not self._hand_to_one(ready, held):
                return jobs[position:]
        return ()

    @staticmethod
    def _hand_to_one(ready: list[Member], held: Held) -> bool:
        while ready:
            member = min(ready, key=_load)
            is_sent = member.hand_over(held)
            if not is_sent or len(member.held) >= DEEPEST:
                ready.remove(member)
            if is_sent:
                return True
        return False

    def clear_one(self) -> tuple[Member | None, list[Held]]:
        """Set a child aside for a suspect: it gets nothing else until it has answered.

        Returns the child once it has nothing in hand, and what was taken back to clear it.
        """
        free = [member for member in self.members.values() if member.works_alone is not True]
        member = min(free, key=_load, default=None)
        if member is None:
            return None, []
        cleared = member.take_back(len(member.held))
        member.works_alone = True if not member.held else None
        return (None if member.held else member), cleared

    def level(self) -> list[Held]:
        """Take unstarted jobs back from the busiest child when another has nothing to do."""
        idle = [member for member in self.members.values() if not member.held and member.works_alone is False]
        busiest = max(self.members.values(), key=_load, default=None)
        if not idle or busiest is None or len(busiest.held) < 2:  # noqa: PLR2004 - one is what it runs
            return []
        return busiest.take_back(len(busiest.held) // 2)

    def take_back_all(self) -> list[Held]:
        """Take back whatever no child has started; a child that was set aside for it takes any job again."""
        found: list[Held] = []
        for member in self.members.values():
            taken = member.take_back(len(member.held))
            if taken and not member.held:
                member.works_alone = False
            found += taken
        return found


def _load(member: Member) -> int:
    return len(member.held)
