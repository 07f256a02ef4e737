"""celery.datastructures, celery.timer, celery.log and celery.platform."""

import fcntl
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celery import log, result, timer
from celery.datastructures import ExceptionInfo, PositionQueue
from celery.log import emergency_error, setup_logger
from celery.platform import PIDFile, remove_pidfile
from celery.timer import EventTimer, TimeoutTimer
from tests.helpers import eventually
from tests.memory_backend import MemoryBackend
from tests.seed.table import rows_of

of_structures = rows_of("celery.datastructures")
of_timers = rows_of("celery.timer")
of_log = rows_of("celery.log")
of_platform = rows_of("celery.platform")

ROOT = Path(__file__).resolve().parents[2]

# -- datastructures


@of_structures("PositionQueue", "PositionQueue.full", "PositionQueue.filled", "PositionQueue.__len__")
@of_structures("PositionQueue.UnfilledPosition")
def test_a_queue_of_positions_is_filled_in_any_order() -> None:
    queue = PositionQueue(length=3)
    assert all(isinstance(place, queue.UnfilledPosition) for place in queue)
    assert [place.position for place in queue] == [0, 1, 2]

    queue[2] = "c"
    queue[0] = None
    assert (queue.__len__(), len(queue), queue.filled, queue.full()) == (2, 2, [None, "c"], False)

    queue[1] = "b"
    assert (len(queue), queue.filled, queue.full()) == (3, [None, "b", "c"], True)


@of_structures("ExceptionInfo", "ExceptionInfo.exception", "ExceptionInfo.traceback")
def test_an_exception_info_has_the_exception_and_its_traceback_as_text() -> None:
    error = KeyError("no such feed")
    try:
        raise error
    except KeyError:
        info = ExceptionInfo(sys.exc_info())

    assert info.exception is error
    assert "raise error" in info.traceback
    assert info.traceback.endswith("KeyError: 'no such feed'\n")


# -- timers


class Clock:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", made)
    return made


@of_timers("EventTimer", "EventTimer.tick")
def test_an_event_happens_at_its_interval(clock: Clock) -> None:
    moments: list[float] = []
    timer = EventTimer(lambda: moments.append(clock.now), interval=10)

    for moment in (1000, 1005, 1011, 1012, 1022):
        clock.now = moment
        timer.tick()

    assert moments == [1011, 1022]


@of_timers("TimeoutTimer", "TimeoutTimer.tick", "TimeoutError")
def test_a_timeout_raises_when_the_time_is_up(clock: Clock) -> None:
    made = TimeoutTimer(10, "the feed is slow")
    for_ever = TimeoutTimer(None)

    clock.now += 9
    made.tick()
    clock.now += 2
    with pytest.raises(timer.TimeoutError, match="the feed is slow"):
        made.tick()
    for_ever.tick()


@of_timers("fix: a timeout of 0 meant no timeout")
def test_a_timeout_of_zero_is_over_at_once(clock: Clock) -> None:
    with pytest.raises(timer.TimeoutError):
        TimeoutTimer(0).tick()


@of_timers("TimeoutError")
def test_waiting_for_a_result_raises_the_same_error() -> None:
    with pytest.raises(timer.TimeoutError) as raised:
        result.BaseAsyncResult("x", MemoryBackend()).wait(timeout=0)
    assert raised.type is timer.TimeoutError


# -- the log


@of_log("setup_logger")
def test_the_log_goes_to_its_file_in_its_form_from_its_level_on(tmp_path: Path, clean_log: None) -> None:
    path = tmp_path / "log"

    logger = setup_logger(loglevel=logging.WARNING, logfile=str(path), format="<%(message)s>")
    logger.info("not told")
    logger.warning("told")

    assert path.read_text() == "<told>\n"
    assert log.current_file() == str(path)


@of_log("setup_logger")
def test_without_a_file_the_log_goes_to_standard_error(clean_log: None, capsys: pytest.CaptureFixture[str]) -> None:
    setup_logger("ERROR").error("told")

    assert capsys.readouterr().err.endswith("told\n")


@of_log("fix: the root logger and LOGGING were changed")
def test_the_root_logger_and_those_of_the_project_are_left_alone(tmp_path: Path, clean_log: None) -> None:
    # given
    root, project = logging.getLogger(), logging.getLogger("shop")
    handler = logging.NullHandler()
    logging.getLogger("celery").addHandler(handler)
    before = [(list(logger.handlers), logger.level, logger.disabled) for logger in (root, project)]

    # when
    setup_logger("DEBUG")

    # then
    assert [(list(logger.handlers), logger.level, logger.disabled) for logger in (root, project)] == before
    assert logging.getLogger("celery").handlers == [handler]


@of_log("emergency_error")
def test_a_line_is_written_where_logging_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.Logger, "handle", lambda *_: pytest.fail("it logged"))

    emergency_error(str(tmp_path / "log"), "the broker is on fire")
    emergency_error("/no such folder/log", "the disk, too")

    assert "the broker is on fire" in (tmp_path / "log").read_text()
    assert "the disk, too" in capfd.readouterr().err


# -- pid files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "celeryd.pid"


@of_platform("PIDFile", "PIDFile.write", "PIDFile.get_pid", "PIDFile.remove")
def test_a_pid_file_has_our_pid_until_it_is_removed(path: Path) -> None:
    file = PIDFile(str(path))
    assert file.get_pid() is None

    file.write()
    assert file.get_pid() == PIDFile(path).get_pid() == os.getpid()

    file.remove()
    assert not path.exists()


@of_platform("PIDFile.check")
def test_a_stale_file_is_removed(path: Path) -> None:
    path.write_text("4194304\n")

    PIDFile(path).check()

    assert not path.exists()


@of_platform("PIDFile.check", "remove_pidfile")
def test_the_file_of_a_running_daemon_is_respected(path: Path) -> None:
    path.write_text("4711\n")
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        with pytest.raises(SystemExit, match="4711"):
            PIDFile(path).check()
        remove_pidfile(path)
        assert path.exists()

    remove_pidfile(path)
    assert not path.exists()
    remove_pidfile(str(path))


@of_platform("fix: a pid that was reused by another program")
def test_a_file_whose_pid_belongs_to_another_program_now_is_stale(path: Path) -> None:
    path.write_text(f"{os.getppid()}\n")

    PIDFile(path).check()

    assert not path.exists()


# -- daemons

PROGRAM = """
import json, os, sys, time
from pathlib import Path
from celery.log import setup_logger
from celery.platform import daemonize
home = Path.cwd()
logger = setup_logger("INFO", str(home / "log"), "%(message)s")
held = daemonize("celeryd.pid")
logger.info("still heard")
facts = {"pid": os.getpid(), "session": os.getsid(0), "folder": os.getcwd()}
(home / "facts.tmp").write_text(json.dumps(facts))
(home / "facts.tmp").rename(home / "facts")
deadline = time.monotonic() + 60
while not (home / "end").exists() and time.monotonic() < deadline:
    time.sleep(0.01)
held.remove()
(home / "ended").touch()
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Path]:
    """Start a program that becomes a daemon; return its folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "tests.shop.settings"}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, capture_output=True, timeout=30, check=False
    )
    assert ended.returncode == 0, ended.stderr
    yield tmp_path
    (tmp_path / "end").touch()
    eventually((tmp_path / "ended").exists, within=15)


@of_platform("daemonize")
def test_a_daemon_goes_on_in_the_background_and_holds_its_pid_file(daemon: Path) -> None:
    """The program in `PROGRAM` calls daemonize; the one that was started has ended by now."""
    eventually((daemon / "facts").exists, within=15)
    facts: Any = json.loads((daemon / "facts").read_text())

    assert PIDFile(daemon / "celeryd.pid").get_pid() == facts["pid"]
    assert facts["folder"] == "/"
    assert facts["session"] != os.getsid(0)
    with pytest.raises(SystemExit):
        PIDFile(daemon / "celeryd.pid").check()


@of_platform("fix: the log's own descriptor was closed")
def test_a_daemon_is_still_heard(daemon: Path) -> None:
    eventually((daemon / "facts").exists, within=15)

    assert (daemon / "log").read_text() == "still heard\n"
