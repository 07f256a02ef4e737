"""The child's side of limits: an alarm, a deadline in the slot, and wear."""

import logging
import os
import signal
import time
from types import SimpleNamespace
from typing import Any

import pytest

from celery.exceptions import SoftTimeLimitExceeded
from celery.worker import limits
from celery.worker.limits import TimeLimit, Wear
from celery.worker.options import Bounds
from celery.worker.slots import Slots

UNLIMITED = SimpleNamespace()


@pytest.fixture(autouse=True)
def _no_alarm_is_left() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)


def test_a_task_beyond_its_soft_limit_gets_an_exception_where_it_is() -> None:
    limit = TimeLimit(Slots(1), 0, Bounds(soft_time_limit=0.01))

    with pytest.raises(SoftTimeLimitExceeded, match=r"soft time limit of 0\.01 s"), limit.of(UNLIMITED):
        time.sleep(30)


def test_a_task_may_catch_it_and_gets_no_second_one() -> None:
    # given
    limit = TimeLimit(Slots(1), 0, Bounds(soft_time_limit=0.01))
    caught = []

    # when
    with limit.of(UNLIMITED):
        try:
            time.sleep(30)
        except SoftTimeLimitExceeded as error:
            caught.append(error)
            os.kill(os.getpid(), signal.SIGALRM)

    # then
    assert len(caught) == 1


def test_an_alarm_that_comes_after_the_task_reaches_nobody() -> None:
    """It may be on its way when the task returns; what runs then is ours, or the next task."""
    # given
    limit = TimeLimit(Slots(1), 0, Bounds(soft_time_limit=30))

    # when
    with limit.of(UNLIMITED):
        pass

    # then
    os.kill(os.getpid(), signal.SIGALRM)


def test_the_hard_limit_is_a_deadline_in_the_slot_for_as_long_as_the_task_runs() -> None:
    # given
    slots = Slots(2)
    limit = TimeLimit(slots, 1, Bounds(time_limit=60))

    # when
    before = time.monotonic()
    with limit.of(UNLIMITED):
        deadline = slots.deadline(1)

    # then
    assert before + 60 <= deadline <= time.monotonic() + 60
    assert (slots.deadline(0), slots.deadline(1)) == (0.0, 0.0)


@pytest.mark.parametrize(("of_task", "seconds"), [(5, 5), (0, 0), (None, 60), (90.5, 90.5)])
def test_the_limit_of_a_task_wins_over_that_of_the_worker_and_0_is_none(of_task: float | None, seconds: float) -> None:
    # given
    slots = Slots(1)
    limit = TimeLimit(slots, 0, Bounds(time_limit=60, soft_time_limit=60))

    # when
    now = time.monotonic()
    with limit.of(SimpleNamespace(time_limit=of_task, soft_time_limit=of_task)):
        deadline, alarm = slots.deadline(0), signal.getitimer(signal.ITIMER_REAL)[0]

    # then
    assert deadline == pytest.approx(now + seconds if seconds else 0.0, abs=1)
    assert alarm == pytest.approx(seconds, abs=1)


def test_the_limits_of_one_task_are_not_those_of_the_next() -> None:
    # given
    slots = Slots(1)
    limit = TimeLimit(slots, 0, Bounds())
    with limit.of(SimpleNamespace(time_limit=5)):
        pass

    # when
    with limit.of(UNLIMITED):
        # then
        assert slots.deadline(0) == 0.0


def test_a_forked_copy_that_leaves_the_task_takes_no_deadline_away() -> None:
    """The slot is shared memory: what the copy writes there counts for the task, which still runs."""
    # given
    slots = Slots(1)
    limit = TimeLimit(slots, 0, Bounds(time_limit=60))

    # when
    with limit.of(UNLIMITED):
        deadline = slots.deadline(0)
        pid = os.fork()
        if not pid:
            limit.__exit__(None, None, None)
            os._exit(0)
        os.waitpid(pid, 0)

        # then
        assert slots.deadline(0) == deadline


def test_an_alarm_that_an_earlier_task_blocked_comes_all_the_same() -> None:
    # given
    limit = TimeLimit(Slots(1), 0, Bounds(soft_time_limit=0.01))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})

    # when
    try:
        with pytest.raises(SoftTimeLimitExceeded), limit.of(UNLIMITED):
            signal.sigtimedwait(set(), 5)

    # then
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})


@pytest.mark.parametrize("before", [signal.SIG_DFL, lambda *_: None])
def test_after_the_task_alarms_mean_what_they_meant_before(before: Any) -> None:
    # given
    limit = TimeLimit(Slots(1), 0, Bounds(soft_time_limit=60))
    original = signal.signal(signal.SIGALRM, before)

    # when
    with limit.of(UNLIMITED):
        pass
    limit.disarm()

    # then
    found, left = signal.signal(signal.SIGALRM, original), signal.setitimer(signal.ITIMER_REAL, 0)
    assert found is before
    assert left == (0.0, 0.0)


class Handler(logging.Handler):
    """Rests while it writes, and tells what was raised meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            time.sleep(0.05)
        except SoftTimeLimitExceeded:  # as `handleError` of the logging module does
            self.lost += 1


def test_the_soft_limit_waits_until_a_line_is_logged_which_would_swallow_it() -> None:
    # given
    limit = TimeLimit(Slots(1), 0, Bounds(soft_time_limit=0.02))
    handler, log = Handler(), logging.getLogger("tests.chatty")
    log.addHandler(handler)

    # when
    with pytest.raises(SoftTimeLimitExceeded), limit.of(UNLIMITED):  # noqa: PT012 - the first one must not raise
        log.warning("one")
        time.sleep(5)

    # then
    log.removeHandler(handler)
    assert handler.lost == 0


def test_the_soft_limit_waits_until_a_finalizer_has_ended_which_would_swallow_it() -> None:
    # given
    limit = TimeLimit(Slots(1), 0, Bounds(soft_time_limit=0.02))

    class Thing:
        def __del__(self) -> None:
            time.sleep(0.05)

    # when, then
    with pytest.raises(SoftTimeLimitExceeded), limit.of(UNLIMITED):  # noqa: PT012 - the same
        Thing()
        time.sleep(5)


# Wear


def test_a_child_without_bounds_is_never_used_up() -> None:
    wear = Wear(Bounds())

    assert not any(wear.note_task() for _ in range(1000))


def test_a_child_is_used_up_after_its_last_task(caplog: pytest.LogCaptureFixture) -> None:
    # given
    wear = Wear(Bounds(max_tasks=3))

    # when
    with caplog.at_level(logging.INFO, "celery.worker"):
        used_up = [wear.note_task() for _ in range(3)]

    # then
    assert used_up == [False, False, True]
    assert "it has run 3 of 3 tasks" in caplog.text


def test_a_child_is_used_up_when_it_has_grown_too_large(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    sizes = iter([1000, 2000, 2001])
    monkeypatch.setattr(limits, "resident", lambda: next(sizes))
    wear = Wear(Bounds(max_memory=2000))

    # when
    with caplog.at_level(logging.INFO, "celery.worker"):
        used_up = [wear.note_task() for _ in range(3)]

    # then
    assert used_up == [False, False, True]
    assert "it holds 2001 KiB, more than 2000" in caplog.text


def test_the_size_of_this_process_is_what_the_kernel_says() -> None:
    # given
    ballast = bytearray(64 * 1024 * 1024)
    ballast[::4096] = b"x" * len(ballast[::4096])

    # when
    size = limits.resident()

    # then
    assert 64 * 1024 < size < 16 * 1024 * 1024
    del ballast
    assert limits.resident() < size
