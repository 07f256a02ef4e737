"""The history: one append-only file of JSON lines that producers, workers and the injector of faults write.

Moments are the machine's monotonic clock, which all processes share (`now`). What each event carries:

===============  =========================================================================  ==================
event            facts                                                                      written by
===============  =========================================================================  ==================
``sending``      name, broker: a producer begins; the scheme of the broker's URL            producer
``asked``        tokens, route, kind, attempts: these are about to be sent; see `kinds`     producer, task
``confirmed``    pairs of task id and token: sent, and committed; awaited: false if no      producer, task
                 result need follow
``rolled_back``  pairs: sent, but their transaction was rolled back                         producer, task
``raised``       tokens, error: nobody knows whether these were sent                        producer, task
``seen``         results: id, state and value of each, final already                        producer
``born``         role, index, pid, worker (the supervisor's pid)                            supervisor
``started``      id, token, attempt, pid, worker                                            task
``finished``     id, pid                                                                    task
``ending``       id, pid, how, until: this process is about to end by the task's own doing  task
``settled``      id, pid, state, attempt: the result is durable                             child, steward
``took_over``    name, owner, released: a worker was declared lost by another               steward
``at_gate``      gate, pid, worker, role, ids: it stands still here, to be struck           whoever passes it
``stepped``      pid, seconds: its clock tells another time                                 whoever notices it
``fault``        kind and what `faults.base.Struck` has: it hit, for certain                injector
``postponed``    count of messages that a wrong clock had put off, made due now                observer
``missed``       kind, since, error: a fault that found no victim                           injector
``healed``       kind, seconds: every worker settles tasks again                            injector
``final``        id, state, value: the stored result at the end                             observer
``dead``         id, reason, crashes, starts: a message that is kept as dead at the end     observer
``left``         what, text: something that should be gone at the end, or is missing        observer
===============  =========================================================================  ==================

The value of a task that is DONE is its token, with pid and moment of the start of the execution whose result it is;
the value of a FAILURE is the name of the exception's class and its arguments.
"""

import ctypes
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

Event = dict[str, Any]

#: The number of the system call clock_gettime.
CLOCK_GETTIME = {"x86_64": 228, "aarch64": 113}


class _Spec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def _asked_of_the_kernel() -> float:
    """Return the monotonic clock in a process to which libfaketime tells another one: it does not see system calls."""
    spec = _Spec()
    _libc().syscall(CLOCK_GETTIME[platform.machine()], time.CLOCK_MONOTONIC, ctypes.byref(spec))
    return float(spec.seconds + spec.nanoseconds / 1e9)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


#: Returns the machine's monotonic clock, in seconds.
now: Callable[[], float] = _asked_of_the_kernel if "faketime" in os.environ.get("LD_PRELOAD", "") else time.monotonic


class History:
    """The writing side. Each event is one write with O_APPEND, so no process can tear another's line."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, event: str, **facts: Any) -> float:
        """Write an event, and return its moment."""
        at = now()
        line = json.dumps({"at": at, "event": event, **facts}, separators=(",", ":"))
        os.write(self._descriptor, f"{line}\n".encode())
        return at


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


def stream(path: str | Path) -> Iterator[Event]:
    """Yield all events in the order in which they were written, without keeping them."""
    with Path(path).open("rb") as file:
        for line in file:
            yield json.loads(line)


def read(path: str | Path) -> list[Event]:
    """Return all events in the order of their moments."""
    return in_order(stream(path))


def in_order(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=lambda event: float(event["at"]))
