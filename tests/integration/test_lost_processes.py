"""kill -9 of dispatcher, steward and supervisor, and a worker that stands still: nothing is lost, nobody is left."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.helpers import eventually
from tests.integration.oddities import tasks as oddities
from tests.integration.places import Place
from tests.integration.worker import WorkerProcess, assert_nothing_left
from tests.servers.processes import Identity
from tests.shop import tasks

SOON = 20.0
SHORT_LEASE = {"CELERYD_LEASE": 3}
#: What two children may have run, or be running, without having stored it.
MOST_UNWRITTEN = 8
TOKENS = [f"task {number}" for number in range(60)]


def _send(place: Place) -> list[str]:
    return [
        result.task_id for result in tasks.record_and_sleep.delay_many((place.ledger, token, 0.01) for token in TOKENS)
    ]


def _assert_all_done(place: Place, ids: list[str], *, twice: int = 0) -> None:
    """All results are there, and few tasks ran twice: what was running or unwritten when its child was killed."""
    eventually(lambda: len(place.results()) >= len(ids), within=SOON)
    assert {place.results()[task_id].status for task_id in ids} == {"DONE"}
    counted = place.executions()
    assert set(TOKENS) <= set(counted)
    assert sum(counted.values()) <= len(counted) + twice
    eventually(lambda: not place.messages())


def test_a_killed_dispatcher_is_replaced_with_its_crew(place: Place) -> None:
    # given
    with WorkerProcess(place, settings=SHORT_LEASE) as worker:
        ids = _send(place)
        eventually(lambda: len(place.executions()) > 5, within=SOON)
        crew = worker.children

        # when
        worker.dispatcher.send(signal.SIGKILL)

        # then
        eventually(lambda: not any(child.is_alive() for child in crew), within=SOON)
        worker.wait_until_ready(times=2)
        _assert_all_done(place, ids, twice=MOST_UNWRITTEN)
        assert worker.stop() == 0


def test_a_killed_steward_is_replaced_and_nobody_else(place: Place) -> None:
    # given
    with WorkerProcess(place, settings=SHORT_LEASE) as worker:
        ids = _send(place)
        eventually(lambda: len(place.executions()) > 5, within=SOON)

        # when
        worker.steward.send(signal.SIGKILL)

        # then
        _assert_all_done(place, ids)
        eventually(lambda: worker.said("The steward with pid"), within=SOON)
        later = tasks.record.apply_async((place.ledger, "later"), countdown=0.2)
        assert later.get(timeout=SOON) == "later"
        assert all(child.is_alive() for child in [*worker.children, worker.dispatcher])
        assert worker.stop() == 0


def test_a_killed_supervisor_leaves_no_orphan_and_another_worker_finishes(place: Place) -> None:
    # given
    first = WorkerProcess(place, name="first", settings=SHORT_LEASE)
    with first:
        ids = _send(place)
        eventually(lambda: len(place.executions()) > 5, within=SOON)

        # when
        first.process.kill()
        first.process.wait()

        # then
        assert_nothing_left(first)
    with WorkerProcess(place, name="second", settings=SHORT_LEASE) as second:
        _assert_all_done(place, ids, twice=MOST_UNWRITTEN)
        assert second.stop() == 0


@pytest.mark.slow
def test_a_worker_that_stood_still_beyond_its_lease_neither_settles_nor_overwrites(
    place: Place, tmp_path: Path
) -> None:
    # given
    gate = tmp_path / "gate"
    with WorkerProcess(place, name="frozen", settings=SHORT_LEASE) as frozen:
        result = oddities.hold.delay(place.ledger, "held", str(gate))
        eventually(lambda: place.was_executed("held"), within=SOON)
        with WorkerProcess(place, name="awake", settings=SHORT_LEASE) as awake:
            # when
            family = frozen.members()
            for one in family:
                one.send(signal.SIGSTOP)
            gate.touch()

            # then
            eventually(result.ready, within=60 if place.is_relaying else SOON)
            assert place.results()[result.task_id].worker == "awake"
            assert place.executions() == {"held": 2}

            # when
            for one in family:
                one.send(signal.SIGCONT)

            # then
            eventually(lambda: frozen.said("is ready") >= 2 or place.is_relaying, within=SOON)
            assert place.results()[result.task_id].worker == "awake"
            assert place.executions() == {"held": 2}
            assert awake.stop() == 0
        again = tasks.record.delay(place.ledger, "again")
        assert again.get(timeout=SOON) == "again"
        assert place.results()[again.task_id].worker == "frozen"


def test_a_countdown_survives_the_end_of_its_worker(place: Place) -> None:
    # given
    with WorkerProcess(place, settings=SHORT_LEASE) as first:
        result = tasks.record.apply_async((place.ledger, "later"), countdown=2)
        assert tasks.record.delay(place.ledger, "now").get(timeout=SOON)
        first.process.kill()
        first.process.wait()

    # when
    with WorkerProcess(place, name="second", settings=SHORT_LEASE):
        # then
        assert result.get(timeout=SOON) == "later"
        assert place.executions() == {"now": 1, "later": 1}


def test_an_alarm_that_a_task_leaves_does_not_end_the_next(sqlite_place: Place) -> None:
    # given
    with WorkerProcess(sqlite_place, children=1) as worker, worker.unharmed():
        # when
        oddities.leave_alarm.delay(0.2)

        # then
        assert tasks.sleep.delay(0.5).get(timeout=SOON) == 0.5


@contextmanager
def _ignored(number: signal.Signals) -> Iterator[None]:
    before = signal.signal(number, signal.SIG_IGN)
    yield
    signal.signal(number, before)


def test_a_worker_whose_starter_ignored_the_ends_of_children_sees_them(sqlite_place: Place) -> None:
    # given
    with ExitStack() as stack:
        with _ignored(signal.SIGCHLD):
            worker = stack.enter_context(WorkerProcess(sqlite_place, children=1))

        # when
        worker.children[0].send(signal.SIGKILL)

        # then
        eventually(lambda: worker.said("died (signal 9 (SIGKILL))"), within=SOON)
        assert tasks.add.delay(1, 1).get(timeout=SOON) == 2
        assert worker.stop() == 0


def _stewards(worker: WorkerProcess) -> list[Identity]:
    return [one for one in worker.members() if _name_of(one) == "celeryd-steward"]


def _was_reaped(one: Identity) -> bool:
    return not Path(f"/proc/{one.pid}").exists()


def _name_of(one: Identity) -> str:
    try:
        return Path(f"/proc/{one.pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def test_a_worker_that_is_to_stop_while_it_has_no_steward_leaves_no_row(sqlite_place: Place) -> None:
    """Lives that are short make it wait with the next steward, which has to sign off all the same."""
    # given
    with WorkerProcess(sqlite_place, children=1) as worker:
        for _ in range(4):
            (steward,) = eventually(partial(_stewards, worker), within=SOON)
            steward.send(signal.SIGKILL)
            eventually(partial(_was_reaped, steward), within=SOON)

        # when
        worker.send(signal.SIGTERM)

        # then
        assert worker.wait() == 0
    assert sqlite_place.workers() == []
