"""What the demonstration prints: progress, a table, the first differences."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.shop.sources import Failure, Figures

T = TypeVar("T")

LONGEST = 10
DIFFERENCES_SHOWN = 10
SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over all files; a file that failed counts as a file and a failure only."""

    files: int
    size: int
    lines: int
    tokens: int
    failures: int


def totals_of(answers: Mapping[str, Figures | Failure]) -> Totals:
    figures = measured(answers).values()
    return Totals(
        files=len(answers),
        size=sum(each["size"] for each in figures),
        lines=sum(each["lines"] for each in figures),
        tokens=sum(each["tokens"] for each in figures),
        failures=len(answers) - len(figures),
    )


def measured(answers: Mapping[str, Figures | Failure]) -> dict[str, Figures]:
    """Return the answers that are figures."""
    return {path: answer for path, answer in answers.items() if not isinstance(answer, Failure)}


def longest(answers: Mapping[str, Figures | Failure], count: int = LONGEST) -> list[tuple[str, Figures]]:
    """Return the `count` files with most lines, the longest first."""
    return sorted(measured(answers).items(), key=lambda item: (-item[1]["lines"], item[0]))[:count]


def short_name(path: str) -> str:
    """Return a path from the folder below python3.x or site-packages on, as people know it.

    >>> short_name("/usr/lib/python3.11/email/parser.py")
    'email/parser.py'
    """
    parts = path.split("/")
    for index in range(len(parts) - 2, -1, -1):
        if parts[index].startswith("python3") or parts[index].endswith("-packages"):
            return "/".join(parts[index + 1 :])
    return path


def progress_bar(console: Console) -> Progress:
    """Return a bar; where there is no terminal it prints one line for each phase, at the very end."""
    return Progress(
        TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )


def counted(items: Iterable[T], count: int, *, description: str, progress: Progress) -> Iterator[T]:
    """Yield `items` while the bar counts them; where there is no terminal, a line now and then says how far it is."""
    said = time.monotonic()
    for number, item in enumerate(progress.track(items, count, description=description), 1):
        yield item
        if not progress.console.is_terminal and time.monotonic() - said >= SECONDS_BETWEEN_LINES:
            progress.console.print(f"{description}: {number:,} of {count:,}", highlight=False)
            said = time.monotonic()


def show(console: Console, answers: Mapping[str, Figures | Failure], *, seconds: float) -> None:
    """Print totals, speed, and the longest files."""
    console.print(_table_of_totals(totals_of(answers), seconds=seconds), _table_of_longest(answers), sep="\n")


def _table_of_totals(totals: Totals, *, seconds: float) -> Table:
    table = Table(title="Python sources, one task a file", show_header=False, title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    rows = {
        "files": f"{totals.files:,}",
        "bytes": f"{totals.size:,}",
        "lines": f"{totals.lines:,}",
        "tokens": f"{totals.tokens:,}",
        "failures (tokenize refuses the file, without celery too)": f"{totals.failures:,}",
        "seconds, first send to last result": f"{seconds:.2f}",
        "tasks per second": f"{totals.files / seconds:,.0f}",
    }
    for row in rows.items():
        table.add_row(*row)
    return table


def _table_of_longest(answers: Mapping[str, Figures | Failure]) -> Table:
    table = Table(title="The longest files", title_justify="left")
    table.add_column("file", overflow="fold")
    for name in ("lines", "tokens", "bytes"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("sha256", no_wrap=True)
    for path, figures in longest(answers):
        numbers = [f"{figures['lines']:,}", f"{figures['tokens']:,}", f"{figures['size']:,}"]
        table.add_row(short_name(path), *numbers, figures["sha256"][:12])
    return table


def show_differences(console: Console, differences: list[str]) -> None:
    console.print(f"{len(differences)} answers differ from the same computation in this process:", markup=False)
    for difference in differences[:DIFFERENCES_SHOWN]:
        console.print(f"  {difference}", markup=False, soft_wrap=True)
