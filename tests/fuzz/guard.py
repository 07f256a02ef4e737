"""Watches what the interpreter does while something is decoded: nothing that was stored may run, import or open."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

#: What the interpreter reports (PEP 578) and no decoder has a reason to do.
FORBIDDEN = frozenset(
    {
        *("exec", "compile", "import", "open", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn"),
        *("os.spawn", "os.startfile", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.putenv"),
        *("subprocess.Popen", "socket.connect", "socket.bind", "pickle.find_class", "ctypes.dlopen", "pty.spawn"),
        *("marshal.loads", "shutil.rmtree", "os.kill", "signal.pthread_kill", "code.__new__", "function.__new__"),
    }
)


class RanError(AssertionError):
    """Something happened that is more than reading."""


class _Watch:
    is_installed = False
    is_armed = False
    seen: list[str] = []  # noqa: RUF012 - there is one for the process, as there is one hook


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    if _Watch.is_armed and event in FORBIDDEN:
        _Watch.is_armed = False  # showing an argument may do something, too
        if event != "import" or not str(arguments[0]).startswith("encodings"):  # how Python looks up any encoding
            _Watch.seen.append(f"{event} {arguments!r:.200}")
        _Watch.is_armed = True


@contextmanager
def nothing_runs(but: Sequence[str] = ()) -> Iterator[None]:
    """Raise RanError at the end of the block if anything in it ran, was imported, or was opened."""
    if not _Watch.is_installed:  # for good: there is no way to take a hook away
        for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
            "".encode(encoding)  # what json looks for is imported when it is first met
        sys.addaudithook(_look)
        _Watch.is_installed = True
    _Watch.is_armed = True
    try:
        yield
    finally:
        _Watch.is_armed = False
        seen, _Watch.seen = _Watch.seen, []
    if seen := [one for one in seen if one.partition(" ")[0] not in but]:
        raise RanError(f"decoding did more than that: {seen[:3]}")
