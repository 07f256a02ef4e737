"""Queued tasks are worked off: how many a second, from the first one seen done to the last.

It is done when every result is stored; where results are ignored, when every task has left its mark.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks import labels
from benchmarks.contender import Broken, Contender
from benchmarks.figure import Figure
from benchmarks.looking import Look, longest_pause
from benchmarks.plan import Contenders, Sizes, Step
from benchmarks.usage import Reading, pss_megabytes

NAME = labels.DRAIN


@dataclass(frozen=True, kw_only=True)
class Load:
    """Calls that wait in the queue before the worker is started."""

    count: int
    task: str = "noop"
    argument: Any = None
    #: Instead of that argument, a text of so many bytes.
    size: int = 0

    @property
    def is_stored(self) -> bool:
        """False: results are ignored."""
        return self.task != "mark"


@dataclass(frozen=True, kw_only=True)
class Drained:
    """What was seen of a drain, between the first task that was done and the last."""

    tasks: int
    seconds: float
    details: dict[str, float]
    #: All of them, and from when the first was seen done to the last.
    everything: int
    span: float

    @property
    def rate(self) -> float:
        """Tasks a second."""
        return self.tasks / self.seconds


def steps(they: Contenders, sizes: Sizes) -> list[Step]:
    """Ours and others in turns; then the same without results."""
    stored = (*they.everybody(), they.celery_wide, they.ours_logging)
    return [
        *(partial(stored_results, one, sizes) for one in stored if one.can("results")),
        *(partial(ignored_results, one, sizes) for one in they.everybody() if one.can("ignored")),
    ]


def stored_results(contender: Contender, sizes: Sizes) -> Iterator[Figure]:
    """With every result stored."""
    drained = drain(contender, Load(count=int(contender.product.drain * sizes.part)))
    yield figure(NAME, labels.STORED, contender, drained)


def ignored_results(contender: Contender, sizes: Sizes) -> Iterator[Figure]:
    """With no result stored, where the product can leave that out."""
    drained = drain(contender, Load(count=int(contender.product.drain_ignored * sizes.part), task="mark"))
    yield figure(NAME, labels.IGNORED, contender, drained)


def figure(scenario: str, measure: str, contender: Contender, drained: Drained) -> Figure:
    """The rate as a figure."""
    return Figure(
        scenario=scenario,
        measure=measure,
        unit="/s",
        contender=contender.label,
        value=drained.rate,
        details=drained.details,
    )


def drain(contender: Contender, load: Load) -> Drained:
    """Fill the queue, then work it off; Broken unless each call was executed once, and left what it had to."""
    contender.clear()
    contender.drive("fill", task=load.task, count=load.count, argument=load.argument, size=load.size)
    contender.wait(contender.queue.depth, load.count)
    count = contender.results.stored if load.is_stored else contender.marks.count
    started = time.perf_counter()
    with contender.worker() as worker:
        first_seen = next(look for look in contender.look(count, load.count) if look.count)
        before = Reading.now(worker.pids(), contender.servers)
        seen = list(contender.look(count, load.count))
        used = Reading.now(worker.pids(), contender.servers).since(before)
        memory = pss_megabytes(worker.pids())
    _check(contender, load)
    tasks, seconds = seen[-1].count - seen[0].count, seen[-1].moment - seen[0].moment
    if not tasks:
        raise Broken(f"{contender.label}: {load.count} tasks are too few to be measured")
    details = {
        "tasks": load.count,
        "measured": tasks,
        "with_start": load.count / (seen[-1].moment - started),
        "first_seconds": first_seen.moment - started,
        "cpu_us": used.worker / tasks * 1e6,
        "servers_us": used.servers / tasks * 1e6,
        "pss_mb": memory,
        "cores": used.machine / seconds,
        "other_cores": used.others / seconds,
    }
    return Drained(
        tasks=tasks,
        seconds=seconds,
        details=details | _of_looking(seen),
        everything=load.count,
        span=seen[-1].moment - first_seen.moment,
    )


def _of_looking(seen: list[Look]) -> dict[str, float]:
    """What looking itself may have cost, at most, and what it saw."""
    share = sum(look.took for look in seen) / (seen[-1].moment - seen[0].moment)
    return {"longest_pause_ms": 1000 * longest_pause(seen), "looks": len(seen), "looking_cores": share}


def _check(contender: Contender, load: Load) -> None:
    if load.is_stored:
        contender.check(load.count)
        return
    contender.check_marks(load.count, each_its_own=load.argument is None)
    if contender.can("results") and contender.results.stored():
        raise Broken(f"{contender.label}: {contender.results.stored()} results that were to be ignored")
