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
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from django.db import transaction

from celery import backends, broker, conf, signals, states
from celery.backends import exceptions as stored_exceptions
from celery.backends.base import BaseBackend
from celery.broker import store
from celery.exceptions import UnencodableResult
from celery.worker import channel, job
from celery.worker.chore import ROW_ERRORS, TROUBLE
from celery.worker.connections import drop_connections, forget_queries
from celery.worker.job import Consequences, Outcome

logger = logging.getLogger("celery.worker")

LARGEST_GROUP: Final = 500
LARGEST_TEXT: Final = 8 * 1024 * 1024
#: Outcomes that may wait to be stored before the child runs no further task.
MOST_WAITING: Final = 4 * LARGEST_GROUP
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0


class Writer(threading.Thread):
    """Stores outcomes in the order in which they come."""

    def __init__(self, end: socket.socket, *, owner: str, worker: str) -> None:
        super().__init__(name="writer", daemon=True)
        self._end = end
        self._owner = owner
        self._worker = worker
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
            return self._until_the_world_is_up([_unstorable(outcome, error)])
        except Exception:
            logger.exception(
                "Job %s can neither be stored nor settled; it stays unsettled.", outcome.job.delivery.task_id
            )
            return []

    def _until_the_world_is_up(self, group: Sequence[Outcome]) -> list[tuple[Outcome, Consequences]]:
        pause, failed_at = FIRST_PAUSE, 0.0
        while True:
            try:
                answers = self._write(group)
            except ROW_ERRORS:
                raise
            except TROUBLE as error:
                if not failed_at:
                    failed_at = time.monotonic()
                    logger.error("%d results cannot be stored; trying until they can: %s", len(group), error)  # noqa: TRY400
                drop_connections()
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                if failed_at:
                    logger.warning("Results can be stored again, after %.1f s.", time.monotonic() - failed_at)
                return answers

    def _write(self, group: Sequence[Outcome]) -> list[tuple[Outcome, Consequences]]:
        """Store results and messages and delete the rows of `group` in one commit; return what to report.

        Where results live elsewhere they are stored first: the attempt rule guards what the commit cannot.
        """
        patience = conf.UNKNOWN_TASK_PATIENCE
        planned = [
            (outcome, job.consequences(outcome, worker=self._worker, unknown_patience=patience)) for outcome in group
        ]
        backend = backends.default()
        alias = broker.current().alias
        needs_rows = any(_row(outcome) or plan.message for outcome, plan in planned)
        shares_commit = backend.alias == alias
        if needs_rows and shares_commit:
            with transaction.atomic(using=alias):
                planned = self._finish(alias, planned)
                _store_messages(alias, planned, _store_results(backend, planned))
        else:
            winners = _store_results(backend, planned)
            if needs_rows:
                with transaction.atomic(using=alias):
                    planned = self._finish(alias, planned)
                    _store_messages(alias, planned, winners)
        return planned

    def _finish(
        self, alias: str, planned: Sequence[tuple[Outcome, Consequences]]
    ) -> list[tuple[Outcome, Consequences]]:
        """Delete the rows, and drop the outcomes whose row is not ours any more: others work on them now."""
        rows = [row for outcome, plan in planned if plan.answer == job.SETTLE and (row := _row(outcome))]
        ours = store.of(alias).finish(self._owner, rows)
        if len(ours) == len(rows):
            return list(planned)
        logger.warning("%d results were discarded: other workers had taken over their messages.", len(rows) - len(ours))
        lost = Consequences(None, None, job.LOST)
        return [
            (outcome, lost if plan.answer == job.SETTLE and _row(outcome) and _row(outcome) not in ours else plan)
            for outcome, plan in planned
        ]

    def _report(self, kept: Sequence[tuple[Outcome, Consequences]]) -> None:
        answers = job.pack_answers([(outcome.job.number, plan.answer) for outcome, plan in kept])
        with contextlib.suppress(OSError):  # the dispatcher is gone; this child ends with it
            channel.send(self._end, [answers], wait=True)
        for outcome, plan in kept:
            if plan.answer == job.SETTLE:
                _announce(outcome, plan)


def _group_size(waiting: Sequence[Outcome]) -> int:
    """Return how many outcomes go into one statement: bounded in number and in characters."""
    room = LARGEST_TEXT
    for position, outcome in enumerate(waiting[:LARGEST_GROUP]):
        room -= len(outcome.result) + len(outcome.traceback)
        if room < 0 and position:
            return position
    return min(len(waiting), LARGEST_GROUP)


def _row(outcome: Outcome) -> int:
    return 0 if outcome.job.flags & job.SETTLED else outcome.job.delivery.row_id


def _store_results(backend: BaseBackend, planned: Sequence[tuple[Outcome, Consequences]]) -> set[str]:
    results = [plan.result for _, plan in planned if plan.result]
    return backend.store(results) if results else set()


def _store_messages(alias: str, planned: Sequence[tuple[Outcome, Consequences]], winners: set[str]) -> None:
    """Insert what follows; the next attempt only where the RETRY of this one was accepted."""
    messages = [
        plan.message
        for _, plan in planned
        if plan.message and (plan.result is None or plan.result.state != states.RETRY or plan.result.task_id in winners)
    ]
    if messages:
        store.of(alias).insert(messages)


def _unstorable(outcome: Outcome, error: Exception) -> Outcome:
    """Return the failure that stands for a result which the database refuses."""
    text = f"the result of {outcome.name} cannot be stored: {stored_exceptions.clean(str(error))[:500]}"
    failure = UnencodableResult(text)
    return replace(outcome, kind=states.FAILURE, result=stored_exceptions.dump(failure), traceback="", error=text)


def _announce(outcome: Outcome, plan: Consequences) -> None:
    """Tell listeners what is stored now."""
    facts = {"task_id": outcome.job.delivery.task_id, "name": outcome.name}
    if plan.message and plan.message.reason:
        signals.notify(signals.job_dead, reason=plan.message.reason, **facts)
    elif outcome.kind in states.ALL_STATES:
        runtime, error = outcome.runtime, outcome.error
        signals.notify(
            signals.task_finished, attempt=outcome.attempt, state=outcome.kind, runtime=runtime, error=error, **facts
        )
    elif plan.message:
        signals.notify(signals.job_postponed, until=plan.message.visible_at, reason=outcome.error, **facts)
