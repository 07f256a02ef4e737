"""What celeryd writes, and where: rotation, JSON, the project's own LOGGING, modes, and a disk that is full."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from celery.messaging import TaskPublisher
from tests.helpers import eventually
from tests.integration.places import Place
from tests.integration.project import SOON, Project
from tests.integration.worker import WorkerProcess
from tests.shop import tasks
from tests.shop.daemon import ROOT

LOGROTATE = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
EXAMPLE = ROOT / "docs" / "examples" / "deploy" / "logrotate.conf"


def open_files(pid: int) -> set[str]:
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(str(link.readlink()))
        except FileNotFoundError:
            continue
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_usr2_has_every_process_write_to_the_new_file(sqlite_place: Place) -> None:
    # given
    with WorkerProcess(sqlite_place, children=2) as worker:
        everybody = [worker.pid, *(one.pid for one in worker.members())]
        old = worker.log.rename(worker.log.with_suffix(".1"))
        assert all(str(old) in open_files(pid) for pid in everybody)

        # when
        worker.send(signal.SIGUSR2)

        # then
        eventually(lambda: not any(str(old) in open_files(pid) for pid in everybody), within=SOON)
        assert [str(worker.log) in open_files(pid) for pid in everybody] == [True] * 5
        assert worker.stop() == 0
        assert "has stopped" in worker.log.read_text()


@pytest.mark.skipif(LOGROTATE is None, reason="there is no logrotate here")
def test_the_example_for_logrotate_rotates(sqlite_place: Place, tmp_path: Path) -> None:
    # given
    with WorkerProcess(sqlite_place, children=1) as worker:
        text = EXAMPLE.read_text().replace("/var/log/celeryd/*.log", str(worker.log)).replace(" celeryd adm", "")
        (told,) = re.findall(r"# Without systemd: (.*)", text)
        text = re.sub(r"systemctl .*", told.replace("/run/celeryd/celeryd.pid", str(worker.pidfile)), text)
        (tmp_path / "logrotate.conf").write_text(text)
        (tmp_path / "logrotate.conf").chmod(0o644)
        command = [str(LOGROTATE), "--force", "--state", str(tmp_path / "state"), str(tmp_path / "logrotate.conf")]

        # when
        rotated = subprocess.run(command, capture_output=True, text=True, check=False)

        # then
        assert (rotated.returncode, rotated.stderr) == (0, "")
        old = worker.log.with_name(f"{worker.log.name}.1")
        assert "is ready" in old.read_text()
        result = tasks.add.delay(2, 2)
        assert result.get(timeout=SOON) == 4
        eventually(lambda: result.task_id in worker.log.read_text(), within=SOON)
        assert result.task_id not in old.read_text()
        assert mode(worker.log) == 0o640


@pytest.mark.parametrize("is_set", [True, False], ids=["setting", "option"])
def test_every_line_is_a_json_object(sqlite_place: Place, is_set: bool) -> None:
    # given
    settings = {"CELERYD_DAEMON_LOG_FORMAT": "json"} if is_set else {}
    options = [] if is_set else ["--log-format", "json"]
    with WorkerProcess(sqlite_place, children=1, settings=settings, options=options) as worker:
        # when
        done, failed = tasks.add.delay(2, 2), tasks.fail.delay("two\nlines \u2028 \0")
        done.get(timeout=SOON)
        eventually(lambda: worker.said(failed.task_id) > 0, within=SOON)
        assert worker.stop() == 0

        # then
        lines: list[Any] = [json.loads(line) for line in worker.log.read_text().splitlines()]
    by_task = {line["task_id"]: line for line in lines if "task_id" in line}
    assert (by_task[done.task_id]["state"], by_task[done.task_id]["task_name"]) == ("DONE", "shop.add")
    assert by_task[done.task_id]["runtime"] >= 0
    assert by_task[done.task_id]["process"] == "child-1"
    assert (by_task[failed.task_id]["state"], by_task[failed.task_id]["level"]) == ("FAILURE", "ERROR")
    (ready,) = [line for line in lines if "is ready" in line["message"]]
    assert (ready["worker"], ready["concurrency"]) == ("worker", 1)


def test_no_line_is_forged_by_an_error_or_the_name_of_a_task(sqlite_place: Place) -> None:
    # given
    odd = "x\n[2026-11-22 10:00:00,000: INFO/child-1] Task fake[1] done\x1b[31m"
    with WorkerProcess(sqlite_place, children=1) as worker:
        # when
        failed = tasks.fail.delay(odd)
        TaskPublisher().delay_task(odd, [], {})

        # then
        eventually(lambda: worker.said(failed.task_id) > 0 and worker.said("waits until") > 0, within=SOON)
        assert worker.stop() == 0
        lines = worker.log.read_text().splitlines()
    assert [line for line in lines if line.startswith("[2026-11-22 10:00:00,000") or not line.isprintable()] == []
    assert any("ended as FAILURE" in line and "Task fake[1] done" in line for line in lines)


@pytest.mark.parametrize("disabled", [True, False])
def test_the_logging_of_the_project_does_not_silence_or_double_us(sqlite_place: Place, disabled: bool) -> None:
    # given
    project = Project(sqlite_place)
    console = {"class": "logging.StreamHandler"}
    logging = {"version": 1, "handlers": {"console": console}, "root": {"handlers": ["console"], "level": "DEBUG"}}
    settings = json.dumps({"LOGGING": {**logging, "disable_existing_loggers": disabled}})

    # when
    with project.running("-c", "1", WORKER_SETTINGS=settings):
        project.wait_until_ready()
        assert project.ask() == "first"

    # then
    assert project.said("is ready") == 1
    assert project.said("Task garden.value[") == 1
    assert project.said("has stopped") == 1


def test_a_handler_of_the_project_gets_the_lines_instead_of_standard_error(sqlite_place: Place) -> None:
    # given
    project = Project(sqlite_place)
    file = project.folder / "theirs.log"
    handlers = {"file": {"class": "logging.FileHandler", "filename": str(file)}}
    loggers = {"celery": {"handlers": ["file"], "level": "INFO", "propagate": False}}
    settings = json.dumps({"LOGGING": {"version": 1, "handlers": handlers, "loggers": loggers}})

    # when
    with project.running("-c", "1", WORKER_SETTINGS=settings):
        project.wait_until_ready(file=file)
        assert project.ask() == "first"

    # then
    assert project.said("Task garden.value[", file) == 1
    assert project.output.read_text() == ""


def test_a_disk_that_is_full_ends_no_worker(sqlite_place: Place) -> None:
    # given
    project = Project(sqlite_place)

    # when
    with project.running("-c", "1", "-f", "/dev/full") as process:
        assert project.ask() == "first"
        process.terminate()

        # then
        assert process.wait(SOON) == 0
    assert project.said("the log file /dev/full cannot be written: No space left on device. Its lines are lost.") > 0
    assert project.said("Traceback") == 0


def test_a_folder_that_vanishes_ends_no_worker(sqlite_place: Place) -> None:
    # given
    project = Project(sqlite_place)
    log = project.folder / "logs" / "celeryd.log"
    log.parent.mkdir()

    # when
    with project.running("-c", "1", "-f", str(log)) as process:
        project.wait_until_ready(file=log)
        shutil.rmtree(log.parent)
        process.send_signal(signal.SIGUSR2)
        assert project.ask() == "first"

        # then
        log.parent.mkdir()
        assert project.ask() == "first"
        # A result is stored before its line is written: the line of the first task may come this late, too.
        eventually(lambda: project.said("Task garden.value[", log) >= 1, within=SOON)
        process.terminate()
        assert process.wait(SOON) == 0


@pytest.mark.parametrize(
    ("mask", "log_mode", "pid_mode", "task_mode"), [("022", 0o640, 0o644, 0o644), ("077", 0o600, 0o600, 0o600)]
)
def test_the_umask_holds_for_all_files(
    sqlite_place: Place, mask: str, log_mode: int, pid_mode: int, task_mode: int
) -> None:
    # given
    project = Project(sqlite_place)
    log, pidfile, made = (project.folder / name for name in ("a.log", "a.pid", "made"))

    # when
    with project.running("-c", "1", "-f", str(log), "-p", str(pidfile), CELERYD_UMASK=mask):
        project.wait_until_ready(file=log)
        project.write(made)

        # then
        assert (mode(log), mode(pidfile), mode(made)) == (log_mode, pid_mode, task_mode)
