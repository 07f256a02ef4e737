"""The suspects that may run: each gets a child to itself, and its start is marked durably before it is handed over."""

from collections import deque

from celery.worker import errands
from celery.worker.crew import Crew, Held, Member
from celery.worker.errands import Errands


class Suspects:
    """A line of suspects, and the children that were cleared for those whose start is being marked."""

    def __init__(self, crew: Crew, errands: Errands) -> None:
        self._crew = crew
        self._errands = errands
        self._waiting: deque[Held] = deque()
        self._seats: dict[int, Member] = {}

    def append(self, held: Held) -> None:
        """Put a suspect at the end of the line."""
        self._waiting.append(held)

    def put_first(self, held: Held) -> None:
        """Put a suspect back at the head of the line."""
        self._waiting.appendleft(held)

    def seat(self) -> list[Held]:
        """Find children for those that wait, and return what was taken back to clear these."""
        taken_back: list[Held] = []
        while self._waiting:
            member, cleared = self._crew.clear_one()
            taken_back += cleared
            if member is None:
                break
            self._start_alone(self._waiting.popleft(), member)
        return taken_back

    def _start_alone(self, held: Held, member: Member) -> None:
        if not held.marked:
            self._seats[held.number] = member
            self._errands.ask(errands.MARK, held)
        elif not member.hand_over(held):  # the child has just died
            self._waiting.appendleft(held)

    def note_marked(self, held: Held, *, is_marked: bool) -> None:
        """Take the steward's answer: a child that waited in vain takes other jobs again."""
        held.marked = is_marked
        if not is_marked:
            self._seats.pop(held.number).works_alone = False

    def start(self, held: Held) -> None:
        """Hand a marked suspect to the child that waits for it; that may be gone by now."""
        member = self._seats.pop(held.number)
        if self._crew.members.get(member.index) is member:
            self._start_alone(held, member)
        else:
            self._waiting.appendleft(held)

    def let_all_go(self) -> list[Held]:
        """Return all that wait in line. What is being marked stays: its answer comes."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting
