"""What is measured. A scenario takes one contender once and returns its figures; rounds and order are the caller's."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from benchmarks.contender import Broken, Contender
from benchmarks.usage import Reading, pss_megabytes


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured value. `details` explain it and are not compared."""

    measure: str
    unit: str
    contender: str
    value: float
    less_is_better: bool = False
    details: dict[str, float] = field(default_factory=dict)


def drain(contender: Contender, count: int) -> Iterator[Figure]:
    """Results stored per second while `count` queued tasks are worked off, from the first stored one to the last."""
    contender.clear()
    contender.drive(contender.product.fills_queue_by, count)
    list(contender.wait_for(contender.queue.depth, count))
    started = time.perf_counter()
    with contender.worker() as worker:
        first_seen = next(moment for moment, stored in contender.wait_for(contender.stored, count) if stored)
        pids = worker.pids()
        before = Reading.now(pids, contender.servers)
        seen = list(contender.wait_for(contender.stored, count))
        used = Reading.now(worker.pids(), contender.servers).since(before)
        memory = pss_megabytes(pids)
    contender.check(count)
    (first, at_first), (last, _) = seen[0], seen[-1]
    tasks, elapsed = count - at_first, last - first
    if not tasks:
        raise Broken(f"{contender.label}: {count} tasks are too few to be measured")
    details = {"tasks": count, "measured": tasks, "with_start": count / (last - started), "first": first_seen - started}
    details |= {"cpu_us": used.worker / tasks * 1e6, "servers_us": used.servers / tasks * 1e6, "pss_mb": memory}
    details |= {"cores": used.machine / elapsed, "other_cores": used.others / elapsed}
    details["longest_pause"] = 1000 * longest_pause(seen)
    yield Figure(measure="drain", unit="/s", contender=contender.label, value=tasks / elapsed, details=details)


def longest_pause(seen: list[tuple[float, int]]) -> float:
    """The longest time, in seconds, in which no result came."""
    moves = [seen[0][0], *(after[0] for before, after in pairwise(seen) if after[1] > before[1])]
    return max((after - before for before, after in pairwise(moves)), default=0.0)


def enqueue(contender: Contender, action: str, count: int) -> Iterator[Figure]:
    """Calls per second of one producer, without a worker; all of them must have arrived."""
    contender.clear()
    found = contender.drive(action, count)
    list(contender.wait_for(contender.queue.depth, count))
    how = {"enqueue_one_by_one": "one by one", "enqueue_many": "delay_many"}[action]
    value = found["measured"] / found["seconds"]
    yield Figure(
        measure="enqueue", unit="/s", contender=f"{contender.label}, {how}", value=value, details={"tasks": count}
    )


def round_trip(contender: Contender, action: str, count: int) -> Iterator[Figure]:
    """Milliseconds from calling delay() to having its value, one at a time, beside an otherwise idle worker."""
    contender.clear()
    with contender.worker() as worker:
        times = sorted(1000 * second for second in contender.drive(action, count)["times"])
        memory = pss_megabytes(worker.pids())
    how = {"round_trip": "get()", "round_trip_polling": "get(interval=.005)"}[action]
    label = f"{contender.label}, {how}"
    details = {"tasks": count, "pss_mb": memory}
    p95 = times[min(int(len(times) * 0.95), len(times) - 1)]
    yield from (
        Figure(measure=name, unit="ms", contender=label, value=value, less_is_better=True, details=details)
        for name, value in (("round trip p50", statistics.median(times)), ("round trip p95", p95))
    )
