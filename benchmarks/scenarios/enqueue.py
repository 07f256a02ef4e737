"""Calls a second of one producer, without a worker. All of them must have arrived."""

from collections.abc import Iterator
from functools import partial

from benchmarks import labels
from benchmarks.contender import Contender
from benchmarks.figure import Figure
from benchmarks.plan import Contenders, Sizes, Step
from benchmarks.usage import Reading

NAME = labels.ENQUEUE
MEASURES = {"enqueue_one_by_one": labels.ONE_BY_ONE, "enqueue_many": labels.IN_BULK}
TIMES_AS_MANY_IN_BULK = 10


def steps(they: Contenders, sizes: Sizes) -> list[Step]:
    """One by one, and many with one call where the product has one. Both lines of Celery send alike."""
    others = (one for one in they.peers if one.can(NAME))
    everybody = [*they.ours_everywhere(), they.celery, they.celery_confirming, *others]
    return [
        *(partial(enqueue, one, "enqueue_one_by_one", sizes.enqueue) for one in everybody),
        *(
            partial(enqueue, one, "enqueue_many", TIMES_AS_MANY_IN_BULK * sizes.enqueue)
            for one in everybody
            if one.can("enqueue_many")
        ),
    ]


def enqueue(contender: Contender, action: str, count: int) -> Iterator[Figure]:
    """One figure; the first call, which connects, does not count."""
    contender.clear()
    before = Reading.now([], contender.servers)
    found = contender.drive(action, count=count)
    contender.wait(contender.queue.depth, count)
    used = Reading.now([], contender.servers).since(before)
    contender.clear()
    details = {
        "tasks": count,
        "cpu_us": found["cpu"] / found["measured"] * 1e6,
        "servers_us": used.servers / count * 1e6,
    }
    if "rss_growth_mb" in found:
        details["rss_growth_mb"] = found["rss_growth_mb"]
    yield Figure(
        scenario=NAME,
        measure=MEASURES[action],
        unit="/s",
        contender=contender.label,
        value=found["measured"] / found["seconds"],
        details=details,
    )
