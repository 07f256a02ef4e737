"""``celeryd --autoreload``: a worker for development that starts anew when a file of the project changes.

This process only watches, by the reloader of Django's runserver; the worker is a process that it starts by the same
command line. So the reloader and the project's code never meet: a worker that cannot start because of a syntax error
is started again after the next change, and the supervisor forks in a process that is its own.
"""

import contextlib
import functools
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Final

from django.apps import apps
from django.db import connections
from django.utils import autoreload

from celery import log
from celery.platform import die_with_parent
from celery.worker.process import describe_exit

#: Seconds that running tasks get when a file has changed, at most; what is left goes back to its queue.
LONGEST_DRAIN: Final = 2.0
#: Seconds that the worker gets to give back what is left, until it is killed.
GRACE: Final = 12.0
#: What is passed on to the worker, and whether we end with it.
ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
PASSED_ON: Final = (signal.SIGUSR1, signal.SIGUSR2)
#: The exit code of who was killed by a signal, less its number: as the shell has it.
KILLED: Final = 128
#: Folders of code that is installed and not written here.
INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


def run(drain_timeout: float) -> int:
    """Run workers one after another until told to stop; return the exit code of the last one."""
    connections.close_all()
    return Watch(min(drain_timeout, LONGEST_DRAIN)).run()


class Watch:
    """The worker, and what becomes of it when a file changes. `patience`: seconds that its tasks get then."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._worker: subprocess.Popen[bytes] | None = None
        self._changed: Path | None = None
        self._ending = 0  # the signal that has asked for the end
        self._told: subprocess.Popen[bytes] | None = None  # the worker that it was passed on to

    def run(self) -> int:
        """Look for changes, and after the worker, until one of us is told to stop."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever started us may have it ignored: no exit codes then
        for number in (*ENDING, *PASSED_ON):
            signal.signal(number, self._pass_on)
        reloader = autoreload.get_reloader()
        for folder, pattern in folders():
            reloader.watch_dir(folder, pattern)
        autoreload.file_changed.connect(self._note, dispatch_uid="celery.autoreload")
        autoreload.autoreload_started.send(sender=reloader)
        self._start()
        code = None
        for _ in reloader.tick():
            code = self._look()
            if code is not None:
                break
        return code or 0

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        """Let the worker know, too. A terminal that is closed says HUP, which would have a worker start anew."""
        number = signal.SIGTERM if number == signal.SIGHUP else number
        if number in ENDING:
            self._ending, self._told = number, self._worker
        if self._worker:
            self._worker.send_signal(number)

    def _note(self, *, file_path: Path, **_: Any) -> bool:
        """Keep what the reloader has found; True keeps it from ending this process."""
        self._changed = file_path
        return True

    def _look(self) -> int | None:
        """Do what is to be done; return the exit code when it is over."""
        if self._ending and self._worker:
            self._tell_once(self._worker)
            self._worker.wait()  # it has its own time to drain
        if self._worker and self._worker.poll() is not None:
            code, self._worker = self._worker.returncode, None
            if self._ending or code == 0:
                return code if code >= 0 else KILLED - code
            log.logger.error("The worker ended (%s); it starts anew when a file changes.", describe_exit(code))
        if self._changed and not self._ending:
            log.logger.info("%s has changed: the worker starts anew.", self._changed)
            self._changed = None
            self._replace()
        return 0 if self._ending and not self._worker else None

    def _tell_once(self, worker: "subprocess.Popen[bytes]") -> None:
        """Pass the end on to a worker that was only just being started when it was asked for.

        To no other one: a worker takes a second signal for haste, and kills what runs.
        """
        if self._told is not worker:
            self._told = worker
            worker.send_signal(self._ending)

    def _replace(self) -> None:
        """Have the worker drain, but quickly, and start the next one."""
        if self._worker:
            for number, patience in ((signal.SIGTERM, self._patience), (signal.SIGQUIT, GRACE), (signal.SIGKILL, None)):
                self._worker.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._worker.wait(patience)
                    break
            self._worker = None
        self._start()

    def _start(self) -> None:
        if not self._ending:
            self._worker = subprocess.Popen(  # noqa: S603 - the very command line that started us
                [sys.executable, *sys.orig_argv[1:]],
                env={**os.environ, autoreload.DJANGO_AUTORELOAD_ENV: "true"},
                preexec_fn=functools.partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - there is no thread here
            )


def folders() -> list[tuple[Path, str]]:
    """Return where the project's own code is: its applications, and what stands beside its settings."""
    applications = [Path(application.path) for application in apps.get_app_configs()]
    found = [(path, "**/*.py") for path in applications if not INSTALLED.intersection(path.parts)]
    settings = getattr(sys.modules.get(os.environ.get("DJANGO_SETTINGS_MODULE", "")), "__file__", None)
    return [*found, (Path(settings).parent, "*.py")] if settings else found
