"""The log of the worker: one logger tree, ``celery``, and listeners that turn signals into lines.

The root logger and the project's LOGGING are left alone: if these give the logger ``celery`` a handler, that is used.
"""

import contextlib
import logging
import os
import sys
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any, Final, TextIO

from celery import conf, signals, states

logger = logging.getLogger("celery.worker")
task_logger = logging.getLogger("celery.task")

#: The descriptor, which is there even when `sys.stderr` was replaced or closed.
STANDARD_ERROR: Final = 2

_ROOT: Final = logging.getLogger("celery")


def setup_logger(
    loglevel: str | int | None = None,
    logfile: str | None = None,
    format: str | None = None,  # noqa: A002 - the classic name
) -> logging.Logger:
    """Set up the logger ``celery``: to `logfile`, or to standard error. Returns it."""
    level = loglevel or conf.DAEMON_LOG_LEVEL
    _ROOT.setLevel(level.upper() if isinstance(level, str) else level)
    if logfile or not _ROOT.handlers:
        handler: logging.Handler = LogFile(logfile) if logfile else logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(format or conf.LOG_FORMAT))
        _ROOT.addHandler(handler)
        _ROOT.propagate = False
    connect()
    return _ROOT


def current_file() -> str | None:
    """Return the file that the worker logs to, or None for standard error."""
    return next((handler.baseFilename for handler in _ROOT.handlers if isinstance(handler, LogFile)), None)


def current_level() -> int:
    """Return the level from which on the worker logs."""
    return _ROOT.getEffectiveLevel()


class LogFile(WatchedFileHandler):
    """A log file that is opened anew when it was moved away, and kept while that is not possible."""

    def reopenIfNeeded(self) -> None:  # noqa: N802 - the name is logging's
        """Look whether the path still leads to our file; a missing folder or a full disk ends no worker."""
        with contextlib.suppress(OSError):
            if not self._is_there():
                old, self.stream = self.stream, self._open()
                self._statstream()
                if old:
                    old.close()

    def _is_there(self) -> bool:
        try:
            found = Path(self.baseFilename).stat()
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == (self.dev, self.ino)


def reopen() -> None:
    """Open log files again that were moved away."""
    for handler in _ROOT.handlers:
        if isinstance(handler, LogFile):
            handler.reopenIfNeeded()


def stream() -> TextIO:
    """Return the open file of the log, for what must be written without the logging module."""
    for handler in _ROOT.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream:
            return handler.stream  # type: ignore[no-any-return]
    return sys.stderr


def write(text: str) -> None:
    """Write to the log's file without the logging module."""
    with contextlib.suppress(OSError):  # a full disk ends no worker
        file = stream()
        file.write(text)
        file.flush()


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
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except (OSError, ValueError, TypeError):  # NUL in the path; no path at all
        return False
    try:
        return os.write(file, data) == len(data)
    except OSError:
        return False
    finally:
        os.close(file)


def connect() -> None:
    """Listen to the signals that become lines."""
    signals.task_finished.connect(_task_finished, dispatch_uid="celery.log")
    signals.task_retried.connect(_task_retried, dispatch_uid="celery.log")
    signals.job_dead.connect(_job_dead, dispatch_uid="celery.log")
    signals.job_postponed.connect(_job_postponed, dispatch_uid="celery.log")
    signals.process_died.connect(_process_died, dispatch_uid="celery.log")
    signals.worker_ready.connect(_worker_ready, dispatch_uid="celery.log")
    signals.worker_stopping.connect(_worker_stopping, dispatch_uid="celery.log")


def _task_finished(*, name: str, task_id: str, state: str, runtime: float, error: str, **_: Any) -> None:
    if state == states.DONE:
        if task_logger.isEnabledFor(logging.INFO):
            extra = {"task_id": task_id, "task_name": name, "runtime": runtime}
            task_logger.info("Task %s[%s] done in %.3f s.", name, task_id, runtime, extra=extra)
    else:
        extra = {"task_id": task_id, "task_name": name, "state": state, "runtime": runtime}
        task_logger.error("Task %s[%s] ended as %s: %s", name or "?", task_id, state, error, extra=extra)


def _task_retried(*, name: str, task_id: str, attempt: int, until: datetime, error: str, **_: Any) -> None:
    extra = {"task_id": task_id, "task_name": name, "attempt": attempt}
    task_logger.warning("Task %s[%s] is tried again at %s: %s", name, task_id, until.isoformat(), error, extra=extra)


def _job_dead(*, name: str, task_id: str, reason: str, **_: Any) -> None:
    task_logger.error("Task %s[%s] is dead: %s", name or "?", task_id, reason, extra={"task_id": task_id})


def _job_postponed(*, name: str, task_id: str, until: datetime, reason: str, **_: Any) -> None:
    level = logging.WARNING if reason else logging.DEBUG
    extra = {"task_id": task_id, "task_name": name}
    task_logger.log(level, "Task %s[%s] waits until %s. %s", name, task_id, until.isoformat(), reason, extra=extra)


def _process_died(*, role: str, pid: int, cause: str, **_: Any) -> None:
    logger.error("The %s with pid %d died (%s).", role, pid, cause, extra={"role": role, "pid": pid})


def _worker_ready(*, name: str, pid: int, queues: list[str], concurrency: int, **_: Any) -> None:
    logger.info("Worker %s is ready: pid %d, %d children, queues: %s.", name, pid, concurrency, ", ".join(queues))


def _worker_stopping(*, name: str, timeout: float, **_: Any) -> None:
    if timeout:
        logger.info("Worker %s stops; running tasks have %.0f seconds to finish.", name, timeout)
    else:
        logger.warning("Worker %s stops at once; running tasks are killed, and given back to their queues.", name)
