"""What the operating system offers, and nothing of tasks: pid files, file watches, ends of processes. Linux only."""

import ctypes
import fcntl
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_NAME: Final = 15
IN_MODIFY: Final = 0x2
IN_NONBLOCK: Final = os.O_NONBLOCK
IN_CLOEXEC: Final = os.O_CLOEXEC


def require_linux() -> None:
    """Exit with a clear sentence elsewhere: the worker needs pidfd, memfd, prctl and inotify."""
    if not sys.platform.startswith("linux"):
        sys.exit(f"celeryd runs on Linux; this is {sys.platform}. Sending tasks works everywhere.")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; exit now if that has happened already."""
    _libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def set_process_name(name: str) -> None:
    """Have `ps` and `top` show `name`, or its first 15 characters."""
    _libc().prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)


class FileWatch:
    """Tells of writes to files, by inotify. Where it cannot be had (network file systems) it stays silent."""

    def __init__(self, paths: Iterable[str]) -> None:
        libc = _libc()
        self._fd: int = libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
        for path in paths:
            if self._fd >= 0:
                libc.inotify_add_watch(self._fd, os.fsencode(path), IN_MODIFY)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable after a write, or -1."""
        return self._fd

    def clear(self) -> bool:
        """Tell whether something was written since the last call."""
        if self._fd < 0:
            return False
        try:
            return bool(os.read(self._fd, 65536))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """End the watch. Harmless when repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class PIDFile:
    """A file with the pid of the running daemon. A lock tells a running one from a stale file or a reused pid."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).absolute()
        self._fd = -1

    def get_pid(self) -> int | None:
        """Return the pid in the file, or None if there is none that can be read."""
        try:
            return int(self.path.read_text().strip())
        except (OSError, ValueError):
            return None

    def acquire(self) -> None:
        """Write our pid and hold the file; SystemExit if another process holds it or it cannot be written."""
        while not self._lock():
            pass
        os.register_at_fork(after_in_child=self._forget)  # else what a task forks would keep the lock
        os.truncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def _lock(self) -> bool:
        """Open and lock the file; False if its holder removed it between the two."""
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._close()
            sys.exit(f"celeryd runs already with pid {self.get_pid()} (pid file {self.path}).")
        except OSError as error:
            sys.exit(f"the pid file {self.path} cannot be written: {error.strerror}. Choose another with --pidfile.")
        if self.path.exists() and os.path.samestat(os.fstat(self._fd), self.path.stat()):
            return True
        self._close()
        return False

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1

    def _forget(self) -> None:
        if self._fd >= 0:
            self._close()

    def release(self) -> None:
        """Remove the file. Harmless when it is not held."""
        if self._fd >= 0:
            self.path.unlink(missing_ok=True)
            self._close()
