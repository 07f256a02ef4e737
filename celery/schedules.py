"""When periodic tasks are due: at intervals on a fixed grid, or by a cron line in a time zone.

Pure: a schedule knows no clock and no database, so all workers find the same moments without a word to each other.
The rules for daylight saving are those of Debian's cron, see `Crontab`. cronsim does the arithmetic of the calendar,
on wall-clock times without a zone; what a zone makes of these is decided here.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from django.utils import timezone as django_timezone

from celery.exceptions import InvalidSchedule

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)
#: A step in which no zone changes its offset twice: the nearest two changes of one zone are weeks apart.
DAY: Final = timedelta(days=1)
SHORTEST: Final = SECOND
LONGEST: Final = timedelta(days=36_500)

#: The fields of a cron line in its order, and what each takes.
FIELDS: Final = {
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day_of_month": "1 to 31, L (the last day) or LW (the last weekday)",
    "month_of_year": "1 to 12, or jan to dec",
    "day_of_week": "0 to 7 (0 and 7 are Sunday), sun to sat, mon#1 (the first Monday) or 5L (the last Friday)",
}


class Schedule(ABC):
    """An endless row of moments. All moments, given and returned, are aware; those returned are in UTC."""

    #: True: a task that is new is due at once; False: it waits for its first moment.
    runs_at_once: ClassVar[bool] = False

    @abstractmethod
    def latest(self, now: datetime) -> datetime | None:
        """Return the latest due moment at or before `now`, or None if there is none."""

    @abstractmethod
    def following(self, moment: datetime) -> datetime:
        """Return the first due moment after `moment`."""


@dataclass(frozen=True, slots=True)
class Interval(Schedule):
    """Every so often, on a grid that begins in 1970: a day is a day of UTC, and seven days begin on a Thursday."""

    runs_at_once: ClassVar[bool] = True

    length: timedelta

    def latest(self, now: datetime) -> datetime:
        """Return the latest point of the grid at or before `now`."""
        return EPOCH + (now - EPOCH) // self.length * self.length

    def following(self, moment: datetime) -> datetime:
        """Return the first point of the grid after `moment`."""
        return self.latest(moment) + self.length

    def __str__(self) -> str:
        return f"every({self.length.total_seconds():g})"


def every(interval: float | timedelta) -> Interval:
    """Return the schedule that is due every `interval`, in seconds or as a timedelta. Raises InvalidSchedule.

    >>> from datetime import UTC, datetime
    >>> every(300).following(datetime(2026, 3, 1, 12, 4, tzinfo=UTC)).isoformat()
    '2026-03-01T12:05:00+00:00'
    """
    is_number = isinstance(interval, int | float) and not isinstance(interval, bool) and math.isfinite(interval)
    if not is_number and not isinstance(interval, timedelta):
        text = f"an interval is a number of seconds or a timedelta, not {interval!r:.80}"
        raise InvalidSchedule(text)
    seconds = interval.total_seconds() if isinstance(interval, timedelta) else interval
    if not SHORTEST.total_seconds() <= seconds <= LONGEST.total_seconds():
        text = f"an interval is at least 1 second and at most {LONGEST.days} days, not {interval!r:.80}"
        raise InvalidSchedule(text)
    return Interval(timedelta(seconds=seconds))


@dataclass(frozen=True, slots=True)
class Crontab(Schedule):
    """The moments of a cron line, in a zone of its own or else in Django's TIME_ZONE.

    If neither minute nor hour begins with a star, each time of the day that the line names comes once a day: one that
    clocks skip in spring is due right after the gap (all of one gap together, once), one that clocks show twice in
    autumn is due the first time. Otherwise the line is due whenever the clock on the wall shows one of its times: not
    in a gap, and twice where clocks show it twice, so that "every ten minutes" is every ten minutes that pass.
    """

    line: str
    zone: tzinfo | None = None
    _is_fixed: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the line. Raises InvalidSchedule."""
        object.__setattr__(self, "_is_fixed", not any(part.startswith("*") for part in self.line.split()[:2]))
        try:
            next(CronSim(self.line, datetime(2000, 1, 1)))  # noqa: DTZ001 - the clock on the wall
        except CronSimError as error:
            text = f"the cron line {self.line!r:.200} cannot be read, or no day is ever due by it"
            raise InvalidSchedule(text) from error

    def latest(self, now: datetime) -> datetime:
        """Return the latest due moment at or before `now`."""
        return self._latest_fixed(now) if self._is_fixed else self._latest_wild(now)

    def following(self, moment: datetime) -> datetime:
        """Return the first due moment after `moment`."""
        return self._following_fixed(moment) if self._is_fixed else self._following_wild(moment)

    def __str__(self) -> str:
        zone = f", timezone={str(self.zone)!r}" if self.zone else ""
        return f"crontab({self.line!r}{zone})"

    # -- times of the day: each wall-clock time is one moment, and these are in the same order

    def _following_fixed(self, moment: datetime) -> datetime:
        zone = self._zone()
        wall = moment.astimezone(zone).replace(tzinfo=None)
        while (due := _moment_of(wall := self._next(wall), zone)) <= moment:
            pass
        return due

    def _latest_fixed(self, now: datetime) -> datetime:
        zone = self._zone()
        local = now.astimezone(zone)
        repeated = _offset(local.replace(fold=0), zone) - _offset(now, zone)  # what the wall shows a second time
        wall = local.replace(tzinfo=None) + repeated
        while (due := _moment_of(wall := self._previous(wall), zone)) > now:
            wall -= SECOND
        return due

    # -- stars: between two changes of the offset, wall clock and time go alike

    def _following_wild(self, moment: datetime) -> datetime:
        zone = self._zone()
        wall = _wall(moment, zone)
        while True:
            due = self._next(wall).replace(tzinfo=UTC) - _offset(moment, zone)
            change = _first_change(zone, moment, due)
            if change is None:
                return due
            moment, wall = change, _wall(change, zone) - SECOND

    def _latest_wild(self, now: datetime) -> datetime:
        zone = self._zone()
        while True:
            due = self._previous(_wall(now, zone)).replace(tzinfo=UTC) - _offset(now, zone)
            change = _last_change(zone, due, now)
            if change is None:
                return due
            now = change - SECOND

    # -- the wall clock alone

    def _next(self, wall: datetime) -> datetime:
        return next(CronSim(self.line, wall))

    def _previous(self, wall: datetime) -> datetime:
        """Return the last time at or before `wall`."""
        return next(CronSim(self.line, wall.replace(microsecond=0) + SECOND, reverse=True))

    def _zone(self) -> tzinfo:
        return self.zone or django_timezone.get_default_timezone()


def crontab(  # noqa: PLR0913 - the fields of a cron line
    minute: Any = "*",
    hour: Any = "*",
    day_of_week: Any = "*",
    day_of_month: Any = "*",
    month_of_year: Any = "*",
    *,
    timezone: str | tzinfo | None = None,
) -> Crontab:
    """Return the schedule of a cron line; its times are in `timezone`, by default Django's TIME_ZONE.

    A field is a number, several of them in a list or set, or text as in cron: ``"*/15"``, ``"1-5"``, ``"mon-fri"``.
    Where both day of month and day of week are given, either will do, as in cron. A whole line may be given as one
    text. Raises InvalidSchedule.

    >>> from datetime import UTC, datetime
    >>> weekdays_at_three = crontab(0, 3, "mon-fri", timezone="Europe/Berlin")
    >>> weekdays_at_three.following(datetime(2026, 6, 5, 12, tzinfo=UTC)).isoformat()
    '2026-06-08T01:00:00+00:00'
    >>> weekdays_at_three == crontab("0 3 * * mon-fri", timezone="Europe/Berlin")
    True
    """
    values = dict(zip(FIELDS, (minute, hour, day_of_month, month_of_year, day_of_week), strict=True))
    if isinstance(minute, str) and len(parts := minute.split()) > 1:
        others = {name: value for name, value in values.items() if name != "minute" and value != "*"}
        if len(parts) != len(FIELDS) or others:
            text = f"a cron line has 5 fields and stands alone: minute hour day month weekday, not {minute!r:.80}"
            raise InvalidSchedule(text)
        values = dict(zip(FIELDS, parts, strict=True))
    return Crontab(" ".join(_field(name, value) for name, value in values.items()), _zone_of(timezone))


def overdue(schedule: Schedule, last: datetime | None, now: datetime) -> datetime | None:
    """Return the moment to be sent now if `last` was the last one: the latest, however many were missed; or None."""
    due = schedule.latest(now)
    return due if due is not None and (last is None or due > last) else None


def schedule_of(run_every: Any) -> Schedule:
    """Return the schedule behind a task's `run_every`: a schedule, or an interval. Raises InvalidSchedule."""
    if isinstance(run_every, Schedule):
        return run_every
    if run_every is None:
        text = "a periodic task needs run_every: seconds, a timedelta, or a schedule such as crontab(0, 3)"
        raise InvalidSchedule(text)
    if isinstance(run_every, str):
        text = f"run_every = {run_every!r:.80} is text; write crontab({run_every!r:.80}) if it is a cron line"
        raise InvalidSchedule(text)
    return every(run_every)


def _field(name: str, value: Any) -> str:
    """Return one field as text for a cron line, checked by itself so that the error can name it."""
    parts = _text(value).split()
    text = parts[0] if len(parts) == 1 else "nothing"
    line = ["0", "0", "*", "*", "*"]
    line[list(FIELDS).index(name)] = text
    try:
        CronSim(" ".join(line), datetime(2000, 1, 1))  # noqa: DTZ001 - the clock on the wall
    except CronSimError as error:
        message = f"{name} = {value!r:.80} is not possible: it takes {FIELDS[name]}; *, a-b, a,b and */n"
        raise InvalidSchedule(message) from error
    return text


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.strip().lower()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, Iterable):
        parts = [_text(item) if isinstance(item, str | int) else "" for item in value]
        return ",".join(sorted(parts, key=lambda part: (len(part), part))) if all(parts) else ""
    return ""


def _zone_of(zone: str | tzinfo | None) -> tzinfo | None:
    if zone is None or (isinstance(zone, tzinfo) and not hasattr(zone, "localize")):  # pytz has offsets of its own kind
        return zone
    try:
        return ZoneInfo(str(zone))
    except (ValueError, OSError, KeyError) as error:  # no such key: either a wrong name or no data
        text = f"there is no time zone {str(zone)!r:.80} here; if the name is right, install the package tzdata"
        raise InvalidSchedule(text) from error


# -- zones


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    """Return the zone's offset from UTC at `moment`; a local time of that zone keeps its fold."""
    local = moment if moment.tzinfo is zone else moment.astimezone(zone)
    return local.utcoffset() or timedelta()


def _wall(moment: datetime, zone: tzinfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _moment_of(wall: datetime, zone: tzinfo) -> datetime:
    """Return the first moment at which clocks show `wall`; where they skip it, the first one after the gap."""
    moment = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if _wall(moment, zone) == wall:
        return moment
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)  # PEP 495: in a gap, fold=1 is the earlier moment
    return _first_change(zone, before, moment) or moment


def _first_change(zone: tzinfo, after: datetime, until: datetime) -> datetime | None:
    """Return the first moment in (`after`, `until`] with another offset than at `after`."""
    offset, start = _offset(after, zone), after.replace(microsecond=0)
    while start < until:
        end = min(start + DAY, until)
        if _offset(end, zone) != offset:
            return _bisected(start, end, lambda moment: _offset(moment, zone) != offset)
        start = end
    return None


def _last_change(zone: tzinfo, after: datetime, until: datetime) -> datetime | None:
    """Return the moment in (`after`, `until`] since which the offset is what it is at `until`, if it was another."""
    offset, end = _offset(until, zone), until.replace(microsecond=0)
    while end > after:
        start = max(end - DAY, after)
        if _offset(start, zone) != offset:
            return _bisected(start, end, lambda moment: _offset(moment, zone) == offset)
        end = start
    return None


def _bisected(start: datetime, end: datetime, has_changed: Callable[[datetime], bool]) -> datetime:
    """Return the first whole second after `start` for which it has changed; for `end` it has."""
    low, high = 0, (end - start) // SECOND
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if has_changed(start + middle * SECOND) else (middle, high)
    return start + high * SECOND
