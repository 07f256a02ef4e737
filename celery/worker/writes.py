"""The one durable write of what has run: results, the messages that follow, and the end of the rows, as a group."""

import logging
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from django.db import transaction

from celery import backends, broker, conf, signals, states
from celery.backends.base import BaseBackend, Result
from celery.broker import store
from celery.worker import job
from celery.worker.chore import ROW_ERRORS, patiently
from celery.worker.job import Consequences, Outcome

logger = logging.getLogger("celery.worker")

Planned = list[tuple[Outcome, Consequences]]


def write(group: Sequence[Outcome], *, owner: str, worker: str, again: bool = False) -> Planned:
    """Store what follows the outcomes of `group` and delete their rows; return what to report of each.

    One commit where results and messages share a database. Raises what the databases and the backend raise: then
    nothing is to be reported, and the whole can be repeated; `again` says that it is. Perhaps all was done, and only
    the answer lost: rows that are gone while our lease holds were deleted by ourselves.
    """
    patience = conf.UNKNOWN_TASK_PATIENCE
    planned = [(outcome, job.consequences(outcome, worker=worker, unknown_patience=patience)) for outcome in group]
    backend = backends.default()
    if not any(_row(outcome) or plan.message for outcome, plan in planned):
        _store_results(backend, planned)
        return planned
    alias = broker.current().alias
    if backend.alias != alias:
        return _write_apart(backend, alias, owner, planned, again=again)
    with transaction.atomic(using=alias):
        ours = store.of(alias).finish(owner, _rows(planned))
        planned, new = _kept(alias, owner, planned, ours, again=again)
        winners = _store_results(backend, planned)
        _insert(alias, [plan for _, plan in new if not _is_retry(plan) or _id(plan) in winners])
    return planned


def _write_apart(backend: BaseBackend, alias: str, owner: str, planned: Planned, *, again: bool) -> Planned:
    """Store where no commit holds both: what ends a task before its message goes, what is followed by one after it.

    Whoever dies in between leaves work that is done twice, never work that is not done. After the commit nothing is
    repeated but the last step. A look comes first: who has lost a message closes no attempt that others work on.
    """
    keeper = store.of(alias)
    planned, _ = _kept(alias, owner, planned, keeper.held(owner, _rows(planned)), again=again)
    _store_results(backend, [(outcome, plan) for outcome, plan in planned if not plan.message])
    retries = [plan for _, plan in planned if _is_retry(plan)]
    closed = {task_id for task_id, _ in backend.closed([_attempt(plan) for plan in retries])} if retries else set()
    with transaction.atomic(using=alias):
        ours = keeper.finish(owner, _rows(planned))
        planned, new = _kept(alias, owner, planned, ours, again=again)
        _insert(alias, [plan for _, plan in new if not _is_retry(plan) or _id(plan) not in closed])
    for outcome, plan in planned:
        if plan.message and plan.result:
            _tell(backend, outcome, plan.result)
    return planned


def _tell(backend: BaseBackend, outcome: Outcome, result: Result) -> None:
    """Store what a task came to whose message is safe already, however long it takes."""
    try:
        patiently(lambda: backend.store([result]), f"Storing the {result.state} of task {result.task_id}")
    except ROW_ERRORS:
        logger.exception("The %s of task %s[%s] cannot be stored.", result.state, outcome.name, result.task_id)


def _rows(planned: Planned) -> list[int]:
    return [row for outcome, plan in planned if plan.answer == job.SETTLE and (row := _row(outcome))]


def _kept(alias: str, owner: str, planned: Planned, ours: AbstractSet[int], *, again: bool) -> tuple[Planned, Planned]:
    """Return all, without what follows outcomes whose row is not among `ours`; and those that are written only now.

    Others work on what is not ours any more, unless it was we who deleted it, an attempt ago.
    """
    missing = {row for row in _rows(planned) if row not in ours}
    if not missing:
        return planned, planned
    new = [(outcome, plan) for outcome, plan in planned if _row(outcome) not in missing]
    if again and store.of(alias).has_lease(owner):
        return planned, new
    logger.warning("%d results were discarded: other workers had taken over their messages.", len(missing))
    lost = Consequences(None, None, job.LOST)
    kept = [(outcome, lost if _row(outcome) in missing else plan) for outcome, plan in planned]
    return kept, new


def _row(outcome: Outcome) -> int:
    return outcome.job.delivery.row_id


def _is_retry(plan: Consequences) -> bool:
    return plan.result is not None and plan.result.state == states.RETRY


def _id(plan: Consequences) -> str:
    return plan.result.task_id if plan.result else ""


def _attempt(plan: Consequences) -> tuple[str, int]:
    return (plan.result.task_id, plan.result.attempt) if plan.result else ("", 0)


def _store_results(backend: BaseBackend, planned: Planned) -> set[str]:
    results = [plan.result for _, plan in planned if plan.result]
    return backend.store(results) if results else set()


def _insert(alias: str, plans: Sequence[Consequences]) -> None:
    messages = [plan.message for plan in plans if plan.message]
    if messages:
        store.of(alias).insert(messages, takes_over=True)


def announce(outcome: Outcome, plan: Consequences) -> None:
    """Tell listeners what is stored now."""
    facts = {"task_id": outcome.job.delivery.task_id, "name": outcome.name}
    if plan.message and plan.message.reason:
        signals.notify(signals.job_dead, reason=plan.message.reason, **facts)
    elif outcome.kind == states.RETRY and plan.message:
        until, error = plan.message.visible_at, outcome.error
        signals.notify(signals.task_retried, attempt=outcome.attempt, until=until, error=error, **facts)
    elif outcome.kind in states.READY_STATES:
        signals.notify(
            signals.task_finished,
            attempt=outcome.attempt,
            state=outcome.kind,
            runtime=outcome.runtime,
            error=outcome.error,
            traceback=outcome.traceback,
            **facts,
        )
    elif plan.message:
        signals.notify(signals.job_postponed, until=plan.message.visible_at, reason=outcome.error, **facts)
