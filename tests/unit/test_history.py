"""What was done and what waited: buckets without gaps, and bounded ones."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from celery import history
from celery.history import Depth, Minute
from celery.models import QueueDepth, Throughput
from celery.moments import as_stored

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BERLIN = ZoneInfo("Europe/Berlin")
#: When Berlin's clocks show 02:00 to 03:00 again, in UTC.
REPEATED = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)
#: When they leave it out.
LEFT_OUT = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


def keep(at: datetime, done: int = 1, **fields: Any) -> None:
    Throughput.objects.create(**{"at": at, "worker": "w@host", "done": done} | fields)


def sample(at: datetime, depth: int, queue: str = "celery", oldest: float | None = None) -> None:
    QueueDepth.objects.create(at=at, queue=queue, depth=depth, oldest=oldest)


def found(minutes: list[Minute]) -> dict[datetime, int]:
    return {minute.at: minute.done for minute in minutes if minute.done}


def local(moment: datetime) -> datetime:
    """Return a moment as it is stored without USE_TZ."""
    return moment.astimezone(BERLIN).replace(tzinfo=None)


@pytest.fixture
def naive(settings: Settings) -> None:
    settings.USE_TZ = False
    settings.TIME_ZONE = "Europe/Berlin"


class TestThroughput:
    def test_a_quiet_hour_is_sixty_zeros_in_order(self) -> None:
        minutes = history.throughput(until=NOON)

        assert [minute.at for minute in minutes] == [NOON - number * MINUTE for number in range(60, 0, -1)]
        assert {(m.done, m.failed, m.retried, m.runtime) for m in minutes} == {(0, 0, 0, 0.0)}

    def test_all_workers_are_added_up(self) -> None:
        keep(NOON, 3, failed=1, retried=2, runtime=1.5)
        keep(NOON, 4, failed=1, worker="other@host", runtime=0.25)

        assert history.throughput(until=NOON)[-1] == Minute(at=NOON - MINUTE, done=7, failed=2, retried=2, runtime=1.75)

    @pytest.mark.parametrize(
        ("at", "begins"),
        [
            (NOON, NOON - MINUTE),
            (NOON - timedelta(seconds=1), NOON - MINUTE),
            (NOON - timedelta(seconds=59), NOON - MINUTE),
            (NOON - MINUTE, NOON - 2 * MINUTE),
            (NOON - timedelta(minutes=59, seconds=59), NOON - 60 * MINUTE),
        ],
    )
    def test_a_row_is_of_the_minute_that_it_ends(self, at: datetime, begins: datetime) -> None:
        keep(at)

        assert found(history.throughput(until=NOON)) == {begins: 1}

    @pytest.mark.parametrize("at", [NOON + timedelta(seconds=1), NOON + timedelta(days=1), NOON - 60 * MINUTE])
    def test_what_is_of_another_time_is_left_out(self, at: datetime) -> None:
        keep(at)

        assert found(history.throughput(until=NOON)) == {}

    @pytest.mark.parametrize(
        ("minutes", "wide", "number"), [(60, 1, 60), (360, 3, 120), (1440, 15, 96), (10080, 90, 112)]
    )
    def test_longer_times_have_wider_buckets(self, minutes: int, wide: int, number: int) -> None:
        # given
        first, last = NOON - minutes * MINUTE + timedelta(seconds=1), NOON
        keep(first, 1)
        keep(last - wide * MINUTE, 2)
        keep(last - timedelta(seconds=1), 4)
        keep(last, 8)

        # when
        buckets = history.throughput(minutes=minutes, until=NOON)

        # then
        assert history.width(minutes) == wide * MINUTE
        assert [bucket.done for bucket in buckets] == [1, *[0] * (number - 3), 2, 12]
        assert {after.at - before.at for before, after in pairwise(buckets)} == {wide * MINUTE}

    @given(st.integers(min_value=1, max_value=130_000))
    def test_there_are_never_too_many_buckets_and_they_cover_the_time(self, minutes: int) -> None:
        buckets = history.throughput(minutes=minutes, until=NOON)

        assert len(buckets) <= history.MOST_BUCKETS
        assert buckets[0].at <= NOON - minutes * MINUTE < buckets[0].at + history.width(minutes)
        assert buckets[-1].at + history.width(minutes) == NOON

    @pytest.mark.parametrize("minutes", [60, 360, 1440, 10080])
    def test_any_end_is_to_the_minute(self, minutes: int) -> None:
        # given
        end = NOON + 7 * MINUTE
        for number in range(0, minutes, 7):
            keep(end - number * MINUTE)

        # when
        buckets = history.throughput(minutes=minutes, until=end + timedelta(seconds=59))

        # then
        assert buckets[-1].at + history.width(minutes) == end
        wide = history.width(minutes)
        for bucket in buckets:
            within = [n for n in range(0, minutes, 7) if bucket.at < end - n * MINUTE <= bucket.at + wide]
            assert bucket.done == len(within)

    def test_the_minute_that_has_just_ended_is_not_told_before_workers_have_written(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = datetime.now(UTC)
        last = history.throughput()[-1].at + MINUTE
        after = datetime.now(UTC)

        assert last.second == last.microsecond == 0
        assert before - history.SETTLING - MINUTE < last <= after - history.SETTLING

    def test_it_is_one_query_however_much_there_is(self) -> None:
        for number in range(200):
            keep(NOON - number * MINUTE)

        with CaptureQueriesContext(connection) as queries:
            history.throughput(minutes=360, until=NOON)

        assert len(queries) == 1

    def test_a_time_of_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="minutes must be 1 or more, not 0"):
            history.throughput(minutes=0)

    def test_a_moment_that_could_be_any_is_refused(self) -> None:
        with pytest.raises(ValueError, match="until must be aware"):
            history.throughput(until=datetime(2026, 11, 22))  # noqa: DTZ001 - that is the point

    def test_a_moment_of_another_zone_is_the_same_moment(self) -> None:
        keep(NOON)

        assert history.throughput(until=NOON.astimezone(BERLIN)) == history.throughput(until=NOON)


@pytest.mark.usefixtures("naive")
class TestWithoutUseTz:
    @pytest.mark.parametrize("minutes", [60, 360, 1440, 10080])
    @pytest.mark.parametrize("end", [NOON, LEFT_OUT, LEFT_OUT + 30 * MINUTE, LEFT_OUT + 90 * MINUTE])
    def test_each_moment_is_in_its_bucket(self, minutes: int, end: datetime) -> None:
        # given
        moments = [end - number * MINUTE for number in range(0, minutes, 7)]
        for moment in moments:
            keep(local(moment))

        # when
        buckets = history.throughput(minutes=minutes, until=end)

        # then
        wide = history.width(minutes)
        for bucket in buckets:
            assert bucket.at.utcoffset() == timedelta(0)
            assert bucket.done == len([moment for moment in moments if bucket.at < moment <= bucket.at + wide])

    @pytest.mark.parametrize("minutes", [60, 360, 1440])
    @pytest.mark.parametrize("after", [-30, 0, 1, 30, 59, 60, 61, 90, 120, 180])
    @pytest.mark.parametrize("kept_as", [local, as_stored], ids=["without marks", "as workers write"])
    def test_the_hour_that_is_repeated_is_told_once_and_wholly(
        self, minutes: int, after: int, kept_as: Callable[[datetime], datetime]
    ) -> None:
        """What was written in the first of both hours is told as of the second, as soon as that is over."""
        # given
        end = REPEATED + after * MINUTE
        moments = [end - number * MINUTE for number in range(minutes)]
        for moment in moments:
            keep(kept_as(moment))

        # when
        buckets = history.throughput(minutes=minutes, until=end)

        # then
        shown = sum(bucket.done for bucket in buckets)
        assert shown == minutes
        assert [b.at for b in buckets] == sorted(b.at for b in buckets)

    def test_what_was_before_the_repeated_hour_stays_where_it_was(self) -> None:
        keep(local(REPEATED - 90 * MINUTE))
        keep(local(REPEATED + 90 * MINUTE))

        assert found(history.throughput(minutes=360, until=REPEATED + 180 * MINUTE)) == {
            REPEATED - 90 * MINUTE - 3 * MINUTE: 1,
            REPEATED + 90 * MINUTE - 3 * MINUTE: 1,
        }

    def test_samples_are_found_too(self) -> None:
        sample(local(NOON - MINUTE), 5)

        assert history.depths(until=NOON)["celery"][-1] == Depth(at=NOON - MINUTE, depth=5)


class TestDepths:
    def test_without_samples_there_is_no_queue(self) -> None:
        assert history.depths(until=NOON) == {}

    def test_a_minute_in_which_nobody_looked_is_a_gap(self) -> None:
        sample(NOON - 3 * MINUTE, 5, oldest=2.5)
        sample(NOON - MINUTE, 0)

        line = history.depths(minutes=4, until=NOON)["celery"]

        assert line == [
            Depth(at=NOON - 4 * MINUTE),
            Depth(at=NOON - 3 * MINUTE, depth=5, oldest=2.5),
            Depth(at=NOON - 2 * MINUTE),
            Depth(at=NOON - MINUTE, depth=0),
        ]

    def test_of_a_wide_bucket_the_most_is_told(self) -> None:
        sample(NOON - 3 * MINUTE, 5, oldest=9.0)
        sample(NOON - 2 * MINUTE, 7, oldest=1.0)
        sample(NOON - MINUTE, 0)

        assert history.depths(minutes=360, until=NOON)["celery"][-1] == Depth(at=NOON - 3 * MINUTE, depth=7, oldest=9.0)

    @pytest.mark.parametrize("at", [NOON, NOON + timedelta(days=1), NOON - 61 * MINUTE])
    def test_what_is_of_another_time_is_left_out(self, at: datetime) -> None:
        sample(at, 5)

        assert history.depths(until=NOON) == {}

    def test_queues_are_in_the_order_of_their_names(self) -> None:
        for queue in ("mail", "celery", "Fast"):
            sample(NOON - MINUTE, 5, queue)

        assert list(history.depths(until=NOON)) == ["Fast", "celery", "mail"]

    def test_of_many_queues_the_deepest_are_told_and_the_others_added_up(self) -> None:
        # given
        for number in range(23):
            sample(NOON - MINUTE, 100 + number, f"q{number:02}", oldest=float(number))
            sample(NOON - 2 * MINUTE, 1, f"q{number:02}")

        # when
        lines = history.depths(minutes=3, until=NOON)

        # then
        assert list(lines) == [*(f"q{number:02}" for number in range(3, 23)), "others"]
        assert lines["q22"][-1] == Depth(at=NOON - MINUTE, depth=122, oldest=22.0)
        assert lines["others"] == [
            Depth(at=NOON - 3 * MINUTE),
            Depth(at=NOON - 2 * MINUTE, depth=3),
            Depth(at=NOON - MINUTE, depth=303, oldest=2.0),
        ]

    def test_twenty_queues_are_told_one_by_one_even_if_one_is_called_others(self) -> None:
        for number in range(19):
            sample(NOON - MINUTE, 5, f"q{number:02}")
        sample(NOON - MINUTE, 7, "others")

        lines = history.depths(until=NOON)

        assert len(lines) == 20
        assert lines["others"][-1].depth == 7

    def test_a_queue_called_others_is_among_the_others_if_there_are_any(self) -> None:
        for number in range(20):
            sample(NOON - MINUTE, 5, f"q{number:02}")
        sample(NOON - MINUTE, 7, "others")

        lines = history.depths(until=NOON)

        assert list(lines)[-1] == "others"
        assert sum(line[-1].depth or 0 for line in lines.values()) == 107

    @pytest.mark.parametrize("number", [3, 30])
    def test_the_number_of_queries_does_not_grow(self, number: int) -> None:
        for index in range(number):
            for minute in range(10):
                sample(NOON - minute * MINUTE, index, f"q{index:02}")

        with CaptureQueriesContext(connection) as queries:
            history.depths(until=NOON)

        assert len(queries) == (2 if number == 3 else 3)


@pytest.mark.parametrize("read", [history.throughput, history.depths])
def test_the_index_is_used(read: Callable[..., object]) -> None:
    with CaptureQueriesContext(connection) as queries:
        sample(NOON - MINUTE, 5)
        read(until=NOON)

    for query in queries:
        if query["sql"].startswith("SELECT"):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
                plan = " ".join(str(row) for row in cursor.fetchall())
            assert "at>? AND at<?" in plan, plan
