"""An append-only file that every execution writes a line to: the only honest count, for an upsert hides doubles."""

import os
from collections import Counter
from pathlib import Path


def append(path: str | Path, token: str) -> None:
    """Append "token pid" and a newline to `path`, by one write that no other process can tear."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, f"{token} {os.getpid()}\n".encode())
    finally:
        os.close(descriptor)


def entries(path: str | Path) -> list[tuple[str, int]]:
    """Return (token, pid) for every execution in the order of writing; none if nothing ran yet."""
    if not Path(path).exists():
        return []
    lines = (line.rpartition(" ") for line in Path(path).read_text().splitlines())
    return [(token, int(pid)) for token, _, pid in lines]


def executions(path: str | Path) -> Counter[str]:
    """Return how often each token was executed."""
    return Counter(token for token, _ in entries(path))
