"""A child that dies: who notices, what runs again, and what does not."""

import signal
from pathlib import Path

import pytest

from celery.exceptions import WorkerLost
from tests.helpers import eventually
from tests.integration.oddities import tasks as oddities
from tests.integration.places import Place
from tests.integration.worker import WorkerProcess, run_command
from tests.shop import ledger, tasks

SOON = 15.0


def _pid_of(place: Place, token: str) -> int:
    return eventually(
        lambda: next((pid for known, pid in ledger.entries(place.ledger) if known == token), 0), within=SOON
    )


def test_a_killed_child_is_noticed_at_once_and_only_its_task_runs_again(place: Place, tmp_path: Path) -> None:
    # given
    gate = tmp_path / "gate"
    with WorkerProcess(place) as worker:
        held = [oddities.hold.delay(place.ledger, token, str(gate)) for token in ("one", "other")]
        behind = [tasks.record.delay(place.ledger, f"behind {number}") for number in range(10)]
        victim = _pid_of(place, "one")
        neighbour = _pid_of(place, "other")

        # when
        worker.child(victim).send(signal.SIGKILL)

        # then
        eventually(lambda: worker.said(f"The child with pid {victim} died (signal 9 (SIGKILL))"), within=1)
        eventually(lambda: place.executions().get("one") == 2, within=SOON)
        gate.touch()
        assert [result.get(timeout=SOON) for result in held] == ["one", "other"]
        assert [result.get(timeout=SOON) for result in behind] == [f"behind {number}" for number in range(10)]
        assert worker.child(neighbour).is_alive()
        assert len(worker.members()) == 4

    counted = place.executions()
    assert counted.pop("one") == 2
    assert set(counted.values()) == {1}
    eventually(lambda: not place.messages())


def test_a_task_that_kills_its_child_once_is_done_the_second_time(place: Place) -> None:
    # when
    with WorkerProcess(place):
        result = tasks.record_then_crash_once.delay(place.ledger, "once")

        # then
        assert result.get(timeout=SOON) == "once"
        assert place.executions() == {"once": 2}


def test_a_task_that_kills_every_child_is_dead_after_the_third_and_done_once_it_is_mended(
    place: Place, tmp_path: Path
) -> None:
    # given
    gate = tmp_path / "mended"
    with WorkerProcess(place):
        result = oddities.crash_until.delay(place.ledger, "poison", str(gate))

        # when
        with pytest.raises(WorkerLost, match=r"oddities\.crash_until: its process died 3 times"):
            result.get(timeout=30)

        # then
        assert place.executions() == {"poison": 3}
        (dead,) = place.dead()
        assert (dead.task_id, dead.crashes) == (result.task_id, 3)
        assert "signal 9 (SIGKILL)" in dead.reason
        listed = run_command(place, "celery_dead", "list")
        assert result.task_id in listed.stdout
        assert "died 3 times" in listed.stdout

        # when
        gate.touch()
        requeued = run_command(place, "celery_dead", "requeue", result.task_id)

        # then
        assert requeued.returncode == 0, requeued.stderr
        eventually(lambda: result.status == "DONE", within=SOON)
        assert result.get(timeout=1) == "poison"
        assert place.executions() == {"poison": 4}
        eventually(lambda: not place.messages())


def test_a_task_that_leaves_its_process_counts_as_a_crash(sqlite_place: Place) -> None:
    with WorkerProcess(sqlite_place, settings={"CELERY_CRASH_LIMIT": 1}):
        with pytest.raises(WorkerLost, match="its process died once running it; last: exit code 5"):
            tasks.exit.delay(5).get(timeout=SOON)
        assert tasks.add.delay(1, 1).get(timeout=SOON) == 2


def test_what_has_run_at_most_once_is_not_tried_again(place: Place, tmp_path: Path) -> None:
    # given
    with WorkerProcess(place) as worker:
        result = oddities.hold_once.delay(place.ledger, "once", str(tmp_path / "never"))
        victim = _pid_of(place, "once")

        # when
        worker.child(victim).send(signal.SIGKILL)

        # then
        with pytest.raises(WorkerLost, match="acks_late is False"):
            result.get(timeout=SOON)
        assert tasks.record.delay(place.ledger, "after").get(timeout=SOON)
        assert place.executions() == {"once": 1, "after": 1}
        eventually(lambda: not place.messages())


def test_a_crash_costs_only_what_its_child_had_finished_and_not_stored_a_second_run(place: Place) -> None:
    # given
    calls = [(place.ledger, f"task {number}") for number in range(300)]
    with WorkerProcess(place):
        # when
        results = [*tasks.record.delay_many(calls[:150])]
        crash = tasks.record_then_crash_once.delay(place.ledger, "crash")
        results += tasks.record.delay_many(calls[150:])

        # then
        assert [result.get(timeout=SOON) for result in results] == [token for _, token in calls]
        assert crash.get(timeout=SOON) == "crash"
    runs: dict[str, list[int]] = {}
    for token, pid in ledger.entries(place.ledger):
        runs.setdefault(token, []).append(pid)
    victim = runs.pop("crash")[0]
    assert set(runs) == {token for _, token in calls}
    assert {pids[0] for pids in runs.values() if len(pids) > 1} <= {victim}
    assert max(map(len, runs.values())) <= 2
