"""Which figures there are, and from what each is drawn. All who were measured are in them, whoever wins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from benchmarks import labels
from benchmarks.ratios import Spread
from benchmarks.rounds import Key, Rounds, Run, Series
from benchmarks.svg import Bar, Dots, Frame, Line, Mark, Point, bars, dots, lines

NOTE: Final = "Medians of all rounds; thin lines: least to most. {}"

Draw = Callable[[Rounds, Frame], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A figure of the page: of which scenario, and how it is drawn."""

    name: str
    scenario: str
    title: str
    subtitle: str
    draw: Draw

    def of(self, run: Run) -> str | None:
        """Return the SVG; None where nothing of it was measured."""
        note = NOTE.format(", ".join(run.sources.get(self.scenario, ())))
        return self.draw(run.rounds, Frame(name=self.name, title=self.title, subtitle=self.subtitle, note=note))

    @property
    def alternative(self) -> str:
        """What stands for it where it cannot be seen; its numbers are in the table below it."""
        return f"{self.title}: {self.subtitle}"


def rates(rounds: Rounds, frame: Frame, *, scenario: str, measures: Sequence[str]) -> str | None:
    """Bars of all contenders, the best first."""
    found = [one for measure in measures for one in _all_of(rounds, scenario, measure)]
    rows = [_bar(one, _label(one.key, measures)) for one in found]
    best_first = sorted(rows, key=lambda row: row.whole.value, reverse=not (found and found[0].less_is_better))
    return bars(replace(frame, unit=found[0].unit), best_first) if found else None


def cpu(rounds: Rounds, frame: Frame, *, scenario: str, measure: str) -> str | None:
    """Bars of two parts: what the worker uses, and what the servers do."""
    rows = [row for series in _all_of(rounds, scenario, measure) if (row := _cpu_of(series))]
    return bars(replace(frame, unit="µs"), sorted(rows, key=lambda row: row.whole.value)) if rows else None


def trips(rounds: Rounds, frame: Frame, *, scenario: str, usual: str, seldom: str) -> str | None:
    """Dots: the median, and what one in a hundred exceeds."""
    rows = []
    for series in _all_of(rounds, scenario, usual):
        rare = rounds.spread(series.key._replace(measure=seldom))
        whole, kind = _point(series.spread()), labels.kind(series.key.contender)
        rows.append(Dots(label=series.key.contender, kind=kind, usual=whole, seldom=rare.median if rare else None))
    frame = replace(frame, unit="ms")
    return dots(frame, sorted(rows, key=lambda row: row.usual.value)) if rows else None


def sweep(
    rounds: Rounds, frame: Frame, *, scenario: str, measures: Sequence[str], by_powers: bool = False
) -> str | None:
    """Lines of all contenders over those of the measures that somebody has."""
    used = [measure for measure in measures if rounds.contenders(scenario, measure)]
    names = dict.fromkeys(name for measure in used for name in rounds.contenders(scenario, measure))
    rows = [
        Line(label=name, points=tuple(_found(rounds, Key(scenario, measure, name)) for measure in used))
        for name in names
    ]
    return lines(replace(frame, unit="/s"), used, rows, by_powers=by_powers) if rows else None


def million(rounds: Rounds, frame: Frame, *, scenario: str, measures: Mapping[str, str], mark: Mark) -> str | None:
    """Bars of figures that are ratios themselves, beside the one that is aimed at."""
    found = [(one, name) for measure, name in measures.items() for one in _all_of(rounds, scenario, measure)]
    rows = [_bar(one, f"{one.key.contender.removeprefix('ours, ')}, {name}") for one, name in found]
    return bars(replace(frame, unit="times"), sorted(rows, key=lambda row: row.label), [mark]) if rows else None


def _all_of(rounds: Rounds, scenario: str, measure: str) -> list[Series]:
    found = (rounds.series(Key(scenario, measure, one)) for one in rounds.contenders(scenario, measure))
    return [series for series in found if series]


def _label(key: Key, measures: Sequence[str]) -> str:
    return f"{key.contender}, {key.measure}" if len(measures) > 1 else key.contender


def _bar(series: Series, label: str) -> Bar:
    whole = _point(series.spread())
    return Bar(label=label, kind=labels.kind(series.key.contender), parts=(whole.value,), whole=whole)


def _cpu_of(series: Series) -> Bar | None:
    worker, servers = series.values("cpu_us"), series.values("servers_us")
    sums = [worker[number] + servers[number] for number in worker if number in servers]
    parts = series.spread("cpu_us"), series.spread("servers_us")
    if not sums or parts[0] is None or parts[1] is None:
        return None
    whole = Point(value=parts[0].median + parts[1].median, low=min(sums), high=max(sums))
    return Bar(
        label=series.key.contender,
        kind=labels.kind(series.key.contender),
        parts=(parts[0].median, parts[1].median),
        whole=whole,
    )


def _found(rounds: Rounds, key: Key) -> Point | None:
    spread = rounds.spread(key)
    return _point(spread) if spread else None


def _point(spread: Spread | None) -> Point:
    return Point(value=spread.median, low=spread.least, high=spread.most) if spread else Point(value=0, low=0, high=0)


DRAWINGS: Final = (
    Drawing(
        name="drain",
        scenario=labels.DRAIN,
        title="Tasks per second, results stored",
        subtitle="A queue of waiting tasks is worked off by 4 children; it is over when every result is stored",
        draw=partial(rates, scenario=labels.DRAIN, measures=(labels.STORED,)),
    ),
    Drawing(
        name="cpu",
        scenario=labels.DRAIN,
        title="CPU per task, results stored",
        subtitle="Dark: the worker's processes. Light: all servers",
        draw=partial(cpu, scenario=labels.DRAIN, measure=labels.STORED),
    ),
    Drawing(
        name="enqueue",
        scenario=labels.ENQUEUE,
        title="Calls per second of one producer",
        subtitle="Who waits for a confirm, and who does not, is in the table",
        draw=partial(rates, scenario=labels.ENQUEUE, measures=(labels.ONE_BY_ONE, labels.IN_BULK)),
    ),
    Drawing(
        name="round-trip",
        scenario=labels.ROUND_TRIP,
        title="Milliseconds from the call to its value",
        subtitle="One at a time, beside an idle worker. Full: median. Hollow, and in brackets: 99 of 100 are below it",
        draw=partial(trips, scenario=labels.ROUND_TRIP, usual=labels.P50, seldom=labels.P99),
    ),
    Drawing(
        name="drain-ignored",
        scenario=labels.DRAIN,
        title="Tasks per second, results ignored",
        subtitle="The same tasks, which leave nothing but a mark in a file",
        draw=partial(rates, scenario=labels.DRAIN, measures=(labels.IGNORED,)),
    ),
    Drawing(
        name="children",
        scenario=labels.CHILDREN,
        title="Tasks per second by number of children",
        subtitle="Results stored; workers and servers share the machine's cores",
        draw=partial(sweep, scenario=labels.CHILDREN, measures=labels.NUMBERS_OF_CHILDREN),
    ),
    Drawing(
        name="payloads",
        scenario=labels.PAYLOADS,
        title="Tasks per second by size of the argument",
        subtitle="Results stored; each line of the scale is ten times the one below it",
        draw=partial(sweep, scenario=labels.PAYLOADS, measures=labels.SIZES, by_powers=True),
    ),
    Drawing(
        name="producers",
        scenario=labels.PRODUCERS,
        title="Calls per second of several producers",
        subtitle="Each is a process of its own; every call is confirmed before the next",
        draw=partial(sweep, scenario=labels.PRODUCERS, measures=labels.NUMBERS_OF_PRODUCERS),
    ),
    Drawing(
        name="millions",
        scenario=labels.MILLIONS,
        title="CPU per task beside a million rows",
        subtitle="How many times that on empty tables; the broken line is what is aimed at",
        draw=partial(
            million,
            scenario=labels.MILLIONS,
            measures=dict(zip(labels.OF_EMPTY_TABLES, labels.MILLION, strict=True)),
            mark=Mark(label="at most 1.15", value=1.15),
        ),
    ),
)
