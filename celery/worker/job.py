"""A job is a message being worked. Here: its form between processes, and the one rule of what follows an outcome.

The rule is pure: `consequences` says what to write and how to settle; the child's writer and the steward carry it out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from struct import Struct
from typing import Final, NamedTuple

from celery import message as wire
from celery import states
from celery.backends.base import Result
from celery.exceptions import MaxRetriesExceeded, RetryTask, UndecodableMessage
from celery.message import Call, Delivery, Message

# -- between the dispatcher and a child

#: Datagrams to a child begin with one of these.
JOB: Final = b"J"
STOP: Final = b"S"

#: Flags of a job: it runs at most once, and its only start is noted durably.
SETTLED: Final = 1

#: Answers of a child. SETTLE: all is durable, acknowledge. UNRUN: at most once, note its start and hand it over again.
SETTLE: Final = 1
UNRUN: Final = 2
#: Answer: its row was not ours any more, and nothing of it was stored.
LOST: Final = 3
#: Answer: it was not started for so long that its broker may have given it to others.
LATE: Final = 4

_HEAD: Final = Struct("!QQiihhB?HHI")
_ANSWER: Final = Struct("!QB")


class Job(NamedTuple):
    """A delivery on its way through a child. `number` is the dispatcher's, from 1."""

    number: int
    flags: int
    delivery: Delivery


def pack(number: int, flags: int, delivery: Delivery) -> list[bytes]:
    """Return a job as the parts of a datagram. The body is not copied."""
    task_id, queue = delivery.task_id.encode(), delivery.queue.encode()
    headers = delivery.headers.encode()
    head = _HEAD.pack(
        number,
        delivery.row_id,
        delivery.attempt,
        delivery.rank,
        delivery.starts,
        delivery.crashes,
        flags,
        delivery.relayed,
        len(task_id),
        len(queue),
        len(headers),
    )
    return [JOB, head, task_id, queue, headers, delivery.body]


def unpack(data: bytes) -> Job:
    """Return the job in a datagram made by `pack`."""
    number, row_id, attempt, rank, starts, crashes, flags, relayed, *sizes = _HEAD.unpack_from(data, 1)
    id_size, queue_size, headers_size = sizes
    queue_at = 1 + _HEAD.size + id_size
    headers_at = queue_at + queue_size
    body_at = headers_at + headers_size
    delivery = Delivery(
        data[1 + _HEAD.size : queue_at].decode(),
        attempt,
        data[queue_at:headers_at].decode(),
        rank,
        data[headers_at:body_at].decode(),
        data[body_at:],
        row_id,
        None,
        False,  # noqa: FBT003 - what is handed to a child is not a suspect any more
        relayed,
        starts,
        crashes,
    )
    return Job(number, flags, delivery)


def number_of(data: bytes) -> int:
    """Return the number of the job in a datagram."""
    return int.from_bytes(data[1:9], "big")


def pack_answers(answers: Sequence[tuple[int, int]]) -> bytes:
    """Return pairs of job number and answer as one datagram."""
    return b"".join([_ANSWER.pack(number, answer) for number, answer in answers])


def unpack_answers(data: bytes) -> list[tuple[int, int]]:
    """Return the pairs that `pack_answers` packed."""
    return list(_ANSWER.iter_unpack(data))


# -- what running came to, and what follows

#: Kinds of outcome beside the states of a task.
UNDECODABLE: Final = "UNDECODABLE"
UNKNOWN: Final = "UNKNOWN"
POSTPONED: Final = "POSTPONED"
NOT_RUN: Final = "NOT_RUN"
#: Its attempt was over before it ran.
CLOSED: Final = "CLOSED"

LONGEST_UNKNOWN_PAUSE: Final = 60.0
#: Starts without an end after which a message is dead: nobody saw its process die, but nothing came of it.
MOST_STARTS: Final = 3


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a job: a state of the task or one of the kinds above. `result` is JSON text.

    `following` is the message of the next attempt, after a RETRY.
    """

    job: Job
    kind: str
    name: str = ""
    attempt: int = 1
    result: str = "null"
    traceback: str = ""
    error: str = ""
    runtime: float = 0.0
    ended_at: datetime
    ignore_result: bool = False
    call: Call | None = None
    following: Message | None = None


class Consequences(NamedTuple):
    """What to write for an outcome, in one transaction with deleting its row, and what to answer."""

    result: Result | None
    message: Message | None
    answer: int


def consequences(outcome: Outcome, *, worker: str, unknown_patience: float) -> Consequences:
    """Return what follows `outcome`; DESIGN's delivery promises, as far as a child sees them."""
    if outcome.kind == NOT_RUN:
        return Consequences(None, None, UNRUN)
    if outcome.kind == CLOSED or (outcome.kind == states.DONE and _leaves_nothing(outcome)):
        return Consequences(None, None, SETTLE)
    if outcome.kind in states.CLOSED_STATES:
        return Consequences(_result(outcome, outcome.kind, worker), outcome.following, SETTLE)
    if outcome.kind == UNDECODABLE:
        return _dead(outcome, worker, outcome.error)
    if outcome.kind == UNKNOWN:
        return _unknown(outcome, worker, unknown_patience)
    if outcome.kind == POSTPONED and outcome.call:
        return Consequences(None, _again(outcome, outcome.call.eta), SETTLE)
    text = f"no rule for an outcome of kind {outcome.kind}"
    raise ValueError(text)


def _leaves_nothing(outcome: Outcome) -> bool:
    """A later attempt closes the RETRY of the one before, and what has run at most once its copies: ignored or not."""
    has_copies = outcome.job.flags & SETTLED and outcome.job.delivery.row_id
    return outcome.ignore_result and outcome.attempt == 1 and not has_copies


def _result(outcome: Outcome, state: str, worker: str) -> Result:
    return Result(
        task_id=outcome.call.task_id if outcome.call else outcome.job.delivery.task_id,
        state=state,
        result=outcome.result,
        traceback=outcome.traceback,
        attempt=outcome.attempt,
        name=outcome.name,
        worker=worker,
        runtime=outcome.runtime,
        date_done=outcome.ended_at,
    )


def _dead(outcome: Outcome, worker: str, reason: str) -> Consequences:
    """Keep the message as dead; its waiters learn why."""
    return Consequences(_result(outcome, states.FAILURE, worker), _again(outcome, None, reason=reason), SETTLE)


def _unknown(outcome: Outcome, worker: str, patience: float) -> Consequences:
    """Try again for a while: the worker that knows the task may be on its way (a deployment).

    The pauses are added up, and no clock is asked: one that is put forward must not end the patience.
    """
    headers = wire.unpack_headers(outcome.job.delivery.headers)[2]
    told = headers.get(wire.UNKNOWN_FOR)
    waited = told if isinstance(told, int | float) and 0 < told <= patience + LONGEST_UNKNOWN_PAUSE else 0.0
    if waited >= patience:
        return _dead(outcome, worker, outcome.error)
    pause = min(max(waited, 1.0), LONGEST_UNKNOWN_PAUSE)
    next_try = outcome.ended_at + timedelta(seconds=pause)
    return Consequences(None, _again(outcome, next_try, headers={wire.UNKNOWN_FOR: waited + pause}), SETTLE)


def _again(
    outcome: Outcome, visible_at: datetime | None, *, reason: str | None = None, headers: dict[str, float] | None = None
) -> Message:
    """Return the same message as a new row: for later, or dead."""
    return as_message(
        outcome.job.delivery,
        task=outcome.name,
        attempt=outcome.attempt,
        visible_at=visible_at,
        reason=reason,
        headers=headers,
    )


def next_attempt(delivery: Delivery, call: Call, request: RetryTask, *, attempt: int) -> Message:
    """Return the message of the attempt that a task asked for. Raises MaxRetriesExceeded, and what `encode` raises."""
    if attempt > wire.LARGEST_ATTEMPT:
        raise MaxRetriesExceeded(f"{call.task} has had {attempt - 1:,} attempts, and no more can be counted")
    content_type, _, own = wire.unpack_headers(delivery.headers)
    sent = call_of(delivery) if delivery.body else call  # anew: the task may have changed what it was given
    following = replace(
        call,
        args=sent.args if request.new_args is None else request.new_args,
        kwargs=sent.kwargs if request.new_kwargs is None else request.new_kwargs,
        retries=call.retries + 1,
        eta=request.when,
    )
    content_type, encoding, body = wire.encode(following, wire.serializer_of(content_type))
    return Message(
        task_id=call.task_id,
        task=call.task,
        body=body,
        queue=delivery.queue,
        attempt=attempt,
        priority=-delivery.rank or None,
        headers={name: value for name, value in own.items() if name in wire.LASTING},
        content_type=content_type,
        content_encoding=encoding,
        visible_at=request.when,
    )


def call_of(delivery: Delivery) -> Call:
    """Decode a delivery. Raises UndecodableMessage."""
    content_type, encoding, headers = wire.unpack_headers(delivery.headers)
    return wire.decode(delivery.body, content_type=content_type, content_encoding=encoding, headers=headers)


def attempt_of(delivery: Delivery) -> int:
    """Return the number of the attempt: the row's or the header's, else by the retries that the body counts."""
    try:
        return delivery.attempt or call_of(delivery).retries + 1
    except UndecodableMessage:
        return 1


def name_of(delivery: Delivery) -> str:
    """Return the name of the task, for people; "?" if it cannot be read."""
    try:
        return call_of(delivery).task
    except UndecodableMessage:
        return "?"


def as_delivery(message: Message, *, row_id: int = 0, relayed: bool = False) -> Delivery:
    """Return a message as a worker holds it; `relayed`: its moment has come, whatever the clock says."""
    return Delivery(
        message.task_id,
        message.attempt,
        message.queue,
        -(message.priority or 0),
        wire.pack_headers(message),
        message.body,
        row_id,
        relayed=relayed,
        starts=wire.sane(message.headers.get(wire.STARTS)),
        crashes=message.crashes,
    )


def as_message(  # noqa: PLR0913 - the columns that differ
    delivery: Delivery,
    *,
    task: str = "",
    attempt: int | None = None,
    visible_at: datetime | None = None,
    reason: str | None = None,
    crashes: int | None = None,
    headers: dict[str, float] | None = None,
) -> Message:
    """Return a delivery as a message to be kept in the database."""
    content_type, encoding, own = wire.unpack_headers(delivery.headers)
    return Message(
        task_id=delivery.task_id,
        task=task or (own["task"] if wire.is_name(own.get("task")) else ""),  # a stranger's header fits no column
        body=delivery.body,
        queue=delivery.queue,
        attempt=attempt or attempt_of(delivery),
        priority=-delivery.rank or None,
        headers={**own, **(headers or {})},
        content_type=content_type,
        content_encoding=encoding,
        visible_at=visible_at,
        crashes=delivery.crashes if crashes is None else crashes,
        reason=reason,
    )
