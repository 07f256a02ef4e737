"""The tables of docs/performance.rst, made from a file of results: no number of that page is typed by hand."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks import labels
from benchmarks.rounds import Rounds, Run
from benchmarks.table import table
from benchmarks.verdicts import HEADINGS, judged

FOLDER: Final = Path(__file__).parent / "results" / "tables"
HEAD: Final = ".. Written by python -m benchmarks.charts from {}; do not edit.\n"
ABSENT: Final = "Not measured in this run."
#: What reStructuredText would take for something else than text.
SPECIAL: Final = str.maketrans({char: f"\\{char}" for char in "\\*`|_"})


class Image(NamedTuple):
    """A figure of docs/images, and what it shows."""

    file: str
    scenario: str
    alternative: str


def texts(run: Run, images: Sequence[Image]) -> dict[str, str]:
    """Return each file's name and text."""
    made = {f"{scenario}.rst": of_scenario(run, scenario, images) for scenario in labels.SECTIONS}
    made |= {"targets.rst": of_targets(run.rounds), "machine.rst": of_machine(run), "sides.rst": of_sides(run.facts)}
    head = HEAD.format(" ".join(run.files))
    return {name: f"{head}\n{text}\n" for name, text in made.items()}


def of_scenario(run: Run, scenario: str, images: Sequence[Image]) -> str:
    """Its figures, then a table: one row a measure and contender."""
    found = table(run.rounds, scenario)
    if not found.rows:
        return ABSENT
    shown = [
        f".. image:: images/{one.file}\n   :alt: {one.alternative}\n" for one in images if one.scenario == scenario
    ]
    names = " and ".join(f"``{name}``" for name in run.sources[scenario])
    source = f"From {names} of ``benchmarks/results``:\n"
    return "\n".join([*shown, source, listed(found.headings, found.rows)])


def of_targets(rounds: Rounds) -> str:
    """One row a target."""
    found = judged(rounds)
    rows = [(one.target.measure, one.target.compared, one.target.words, one.found, str(one)) for one in found]
    return listed(HEADINGS, rows)


def of_machine(run: Run) -> str:
    """What it ran on, and how much of everything."""
    known = {
        **run.facts.get("machine", {}),
        "sizes": run.sizes,
        "files": ", ".join(run.files),
    }
    rows = [(name.replace("_", " "), _plain(value)) for name, value in known.items()]
    rows += [("broken", reason) for reason in run.broken]
    return listed(("", "value"), rows)


def of_sides(facts: Mapping[str, Any]) -> str:
    """Versions of each side, and its durability as its own connection told it."""
    rows = [
        (name, _plain(side.get("versions", {})), _plain({key: side[key] for key in side if key != "versions"}))
        for name, side in facts.items()
        if name != "machine"
    ]
    return listed(("side", "versions", "as read back from its own connection"), rows) if rows else ABSENT


def listed(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (headings, *rows):
        lines += _row(row)
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> Iterator[str]:
    for number, cell in enumerate(cells):
        yield f"   {'* -' if number == 0 else '  -'} {cell.translate(SPECIAL)}".rstrip()


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(_named(name, one) for name, one in value.items())
    return f"{value:.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _named(name: str, value: Any) -> str:
    return _plain(value) if isinstance(value, Mapping) else f"{name.replace('_', ' ')} {_plain(value)}"
