"""The suspects that may run: their start is marked durably before they are handed over, to a child set aside for it.

Those that carry no mark yet share a child: there may be a thousand of them, of which perhaps four had ever started. One
with a mark runs alone, so that what takes its worker with it again is known; one on its last chance does so beside no
other suspect.
"""

from collections import deque
from typing import Final

from celery.worker import errands, job
from celery.worker.crew import Crew, Held, Member
from celery.worker.errands import Errands

#: Suspects without a mark that share a child, at most.
LARGEST_GROUP: Final = 32


class Suspects:
    """A line of suspects, and the children that were cleared for those whose start is being marked."""

    def __init__(self, crew: Crew, errands: Errands) -> None:
        self._crew = crew
        self._errands = errands
        self._waiting: deque[Held] = deque()
        self._seats: dict[int, Member] = {}
        #: The child that has, or last had, one on its last chance.
        self._last: Member | None = None

    def append(self, held: Held) -> None:
        """Put a suspect at the end of the line."""
        self._waiting.append(held)

    def put_first(self, held: Held) -> None:
        """Put a suspect back at the head of the line."""
        self._waiting.appendleft(held)

    def seat(self) -> list[Held]:
        """Find children for those that wait, and return what was taken back to clear these."""
        taken_back: list[Held] = []
        while self._waiting and self._may_start():
            member, cleared = self._crew.clear_one()
            taken_back += cleared
            if member is None:
                break
            if _is_last_chance(self._waiting[0]):
                self._last = member
            if not all(self._start(held, member) for held in self._next_group()):
                break
        return taken_back

    def _may_start(self) -> bool:
        """One on its last chance and another suspect do not run at once: it would be dead for what the other did."""
        busy = [member for member in self._crew.members.values() if member.works_alone]
        return not busy or not (self._last in busy or _is_last_chance(self._waiting[0]))

    def _next_group(self) -> list[Held]:
        """Return those that start together: as many as leave something to the other children."""
        size = min(-(-len(self._waiting) // len(self._crew.members)), LARGEST_GROUP)
        group = [self._waiting.popleft()]
        while _is_first_mark(group[0]) and len(group) < size and _is_first_mark(self._waiting[0]):
            group.append(self._waiting.popleft())
        return group

    def _start(self, held: Held, member: Member) -> bool:
        """Have it marked, or hand it over. False: the child has just died, or takes no more now."""
        if not held.marked:
            self._seats[held.number] = member
            self._errands.ask(errands.MARK, held)
        elif not member.hand_over(held):
            self._waiting.appendleft(held)
            self._open_to_all(member)
            return False
        return True

    def unseat(self, held: Held) -> None:
        """Forget the child that waits for a suspect: it waited in vain."""
        self._open_to_all(self._seats.pop(held.number))

    def _open_to_all(self, member: Member) -> None:
        """Have a child take other jobs again, unless it has a suspect, or waits for another one."""
        member.works_alone = bool(member.held) or self.are_marked_for(member)

    def are_marked_for(self, member: Member) -> bool:
        """Tell whether a child waits for suspects whose start is being marked."""
        return member in self._seats.values()

    def start(self, held: Held) -> None:
        """Hand a marked suspect to the child that waits for it; that may be gone by now."""
        member = self._seats.pop(held.number)
        if self._crew.members.get(member.index) is member:
            self._start(held, member)
        else:
            self._waiting.appendleft(held)

    def let_all_go(self) -> list[Held]:
        """Return all that wait in line. What is being marked stays: its answer comes."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting


def _is_first_mark(held: Held) -> bool:
    return not held.marked and not held.delivery.starts


def _is_last_chance(held: Held) -> bool:
    return held.delivery.starts >= job.MOST_STARTS - 1
