"""Answers the dispatcher's errands: suspects, crashes, and rows to give back. All rules about trying again are here.

Each errand can be repeated: a steward that dies in the middle leaves nothing that the next one cannot finish.
"""

import logging
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from django.db import transaction

from celery import backends, conf, states
from celery.backends import exceptions as stored_exceptions
from celery.backends.base import Result
from celery.broker.store.base import Store
from celery.exceptions import CeleryError, TimeLimitExceeded, WorkerLost
from celery.message import LARGEST_COUNT, STARTS, Delivery, Message
from celery.worker import announcer, errands, job
from celery.worker.announcer import Announce
from celery.worker.errands import RUN, SETTLE, Asked
from celery.worker.slots import count_nothing

logger = logging.getLogger("celery.worker")

#: The mark of a task that must run at most once: it has started, and will not again.
ONLY_START: Final = LARGEST_COUNT

Answer = tuple[int, str, int]


class Rescue:
    """Carries out errands in the name of `owner`; `count` is told the kind and runtime (s) of what it stores.

    `announce` must not wait for listeners.
    """

    def __init__(
        self,
        store: Store,
        owner: str,
        worker: str,
        *,
        count: Callable[[str, float], None] = count_nothing,
        announce: Announce = announcer.announce,
    ) -> None:
        self._store = store
        self._owner = owner
        self._worker = worker
        self._count = count
        self._announce = announce

    def answer(self, asked: Sequence[Asked]) -> list[Answer]:
        """Carry out errands, those of one kind together, and return number, verdict and row of each."""
        answers = self._examine([one for one in asked if one.kind == errands.EXAMINE])
        answers += self._mark([one for one in asked if one.kind == errands.MARK])
        answers += self._start_once([one for one in asked if one.kind == errands.START_ONCE])
        for one in asked:
            if one.kind == errands.CRASHED:
                answers.append(self._count_crash(one))
            elif one.kind == errands.OVERDUE:
                answers.append(self._end_overdue(one))
            elif one.kind == errands.ABANDONED:
                answers.append(self._abandon(one))
            elif one.kind == errands.PARK:
                answers.append(self._park(one))
            elif one.kind == errands.FINISH:
                answers.append(self._finish(one))
        return answers + self._release([one for one in asked if one.kind == errands.RELEASE])

    # -- suspects

    def _examine(self, asked: Sequence[Asked]) -> list[Answer]:
        """Settle what is closed, bury what was started too often, run the rest."""
        if not asked:
            return []
        over, left = _parted(asked)
        worn_out = [one for one in left if one.delivery.starts >= job.MOST_STARTS]
        with transaction.atomic(using=self._store.alias):
            answers = [self._settle(one) for one in over]
            answers += [self._try_again(one) for one in left if one.delivery.starts < job.MOST_STARTS]
        return answers + [self._bury(one, _too_many(one.delivery.starts), one.delivery.crashes) for one in worn_out]

    def _settle(self, one: Asked) -> Answer:
        if one.delivery.row_id:
            self._store.finish(self._owner, [one.delivery.row_id])
        return one.number, SETTLE, 0

    def _try_again(self, one: Asked) -> Answer:
        delivery = one.delivery
        if delivery.relayed and not delivery.suspect and not delivery.row_id:
            return one.number, RUN, 0
        row_id = delivery.row_id or self._keep(delivery)
        return (one.number, RUN, row_id) if row_id else (one.number, SETTLE, 0)

    def _mark(self, asked: Sequence[Asked]) -> list[Answer]:
        """Mark suspects as started: only those that a child waits for, so that waiting in line counts for nothing."""
        with transaction.atomic(using=self._store.alias):
            return [(one.number, RUN if self._is_marked(one.delivery) else SETTLE, 0) for one in asked]

    def _is_marked(self, delivery: Delivery) -> bool:
        return self._store.mark_started(self._owner, delivery.row_id, starts=delivery.starts + 1)

    def _keep(self, delivery: Delivery) -> int:
        """Store a delivery in a row of ours; 0 if another one holds its attempt, whose row then is the authority.

        So is one that a relay is just publishing, unless this is the relay's own copy: else both would run.
        """
        marks: dict[str, float] | None = {STARTS: delivery.starts} if delivery.starts else None
        kept = job.as_message(delivery, task=job.name_of(delivery), headers=marks)
        ids = self._store.insert([kept], owner=self._owner, takes_over=delivery.relayed)
        return ids[0] if ids else self._store.held_row(self._owner, kept.task_id, kept.attempt)

    # -- crashes

    def _count_crash(self, one: Asked) -> Answer:
        """Count a witnessed death against the job that ran, and give it another try, or bury it."""
        delivery = one.delivery
        if backends.default().closed([(delivery.task_id, job.attempt_of(delivery))]):
            return self._settle(one)
        crashes = min(delivery.crashes + 1, LARGEST_COUNT)
        if crashes >= conf.CRASH_LIMIT:
            times = "once" if crashes == 1 else f"{crashes} times"
            return self._bury(
                one, f"its process died {times} running it; last: {one.detail} on {platform.node()}", crashes
            )
        name, task_id = job.name_of(delivery), delivery.task_id
        extra = {"task_id": task_id, "task_name": name}
        logger.warning("Task %s[%s] lost its process (%s); trying it again.", name, task_id, one.detail, extra=extra)
        if delivery.row_id:
            self._store.count_crash(self._owner, delivery.row_id, crashes=crashes, marked=one.marked)
        else:
            self._keep_crashed(delivery, crashes)
        self._store.poke()
        return one.number, SETTLE, 0

    def _keep_crashed(self, delivery: Delivery, crashes: int) -> None:
        """Store a delivery of the broker for another try; count in its row if it has been parked meanwhile."""
        again = job.as_message(delivery, task=job.name_of(delivery), crashes=crashes, visible_at=datetime.now(UTC))
        if not self._store.insert([again], takes_over=True):
            row_id = self._store.held_row(self._owner, again.task_id, again.attempt)
            self._store.count_crash(self._owner, row_id, crashes=crashes, marked=False)

    def _bury(self, one: Asked, reason: str, crashes: int) -> Answer:
        delivery = one.delivery
        with transaction.atomic(using=self._store.alias):
            if delivery.row_id:
                is_ours = self._store.bury(self._owner, delivery.row_id, crashes=crashes, reason=reason)
            else:
                dead = job.as_message(delivery, task=job.name_of(delivery), crashes=crashes, reason=reason)
                is_ours = bool(self._store.insert([dead], takes_over=True))
            if is_ours:
                self._fail(delivery, WorkerLost(f"{job.name_of(delivery)}: {reason}"))
        if is_ours:
            facts = {"task_id": delivery.task_id, "name": job.name_of(delivery), "reason": reason}
            self._announce("job_dead", facts)
        return one.number, SETTLE, 0

    def bury_worn_out(self, rows: Sequence[tuple[int, Message]]) -> Sequence[tuple[int, Message]]:
        """Bury those of the relay's rows that were started too often, unless they are done; return the others.

        Published, they would be no rows for a while, and a copy that finds none would run.
        """
        found = [job.as_delivery(message, row_id=row_id) for row_id, message in rows]
        worn_out = {delivery.row_id: delivery for delivery in found if delivery.starts >= job.MOST_STARTS}
        self._examine([Asked((errands.EXAMINE, 0, False, "", tuple(delivery))) for delivery in worn_out.values()])
        return [row for row in rows if row[0] not in worn_out]

    def _abandon(self, one: Asked) -> Answer:
        """Tell who waits for a task that must run at most once that it will not run."""
        reason = f"{one.detail}; acks_late is False, so it is not tried again"
        error = WorkerLost(f"{job.name_of(one.delivery)}: {reason}")
        if self._end(one.delivery, error):
            self._announce_failure(one.delivery, error)
        return one.number, SETTLE, 0

    def _start_once(self, asked: Sequence[Asked]) -> list[Answer]:
        """Keep each in a row that nobody starts again, whatever dies. SETTLE: others have it, or it is over."""
        if not asked:
            return []
        over, left = _parted(asked)
        with transaction.atomic(using=self._store.alias):
            return [self._settle(one) for one in over] + [self._mark_for_good(one) for one in left]

    def _mark_for_good(self, one: Asked) -> Answer:
        row_id = one.delivery.row_id or self._keep(one.delivery)
        is_marked = row_id and self._store.mark_started(self._owner, row_id, starts=ONLY_START)
        return (one.number, RUN, row_id) if is_marked else (one.number, SETTLE, 0)

    # -- time limits

    def _end_overdue(self, one: Asked) -> Answer:
        """Store that a task has failed by its time limit; once, whoever asks again."""
        delivery = one.delivery
        text = f"{job.name_of(delivery)} ran longer than its time limit of {one.detail}, and was killed"
        error = TimeLimitExceeded(text)
        if self._end(delivery, error):
            self._announce_failure(delivery, error)
        return one.number, SETTLE, 0

    def _end(self, delivery: Delivery, error: CeleryError) -> bool:
        """Store a failure as what a job came to, and delete its row. False: it is not ours, or had ended already."""
        with transaction.atomic(using=self._store.alias):
            is_ours = not delivery.row_id or bool(self._store.finish(self._owner, [delivery.row_id]))
            return is_ours and self._fail(delivery, error)

    def _fail(self, delivery: Delivery, error: CeleryError) -> bool:
        """Store a failure. False: something else is stored already."""
        failure = Result(
            task_id=delivery.task_id,
            state=states.FAILURE,
            result=stored_exceptions.dump(error),
            attempt=job.attempt_of(delivery),
            name=job.name_of(delivery),
            worker=self._worker,
        )
        is_stored = bool(backends.default().store([failure]))
        if is_stored:
            self._count(states.FAILURE, 0.0)
        return is_stored

    def _announce_failure(self, delivery: Delivery, error: CeleryError) -> None:
        facts = {
            "task_id": delivery.task_id,
            "name": job.name_of(delivery),
            "attempt": job.attempt_of(delivery),
            "state": states.FAILURE,
            "runtime": 0.0,
            "error": f"{type(error).__name__}: {error}",
            "traceback": "",
        }
        self._announce("task_finished", facts)

    # -- rows

    def _park(self, one: Asked) -> Answer:
        row_id = self._keep(one.delivery)
        return (one.number, RUN, row_id) if row_id else (one.number, SETTLE, 0)

    def _finish(self, one: Asked) -> Answer:
        self._store.finish(self._owner, [one.delivery.row_id])
        return one.number, SETTLE, 0

    def _release(self, asked: Sequence[Asked]) -> list[Answer]:
        for one in asked:
            if one.detail == errands.UNSTARTED:
                self._store.mark_started(self._owner, one.delivery.row_id, starts=one.delivery.starts)
        for marked in (True, False):
            self._store.release(
                self._owner, [one.delivery.row_id for one in asked if one.marked is marked], marked=marked
            )
        if asked:
            self._store.poke()
        return [(one.number, SETTLE, 0) for one in asked]


def _parted(asked: Sequence[Asked]) -> tuple[list[Asked], list[Asked]]:
    """Return those whose attempt is over, and the others."""
    attempts = [(one.delivery.task_id, job.attempt_of(one.delivery)) for one in asked]
    closed = backends.default().closed(set(attempts))
    pairs = list(zip(asked, attempts, strict=True))
    return [one for one, attempt in pairs if attempt in closed], [
        one for one, attempt in pairs if attempt not in closed
    ]


def _too_many(starts: int) -> str:
    if starts == ONLY_START:
        return "its worker was lost while it ran; acks_late is False, so it is not tried again"
    return f"started {starts} times, and nothing came of it: its workers were lost each time"
