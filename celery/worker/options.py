"""How a worker runs: what the operator chose, known to all its processes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The limits of a worker. Seconds for a task; tasks, and KiB of resident memory, for a child. None: no limit."""

    time_limit: float | None = None
    soft_time_limit: float | None = None
    max_tasks: int | None = None
    max_memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(Bounds):
    """All of it. `drain_timeout` in seconds; `beat`: whether it sends periodic tasks; `socket`: the path for pings."""

    name: str
    queues: tuple[str, ...]
    children: int
    drain_timeout: float
    beat: bool = True
    socket: str | None = None
