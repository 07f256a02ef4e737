"""celery/mail/ceiling.py: so many e-mails a task and hour, counted by all processes of a worker together."""

import mmap

import pytest

from celery.mail import ceiling as counting
from celery.mail.ceiling import HOUR, SLOTS, STEPS, Answer, Ceiling


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(counting, "time", made)
    return made


@pytest.fixture
def ceiling(clock: Clock) -> Ceiling:
    return Ceiling()


def test_it_admits_so_many_and_counts_the_others(ceiling: Ceiling) -> None:
    answers = [ceiling.ask("pay", 2) for _ in range(4)]

    assert answers == [Answer(True, 0), Answer(True, 0), Answer(False, 1), Answer(False, 2)]


def test_after_an_hour_the_next_one_hears_of_those_that_were_held_back_once(ceiling: Ceiling, clock: Clock) -> None:
    # given
    for _ in range(5):
        ceiling.ask("pay", 2)

    # then
    clock.now += HOUR - 1
    assert ceiling.ask("pay", 2) == Answer(False, 4)
    clock.now += 1
    assert ceiling.ask("pay", 2) == Answer(True, 4)
    assert ceiling.ask("pay", 2) == Answer(True, 0)
    assert ceiling.ask("pay", 2) == Answer(False, 1)


def test_those_that_were_held_back_are_not_forgotten_while_nothing_fails(ceiling: Ceiling, clock: Clock) -> None:
    for _ in range(3):
        ceiling.ask("pay", 1)
    clock.now += 30 * HOUR

    assert ceiling.ask("pay", 1) == Answer(True, 2)


def test_none_are_admitted_where_none_may_be(ceiling: Ceiling) -> None:
    assert [ceiling.ask("pay", 0).is_admitted for _ in range(3)] == [False] * 3


@pytest.mark.parametrize("name", ["", "x" * 10_000, "lone \ud800", "nul \0"])
def test_any_name_has_its_count(ceiling: Ceiling, name: str) -> None:
    assert [ceiling.ask(name, 1).is_admitted for _ in range(2)] == [True, False]
    assert ceiling.ask("another", 1).is_admitted


def test_tasks_that_meet_in_a_slot_have_counts_of_their_own(ceiling: Ceiling, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {f"task {number}": SLOTS * (number + 1) for number in range(STEPS)}
    monkeypatch.setattr(counting, "_key", keys.__getitem__)

    assert all(ceiling.ask(name, 1).is_admitted for name in keys)
    assert not any(ceiling.ask(name, 1).is_admitted for name in keys)


def test_one_task_too_many_for_the_table_shares_and_takes_over_what_is_past(
    ceiling: Ceiling, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    keys = {f"task {number}": SLOTS * (number + 1) for number in range(STEPS + 1)}
    monkeypatch.setattr(counting, "_key", keys.__getitem__)
    *own, late = keys
    for name in own:
        ceiling.ask(name, 1)

    # then
    assert ceiling.ask(late, 1) == Answer(False, 1)
    clock.now += HOUR
    assert ceiling.ask(late, 1) == Answer(True, 0)
    assert ceiling.ask(late, 1) == Answer(False, 1)


def test_the_table_has_a_fixed_size_however_many_tasks_there_are(ceiling: Ceiling) -> None:
    for number in range(3 * SLOTS):
        ceiling.ask(f"task {number}", 1)

    assert isinstance(ceiling._memory, mmap.mmap)
    assert len(ceiling._memory) == SLOTS * counting.SLOT.size
