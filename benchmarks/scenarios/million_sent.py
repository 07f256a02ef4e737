"""A million calls by one `delay_many`: the rate, the memory that the sender takes, and on RabbitMQ the drain.

That drain, of the first of a million that wait, is compared with one of as many that wait alone.
"""

import statistics
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from benchmarks import labels
from benchmarks.contender import Contender
from benchmarks.figure import Figure, less_is_better
from benchmarks.filled import WAITING
from benchmarks.places import AmqpQueue
from benchmarks.plan import Contenders, Sizes, Step
from benchmarks.scenarios.millions import TASKS, Cost, cost_figure, cost_of, ratio_figure

NAME = labels.MILLION_SENT
#: The shorter run has so many times fewer calls; where results are let go, it is done by so many a part.
FEWER: Final = 10
PART: Final = 10_000
PAIRS: Final = 4


def steps(they: Contenders, sizes: Sizes) -> list[Step]:
    """On both servers."""
    return [partial(to_postgresql, they.ours_postgresql, sizes), partial(to_rabbitmq, they.ours, sizes)]


def to_postgresql(contender: Contender, sizes: Sizes) -> Iterator[Figure]:
    """Send by parts whose results are let go, and by one call."""
    for calls, part in ((sizes.many // FEWER, PART), (sizes.many, 0)):
        contender.clear()
        yield from sent(contender, calls, part)
    contender.clear()


def to_rabbitmq(ours: Contender, sizes: Sizes) -> Iterator[Figure]:
    """Send to a queue of its own, and drain it and another in turns."""
    count = int(TASKS * sizes.part)
    full = replace(ours, queue=AmqpQueue(ours.queue.broker, f"{ours.queue.name}_{WAITING}"))
    try:
        full.clear()
        yield from sent(full, sizes.many, 0)
        full.wait(full.queue.depth, sizes.many)
        pairs = [_pair(ours, full, count, full_first=bool(number % 2)) for number in range(PAIRS)]
    finally:
        full.queue.remove()
        ours.clear()
    name = f"{sizes.many:,} {WAITING}"
    yield cost_figure(NAME, ours, "an empty queue", min((alone for alone, _ in pairs), key=_total))
    yield cost_figure(NAME, ours, name, min((beside_many for _, beside_many in pairs), key=_total))
    ratio = statistics.median(beside_many.total / alone.total for alone, beside_many in pairs)
    yield ratio_figure(NAME, ours, name, ratio)


def _total(cost: Cost) -> float:
    return cost.total


def _pair(alone: Contender, full: Contender, count: int, *, full_first: bool) -> tuple[Cost, Cost]:
    """What both cost, in turns."""
    if full_first:
        beside_many = _first_of(full, count)
        return _alone(alone, count), beside_many
    return _alone(alone, count), _first_of(full, count)


def _alone(contender: Contender, count: int) -> Cost:
    contender.clear()
    contender.drive("fill", count=count)
    contender.wait(contender.queue.depth, count)
    return _first_of(contender, count)


def _first_of(contender: Contender, count: int) -> Cost:
    contender.results.clear()
    return cost_of(contender, contender.results.stored, count)


def sent(contender: Contender, calls: int, part: int) -> Iterator[Figure]:
    """The rate, and what the sender gained in memory; what is sent stays in the queue."""
    found = contender.produce(action="many", count=calls, part=part)
    name = f"{calls:,} calls" + (f" in parts of {part:,}" if part else "")
    rate, growth = calls / found["seconds"], found["rss_growth_mb"]
    yield Figure(scenario=NAME, measure=name, unit="/s", contender=contender.label, value=rate)
    details = {"bytes_a_call": growth * 2**20 / calls}
    yield less_is_better(NAME, contender.label, f"{name}: growth of the sender", "MB", growth, details)
