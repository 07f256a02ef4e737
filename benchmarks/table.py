"""The rows of a scenario as text, for the terminal and for the documentation: what they say cannot differ."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from benchmarks import labels
from benchmarks.ratios import Ratio, short
from benchmarks.rounds import Key, Rounds, Series


class Column(NamedTuple):
    """A detail that has a column."""

    detail: str
    heading: str
    form: str


COLUMNS: Final = (
    Column("cpu_us", "CPU µs", "{:,.0f}"),
    Column("servers_us", "servers µs", "{:,.0f}"),
    Column("pss_mb", "MB", "{:,.0f}"),
    Column("other_cores", "others", "{:.2f}"),
)
HEADINGS: Final = (
    *("measure", "of", "median", "least..most", "times Celery", "of raw limit"),
    *(column.heading for column in COLUMNS),
)
#: The first of these are text, the others numbers, which stand at the right.
TEXTS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A scenario: only columns in which something stands."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def table(rounds: Rounds, scenario: str) -> Table:
    """Return the rows of one scenario, grouped by measure."""
    rows = [row for measure in rounds.measures(scenario) for row in _of_measure(rounds, scenario, measure)]
    used = [number for number in range(len(HEADINGS)) if any(row[number] for row in rows)]
    return Table(
        headings=tuple(HEADINGS[number] for number in used),
        rows=tuple(tuple(row[number] for number in used) for row in rows),
    )


def told(ratio: Ratio | None, form: str = "{}") -> str:
    """Return a ratio with its interval; with too few pairs for one, it says how many there were."""
    if ratio is None:
        return ""
    value = form.format(short(ratio.value))
    if ratio.pairs == 1:
        return f"{value} (1 pair)"
    span = f"{short(ratio.low)}..{short(ratio.high)}"
    return f"{value} ({span})" if ratio.is_interval else f"{value} ({span}, {ratio.pairs} pairs)"


def _of_measure(rounds: Rounds, scenario: str, measure: str) -> Iterator[tuple[str, ...]]:
    for contender in rounds.contenders(scenario, measure):
        series = rounds.series(Key(scenario, measure, contender))
        if series:
            yield tuple(_cells(rounds, series))


def _cells(rounds: Rounds, series: Series) -> Iterator[str]:
    key, spread = series.key, series.spread()
    yield key.measure
    yield key.contender
    yield f"{short(spread.median)} {series.unit}".strip() if spread else ""
    yield f"{short(spread.least)}..{short(spread.most)}" if spread and spread.rounds > 1 else ""
    baseline, limit = labels.baseline(key), labels.raw_limit(key)
    yield told(rounds.ratio(key, baseline)) if baseline and series.unit else ""
    yield told(rounds.ratio(key, limit)) if limit else ""
    for column in COLUMNS:
        found = series.spread(column.detail)
        yield column.form.format(found.median) if found else ""
