"""A program that becomes a daemon, looked at from outside."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celery.platform import PIDFile
from tests.helpers import eventually

ROOT = Path(__file__).resolve().parents[2]

#: Becomes a daemon, tells what it sees of itself, and stays until the file `end` is there.
PROGRAM = """
import json, os, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from celery.platform import daemonize, remove_pidfile
home = Path.cwd()
os.umask(0)
log = open("log", "w", buffering=1)
print("before")
held = daemonize("celeryd.pid")
print("into nowhere")
log.write("the log is still open\\n")
facts = dict(
    pid=os.getpid(),
    session=os.getsid(0),
    folder=os.getcwd(),
    umask=os.umask(0),
    streams=[os.readlink(f"/proc/self/fd/{{number}}") for number in (0, 1, 2)],
    read=sys.stdin.read() if sys.stdin else "",
)
(home / "facts.tmp").write_text(json.dumps(facts))
(home / "facts.tmp").rename(home / "facts")
deadline = time.monotonic() + 60
while not (home / "end").exists() and time.monotonic() < deadline:
    time.sleep(0.01)
held.release()
(home / "ended").touch()
"""


class Daemon:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pidfile = folder / "celeryd.pid"

    def start(self, redirections: str = "") -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-c", PROGRAM.format(root=str(ROOT))]
        command = ["sh", "-c", f'exec "$@" {redirections}', "sh", *program] if redirections else program
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=30, check=False)

    def facts(self) -> Any:
        eventually((self.folder / "facts").exists, within=15)
        return json.loads((self.folder / "facts").read_text())

    def stop(self) -> None:
        (self.folder / "end").touch()
        if self.pidfile.exists() or (self.folder / "facts").exists():
            eventually((self.folder / "ended").exists, within=15)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    yield made
    made.stop()


def test_its_pid_is_written_when_the_starting_program_ends(daemon: Daemon) -> None:
    # when
    started = daemon.start()

    # then
    assert (started.returncode, started.stdout, started.stderr) == (0, "before\n", "")
    pid = int(daemon.pidfile.read_text())
    assert pid == daemon.facts()["pid"]
    with pytest.raises(SystemExit, match=f"runs already with pid {pid}"):
        PIDFile(daemon.pidfile).check()


def test_it_has_left_terminal_folder_and_umask_behind(daemon: Daemon) -> None:
    # when
    daemon.start()

    # then
    facts = daemon.facts()
    assert facts["session"] not in {facts["pid"], os.getsid(0)}
    assert (facts["folder"], facts["umask"]) == ("/", 0o022)
    assert facts["streams"] == [os.devnull] * 3
    assert facts["read"] == ""


def test_other_files_stay_open(daemon: Daemon) -> None:
    # when
    daemon.start()

    # then
    daemon.facts()
    assert (daemon.folder / "log").read_text() == "the log is still open\n"


def test_its_pid_file_is_gone_when_it_has_ended(daemon: Daemon) -> None:
    # given
    daemon.start()
    daemon.facts()

    # when
    daemon.stop()

    # then
    assert not daemon.pidfile.exists()


def test_a_second_one_is_refused_and_the_first_goes_on(daemon: Daemon) -> None:
    # given
    daemon.start()
    pid = daemon.facts()["pid"]

    # when
    second = daemon.start()

    # then
    assert second.returncode == 1
    assert second.stderr == f"celeryd runs already with pid {pid} (pid file {daemon.pidfile}).\n"
    assert int(daemon.pidfile.read_text()) == pid


def test_what_went_wrong_is_told_by_the_program_that_was_started(daemon: Daemon) -> None:
    # given
    daemon.pidfile.mkdir()

    # when
    started = daemon.start()

    # then
    assert started.returncode == 1
    assert "celeryd.pid cannot be written: Is a directory. Choose another with --pidfile." in started.stderr
    daemon.pidfile.rmdir()


def test_closed_standard_streams_are_no_obstacle(daemon: Daemon) -> None:
    # when
    started = daemon.start(redirections="<&- >&- 2>&-")

    # then
    assert started.returncode == 0
    assert daemon.facts()["streams"] == [os.devnull] * 3
    assert int(daemon.pidfile.read_text()) == daemon.facts()["pid"]
