"""The figures of a whole run, by scenario, measure, contender and round: what is printed, written and drawn."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.figure import Figure
from benchmarks.ratios import Ratio, Spread, ratio, spread

#: Details are named after their units; of these, less is better.
COSTS = ("_us", "_mb", "_ms", "_seconds")
#: More rounds than any run has.
APART = 1_000_000


class Key(NamedTuple):
    """Which figure is meant: of whom, and perhaps not its value but one of its details."""

    scenario: str
    measure: str
    contender: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One figure in all rounds."""

    key: Key
    unit: str
    less_is_better: bool
    by_round: Mapping[int, Figure]

    def values(self, detail: str = "") -> dict[int, float]:
        """Return the value of each round, or one of its details where it has that."""
        if not detail:
            return {number: figure.value for number, figure in self.by_round.items()}
        return {number: found.details[detail] for number, found in self.by_round.items() if detail in found.details}

    def is_less_better(self, detail: str = "") -> bool:
        """Tell whether less of it is better."""
        return detail.endswith(COSTS) if detail else self.less_is_better

    def spread(self, detail: str = "") -> Spread | None:
        """Return median, least and most; None where there is no such detail."""
        values = [*self.values(detail).values()]
        return spread(values) if values else None


class Rounds:
    """Every figure of a run, in the order in which they came."""

    def __init__(self) -> None:
        self._all: list[tuple[int, Figure]] = []

    def add(self, number: int, figure: Figure) -> None:
        """Keep a figure of round `number`. Of two with the same name in one round, the later counts."""
        self._all.append((number, figure))

    def as_data(self) -> list[dict[str, Any]]:
        """Every figure with its round, for JSON."""
        return [{"round": number, **asdict(figure)} for number, figure in self._all]

    @classmethod
    def from_data(cls, rows: Iterable[Mapping[str, Any]]) -> "Rounds":
        """Read what `as_data` wrote."""
        made = cls()
        names = {field.name for field in fields(Figure)}
        for row in rows:
            made.add(row["round"], Figure(**{name: value for name, value in row.items() if name in names}))
        return made

    def scenarios(self) -> list[str]:
        """All scenarios, in the order of the run."""
        return list(dict.fromkeys(figure.scenario for _, figure in self._all))

    def measures(self, scenario: str) -> list[str]:
        """All measures of a scenario, likewise."""
        return list(dict.fromkeys(figure.measure for _, figure in self._all if figure.scenario == scenario))

    def contenders(self, scenario: str, measure: str) -> list[str]:
        """All for whom this was measured, likewise."""
        found = (figure for _, figure in self._all if (figure.scenario, figure.measure) == (scenario, measure))
        return list(dict.fromkeys(figure.contender for figure in found))

    def everybody(self) -> set[str]:
        """Whoever took part in anything."""
        return {figure.contender for _, figure in self._all}

    def series(self, key: Key) -> Series | None:
        """Return the rounds of one figure, whatever the detail; None if it was not measured."""
        found = {number: figure for number, figure in self._all if _is_named(figure, key)}
        if not found:
            return None
        one = next(iter(found.values()))
        return Series(key=key, unit=one.unit, less_is_better=one.less_is_better, by_round=found)

    def spread(self, key: Key) -> Spread | None:
        """Return what a figure, or its detail, came to; None if it was not measured."""
        series = self.series(key)
        return series.spread(key.detail) if series else None

    def ratio(self, ours: Key, theirs: Key) -> Ratio | None:
        """Return how many times better `ours` is in pairs of the same round; None if there is no pair."""
        one, other = self.series(ours), self.series(theirs)
        if one is None or other is None:
            return None
        return ratio(
            one.values(ours.detail), other.values(theirs.detail), less_is_better=one.is_less_better(ours.detail)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What files of results hold."""

    #: The files of each scenario.
    sources: Mapping[str, tuple[str, ...]]
    facts: Mapping[str, Any]
    sizes: Mapping[str, Any]
    broken: list[str]
    rounds: Rounds

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files, the oldest first."""
        return tuple(sorted({name for names in self.sources.values() for name in names}))


def read(paths: Sequence[Path]) -> Run:
    """Read files of `benchmarks/results`, and put the rounds of each scenario together.

    Rounds of different files get different numbers: what was not measured side by side makes no pair.
    """
    found = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(paths)}
    sources: dict[str, tuple[str, ...]] = {}
    for name, data in found.items():
        for scenario in dict.fromkeys(row["scenario"] for row in data["figures"]):
            sources[scenario] = (*sources.get(scenario, ()), name)
    rows = [
        row | {"round": row["round"] + APART * number}
        for number, data in enumerate(found.values())
        for row in data["figures"]
    ]
    return Run(
        sources=sources,
        facts={side: facts for data in found.values() for side, facts in data["facts"].items()},
        sizes={size: value for data in found.values() for size, value in data["sizes"].items()},
        broken=[reason for data in found.values() for reason in data["broken"]],
        rounds=Rounds.from_data(rows),
    )


def _is_named(figure: Figure, key: Key) -> bool:
    return (figure.scenario, figure.measure, figure.contender) == (key.scenario, key.measure, key.contender)
