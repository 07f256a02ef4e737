"""From numbers and moments to the words and ticks of an axis. Pure: knows neither markup nor database."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count as counting

from django.utils import dateformat, timezone

#: Nothing larger is drawn: an axis needs a finite end.
LARGEST = 1e15
MOST_INTERVALS = 4
MOST_MOMENTS_NAMED = 7

MINUTE, HOUR, DAY = 60, 3_600, 86_400
TIMES = (
    *(1, 2, 5, 10, 15, 30),
    *(MINUTE * number for number in (1, 2, 5, 10, 15, 30)),
    *(HOUR * number for number in (1, 2, 3, 4, 6, 12)),
    *(DAY * number for number in (1, 2, 5)),
)


# -- values


@dataclass(frozen=True, slots=True)
class Unit:
    """A way of reading values: in full, short beside an axis, and the steps at which an axis may be divided."""

    is_time: bool = False

    def full(self, value: float) -> str:
        """Return a value as people read it.

        >>> COUNT.full(1234), TIME.full(93784.2)
        ('1,234', '1 d 2 h')
        """
        return duration(value) if self.is_time else f"{value:,.0f}"

    def short(self, value: float) -> str:
        """Return a value in at most six letters.

        >>> COUNT.short(1500), COUNT.short(1_250_000), TIME.short(90)
        ('1,500', '1.25M', '1m 30s')
        """
        return short_duration(value) if self.is_time else short_count(value)

    def steps(self) -> Iterator[float]:
        """Yield the round numbers, ascending without end."""
        base = 1
        if self.is_time:
            yield from TIMES
            base = 10 * DAY
        for power in counting():
            yield from (float(factor * base * 10**power) for factor in (1, 2, 5))

    def ticks(self, highest: float) -> list[float]:
        """Return round numbers from 0 on, the last one not below `highest`.

        >>> COUNT.ticks(730)
        [0.0, 200.0, 400.0, 600.0, 800.0]
        """
        step = next(step for step in self.steps() if highest <= step * MOST_INTERVALS)
        return [step * number for number in range(max(math.ceil(highest / step), 1) + 1)]


COUNT, TIME = Unit(), Unit(is_time=True)


def drawable(value: float | None) -> float | None:
    """Return a value that can be drawn, or None for a gap: no number, one below zero or one without end."""
    if value is None or not math.isfinite(value) or value < 0:
        return None
    return min(float(value), LARGEST)


def short_count(value: float) -> str:
    """Return a number of at most six letters; from 10,000 on with a letter for its size."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if letter == 'k' else size):.4g}{letter}"
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Return seconds by their two largest parts.

    >>> duration(0.4), duration(59), duration(754), duration(7200)
    ('0 s', '59 s', '12 min 34 s', '2 h')
    """
    return " ".join(f"{number:,} {name}" for number, name in _parts(seconds)) or "0 s"


def short_duration(seconds: float) -> str:
    """Return the same without spaces inside, for an axis."""
    return " ".join(f"{short_count(number)}{name[0]}" for number, name in _parts(seconds)) or "0"


def _parts(seconds: float) -> list[tuple[int, str]]:
    rest = int(seconds)
    found: list[tuple[int, str]] = []
    for size, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1, "s")):
        number, rest = divmod(rest, size)
        if number or found:
            found.append((number, name))
    return [(number, name) for number, name in found[:2] if number]


# -- moments


def local(moment: datetime) -> datetime:
    """Return a moment in the current time zone; a naive one (USE_TZ is off) is there already."""
    return timezone.localtime(moment) if timezone.is_aware(moment) else moment


def period(moment: datetime, step: timedelta) -> str:
    """Name one step of a chart: its minute, or from when to when it lasts."""
    begin, end = local(moment), local(moment + step)
    day = "D j M, " if step >= timedelta(hours=1) else ""
    first = dateformat.format(begin, f"{day}H:i")
    return first if step <= timedelta(minutes=1) else f"{first}\u2013{dateformat.format(end, 'H:i')}"


def named_moments(moments: Sequence[datetime], step: timedelta) -> Iterator[tuple[float, str]]:
    """Yield the round moments of an even row of steps: how many steps after the first one, and how each is called."""
    seconds = step.total_seconds()
    interval = next((each for each in TIMES if len(moments) * seconds <= each * MOST_MOMENTS_NAMED), TIMES[-1])
    before, latest = 0, 0
    for position, moment in enumerate(moments):
        wall = local(moment)
        clock = wall.toordinal() * DAY + wall.hour * HOUR + wall.minute * MINUTE + wall.second
        boundary = clock - clock % interval
        place = position - (clock - boundary) / seconds
        is_new = boundary != before or clock < latest  # in autumn an hour comes twice
        if is_new and place >= 0:
            yield place, _name(boundary, interval)
        before, latest = boundary, clock


def _name(boundary: int, interval: int) -> str:
    moment = datetime.fromordinal(boundary // DAY) + timedelta(seconds=boundary % DAY)
    return dateformat.format(moment, "D j" if interval >= DAY else "H:i")
