"""What an operator says by signals, and the exit codes."""

import re
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.helpers import eventually
from tests.integration.oddities import tasks as oddities
from tests.integration.places import Place
from tests.integration.worker import WorkerProcess
from tests.shop import tasks

SOON = 15.0


def _hold_both_children(place: Place, gate: Path) -> None:
    for token in ("one", "other"):
        oddities.hold.delay(place.ledger, token, str(gate))
    eventually(lambda: place.was_executed("one", "other"), within=SOON)


def _assert_given_back(place: Place, number: int) -> None:
    """So many messages are in the queue again, and nothing was counted against them."""
    eventually(lambda: place.waiting() == number, within=SOON)
    rows = place.messages()
    assert [(row.owner, row.crashes, row.starts) for row in rows] == [(None, 0, 0)] * (
        0 if place.is_relaying else number
    )
    assert place.workers() == []


def _has_heard(worker: WorkerProcess, times: int) -> bool:
    return worker.said("stops; running tasks have") >= times


def _ends_when_told_again(worker: WorkerProcess) -> bool:
    """Send TERM once more: two that come together count as one."""
    worker.send(signal.SIGTERM)
    return worker.process.poll() is not None


def _is_over(moment: float) -> bool:
    return time.monotonic() >= moment


def _threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def test_term_drains(place: Place, tmp_path: Path) -> None:
    # given
    gate = tmp_path / "gate"
    with WorkerProcess(place) as worker:
        _hold_both_children(place, gate)
        unstarted = [tasks.record.delay(place.ledger, f"unstarted {number}") for number in range(10)]
        eventually(lambda: place.waiting() < 10, within=SOON)  # else nothing is given back that could be seen

        # when
        worker.send(signal.SIGTERM)
        eventually(partial(_has_heard, worker, 1), within=SOON)
        eventually(lambda: place.waiting() == 10, within=SOON)  # else a child that ends its task begins another
        gate.touch()

        # then
        assert worker.wait() == 0
    assert place.executions() == {"one": 1, "other": 1}
    assert [row.status for row in place.results().values()] == ["DONE", "DONE"]
    _assert_given_back(place, 10)

    # when
    with WorkerProcess(place):
        # then
        assert [result.get(timeout=SOON) for result in unstarted] == [f"unstarted {number}" for number in range(10)]
        assert set(place.executions().values()) == {1}


def test_a_ctrl_c_that_all_processes_get_drains_too(sqlite_place: Place, tmp_path: Path) -> None:
    # given
    gate = tmp_path / "gate"
    with WorkerProcess(sqlite_place) as worker:
        _hold_both_children(sqlite_place, gate)
        tasks.record.delay(sqlite_place.ledger, "unstarted")
        eventually(lambda: sqlite_place.waiting() == 0, within=SOON)

        # when
        worker.send_to_group(signal.SIGINT)
        eventually(partial(_has_heard, worker, 1), within=SOON)
        eventually(lambda: sqlite_place.waiting() == 1, within=SOON)
        gate.touch()

        # then
        assert worker.wait() == 0
    assert sqlite_place.executions() == {"one": 1, "other": 1}
    _assert_given_back(sqlite_place, 1)


def test_what_is_left_when_the_time_to_drain_is_over_goes_back(place: Place, tmp_path: Path) -> None:
    # given
    with WorkerProcess(place, settings={"CELERYD_DRAIN_TIMEOUT": 0.3}) as worker:
        _hold_both_children(place, tmp_path / "never")

        # when
        worker.send(signal.SIGTERM)

        # then
        assert worker.wait() == 3
    _assert_given_back(place, 2)
    assert place.results() == {}


def test_quit_ends_it_at_once(place: Place, tmp_path: Path) -> None:
    # given
    with WorkerProcess(place) as worker:
        _hold_both_children(place, tmp_path / "never")

        # when
        worker.send(signal.SIGQUIT)

        # then
        assert worker.wait(within=5) == 3
    _assert_given_back(place, 2)


def test_a_second_term_ends_it_at_once(sqlite_place: Place, tmp_path: Path) -> None:
    # given
    with WorkerProcess(sqlite_place) as worker:
        _hold_both_children(sqlite_place, tmp_path / "never")

        # when
        worker.send(signal.SIGTERM)
        eventually(partial(_has_heard, worker, 1), within=SOON)
        eventually(partial(_ends_when_told_again, worker), within=5)

        # then
        assert worker.wait() == 3
    _assert_given_back(sqlite_place, 2)


def test_term_loses_nothing_that_was_to_run_at_most_once(place: Place) -> None:
    # given
    with WorkerProcess(place) as worker:
        results = oddities.record_once.delay_many((place.ledger, f"once {number}", 0.02) for number in range(60))
        eventually(lambda: len(place.executions()) > 5, within=SOON)

        # when
        worker.send(signal.SIGTERM)

        # then
        assert worker.wait() == 0
    assert {row.status for row in place.results().values()} == {"DONE"}

    # when
    with WorkerProcess(place):
        # then
        assert [result.get(timeout=SOON) for result in results] == [f"once {number}" for number in range(60)]
        assert set(place.executions().values()) == {1}


def test_hup_drains_and_starts_anew_with_the_same_pid(sqlite_place: Place, tmp_path: Path) -> None:
    # given
    gate = tmp_path / "gate"
    with WorkerProcess(sqlite_place) as worker:
        _hold_both_children(sqlite_place, gate)
        later = tasks.record.delay(sqlite_place.ledger, "later")
        crew = worker.members()

        # when
        worker.send(signal.SIGHUP)
        eventually(lambda: worker.said("stops; running tasks have"), within=SOON)
        gate.touch()
        worker.wait_until_ready(times=2)

        # then
        assert later.get(timeout=SOON) == "later"
        assert not any(one.is_alive() for one in crew)
        assert worker.process.poll() is None
        assert int(worker.pidfile.read_text()) == worker.pid
        assert sqlite_place.executions() == {"one": 1, "other": 1, "later": 1}
        assert worker.stop() == 0


@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_term_wins_over_a_hup_that_follows_it(sqlite_place: Place, tmp_path: Path, pause: float) -> None:
    """A terminal that is closed after a Ctrl-C sends one."""
    # given
    gate = tmp_path / "gate"
    with WorkerProcess(sqlite_place) as worker:
        _hold_both_children(sqlite_place, gate)

        # when
        worker.send(signal.SIGTERM)
        eventually(partial(_has_heard, worker, 1), within=SOON)
        eventually(partial(_is_over, time.monotonic() + pause))
        worker.send(signal.SIGHUP)
        gate.touch()

        # then
        worker.wait(within=8)


def test_a_term_right_after_a_hup_is_not_forgotten(sqlite_place: Place, tmp_path: Path) -> None:
    # given
    with WorkerProcess(sqlite_place) as worker:
        _hold_both_children(sqlite_place, tmp_path / "never")

        # when
        worker.send(signal.SIGHUP)
        eventually(partial(_has_heard, worker, 1), within=SOON)
        worker.send(signal.SIGTERM)
        (tmp_path / "never").touch()

        # then
        worker.wait(within=8)


def test_usr1_dumps_the_stacks_of_all_processes_to_the_log(sqlite_place: Place) -> None:
    # given
    with WorkerProcess(sqlite_place) as worker:
        eventually(lambda: all(_threads(child.pid) == 2 for child in worker.children), within=SOON)

        # when
        worker.send(signal.SIGUSR1)

        # then
        eventually(lambda: len(re.findall(r"^(?:Current t|T)hread 0x", worker.text(), re.MULTILINE)) >= 7, within=SOON)
        text = worker.text()
        for name in ("supervisor.py", "dispatcher.py", "steward.py", "child.py", "writer.py"):
            assert f'celery/worker/{name}"' in text
        assert tasks.add.delay(1, 1).get(timeout=SOON) == 2


def test_usr2_writes_to_a_new_file_when_the_log_was_moved(sqlite_place: Place) -> None:
    # given
    with WorkerProcess(sqlite_place) as worker:
        eventually(lambda: all(_threads(child.pid) == 2 for child in worker.children), within=SOON)
        old = worker.log.rename(worker.log.with_suffix(".old"))

        # when
        worker.send(signal.SIGUSR2)
        eventually(worker.log.exists, within=SOON)
        result = tasks.add.delay(1, 1)
        result.get(timeout=SOON)

        # then
        eventually(lambda: result.task_id in worker.log.read_text(), within=SOON)

        # when
        size = old.stat().st_size
        worker.send(signal.SIGUSR1)

        # then
        eventually(
            lambda: len(re.findall(r"^(?:Current t|T)hread 0x", worker.log.read_text(), re.MULTILINE)) >= 7, within=SOON
        )
        assert old.stat().st_size == size
        assert worker.stop() == 0


def test_quit_says_that_it_stops_at_once(sqlite_place: Place) -> None:
    # given
    with WorkerProcess(sqlite_place, children=1) as worker:
        # when
        worker.send(signal.SIGQUIT)

        # then
        worker.wait(within=5)
        assert worker.said("stops at once; running tasks are killed") == 1
        assert not _has_heard(worker, 1)


def test_its_last_line_says_that_it_has_stopped(sqlite_place: Place) -> None:
    # given
    with WorkerProcess(sqlite_place, children=1) as worker:
        # when
        assert worker.stop() == 0

        # then
        assert worker.log.read_text().splitlines()[-1].endswith("Worker worker has stopped.")


def test_usr2_keeps_the_worker_and_its_log_when_the_folder_of_the_log_is_gone(sqlite_place: Place) -> None:
    # given
    worker = WorkerProcess(sqlite_place, children=1)
    worker.log = worker.log.parent / "logs" / worker.log.name
    worker.log.parent.mkdir()
    with worker:
        eventually(lambda: _threads(worker.children[0].pid) == 2, within=SOON)
        moved = worker.log.parent.rename(worker.log.parent.with_name("moved"))
        family = worker.members()

        # when
        worker.send(signal.SIGUSR2)

        # then
        assert tasks.add.delay(1, 1).get(timeout=SOON) == 2
        assert worker.members() == family
        moved.rename(worker.log.parent)
        assert worker.stop() == 0
