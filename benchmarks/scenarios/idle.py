"""What a worker costs that has nothing to do: CPU of all its processes and of the servers, memory, processes.

Our side runs here with its schedule, as it does by default.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from benchmarks import labels
from benchmarks.contender import Contender
from benchmarks.figure import Figure, less_is_better
from benchmarks.plan import Contenders, Sizes, Step
from benchmarks.usage import Reading, pss_megabytes

NAME = labels.IDLE
SECONDS_TO_SETTLE = 4.0


def steps(they: Contenders, sizes: Sizes) -> list[Step]:
    """Everybody; both lines of Celery idle alike."""
    ours = (replace(one, variables={"BENCH_BEAT": "1"}) for one in they.ours_everywhere())
    everybody = (*ours, they.celery, *they.peers)
    return [partial(idle, one, sizes.idle_seconds) for one in everybody if one.can(NAME)]


def idle(contender: Contender, seconds: float) -> Iterator[Figure]:
    """After some seconds of settling."""
    contender.clear()
    with contender.worker() as worker:
        time.sleep(SECONDS_TO_SETTLE)
        began, before = time.perf_counter(), Reading.now(worker.pids(), contender.servers)
        time.sleep(seconds)
        pids = worker.pids()
        used, elapsed = Reading.now(pids, contender.servers).since(before), time.perf_counter() - began
        memory = pss_megabytes(pids)
    contender.clear()
    share = 100 / elapsed
    figure = partial(less_is_better, NAME, contender.label)
    yield figure(labels.IDLE_CPU, "% of a core", used.worker * share, {"other_cores": used.others / elapsed})
    yield figure("CPU of the servers", "% of a core", used.servers * share)
    yield figure(labels.IDLE_MEMORY, "MB", memory, {"processes": len(pids)})
    yield figure("processes", "", len(pids))
