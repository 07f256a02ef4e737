"""``celeryd``: the command that starts a worker. ``manage.py celeryd`` takes the same options."""

import argparse
import logging
import os
import platform
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import django
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import DEFAULT_DB_ALIAS, connections
from django.db import Error as DatabaseTrouble

from celery import backends, broker, conf, log, mail, version_with_meta
from celery.broker import store
from celery.message import is_name
from celery.platform import PIDFile, daemonize, require_linux
from celery.worker import connections as worker_connections
from celery.worker.supervisor import Options, Supervisor

MESSAGE_TABLES = ("celery_message", "celery_worker", "celery_periodictaskmeta")
#: Beyond this a number of children is a slip of the hand, which one machine does not survive.
MOST_CHILDREN = 1000
RESULT_TABLES = ("celery_taskmeta",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of celeryd."""
    parser.add_argument("-c", "--concurrency", type=int, metavar="N", help="child processes (CELERYD_CONCURRENCY)")
    parser.add_argument("-Q", "--queues", metavar="A,B", help="queues to take from (the default queue)")
    parser.add_argument("-n", "--name", help="name of this worker in logs and tables (host name and pid)")
    parser.add_argument("-l", "--loglevel", metavar="LEVEL", help="DEBUG, INFO, WARNING, ERROR or CRITICAL")
    parser.add_argument("-f", "--logfile", metavar="PATH", help="write the log there instead of to standard error")
    parser.add_argument("-p", "--pidfile", metavar="PATH", help="keep the pid there while running")
    parser.add_argument(
        "-d",
        "--daemon",
        "--detach",
        dest="detach",
        action="store_true",
        help="go on in the background; without -f and -p, with CELERYD_LOG_FILE and CELERYD_PID_FILE",
    )
    parser.add_argument(
        "-w",
        "--wakeup-after",
        dest="queue_wakeup_after",
        type=float,
        metavar="SECONDS",
        help="means nothing any more: a worker is told of messages, or decides itself when to look",
    )
    parser.add_argument(
        "--no-beat", dest="beat", action="store_const", const=False, help="send no periodic tasks (CELERYD_BEAT)"
    )


def parse_options(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line of the console script."""
    parser = argparse.ArgumentParser(prog="celeryd", description="Run tasks of a Django project.")
    parser.add_argument("--version", action="version", version=f"celery {version_with_meta()}")
    add_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, **options: Any) -> None:
    """Start a worker for the project that DJANGO_SETTINGS_MODULE names, found from the current folder.

    Options by name, as `parse_options` returns them, win over `argv`; with such options, `argv` is empty unless given.
    """
    given = argv if argv is not None else () if options else sys.argv[1:]
    chosen = {**vars(parse_options(given)), **options}
    if isinstance(chosen["loglevel"], int):
        chosen["loglevel"] = logging.getLevelName(chosen["loglevel"])
    for folder in filter(None, (str(Path.cwd()), os.environ.get("DJANGO_PROJECT_DIR"))):
        sys.path.insert(0, folder)
    if "DJANGO_SETTINGS_MODULE" not in os.environ:
        sys.exit("celeryd: set DJANGO_SETTINGS_MODULE, or start it as `manage.py celeryd`.")
    django.setup()
    try:
        call_command("celeryd", **chosen, skip_checks=False)
    except (CommandError, ImproperlyConfigured) as error:
        sys.exit(f"celeryd: {error}")


def run(options: dict[str, object]) -> int:
    """Run a worker until it is told to stop, and return its exit code. SIGHUP begins anew with new code."""
    require_linux()
    home = Path.cwd()
    options = _with_files(options)
    worker_options(options)
    _open_log(options)
    if options.get("queue_wakeup_after") is not None:
        log.logger.warning("-w means nothing any more: a worker is told of messages, or decides itself when to look.")
    mail.connect()
    worker_connections.prepare()
    preflight()
    _warn_of_threads()
    pidfile = _held(options)
    supervisor = Supervisor(worker_options(options))  # its name has the pid, which is the daemon's from here on
    try:
        code = supervisor.run()
    finally:
        if pidfile:
            pidfile.release()
    if supervisor.wants_restart:
        os.chdir(home)
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - the very command line that started us
    return code


def _with_files(options: dict[str, object]) -> dict[str, object]:
    """Return the options; a daemon has a log and a pid file, by default those of the settings."""
    if not options.get("detach"):
        return options
    files = {"logfile": conf.DAEMON_LOG_FILE, "pidfile": conf.DAEMON_PID_FILE}
    return {**options, **{name: options.get(name) or default for name, default in files.items()}}


def _held(options: dict[str, object]) -> PIDFile | None:
    """Go to the background if that is asked for, and hold the pid file if there is one. SystemExit if another does."""
    if options.get("detach"):
        return daemonize(str(options["pidfile"]))
    if not options.get("pidfile"):
        return None
    held = PIDFile(str(options["pidfile"]))
    held.acquire()
    return held


def _open_log(options: dict[str, object]) -> None:
    level, file = options.get("loglevel"), options.get("logfile")
    try:
        log.setup_logger(str(level) if level else None, str(file) if file else None)
    except OSError as error:
        text = f"the log file {file} cannot be written: {error.strerror}. Choose another with --logfile."
        raise CommandError(text) from error


def worker_options(options: dict[str, object]) -> Options:
    """Return the options of the command line and the settings, checked. Raises CommandError."""
    asked = options.get("concurrency")
    children = conf.DAEMON_CONCURRENCY if asked is None else asked
    if not isinstance(children, int) or not 1 <= children <= MOST_CHILDREN:
        text = f"the number of children is from 1 to {MOST_CHILDREN}, not {children}"
        raise CommandError(text)
    level = str(options.get("loglevel") or conf.DAEMON_LOG_LEVEL).upper()
    if level not in conf.BY_CONSTANT["DAEMON_LOG_LEVEL"].choices:
        text = f"{level} is no log level: choose one of {', '.join(conf.BY_CONSTANT['DAEMON_LOG_LEVEL'].choices)}"
        raise CommandError(text)
    queues = tuple(
        dict.fromkeys(
            name.strip() for name in str(options.get("queues") or conf.AMQP_CONSUMER_QUEUE).split(",") if name.strip()
        )
    )
    if not queues:
        text = "-Q names no queue"
        raise CommandError(text)
    if odd := [queue for queue in queues if not is_name(queue)]:
        text = f"-Q names a queue that cannot be: {odd[0]!r:.80}. A name has at most 255 characters and no NUL."
        raise CommandError(text)
    name = str(options.get("name") or f"{platform.node()}.{os.getpid()}")
    drain_timeout = float(conf.DRAIN_TIMEOUT)
    return Options(
        name=name[:255], queues=queues, children=children, drain_timeout=drain_timeout, beat=_has_beat(options)
    )


def _has_beat(options: dict[str, object]) -> bool:
    """Tell whether this worker sends periodic tasks. Raises CommandError if their state can be kept nowhere."""
    asked = options.get("beat")
    has_beat = bool(conf.DAEMON_BEAT if asked is None else asked)
    if has_beat and "PeriodicStatus" not in backends.default_periodic_status().capabilities:
        text = (
            f"CELERY_PERIODIC_STATUS_BACKEND = {conf.PERIODIC_STATUS_BACKEND!r} cannot keep the state of periodic "
            "tasks: write 'database', or start with --no-beat."
        )
        raise CommandError(text)
    return has_beat


def preflight() -> None:
    """Refuse to start on databases without our tables; one that cannot be reached now is waited for by the worker.

    With CELERY_ALWAYS_EAGER too: nothing would ever come.
    """
    if broker.is_eager():
        raise CommandError(f"{broker.EAGER_TEXT} a worker gets nothing. Remove it from the settings; it is for tests.")
    if str(conf.BROKER_URL).startswith("memory://"):
        text = "memory:// is for tests in one process: no message reaches a worker in another. Use django:// here."
        raise CommandError(text)
    wanted = {broker.current().alias: set(MESSAGE_TABLES)}
    if results := backends.default().alias:
        wanted[results] = wanted.get(results, set()).union(RESULT_TABLES)
    try:
        for alias, tables in wanted.items():
            _check_database(alias, tables)
    finally:
        connections.close_all()


def _check_database(alias: str, tables: set[str]) -> None:
    connection = connections[alias]
    try:
        with connection.cursor() as cursor:
            missing = tables - set(connection.introspection.table_names(cursor))
            shortcoming = store.of(alias).shortcoming()
            if connection.vendor == "sqlite" and conf.SQLITE_TUNING:
                cursor.execute("PRAGMA journal_mode = WAL")
    except DatabaseTrouble as error:
        log.logger.warning("The database %r cannot be reached yet: %s", alias, error)
        return
    if shortcoming:
        text = f"DATABASES[{alias!r}] is too old: {shortcoming}. Use MariaDB 10.6, MySQL 8.0.17, or later."
        raise CommandError(text)
    if missing:
        where = "" if alias == DEFAULT_DB_ALIAS else f" --database={alias}"
        text = f"{', '.join(sorted(missing))} is missing in DATABASES[{alias!r}]: run `manage.py migrate{where}` first."
        raise CommandError(text)


def _warn_of_threads() -> None:
    """Name threads that the project's imports have started: they do not exist in the forked processes."""
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        log.logger.warning("Threads started by imports do not run in child processes: %s.", ", ".join(others))
