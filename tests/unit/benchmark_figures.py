"""Made-up figures of benchmarks, for the tests of what is made of them."""

from collections.abc import Iterable, Mapping

from benchmarks import labels
from benchmarks.figure import Figure
from benchmarks.rounds import Key, Rounds, Run

OURS, THEIRS, PEER = labels.OURS_RABBITMQ, labels.CELERY, labels.DRAMATIQ
STORED = Key(labels.DRAIN, labels.STORED, OURS)


def figure(key: Key, value: float, *, less_is_better: bool = False, **details: float) -> Figure:
    """Return a figure."""
    return Figure(
        scenario=key.scenario,
        measure=key.measure,
        contender=key.contender,
        unit="ms" if less_is_better else "/s",
        value=value,
        less_is_better=less_is_better,
        details=details,
    )


def rounds(values: Mapping[Key, Iterable[float]], **details: float) -> Rounds:
    """Return rounds with these values, each with the same details."""
    made = Rounds()
    for key, found in values.items():
        for number, value in enumerate(found, 1):
            made.add(number, figure(key, value, less_is_better=key.scenario == labels.ROUND_TRIP, **details))
    return made


def run_of(made: Rounds) -> Run:
    """Return what a file with these figures would hold."""
    return Run(sources=dict.fromkeys(made.scenarios(), ("made up.json",)), facts={}, sizes={}, broken=[], rounds=made)


def against(contender: str) -> Key:
    """Return the key of the same figure of somebody else."""
    return STORED._replace(contender=contender)
