"""A project in a folder of its own, whose code a test may change, and the console script celeryd for it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery.messaging import TaskPublisher
from celery.platform import PIDFile
from celery.result import AsyncResult
from tests.helpers import eventually
from tests.integration.places import Place
from tests.integration.worker import in_group
from tests.shop.daemon import ROOT

SOON = 20.0

#: What pip makes of the entry point; -P keeps the current folder from sys.path.
SCRIPT = [sys.executable, "-P", "-c", "import sys; from celery.bin.entry import main; sys.exit(main())"]

SETTINGS = """
from tests.integration.settings import *
from tests.integration.settings import INSTALLED_APPS
INSTALLED_APPS = [*INSTALLED_APPS, "garden"]
"""

TASKS = """
from pathlib import Path
from celery.task import task

@task(name="garden.value")
def value():
    return {value!r}

@task(name="garden.write")
def write(path):
    Path(path).write_text("by a task")
"""


class Project:
    """The folder, with a module of settings and one of tasks."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.folder = place.folder / "project"
        self.tasks = self.folder / "garden" / "tasks.py"
        self.output = place.folder / "output"
        self.tasks.parent.mkdir(parents=True)
        (self.folder / "garden_settings.py").write_text(SETTINGS)
        (self.tasks.parent / "__init__.py").touch()
        self.answer("first")

    def answer(self, value: str) -> None:
        """Have the task `garden.value` return `value` from the next start on."""
        self.tasks.write_text(TASKS.format(value=value))

    def environment(self, **variables: str) -> dict[str, str]:
        known = {**os.environ, **self.place.environment(), "DJANGO_SETTINGS_MODULE": "garden_settings"}
        return {**known, "PYTHONPATH": str(ROOT), "DJANGO_PROJECT_DIR": str(self.folder), **variables}

    @contextmanager
    def running(self, *options: str, cwd: Path | None = None, **variables: Any) -> Iterator["subprocess.Popen[bytes]"]:
        """Run celeryd in the foreground until the end of the block; nothing of it is left then."""
        with self.output.open("ab") as file:
            process = subprocess.Popen(
                [*SCRIPT, *options],
                env=self.environment(**variables),
                cwd=cwd or self.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                process_group=0,
            )
        try:
            yield process
        finally:
            try:
                process.terminate()
                process.wait(SOON)
            finally:
                process.kill()
                process.wait()
            eventually(lambda: in_group(process.pid) == [], within=SOON)

    def run(self, *options: str, cwd: Path | None = None, **variables: Any) -> "subprocess.CompletedProcess[str]":
        """Run celeryd until it ends by itself."""
        return subprocess.run(
            [*SCRIPT, *options],
            env=self.environment(**variables),
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def said(self, words: str, file: Path | None = None) -> int:
        """Return how often `words` are in what was written to standard error, or in `file`."""
        path = file or self.output
        return path.read_text(errors="replace").count(words) if path.exists() else 0

    def wait_until_ready(self, times: int = 1, file: Path | None = None) -> None:
        """Return when a worker has said so often that it is ready."""
        eventually(lambda: self.said("is ready", file) >= times, within=SOON)

    def ask(self) -> Any:
        """Return what the task `garden.value` returns in the worker."""
        return self._get("garden.value")

    def write(self, path: Path) -> None:
        """Have a task write a file."""
        self._get("garden.write", str(path))

    def _get(self, name: str, *args: str) -> Any:
        return AsyncResult[Any](TaskPublisher().delay_task(name, list(args), {})).get(timeout=SOON)


@contextmanager
def daemon_of(pidfile: Path) -> Iterator[None]:
    """End the daemon that holds `pidfile` after the block, whatever happened."""
    try:
        yield
    finally:
        pid = PIDFile(pidfile).get_pid()
        while pid and _is_alive(pid):
            os.kill(pid, 15)
            eventually(lambda pid=pid: not _is_alive(pid), within=SOON)  # type: ignore[misc]
            pid = PIDFile(pidfile).get_pid()


def _is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
