"""The steward does the chores in the database: proof of life, rescue, schedule, relay, and the dispatcher's errands."""

import contextlib
import logging
import os
import selectors
import socket
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from celery import broker, conf
from celery.broker import store
from celery.exceptions import LeaseLost
from celery.worker import channel, deadlines
from celery.worker.announcer import Announcer
from celery.worker.beat import Beat
from celery.worker.chore import ROW_ERRORS, TROUBLE, Chore
from celery.worker.errands import Asked
from celery.worker.heartbeat import Heartbeat
from celery.worker.options import Options
from celery.worker.relay import SLICE, Relay
from celery.worker.rescue import Answer, Rescue
from celery.worker.slots import Slots
from celery.worker.tally import Tally
from celery.worker.vacuum import Vacuum

logger = logging.getLogger("celery.worker")

LONGEST_SLEEP: Final = 1.0
#: Seconds without a turn of the dispatcher's loop that mean nothing, however short the lease: it may sleep for one.
SILENT: Final = 2.0
#: Seconds between looks whether the worker is enlisted by now.
ENLISTING_PAUSE: Final = 0.2
#: Seconds until an errand is tried again whose row the database refuses.
REFUSED_PAUSE: Final = 60.0

#: Words from the supervisor: a dispatcher (its owner, and whether it is new); something that happened; the end.
DISPATCHER: Final = "dispatcher"
EVENT: Final = "event"
STOP: Final = "stop"
#: Words to the supervisor, of an owner: what it held is not its own any more; it has its row.
LOST: Final = "lost"
ENLISTED: Final = "enlisted"


class Steward:
    """The steward process, after the fork."""

    def __init__(self, control: socket.socket, slots: Slots, options: Options) -> None:
        self._control = control
        self._slots = slots
        self._options = options
        self._broker = broker.current()
        self._store = store.of(self._broker.alias)
        self._selector = selectors.DefaultSelector()
        self._errands: socket.socket | None = None
        self._asked: list[Asked] = []
        #: Errands that the database refuses, and the moment at which they are tried again.
        self._refused: list[Asked] = []
        self._ask_refused_at = 0.0
        self._owner = ""
        self._is_enlisted = False
        self._is_silent = False
        self._to_retire: list[str] = []
        self._chores: list[Chore] = []
        self._beat = Beat(after=self._hurry_relay)
        self._tally = Tally(self._broker, options.name, options.queues, slots)
        self._is_stopping = False
        self._announcer = Announcer()

    def run(self) -> None:
        """Do chores until told to stop; then give back whatever the worker still holds."""
        deadlines.apply_to_this_thread()
        self._announcer.start()
        self._selector.register(self._control, selectors.EVENT_READ, self._hear_supervisor)
        while not self._is_stopping:
            for key, _ in self._selector.select(self._sleep()):
                key.data()
            for chore in self._chores:
                self._slots.beat_as_steward()
                chore.run_if_due()
        self._to_retire.append(self._owner)
        Chore("Signing off", self._retire).run_if_due()
        Chore("History", self._tally.finish).run_if_due()
        self._announcer.stop()
        logger.info("Worker %s has stopped.", self._options.name)

    def _sleep(self) -> float:
        next_at = min((chore.at for chore in self._chores), default=float("inf"))
        return min(max(next_at - time.monotonic(), 0.0), LONGEST_SLEEP)

    def _serve(self, owner: str, *, is_new: bool) -> None:
        """Work for a dispatcher. What the one before held is given back: it is dead, and so are its children."""
        if self._owner and self._owner != owner:
            self._to_retire.append(self._owner)
        self._owner, self._is_enlisted, self._is_silent = owner, not is_new, False
        heartbeat = Heartbeat(self._store, owner, conf.LEASE, self._announcer.put)
        count = partial(self._slots.count, self._slots.stewards)
        rescue = Rescue(self._store, owner, self._options.name, count=count, announce=self._announcer.put)
        announce = self._announcer.put
        relay = Relay(self._broker, self._store, owner, bury_worn_out=rescue.bury_worn_out, announce=announce)
        self._asked, self._refused = [], []
        self._running_errands = Chore("Errands", lambda: self._run_errands(rescue))
        self._relaying = Chore("Relay", lambda: self._relay(relay))
        beat = [Chore("Periodic tasks", self._send_periodic)] if self._options.beat else []
        self._chores = [
            Chore("Proof of life", lambda: self._live(heartbeat)),
            self._running_errands,
            Chore("Give-back", self._retire),
            Chore("Orphans", self._release_orphans),
            *beat,
            self._relaying,
            Chore("History", self._tally.step),
            Chore("Vacuum", Vacuum(self._store, self._slots).step),
        ]

    # -- chores: each returns the seconds until its next time

    def _live(self, heartbeat: Heartbeat) -> float:
        began = time.monotonic()
        if not self._is_enlisted:
            self._enlist()
        elif self._slots.silence() > max(heartbeat.interval, SILENT):
            self._note_silence()
            return heartbeat.interval if self._store.has_lease(self._owner) else self._note_loss()
        elif not heartbeat.beat():
            return self._note_loss()
        self._is_silent = False
        self._slots.extend_lease(began + conf.LEASE)  # others saw us change after that moment
        return heartbeat.interval

    def _note_loss(self) -> float:
        logger.error("Others declared this worker lost; it starts anew.")
        channel.tell(self._control, LOST, self._owner)
        return float("inf")

    def _note_silence(self) -> None:
        """Withhold the proof of life; log it once for a dispatcher."""
        if not self._is_silent:
            logger.warning("The dispatcher has been silent for %.1f s; no proof of life.", self._slots.silence())
        self._is_silent = True

    def _enlist(self) -> None:
        who = self._options
        self._store.enlist(
            self._owner, name=who.name, pid=os.getppid(), queues=who.queues, concurrency=who.children, lease=conf.LEASE
        )
        self._is_enlisted = True
        channel.tell(self._control, ENLISTED, self._owner)

    def _run_errands(self, rescue: Rescue) -> float:
        until = time.monotonic() + SLICE
        if self._refused and time.monotonic() >= self._ask_refused_at:
            self._asked += self._refused
            self._refused = []
        while self._asked:
            self._slots.beat_as_steward()
            batch = self._asked[:100]
            for answer in self._answers(rescue, batch):
                if self._errands:
                    with contextlib.suppress(OSError):  # who asked is gone, and so are its errands
                        channel.tell(self._errands, *answer)
            del self._asked[: len(batch)]
            if time.monotonic() > until:
                return 0.0
        return LONGEST_SLEEP

    def _answers(self, rescue: Rescue, batch: Sequence[Asked]) -> list[Answer]:
        """Answer a batch; where one of it cannot be done, one by one. That one is asked again later.

        Whatever is wrong with it: the next steward would meet it again, and no errand would be done any more.
        """
        try:
            return rescue.answer(batch)
        except Exception as error:
            if isinstance(error, TROUBLE) and not isinstance(error, ROW_ERRORS):
                raise
            if len(batch) > 1:
                return [answer for one in batch for answer in self._answers(rescue, [one])]
            if not self._refused:
                self._ask_refused_at = time.monotonic() + REFUSED_PAUSE
            logger.exception("The errand %r for job %s is refused.", batch[0].kind, batch[0].delivery.task_id)
            self._refused += batch
            return []

    def _retire(self) -> float:
        """Remove the rows of dead dispatchers, with their claims: these return as suspects."""
        while self._to_retire:
            self._store.retire(self._to_retire[0])
            self._to_retire.pop(0)
            self._store.poke()
        return float(conf.LEASE)

    def _release_orphans(self) -> float:
        if released := self._store.retire_orphans():
            logger.warning("%d messages held by workers that are gone are tried again.", released)
            self._store.poke()
        return float(conf.LEASE)

    def _relay(self, relay: Relay) -> float:
        if not self._is_enlisted:
            return LONGEST_SLEEP
        try:
            return relay.step()
        except LeaseLost:
            return LONGEST_SLEEP  # the next proof of life finds out and answers it

    def _send_periodic(self) -> float:
        return self._beat.step() if self._is_enlisted else ENLISTING_PAUSE

    def _hurry_relay(self) -> None:
        """What was sent by the clock waits in the table: do not let it wait for the relay's next look."""
        self._relaying.at = 0.0

    # -- what is heard

    def _hear_errands(self) -> None:
        try:
            while self._errands and (heard := channel.listen(self._errands)):
                self._asked.append(Asked(heard[0]))
        except EOFError:
            self._close_errands()
        self._running_errands.at = 0.0

    def _close_errands(self) -> None:
        if self._errands:
            self._selector.unregister(self._errands)
            self._errands.close()
            self._errands = None

    def _hear_supervisor(self) -> None:
        try:
            for word, rest, ends in channel.words(self._control):
                self._hear(word, rest, ends)
        except EOFError:
            self._is_stopping = True

    def _hear(self, word: str, rest: list[Any], ends: list[socket.socket]) -> None:
        if word == DISPATCHER:
            self._close_errands()
            self._errands = ends[0]
            self._selector.register(self._errands, selectors.EVENT_READ, self._hear_errands)
            self._serve(rest[0], is_new=rest[1])
        elif word == EVENT:
            if rest[0] == "worker_stopping":
                self._beat.rest()
            self._announcer.put(rest[0], rest[1])
        elif word == STOP:
            self._is_stopping = True
