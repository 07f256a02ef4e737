"""What is measured. A scenario is a module: NAME, its text, and `steps`, of which each measures one contender once.

Rounds, and the order of the steps within one, are the caller's.
"""

from typing import Final, Protocol

from benchmarks.plan import Contenders, Sizes, Step
from benchmarks.scenarios import (
    children,
    delayed,
    drain,
    durations,
    enqueue,
    idle,
    limits,
    million_sent,
    millions,
    payloads,
    producers,
    round_trip,
    start,
)


class Scenario(Protocol):
    """What such a module has."""

    NAME: str

    def steps(self, they: Contenders, sizes: Sizes, /) -> list[Step]:
        """What one round does, in order."""


MODULES: Final[tuple[Scenario, ...]] = (
    *(drain, enqueue, round_trip, start, idle, delayed),
    *(children, durations, payloads),
    *(limits, producers, millions, million_sent),
)
SCENARIOS: Final = {module.NAME: module for module in MODULES}
#: They show how something grows, and no target hangs on them: two rounds are enough.
CURVES: Final = (children.NAME, payloads.NAME)
ROUNDS_OF_CURVES: Final = 2
#: It takes a minute or two, and memory is no matter of luck.
ONCE: Final = (million_sent.NAME,)


def rounds(name: str, sizes: Sizes) -> int:
    """How often a scenario is measured."""
    if name in ONCE:
        return 1
    return min(sizes.rounds, ROUNDS_OF_CURVES) if name in CURVES else sizes.rounds
