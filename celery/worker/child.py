"""A child runs tasks, one after another. Its writer thread stores what has finished, and only then reports it.

It knows neither the broker nor the dispatcher: jobs come as plain data, and go as answers.
"""

import os
import socket
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from celery import backends, retries, signals, states
from celery import message as wire
from celery.arguments import with_defaults
from celery.backends import exceptions as stored_exceptions
from celery.current import Running, running
from celery.exceptions import NotRegistered, RetryTask, TaskExpired, UndecodableMessage, UnencodableResult
from celery.message import Call
from celery.registry import tasks
from celery.worker import channel, job
from celery.worker.chore import patiently
from celery.worker.connections import TaskConnections
from celery.worker.job import Job, Outcome
from celery.worker.limits import TimeLimit, Wear
from celery.worker.options import Bounds
from celery.worker.slots import COUNTED, Slots
from celery.worker.writer import Writer

#: The longest result, in characters of JSON: databases refuse a gigabyte, and it must pass through memory many times.
LARGEST_RESULT: Final = 64 * 1024 * 1024
#: Seconds between looks whether a job may start by now.
LEASE_PAUSE: Final = 0.05
#: No job, and no word, has come yet.
NOTHING: Final = b""
#: Modules whose frames stand above the task's own in a traceback.
OUR_MODULES: Final = frozenset({__name__, "celery.task.base", "celery.retries"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Where a child works: its end of the channel, its slot, its limits, and whose messages it finishes."""

    index: int
    end: socket.socket
    slots: Slots
    owner: str
    worker: str
    bounds: Bounds


class Child:
    """One child process, after the fork."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._pid = os.getpid()
        self._connections = TaskConnections()
        self._time_limit = TimeLimit(seat.slots, seat.index, seat.bounds)
        self._wear = Wear(seat.bounds)
        self._writer = Writer(
            seat.end,
            owner=seat.owner,
            worker=seat.worker,
            count=partial(seat.slots.count, seat.index),
            note_reported=partial(seat.slots.note_reported, seat.index),
        )

    def run(self) -> None:
        """Run jobs until told to stop, or used up; what has finished is stored before this returns."""
        self._writer.start()
        try:
            data = self._receive(wait=True)
            while data[:1] == job.JOB:
                data = self._work_and_receive(job.unpack(data)) or self._receive(wait=True)
        finally:
            self._writer.stop()

    def _work_and_receive(self, work: Job) -> bytes:
        """Work a job, and return the next if there is one already.

        It is received before the writer is woken: that would have the interpreter's lock then, and the next task would
        wait until a statement is made and sent (decision 0035).
        """
        outcome = self._work(work)
        if outcome is None:
            return NOTHING
        following = NOTHING
        if outcome.kind in COUNTED and self._wear.note_task():
            following = job.STOP
        elif not self._writer.is_full:
            following = self._receive(wait=False)
        self._writer.put(outcome)
        return following

    def _receive(self, *, wait: bool) -> bytes:
        """Return a job, or the word to stop; NOTHING, if we do not wait."""
        try:
            received = channel.receive(self._seat.end, wait=wait)
        except EOFError:
            return job.STOP
        return received[0] if received else NOTHING

    def _work(self, work: Job) -> Outcome | None:
        """Work a job, and return its outcome; None if it cannot be started."""
        if not self._may_start(work):
            channel.send(self._seat.end, [job.pack_answers([(work.number, job.LATE)])], wait=True)
            return None
        self._seat.slots.begin(self._seat.index, work.number)
        self._connections.before_task()
        outcome = execute(work, self._time_limit)
        if os.getpid() != self._pid:
            os._exit(1)  # the task forked, and its copy of us came back: there is one reader of the channel, not two
        was_hit = self._time_limit.disarm()  # an alarm that this task left would kill the next
        self._connections.after_task(was_hit=was_hit)
        self._seat.slots.end(self._seat.index)
        return outcome

    def _may_start(self, work: Job) -> bool:
        """Wait until a job is ours for certain. False: the dispatcher has to say whether it still is."""
        has_row = bool(work.delivery.row_id)
        if self._seat.slots.may_start(has_row=has_row):
            return True
        while not self._seat.slots.may_start(has_row=has_row):
            time.sleep(LEASE_PAUSE)
        return has_row


def execute(work: Job, time_limit: TimeLimit | None = None) -> Outcome:
    """Run one job and return what became of it. Nothing that a message or a task does gets out of here."""
    started = time.monotonic()
    call: Call | None = None
    try:
        call = job.call_of(work.delivery)
        kind, task = _considered(work, call)
        return _ended(work, call, kind, started) if kind else run_call(work, call, task, started, time_limit)
    except UndecodableMessage as error:
        return _ended(work, call, job.UNDECODABLE, started, error=error)
    except NotRegistered as error:
        return _ended(work, call, job.UNKNOWN, started, error=error)
    except BaseException as error:  # noqa: BLE001 - an admission of the user's may do anything
        return _ended(work, call, states.FAILURE, started, error=error)


def _considered(work: Job, call: Call) -> tuple[str, Any]:
    """Return the task; or, before it, the kind of outcome of a job that is not to be run now."""
    now = datetime.now(UTC)
    delivery = work.delivery
    if call.expires and now >= call.expires:
        text = f"{call.task} was to start before {call.expires.isoformat()}"
        raise TaskExpired(text)
    if call.eta and call.eta > now and not delivery.relayed and not delivery.row_id:
        return job.POSTPONED, None
    task = tasks[call.task]
    if hasattr(task, "admit"):
        task.admit(call)
    if getattr(task, "looks_up_first", False) and _is_closed(call.task_id, _attempt(work, call)):
        return job.CLOSED, None
    if not getattr(task, "acks_late", True) and not work.flags & job.SETTLED:
        return job.NOT_RUN, None
    return "", task


def _is_closed(task_id: str, attempt: int) -> bool:
    """Look up whether this attempt is over, or the task is done for good, however long the backend takes to answer.

    The number of an attempt is not sealed: a copy with a higher one must not run again what has succeeded.
    """
    stored = patiently(lambda: backends.default().fetch([task_id]).get(task_id), f"Looking up task {task_id}")
    return stored is not None and (
        stored.state == states.DONE
        or not states.may_replace(stored=stored.state, stored_attempt=stored.attempt, new_attempt=attempt)
    )


def run_call(work: Job, call: Call, task: Any, started: float, time_limit: TimeLimit | None = None) -> Outcome:
    """Run `task` and return what became of it. `started` is the monotonic moment from which its runtime counts."""
    try:
        value = _call(task, call, _attempt(work, call), time_limit.of(task) if time_limit else nullcontext())
        is_ignored = getattr(task, "ignore_result", False)
        text = "null" if is_ignored else _encoded(call, value)
    except RetryTask as request:
        return _to_be_retried(work, call, request, started)
    except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt of a task are its failure too
        return _ended(work, call, states.FAILURE, started, error=error)
    outcome = _ended(work, call, states.DONE, started)
    outcome.ignore_result, outcome.result = is_ignored, text
    return outcome


def _call(task: Any, call: Call, attempt: int, limit: AbstractContextManager[None]) -> Any:
    token = running.set(Running(call.task, call.task_id, attempt, call.retries))
    signals.notify(signals.task_started, task_id=call.task_id, name=call.task, attempt=attempt)
    try:
        kwargs = with_defaults(task, call.args, call.kwargs, task_id=call.task_id, task_name=call.task)
        with limit:
            return task(*call.args, **kwargs)
    except RetryTask:
        raise
    except Exception as error:
        if retries.is_automatic(task, error):
            retries.request(task, exc=error)
        raise
    finally:
        running.reset(token)


def _to_be_retried(work: Job, call: Call, request: RetryTask, started: float) -> Outcome:
    """Return the RETRY and the message of the next attempt; a failure if its new arguments cannot be sent."""
    try:
        following = job.next_attempt(work.delivery, call, request, attempt=_attempt(work, call) + 1)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the task's own fault
        return _ended(work, call, states.FAILURE, started, error=error)
    outcome = _ended(work, call, states.RETRY, started, error=request.exc or request)
    outcome.following = following
    return outcome


def _encoded(call: Call, value: Any) -> str:
    try:
        text = wire.to_json(value)
    except Exception as error:
        reason = f"{call.task} returned a {type(value).__name__} that JSON cannot carry ({error}); return plain data"
        raise UnencodableResult(reason) from error
    if len(text) > LARGEST_RESULT:
        reason = f"{call.task} returned {len(text):,} characters; store the data (a model, a file) and return its key"
        raise UnencodableResult(reason)
    return text


def _attempt(work: Job, call: Call | None) -> int:
    """Return the number of this attempt: the row's or the header's, else by the retries that the body counts."""
    return work.delivery.attempt or (call.retries + 1 if call else 1)


def _ended(work: Job, call: Call | None, kind: str, started: float, error: BaseException | None = None) -> Outcome:
    outcome = Outcome(
        job=work,
        kind=kind,
        name=call.task if call else "",
        attempt=_attempt(work, call),
        runtime=time.monotonic() - started,
        ended_at=datetime.now(UTC),
        call=call,
    )
    if error is not None:
        outcome.result = stored_exceptions.dump(error)
        outcome.traceback = stored_exceptions.traceback_text(_without_our_frames(error))
        outcome.error = stored_exceptions.clean(f"{type(error).__name__}: {_text(error)}")[:1000]
    return outcome


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - __str__ of the user's may do anything
        return "(its text cannot be formatted)"


def _without_our_frames(error: BaseException) -> BaseException:
    """Cut our own frames off the head of the traceback: it begins in the task."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__") in OUR_MODULES:
        trace = trace.tb_next
    return error.with_traceback(trace) if trace is not None else error
