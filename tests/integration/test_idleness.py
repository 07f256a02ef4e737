"""A worker that has nothing to do says so, and one whose children are busy does not spin."""

import os
from pathlib import Path

import pytest

from tests.helpers import eventually
from tests.integration.oddities import tasks as oddities
from tests.integration.places import Place
from tests.integration.worker import WorkerProcess
from tests.servers.processes import Identity
from tests.shop import tasks

SOON = 10.0


def _cpu_seconds(process: Identity) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.postgres
def test_an_idle_worker_asks_producers_to_wake_it(postgres_place: Place) -> None:
    with WorkerProcess(postgres_place):
        eventually(lambda: [row for row in postgres_place.workers() if row.idle], within=3)


def test_a_dispatcher_does_not_spin_while_all_children_are_busy(place: Place, tmp_path: Path) -> None:
    # given
    gate = tmp_path / "gate"
    with WorkerProcess(place, settings={"CELERYD_LEASE": 3}) as worker:
        results = [oddities.hold.delay(place.ledger, f"hold {number}", str(gate)) for number in range(12)]
        eventually(lambda: len(place.executions()) == 2, within=SOON)
        before = _cpu_seconds(worker.dispatcher)

        # when
        beats = {row.owner: row.counter for row in place.workers()}
        eventually(lambda: any(row.counter >= beats[row.owner] + 2 for row in place.workers()), within=SOON)

        # then
        assert _cpu_seconds(worker.dispatcher) - before < 0.4
        gate.touch()
        assert len([result.get(timeout=SOON) for result in results]) == 12
        assert tasks.add.delay(1, 1).get(timeout=SOON) == 2
