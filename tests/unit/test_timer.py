import time

import pytest

from celery import exceptions
from celery.timer import EventTimer, TimeoutError, TimeoutTimer  # noqa: A004 - the classic name


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", made.monotonic)
    return made


class TestEventTimer:
    def test_calls_its_event_when_the_interval_has_passed(self, clock: Clock) -> None:
        calls: list[float] = []
        timer = EventTimer(lambda: calls.append(clock.now), interval=5)

        for seconds in (0, 4.9, 0.1, 4.9, 0.2):
            clock.now += seconds
            timer.tick()

        assert calls == [pytest.approx(1005), pytest.approx(1010.1)]

    def test_without_an_interval_it_never_does(self, clock: Clock) -> None:
        timer = EventTimer(lambda: pytest.fail("it was called"))

        for _ in range(3):
            clock.now += 1000
            timer.tick()

    def test_an_event_that_fails_counts_as_called(self, clock: Clock) -> None:
        timer = EventTimer(lambda: 1 / 0, interval=5)
        timer.tick()
        clock.now += 5

        with pytest.raises(ZeroDivisionError):
            timer.tick()

        timer.tick()


class TestTimeoutTimer:
    def test_raises_when_the_time_is_up(self, clock: Clock) -> None:
        timer = TimeoutTimer(5, "too late")
        clock.now += 4.9
        timer.tick()
        clock.now += 0.1

        with pytest.raises(TimeoutError, match="too late"):
            timer.tick()

    def test_a_timeout_of_0_is_one(self, clock: Clock) -> None:
        with pytest.raises(TimeoutError):
            TimeoutTimer(0).tick()

    def test_none_means_for_ever(self, clock: Clock) -> None:
        timer = TimeoutTimer(None)
        clock.now += 1e9

        timer.tick()

    def test_the_clock_of_the_wall_does_not_matter(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        timer = TimeoutTimer(5)
        monkeypatch.setattr(time, "time", lambda: 1e12)

        timer.tick()


def test_its_timeout_error_is_that_of_results() -> None:
    assert TimeoutError is exceptions.TimeoutError
    assert issubclass(TimeoutError, OSError)
