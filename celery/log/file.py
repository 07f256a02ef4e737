"""The log file: a line is one write, and whatever happens to the file, no process ends of it."""

import contextlib
import logging
import os
import sys
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Final

#: The descriptor, which is there even when `sys.stderr` was replaced or closed.
STANDARD_ERROR: Final = 2
#: The mode of a log file that we make, less the umask: lines may show what only the operator should see.
MODE: Final = 0o640


class LogFile(WatchedFileHandler):
    """A log file that is opened anew when it was moved away, and kept while that is not possible.

    Lines go to the file as whole writes at its end, so those of several processes do not mix. Its descriptor stays the
    same when it is opened anew: other threads, and what dumps stacks, may be writing to it. Lines that a full disk has
    no room for are counted, and the first one that gets through says how many they were.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._lost = 0
        self._is_cut = False
        self._is_stuck = False

    def _open(self) -> TextIOWrapper:
        made = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
        return os.fdopen(made, "a", encoding="utf-8", errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of `record`. Raises nothing."""
        try:
            self.reopenIfNeeded()
            if self._lost:
                self._write(self._line(f"{self._lost} lines before this one are lost: they could not be written."))
                self._lost = 0
            self._write(self.format(record))
        except Exception:  # noqa: BLE001 - logging's rule: what is wrong with a line is told, not raised
            self.handleError(record)

    def _line(self, message: str) -> str:
        """Return a line of our own, in the form of all others."""
        return self.format(logging.LogRecord("celery.worker", logging.ERROR, __file__, 0, message, None, None))

    def _write(self, line: str) -> None:
        """Write it at once, on a line of its own. Raises OSError."""
        data = (("\n" if self._is_cut else "") + line + self.terminator).encode("utf-8", "backslashreplace")
        done = 0
        try:
            while self.stream and done < len(data):
                done += os.write(self.stream.fileno(), data[done:])
        finally:
            self._is_cut = 0 < done < len(data) or (self._is_cut and not done)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Count a line that could not be written; the first one is told on standard error."""
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._lost += 1
        if self._lost == 1:
            emergency_error(
                None, f"the log file {self.baseFilename} cannot be written: {error.strerror}. Its lines are lost."
            )

    def reopenIfNeeded(self) -> None:  # noqa: N802 - the name is logging's
        """Look whether the path still leads to our file; a missing folder or a full disk ends no worker."""
        if self.stream is None:  # it was closed, as at the end of the program
            self.stream = self._open()
            self._statstream()
        elif not self._is_there():
            self._reopen(self.stream.fileno())

    def _reopen(self, descriptor: int) -> None:
        try:
            made = self._open()
        except OSError as error:
            self._tell_once(error)
            return
        with made:
            os.dup2(made.fileno(), descriptor, inheritable=False)
        self._is_stuck = self._is_cut = False
        self._statstream()

    def _is_there(self) -> bool:
        try:
            found = Path(self.baseFilename).stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (self.dev, self.ino)

    def _tell_once(self, error: OSError) -> None:
        """Say into the file that we still have why there is no new one; its reader looks for the lines."""
        if not self._is_stuck:
            self._is_stuck = True
            text = (
                f"The log file {self.baseFilename} cannot be opened anew: {error.strerror}. Lines go where they went."
            )
            with contextlib.suppress(OSError):
                self._write(self._line(text))


def emergency_error(logfile: str | os.PathLike[str] | None, message: str) -> None:
    """Write `message` with time and pid to `logfile`, or to standard error where that cannot be.

    For when logging itself is broken: it uses nothing of it, waits for nothing (not for the reader of a pipe either),
    and raises nothing.
    """
    line = f"[{datetime.now(UTC).astimezone().isoformat(timespec='seconds')}: EMERGENCY/{os.getpid()}] {message}\n"
    data = line.encode("utf-8", "backslashreplace")
    if not (logfile and _append(logfile, data)):
        with contextlib.suppress(OSError):
            os.write(STANDARD_ERROR, data)


def _append(path: str | os.PathLike[str], data: bytes) -> bool:
    """Tell whether all of it was written."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, MODE)
    except (OSError, ValueError, TypeError):  # NUL in the path; no path at all
        return False
    try:
        return os.write(file, data) == len(data)
    except OSError:
        return False
    finally:
        os.close(file)
