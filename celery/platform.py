"""What the operating system offers, and nothing of tasks: pid files, daemons, file watches, ends of processes.

Linux only.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NoReturn

PR_SET_PDEATHSIG: Final = 1
PR_SET_NAME: Final = 15
IN_MODIFY: Final = 0x2
IN_NONBLOCK: Final = os.O_NONBLOCK
IN_CLOEXEC: Final = os.O_CLOEXEC
#: The most bytes that a pid file has, and the largest pid: 0 and negative ones would mean many processes.
LONGEST_PID: Final = 32
LARGEST_PID: Final = 2**31 - 1
STANDARD_DESCRIPTORS: Final = (0, 1, 2)


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


def has_open(path: str) -> bool:
    """Tell whether this process has the file open that `path` names now. True also if it names none."""
    try:
        named, descriptors = Path(path).stat(), list(Path("/proc/self/fd").iterdir())
    except OSError:
        return True
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # that of the directory, which is closed by now
            if os.path.samestat(named, descriptor.stat()):
                return True
    return False


class PIDFile:
    """A file with the pid of the running daemon. A lock tells a running one from a stale file or a reused pid.

    The lock is the process's that called `acquire` (or `write`): its children do not keep it, and it ends with it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._fd = -1

    def get_pid(self) -> int | None:
        """Return the pid in the file, or None if there is none that can be read."""
        try:
            with self.path.open("rb") as file:
                content = file.read(LONGEST_PID + 1)
        except (OSError, ValueError):
            return None
        pid = int(content) if content.strip().isdigit() and len(content) <= LONGEST_PID else 0
        return pid if 0 < pid <= LARGEST_PID else None

    def check(self) -> None:
        """Remove a stale file; SystemExit if another process holds it. Harmless when there is none, or it is ours."""
        if self._fd < 0 and self.path.exists():
            self._take()
            self.release()

    def write(self, pid: int | None = None) -> None:
        """Hold the file from now on, with our pid or the given one in it; SystemExit as `acquire` says."""
        if self._fd < 0:
            self._take()
        try:
            content = f"{os.getpid() if pid is None else pid}\n".encode()
            os.pwrite(self._fd, content, 0)
            os.truncate(self._fd, len(content))
        except OSError as error:
            sys.exit(f"the pid file {self.path} cannot be written: {error.strerror}. Choose another with --pidfile.")

    def acquire(self) -> None:
        """Write our pid and hold the file; SystemExit if another process holds it or it cannot be written."""
        self.write()

    def release(self) -> None:
        """Remove the file. Harmless when it is not held."""
        if self._fd >= 0:
            if self._is_ours():
                self.path.unlink(missing_ok=True)
            self._close()

    def remove(self) -> None:
        """Remove the file, also a stale one; never that of another process that runs."""
        with contextlib.suppress(SystemExit):
            self.check()
        self.release()

    def _take(self) -> None:
        while not self._lock():
            pass
        os.register_at_fork(after_in_child=self._forget)  # else what a task forks would keep the lock

    def _lock(self) -> bool:
        """Open and lock the file; False if its holder removed it between the two."""
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._close()
            sys.exit(f"celeryd runs already with pid {self.get_pid()} (pid file {self.path}).")
        except (OSError, ValueError) as error:  # ValueError: characters that no path has
            self._forget()
            reason = getattr(error, "strerror", None) or error
            sys.exit(f"the pid file {self.path} cannot be written: {reason}. Choose another with --pidfile.")
        if not self._is_ours():
            self._close()
            return False
        self._refuse_what_is_no_pid_file()
        return True

    def _is_ours(self) -> bool:
        """Tell whether the path still leads to our file: somebody may have removed it, and another made one."""
        return self.path.exists() and os.path.samestat(os.fstat(self._fd), self.path.stat())

    def _refuse_what_is_no_pid_file(self) -> None:
        """Exit before anything is written over: a path may be a slip of the hand."""
        is_file = stat.S_ISREG(os.fstat(self._fd).st_mode)
        found = os.pread(self._fd, LONGEST_PID + 1, 0) if is_file else b""
        content = found.strip()
        if not is_file or len(found) > LONGEST_PID or (content and not content.isdigit()):
            self._close()
            sys.exit(f"{self.path} is no pid file: it holds something else. Choose another with --pidfile.")

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1

    def _forget(self) -> None:
        if self._fd >= 0:
            self._close()


def remove_pidfile(pidfile: str | os.PathLike[str]) -> None:
    """Remove a pid file that nobody holds. Harmless when there is none; that of a running daemon stays."""
    PIDFile(pidfile).remove()


# -- umasks

LARGEST_UMASK: Final = 0o777


def umask_of(value: int | str) -> int:
    """Return the umask that octal text (``"027"``) or a number stands for. Raises ValueError."""
    text = str(value).strip().lower().removeprefix("0o") if isinstance(value, str) else f"{value:o}"
    if not text.isdigit() or not set(text) <= set("01234567") or int(text, 8) > LARGEST_UMASK:
        shown = repr(value) if isinstance(value, str) else f"0o{text}"
        raise ValueError(f"{shown} is no umask: write octal digits from 000 to 777, such as 022 or 027")
    return int(text, 8)


# -- daemons

#: What a starting daemon says to the terminal that it leaves, before its pid or before what went wrong.
_STARTED: Final = b"+"
_FAILED: Final = b"-"
DAEMON_UMASK: Final = 0o022


def daemonize(pidfile: str | os.PathLike[str], *, umask: int = DAEMON_UMASK) -> PIDFile:
    """Go on in the background, as a daemon that holds `pidfile`; the process that called ends here.

    It ends when the daemon has written its pid, with exit code 0, or has failed to, with 1 and a sentence on standard
    error. The daemon has a session of its own and no terminal, ``/`` as its folder, `umask`, and nothing on
    its standard streams; all other open files stay open, the log's too. Call it before there are threads and
    connections: threads do not survive a fork, and connections must not be shared. Returns the pid file, to be
    released at the end.
    """
    held = PIDFile(pidfile)  # the path is made absolute in the old folder
    _fill_standard_descriptors()
    reader, writer = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # None, or closed
            stream.flush()
    if os.fork():
        os.close(writer)
        _leave(reader)
    os.close(reader)
    try:
        _become_daemon(held, umask)
    except BaseException as error:  # noqa: BLE001 - what is raised beyond here would run the caller a second time
        os.write(writer, _FAILED + _reason(error).encode("utf-8", "backslashreplace"))
        os._exit(1)
    with contextlib.suppress(OSError):  # whoever started us did not wait
        os.write(writer, _STARTED)
    os.close(writer)
    return held


def _become_daemon(held: PIDFile, umask: int) -> None:
    os.setsid()
    if os.fork():
        os._exit(0)  # the daemon is no leader of its session, so it can never get a terminal
    os.chdir("/")
    os.umask(umask)
    held.acquire()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in STANDARD_DESCRIPTORS:
        os.dup2(null, descriptor)
    os.close(null)


def _leave(reader: int) -> NoReturn:
    """Wait for the daemon's word and end with it, running nothing of what the daemon will run at its own end."""
    with open(reader, "rb") as words:
        heard = words.read()
    if heard.startswith(_STARTED):
        os._exit(0)
    reason = heard.removeprefix(_FAILED) or b"the daemon died before it had written its pid"
    with contextlib.suppress(OSError):
        os.write(STANDARD_DESCRIPTORS[-1], reason + b"\n")
    os._exit(1)


def _reason(error: BaseException) -> str:
    return str(error.code) if isinstance(error, SystemExit) else f"the daemon cannot be started: {error!r}"


def _fill_standard_descriptors() -> None:
    """Have 0, 1 and 2 open: else the next file gets one of these numbers, and is lost with the standard streams."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor in STANDARD_DESCRIPTORS:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - the only argument
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
