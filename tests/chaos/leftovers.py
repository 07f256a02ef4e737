"""What a run holds at its beginning and at its end, as /proc and the servers tell it: nothing may have grown.

Every process of the end is held against the processes of its role at the beginning, so also one that was started by the
way. Without a limit of its own a figure may not grow at all.
"""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.db import connection

from tests.chaos.place import Place
from tests.chaos.scene import Scene
from tests.chaos.workers import ROLES, Workers
from tests.servers.processes import Identity

SUPERVISOR: Final = "supervisor"
#: What the kernel calls the descriptors by which a supervisor watches its processes.
WATCHES: Final = ("anon_inode:[pidfd]", "pipe:")
#: By how much a process may be larger at the end: lazy connections, and what Python and its allocator keep.
SPARE_DESCRIPTORS: Final = 3
SPARE_THREADS: Final = 1
SPARE_MEMORY: Final = 24 * 1024  # kB of proportional set size
#: Seconds in which a server notices that a client is gone, and in which a figure has come down.
PATIENCE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What a process holds. Memory is its proportional set size in kB.

    The descriptors by which a supervisor watches its processes count only for itself: a fork inherits as many as there
    were processes before it.
    """

    descriptors: int
    threads: int
    memory: int

    @classmethod
    def of(cls, process: Identity, *, is_fork: bool) -> "Figures | None":
        folder = Path(f"/proc/{process.pid}")
        try:
            lines = (folder / "smaps_rollup").read_text().splitlines()
            links = list(_links(folder / "fd"))
            found = cls(
                descriptors=sum(not (is_fork and link.startswith(WATCHES)) for link in links),
                threads=len(list((folder / "task").iterdir())),
                memory=sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")),
            )
        except OSError:
            return None
        return found if process.is_alive() else None


def _links(folder: Path) -> Iterator[str]:
    """Yield what the descriptors of a process are; one may be closed meanwhile."""
    for entry in folder.iterdir():
        with suppress(FileNotFoundError):
            yield str(entry.readlink())


class Leftovers:
    """Compares the end with the beginning."""

    def __init__(self, place: Place, workers: Workers, scene: Scene) -> None:
        self._place = place
        self._workers = workers
        self._scene = scene
        self._usual: dict[str, list[Figures]] = {}
        self._queues: dict[str, int] = {}

    def remember(self) -> None:
        """Call when the workers have begun to work."""
        self._usual = {role: [figures for _, figures in found] for role, found in self._by_role().items()}
        self._queues = self._queues_now()

    def growth(self) -> list[tuple[str, str]]:
        """Return what the living workers hold more than at the beginning: kind and words. Waits for what goes by."""
        deadline = time.monotonic() + PATIENCE
        while (found := list(self._growth_now())) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found

    def left_on_servers(self) -> list[tuple[str, str]]:
        """Return what the servers still hold when workers and producers are gone: kind and words."""
        deadline = time.monotonic() + PATIENCE
        while (found := [*self._sessions(), *self._of_rabbitmq()]) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found

    def _by_role(self) -> dict[str, list[tuple[Identity, Figures]]]:
        self._scene.look()
        supervisors = self._workers.supervisors()
        processes = {
            role: [one for boss in supervisors for one in self._scene.living(boss.pid, role)] for role in ROLES
        }
        return {
            role: [(one, figures) for one in members if (figures := Figures.of(one, is_fork=role != SUPERVISOR))]
            for role, members in {SUPERVISOR: supervisors, **processes}.items()
        }

    def _growth_now(self) -> Iterator[tuple[str, str]]:
        for role, found in self._by_role().items():
            usual = self._usual.get(role)
            if not usual:
                continue
            for process, now in found:
                for what, spare in (
                    ("descriptors", SPARE_DESCRIPTORS),
                    ("threads", SPARE_THREADS),
                    ("memory", SPARE_MEMORY),
                ):
                    before, after = max(getattr(figures, what) for figures in usual), getattr(now, what)
                    if after > before + spare:
                        yield what, f"{role} {process.pid} has {after}, at the beginning {before}"

    def _sessions(self) -> Iterator[tuple[str, str]]:
        """Yield the sessions of the database that are not ours."""
        match self._place.database:
            case "postgresql":
                statement = (
                    "SELECT pid, state, left(query, 80) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
            case "mariadb":
                statement = (
                    "SELECT id, command, left(info, 80) FROM information_schema.processlist "
                    "WHERE id <> connection_id() AND db = database()"
                )
            case _:
                return
        with connection.cursor() as cursor:
            cursor.execute(statement)
            for number, state, text in cursor.fetchall():
                yield "connections", f"session {number} of the database is left, {state}: {text}"

    def _of_rabbitmq(self) -> Iterator[tuple[str, str]]:
        if not self._place.has_rabbitmq:
            return
        for command, column in (("list_connections", "pid"), ("list_channels", "pid")):
            for row in self._ctl(command, column):
                yield "connections", f"RabbitMQ has it in {command}: {row[column]}"
        for name, messages in self._queues_now().items():
            if name not in self._queues:
                yield "queues", f"{name} was not there at the beginning"
            if messages:
                yield "message", f"{messages} in queue {name}, handed out or not"

    def _queues_now(self) -> dict[str, int]:
        if not self._place.has_rabbitmq:
            return {}
        return {row["name"]: row["messages"] for row in self._ctl("list_queues", "name", "messages")}

    def _ctl(self, *words: str) -> list[dict[str, Any]]:
        text = self._place.servers["rabbitmq"].ctl("--quiet", "--formatter=json", *words)
        rows: list[dict[str, Any]] = json.loads(text or "[]")
        return rows
