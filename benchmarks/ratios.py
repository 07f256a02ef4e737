"""How much better one side is than another: from pairs that were measured in the same round, with an interval.

Rounds alternate, so that what disturbs the machine for a minute disturbs both sides of a pair. Hence the ratio is taken
within each pair, and the median over the pairs, and not the other way round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median
from typing import Final

#: So many samples of the pairs are drawn, with the same chance in every run: the same figures give the same interval.
RESAMPLES: Final = 2_000
SEED: Final = 20_261_122
#: The share of medians of samples that the interval holds.
CONFIDENCE: Final = 0.95
#: With fewer there is nothing to draw from; least and most are shown, and called so.
ENOUGH_PAIRS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How many times better: more than 1 is better, whether more or less of the measure is."""

    value: float
    low: float
    high: float
    pairs: int

    @property
    def is_interval(self) -> bool:
        """Tell whether `low` and `high` are a 95 % interval, or just the least and the most."""
        return self.pairs >= ENOUGH_PAIRS


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Values of all rounds: their median, the least and the most."""

    median: float
    least: float
    most: float
    rounds: int


def spread(values: Sequence[float]) -> Spread:
    """Return what `values`, of which there is at least one, come to."""
    return Spread(median=median(values), least=min(values), most=max(values), rounds=len(values))


def ratio(ours: Mapping[int, float], theirs: Mapping[int, float], *, less_is_better: bool = False) -> Ratio | None:
    """Compare values by round; None where no round has both."""
    return summed_up(paired(theirs, ours) if less_is_better else paired(ours, theirs))


def paired(above: Mapping[int, float], below: Mapping[int, float]) -> list[float]:
    """Return above/below of each round that has both, and both more than nothing, in the order of rounds."""
    return [above[number] / below[number] for number in sorted(above) if below.get(number, 0) > 0 and above[number] > 0]


def summed_up(ratios: Sequence[float]) -> Ratio | None:
    """Return the median of `ratios` with its interval; None if there are none."""
    if not ratios:
        return None
    low, high = interval(ratios) if len(ratios) >= ENOUGH_PAIRS else (min(ratios), max(ratios))
    return Ratio(value=median(ratios), low=low, high=high, pairs=len(ratios))


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Return the bootstrap interval of the median: what it is in samples drawn with replacement, its ends cut off.

    Of three pairs it is the least and the most, or nearly so: three say little, and this shows it.
    """
    chance = Random(SEED)
    medians = sorted(median(chance.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    cut = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    return medians[cut], medians[-1 - cut]


def short(value: float) -> str:
    """Return a number as people read it: three digits are enough."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{float(f'{value:.3g}'):.10g}"
