"""The workers under fire: two celeryd, started again when their supervisor was killed."""

import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from tests.servers.processes import Identity
from tests.shop.daemon import Daemon

WORKERS = 2
CHILDREN = 2
NAMES = tuple(f"worker-{number}" for number in range(1, WORKERS + 1))
ROLES = ("steward", "dispatcher", *["child"] * CHILDREN)


class Workers:
    """Two workers with folders of their own; as a context manager it leaves no process behind."""

    def __init__(self, folder: Path, *, environment: Callable[[str], Mapping[str, str]], queue: str) -> None:
        self._folder = folder
        self._environments = {name: dict(environment(name)) for name in NAMES}
        self._queue = queue
        self.daemons = [self._made(name) for name in NAMES]

    def __enter__(self) -> Self:
        for daemon in self.daemons:
            daemon.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for daemon in self.daemons:
            daemon.abandon()

    def supervisors(self) -> list[Identity]:
        """Return the supervisors that live."""
        found = [Identity.of(daemon.process.pid) for daemon in self.daemons]
        return [supervisor for supervisor in found if supervisor and supervisor.is_alive()]

    def name_of(self, supervisor: int) -> str:
        """Return the name of the worker with this supervisor, as relays and folders have it."""
        return next(name for name, daemon in zip(NAMES, self.daemons, strict=True) if daemon.process.pid == supervisor)

    def start_the_dead(self) -> None:
        """Start what was killed."""
        for number, daemon in enumerate(self.daemons):
            if daemon.process.poll() is not None:
                self.daemons[number] = self._made(NAMES[number])
                self.daemons[number].start()

    def restart(self, name: str, variables: Mapping[str, str]) -> int:
        """Have one drain and end, and start it with `variables` too; return its new supervisor's pid.

        They hold until it is started again, by a restart or after its death.
        """
        number = NAMES.index(name)
        self.daemons[number].stop()
        self.daemons[number] = self._made(name, variables)
        self.daemons[number].start()
        return self.daemons[number].process.pid

    def go_on(self) -> None:
        """Continue what stands still."""
        for supervisor in self.supervisors():
            for process in (supervisor, *supervisor.descendants()):
                process.send(signal.SIGCONT)

    def stop(self) -> list[str]:
        """Ask all to drain and end, and return what went wrong."""
        for daemon in self.daemons:
            daemon.process.terminate()
        return [problem for daemon in self.daemons if (problem := _problem_in_the_end_of(daemon))]

    def _made(self, name: str, variables: Mapping[str, str] | None = None) -> Daemon:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        environment = {**self._environments[name], **(variables or {})}
        return Daemon(folder, environment=environment, children=CHILDREN, queue=self._queue, options=["-n", name])


def _problem_in_the_end_of(daemon: Daemon) -> str:
    name = daemon.pidfile.parent.name
    try:
        code = daemon.stop()
    except subprocess.TimeoutExpired as error:
        return f"{name} has not ended {error.timeout:.0f} s after SIGTERM"
    return f"{name} ended with exit code {code}" if code else ""
