"""The charts of the overview: what the history says, as the numbers to be drawn. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from django.utils.safestring import SafeString

from celery.admin.overview.charts import LINE_STYLES, Chart, Series, bars, lines, printable
from celery.admin.scales import COUNT, HOUR, MINUTE, TIME, period
from celery.history import OTHERS, Depth, Minute

Values = list[float | None]


# -- what was done


def of_throughput(history: Sequence[Minute], step: timedelta) -> list[SafeString]:
    """Return done, failed and retried, one upon the other, and the failures on a scale of their own.

    Nothing if nothing has run.
    """
    totals = [total(one) for one in history]
    if not any(totals):
        return []
    moments = [one.at for one in history]
    failed = [one.failed for one in history]
    failures = Series(name="failed", style="failed", values=failed)
    everything = Chart(
        key="throughput",
        title=f"Tasks per {step_name(step)}",
        summary=f"{tasks(sum(totals))}; {_peak(moments, totals, step)}",
        moments=moments,
        step=step,
        series=[
            Series(name="done", style="done", values=[one.done for one in history]),
            failures,
            Series(name="retried", style="retried", values=[one.retried for one in history]),
        ],
    )
    failures_alone = Chart(
        key="failures",
        title=f"Failures per {step_name(step)}",
        summary=f"{sum(failed):,} failed; {_peak(moments, failed, step)}" if any(failed) else "None failed",
        moments=moments,
        step=step,
        series=[failures],
    )
    return [bars(everything), bars(failures_alone)]


def total(one: Minute) -> int:
    """Return how many tasks ended, in whatever way."""
    return one.done + one.failed + one.retried


def tasks(number: int) -> str:
    """Return a number of tasks as people read it."""
    return "1 task" if number == 1 else f"{number:,} tasks"


def step_name(step: timedelta) -> str:
    """Return a step as it reads after "per".

    >>> step_name(timedelta(minutes=1)), step_name(timedelta(hours=2)), step_name(timedelta(minutes=90))
    ('minute', '2 hours', '90 minutes')
    """
    number, name = int(step.total_seconds()) // MINUTE, "minute"
    if number % (HOUR // MINUTE) == 0:
        number, name = number // (HOUR // MINUTE), "hour"
    return name if number == 1 else f"{number} {name}s"


def _peak(moments: Sequence[datetime], values: Sequence[int], step: timedelta) -> str:
    most = max(values)
    return f"the most, {most:,}, at {period(moments[values.index(most)], step)}"


# -- what waited


def of_queues(history: Mapping[str, Sequence[Depth]], step: timedelta) -> list[SafeString]:
    """Return how much waited in each queue, and how long. A queue looks the same in both. Nothing if nobody looked."""
    moments = sorted({one.at for rows in history.values() for one in rows})
    depth = _longest(history, moments, lambda one: one.depth, sum)
    age = _longest(history, moments, lambda one: one.oldest, max)
    styles = _styles(depth, {})
    waiting = Chart(
        key="depth",
        title="Waiting messages",
        summary=_most(depth, COUNT.full),
        moments=moments,
        step=step,
        series=_series(depth, styles),
    )
    oldest = Chart(
        key="age",
        title="Age of the oldest message",
        summary=_most(age, TIME.full),
        moments=moments,
        step=step,
        series=_series(age, _styles(age, styles)),
        unit=TIME,
    )
    return [lines(chart) for chart in (waiting, oldest) if chart.series]


def _longest(
    history: Mapping[str, Sequence[Depth]],
    moments: Sequence[datetime],
    value: Callable[[Depth], float | None],
    together: Callable[[list[float]], float],
) -> dict[str, Values]:
    """Return the values of those queues that had the largest, by name, and those of all others as one."""
    known = {queue: _on_grid(rows, moments, value) for queue, rows in history.items()}
    known = {queue: values for queue, values in known.items() if any(one is not None for one in values)}
    ranked = sorted(known, key=lambda queue: (queue == OTHERS, -max(one for one in known[queue] if one is not None)))
    if len(ranked) <= len(LINE_STYLES):
        return {queue: known[queue] for queue in sorted(ranked)}
    shown, rest = ranked[: len(LINE_STYLES) - 1], ranked[len(LINE_STYLES) - 1 :]
    combined = _combined([known[queue] for queue in rest], together)
    return {**{queue: known[queue] for queue in sorted(shown)}, OTHERS: combined}


def _on_grid(rows: Sequence[Depth], moments: Sequence[datetime], value: Callable[[Depth], float | None]) -> Values:
    by_moment = {one.at: value(one) for one in rows}
    return [by_moment.get(moment) for moment in moments]


def _combined(rows: Sequence[Values], together: Callable[[list[float]], float]) -> Values:
    columns = ([one for one in column if one is not None] for column in zip(*rows, strict=True))
    return [together(column) if column else None for column in columns]


def _styles(queues: Iterable[str], kept: Mapping[str, str]) -> dict[str, str]:
    """Return a style for each queue: the one that it has elsewhere, or one that is free."""
    same = {queue: kept[queue] for queue in queues if queue in kept}
    free = iter(style for style in LINE_STYLES if style not in same.values())
    return {queue: same.get(queue) or next(free) for queue in queues}


def _series(known: Mapping[str, Values], styles: Mapping[str, str]) -> list[Series]:
    return [Series(name=name, style=styles[name], values=values) for name, values in known.items()]


def _most(known: Mapping[str, Values], words: Callable[[float], str]) -> str:
    peaks = {queue: max((one for one in values if one is not None), default=0) for queue, values in known.items()}
    queue = max(peaks, key=lambda name: peaks[name], default="")
    return f"At most {words(peaks[queue])}, in {printable(queue)}" if queue and peaks[queue] else "Nothing waited"
