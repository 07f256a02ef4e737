"""Chores and their back-off, with a clock that stands until it is moved."""

import pytest
from django.db import DataError, IntegrityError, OperationalError

from celery.exceptions import BrokerUnreachable
from celery.worker import chore
from celery.worker.chore import FIRST_PAUSE, LONGEST_PAUSE, Chore, patiently


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Act:
    """Something to do, that fails while `error` is set."""

    def __init__(self) -> None:
        self.times = 0
        self.error: Exception | None = None

    def __call__(self) -> float:
        self.times += 1
        if self.error:
            raise self.error
        return 10.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(chore, "time", clock)
    monkeypatch.setattr(chore, "drop_connections", lambda: None)
    return clock


@pytest.fixture
def act() -> Act:
    return Act()


@pytest.fixture
def tidying(act: Act, clock: Clock) -> Chore:
    return Chore("Tidying", act)


def test_it_is_done_at_once_and_then_when_its_time_has_come(tidying: Chore, act: Act, clock: Clock) -> None:
    # when
    tidying.run_if_due()
    tidying.run_if_due()
    clock.now += 9.9
    tidying.run_if_due()

    # then
    assert act.times == 1

    # when
    clock.now += 0.1
    tidying.run_if_due()

    # then
    assert act.times == 2


def _pauses(tidying: Chore, clock: Clock, times: int) -> list[float]:
    pauses = []
    for _ in range(times):
        tidying.run_if_due()
        pauses.append(round(tidying.at - clock.now, 6))
        clock.now = tidying.at
    return pauses


@pytest.mark.parametrize("error", [OperationalError("away"), OSError("away"), BrokerUnreachable("away")])
def test_it_is_tried_ever_more_seldom_while_the_world_is_down(
    tidying: Chore, act: Act, clock: Clock, error: Exception
) -> None:
    # given
    act.error = error

    # when
    pauses = _pauses(tidying, clock, 8)

    # then
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert (pauses[0], pauses[-1]) == (FIRST_PAUSE, LONGEST_PAUSE)


def test_trouble_is_logged_once_and_once_more_when_it_is_over(
    tidying: Chore, act: Act, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    # when
    act.error = OSError("no route")
    _pauses(tidying, clock, 3)
    act.error = None
    _pauses(tidying, clock, 2)

    # then
    assert [record.getMessage() for record in caplog.records] == [
        "Tidying: not possible now, trying until it is: no route",
        "Tidying: possible again, after 1.4 s.",
    ]


def test_the_next_trouble_begins_with_a_short_pause_again(tidying: Chore, act: Act, clock: Clock) -> None:
    # given
    act.error = OSError("no route")
    _pauses(tidying, clock, 5)
    act.error = None
    _pauses(tidying, clock, 1)

    # when
    act.error = OSError("no route")

    # then
    assert _pauses(tidying, clock, 2) == [0.2, 0.4]


def test_our_own_mistakes_are_not_caught(tidying: Chore, act: Act) -> None:
    # given
    act.error = TypeError("our own")

    # then
    with pytest.raises(TypeError, match="our own"):
        tidying.run_if_due()


# Patience


@pytest.fixture
def pauses(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made."""
    made: list[float] = []

    def sleep(seconds: float) -> None:
        made.append(seconds)
        clock.now += seconds

    monkeypatch.setattr(clock, "sleep", sleep, raising=False)
    return made


def test_who_is_patient_waits_until_the_world_is_up_and_tells_of_it_twice(
    pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    # given
    errors = iter([OperationalError("away")] * 7)

    def act() -> str:
        for error in errors:
            raise error
        return "done"

    # when
    answer = patiently(act, "Storing 3 results")

    # then
    assert answer == "done"
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_PAUSE, LONGEST_PAUSE]
    assert [record.getMessage() for record in caplog.records] == [
        "Storing 3 results: not possible now, trying until it is: away",
        "Storing 3 results: possible again, after 16.2 s.",
    ]


@pytest.mark.parametrize("error", [DataError("too long"), IntegrityError("twice"), TypeError("NUL"), KeyError("ours")])
def test_who_is_patient_waits_for_the_world_and_not_for_a_row_or_our_own_mistake(
    pauses: list[float], error: Exception
) -> None:
    def act() -> None:
        raise error

    with pytest.raises(type(error)):
        patiently(act, "Storing")
    assert pauses == []


def test_the_error_of_a_database_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    # given
    def act() -> float:
        raise OperationalError("connection failed:\n\tIs the server running?\n")

    # when
    Chore("Relay", act).run_if_due()

    # then
    (record,) = caplog.records
    assert record.getMessage().endswith("trying until it is: connection failed: Is the server running?")
