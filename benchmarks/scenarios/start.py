"""From starting the worker's process to the first executed task, which waits already."""

import statistics
import time
from collections.abc import Iterator
from functools import partial

from benchmarks import labels
from benchmarks.contender import SECONDS_TO_STOP, Broken, Contender
from benchmarks.figure import Figure
from benchmarks.plan import Contenders, Sizes, Step

NAME = labels.START
SECONDS_BETWEEN_LOOKS = 0.001


def steps(they: Contenders, sizes: Sizes) -> list[Step]:
    """Everybody. A task that stores no result is enough, and the same for all."""
    return [partial(start, one, sizes.starts) for one in they.everybody() if one.can(NAME)]


def start(contender: Contender, times: int) -> Iterator[Figure]:
    """The median of some starts. Its files have been read before, when the facts were asked for."""
    found = [_seconds(contender) for _ in range(times)]
    yield Figure(
        scenario=NAME,
        measure=labels.FIRST_TASK,
        unit="s",
        contender=contender.label,
        value=statistics.median(found),
        less_is_better=True,
        details={"starts": times, "slowest_seconds": max(found)},
    )


def _seconds(contender: Contender) -> float:
    contender.clear()
    contender.drive("fill", task="mark", count=1)
    contender.wait(contender.queue.depth, 1)
    began = time.perf_counter()
    with contender.worker() as worker:
        while not contender.marks.count():
            time.sleep(SECONDS_BETWEEN_LOOKS)
            if time.perf_counter() - began > SECONDS_TO_STOP:
                worker.pids()
                raise Broken(f"{contender.label}: the first task is not executed. {contender.last_words()}")
        elapsed = time.perf_counter() - began
    contender.check_marks(1, each_its_own=True)
    return elapsed
