"""The writer thread of a child: stores whatever has finished since its last write, in one transaction, then reports it.

Groups form by themselves under load; an idle worker writes at once. The world may be down: then it waits and tries
again, and nothing is reported meanwhile. One bad row never fails its group.
"""

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Final

from celery import states
from celery.backends import exceptions as stored_exceptions
from celery.exceptions import UnencodableResult
from celery.worker import channel, deadlines, job, writes
from celery.worker.chore import patiently
from celery.worker.connections import drop_connections, forget_queries
from celery.worker.job import Outcome
from celery.worker.slots import count_nothing, note_nothing
from celery.worker.writes import Planned

logger = logging.getLogger("celery.worker")

LARGEST_GROUP: Final = 500
LARGEST_TEXT: Final = 8 * 1024 * 1024
#: Outcomes, and their characters, that may wait to be stored before the child runs no further task.
MOST_WAITING: Final = 4 * LARGEST_GROUP
MOST_TEXT: Final = 4 * LARGEST_TEXT
#: Seconds until outcomes are tried again that the database refuses in every form.
REFUSED_PAUSE: Final = 30.0


class Writer(threading.Thread):
    """Stores outcomes in the order in which they come.

    `count` is told the kind and runtime (s) of each that is stored, `note_reported` how many are out of our hands.
    """

    def __init__(
        self,
        end: socket.socket,
        *,
        owner: str,
        worker: str,
        count: Callable[[str, float], None] = count_nothing,
        note_reported: Callable[[int], None] = note_nothing,
    ) -> None:
        super().__init__(name="writer", daemon=True)
        self._end = end
        self._owner = owner
        self._worker = worker
        self._count = count
        self._note_reported = note_reported
        self._waiting: list[Outcome] = []
        self._text = 0
        #: Outcomes that can neither be stored nor be called unstorable, by their jobs, and when they are tried again.
        self._refused: dict[int, Outcome] = {}
        self._known_refused: set[int] = set()
        self._try_refused_at = 0.0
        self._changed = threading.Condition()
        self._stopping = False

    def put(self, outcome: Outcome) -> None:
        """Hand over an outcome; waits only while very many, or very large ones, are unwritten."""
        with self._changed:
            self._waiting.append(outcome)
            self._text += _size(outcome)
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self.is_full)

    @property
    def is_full(self) -> bool:
        """Whether so much is unwritten that the child has to wait."""
        return len(self._waiting) >= MOST_WAITING or self._text >= MOST_TEXT

    def stop(self) -> None:
        """Store what is left, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self.join()

    def run(self) -> None:
        """Write group after group. A child whose writer fails is of no use: it ends, and its jobs are tried again."""
        deadlines.apply_to_this_thread()
        try:
            while group := self._next_group():
                self._store(group)
                forget_queries()
            drop_connections()
        except BaseException:
            logger.critical("The writer failed; its child ends.", exc_info=True)
            os._exit(1)

    def _next_group(self) -> list[Outcome]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping, timeout=self._until_refused())
            if self._refused and (self._stopping or not self._waiting or not self._until_refused()):
                return [self._refused.pop(number) for number in list(self._refused)[:LARGEST_GROUP]]
            size = _group_size(self._waiting)
            group, self._waiting = self._waiting[:size], self._waiting[size:]
            self._text -= sum(map(_size, group))
            self._changed.notify_all()
            return group

    def _until_refused(self) -> float | None:
        return max(self._try_refused_at - time.monotonic(), 0.0) if self._refused else None

    def _store(self, group: Sequence[Outcome]) -> None:
        """Write `group` however long it takes, then report it."""
        try:
            kept = self._until_the_world_is_up(group)
        except Exception:  # noqa: BLE001 - a fault of one row, whatever it is, or of this connection
            drop_connections()
            kept = []
            for outcome in group:
                self._report(self._store_alone(outcome))
        self._report(kept)

    def _store_alone(self, outcome: Outcome) -> Planned:
        """Store one outcome, or that it cannot be stored. If even that is refused, it may not be the row: try later."""
        try:
            return self._until_the_world_is_up([outcome])
        except Exception as error:  # noqa: BLE001 - as above
            return self._store_failure(outcome, error)

    def _store_failure(self, outcome: Outcome, error: Exception) -> Planned:
        try:
            return self._until_the_world_is_up([unstorable(outcome, error)])
        except Exception:
            drop_connections()
            if outcome.job.number not in self._known_refused:
                text = "Job %s can neither be stored nor settled; it is tried again every %.0f s."
                logger.exception(text, outcome.job.delivery.task_id, REFUSED_PAUSE)
            self._keep_refused(outcome)
            return []

    def _keep_refused(self, outcome: Outcome) -> None:
        """Keep it for another try; not at the end: then it stays with the dispatcher, which gives its message back."""
        self._known_refused.add(outcome.job.number)
        if not self._stopping:
            self._try_refused_at = time.monotonic() + REFUSED_PAUSE
            self._refused[outcome.job.number] = outcome

    def _until_the_world_is_up(self, group: Sequence[Outcome]) -> Planned:
        tries = count()
        return patiently(
            lambda: writes.write(group, owner=self._owner, worker=self._worker, again=next(tries) > 0),
            f"Storing {len(group)} results",
        )

    def _report(self, kept: Planned) -> None:
        if not kept:
            return
        answers = job.pack_answers([(outcome.job.number, plan.answer) for outcome, plan in kept])
        with contextlib.suppress(OSError):  # the dispatcher is gone; this child ends with it
            channel.send(self._end, [answers], wait=True)
        self._note_reported(len(kept))
        for outcome, plan in kept:
            if plan.answer == job.SETTLE:
                self._count(outcome.kind, outcome.runtime)
                writes.announce(outcome, plan)


def _size(outcome: Outcome) -> int:
    return len(outcome.result) + len(outcome.traceback) + len(outcome.job.delivery.body)


def _group_size(waiting: Sequence[Outcome]) -> int:
    """Return how many outcomes go into one statement: bounded in number and in characters."""
    room = LARGEST_TEXT
    for position, outcome in enumerate(waiting[:LARGEST_GROUP]):
        room -= len(outcome.result) + len(outcome.traceback)
        if room < 0 and position:
            return position
    return min(len(waiting), LARGEST_GROUP)


def unstorable(outcome: Outcome, error: Exception) -> Outcome:
    """Return the failure that stands for a result which the database refuses."""
    text = f"the result of {outcome.name} cannot be stored: {stored_exceptions.clean(str(error))[:500]}"
    failure = stored_exceptions.dump(UnencodableResult(text))
    return replace(outcome, kind=states.FAILURE, following=None, result=failure, traceback="", error=text)
