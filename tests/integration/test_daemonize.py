"""A program that becomes a daemon, and celeryd as one, looked at from outside."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celery.platform import PIDFile
from tests.helpers import eventually
from tests.integration.places import Place
from tests.integration.project import SOON, Project, daemon_of

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


# celeryd


@pytest.fixture
def project(sqlite_place: Place) -> Project:
    return Project(sqlite_place)


@pytest.fixture
def elsewhere(project: Project) -> Iterator[Path]:
    """A folder that is not the project's. No daemon that is started there outlives the test."""
    folder = project.folder.parent / "elsewhere"
    folder.mkdir()
    with daemon_of(folder / "celeryd.pid"):
        yield folder


def pid_in(folder: Path) -> int:
    return PIDFile(folder / "celeryd.pid").get_pid() or 0


def test_celeryd_finds_the_project_and_keeps_its_files_where_it_was_started(project: Project, elsewhere: Path) -> None:
    # when
    started = project.run("-d", "-c", "1", cwd=elsewhere, DJANGO_PROJECT_DIR="../project")

    # then
    assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
    assert project.ask() == "first"
    assert {path.name for path in elsewhere.iterdir()} == {"celeryd.log", "celeryd.pid"}
    assert Path(f"/proc/{pid_in(elsewhere)}/cwd").readlink() == Path("/")
    modes = [stat.S_IMODE((elsewhere / name).stat().st_mode) for name in ("celeryd.log", "celeryd.pid")]
    assert modes == [0o640, 0o644]


def test_celeryd_has_a_umask_of_its_own_in_the_background(project: Project, elsewhere: Path) -> None:
    # given
    before = os.umask(0o002)

    # when
    try:
        started = project.run("-d", "-c", "1", cwd=elsewhere)
    finally:
        os.umask(before)
    project.write(elsewhere / "made")

    # then
    assert started.returncode == 0
    assert stat.S_IMODE((elsewhere / "made").stat().st_mode) == 0o644


def test_celeryd_in_the_background_takes_options_for_its_files(project: Project, elsewhere: Path) -> None:
    # when
    started = project.run("-d", "-c1", "-f", "own.log", cwd=elsewhere, CELERYD_UMASK="077", CELERYD_LOGFILE="not.this")

    # then
    assert started.returncode == 0
    assert project.ask() == "first"
    assert {path.name for path in elsewhere.iterdir()} == {"own.log", "celeryd.pid"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in elsewhere.iterdir()} == {0o600}


def test_a_daemon_starts_anew_with_new_code_from_the_folder_where_it_was_started(
    project: Project, elsewhere: Path
) -> None:
    # given
    options = ["-d", "-c", "1", "-f", "own.log"]
    project.run(*options, cwd=elsewhere, DJANGO_PROJECT_DIR="../project", CELERYD_NAME="gardener")
    project.wait_until_ready(file=elsewhere / "own.log")
    first = pid_in(elsewhere)

    # when
    project.answer("new code")
    os.kill(first, signal.SIGHUP)
    project.wait_until_ready(times=2, file=elsewhere / "own.log")

    # then
    assert project.ask() == "new code"
    assert pid_in(elsewhere) != first
    assert project.said("Worker gardener is ready", elsewhere / "own.log") == 2
    assert {path.name for path in elsewhere.iterdir()} == {"own.log", "celeryd.pid"}


def test_a_daemon_whose_new_code_is_broken_says_so_in_its_log(project: Project, elsewhere: Path) -> None:
    # given
    project.run("-d", "-c", "1", cwd=elsewhere)
    project.wait_until_ready(file=elsewhere / "celeryd.log")
    pid = pid_in(elsewhere)

    # when
    project.tasks.write_text("def value(:\n")
    os.kill(pid, signal.SIGHUP)

    # then
    eventually(lambda: project.said("SyntaxError", elsewhere / "celeryd.log") == 1, within=SOON)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), within=SOON)
    assert not (elsewhere / "celeryd.pid").exists()


def test_what_a_killed_daemon_leaves_is_no_obstacle_for_the_next(project: Project, elsewhere: Path) -> None:
    # given
    project.run("-d", "-c", "1", cwd=elsewhere)
    project.wait_until_ready(file=elsewhere / "celeryd.log")
    killed = pid_in(elsewhere)
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{killed}").exists(), within=SOON)
    assert pid_in(elsewhere) == killed

    # when
    started = project.run("-d", "-c", "1", cwd=elsewhere)

    # then
    assert (started.returncode, started.stderr) == (0, "")
    assert pid_in(elsewhere) not in {0, killed}
    assert project.ask() == "first"


def test_a_second_daemon_in_one_folder_is_refused(project: Project, elsewhere: Path) -> None:
    # given
    project.run("-d", "-c", "1", cwd=elsewhere)

    # when
    second = project.run("-d", "-c", "1", cwd=elsewhere)

    # then
    assert second.returncode == 1
    assert f"celeryd runs already with pid {pid_in(elsewhere)}" in second.stderr
    assert project.ask() == "first"


def test_a_second_start_of_the_same_daemon_is_told_its_pid_and_not_to_choose_another_socket(
    project: Project, elsewhere: Path
) -> None:
    # given
    options = ["-d", "-c", "1", "--socket", "ping"]
    project.run(*options, cwd=elsewhere)
    project.wait_until_ready(file=elsewhere / "celeryd.log")
    pid = pid_in(elsewhere)

    # when
    second = project.run(*options, cwd=elsewhere)

    # then
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == f"celeryd runs already with pid {pid} (pid file {elsewhere / 'celeryd.pid'}).\n"
    assert pid_in(elsewhere) == pid
    assert project.ask() == "first"
    assert project.run("--ping", "--socket", "ping", cwd=elsewhere).returncode == 0
