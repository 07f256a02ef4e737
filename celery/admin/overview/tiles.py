"""The figures at the top of the overview, and how numbers and moments read there."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateformat import format as date_format

from celery.admin.links import address
from celery.admin.overview import figures
from celery.admin.scales import duration, local
from celery.history import Minute
from celery.status import Status

#: Nothing is counted any further; the page says "100,000+".
LIMIT: Final = 100_000
#: Minutes whose mean is the rate of now.
LATELY: Final = 5
#: A number below it is told with decimals.
FEW: Final = 10
#: In the place of what is not there.
NONE: Final = "\N{EN DASH}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A stretch of time up to now."""

    name: str
    words: str
    minutes: int


RANGES: Final = (
    Range(name="1h", words="hour", minutes=60),
    Range(name="6h", words="6 hours", minutes=6 * 60),
    Range(name="24h", words="24 hours", minutes=24 * 60),
    Range(name="7d", words="7 days", minutes=7 * 24 * 60),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One figure. `is_bad`: somebody should look."""

    name: str
    value: str
    note: str = ""
    is_bad: bool = False
    link: str = ""


def of_history(chosen: Range, minutes: Sequence[Minute], lately: Sequence[Minute], *, failures_at: str) -> list[Tile]:
    """Return what the history says, of the chosen range and of the last minutes; `failures_at` is a link or nothing."""
    found = []
    if lately:
        rate = sum(map(figures.total, lately)) / LATELY
        value = f"{rate:,.1f}" if 0 < rate < FEW else f"{rate:,.0f}"
        found.append(Tile(name="Tasks a minute", value=value, note=f"mean of the last {LATELY} minutes"))
    if minutes:
        in_range = f"in the last {chosen.words}"
        found.append(Tile(name="Mean runtime", value=_mean_runtime(minutes), note=in_range))
        found.append(_failures_tile(minutes, in_range, failures_at))
    return found


def of_present(request: HttpRequest, now: Status) -> list[Tile]:
    """Return what is there now."""
    silent = sum(worker.is_silent for worker in now.workers)
    alive = len(now.workers) - silent
    return [
        Tile(
            name="Dead",
            value=capped(now.dead),
            note="no longer tried" if now.dead else "",
            is_bad=now.dead > 0,
            link=address(request, "message", state="dead"),
        ),
        *_waiting_tiles(now),
        Tile(
            name="Scheduled",
            value=capped(now.scheduled),
            note=f"next {clock(now.next_due)}" if now.next_due else "",
            link=address(request, "message", state="scheduled"),
        ),
        *([Tile(name="Outbox", value=capped(now.outbox), note="to be published")] if now.outbox else []),
        Tile(
            name="Workers",
            value=f"{alive:,} alive",
            note=f"{silent:,} silent" if silent else "",
            is_bad=silent > 0 or not alive,
            link=address(request, "worker"),
        ),
    ]


def _failures_tile(minutes: Sequence[Minute], in_range: str, link: str) -> Tile:
    failed, total = sum(one.failed for one in minutes), sum(map(figures.total, minutes))
    share = f"{failed / total:.2%} of {figures.tasks(total)}" if total else "nothing has run"
    return Tile(name="Failures", value=f"{failed:,}", note=f"{share} {in_range}", link=link)


def _mean_runtime(minutes: Sequence[Minute]) -> str:
    number = sum(map(figures.total, minutes))
    if not number:
        return NONE
    seconds = sum(one.runtime for one in minutes) / number
    if seconds >= FEW:
        return duration(seconds)
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _waiting_tiles(now: Status) -> list[Tile]:
    known = [queue.depth for queue in now.queues if queue.depth is not None]
    more = "+" if any(depth >= LIMIT for depth in known) else ""
    queues = "1 queue" if len(now.queues) == 1 else f"{len(now.queues):,} queues"
    oldest = max((queue.oldest for queue in now.queues if queue.oldest is not None), default=None)
    return [
        Tile(name="Waiting", value=f"{sum(known):,}{more}" if known else NONE, note=f"in {queues}"),
        Tile(name="Oldest waiting", value=NONE if oldest is None else duration(oldest)),
    ]


def capped(number: int) -> str:
    """Return a count as people read it.

    >>> capped(1234), capped(100000)
    ('1,234', '100,000+')
    """
    return f"{number:,}+" if number >= LIMIT else f"{number:,}"


def clock(moment: datetime) -> str:
    """Return a moment in the current time zone, with the day if that is not today."""
    there, today = local(moment), local(timezone.now())
    return date_format(there, "H:i:s" if there.date() == today.date() else "j M Y, H:i")
