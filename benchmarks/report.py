"""What a run came to, as tables for people. Its JSON is written by `benchmarks.record`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.rounds import Rounds
from benchmarks.table import TEXTS, table
from benchmarks.verdicts import HEADINGS, Judged, Verdict, judged

RESULTS: Final = Path(__file__).parent / "results"
#: Where the output is no terminal, lines are as long as they have to be, and not longer than this.
WIDTH: Final = 200

LEGEND: Final = """\
times Celery, of raw limit: medians over pairs of the same round, with a 95 % interval by bootstrap; with fewer than 3
pairs the least and the most. More than 1 is better, of times too. Celery is tuned: CELERY_DB_REUSE_MAX, acks_late,
multiplier 64.
CPU µs: of the worker's or the producer's processes, a task; servers µs: of all servers. MB: PSS of the worker's
processes. others: cores that somebody else used meanwhile; beside much of it, a line says little."""

STYLES: Final = {Verdict.HELD: "green", Verdict.NOT_HELD: "red", Verdict.NOT_MEASURED: "dim"}


def show(rounds: Rounds, console: Console | None = None) -> None:
    """Print all: a table for each scenario, then the targets."""
    console = console or Console(width=None if Console().is_terminal else WIDTH)
    for scenario in rounds.scenarios():
        console.print(of_scenario(rounds, scenario))
    console.print(LEGEND, highlight=False)
    console.print(of_targets(judged(rounds)))


def of_scenario(rounds: Rounds, scenario: str) -> Table:
    """One row a measure and contender."""
    found = table(rounds, scenario)
    made = Table(box=SIMPLE, title=scenario, title_justify="left")
    for number, heading in enumerate(found.headings):
        made.add_column(heading, justify="left" if number < TEXTS else "right", no_wrap=True)
    before = ""
    for row in found.rows:
        if before and row[0] != before:
            made.add_section()
        made.add_row("" if row[0] == before else row[0], *(Text(cell) for cell in row[1:]))
        before = row[0]
    return made


def of_targets(found: Iterable[Judged]) -> Table:
    """One row a target."""
    made = Table(box=SIMPLE, title="targets", title_justify="left")
    for heading in HEADINGS:
        made.add_column(heading, overflow="fold")
    for one in found:
        target, verdict = one.target, Text(str(one), style=STYLES[one.verdict])
        made.add_row(target.measure, target.compared, target.words, one.found, verdict)
    return made


def flat(facts: Mapping[str, Any]) -> list[str]:
    """The facts as lines of text."""
    return [f"{name}: {_line(found)}" for name, found in facts.items()]


def _line(found: Mapping[str, Any]) -> str:
    parts = [_line(value) if isinstance(value, dict) else f"{name} {value}" for name, value in found.items()]
    return ", ".join(parts)
