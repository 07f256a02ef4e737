"""The steward's vacuum: when it looks, and how it leaves off where it is in vain."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError

from celery import states
from celery.worker.slots import Slots
from celery.worker.vacuum import LONGEST_PAUSE, LOOK, Vacuum


class Scripted:
    """A store whose clearing away takes a time of the test's choice."""

    def __init__(self) -> None:
        self.calls = 0
        self.is_of_use = True
        self.takes = 0.01
        self.moment = 100.0

    def clear_away(self) -> bool:
        self.calls += 1
        self.moment += self.takes
        return self.is_of_use

    def clock(self) -> float:
        return self.moment


@pytest.fixture
def kept() -> Scripted:
    return Scripted()


@pytest.fixture
def slots() -> Slots:
    return Slots(1)


@pytest.fixture
def vacuum(kept: Any, slots: Slots) -> Vacuum:
    return Vacuum(kept, slots, kept.clock)


@pytest.fixture
def steps(vacuum: Vacuum, slots: Slots) -> Iterator[float]:
    """What the step after each task returns."""

    def step() -> float:
        slots.count(0, states.DONE, 0.1)
        return vacuum.step()

    return iter(step, None)


def test_a_worker_without_work_asks_the_database_nothing(vacuum: Vacuum, kept: Scripted) -> None:
    assert [vacuum.step(), vacuum.step()] == [LOOK, LOOK]

    assert kept.calls == 0


@pytest.mark.parametrize("kind", [states.DONE, states.FAILURE, states.RETRY])
def test_it_looks_once_after_whatever_was_stored(kind: str, vacuum: Vacuum, slots: Slots, kept: Scripted) -> None:
    slots.count(0, kind, 0.1)

    assert [vacuum.step(), vacuum.step()] == [LOOK, LOOK]

    assert kept.calls == 1


def test_it_takes_a_small_part_of_the_stewards_time(steps: Iterator[float], kept: Scripted) -> None:
    kept.takes = 0.5

    assert next(steps) == pytest.approx(10.0)


def test_it_looks_ever_more_seldom_while_that_is_in_vain(steps: Iterator[float], kept: Scripted) -> None:
    """A transaction that was forgotten elsewhere keeps every VACUUM from clearing anything away."""
    kept.is_of_use = False

    assert [next(steps) for _ in range(7)] == [4.0, 8.0, 16.0, 32.0, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]

    kept.is_of_use = True
    assert next(steps) == LOOK


def test_what_happens_while_the_database_is_away_is_looked_at_later(
    vacuum: Vacuum, slots: Slots, kept: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots.count(0, states.DONE, 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(kept, "clear_away", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            vacuum.step()

    vacuum.step()

    assert kept.calls == 1


def test_one_that_takes_longer_than_the_database_is_waited_for_keeps_its_small_part(
    vacuum: Vacuum, slots: Slots, kept: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    def never_ends() -> bool:
        kept.moment += 20.0
        raise OperationalError("the server has not answered")

    slots.count(0, states.DONE, 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(kept, "clear_away", never_ends)
        with pytest.raises(OperationalError):
            vacuum.step()

    # when
    kept.moment += 399.0
    wait = vacuum.step()

    # then
    assert (wait, kept.calls) == (LOOK, 0)

    # when
    kept.moment += 1.0
    vacuum.step()

    # then
    assert kept.calls == 1
