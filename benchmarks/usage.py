"""What processes cost, read from /proc."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.servers.processes import Identity

TICKS = os.sysconf("SC_CLK_TCK")
LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


def tree(pid: int) -> list[int]:
    """The process and all that came from it."""
    root = Identity.of(pid)
    return [one.pid for one in (root, *root.descendants())] if root else []


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of these processes, and of children that they have reaped."""
    return sum(sum(map(int, fields[11:15])) for fields in map(_stat, pids) if fields) / TICKS


def pss_megabytes(pids: list[int]) -> float:
    """Memory with shared pages split among those that share them: the only sum that is true for forks."""
    return sum(map(_pss_kilobytes, pids)) / 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """CPU seconds used so far, by whom."""

    worker: float
    servers: float
    ourselves: float
    machine: float

    @classmethod
    def now(cls, worker: list[int], servers: Iterable[int]) -> "Reading":
        """Read all, given the worker's processes and the first process of each server."""
        ours = cpu_seconds([os.getpid()])
        return cls(cpu_seconds(worker), sum(cpu_seconds(tree(pid)) for pid in servers), ours, busy_seconds())

    def since(self, before: "Reading") -> "Reading":
        """The difference."""
        return Reading(
            worker=self.worker - before.worker,
            servers=self.servers - before.servers,
            ourselves=self.ourselves - before.ourselves,
            machine=self.machine - before.machine,
        )

    @property
    def others(self) -> float:
        """What this machine did for somebody else meanwhile: a figure taken beside much of it says little."""
        return max(self.machine - self.worker - self.servers - self.ourselves, 0.0)


def listener(port: int) -> int | None:
    """The process that listens on `port` of this machine, if we may see it; of several the oldest one."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{line[9]}]" for line in lines if line[3] == LISTENING and int(line[1][-4:], 16) == port}
    found = [
        int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and sockets & _open_files(entry)
    ]
    return min(found, default=None)


def _open_files(process: Path) -> set[str]:
    try:
        return {str(link.readlink()) for link in (process / "fd").iterdir()}
    except OSError:
        return set()


def busy_seconds() -> float:
    """CPU seconds that the whole machine has worked since it started."""
    user, nice, system, _idle, _wait, *others = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(others)) / TICKS


def _stat(pid: int) -> list[str]:
    """The fields of proc(5) stat from the third on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _pss_kilobytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
