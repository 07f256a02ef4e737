"""The workers under fire: two celeryd, started again when their supervisor was killed."""

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
        self.daemons = [
            Daemon(
                _made(folder / name),
                environment=environment(name),
                children=CHILDREN,
                queue=queue,
                options=["-n", name],
            )
            for name in NAMES
        ]

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
        for daemon in self.daemons:
            if daemon.process.poll() is not None:
                daemon.start()

    def stop(self) -> list[str]:
        """Ask all to drain and end, and return what went wrong."""
        for daemon in self.daemons:
            daemon.process.terminate()
        codes = [(daemon.pidfile.parent.name, daemon.stop()) for daemon in self.daemons]
        return [f"{name} ended with exit code {code}" for name, code in codes if code]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
