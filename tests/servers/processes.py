"""Facts about processes, read from /proc: who lives, who is whose child, how to end one by its id."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Identity:
    """A process for certain: its id and the clock tick at which it began, since ids are used again."""

    pid: int
    began: int

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Return who has this id now, or None when nobody has."""
        fields = _stat(pid)
        return None if fields is None else cls(pid, int(fields[19]))

    def is_alive(self) -> bool:
        """Say whether this very process still runs; a zombie does not."""
        fields = _stat(self.pid)
        return fields is not None and int(fields[19]) == self.began and fields[0] not in "ZX"

    def send(self, number: signal.Signals) -> None:
        """Signal this very process, if it still runs."""
        if self.is_alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def descendants(self) -> list[Identity]:
        """Return its children and theirs."""
        children = [child for child in _children_of(self.pid) if child.is_alive()]
        return children + [grandchild for child in children for grandchild in child.descendants()]


def end(process: Identity, number: signal.Signals, *, within: float) -> None:
    """Signal a process and wait for its end; whatever is left of it after `within` seconds is killed."""
    family = [process, *process.descendants()]
    process.send(number)
    if not _have_ended(family, within):
        for member in family:
            member.send(signal.SIGKILL)
        _have_ended(family, within=5)


def kill_family(process: Identity) -> None:
    """Kill a process and all that came from it, and return when they are gone."""
    process.send(signal.SIGSTOP)
    family = [process, *process.descendants()]
    for member in family:
        member.send(signal.SIGKILL)
    _have_ended(family, within=5)


def _have_ended(family: list[Identity], within: float) -> bool:
    deadline = time.monotonic() + within
    while any(member.is_alive() for member in family):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _children_of(parent: int) -> Iterator[Identity]:
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields is not None and int(fields[1]) == parent:
                yield Identity(int(entry.name), int(fields[19]))


def _stat(pid: int) -> list[str] | None:
    """Return the fields of proc(5) stat from the third (state) on: 1 is the parent, 19 the start."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
