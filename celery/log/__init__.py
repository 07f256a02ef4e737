"""The log of the worker: one logger tree, ``celery``, and listeners that turn signals into lines.

The root logger and the project's LOGGING are left alone: if these give the logger ``celery`` a handler, that is used.
"""

import contextlib
import logging
import os
import sys
from datetime import datetime
from typing import Any, Final, TextIO

from django.conf import settings

from celery import conf, signals, states
from celery.log.file import LogFile, emergency_error
from celery.log.json_lines import JSONFormatter
from celery.log.text import TextFormatter, escape_arguments

__all__ = [
    "JSON",
    "LogFile",
    "connect",
    "current_file",
    "current_level",
    "emergency_error",
    "formatter",
    "is_the_projects",
    "logger",
    "reopen",
    "setup_logger",
    "stream",
    "task_logger",
    "write",
]

logger = logging.getLogger("celery.worker")
task_logger = logging.getLogger("celery.task")

#: The format of log lines that stands for an object a line.
JSON: Final = "json"

_ROOT: Final = logging.getLogger("celery")
#: Those whose sentences tell of messages. The loggers of the tasks themselves are below ``celery.task``, and theirs.
_TELLING: Final = ("celery.worker", "celery.task", "celery.mail", "celery.broker", "celery.backends")


def setup_logger(
    loglevel: str | int | None = None,
    logfile: str | None = None,
    format: str | None = None,  # noqa: A002 - the classic name
) -> logging.Logger:
    """Set up the logger ``celery``: to `logfile`, or to standard error. Returns it.

    Where LOGGING has given it handlers these are used as they are, with the level that they have there; a log file is
    added to them.
    """
    _awaken()
    is_theirs = bool(_ROOT.handlers)
    level = loglevel or getattr(settings, "CELERYD_DAEMON_LOG_LEVEL", None)
    if level or not (is_theirs and _ROOT.level):
        level = level or conf.DAEMON_LOG_LEVEL
        _ROOT.setLevel(level.upper() if isinstance(level, str) else level)
    if logfile or not is_theirs:
        handler: logging.Handler = LogFile(logfile) if logfile else logging.StreamHandler(sys.stderr)
        handler.setFormatter(formatter(format))
        _ROOT.addHandler(handler)
        _ROOT.propagate = _ROOT.propagate and is_theirs
    connect()
    return _ROOT


def formatter(form: str | None = None) -> logging.Formatter:
    """Return what makes lines of records: of the setting's form, if none is given."""
    chosen = form or conf.LOG_FORMAT
    return JSONFormatter() if chosen == JSON else TextFormatter(chosen)


def is_the_projects() -> bool:
    """Tell whether LOGGING has given the logger ``celery`` handlers."""
    return bool(_ROOT.handlers)


def _awaken() -> None:
    """Switch our loggers on: ``disable_existing_loggers`` of LOGGING has silenced those that were there before."""
    for name, found in logging.root.manager.loggerDict.items():
        if isinstance(found, logging.Logger) and f"{name}.".startswith("celery."):
            found.disabled = False


def current_file() -> str | None:
    """Return the file that the worker logs to, or None for standard error."""
    return next((handler.baseFilename for handler in _ROOT.handlers if isinstance(handler, LogFile)), None)


def current_level() -> int:
    """Return the level from which on the worker logs."""
    return _ROOT.getEffectiveLevel()


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
        os.write(stream().fileno(), text.encode("utf-8", "backslashreplace"))


def connect() -> None:
    """Listen to the signals that become lines, each of which is one line in whatever handler it ends."""
    for name in _TELLING:
        logging.getLogger(name).addFilter(escape_arguments)
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
            extra = {"task_id": task_id, "task_name": name, "state": state, "runtime": runtime}
            task_logger.info("Task %s[%s] done in %.3f s.", name, task_id, runtime, extra=extra)
    else:
        extra = {"task_id": task_id, "task_name": name, "state": state, "runtime": runtime}
        task_logger.error("Task %s[%s] ended as %s: %s", name or "?", task_id, state, error, extra=extra)


def _task_retried(*, name: str, task_id: str, attempt: int, until: datetime, error: str, **_: Any) -> None:
    extra = {"task_id": task_id, "task_name": name, "state": states.RETRY, "attempt": attempt, "until": until}
    task_logger.warning("Task %s[%s] is tried again at %s: %s", name, task_id, until.isoformat(), error, extra=extra)


def _job_dead(*, name: str, task_id: str, reason: str, **_: Any) -> None:
    extra = {"task_id": task_id, "task_name": name, "reason": reason}
    task_logger.error("Task %s[%s] is dead: %s", name or "?", task_id, reason, extra=extra)


def _job_postponed(*, name: str, task_id: str, until: datetime, reason: str, **_: Any) -> None:
    level = logging.WARNING if reason else logging.DEBUG
    extra = {"task_id": task_id, "task_name": name, "until": until, "reason": reason}
    task_logger.log(level, "Task %s[%s] waits until %s. %s", name, task_id, until.isoformat(), reason, extra=extra)


def _process_died(*, role: str, pid: int, cause: str, **_: Any) -> None:
    logger.error("The %s with pid %d died (%s).", role, pid, cause, extra={"role": role, "died": pid, "cause": cause})


def _worker_ready(*, name: str, pid: int, queues: list[str], concurrency: int, **_: Any) -> None:
    extra = {"worker": name, "queues": queues, "concurrency": concurrency}
    text = "Worker %s is ready: pid %d, %d children, queues: %s."
    logger.info(text, name, pid, concurrency, ", ".join(queues), extra=extra)


def _worker_stopping(*, name: str, timeout: float, **_: Any) -> None:
    extra = {"worker": name}
    if timeout:
        logger.info("Worker %s stops; running tasks have %.0f seconds to finish.", name, timeout, extra=extra)
    else:
        text = "Worker %s stops at once; running tasks are killed, and given back to their queues."
        logger.warning(text, name, extra=extra)
