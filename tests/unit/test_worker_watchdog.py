"""A pulse that stands still is a reason to kill, but not one that stood still with the whole machine."""

from pytest_django import Settings

from celery.worker.watchdog import LONGEST_TURN, STALLED, Watchdog


class Pulse:
    def __init__(self) -> None:
        self.at = 1.0

    def __call__(self) -> float:
        return self.at


def watched(pulse: Pulse) -> Watchdog:
    watchdog = Watchdog(pulse)
    watchdog.begin(0.0)
    return watchdog


def _killed_at(watchdog: Watchdog, *, turns: int, step: float = 1.0, start: float = 0.0) -> float | None:
    """Return the moment at which it is time to kill, within so many turns of the supervisor's loop."""
    moments = (start + step * turn for turn in range(1, turns + 1))
    return next((moment for moment in moments if watchdog.is_stalled(moment)), None)


def test_a_pulse_that_stands_still_is_told_after_the_time() -> None:
    assert _killed_at(watched(Pulse()), turns=100) == STALLED + 1


def test_a_pulse_that_changes_now_and_then_is_never_told() -> None:
    # given
    pulse = Pulse()
    watchdog = watched(pulse)

    for second in range(1, 500):
        # when
        pulse.at += second % 40 == 0

        # then
        assert not watchdog.is_stalled(float(second))


def test_a_machine_that_slept_has_silenced_nobody() -> None:
    # given
    watchdog = watched(Pulse())
    assert not watchdog.is_stalled(1.0)

    # then
    assert not watchdog.is_stalled(10_000.0)
    assert _killed_at(watchdog, turns=100, start=10_000.0) == 10_000.0 + STALLED - LONGEST_TURN


def test_a_process_that_starts_begins_anew() -> None:
    # given
    watchdog = watched(Pulse())
    assert _killed_at(watchdog, turns=100)

    # when
    watchdog.begin(200.0)

    # then
    assert not watchdog.is_stalled(201.0)


def test_a_process_may_wait_for_the_broker_as_long_as_the_project_says(settings: Settings) -> None:
    # given
    settings.CELERY_PUBLISH_TIMEOUT = 60.0

    # then
    assert _killed_at(watched(Pulse()), turns=300) == 2 * 60.0 + 1
