"""Claims, runs and finishes messages of the database queue, one at a time, in the calling thread, as a worker does."""

import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, NamedTuple, Self

from django.apps import apps
from django.db import DatabaseError, transaction

from celery.broker import store
from celery.message import Delivery
from celery.worker import inline, job, writes
from celery.worker.job import Job, Outcome

WORKER: Final = "celery.testing"
#: Seconds of the lease: no test takes so long.
LEASE: Final = 3600.0
#: Messages of one moment that are made ready together.
PAGE: Final = 1000


class Run(NamedTuple):
    """An attempt that was run. `state` is DONE, FAILURE or RETRY; UNDECODABLE if its message could not be read.

    `error` is the class and text of its exception.
    """

    task: str
    task_id: str
    attempt: int
    state: str
    error: str


class Bench:
    """The place of a worker in the database `alias`. It serves `queues`, or all of them."""

    def __init__(self, alias: str, queues: Sequence[str] | None) -> None:
        self._store = store.of(alias)
        self._queues = queues
        self._owner = uuid.uuid4().hex

    def __enter__(self) -> Self:
        queues = self._queues or ()
        self._store.enlist(self._owner, name=WORKER, pid=os.getpid(), queues=queues, concurrency=1, lease=LEASE)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Give back what is in hand. In a transaction that is broken already, its end does that."""
        errors = (DatabaseError,) if kind else ()
        with suppress(*errors):
            self._store.retire(self._owner)

    def step(self, until: datetime) -> Run | None:
        """Run the next message that is ready, or due at `until`; None if there is none. Raises NotRegistered."""
        while (delivery := self._claim()) is None:
            if not self._promote(until):
                return None
        return self._work(delivery)

    def waiting(self) -> int:
        """Return the number of messages that are ready or in hand."""
        return int(self._messages().filter(visible_at=None, dead_at=None).count())

    def _messages(self) -> Any:
        found = apps.get_model("celery", "Message").objects.using(self._store.alias)
        return found.filter(queue__in=self._queues) if self._queues else found.all()

    def _claim(self) -> Delivery | None:
        """Take the most urgent and oldest message of all queues."""
        ready = self._messages().filter(owner=None, visible_at=None, dead_at=None).order_by("rank", "id")
        queue = ready.values_list("queue", flat=True).first()
        if queue is None:
            return None
        return next(iter(self._store.claim(self._owner, queue, 1)), None)

    def _promote(self, until: datetime) -> bool:
        """Make the messages of the next moment ready, so that they run in the order of their moments."""
        due = self._store.next_due()
        return due is not None and due <= until and self._store.promote(due, PAGE) > 0

    def _work(self, delivery: Delivery) -> Run:
        outcome = inline.run_here(Job(1, 0, delivery))
        if outcome.kind == job.NOT_RUN:  # at most once: settled for certain first
            self._store.finish(self._owner, [delivery.row_id])
            outcome = inline.run_here(Job(1, job.SETTLED, delivery._replace(row_id=0, relayed=True)))
        if outcome.kind == job.UNKNOWN:
            self._store.finish(self._owner, [delivery.row_id])
            inline.raise_error(outcome)
        return inline.kept(outcome, self._write)

    def _write(self, outcome: Outcome) -> Run:
        with transaction.atomic(using=self._store.alias):
            planned = writes.write([outcome], owner=self._owner, worker=WORKER)
        for one, plan in planned:
            if plan.answer == job.SETTLE:
                writes.announce(one, plan)
        task_id = outcome.job.delivery.task_id
        return Run(outcome.name, task_id, outcome.attempt, outcome.kind, outcome.error)
