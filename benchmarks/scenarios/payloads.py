"""Calls with one argument of 100 B, 10 KB and 1 MB of text that compresses badly. The task returns its length."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from benchmarks import labels
from benchmarks.contender import Contender
from benchmarks.figure import Figure
from benchmarks.plan import Contenders, Sizes, Step
from benchmarks.scenarios.drain import Load, drain, figure

NAME = labels.PAYLOADS

#: Bytes of an argument, what that is called, and which part of a product's full drain.
PAYLOADS = {100: ("100 B", 0.4), 10_000: ("10 KB", 0.1), 1_000_000: ("1 MB", 0.004)}
FEWEST = 60


def steps(they: Contenders, sizes: Sizes) -> list[Step]:
    """Ours and Celery in turns."""
    return [partial(with_payload, one, size, sizes) for size in PAYLOADS for one in (they.ours, they.celery)]


def with_payload(contender: Contender, size: int, sizes: Sizes) -> Iterator[Figure]:
    """A drain of calls with one argument of so many bytes."""
    name, part = PAYLOADS[size]
    count = max(int(contender.product.drain * part * sizes.part), FEWEST)
    drained = drain(contender, Load(count=count, task="size", size=size))
    more = {"megabytes_per_second": drained.rate * size / 1e6}
    yield figure(NAME, name, contender, replace(drained, details=drained.details | more))
