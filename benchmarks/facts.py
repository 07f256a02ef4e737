"""What must be known to read the figures: the machine, versions, and how durable each side was, read back from it."""

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.contender import CHILDREN, Broken, Contender
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
    return {one.label: _side(one) for one in they.everybody()}


def when() -> str:
    """Now, as the name of a file."""
    return datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")


def _side(contender: Contender) -> dict[str, Any]:
    try:
        contender.clear()
        contender.drive("fill", count=1)
        contender.wait(contender.queue.depth, 1)
        found = contender.drive("facts") | contender.queue.facts() | {"children": CHILDREN}
        contender.clear()
    except Broken as reason:  # its steps will tell too
        print(f"BROKEN: facts: {reason}", file=sys.stderr, flush=True)
        return {"broken": str(reason)}
    return found


def _after_colon(path: str, name: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "unknown")
