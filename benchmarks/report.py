"""The table for people and the JSON for comparisons."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.scenarios import Figure

RESULTS = Path(__file__).parent / "results"
WIDTH = 180


class Column(NamedTuple):
    """A detail that has a column."""

    detail: str
    heading: str
    form: str


COLUMNS = (
    Column("with_start", "+ start /s", "{:,.0f}"),
    Column("cpu_us", "worker us", "{:,.0f}"),
    Column("servers_us", "servers us", "{:,.0f}"),
    Column("pss_mb", "PSS MB", "{:,.0f}"),
    Column("longest_pause", "pause ms", "{:,.0f}"),
    Column("other_cores", "others", "{:.2f}"),
)


class Report:
    """Figures of all rounds, by measure and contender."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, str], list[Figure]] = {}
        self._rounds: list[tuple[int, Figure]] = []

    def add(self, number: int, figure: Figure) -> None:
        """Keep a figure of round `number`."""
        self._figures.setdefault((figure.measure, figure.contender), []).append(figure)
        self._rounds.append((number, figure))

    def table(self) -> Table:
        """One row a measure and contender, grouped by measure."""
        table = Table(box=SIMPLE, title="Medians of all rounds; results of RabbitMQ's lines are stored in PostgreSQL")
        for heading in ("measure", "contender"):
            table.add_column(heading, no_wrap=True)
        for heading in ("median", "min..max", "times Celery", *(column.heading for column in COLUMNS)):
            table.add_column(heading, justify="right", no_wrap=True)
        measures = list(dict.fromkeys(measure for measure, _ in self._figures))
        for measure in measures:
            for (of, contender), figures in self._figures.items():
                if of == measure:
                    table.add_row(measure, contender, *self._cells(figures))
            table.add_section()
        return table

    def as_data(self) -> list[dict[str, Any]]:
        """Every figure with its round."""
        return [{"round": number, **asdict(figure)} for number, figure in self._rounds]

    def _cells(self, figures: Sequence[Figure]) -> Iterable[str]:
        values, unit = [figure.value for figure in figures], figures[0].unit
        yield f"{_short(statistics.median(values))} {unit}"
        yield f"{_short(min(values))}..{_short(max(values))}"
        yield self._ratios(figures)
        for column in COLUMNS:
            found = [figure.details[column.detail] for figure in figures if column.detail in figure.details]
            yield column.form.format(statistics.median(found)) if found else ""

    def _ratios(self, figures: Sequence[Figure]) -> str:
        """How many times better than each line of Celery: the median over the pairs of the same round."""
        if figures[0].contender.startswith("Celery"):
            return ""
        baselines = [
            them
            for (measure, contender), them in self._figures.items()
            if measure == figures[0].measure and contender.startswith("Celery")
        ]
        return " / ".join(f"{_short(_ratio(figures, them))}" for them in baselines)


def _ratio(ours: Sequence[Figure], theirs: Sequence[Figure]) -> float:
    pairs = [one.value / other.value for one, other in zip(ours, theirs, strict=False)]
    return statistics.median(1 / pair if ours[0].less_is_better else pair for pair in pairs)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


LEGEND = """\
times Celery: medians over pairs of the same round; two figures: against Celery's two lines, in their order.
+ start: the same counted from the start of the worker. us: CPU of the worker's processes, and of both servers, a task.
pause: the longest without a result. others: cores that somebody else used; beside much of it, a line says little.
Celery's producer waits for no confirm but on the line "confirming"; our side always waits, delay_many once a batch."""


def show(report: Report) -> None:
    """Print all."""
    console = Console(width=None if Console().is_terminal else WIDTH)
    console.print(report.table())
    console.print(LEGEND, highlight=False)


def write(name: str, content: Mapping[str, Any]) -> Path:
    """Write the JSON and return where."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def flat(facts: Mapping[str, Any]) -> list[str]:
    """The facts as lines of text."""
    return [f"{name}: {_line(found)}" for name, found in facts.items()]


def _line(found: Mapping[str, Any]) -> str:
    parts = [_line(value) if isinstance(value, dict) else f"{name} {value}" for name, value in found.items()]
    return ", ".join(parts)
