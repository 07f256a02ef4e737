"""Tasks that take a while: how much of their time the children are busy with them.

They should be busy for as long as their tasks should take. What is left of the time is what the worker costs.
"""

from collections.abc import Iterator
from functools import partial

from benchmarks import labels
from benchmarks.contender import Contender
from benchmarks.figure import Figure
from benchmarks.plan import Contenders, Sizes, Step
from benchmarks.scenarios.drain import Drained, Load, drain

NAME = labels.DURATIONS

#: Milliseconds of a task, and how many tasks. Those of 0 ms are the drain itself.
TASKS_OF = {1: 2_000, 10: 1_500, 100: 160}


def steps(they: Contenders, sizes: Sizes) -> list[Step]:
    """Ours and Celery in turns."""
    return [partial(of_duration, one, duration, sizes) for duration in TASKS_OF for one in (they.ours, they.celery)]


def of_duration(contender: Contender, milliseconds: int, sizes: Sizes) -> Iterator[Figure]:
    """Which part of the children's time they should have taken, and how many there were a second."""
    count = int(TASKS_OF[milliseconds] * sizes.part)
    drained = drain(contender, Load(count=count, task="pause", argument=milliseconds))
    busy = 100 * busy_share(drained, milliseconds, contender.children)
    yield _figure(contender, f"busy, {milliseconds} ms", "%", busy, drained)
    yield _figure(contender, f"tasks of {milliseconds} ms", "/s", drained.rate, drained)


def busy_share(drained: Drained, milliseconds: float, children: int) -> float:
    """Which part of the children's time the tasks should have taken, since the first of them began."""
    nominal = milliseconds / 1000
    return drained.everything * nominal / (children * (drained.span + nominal))


def _figure(contender: Contender, measure: str, unit: str, value: float, drained: Drained) -> Figure:
    return Figure(
        scenario=NAME,
        measure=measure,
        unit=unit,
        contender=contender.label,
        value=value,
        details=drained.details,
    )
