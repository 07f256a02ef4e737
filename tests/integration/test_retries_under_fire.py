"""A thousand tasks that retry, while a worker is killed every second: each ends once, none is doubled for nothing."""

import signal
import time
from collections import defaultdict
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from celery import states
from celery.models import TaskMeta
from tests.helpers import eventually
from tests.integration.oddities import tasks as oddities
from tests.integration.places import Place
from tests.integration.worker import WorkerProcess
from tests.shop import ledger

TASKS = 1000
WORKERS = 3
FAILURES = 2
SECONDS_BETWEEN_KILLS = 1.0
#: Seconds for which a result may have been unsettled when its worker was killed.
UNSETTLED = 2.0


class Kill(NamedTuple):
    """A worker's end: when, and which of its processes it took along."""

    moment: float
    pids: frozenset[int]


class Execution(NamedTuple):
    """A run of an attempt."""

    moment: float
    pid: int

    def is_overlapped(self, kills: list[Kill]) -> bool:
        return any(self.pid in kill.pids and 0 <= kill.moment - self.moment <= UNSETTLED for kill in kills)


def _kill(worker: WorkerProcess) -> Kill:
    """Kill a worker with all its processes, and start it anew."""
    pids = frozenset(child.pid for child in worker.members())
    worker.send_to_group(signal.SIGKILL)
    moment = time.monotonic()
    worker.process.wait()
    worker.start()
    return Kill(moment, pids)


def _attempts(place: Place) -> dict[tuple[str, int], list[Execution]]:
    """Return the executions of every attempt, in their order."""
    found: dict[tuple[str, int], list[Execution]] = defaultdict(list)
    for entry, pid in ledger.entries(place.ledger):
        token, attempt, moment = entry.split("/")
        found[token, int(attempt)].append(Execution(float(moment), pid))
    return found


def _open(place: Place, wanted: dict[str, str]) -> int:
    """Return how many of these tasks have not ended."""
    return len(wanted) - TaskMeta.objects.filter(status__in=states.READY_STATES).count()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["postgresql", "rabbitmq"], indirect=True)
def test_a_thousand_retried_tasks_end_once_while_a_worker_is_killed_every_second(place: Place) -> None:
    # given
    half = range(TASKS // 2)
    good = oddities.record_attempt.delay_many((place.ledger, f"good {number}", FAILURES) for number in half)
    bad = oddities.record_attempt.delay_many((place.ledger, f"bad {number}", 1000) for number in half)
    wanted = {result.task_id: "DONE" for result in good} | {result.task_id: "FAILURE" for result in bad}
    kills: list[Kill] = []

    # when
    with ExitStack() as stack:
        workers = [
            WorkerProcess(place, name=f"worker{number}", settings={"CELERYD_LEASE": 3}) for number in range(WORKERS)
        ]
        for worker in workers:
            stack.enter_context(worker)
        deadline = time.monotonic() + 100
        next_kill = time.monotonic()
        while open_tasks := _open(place, wanted):
            assert time.monotonic() < deadline, f"{open_tasks} tasks have not ended"
            time.sleep(max(next_kill - time.monotonic(), 0.05))
            if time.monotonic() >= next_kill and open_tasks > TASKS // 100:  # the last ones may end in peace
                kills.append(_kill(workers[len(kills) % (WORKERS - 1)]))  # who is to notice must outlive a lease
                next_kill += SECONDS_BETWEEN_KILLS
        # a relay that was killed between publishing and deleting leaves rows; they are settled when its lease is over
        eventually(lambda: place.messages() == [], within=30)

    # then
    assert kills
    assert {task_id: place.results()[task_id].status for task_id in wanted} == wanted
    assert {place.results()[result.task_id].attempt for result in good} == {FAILURES + 1}
    attempts = _attempts(place)
    assert len(attempts) == TASKS // 2 * (FAILURES + 1) + TASKS // 2 * (oddities.RETRIES + 1)
    unexplained = {
        key: executions
        for key, executions in attempts.items()
        for earlier in executions[:-1]
        if not earlier.is_overlapped(kills)
    }
    assert unexplained == {}
    assert place.messages() == []
    print(f"{len(kills)} kills, {sum(map(len, attempts.values()))} executions of {len(attempts)} attempts")
