"""A real celeryd beside the tests, and what can be done to it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.helpers import eventually
from tests.integration.places import Place
from tests.servers.processes import Identity
from tests.shop.daemon import ROOT, Daemon

SECONDS_TO_START = 20.0


class WorkerProcess(Daemon):
    """One celeryd at a place. As a context manager it is ready inside the block, and leaves no process behind."""

    def __init__(  # noqa: PLR0913 - what a worker can be told
        self,
        place: Place,
        *,
        name: str = "worker",
        children: int = 2,
        queues: str = "",
        options: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.place = place
        self.name = name
        self._children = children
        folder = place.folder / name
        folder.mkdir(exist_ok=True)
        environment = {**os.environ, **place.environment(), "DJANGO_SETTINGS_MODULE": "tests.integration.settings"}
        environment["WORKER_SETTINGS"] = json.dumps(settings or {})
        super().__init__(
            folder,
            environment=environment,
            children=children,
            queue=queues or place.queue,
            options=["-n", name, *options],
        )
        self.steward = self.dispatcher = Identity(0, 0)
        self.children: list[Identity] = []
        self._family: list[Identity] = []
        self._ready_before = 0

    def start(self) -> None:
        """Start it; what an earlier worker wrote into the same log does not count."""
        self._ready_before = self.said("is ready")
        super().start()

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self.abandon()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        for member in self._family:
            member.send(signal.SIGCONT)
        self.abandon()
        assert_nothing_left(self)

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until_ready(self, times: int = 1) -> None:
        """Return when it has said so often that it is ready; remember who is who."""
        eventually(lambda: self._is_ready(times), within=SECONDS_TO_START)
        self.look()

    def _is_ready(self, times: int) -> bool:
        self.check()
        return self.said("is ready") >= self._ready_before + times

    def look(self) -> None:
        """Remember the processes in the order of their birth: steward, dispatcher, children."""
        eventually(lambda: len(self.members()) == 2 + self._children, within=5)
        self.steward, self.dispatcher, *self.children = self.members()

    def members(self) -> list[Identity]:
        """Return the processes that the supervisor forked and that live."""
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="utf-8")
        found = [Identity.of(int(pid)) for pid in text.split()]
        living = [one for one in found if one and one.is_alive()]
        self._family = [*{*self._family, *living}]
        return living

    def child(self, pid: int) -> Identity:
        """Return the child with this pid."""
        return next(child for child in self.members() if child.pid == pid)

    def send(self, number: signal.Signals) -> None:
        """Signal the supervisor alone, as an operator does."""
        self.process.send_signal(number)

    def send_to_group(self, number: signal.Signals) -> None:
        """Signal all processes, as a terminal does."""
        os.killpg(self.pid, number)

    def wait(self, within: float = 15.0) -> int:
        """Return the exit code."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"celeryd did not end within {within:g} s. {self.last_words()}") from None

    def text(self) -> str:
        """Return all that it wrote."""
        return "".join(path.read_text(errors="replace") for path in (self.output, self.log) if path.exists())

    @contextmanager
    def unharmed(self) -> Iterator[None]:
        """Fail if a process of the worker dies inside the block."""
        before = self.said("died (")
        yield
        assert self.said("died (") == before, self.last_words()

    def said(self, words: str) -> int:
        """Return how often `words` are in what it wrote."""
        return self.text().count(words)


def assert_nothing_left(worker: WorkerProcess) -> None:
    """Fail if any process of the worker still runs."""
    eventually(lambda: not [one for one in worker._family if one.is_alive()] and not in_group(worker.pid), within=3)


def in_group(group: int) -> list[int]:
    """Return the living processes of a process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found


def run_celeryd(
    place: Place, *options: str, settings: Mapping[str, Any] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run celeryd until it ends by itself, which should be soon."""
    return run_command(place, "celeryd", *options, settings=settings)


def run_command(
    place: Place, *arguments: str, settings: Mapping[str, Any] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run one of the project's commands."""
    return run_python(place, "-m", "tests.shop.manage", *arguments, settings=settings)


def run_python(
    place: Place, *arguments: str, settings: Mapping[str, Any] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run Python with the settings of the place."""
    environment = {**os.environ, **place.environment(), "DJANGO_SETTINGS_MODULE": "tests.integration.settings"}
    environment["WORKER_SETTINGS"] = json.dumps(settings or {})
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
