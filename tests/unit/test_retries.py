"""Whether a task is tried again, and after how long."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery import retries
from celery.current import Running, running
from celery.exceptions import InvalidTask, MaxRetriesExceeded, NotInATask, RetryTask
from celery.registry import tasks
from celery.task import Task


class Patient(Task):
    name = "shop.patient"
    retry_interval = timedelta(seconds=10)


@contextmanager
def run_by_a_worker(retried: int = 0) -> Iterator[None]:
    """Be inside a task that has asked for so many retries already."""
    token = running.set(Running("shop.patient", "id", retried + 1, retried))
    try:
        yield
    finally:
        running.reset(token)


def seconds_until(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()


class TestPauses:
    def test_they_double_up_to_an_hour(self) -> None:
        assert [retries.pause(2, number) for number in (0, 1, 2, 10, 11, 12)] == [2, 4, 8, 2048, 3600, 3600]

    def test_an_interval_of_more_than_an_hour_is_kept(self) -> None:
        assert retries.pause(timedelta(hours=3), 5) == 3 * 3600

    @given(interval=st.floats(0, 1e6), retried=st.integers(0, 2**31), chance=st.floats(-retries.JITTER, retries.JITTER))
    def test_no_number_of_retries_is_too_much(self, interval: float, retried: int, chance: float) -> None:
        assert 0 <= retries.pause(interval, retried, chance=chance) <= max(interval, retries.LONGEST_PAUSE)

    def test_they_are_spread_to_both_sides(self) -> None:
        assert (retries.pause(100, 0, chance=-0.25), retries.pause(100, 0, chance=0.25)) == (75, 125)


class TestRequests:
    def test_the_pause_follows_the_task(self) -> None:
        with run_by_a_worker(retried=2), pytest.raises(RetryTask) as caught:
            Patient.retry()

        assert 29 < seconds_until(caught.value.when) <= 50

    @pytest.mark.parametrize("retried", [0, 2])
    def test_a_countdown_wins_over_the_policy(self, retried: int) -> None:
        with run_by_a_worker(retried), pytest.raises(RetryTask) as caught:
            Patient.retry(countdown=500)

        assert 499 < seconds_until(caught.value.when) <= 500

    def test_so_does_a_moment(self) -> None:
        moment = datetime(2030, 1, 1, tzinfo=UTC)

        with run_by_a_worker(), pytest.raises(RetryTask) as caught:
            Patient.retry(eta=moment)

        assert caught.value.when == moment

    def test_the_reason_is_the_exception_that_is_being_handled(self) -> None:
        try:
            int("away")
        except ValueError:
            with run_by_a_worker(), pytest.raises(RetryTask) as caught:
                Patient.retry()

        assert isinstance(caught.value.exc, ValueError)

    def test_arguments_replace_those_of_the_call(self) -> None:
        with run_by_a_worker(), pytest.raises(RetryTask) as caught:
            Patient.retry([1], {"x": 2, "task_id": "id", "task_name": "other"})

        assert (caught.value.new_args, caught.value.new_kwargs) == ([1], {"x": 2, "task_name": "other"})

    def test_without_arguments_they_stay(self) -> None:
        with run_by_a_worker(), pytest.raises(RetryTask) as caught:
            Patient.retry()

        assert (caught.value.new_args, caught.value.new_kwargs) == (None, None)

    def test_when_none_is_left_the_given_exception_is_raised(self) -> None:
        error = OSError("away")

        with run_by_a_worker(retried=3), pytest.raises(OSError, match="away") as caught:
            Patient.retry(exc=error)

        assert caught.value is error

    def test_when_none_is_left_and_there_is_no_exception_it_says_so(self) -> None:
        with run_by_a_worker(retried=3), pytest.raises(MaxRetriesExceeded, match=r"shop\.patient .* after 3 retries"):
            Patient.retry()

    def test_a_call_may_allow_more_or_fewer(self) -> None:
        with run_by_a_worker(retried=3), pytest.raises(RetryTask):
            Patient.retry(max_retries=4)
        with run_by_a_worker(retried=1), pytest.raises(MaxRetriesExceeded):
            Patient.retry(max_retries=1)

    def test_a_limit_of_none_is_no_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Patient, "max_retries", None)

        with run_by_a_worker(retried=1000), pytest.raises(RetryTask):
            Patient.retry()

    def test_a_task_that_another_one_calls_as_a_function_cannot_retry_that_one(self) -> None:
        """It would be tried again with arguments that are not its own."""
        token = running.set(Running("shop.another", "id", 1))
        try:
            with pytest.raises(NotInATask, match=r"shop\.patient .* here a worker runs shop\.another"):
                Patient.retry([1])
        finally:
            running.reset(token)

    def test_outside_of_a_worker_it_raises_the_reason(self) -> None:
        with pytest.raises(OSError, match="away"):
            Patient.retry(exc=OSError("away"))
        with pytest.raises(NotInATask):
            Patient.retry()


@pytest.mark.parametrize(
    ("policy", "error", "expected"),
    [
        (True, OSError(), True),
        (False, OSError(), False),
        ((OSError, KeyError), ConnectionError(), True),
        ((KeyError,), OSError(), False),
    ],
)
def test_a_task_that_retries_by_itself_says_after_what(
    policy: object, error: Exception, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Patient, "auto_retry", policy)

    assert retries.is_automatic(Patient, error) is expected


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("max_retries", "1", "a number from 0"),
        ("max_retries", -1, "a number from 0"),
        ("max_retries", True, "a number from 0"),
        ("max_retries", math.nan, "a number from 0"),
        ("retry_interval", None, "number of seconds"),
        ("retry_interval", -1, "number of seconds"),
        ("retry_interval", math.inf, "number of seconds"),
        ("retry_interval", True, "number of seconds"),
        ("auto_retry", [OSError], "a tuple of exception classes"),
        ("auto_retry", (OSError(),), "a tuple of exception classes"),
        ("auto_retry", OSError, "a tuple of exception classes"),
    ],
)
def test_an_odd_policy_is_refused_when_its_task_is_registered(
    option: str, value: object, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when the first attempt fails, in whose place the slip would then be told."""
    monkeypatch.setattr(Patient, option, value)

    with pytest.raises(InvalidTask, match=rf"Patient cannot be a task: {option} is .*{text}"):
        tasks.register(Patient)


@pytest.mark.parametrize("limit", [None, 0, math.inf])
def test_a_limit_may_be_none_or_endless(limit: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patient, "max_retries", limit)

    assert retries.check_policy(Patient) is None
