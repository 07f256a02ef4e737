"""Gates: named points in the product's code at which a process stops itself, so that a fault hits that very moment.

A gate is one byte of a file that all processes have mapped. Not armed, it costs the reading of that byte. The first
process that reaches an armed one wins (it deletes the file by which it was armed, and only one process can), notes
`at_gate` in the history, says who it is in a file, and stops. The injector sees it standing there, which is the proof;
it kills whom it likes, and lifts the gate. `points` says where in the product the gates are.
"""

import fcntl
import json
import mmap
import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from celery.current import running
from tests.chaos import history, victims
from tests.servers.processes import Identity

#: Each gate, and who comes to it. The order is that of a task's life, then of a worker's.
ROLES: Final = {
    "before claim": "dispatcher",
    "claimed, not committed": "dispatcher",
    "after claim": "dispatcher",
    "handed over": "dispatcher",
    "in user code": "child",
    "finished, not stored": "child",
    "stored, not committed": "child",
    "stored, not settled": "child",
    "retry stored, not settled": "child",
    "reported, not acked": "dispatcher",
    "acked": "dispatcher",
    "retry reported, not acked": "dispatcher",
    "parked, not answered": "steward",
    "parked, not acked": "dispatcher",
    "parked, not finished": "steward",
    "hook: locked, not published": "producer",
    "hook: published, not deleted": "producer",
    "relay: claimed, not published": "steward",
    "relay: published, not deleted": "steward",
    "promote: due, not promoted": "steward",
    "promote: promoted": "steward",
    "crash: decided, not counted": "steward",
    "crash: counted, not answered": "steward",
    "suspect: examined, not answered": "steward",
    "suspect: marked, not answered": "steward",
    "suspect: marked, not started": "dispatcher",
    "take-over: not committed": "steward",
    "retire: not committed": "steward",
    "give back: nacked": "dispatcher",
    "give back: before": "steward",
    "give back: not answered": "steward",
    "shutdown: draining": "dispatcher",
    "shutdown: drained": "dispatcher",
    "shutdown: child dismissed": "child",
    "shutdown: signing off": "steward",
    "shutdown: before exec": "supervisor",
    "fork: child not announced": "supervisor",
    "fork: child begins": "child",
    "fork: dispatcher not announced": "supervisor",
    "fork: dispatcher known, not enlisted": "steward",
    "fork: dispatcher enlisted": "steward",
    "fork: steward not introduced": "supervisor",
}
NUMBERS: Final = {name: number for number, name in enumerate(ROLES)}
SIZE: Final = 4096
#: Seconds for a process that has won a gate to stand still.
SECONDS_TO_STAND: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A process that stands still at a gate. `other` is a process that it was just dealing with, or 0."""

    gate: str
    process: Identity
    role: str
    worker: int
    at: float
    ids: tuple[str, ...] = ()
    other: int = 0


def beside(history_file: str | Path) -> Path:
    """Return where the gates of a run are."""
    return Path(history_file).with_name("gates")


class Gates:
    """All gates of a run, for those who stop at them and for the injector."""

    def __init__(self, path: Path) -> None:
        self._path = path
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, SIZE)
            #: One byte for each gate: whether it is armed.
            self.page = mmap.mmap(descriptor, SIZE)
        finally:
            os.close(descriptor)
        self._armed_here: set[str] = set()

    def close(self) -> None:
        """Let go of the memory."""
        self.page.close()

    # -- the injector's side

    def arm(self, gate: str, *, worker: int = 0) -> None:
        """Have the first process that reaches `gate` stop there, of this worker (its supervisor's pid) or of any."""
        self._armed_here.add(gate)
        self._standing(gate).unlink(missing_ok=True)
        _write(self._armed(gate), {"worker": worker, "by": os.getpid()})
        self.page[NUMBERS[gate]] = 1

    def who_stands_at(self, gate: str) -> Standing | None:
        """Return who has come to an armed gate, once it stands still."""
        facts = _read(self._standing(gate))
        process = Identity.of(facts["pid"]) if facts else None
        if not facts or process is None or victims.state_of(process) != "T":
            return None
        del facts["pid"]
        return Standing(process=process, **{**facts, "ids": tuple(facts["ids"])})

    def wait(self, gate: str, seconds: float) -> Standing | None:
        """Return who stands at a gate within so many seconds."""
        deadline = time.monotonic() + seconds
        while (found := self.who_stands_at(gate)) is None and time.monotonic() < deadline:
            time.sleep(0.001)
        return found

    def lift(self, gate: str) -> None:
        """Let everybody pass, and whoever stands there go on; harmless if the gate is not armed."""
        if gate not in self._armed_here:
            return
        self._armed_here.remove(gate)
        self.page[NUMBERS[gate]] = 0
        with suppress(FileNotFoundError):
            self._armed(gate).unlink()
            return
        deadline = time.monotonic() + SECONDS_TO_STAND
        while (standing := self.who_stands_at(gate)) is None and self._is_somebody_there(gate):
            if time.monotonic() > deadline:
                break
            time.sleep(0.001)
        if standing:
            standing.process.send(signal.SIGCONT)
        self._standing(gate).unlink(missing_ok=True)

    def _is_somebody_there(self, gate: str) -> bool:
        """Tell whether who won the gate may still be on its way to stand; it may have been killed before."""
        facts = _read(self._standing(gate))
        process = Identity.of(facts["pid"]) if facts else None
        return facts is None or (process is not None and process.is_alive())

    # -- the side of those who pass

    def stop_at(self, gate: str, *, ids: Sequence[str] = (), other: int = 0) -> None:
        """Stop here if this process is the one that `gate` is armed for, and no other has come before."""
        role, me = ROLES[gate], os.getpid()
        if role == "producer" and running.get():
            role = "child"  # a task that sends tasks
        worker = {"supervisor": me, "producer": 0}.get(role, os.getppid())
        if not self._wins(gate, worker, me):
            return
        facts: dict[str, Any] = {"gate": gate, "pid": me, "worker": worker, "role": role, "ids": list(ids)}
        at = history.current().note("at_gate", **facts)
        _write(self._standing(gate), {**facts, "other": other, "at": at})
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this very thread goes no further

    def _wins(self, gate: str, worker: int, me: int) -> bool:
        """Take the gate, which one process can: it deletes the file, under a lock of that very file."""
        try:
            with self._armed(gate).open(encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                wanted = json.load(file)
                is_taken = os.fstat(file.fileno()).st_nlink == 0
                if is_taken or wanted["by"] == me or wanted["worker"] not in {0, worker}:
                    return False
                self._armed(gate).unlink()
        except FileNotFoundError:
            return False
        self.page[NUMBERS[gate]] = 0
        return True

    # -- files

    def _armed(self, gate: str) -> Path:
        return self._path.with_name(f"gate-{NUMBERS[gate]}.armed")

    def _standing(self, gate: str) -> Path:
        return self._path.with_name(f"gate-{NUMBERS[gate]}.standing")


def _write(path: Path, facts: dict[str, Any]) -> None:
    """Write a file that appears whole."""
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(facts), encoding="utf-8")
    draft.replace(path)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found
