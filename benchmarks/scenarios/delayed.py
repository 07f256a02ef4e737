"""Calls that are all due at one moment, some seconds ahead: how late they are executed, and what waiting costs.

So many cannot all be executed at that moment. What a plain drain of as many takes, from its first task on, stands
beside it: what is late beyond that is the fault of the waiting.
"""

import time
from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks import labels
from benchmarks.contender import Broken, Contender
from benchmarks.figure import Figure, less_is_better
from benchmarks.plan import Contenders, Sizes, Step
from benchmarks.quantiles import quantile
from benchmarks.usage import Reading, pss_megabytes

NAME = labels.DELAYED
MEASURES = {"p50": 0.5, "p99": 0.99, "max": 1.0}
SECONDS_TO_SETTLE = 1.0
SECONDS_BEFORE = 0.3


def steps(they: Contenders, sizes: Sizes) -> list[Step]:
    """Our side on each broker, and Celery, which holds them in its worker."""
    everybody = (they.ours, they.celery, they.ours_postgresql, they.ours_sqlite)
    return [partial(delayed, one, sizes.delayed, sizes.seconds_ahead) for one in everybody]


def delayed(contender: Contender, count: int, seconds_ahead: float) -> Iterator[Figure]:
    """Lateness, the plain drain, the difference of their p99, growth of memory, and CPU from the due moment on."""
    plain = _plain(contender, count)
    late, growth, used = _late(contender, count, seconds_ahead)
    details: dict[str, float] = {"tasks": count}
    figure = partial(less_is_better, NAME, contender.label)
    for measure, part in MEASURES.items():
        yield figure(f"lateness {measure}", "ms", 1000 * quantile(late, part), details)
        yield figure(f"plain drain {measure}", "ms", 1000 * quantile(plain, part), details)
    beyond = quantile(late, 0.99) - quantile(plain, 0.99)
    yield figure(labels.BEYOND, "ms", 1000 * beyond, details | {"earliest_ms": 1000 * min(late)})
    yield figure(labels.GROWTH, "MB", growth, details)
    worker, servers = used.worker / count * 1e6, used.servers / count * 1e6
    yield figure("CPU a task", "us", worker + servers, details | {"cpu_us": worker, "servers_us": servers})


def _plain(contender: Contender, count: int) -> list[float]:
    """Seconds from the first executed task to each, of as many that wait without a moment."""
    contender.clear()
    contender.drive("fill", task="late", count=count, argument=time.time())
    contender.wait(contender.queue.depth, count)
    with contender.worker():
        contender.wait(contender.marks.count, count)
    contender.check_marks(count, each_its_own=False)
    return since_first([float(line) for line in contender.marks.lines()])


def since_first(moments: Sequence[float]) -> list[float]:
    """Seconds since the earliest of them."""
    first = min(moments)
    return [moment - first for moment in moments]


def _late(contender: Contender, count: int, seconds_ahead: float) -> tuple[list[float], float, Reading]:
    """Seconds after the due moment, by how many MB the worker grew while they waited, and what was used then."""
    contender.clear()
    with contender.worker() as worker:
        time.sleep(SECONDS_TO_SETTLE)
        before = pss_megabytes(worker.pids())
        due = time.time() + seconds_ahead
        contender.drive("delay_until", task="late", count=count, argument=due, at=due)
        left = due - SECONDS_BEFORE - time.time()
        if left < 0:
            raise Broken(f"{contender.label}: {count} calls are not sent within {seconds_ahead} s")
        time.sleep(left)
        growth = pss_megabytes(worker.pids()) - before
        began = Reading.now(worker.pids(), contender.servers)
        contender.wait(contender.marks.count, count)
        used = Reading.now(worker.pids(), contender.servers).since(began)
    contender.check_marks(count, each_its_own=False)
    return [float(line) for line in contender.marks.lines()], growth, used
