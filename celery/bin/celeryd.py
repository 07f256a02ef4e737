"""``celeryd``: the command that starts a worker. ``manage.py celeryd`` takes the same options."""

import argparse
import contextlib
import logging
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import django
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.utils.autoreload import DJANGO_AUTORELOAD_ENV

from celery import backends, conf, log, mail, version_with_meta
from celery.bin import autoreload
from celery.bin.options import BY_DEST, add_arguments, chosen, misspelt, with_environment
from celery.bin.preflight import preflight, warn_of_threads
from celery.bin.values import MOST_CHILDREN, never_comes
from celery.platform import DAEMON_UMASK, PIDFile, daemonize, require_linux
from celery.worker import connections as worker_connections
from celery.worker.health import listener
from celery.worker.options import Options
from celery.worker.supervisor import Supervisor

__all__ = ["EPILOG", "MOST_CHILDREN", "add_arguments", "main", "parse_options", "preflight", "run", "worker_options"]

#: The end of the help.
EPILOG = (
    "`celeryd --ping [--socket PATH]` asks a worker that runs whether it is well; `celeryd --ping --help` says more."
)
#: Where both streams of a daemon end while it starts anew: what goes wrong then is nowhere else to be read.
STANDARD_STREAMS = (1, 2)


def parse_options(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line of the console script."""
    parser = argparse.ArgumentParser(prog="celeryd", description="Run tasks of a Django project.", epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"celery {version_with_meta()}")
    add_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, **options: Any) -> None:
    """Start a worker for the project that DJANGO_SETTINGS_MODULE names.

    It is looked for in the folder DJANGO_PROJECT_DIR, then in the current one. Options by name, as `parse_options`
    returns them, win over `argv`; with such options, `argv` is empty unless given.
    """
    given = argv if argv is not None else () if options else sys.argv[1:]
    known = {**vars(parse_options(given)), **options}
    if isinstance(known["loglevel"], int):
        known["loglevel"] = logging.getLevelName(known["loglevel"])
    if "DJANGO_SETTINGS_MODULE" not in os.environ:
        sys.exit("celeryd: set DJANGO_SETTINGS_MODULE, or start it as `manage.py celeryd`.")
    _set_up(os.environ["DJANGO_SETTINGS_MODULE"])
    try:
        call_command("celeryd", **known, skip_checks=False)
    except (CommandError, ImproperlyConfigured) as error:
        sys.exit(f"celeryd: {error}")


def _set_up(settings: str) -> None:
    """Find the project in the folder DJANGO_PROJECT_DIR, then in the current one, and set Django up."""
    folders = [str(Path(folder).absolute()) for folder in (os.environ.get("DJANGO_PROJECT_DIR"), Path.cwd()) if folder]
    sys.path[:0] = folders
    try:
        django.setup()
    except ModuleNotFoundError as error:
        if not error.name or not f"{settings}.".startswith(f"{error.name}."):
            raise  # of the project's own code
        sys.exit(
            f"celeryd: no module named {error.name} for DJANGO_SETTINGS_MODULE = {settings!r} in {', '.join(folders)}: "
            "start it in the folder of manage.py, or name that in DJANGO_PROJECT_DIR."
        )


def run(options: Mapping[str, Any]) -> int:
    """Run a worker until it is told to stop, and return its exit code. SIGHUP begins anew with new code."""
    require_linux()
    options = _with_files(with_environment(options))
    worker_options(options)
    mask = _masked(options)
    _open_log(options)
    if options.get("autoreload") and os.environ.get(DJANGO_AUTORELOAD_ENV) != "true":
        return autoreload.run(float(chosen(options, "drain_timeout")))
    home = _current_folder()
    _prepare(options)
    return _work(options, _held(options, mask), home)


def _prepare(options: Mapping[str, Any]) -> None:
    """Do, and refuse, what can be while there is a terminal that can be told."""
    _warn(options)
    mail.connect()
    worker_connections.prepare()
    preflight()
    warn_of_threads()
    if options.get("pidfile"):  # before the socket: a second start of the same daemon is told of the first one's pid
        PIDFile(str(options["pidfile"])).check()
    if socket := chosen(options, "socket"):
        listener.refuse(socket)


def _work(options: Mapping[str, Any], pidfile: PIDFile | None, home: str) -> int:
    """Run the worker and return its exit code, or begin anew in the folder `home`."""
    try:
        chosen_options = worker_options(options)  # its name has the pid, which is the daemon's from here on
        supervisor = Supervisor(chosen_options)
        code = supervisor.run()
    finally:
        if pidfile:
            pidfile.release()
    if supervisor.wants_restart:
        log.logger.info("Worker %s starts anew.", chosen_options.name)
        _begin_anew(home, is_daemon=bool(options.get("detach")))
    return code


def _with_files(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options, with the socket's path as it is in this folder: a daemon has another one.

    A daemon has a log and a pid file, by default those of the settings, and no reloader.
    """
    options = {**options, "socket": chosen(options, "socket")}
    if not options.get("detach"):
        return options
    if options.get("autoreload"):
        raise CommandError("--autoreload is for development, in the foreground: leave out --daemon, or it.")
    files = {name: options.get(name) or chosen(options, name) for name in ("logfile", "pidfile")}
    return {**options, **files}


def _masked(options: Mapping[str, Any]) -> int:
    """Set the umask that is asked for, or that of a daemon, and return what is in force."""
    asked: int | None = chosen(options, "umask")
    if asked is None and options.get("detach"):
        asked = DAEMON_UMASK
    if asked is None:
        asked = os.umask(0)
    os.umask(asked)
    return asked


def _open_log(options: Mapping[str, Any]) -> None:
    level, file, form = options.get("loglevel"), options.get("logfile"), chosen(options, "log_format")
    has_no_say = log.is_the_projects() and not file and options.get("log_format")
    try:
        log.setup_logger(str(level) if level else None, str(file) if file else None, form)
    except OSError as error:
        text = f"the log file {file} cannot be written: {error.strerror}. Choose another with --logfile."
        raise CommandError(text) from error
    if has_no_say:
        log.logger.warning("--log-format has no effect: LOGGING configures the logger celery, and -f names no file.")


def _warn(options: Mapping[str, Any]) -> None:
    """Tell of what was said and has no effect."""
    if options.get("queue_wakeup_after") is not None:
        log.logger.warning("-w means nothing any more: a worker is told of messages, or decides itself when to look.")
    for name, meant in misspelt().items():
        log.logger.warning("%s in the environment says nothing to celeryd. Do you mean %s?", name, meant)


def _held(options: Mapping[str, Any], mask: int) -> PIDFile | None:
    """Go to the background if that is asked for, and hold the pid file if there is one. SystemExit if another does."""
    if options.get("detach"):
        sys.path[:] = [os.path.abspath(folder) for folder in sys.path]  # noqa: PTH100 - "" is the current folder
        return daemonize(str(options["pidfile"]), umask=mask)
    if not options.get("pidfile"):
        return None
    held = PIDFile(str(options["pidfile"]))
    held.acquire()
    return held


def _current_folder() -> str:
    """Return where we are, by the name that the shell has for it: a link may lead to newer code later."""
    name = os.environ.get("PWD", "")
    with contextlib.suppress(OSError):
        if Path(name).is_absolute() and Path(name).samefile(Path.cwd()):
            return name
    return str(Path.cwd())


def _begin_anew(home: str, *, is_daemon: bool) -> NoReturn:
    """Become the program of the very command line that started us, in the folder where that was."""
    try:
        os.chdir(home)
    except OSError as error:
        log.logger.error("Starting anew without the folder %s: %s.", home, error.strerror)
    if is_daemon:
        for descriptor in STANDARD_STREAMS:
            os.dup2(log.stream().fileno(), descriptor)
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - the very command line that started us


def worker_options(options: Mapping[str, Any]) -> Options:
    """Return the options of the command line and the settings, checked. Raises CommandError."""
    for option in BY_DEST:
        chosen(options, option)
    time_limit, soft_time_limit = chosen(options, "time_limit"), chosen(options, "soft_time_limit")
    if never_comes(soft_time_limit, time_limit):
        raise CommandError(
            f"the soft time limit ({soft_time_limit:g} s) would never be reached: make it shorter than the hard one "
            f"({time_limit:g} s), or leave one of them out."
        )
    return Options(
        name=str(options.get("name") or f"{platform.node()}.{os.getpid()}")[:255],
        queues=chosen(options, "queues"),
        children=chosen(options, "concurrency"),
        drain_timeout=float(chosen(options, "drain_timeout")),
        beat=_has_beat(options),
        time_limit=time_limit,
        soft_time_limit=soft_time_limit,
        max_tasks=chosen(options, "max_tasks_per_child"),
        max_memory=chosen(options, "max_memory_per_child"),
        socket=chosen(options, "socket"),
    )


def _has_beat(options: Mapping[str, Any]) -> bool:
    """Tell whether this worker sends periodic tasks. Raises CommandError if their state can be kept nowhere."""
    has_beat = bool(chosen(options, "beat"))
    if has_beat and "PeriodicStatus" not in backends.default_periodic_status().capabilities:
        text = (
            f"CELERY_PERIODIC_STATUS_BACKEND = {conf.PERIODIC_STATUS_BACKEND!r} cannot keep the state of periodic "
            "tasks: write 'database', or start with --no-beat."
        )
        raise CommandError(text)
    return has_beat
