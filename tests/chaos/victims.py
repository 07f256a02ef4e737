"""Processes to be killed: who they are, and the proof that they died by us."""

import os
import select
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.helpers import eventually
from tests.servers.processes import Identity

SECONDS_TO_STOP = 2.0
SECONDS_TO_DIE = 5.0


def hold(victims: Sequence[Identity]) -> bool:
    """Stop processes where they are. True: all of them stand still, alive."""
    for victim in victims:
        victim.send(signal.SIGSTOP)
    try:
        eventually(lambda: all(state_of(victim) in "TXZ" for victim in victims), SECONDS_TO_STOP)
    except AssertionError:
        return False
    return all(state_of(victim) == "T" for victim in victims)


def state_of(process: Identity) -> str:
    """Return the letter of proc(5): T is stopped, Z a zombie; X if it is gone."""
    try:
        text = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "X"
    return text.rpartition(")")[2].split()[0] if Identity.of(process.pid) == process else "X"


def kill(victims: Sequence[Identity]) -> bool:
    """Kill processes that stand still, and return whether all of them are gone: nothing else can have ended them."""
    with ExitStack() as stack:
        try:
            descriptors = [os.pidfd_open(victim.pid) for victim in victims]
        except ProcessLookupError:
            return False
        for descriptor in descriptors:
            stack.callback(os.close, descriptor)
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        return all(_ends(descriptor) for descriptor in descriptors)


def release(victims: Sequence[Identity]) -> None:
    for victim in victims:
        victim.send(signal.SIGCONT)


def _ends(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(SECONDS_TO_DIE * 1000))


def with_variable(name: str, value: str) -> list[Identity]:
    """Return the living processes that were started with this environment variable, and their forks."""
    wanted = f"{name}={value}".encode()
    found = (_with(entry, wanted) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [process for process in found if process and process.is_alive() and process.pid != os.getpid()]


def _with(entry: Path, wanted: bytes) -> Identity | None:
    try:
        variables = (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return Identity.of(int(entry.name)) if wanted in variables else None


def wait_for_end(processes: Sequence[Identity], within: float) -> list[Identity]:
    """Return those that still live after so many seconds."""
    deadline = time.monotonic() + within
    while (left := [process for process in processes if process.is_alive()]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left
