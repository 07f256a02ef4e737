"""Error e-mails: tells ADMINS of tasks that failed, by listening to signals.

An e-mail is written by a thread of its own: a slow mail server holds up no result. What cannot be sent is dropped, and
the log says so; the result and the log have the failure in any case.
"""

import atexit
import logging
import os
import platform
import queue
import shlex
import threading
import time
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.core.mail import mail_admins
from django.db import close_old_connections

from celery import conf, signals, states
from celery.log.text import printable
from celery.mail.ceiling import Answer, Ceiling
from celery.registry import tasks

logger = logging.getLogger("celery.mail")

#: E-mails that may wait for the mail server.
MOST_WAITING: Final = 100
#: Seconds that a process gives its last e-mails when it ends.
FLUSH_TIMEOUT: Final = 3.0
LONGEST_SUBJECT: Final = 200


class Failure(NamedTuple):
    """What an e-mail tells of."""

    name: str
    task_id: str
    error: str
    traceback: str
    held_back: int = 0
    advice: str = ""


def connect() -> None:
    """Listen from now on, also in the processes that are forked from this one: they share a ceiling."""
    global _ceiling  # noqa: PLW0603 - one a worker
    _ceiling = Ceiling()
    signals.task_finished.connect(_task_finished, dispatch_uid="celery.mail")
    signals.job_dead.connect(_job_dead, dispatch_uid="celery.mail")


def flush(timeout: float = FLUSH_TIMEOUT) -> None:
    """Wait until this process has sent its e-mails, `timeout` seconds at most. Harmless when it has none."""
    if _postman.pid == os.getpid() and not _postman.wait_until_idle(timeout):
        logger.error("Error e-mails are lost: the mail server did not take them within %g s.", timeout)


def _task_finished(*, name: str, task_id: str, state: str, error: str, traceback: str = "", **_: Any) -> None:
    if state == states.FAILURE:
        _tell(Failure(name, task_id, error, traceback))


def _job_dead(*, name: str, task_id: str, reason: str, **_: Any) -> None:
    advice = f"To try it again: manage.py celery_dead requeue {shlex.quote(task_id)}" if task_id else ""
    _tell(Failure(name, task_id, f"it is dead: {reason}", "", advice=advice))


def _tell(failure: Failure) -> None:
    if not conf.SEND_CELERY_TASK_ERROR_EMAILS or not settings.ADMINS:
        return
    if getattr(tasks.get(failure.name), "disable_error_emails", False):
        return
    _of_this_process().put(failure)


def send(failure: Failure) -> None:
    """Send the e-mail about `failure` to ADMINS. Raises what Django's mail raises."""
    host = platform.node()
    subject = f"celery@{host}: task {failure.name or '?'} [{failure.task_id}] failed: {failure.error}"
    lines = [
        printable(f"Task {failure.name or '?'} with id {failure.task_id} failed on {host} (pid {os.getpid()}):"),
        "",
        failure.traceback.rstrip() or failure.error,
        "",
    ]
    if failure.held_back:
        lines.append(f"{failure.held_back} more failures of this task had no e-mail of their own; the log has them.")
    if failure.advice:
        lines += [failure.advice, ""]
    lines.append("SEND_CELERY_TASK_ERROR_EMAILS = False, or disable_error_emails of the task, ends these e-mails.")
    mail_admins(printable(" ".join(subject.split()))[:LONGEST_SUBJECT], "\n".join(lines))


def _admission(name: str) -> Answer:
    """Ask the worker's ceiling for one more e-mail about this task; the first one too many is a line in the log."""
    most = int(conf.TASK_ERROR_EMAILS_PER_HOUR)
    answer = _ceiling.ask(_known(name), most)
    if most and not answer.is_admitted and answer.held_back == 1:
        logger.warning("Task %s failed more than %d times within an hour; its e-mails pause.", name or "?", most)
    return answer


def _known(name: str) -> str:
    """Return the name of a task of ours, or "": names in messages are anybody's, and there is no end of them."""
    return name if name in tasks else ""


class Postman:
    """The thread that sends, and what waits for it. Belongs to the process that made it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._waiting: queue.Queue[Failure] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def put(self, failure: Failure) -> None:
        """Have an e-mail sent soon; never waits."""
        with self._starting:
            answer = _admission(failure.name)
            if not answer.is_admitted:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="postman", daemon=True)
                self._thread.start()
        failure = failure._replace(held_back=answer.held_back)
        try:
            self._waiting.put_nowait(failure)
        except queue.Full:
            logger.error("No e-mail about task %s [%s]: the queue is full.", failure.name, failure.task_id)  # noqa: TRY400

    def wait_until_idle(self, timeout: float) -> bool:
        """Tell whether everything was sent within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._waiting.all_tasks_done:
            while self._waiting.unfinished_tasks:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                self._waiting.all_tasks_done.wait(remaining)
        return True

    def _run(self) -> None:
        while True:
            failure = self._waiting.get()
            try:
                send(failure)
            except Exception as error:  # noqa: BLE001 - a mail server and its settings can fail in any way
                logger.error("No e-mail about task %s [%s]: %r", failure.name, failure.task_id, error)  # noqa: TRY400
            finally:
                close_old_connections()  # some e-mail backends keep a queue in the database
                self._waiting.task_done()


_ceiling = Ceiling()
_postman = Postman()


def _of_this_process() -> Postman:
    """Return our postman: a forked process has a copy of its parent's, but not the thread."""
    global _postman  # noqa: PLW0603 - one a process
    if _postman.pid != os.getpid():
        _postman = Postman()
    return _postman


atexit.register(flush)
