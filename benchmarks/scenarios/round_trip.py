"""Milliseconds from the call to its value, one at a time, beside an otherwise idle worker."""

from collections.abc import Iterator
from functools import partial

from benchmarks import labels
from benchmarks.contender import Contender
from benchmarks.figure import Figure
from benchmarks.plan import Contenders, Sizes, Step
from benchmarks.quantiles import quantile
from benchmarks.usage import pss_megabytes

NAME = labels.ROUND_TRIP
MEASURES = {labels.P50: 0.5, labels.P95: 0.95, labels.P99: 0.99}


def steps(they: Contenders, sizes: Sizes) -> list[Step]:
    """Each as it waits by default and, where that is long, as it can be made to. Both lines of Celery wait alike."""
    others = (they.celery, *they.peers)
    return [
        *(partial(round_trip, one, "round_trip", sizes.trips) for one in they.ours_everywhere()),
        *(partial(round_trip, one, "round_trip", _trips(one, sizes)) for one in others if one.can("round_trip")),
        *(
            partial(round_trip, one, "round_trip_polling", sizes.trips)
            for one in others
            if one.can("round_trip_polling")
        ),
    ]


def _trips(contender: Contender, sizes: Sizes) -> int:
    """Few, where each takes half a second: whoever can be told to look more often."""
    return sizes.slow_trips if contender.can("round_trip_polling") else sizes.trips


def round_trip(contender: Contender, action: str, count: int) -> Iterator[Figure]:
    """Median and tail."""
    contender.clear()
    with contender.worker() as worker:
        times = [1000 * second for second in contender.drive(action, count=count)["times"]]
        memory = pss_megabytes(worker.pids())
    label = contender.label if action == "round_trip" else f"{contender.label}, {labels.LOOKING_OFTEN}"
    for measure, part in MEASURES.items():
        yield Figure(
            scenario=NAME,
            measure=measure,
            unit="ms",
            contender=label,
            value=quantile(times, part),
            less_is_better=True,
            details={"tasks": count, "pss_mb": memory},
        )
