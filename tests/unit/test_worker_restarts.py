"""What is to be started, and when; the supervisor's tests show it at work."""

import pytest

from celery.worker import restarts
from celery.worker.restarts import LONGEST_PAUSE, SHORT_LIFE, Restarts


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(restarts, "time", clock)
    return clock


def test_what_is_due_is_taken_once_in_the_order_of_asking(clock: Clock) -> None:
    # given
    missing = Restarts()
    missing.soon("steward")
    missing.soon("child", 3, after=5)
    missing.soon("dispatcher")

    # when
    taken = [missing.take(), missing.take(), missing.take()]

    # then
    assert taken == [("steward", 0), ("dispatcher", 0), None]
    assert missing
    assert missing.next_at() == clock.now + 5

    # when
    clock.now += 5

    # then
    assert missing.take() == ("child", 3)
    assert not missing
    assert missing.next_at() == float("inf")


def test_short_lives_are_followed_ever_later_until_a_long_one(clock: Clock) -> None:
    # given
    missing = Restarts()

    # when
    pauses = []
    for life in [0.1] * 9 + [SHORT_LIFE, 0.1]:
        missing.follow("child", 1, life=life)
        pauses.append(missing.pause("child", 1))

    # then
    assert pauses == pytest.approx([0, 0.4, 0.8, 1.6, 3.2, 6.4, *[LONGEST_PAUSE] * 3, 0, 0])


def test_short_lives_may_follow_each_other_for_days(clock: Clock) -> None:
    # given
    missing = Restarts()

    # when
    for _ in range(5000):
        missing.follow("child", 1, life=0.1)

    # then
    assert missing.pause("child", 1) == pytest.approx(LONGEST_PAUSE)


def test_short_lives_of_one_say_nothing_of_another(clock: Clock) -> None:
    # given
    missing = Restarts()
    missing.follow("child", 1, life=0)
    missing.follow("child", 1, life=0)

    # when
    missing.follow("child", 2, life=0)

    # then
    assert missing.pause("child", 2) == 0


def test_all_can_be_forgotten_but_one_role(clock: Clock) -> None:
    # given
    missing = Restarts()
    missing.soon("steward")
    missing.soon("child", 1)

    # when
    missing.forget(but="steward")

    # then
    assert (missing.take(), missing.take()) == (("steward", 0), None)
    with pytest.raises(KeyError):
        missing.pause("child", 1)
