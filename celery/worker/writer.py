"""The writer thread of a child: stores whatever has finished since its last write, in one transaction, then reports it.

Groups form by themselves under load; an idle worker writes at once. The world may be down: then it waits and tries
again, and nothing is reported meanwhile. One bad row never fails its group.
"""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from celery import states
from celery.backends import exceptions as stored_exceptions
from celery.exceptions import UnencodableResult
from celery.worker import channel, job, writes
from celery.worker.chore import patiently
from celery.worker.connections import drop_connections, forget_queries
from celery.worker.job import Consequences, Outcome
from celery.worker.slots import count_nothing

logger = logging.getLogger("celery.worker")

LARGEST_GROUP: Final = 500
LARGEST_TEXT: Final = 8 * 1024 * 1024
#: Outcomes that may wait to be stored before the child runs no further task.
MOST_WAITING: Final = 4 * LARGEST_GROUP


class Writer(threading.Thread):
    """Stores outcomes in the order in which they come; `count` is told the kind and runtime (s) of what is stored."""

    def __init__(
        self, end: socket.socket, *, owner: str, worker: str, count: Callable[[str, float], None] = count_nothing
    ) -> None:
        super().__init__(name="writer", daemon=True)
        self._end = end
        self._owner = owner
        self._worker = worker
        self._count = count
        self._waiting: list[Outcome] = []
        self._changed = threading.Condition()
        self._stopping = False

    def put(self, outcome: Outcome) -> None:
        """Hand over an outcome; waits only while very many are unwritten."""
        with self._changed:
            self._waiting.append(outcome)
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._waiting) < MOST_WAITING)

    def stop(self) -> None:
        """Store what is left, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self.join()

    def run(self) -> None:
        """Write group after group. A child whose writer fails is of no use: it ends, and its jobs are tried again."""
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
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            size = _group_size(self._waiting)
            group, self._waiting = self._waiting[:size], self._waiting[size:]
            self._changed.notify_all()
            return group

    def _store(self, group: Sequence[Outcome]) -> None:
        """Write `group` however long it takes, then report it."""
        try:
            kept = self._until_the_world_is_up(group)
        except Exception as error:  # noqa: BLE001 - a fault of one row, whatever it is
            if len(group) > 1:
                for outcome in group:
                    self._store([outcome])
                return
            kept = self._store_failure(group[0], error)
        self._report(kept)

    def _store_failure(self, outcome: Outcome, error: Exception) -> list[tuple[Outcome, Consequences]]:
        """Store that a result cannot be stored. If even that is refused, the message stays with the worker."""
        try:
            return self._until_the_world_is_up([unstorable(outcome, error)])
        except Exception:
            logger.exception(
                "Job %s can neither be stored nor settled; it stays unsettled.", outcome.job.delivery.task_id
            )
            return []

    def _until_the_world_is_up(self, group: Sequence[Outcome]) -> list[tuple[Outcome, Consequences]]:
        return patiently(
            lambda: writes.write(group, owner=self._owner, worker=self._worker), f"Storing {len(group)} results"
        )

    def _report(self, kept: Sequence[tuple[Outcome, Consequences]]) -> None:
        answers = job.pack_answers([(outcome.job.number, plan.answer) for outcome, plan in kept])
        with contextlib.suppress(OSError):  # the dispatcher is gone; this child ends with it
            channel.send(self._end, [answers], wait=True)
        for outcome, plan in kept:
            if plan.answer == job.SETTLE:
                self._count(outcome.kind, outcome.runtime)
                writes.announce(outcome, plan)


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
