"""What the workers did and what waited, for the overview page of the admin: two tables, in about a hundred buckets.

The rows are those of `celery.worker.tally`. Without USE_TZ, databases other than PostgreSQL keep local times: the hour
that the clock repeats in autumn is told as one.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any, Final

from django.conf import settings
from django.db.models import BigIntegerField, Func, Max, Min, QuerySet, Sum
from django.utils import timezone

from celery.models import QueueDepth, Throughput
from celery.moments import LATER, as_moment, as_stored

MINUTE: Final = timedelta(minutes=1)
#: Workers write within so many seconds after the end of a minute: one that has just ended is not told yet.
SETTLING: Final = timedelta(seconds=5)
MOST_BUCKETS: Final = 120
#: Minutes that a bucket may have.
WIDTHS: Final = (1, 2, 3, 5, 6, 10, 15, 30, 60, 90, 120, 180, 240, 360, 720, 1440)
#: The database puts rows together for no more minutes than this. It then divides half an hour, as all smaller widths
#: do, and local clocks are changed by hours and half ones: no group is torn.
MOST_GROUPED: Final = 15
#: A row of throughput is of the time before its moment, to the second, and so of the bucket that ends with it; a sample
#: is of the minute that begins with its moment.
AFTER: Final = timedelta(seconds=1)
AT_ONCE: Final = timedelta(0)
#: Queues with lines of their own, and what is said of all others together.
MOST_QUEUES: Final = 20
OTHERS: Final = "others"


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """What all workers together have stored in the bucket that begins `at`; `runtime` in seconds, summed."""

    at: datetime
    done: int = 0
    failed: int = 0
    retried: int = 0
    runtime: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """The most that waited in the bucket that begins `at`, and the age of the oldest in seconds.

    None where nobody looked; `oldest` is None also where nothing waited, or where the broker cannot tell.
    """

    at: datetime
    depth: int | None = None
    oldest: float | None = None


def width(minutes: int) -> timedelta:
    """Return the width of the buckets in which `minutes` are told: a minute, and more for more than two hours.

    >>> [int(width(minutes).total_seconds()) // 60 for minutes in (60, 360, 1440, 10080)]
    [1, 3, 15, 90]
    """
    return MINUTE * next((one for one in WIDTHS if minutes <= one * MOST_BUCKETS), WIDTHS[-1])


def throughput(*, minutes: int = 60, until: datetime | None = None) -> list[Minute]:
    """Return what was stored in the `minutes` before `until`, bucket after bucket; where nothing was, there are zeros.

    `until` is the last full minute unless it is said. The moments returned are aware, whatever USE_TZ says. A time that
    is no multiple of the width begins earlier. Raises ValueError for less than a minute.
    """
    span = _Span.ending(minutes, until)
    rows = span.of(Throughput.objects.all(), begins=AFTER).values("group").order_by()
    sums = {name: Sum(name) for name in ("done", "failed", "retried", "runtime")}
    found = [dict.fromkeys(sums, 0) for _ in span.moments]
    for row in rows.annotate(earliest=Min("at"), **sums):
        number = span.bucket(row["earliest"], begins=AFTER)
        if number is not None:
            found[number] = {name: value + row[name] for name, value in found[number].items()}
    return [_minute(at, sums) for at, sums in zip(span.moments, found, strict=True)]


def _minute(at: datetime, sums: dict[str, Any]) -> Minute:
    """Return the sums as one kind of number, whatever kinds the database has."""
    done, failed, retried = (int(sums[name]) for name in ("done", "failed", "retried"))
    return Minute(at=at, done=done, failed=failed, retried=retried, runtime=float(sums["runtime"]))


def depths(*, minutes: int = 60, until: datetime | None = None) -> dict[str, list[Depth]]:
    """Return what waited in each queue in the `minutes` before `until`, in the order of the names.

    Of more than 20 queues the deepest are told one by one, and the sum of the rest as the last one, "others". Time is
    as in `throughput`.
    """
    span = _Span.ending(minutes, until)
    rows = QueueDepth.objects.all()
    names, has_others = _deepest(span, rows)
    lines = {name: _Line(span) for name in [*sorted(names), *([OTHERS] if has_others else [])]}
    grouped = span.of(rows.filter(queue__in=names), begins=AT_ONCE).values("queue", "group").order_by()
    for row in grouped.annotate(earliest=Min("at"), most=Max("depth"), longest=Max("oldest")):
        lines[row["queue"]].add(row)
    if has_others:
        rest = span.of(rows.exclude(queue__in=names), begins=AT_ONCE).values("at").order_by()
        for row in rest.annotate(earliest=Min("at"), most=Sum("depth"), longest=Max("oldest")):
            lines[OTHERS].add(row)
    return {name: line.told() for name, line in lines.items()}


def _deepest(span: "_Span", rows: QuerySet[Any]) -> tuple[list[str], bool]:
    """Return the queues that get a line of their own, and whether there are more."""
    ranked = span.of(rows, begins=AT_ONCE).values("queue").annotate(most=Max("depth")).order_by("-most", "queue")
    names = [row["queue"] for row in ranked[: MOST_QUEUES + 1]]
    if len(names) <= MOST_QUEUES:
        return names, False
    return [name for name in names[:MOST_QUEUES] if name != OTHERS], True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """The time that is told, in buckets of one width."""

    start: datetime
    end: datetime
    width: timedelta

    @classmethod
    def ending(cls, minutes: int, until: datetime | None) -> "_Span":
        if minutes < 1:
            raise ValueError(f"minutes must be 1 or more, not {minutes}")
        if until is not None and timezone.is_naive(until):
            raise ValueError(f"until must be aware, and {until} is not")
        end = (until or datetime.now(UTC) - SETTLING).astimezone(UTC)
        end = end.replace(second=0, microsecond=0)
        wide = width(minutes)
        return cls(start=end - wide * ceil(MINUTE * minutes / wide), end=end, width=wide)

    @property
    def moments(self) -> list[datetime]:
        return [self.start + self.width * number for number in range((self.end - self.start) // self.width)]

    def of(self, rows: QuerySet[Any], *, begins: timedelta) -> QuerySet[Any]:
        """Return the rows of this time, each with its group; `begins`: where in a bucket its first moment is."""
        repeated = timedelta(0) if settings.USE_TZ else max(_offset(self.start) - _offset(self.end), timedelta(0))
        low, high = self.start + begins, self.end + begins
        size = int(min(self.width, MINUTE * MOST_GROUPED).total_seconds())
        seconds = _Epoch("at") - int(low.timestamp()) % size
        within = rows.filter(at__gte=as_stored(low) - repeated, at__lt=as_stored(high) + repeated)
        grouped: QuerySet[Any] = within.annotate(group=seconds - seconds % size)
        return grouped

    def bucket(self, at: datetime, *, begins: timedelta) -> int | None:
        """Return the number of the bucket to which a stored moment belongs, or None if it is of another time."""
        number = (self._moment(at) - begins - self.start) // self.width
        return number if 0 <= number < (self.end - self.start) // self.width else None

    def _moment(self, at: datetime) -> datetime:
        """Return a stored moment as an aware one; of two with the same local time the later that is not the future."""
        if timezone.is_aware(at) or at.microsecond == LATER:
            return as_moment(at)
        zone = timezone.get_default_timezone()
        first, second = (at.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        return second if second <= self.end else first


@dataclass(slots=True)
class _Line:
    """What waited in one queue."""

    span: _Span
    found: dict[int, tuple[int, float | None]] = field(default_factory=dict)

    def add(self, row: dict[str, Any]) -> None:
        number = self.span.bucket(row["earliest"], begins=AT_ONCE)
        if number is not None:
            depth, oldest = self.found.get(number, (0, None))
            self.found[number] = max(depth, int(row["most"])), _longest(oldest, row["longest"])

    def told(self) -> list[Depth]:
        return [
            Depth(at=at, depth=depth, oldest=oldest)
            for number, at in enumerate(self.span.moments)
            for depth, oldest in [self.found.get(number, (None, None))]
        ]


def _longest(*ages: float | None) -> float | None:
    return max((age for age in ages if age is not None), default=None)


class _Epoch(Func):
    """The seconds of a moment since 1970, rounded down; on databases that keep local times, since their 1970."""

    output_field = BigIntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(
            compiler, connection, template="CAST(strftime('%%%%s', %(expressions)s) AS INTEGER)", **context
        )

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "CAST(FLOOR(EXTRACT(EPOCH FROM %(expressions)s)) AS BIGINT)"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "TIMESTAMPDIFF(SECOND, '1970-01-01', %(expressions)s)"
        return self.as_sql(compiler, connection, template=template, **context)


def _offset(moment: datetime) -> timedelta:
    return moment.astimezone(timezone.get_default_timezone()).utcoffset() or timedelta(0)
