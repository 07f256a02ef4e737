"""The history: one append-only file of JSON lines that producers, workers and the injector of faults write.

Moments are the machine's monotonic clock, which all processes share. What each event carries:

===============  =========================================================================  ==================
event            facts                                                                      written by
===============  =========================================================================  ==================
``asked``        tokens, route: these are about to be sent                                  producer
``confirmed``    pairs of task id and token: sent, and committed                            producer
``rolled_back``  the same, but their transaction was rolled back                            producer
``raised``       tokens, error: nobody knows whether these were sent                        producer
``born``         role, index, pid, worker (the supervisor's pid)                            supervisor
``started``      id, token, pid, worker                                                     task
``finished``     id, pid                                                                    task
``settled``      id, pid, state: the result is durable                                      child
``took_over``    name, owner, released: a worker was declared lost by another               steward
``fault``        kind and what `faults.base.Struck` has: it hit, for certain                injector
``missed``       kind, since: a fault that found no victim                                  injector
``healed``       kind, seconds: every worker settles tasks again                            injector
``final``        id, state, value: the stored result at the end                             observer
``left``         what, text: something that should be gone at the end, or is missing        observer
===============  =========================================================================  ==================
"""

import json
import os
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class History:
    """The writing side. Each event is one write with O_APPEND, so no process can tear another's line."""

    def __init__(self, path: str | Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, event: str, **facts: Any) -> None:
        line = json.dumps({"at": time.monotonic(), "event": event, **facts}, separators=(",", ":"))
        os.write(self._descriptor, f"{line}\n".encode())


@cache
def current() -> History:
    """Return the history that the environment names. Forks share it."""
    return History(os.environ.get("CHAOS_HISTORY", os.devnull))


class Reader:
    """The reading side: `news` returns what came since the last call."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._offset = 0

    def news(self) -> list[Event]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            complete, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(complete) + len(newline)
        return [json.loads(line) for line in complete.splitlines()]


def read(path: str | Path) -> list[Event]:
    """Return all events in the order of their moments."""
    return in_order(Reader(path).news())


def in_order(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=lambda event: float(event["at"]))
