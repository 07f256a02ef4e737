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
#: Rounds at most. The first three show how something grows; the last takes minutes, and memory is no matter of luck.
FEWER_ROUNDS: Final = {children.NAME: 1, payloads.NAME: 1, producers.NAME: 2, million_sent.NAME: 1}


def rounds(name: str, sizes: Sizes) -> int:
    """How often a scenario is measured."""
    return min(sizes.rounds, FEWER_ROUNDS.get(name, sizes.rounds))
