"""One forked process of the worker: its start, what it does first, and how it ended."""

import contextlib
import faulthandler
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Container, Iterable
from typing import Any, Final

from billiard.context import ForkProcess
from django.db import connections

from celery import log, mail
from celery.platform import die_with_parent, set_process_name

logger = logging.getLogger("celery.worker")

#: Signals that concern the worker as a whole: the supervisor answers them, also when all processes get them (Ctrl-C).
WORKER_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
#: Seconds for one process to write its stacks before the next does.
DUMP_PAUSE: Final = 0.02
ALL_SIGNALS: Final = (*WORKER_SIGNALS, signal.SIGUSR1, signal.SIGUSR2)


class Offspring:
    """A process that the supervisor forked. `control` is the supervisor's end of the channel to it, if it has one."""

    def __init__(self, role: str, index: int = 0, *, control: socket.socket | None = None) -> None:
        self.role = role
        self.index = index
        self.control = control
        self.started_at = time.monotonic()
        self.pidfd = -1
        #: The job for which a child was killed, and the time limit in seconds that it had passed.
        self.overdue = 0
        self.limit = 0.0
        #: Why the supervisor killed it, in words.
        self.killed_for = ""
        self._process: Any = None

    @property
    def pid(self) -> int:
        """The process id."""
        return int(self._process.pid)

    @property
    def name(self) -> str:
        """What the process is called in logs."""
        return f"{self.role}-{self.index + 1}" if self.role == "child" else self.role

    def start(self, run: Callable[[], None], close_first: Iterable[Any]) -> None:
        """Fork. Signals are blocked until the new process has set its own handlers."""
        self._process = ForkProcess(
            target=_enter, args=(run, self.name, os.getpid(), list(close_first)), name=self.name
        )
        signal.pthread_sigmask(signal.SIG_BLOCK, ALL_SIGNALS)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL_SIGNALS)
        self.pidfd = os.pidfd_open(self.pid)

    def send_signal(self, number: int) -> None:
        """Send a signal; harmless when the process has just ended."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return

    def reap(self) -> int:
        """Return the exit code of a process that has ended (negative: the signal), and let go of everything of it."""
        self._process.join()
        os.close(self.pidfd)
        if self.control:
            self.control.close()
            self.control = None
        return int(self._process.exitcode)


def describe_exit(code: int) -> str:
    """Return an exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


def reap_strangers(ours: Container[int]) -> None:
    """Reap processes that have ended and are not `ours`: what tasks left behind comes to pid 1 of a container."""
    with contextlib.suppress(ChildProcessError):  # there is none at all
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in ours:  # it is buried in its turn
                return
            os.waitid(os.P_PID, ended.si_pid, os.WEXITED | os.WNOHANG)


def dump_stacks(family: Iterable[Offspring]) -> None:
    """Write our own stacks to the log, and have `family` write theirs, one after another, each under its name."""
    log.write(f"\nStacks of the supervisor, pid {os.getpid()}:\n")
    faulthandler.dump_traceback(file=log.stream())
    for one in family:
        log.write(f"\nStacks of {one.name}, pid {one.pid}:\n")
        one.send_signal(signal.SIGUSR1)
        time.sleep(DUMP_PAUSE)


def _enter(run: Callable[[], None], name: str, parent: int, close_first: Iterable[Any]) -> None:
    """Be a process of the worker: end with the parent, leave the worker's signals to it, and hold nothing of its."""
    die_with_parent(parent)
    set_process_name(f"celeryd-{name}")
    signal.set_wakeup_fd(-1)
    for number in WORKER_SIGNALS:
        signal.signal(number, _leave_to_supervisor)
    signal.signal(signal.SIGUSR2, _reopen_log)
    _reopen_log()
    for end in close_first:
        end.close()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL_SIGNALS)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        run()
    except BaseException:
        logger.critical("The %s fails, and is started anew.", name, exc_info=True)  # standard error may be nowhere
        raise
    finally:
        mail.flush()
        connections.close_all()


def _leave_to_supervisor(*_: Any) -> None:
    """Do nothing. Unlike SIG_IGN, a handler is not inherited by the programs that a task starts."""


def _reopen_log(*_: Any) -> None:
    """Open the log anew; stacks are dumped into the same file, by its descriptor."""
    log.reopen()
    faulthandler.register(signal.SIGUSR1, file=log.stream(), all_threads=True)


class Wakeup:
    """Signals as bytes that a selector sees; the handlers themselves do nothing."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.settimeout(0)
        self._write.settimeout(0)

    def install(self) -> None:
        """Catch the worker's signals from now on."""
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in ALL_SIGNALS:
            signal.signal(number, _leave_to_supervisor)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL_SIGNALS)

    def uninstall(self) -> None:
        """Hold signals back from now on: a process that is ending ignores them, one that starts anew gets them."""
        signal.pthread_sigmask(signal.SIG_BLOCK, ALL_SIGNALS)
        signal.set_wakeup_fd(-1)
        self.close()

    def watch(self, selector: selectors.BaseSelector, react: Callable[[], None]) -> None:
        """Have `selector` call `react` when there was a signal."""
        selector.register(self._read, selectors.EVENT_READ, react)

    def received(self) -> list[int]:
        """Return the signals since the last call."""
        try:
            return list(self._read.recv(4096))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Close both ends."""
        self._read.close()
        self._write.close()
