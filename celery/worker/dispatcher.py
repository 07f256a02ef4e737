"""The dispatcher takes messages, hands them to children, and acknowledges what they report as durable.

One thread, one loop. What needs a database for a single job is the steward's errand: a job with a row is settled by
whoever deletes the row, a job with a tag by the broker's consumer here.
"""

import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from celery.broker.base import Consumer
from celery.message import Delivery
from celery.worker import channel, deadlines, errands, job
from celery.worker.crew import Crew, Held, Member
from celery.worker.errands import Errands
from celery.worker.intake import Intake
from celery.worker.parking import Parking
from celery.worker.slots import Slots
from celery.worker.suspects import Suspects
from celery.worker.twins import Twins
from celery.worker.window import Window

LONGEST_SLEEP: Final = 1.0

#: Words from the supervisor.
CHILD: Final = "child"
DIED: Final = "died"
#: A child was killed because its task had passed its time limit.
OVERDUE: Final = "overdue"
STEWARD: Final = "steward"
DRAIN: Final = "drain"
#: Words to the supervisor.
READY: Final = "ready"


class Dispatcher:
    """The dispatcher process, after the fork. `control` is its end of the channel to the supervisor."""

    def __init__(self, consumer: Consumer, control: socket.socket, slots: Slots, children: int) -> None:
        self._control = control
        self._slots = slots
        self._window = Window(children)
        self._crew = Crew()
        self._errands = Errands()
        self._selector = selectors.DefaultSelector()
        self._held: dict[int, Held] = {}
        links = {"on_connect": self._say_ready, "on_loss": self._forget_unstarted}
        self._intake = Intake(consumer, self._selector, self._held, **links)
        self._number = 0
        self._twins = Twins()
        #: To be handed over: ordinary jobs, and suspects, each alone.
        self._pending: deque[Held] = deque()
        self._suspects = Suspects(self._crew, self._errands)
        self._has_been_ready = self._is_draining = self._is_done = False
        self._parking = Parking(self._held, self._errands)

    def run(self) -> None:
        """Dispatch until drained, or until the supervisor is gone."""
        deadlines.apply_to_this_thread()
        self._watch(self._control, self._hear_supervisor)
        while not self._is_done:
            wait = self._intake.sleep(free=self._free(), window=self._window.size)
            for key, _ in self._selector.select(min(wait, LONGEST_SLEEP)):
                key.data()
            self._turn(time.monotonic())
            self._slots.beat()  # last: what a lost connection has taken from us is out of the children's hands
        self._intake.close()

    def _turn(self, now: float) -> None:
        window = 0 if self._is_draining else self._window.size
        self._accept(self._intake.take(now, free=self._free(), window=window), now)
        self._hand_out()
        self._errands.flush()
        self._window.adapt(now)
        self._parking.turn(now)
        if self._is_draining and not self._held:
            self._finish_draining()

    def _watch(self, end: socket.socket, react: Callable[[], None]) -> None:
        self._selector.register(end, selectors.EVENT_READ, react)

    def _say_ready(self) -> None:
        if not self._has_been_ready:
            self._has_been_ready = True
            channel.tell(self._control, READY)

    # -- taking

    def _free(self) -> int:
        return 0 if self._is_draining else max(self._window.size - len(self._held), 0)

    def _forget_unstarted(self) -> None:
        """Forget what comes again with a new connection. What runs goes on; its answer will not be acknowledged."""
        waiting = self._twins.let_go(lambda held: held.delivery.tag is not None and not held.is_parking)
        unstarted = [*self._crew.take_back_all(), *self._pending, *waiting]
        self._pending.clear()
        for held in unstarted:
            if held.delivery.tag is None or held.is_parking:
                held.when_parked(partial(self._queue, held))
            else:
                self._forget(held)

    def _queue(self, held: Held) -> None:
        """Hand a job out later: a suspect whose start is marked only to a child of its own."""
        if not held.is_ours:
            self._forget(held)
        elif held.marked:
            self._suspects.put_first(held)
        else:
            self._pending.append(held)

    def _accept(self, found: Iterable[Delivery], now: float) -> None:
        for delivery in found:
            self._number += 1
            held = Held(self._number, delivery, now)
            self._held[held.number] = held
            self._window.note_body(len(delivery.body))
            is_suspect = delivery.suspect or delivery.relayed
            if is_suspect and self._twins.holds_back(held):
                continue
            self._twins.enter(held)
            if self._is_draining:
                self._give_back(held)
            elif is_suspect:
                self._errands.ask(errands.EXAMINE, held)
            else:
                self._pending.append(held)

    # -- handing out

    def _hand_out(self) -> None:
        if not self._is_draining:
            self._pending.extendleft(reversed(self._suspects.seat()))
        if not self._pending and not self._is_draining:
            self._pending.extend(self._crew.level())
        if self._pending:
            self._pending = deque(self._crew.deal(list(self._pending)))

    def _note_marked(self, held: Held, *, is_marked: bool) -> None:
        """Go on with a suspect that was to be marked."""
        held.marked = is_marked
        if is_marked and not self._is_draining:
            self._suspects.start(held)
            return
        self._suspects.unseat(held)
        if is_marked:
            self._give_back(held)
        else:
            self._forget(held)

    # -- settling

    def _hear_member(self, member: Member) -> None:
        settled: list[Delivery] = []
        early: list[Held] = []
        for number, answer in member.answers():
            held = member.held.pop(number, None)
            if held is None:
                continue
            if answer == job.UNRUN and held.is_parking:
                held.after_parking = partial(self._start_once, [held])
            elif answer == job.UNRUN:
                early.append(held)
            elif answer == job.LATE:
                held.when_parked(partial(self._take_back_late, held))
            elif held.is_parked or held.is_parking:
                held.when_parked(partial(self._errands.ask, errands.FINISH, held))
            else:
                settled.append(held.delivery)
                self._forget(held)
        if not member.held and not self._suspects.are_marked_for(member):
            member.works_alone = False
        self._window.note_settled(len(settled))
        self._intake.settle(settled)
        self._start_once(early)

    def _take_back_late(self, held: Held) -> None:
        """Go on with what a child has not started, if the connection that it came on still stands."""
        if self._is_draining:
            self._give_back(held)
        elif held.delivery.tag is not None and not self._intake.may_settle(held.delivery):
            self._forget(held)
        else:
            self._queue(held)

    def _start_once(self, early: list[Held]) -> None:
        """Have what must run at most once kept in a row that nobody starts again."""
        for held in early:
            held.is_parked = False
            if self._is_draining:
                self._give_back(held)
            else:
                self._errands.ask(errands.START_ONCE, held)

    def _run_settled(self, held: Held) -> None:
        held.flags |= job.SETTLED
        held.marked = False
        if self._is_draining:
            self._give_back(held)
        else:
            self._pending.append(held)

    def _forget(self, held: Held) -> None:
        del self._held[held.number]
        if following := self._twins.leave(held):
            following.when_parked(partial(self._errands.ask, errands.EXAMINE, following))

    def _hear_steward(self) -> None:
        end = self._errands.end
        for kind, held, verdict, row_id in self._errands.answers():
            self._obey(kind, held, verdict, row_id)
        if end and self._errands.end is None:  # the steward died; the supervisor will send the next one
            self._selector.unregister(end)

    def _obey(self, kind: str, held: Held, verdict: str, row_id: int) -> None:
        """Do what the steward said of a job."""
        if kind == errands.MARK:
            self._note_marked(held, is_marked=verdict == errands.RUN)
        elif kind == errands.PARK:  # row 0: it has one elsewhere
            self._replace_tag(held, row_id)
            if self._twins.drop_needless(held):
                del self._held[held.number]
            else:
                held.note_parked()
        elif kind == errands.START_ONCE and verdict == errands.RUN:
            self._replace_tag(held, row_id)
            if self._twins.shares_row(held):  # two copies came, neither as a suspect: the other one runs
                self._forget(held)
            else:
                self._run_settled(held)
        elif kind == errands.EXAMINE and verdict == errands.RUN:
            self._run_examined(held, row_id)
        else:
            self._replace_tag(held, 0)
            self._forget(held)

    def _run_examined(self, held: Held, row_id: int) -> None:
        if row_id:
            self._replace_tag(held, row_id)
        elif not self._intake.may_settle(held.delivery):  # its connection was lost meanwhile: it comes again
            self._forget(held)
            return
        if self._is_draining:
            self._give_back(held)
        elif row_id:
            self._suspects.append(held)
        else:
            self._pending.append(held)

    def _replace_tag(self, held: Held, row_id: int) -> None:
        """Acknowledge to the broker what is durable in the database now."""
        self._intake.settle([held.delivery])
        held.delivery = held.delivery._replace(tag=None, row_id=row_id or held.delivery.row_id)

    # -- the supervisor's word

    def _hear_supervisor(self) -> None:
        try:
            for word, rest, ends in channel.words(self._control):
                self._hear(word, rest, ends)
        except EOFError:
            self._is_done = True

    def _hear(self, word: str, rest: list[Any], ends: list[socket.socket]) -> None:
        if word == CHILD:
            member = Member(rest[0], rest[1], *ends)
            self._crew.members[member.index] = member
            self._watch(member.end, lambda: self._hear_member(member))
        elif word in {DIED, OVERDUE}:
            self._bury_member(word, *rest)
        elif word == STEWARD:
            if self._errands.end:
                self._selector.unregister(self._errands.end)
            self._errands.connect(*ends)
            self._watch(ends[0], self._hear_steward)
        elif word == DRAIN and not self._is_draining:
            self._drain()

    def _bury_member(self, word: str, index: int, cause: str, running: int) -> None:
        """Answer the death of a child: it counts against the job that it ran; all others come back uncounted."""
        member = self._crew.members.pop(index)
        self._hear_member(member)
        self._selector.unregister(member.end)
        unstarted = member.take_back(len(member.held))
        for held in member.held.values():
            kind = errands.OVERDUE if word == OVERDUE else errands.CRASHED
            held.when_parked(partial(self._bring_back, held, kind, cause if held.number == running else ""))
        for held in unstarted:
            self._queue(held)
        if self._is_draining:
            self._give_back_pending()
        member.close()

    def _bring_back(self, held: Held, kind: str, cause: str) -> None:
        if cause and kind == errands.OVERDUE:
            self._errands.ask(kind, held, cause)
        elif held.flags & job.SETTLED:
            self._errands.ask(errands.ABANDONED, held, cause or "its process died")
        elif self._is_draining:
            held.note_end(cause)
            self._give_back(held)
        elif cause:
            self._errands.ask(kind, held, cause)
        else:
            held.leave_mark()
            self._errands.ask(errands.EXAMINE, held)

    def _drain(self) -> None:
        self._is_draining = True
        self._intake.stop()
        self._pending.extend(self._crew.take_back_all())
        self._give_back_pending()

    def _give_back_pending(self) -> None:
        waiting = [*self._pending, *self._suspects.let_all_go(), *self._twins.let_go(lambda held: not held.is_parking)]
        self._pending.clear()
        for held in waiting:
            self._give_back(held)

    def _give_back(self, held: Held) -> None:
        """Return what no child has started to where it came from."""
        if held.is_parking:
            held.when_parked(partial(self._give_back, held))
        elif held.flags & job.SETTLED:
            self._errands.ask(errands.RELEASE, held, errands.UNSTARTED)
        elif held.delivery.row_id:
            self._errands.ask(errands.RELEASE, held)
        else:
            self._intake.give_back([held.delivery])
            self._forget(held)

    def _finish_draining(self) -> None:
        for member in self._crew.members.values():
            member.dismiss()
        self._is_done = True
