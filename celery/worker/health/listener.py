"""The unix socket at which a worker answers pings: whoever connects is given one answer, and is asked nothing.

Nothing is read and nothing waited for, so no caller can hold the supervisor up. It runs before the fork and in the
supervisor only.
"""

import contextlib
import errno
import os
import selectors
import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

#: Bytes of a path that the kernel takes for a unix socket.
LONGEST_PATH: Final = 107
BACKLOG: Final = 128
#: Callers that are answered in one turn; the others wait for the next.
AT_ONCE: Final = 32
#: Seconds for a living worker to accept, and between two looks at a socket that seems to be a dead one's.
SECOND_LOOK: Final = 0.05
#: Seconds until callers are accepted again after the system refused to (no more descriptors).
DEAF_PAUSE: Final = 1.0
#: The descriptor, for the program that follows in this process.
HANDED_DOWN: Final = "CELERY_SOCKET_DESCRIPTOR"


class Listener:
    """Gives `answer()` to each caller at `path`. SystemExit with a sentence if it cannot be had."""

    def __init__(self, path: str, answer: Callable[[], bytes]) -> None:
        self._path = path
        self._answer = answer
        self._socket = _handed_down(path) or _bound(path)
        self._file = _mark(path)[:2]  # without the moment: an operator may give it another mode
        self._selector: selectors.BaseSelector | None = None
        self._deaf_until = 0.0

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Have `selector` call us when there are callers."""
        self._selector = selector
        selector.register(self._socket, selectors.EVENT_READ, self._answer_all)

    def descriptors(self) -> list[socket.socket]:
        """Return what a forked process closes."""
        return [self._socket]

    def turn(self, now: float) -> None:
        """Listen again after a pause."""
        if self._deaf_until and now >= self._deaf_until and self._selector:
            self._deaf_until = 0.0
            self.watch(self._selector)

    def _answer_all(self) -> None:
        for _ in range(AT_ONCE):
            try:
                caller, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ECONNABORTED:
                    self._be_deaf()
                return
            with caller, contextlib.suppress(OSError):  # it has gone
                caller.send(self._answer(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _be_deaf(self) -> None:
        """Stop for a moment: a selector would report the callers that cannot be accepted again and again."""
        if self._selector:
            self._selector.unregister(self._socket)
            self._deaf_until = time.monotonic() + DEAF_PAUSE

    def close(self, *, hand_down: bool) -> None:
        """Remove the socket; or leave it to the program that follows in this process, callers wait for it."""
        if self._selector and not self._deaf_until:
            self._selector.unregister(self._socket)
        self._selector = None
        if hand_down:
            os.set_inheritable(self._socket.fileno(), True)  # noqa: FBT003 - the only argument
            os.environ[HANDED_DOWN] = str(self._socket.detach())
            return
        if _mark(self._path)[:2] == self._file:
            with contextlib.suppress(OSError):
                Path(self._path).unlink()
        self._socket.close()


def refuse(path: str) -> None:
    """Exit with a sentence if no worker can listen at `path`: it is too long, has no folder, or is in use."""
    if HANDED_DOWN in os.environ:
        return
    folder = Path(path).parent
    if len(os.fsencode(path)) > LONGEST_PATH:
        _exit(path, f"its path has more than {LONGEST_PATH} bytes")
    if not folder.is_dir():
        _exit(path, f"there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        _exit(path, f"nothing can be made in the folder {folder}")
    _is_stale(path)


def _bound(path: str) -> socket.socket:
    """Return a socket that listens at `path`, instead of a dead worker's."""
    refuse(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    os.fchmod(made.fileno(), 0o600)  # the file gets the mode that the socket has now
    try:
        while not _is_bound(made, path):
            _remove_stale(path)
    except SystemExit:
        made.close()
        raise
    made.listen(BACKLOG)
    return made


def _is_bound(made: socket.socket, path: str) -> bool:
    """Bind it; False if there is a socket already."""
    try:
        made.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            _exit(path, error.strerror or str(error))
        return False
    return True


def _remove_stale(path: str) -> None:
    """Remove the socket of a dead worker; one that listens since a moment ago is left alone."""
    before = _mark(path)
    if _is_stale(path) and _mark(path) == before:
        Path(path).unlink(missing_ok=True)


def _is_stale(path: str) -> bool:
    """Tell whether a socket is there that nobody listens at. Exits if somebody does, or if it is no socket."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            _exit(path, "something else is there, which is no socket")
    except FileNotFoundError:
        return False
    for pause in (SECOND_LOOK, 0.0):  # a worker that starts now has bound it and listens the next moment
        _exit_if_it_listens(path)
        time.sleep(pause)
    return True


def _exit_if_it_listens(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as caller:
        try:
            caller.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except BlockingIOError:  # so many callers wait
            pass
        except OSError as error:
            _exit(path, error.strerror or str(error))
    _exit(path, "a worker that runs answers there")


def _exit(path: str, reason: str) -> NoReturn:
    sys.exit(f"the socket {path} cannot be used: {reason}. Choose another with --socket.")


def _mark(path: str) -> tuple[int, ...]:
    """Return what tells this file from another that comes to the same place; nothing where there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _handed_down(path: str) -> socket.socket | None:
    """Return the socket that the program before us in this process listened at, if it is at `path`."""
    descriptor = os.environ.pop(HANDED_DOWN, "")
    if not descriptor.isdigit():
        return None
    try:
        found = socket.socket(fileno=int(descriptor))
    except OSError:
        return None
    if found.family != socket.AF_UNIX or found.getsockname() != path:
        found.detach()  # whoever's it is
        return None
    if not _mark(path):
        found.close()  # the file was removed meanwhile: nobody would find us
        return None
    found.settimeout(0)
    os.set_inheritable(found.fileno(), False)  # noqa: FBT003 - the only argument
    return found
