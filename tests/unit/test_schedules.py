"""When periodic tasks are due. Cron lines are held against every minute of days on which clocks change."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from functools import cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from celery.exceptions import InvalidSchedule
from celery.schedules import EPOCH, Crontab, Schedule, crontab, every, overdue, schedule_of

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)

#: Zones, and a day on which something happens to clocks or calendar.
DAYS = [
    ("Europe/Berlin", date(2026, 3, 29)),  # 2:00 to 3:00 is skipped
    ("Europe/Berlin", date(2026, 10, 25)),  # 2:00 to 3:00 comes twice
    ("Australia/Lord_Howe", date(2026, 4, 5)),  # half an hour comes twice
    ("Australia/Lord_Howe", date(2026, 10, 4)),  # half an hour is skipped
    ("Pacific/Apia", date(2011, 12, 30)),  # a day is skipped
    ("America/Sao_Paulo", date(2018, 11, 4)),  # midnight is skipped
    ("America/Sao_Paulo", date(2018, 2, 18)),  # the hour before midnight comes twice
    ("Africa/Casablanca", date(2026, 2, 15)),  # the clock is put back for a month of fasting
    ("Asia/Kathmandu", date(2027, 12, 31)),  # the end of a year, at an odd offset
    ("UTC", date(2028, 2, 29)),
    ("UTC", date(2027, 2, 28)),
]


def moment(text: str, zone: str = "UTC", *, fold: int = 0) -> datetime:
    """Return the moment at which clocks of `zone` show `text`."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


def shown(found: datetime, zone: str) -> str:
    return found.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes")


def row(schedule: Schedule, start: datetime, count: int) -> list[datetime]:
    """Return the first moments after `start`."""
    found = [schedule.following(start)]
    while len(found) < count:
        found.append(schedule.following(found[-1]))
    return found


# Intervals


class TestIntervals:
    def test_an_interval_lies_on_a_grid_that_all_workers_share(self) -> None:
        assert every(300).latest(moment("2026-03-01T12:04:59")) == moment("2026-03-01T12:00")
        assert every(300).following(moment("2026-03-01T12:04:59")) == moment("2026-03-01T12:05")

    def test_a_moment_is_the_latest_of_itself_and_not_the_one_that_follows(self) -> None:
        due = moment("2026-03-01T12:05")

        assert every(300).latest(due) == due
        assert every(300).following(due) == moment("2026-03-01T12:10")

    def test_a_day_begins_at_midnight_utc(self) -> None:
        assert every(timedelta(days=1)).following(moment("2026-03-01T12:00")) == moment("2026-03-02T00:00")

    def test_changes_of_clocks_do_not_change_an_interval(self) -> None:
        before = moment("2026-03-28T23:59")

        assert [later - before for later in row(every(7200), before, 3)] == [
            timedelta(hours=hours, minutes=1) for hours in (0, 2, 4)
        ]

    @given(
        st.timedeltas(min_value=SECOND, max_value=timedelta(days=36_500)),
        st.timedeltas(min_value=timedelta(), max_value=timedelta(days=50_000)),
    )
    def test_the_latest_is_never_more_than_an_interval_ago(self, length: timedelta, since: timedelta) -> None:
        now = EPOCH + since
        latest, following = every(length).latest(now), every(length).following(now)

        assert latest <= now < following
        assert following - latest == length
        assert (latest - EPOCH) % length == timedelta()

    @pytest.mark.parametrize(
        "interval", [0, -1, 0.5, True, float("nan"), float("inf"), "60", None, timedelta(), timedelta(days=99_999), []]
    )
    def test_what_is_no_interval_is_refused_with_a_reason(self, interval: Any) -> None:
        with pytest.raises(InvalidSchedule, match="an interval is"):
            every(interval)

    def test_it_says_what_it_is(self) -> None:
        assert str(every(timedelta(minutes=1.5))) == "every(90)"


# Cron lines, against every minute


@dataclass(frozen=True, kw_only=True)
class Line:
    """The fields of a cron line as sets; None is a star."""

    minute: frozenset[int] | None = None
    hour: frozenset[int] | None = None
    day_of_week: frozenset[int] | None = None
    day_of_month: frozenset[int] | None = None
    month_of_year: frozenset[int] | None = None

    def crontab(self, zone: str) -> Crontab:
        fields: Mapping[str, frozenset[int] | None] = {
            name: getattr(self, name) for name in ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")
        }
        given = {name: set(values) for name, values in fields.items() if values is not None}
        return crontab(**given, timezone=zone)

    @property
    def is_fixed(self) -> bool:
        return self.minute is not None and self.hour is not None

    def matches(self, wall: datetime) -> bool:
        return (
            (self.minute is None or wall.minute in self.minute)
            and (self.hour is None or wall.hour in self.hour)
            and (self.month_of_year is None or wall.month in self.month_of_year)
            and self._matches_day(wall)
        )

    def _matches_day(self, wall: datetime) -> bool:
        by_week = self.day_of_week is not None and wall.isoweekday() % 7 in {day % 7 for day in self.day_of_week}
        by_month = self.day_of_month is not None and wall.day in self.day_of_month
        if self.day_of_week is None or self.day_of_month is None:
            return (by_week or self.day_of_week is None) and (by_month or self.day_of_month is None)
        return by_week or by_month


@cache
def minutes_around(zone: str, day: date) -> list[tuple[datetime, datetime]]:
    """Return each minute of three days as a moment, and what clocks in `zone` show then."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=1)
    moments = [start + number * MINUTE for number in range(3 * 24 * 60)]
    return [(found, found.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)) for found in moments]


def all_due(line: Line, zone: str, day: date) -> list[datetime]:
    """Return the due moments of these days, by looking at every minute."""
    minutes = minutes_around(zone, day)
    if not line.is_fixed:
        return [found for found, wall in minutes if line.matches(wall)]
    return sorted(set(_fixed(line, minutes)))


def _fixed(line: Line, minutes: list[tuple[datetime, datetime]]) -> Iterator[datetime]:
    highest = minutes[0][1] - MINUTE
    for found, wall in minutes:  # each time of the day when clocks first show it, or first show a later one
        while highest < wall:
            highest += MINUTE
            if line.matches(highest):
                yield found


def some(low: int, high: int, size: int) -> st.SearchStrategy[frozenset[int] | None]:
    return st.none() | st.frozensets(st.integers(low, high), min_size=1, max_size=size)


LINES = st.builds(
    Line,
    minute=some(0, 59, 4),
    hour=some(0, 4, 3) | some(0, 23, 6),
    day_of_week=some(0, 7, 3),
    day_of_month=some(1, 31, 12),
    month_of_year=st.none() | st.just(frozenset(range(1, 13))),
)


@pytest.mark.parametrize(("zone", "day"), DAYS)
@hypothesis_settings(max_examples=20)
@given(line=LINES, seconds=st.lists(st.integers(12 * 3600, 60 * 3600), min_size=5, max_size=10))
def test_a_cron_line_is_due_as_a_look_at_every_minute_says(
    zone: str, day: date, line: Line, seconds: list[int]
) -> None:
    # given
    schedule = line.crontab(zone)
    start, end = minutes_around(zone, day)[0][0], minutes_around(zone, day)[-1][0]
    expected = all_due(line, zone, day)

    for number in seconds:
        # when
        now = start + number * SECOND + timedelta(microseconds=number % 3)
        latest, following = schedule.latest(now), schedule.following(now)

        # then
        passed = [due for due in expected if due <= now]
        to_come = [due for due in expected if due > now]
        assert latest == passed[-1] if passed else latest <= start
        assert following == to_come[0] if to_come else following > end


@pytest.mark.parametrize(("zone", "day"), DAYS)
@pytest.mark.parametrize(
    "line",
    [
        Line(minute=frozenset(range(0, 60, 10))),
        Line(minute=frozenset({0, 30}), hour=frozenset({0, 1, 2, 23})),
        Line(hour=frozenset({1})),
        Line(minute=frozenset({15, 45}), hour=frozenset(range(24))),
    ],
    ids=["minutes", "times", "hours of the night", "all hours"],
)
def test_the_moments_of_a_line_follow_each_other_without_a_hole(line: Line, zone: str, day: date) -> None:
    expected = all_due(line, zone, day)
    schedule = line.crontab(zone)

    assert row(schedule, expected[0] - SECOND, len(expected)) == expected
    assert [schedule.latest(due) for due in expected] == expected
    assert [schedule.latest(due - SECOND) for due in expected[1:]] == expected[:-1]


# Cron lines, by example


class TestDaylightSaving:
    BERLIN = "Europe/Berlin"

    def test_a_time_that_clocks_skip_comes_right_after_the_gap(self) -> None:
        found = row(crontab(30, 2, timezone=self.BERLIN), moment("2026-03-28T12:00"), 2)

        assert [shown(due, self.BERLIN) for due in found] == ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]

    def test_several_times_of_one_gap_are_due_once(self) -> None:
        found = row(crontab([0, 20, 40], 2, timezone=self.BERLIN), moment("2026-03-28T12:00"), 2)

        assert [shown(due, self.BERLIN) for due in found] == ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]

    def test_a_time_that_clocks_show_twice_comes_the_first_time(self) -> None:
        found = row(crontab(30, 2, timezone=self.BERLIN), moment("2026-10-24T12:00"), 2)

        assert [shown(due, self.BERLIN) for due in found] == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]

    def test_a_time_of_the_hour_that_comes_twice_stays_past_when_clocks_show_it_again(self) -> None:
        schedule = crontab(30, 2, timezone=self.BERLIN)
        first = moment("2026-10-25T02:30", self.BERLIN)

        for again in ("2026-10-25T02:15", "2026-10-25T02:30", "2026-10-25T02:45"):
            now = moment(again, self.BERLIN, fold=1)
            assert schedule.latest(now) == first
            assert schedule.following(now) > now + timedelta(days=1) - 60 * MINUTE

    def test_stars_go_by_the_time_that_passes(self) -> None:
        in_spring = row(crontab("*/30", timezone=self.BERLIN), moment("2026-03-29T00:59"), 3)
        in_autumn = row(crontab("*/30", timezone=self.BERLIN), moment("2026-10-24T23:59"), 6)

        assert {later - earlier for earlier, later in pairwise(in_spring)} == {30 * MINUTE}
        assert {later - earlier for earlier, later in pairwise(in_autumn)} == {30 * MINUTE}

    def test_a_star_in_an_hour_that_is_skipped_is_not_due_that_day(self) -> None:
        found = crontab("*/30", 2, timezone=self.BERLIN).following(moment("2026-03-28T12:00"))

        assert shown(found, self.BERLIN) == "2026-03-30T02:00+02:00"

    def test_a_time_of_a_day_that_is_skipped_comes_right_after_it(self) -> None:
        found = row(crontab(0, 3, timezone="Pacific/Apia"), moment("2011-12-30T03:00"), 2)

        assert [shown(due, "Pacific/Apia") for due in found] == ["2011-12-31T00:00+14:00", "2011-12-31T03:00+14:00"]

    def test_half_an_hour_is_enough_of_a_gap(self) -> None:
        found = crontab(15, 2, timezone="Australia/Lord_Howe").following(moment("2026-10-03T12:00"))

        assert shown(found, "Australia/Lord_Howe") == "2026-10-04T02:30+11:00"


class TestCalendar:
    def test_a_31st_waits_for_a_month_that_has_one(self) -> None:
        found = row(crontab(0, 0, day_of_month=31, timezone="UTC"), moment("2026-01-31T12:00"), 2)

        assert found == [moment("2026-03-31T00:00"), moment("2026-05-31T00:00")]

    def test_a_leap_day_waits_for_its_year(self) -> None:
        found = crontab("0 0 29 2 *", timezone="UTC").following(moment("2096-02-29T00:00"))

        assert found == moment("2104-02-29T00:00")

    def test_the_last_day_of_a_month(self) -> None:
        found = row(crontab(0, 0, day_of_month="L", timezone="UTC"), moment("2026-01-31T12:00"), 2)

        assert found == [moment("2026-02-28T00:00"), moment("2026-03-31T00:00")]

    def test_the_end_of_a_year(self) -> None:
        assert crontab(0, 0, timezone="UTC").following(moment("2026-12-31T23:59:59")) == moment("2027-01-01T00:00")

    def test_either_kind_of_day_will_do_where_both_are_given(self) -> None:
        found = row(crontab("0 0 13 * fri", timezone="UTC"), moment("2026-10-11T12:00"), 3)

        assert [due.day for due in found] == [13, 16, 23]

    def test_a_day_that_is_far_away_is_found_in_both_directions(self) -> None:
        schedule = crontab("0 12 29 2 *", timezone="Europe/Berlin")

        assert schedule.following(moment("2024-03-01T00:00")) == moment("2028-02-29T11:00")
        assert schedule.latest(moment("2028-02-29T10:59")) == moment("2024-02-29T11:00")


class TestZones:
    @override_settings(TIME_ZONE="Asia/Tokyo")
    def test_the_zone_is_that_of_django_by_default(self) -> None:
        assert crontab(0, 9).following(moment("2026-03-01T12:00")) == moment("2026-03-02T00:00")

    @override_settings(TIME_ZONE="Asia/Tokyo", USE_TZ=False)
    def test_that_does_not_depend_on_use_tz(self) -> None:
        assert crontab(0, 9).following(moment("2026-03-01T12:00")) == moment("2026-03-02T00:00")

    def test_the_zone_of_the_settings_is_read_at_use(self) -> None:
        schedule = crontab(0, 9)

        with override_settings(TIME_ZONE="Asia/Tokyo"):
            assert schedule.following(moment("2026-03-01T12:00")) == moment("2026-03-02T00:00")

    @pytest.mark.parametrize("zone", ["Asia/Tokyo", ZoneInfo("Asia/Tokyo"), timezone(timedelta(hours=9))])
    def test_a_zone_is_a_name_or_an_object(self, zone: Any) -> None:
        found = crontab(0, 9, timezone=zone).following(moment("2026-03-01T12:00"))

        assert found == moment("2026-03-02T00:00")

    @pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../../etc/passwd", 3])
    def test_a_zone_that_is_none_is_refused_by_name(self, zone: Any) -> None:
        with pytest.raises(InvalidSchedule, match="there is no time zone"):
            crontab(timezone=zone)


class TestForms:
    @pytest.mark.parametrize(
        ("schedule", "line"),
        [
            (crontab(), "* * * * *"),
            (crontab(0, 3), "0 3 * * *"),
            (crontab("*/15", "9-17", "mon-fri"), "*/15 9-17 * * mon-fri"),
            (crontab([30, 0], {8, 20}), "0,30 8,20 * * *"),
            (crontab(0, 0, day_of_month=(1, "15-16"), month_of_year="Jan,jul"), "0 0 1,15-16 jan,jul *"),
            (crontab(range(0, 60, 20)), "0,20,40 * * * *"),
            (crontab(" 0  3 * *  MON-FRI "), "0 3 * * mon-fri"),
        ],
    )
    def test_numbers_sets_and_text_make_a_line(self, schedule: Crontab, line: str) -> None:
        assert schedule.line == line
        assert str(schedule) == f"crontab('{line}')"

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"minute": 60}, "minute = 60 is not possible: it takes 0 to 59"),
            ({"minute": ""}, "minute = ''"),
            ({"minute": None}, "minute = None"),
            ({"minute": True}, "minute = True"),
            ({"minute": 1.5}, "minute = 1.5"),
            ({"minute": "* *"}, "a cron line has 5 fields"),
            ({"minute": "0 0 3 * * *"}, "a cron line has 5 fields"),
            ({"minute": "0 3 * * *", "hour": 4}, "stands alone"),
            ({"hour": "3pm"}, "hour = '3pm'"),
            ({"hour": "3 4"}, "hour = '3 4'"),
            ({"hour": []}, r"hour = \[\]"),
            ({"hour": [3, None]}, r"hour = \[3, None\]"),
            ({"hour": "*/0"}, "hour = "),
            ({"day_of_week": "fri-mon"}, "day_of_week = 'fri-mon' is not possible: .* sun to sat"),
            ({"day_of_week": "holiday"}, "day_of_week"),
            ({"day_of_month": 0}, "day_of_month"),
            ({"month_of_year": 13}, "month_of_year"),
            ({"day_of_month": 31, "month_of_year": [2, 4]}, r"'\* \* 31 2,4 \*' cannot be read, or no day"),
        ],
    )
    def test_what_cannot_be_is_refused_where_it_is_written(self, fields: dict[str, Any], words: str) -> None:
        with pytest.raises(InvalidSchedule, match=words):
            crontab(**fields)

    @given(st.text(alphabet="0123456789*/,-#LWabcfimnorstu ²", max_size=12), st.sampled_from(["minute", "day_of_week"]))
    def test_any_text_is_a_field_or_refused(self, text: str, field: str) -> None:
        try:
            schedule = crontab(**{field: text, "timezone": "UTC"})
        except InvalidSchedule:
            return

        now = moment("2026-03-01T12:00")
        assert schedule.following(now) > now


class TestOverdue:
    NOW = moment("2026-03-01T12:03")

    def test_a_moment_after_the_last_one_is_to_be_sent(self) -> None:
        assert overdue(every(60), moment("2026-03-01T12:02"), self.NOW) == self.NOW

    def test_of_many_missed_moments_it_is_the_latest(self) -> None:
        assert overdue(every(60), moment("2026-02-01T00:00"), self.NOW) == self.NOW

    def test_a_moment_is_sent_once(self) -> None:
        assert overdue(every(60), self.NOW, self.NOW + 59 * SECOND) is None

    def test_a_last_moment_that_is_still_to_come_silences(self) -> None:
        assert overdue(every(60), self.NOW + MINUTE, self.NOW) is None


class TestRunEvery:
    def test_a_number_and_a_timedelta_are_intervals(self) -> None:
        assert schedule_of(90) == schedule_of(timedelta(seconds=90)) == every(90)

    def test_a_schedule_is_taken_as_it_is(self) -> None:
        schedule = crontab(0, 3)

        assert schedule_of(schedule) is schedule

    @pytest.mark.parametrize(
        ("value", "words"),
        [(None, "needs run_every"), ("0 3 * * *", r"write crontab\('0 3 \* \* \*'\)"), (0, "at least 1 second")],
    )
    def test_anything_else_is_refused_with_advice(self, value: Any, words: str) -> None:
        with pytest.raises(InvalidSchedule, match=words):
            schedule_of(value)
