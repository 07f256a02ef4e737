"""Whether targets were reached in a run. The figures are medians of all rounds."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from benchmarks.ratios import short
from benchmarks.rounds import Key, Rounds
from benchmarks.table import told
from benchmarks.targets import TARGETS, Target

#: What stands above the columns, wherever they are shown.
HEADINGS: Final = ("target", "compared with", "wanted", "found", "verdict")


class Verdict(StrEnum):
    """What is said of a target."""

    HELD = "held"
    NOT_HELD = "not held"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A target with what was found."""

    target: Target
    verdict: Verdict
    found: str = ""
    remark: str = ""

    def __str__(self) -> str:
        return f"{self.verdict}: {self.remark}" if self.remark else str(self.verdict)


def judged(rounds: Rounds, targets: Iterable[Target] = TARGETS) -> list[Judged]:
    """Return each target with its verdict."""
    return [_judge(target, rounds) for target in targets]


def _judge(target: Target, rounds: Rounds) -> Judged:
    value, found = _found(target, rounds)
    if value is None:
        return Judged(target=target, verdict=Verdict.NOT_MEASURED, remark=_missing(target, rounds))
    verdict = Verdict.HELD if _is_reached(value, target.wanted, target) else Verdict.NOT_HELD
    is_aim = target.aimed is not None and _is_reached(value, target.aimed, target)
    return Judged(target=target, verdict=verdict, found=found, remark="the aim too" if is_aim else "")


def _is_reached(value: float, wanted: float, target: Target) -> bool:
    return value <= wanted if target.at_most else value >= wanted


def _found(target: Target, rounds: Rounds) -> tuple[float | None, str]:
    """Return the value that is judged, and how it is written."""
    if target.against:
        ratio = rounds.ratio(target.figure, target.against)
        return (ratio.value, told(ratio)) if ratio else (None, "")
    spread = rounds.spread(target.figure)
    if spread is None:
        return None, ""
    span = f" ({short(spread.least)}..{short(spread.most)})" if spread.rounds > 1 else ""
    return spread.median, f"{short(spread.median)} {target.unit}".rstrip() + span


def _missing(target: Target, rounds: Rounds) -> str:
    """Say why there is no figure: who did not take part, or what was not measured."""
    everybody = rounds.everybody()
    absent = [key.contender for key in _keys(target) if key.contender not in everybody]
    if absent:
        return f"no {' and no '.join(absent)} in this run"
    without = [key for key in _keys(target) if rounds.spread(key) is None]
    return f"no figure of {without[0].contender}" if without else "never in the same round"


def _keys(target: Target) -> Iterator[Key]:
    yield target.figure
    if target.against:
        yield target.against
