"""A child's own part: what it hears, what it does not run now, what it says of errors. Its writer is only pretended."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from celery import states
from celery.message import Call, Delivery, encode
from celery.registry import tasks
from celery.worker import channel, child, job
from celery.worker.child import Child, Seat
from celery.worker.job import Job, Outcome
from celery.worker.options import Bounds
from celery.worker.slots import Slots

ran: list[str] = []


class Mute(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def note(text: str) -> None:
    ran.append(text)


def fail() -> None:
    raise Mute


def alarm() -> None:
    signal.setitimer(signal.ITIMER_REAL, 3600)


def dawdle(seconds: float) -> None:
    time.sleep(seconds)
    ran.append("dawdled")


@pytest.fixture(autouse=True)
def _tasks() -> None:
    ran.clear()
    for function in (note, fail, alarm, dawdle):
        tasks.register(function, f"tests.{function.__name__}")


def delivery(name: str, *args: Any, row_id: int = 0, relayed: bool = False, **fields: Any) -> Delivery:
    body = encode(Call(task=name, task_id="some id", args=args, **fields), "json")[2]
    return Delivery("some id", 1, "celery", 0, "", body, row_id, None if row_id else (1, 1), relayed=relayed)


class Pretended:
    """Keeps outcomes instead of storing them."""

    def __init__(self, end: socket.socket, **_: object) -> None:
        self.outcomes: list[Outcome] = []
        self.lives = False
        self.is_full = False
        self._end = end
        #: Whether a job still lay in the channel when each outcome came.
        self.unread: list[bool] = []

    def start(self) -> None:
        self.lives = True

    def put(self, outcome: Outcome) -> None:
        assert self.lives
        self.outcomes.append(outcome)
        self.unread.append(_unread(self._end))

    def stop(self) -> None:
        self.lives = False


def _unread(end: socket.socket) -> bool:
    """Whether a datagram waits at this end; it is left there."""
    try:
        return bool(end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False


class Desk:
    """A child in this process, and the dispatcher's end of its channel."""

    def __init__(self, end: socket.socket, childs_end: socket.socket, bounds: Bounds) -> None:
        self.end = end
        self.slots = Slots(1)
        self.child = Child(
            Seat(index=0, end=childs_end, slots=self.slots, owner="owner", worker="worker", bounds=bounds)
        )
        self._number = 0

    @property
    def outcomes(self) -> list[Outcome]:
        return self.child._writer.outcomes  # type: ignore[attr-defined, no-any-return]

    def hand_over(self, found: Delivery) -> None:
        self._number += 1
        channel.send(self.end, job.pack(self._number, 0, found))


@pytest.fixture
def bounds() -> Bounds:
    """Limits that a test may replace by its own parameter."""
    return Bounds()


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, bounds: Bounds) -> Iterator[Desk]:
    monkeypatch.setattr(child, "Writer", Pretended)
    monkeypatch.setattr("celery.worker.connections.TaskConnections.after_task", lambda _, **__: None)
    ours, theirs = channel.pair()
    with ours, theirs:
        yield Desk(ours, theirs, bounds)


def test_it_works_until_it_is_told_to_stop_and_writes_before_it_ends(desk: Desk) -> None:
    # given
    desk.hand_over(delivery("tests.note", "one"))
    desk.hand_over(delivery("tests.note", "two"))
    channel.send(desk.end, [job.STOP])
    desk.hand_over(delivery("tests.note", "never"))

    # when
    desk.child.run()

    # then
    assert ran == ["one", "two"]
    assert [(outcome.job.number, outcome.kind) for outcome in desk.outcomes] == [(1, states.DONE), (2, states.DONE)]
    assert not desk.child._writer.lives  # type: ignore[attr-defined]
    assert desk.slots.running(0) == 0


@pytest.mark.parametrize("is_full", [False, True])
def test_the_next_job_is_at_hand_before_the_writer_is_woken_unless_that_has_too_much_to_do(
    desk: Desk, *, is_full: bool
) -> None:
    """While nothing can be stored, jobs are left where the dispatcher can take them back."""
    # given
    writer: Any = desk.child._writer
    writer.is_full = is_full
    desk.hand_over(delivery("tests.note", "one"))
    desk.hand_over(delivery("tests.note", "two"))
    desk.end.shutdown(socket.SHUT_WR)

    # when
    desk.child.run()

    # then
    assert ran == ["one", "two"]
    assert writer.unread == [is_full, False]


@pytest.mark.parametrize("row_id", [1, 0])
def test_a_job_starts_only_while_nobody_else_can_have_taken_it_over(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, row_id: int
) -> None:
    """After a stop of the whole machine, say: others have run it meanwhile.

    The lease is renewed or lost; but one of a broker is not held by a lease, and only the dispatcher knows of it.
    """
    # given
    pauses = 2
    monkeypatch.setattr("celery.worker.slots.LONGEST_SILENCE", float("inf") if row_id else -float("inf"))
    desk.slots.extend_lease(0.0 if row_id else float("inf"))
    ran_at: list[list[str]] = []

    def pause(_: float) -> None:
        ran_at.append(list(ran))
        if len(ran_at) == pauses:
            desk.slots.extend_lease(float("inf"))
            monkeypatch.setattr("celery.worker.slots.LONGEST_SILENCE", float("inf"))

    monkeypatch.setattr(child, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))
    desk.hand_over(delivery("tests.note", "one", row_id=row_id))
    desk.hand_over(delivery("tests.note", "two", row_id=row_id))
    channel.send(desk.end, [job.STOP])

    # when
    desk.child.run()

    # then
    assert ran == (["one", "two"] if row_id else ["two"])
    assert ran_at == [[]] * pauses
    received = channel.receive(desk.end, wait=False)
    assert (received and job.unpack_answers(received[0])) == (None if row_id else [(1, job.LATE)])
    assert [outcome.job.number for outcome in desk.outcomes] == ([1, 2] if row_id else [2])


def test_it_ends_when_the_dispatcher_is_gone(desk: Desk) -> None:
    # given
    desk.hand_over(delivery("tests.note", "one"))
    desk.end.close()

    # when
    desk.child.run()

    # then
    assert ran == ["one"]


def test_an_alarm_that_a_task_leaves_does_not_reach_the_next(desk: Desk) -> None:
    # given
    desk.hand_over(delivery("tests.alarm"))
    desk.end.close()

    # when
    desk.child.run()

    # then
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_copy_of_the_child_that_a_task_forked_ends_and_says_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    desk.hand_over(delivery("tests.note", "one"))

    # when
    desk.child._pid -= 1
    with pytest.raises(SystemExit, match=r"^1$"):
        desk.child.run()

    # then
    assert ran == ["one"]
    assert desk.outcomes == []


# Limits


@pytest.mark.parametrize("bounds", [Bounds(max_tasks=1)])
def test_what_is_not_run_now_wears_a_child_out_as_little_as_it_runs(desk: Desk, bounds: Bounds) -> None:
    # given
    desk.hand_over(delivery("tests.note", "x", eta=datetime.now(UTC) + timedelta(hours=1)))
    desk.hand_over(delivery("tests.note", "one"))
    desk.hand_over(delivery("tests.note", "never"))

    # when
    desk.child.run()

    # then
    assert ran == ["one"]


@pytest.mark.parametrize("bounds", [Bounds(max_tasks=2), Bounds(max_memory=1)])
def test_a_child_that_is_used_up_ends_with_the_rest_in_its_channel(desk: Desk, bounds: Bounds) -> None:
    # given
    for text in ("one", "two", "three"):
        desk.hand_over(delivery("tests.note", text))

    # when
    desk.child.run()

    # then
    assert ran == ["one", "two"][: bounds.max_tasks or 1]
    assert not desk.child._writer.lives  # type: ignore[attr-defined]
    received = channel.receive(desk.child._seat.end, wait=False)
    assert received
    assert job.unpack(received[0]).number == len(ran) + 1


@pytest.mark.parametrize("bounds", [Bounds(soft_time_limit=0.01, time_limit=30)])
def test_a_task_beyond_its_soft_limit_gets_an_exception_and_the_next_one_does_not(desk: Desk, bounds: Bounds) -> None:
    # given
    desk.hand_over(delivery("tests.dawdle", 30))
    desk.hand_over(delivery("tests.note", "next"))
    desk.end.close()

    # when
    desk.child.run()

    # then
    assert ran == ["next"]
    assert [outcome.kind for outcome in desk.outcomes] == [states.FAILURE, states.DONE]
    assert desk.outcomes[0].error == ("SoftTimeLimitExceeded: the task ran longer than its soft time limit of 0.01 s")
    assert desk.slots.deadline(0) == 0.0


LATER = datetime.now(UTC) + timedelta(hours=1)


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (delivery("tests.note", "x", eta=LATER), job.POSTPONED),
        (delivery("tests.note", "x", eta=LATER, row_id=1), states.DONE),
        (delivery("tests.note", "x", eta=LATER, relayed=True), states.DONE),
        (delivery("tests.note", "x", eta=datetime(2026, 1, 1, tzinfo=UTC)), states.DONE),
    ],
)
def test_only_what_others_sent_for_later_waits_as_our_own_schedule_has_waited_already(
    found: Delivery, kind: str
) -> None:
    outcome = child.execute(Job(1, 0, found))

    assert outcome.kind == kind
    assert ran == ([] if kind == job.POSTPONED else ["x"])


def test_an_error_without_a_text_fails_its_task_all_the_same() -> None:
    outcome = child.execute(Job(1, 0, delivery("tests.fail")))

    assert outcome.kind == states.FAILURE
    assert outcome.error == "Mute: (its text cannot be formatted)"
