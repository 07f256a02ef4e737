"""What must be known to read the figures: the machine, versions, and how durable each side was, read back from it."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.contender import CHILDREN, Contender
from benchmarks.plan import Contenders


def machine() -> dict[str, Any]:
    """What runs here, without saying whose machine it is."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _after_colon("/proc/cpuinfo", "model name"),
        "memory": _after_colon("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def sides(they: Contenders) -> dict[str, Any]:
    """Ask every contender's own connection, and the broker for one message of each."""
    return {one.label: _side(one) for one in they.all()}


def when() -> str:
    """Now, as the name of a file."""
    return datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")


def _side(contender: Contender) -> dict[str, Any]:
    contender.clear()
    contender.drive("enqueue_one_by_one", 1)
    list(contender.wait_for(contender.queue.depth, 1))
    found = contender.drive("facts") | contender.queue.facts() | {"children": CHILDREN}
    contender.clear()
    return found


def _after_colon(path: str, name: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "unknown")
