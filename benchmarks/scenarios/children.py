"""A drain by 1 2 4 8 children."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from benchmarks import labels
from benchmarks.contender import Contender
from benchmarks.figure import Figure
from benchmarks.plan import Contenders, Sizes, Step
from benchmarks.scenarios.drain import Load, drain, figure

NAME = labels.CHILDREN

#: Of a product's full drain, with so many children: fewer of them work it off more slowly.
PART_WITH_CHILDREN = {1: 0.2, 2: 0.4, 4: 0.6, 8: 0.6}


def steps(they: Contenders, sizes: Sizes) -> list[Step]:
    """Ours and Celery in turns."""
    return [
        partial(with_children, one, children, sizes)
        for children in PART_WITH_CHILDREN
        for one in (they.ours, they.celery)
    ]


def with_children(contender: Contender, children: int, sizes: Sizes) -> Iterator[Figure]:
    """A drain by so many children."""
    count = int(contender.product.drain * PART_WITH_CHILDREN[children] * sizes.part)
    drained = drain(replace(contender, children=children), Load(count=count))
    yield figure(NAME, f"{children} {'child' if children == 1 else 'children'}", contender, drained)
