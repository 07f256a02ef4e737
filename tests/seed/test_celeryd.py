"""celery.bin.celeryd and celery.worker: real workers, started as in 2009."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from celery.bin import celeryd
from celery.management.commands.celeryd import Command
from celery.messaging import TaskPublisher
from celery.models import PeriodicTaskMeta
from celery.platform import PIDFile
from celery.result import TaskSetResult
from celery.worker import WorkController
from tests.helpers import eventually
from tests.integration.places import Place
from tests.integration.worker import WorkerProcess
from tests.seed.names import SEED
from tests.seed.table import rows_of
from tests.shop import tasks
from tests.shop.daemon import ROOT

SOON = 15.0

row = rows_of("celery.bin.celeryd")
of_worker = rows_of("celery.worker")
of_conf = rows_of("celery.conf")

#: What pip makes of the entry point; -P keeps the current folder from sys.path.
SCRIPT = [sys.executable, "-P", "-c", "import sys; from celery.bin.celeryd import main; sys.exit(main())"]
MANAGE = [sys.executable, "-m", "tests.shop.manage", "celeryd"]

SETTINGS = """
from tests.integration.settings import *
from tests.integration.settings import INSTALLED_APPS
INSTALLED_APPS = [*INSTALLED_APPS, "seed_feeds"]
CELERYD_BEAT = True
"""

TASKS = """
import os, time
from pathlib import Path
from celery.task import Task, tasks

class Meet(Task):
    name = "seed_feeds.meet"

    def run(self, folder, mine, other, **kwargs):
        (Path(folder) / mine).touch()
        deadline = time.monotonic() + 10
        while not (Path(folder) / other).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        met = (Path(folder) / other).exists()
        return {"met": met, "pid": os.getpid(), "logfile": kwargs["logfile"], "loglevel": kwargs["loglevel"]}

tasks.register(Meet)
"""


@contextmanager
def running(
    place: Place, command: Sequence[str], log: Path, *, cwd: Path = ROOT, **environment: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program that is a worker until the end of the block, when it is told to stop."""
    known = {**os.environ, **place.environment(), "DJANGO_SETTINGS_MODULE": "tests.integration.settings"}
    with (place.folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command, env={**known, **environment}, cwd=cwd, stdout=output, stderr=output, process_group=0
        )
    try:
        eventually(lambda: "is ready" in (log.read_text() if log.exists() else ""), within=SOON)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(SOON)
        finally:
            process.kill()
            process.wait()


@row("-c --concurrency", "-f --logfile", "-l --loglevel", "-p --pidfile", "-w --wakeup-after")
@row("the console script celeryd", "the path of imports", "fix: SQLite forced one process")
def test_the_script_takes_its_options_and_finds_the_project(place: Place) -> None:
    """Settings are in the current folder, tasks in DJANGO_PROJECT_DIR, and two tasks wait for each other on SQLite."""
    # given
    here, there = place.folder / "here", place.folder / "there"
    (there / "seed_feeds").mkdir(parents=True)
    here.mkdir()
    (here / "seed_settings.py").write_text(SETTINGS)
    (there / "seed_feeds" / "__init__.py").touch()
    (there / "seed_feeds" / "tasks.py").write_text(TASKS)
    log, pidfile = place.folder / "a.log", place.folder / "a.pid"
    project = {"DJANGO_SETTINGS_MODULE": "seed_settings", "DJANGO_PROJECT_DIR": str(there), "PYTHONPATH": str(ROOT)}
    options = ["-c", "2", "-f", str(log), "-l", "debug", "-p", str(pidfile), "-w", "0.3", "--no-beat"]

    # when
    with running(place, [*SCRIPT, *options], log, cwd=here, **project) as process:
        sent = [
            TaskPublisher().delay_task("seed_feeds.meet", [str(place.folder), *names], {})
            for names in (("one", "two"), ("two", "one"))
        ]
        values: list[dict[str, Any]] = TaskSetResult[Any]("meeting", sent).join(timeout=SOON)
        pid = PIDFile(pidfile).get_pid()

    # then
    assert process.returncode == 0
    assert pid == process.pid
    assert not pidfile.exists()
    assert [value["met"] for value in values] == [True, True]
    assert len({value["pid"] for value in values}) == 2
    assert {(value["logfile"], value["loglevel"]) for value in values} == {(str(log), 10)}
    text = log.read_text()
    assert f"pid {process.pid}, 2 children" in text
    assert text.count("-w means nothing any more") == 1
    assert not PeriodicTaskMeta.objects.exists()


@row("parse_options", "-c --concurrency", "-f --logfile", "-l --loglevel", "-p --pidfile", "-w --wakeup-after")
@pytest.mark.parametrize(
    "argv",
    [
        ["-c", "3", "-f", "a.log", "-l", "DEBUG", "-p", "a.pid", "-w", "1.5"],
        ["--concurrency=3", "--logfile=a.log", "--loglevel=DEBUG", "--pidfile=a.pid", "--wakeup-after=1.5"],
    ],
)
def test_options_are_parsed_by_their_short_and_long_names(argv: list[str]) -> None:
    found = celeryd.parse_options(argv)

    assert (found.concurrency, found.logfile, found.loglevel, found.pidfile, found.queue_wakeup_after) == (
        *(3, "a.log", "DEBUG", "a.pid", 1.5),
    )


@row("main")
def test_a_worker_can_be_started_by_options_in_python(place: Place) -> None:
    """`celeryd.main` gets what `parse_options` returned."""
    # given
    log = place.folder / "a.log"
    program = (
        "import sys; from celery.bin.celeryd import main, parse_options;"
        "main(**vars(parse_options(['-c', '1', '-l', 'INFO', '-f', sys.argv[1]])))"
    )

    # then
    with running(place, [sys.executable, "-c", program, str(log)], log) as process:
        assert tasks.add.delay(2, 2).get(timeout=SOON) == 4
    assert process.returncode == 0
    assert callable(celeryd.main)


@of_worker("WorkController", "WorkController.run")
def test_a_worker_can_be_started_as_an_object(place: Place) -> None:
    # given
    log = place.folder / "a.log"
    program = (
        "import django, sys; django.setup(); from celery.worker import WorkController;"
        "sys.exit(WorkController(concurrency=1, logfile=sys.argv[1], loglevel='INFO').run())"
    )

    # then
    with running(place, [sys.executable, "-c", program, str(log)], log) as process:
        assert tasks.add.delay(2, 2).get(timeout=SOON) == 4
    assert process.returncode == 0
    assert "1 children" in log.read_text()
    assert callable(WorkController(1).run)


@row("manage.py celeryd")
def test_the_command_takes_the_options_of_the_script(place: Place) -> None:
    # given
    ours = {option for action in Command().create_parser("manage.py", "celeryd")._actions for option in _names(action)}
    named = {word for row in SEED["celery.bin.celeryd"] for word in row.name.split() if word.startswith("-")}

    # then
    assert named - ours == set()
    with WorkerProcess(place, children=1, options=["-w", "0.3", "--no-beat"]) as worker:
        assert tasks.add.delay(2, 2).get(timeout=SOON) == 4
        assert worker.said("1 children") == 1


def _names(action: Any) -> Sequence[str]:
    found: Sequence[str] = action.option_strings
    return found


@row("-d --daemon --detach")
@of_conf("DAEMON_PID_FILE", "DAEMON_LOG_FILE")
@pytest.mark.parametrize("option", ["-d", "--daemon", "--detach"])
def test_a_worker_goes_to_the_background_with_the_files_of_the_settings(place: Place, option: str) -> None:
    """conf.DAEMON_PID_FILE and conf.DAEMON_LOG_FILE say where they are, from the folder where it was started."""
    # given
    folder = place.folder / "home"
    folder.mkdir()
    (folder / "seed_settings.py").write_text(
        "from tests.integration.settings import *\nCELERYD_PID_FILE = 'my.pid'\nCELERYD_LOG_FILE = 'my.log'\n"
    )
    environment = {**os.environ, **place.environment(), "DJANGO_SETTINGS_MODULE": "seed_settings"}
    command = [*SCRIPT, option, "-c", "1"]

    # when
    started = subprocess.run(
        command, env={**environment, "PYTHONPATH": str(ROOT)}, cwd=folder, capture_output=True, timeout=30, check=False
    )

    # then
    with ended_at_last(folder / "my.pid"):
        assert started.returncode == 0, started.stderr.decode()
        assert tasks.add.delay(2, 2).get(timeout=SOON) == 4
        with pytest.raises(SystemExit, match="runs already"):
            PIDFile(folder / "my.pid").check()
        eventually(lambda: "is ready" in (folder / "my.log").read_text(), within=SOON)  # it may say so after a task


@contextmanager
def ended_at_last(pidfile: Path) -> Iterator[None]:
    """End the daemon that holds `pidfile` after the block, and see it take the file along."""
    try:
        yield
    finally:
        pid = PIDFile(pidfile).get_pid()
        if pid:
            os.kill(pid, signal.SIGTERM)
    eventually(lambda: not pidfile.exists(), within=SOON)
