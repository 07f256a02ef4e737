"""``celeryd``: the command that starts a worker. ``manage.py celeryd`` takes the same options."""

import argparse
import os
import platform
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import django
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import DEFAULT_DB_ALIAS, connections
from django.db import Error as DatabaseTrouble

from celery import backends, broker, conf, log, version_with_meta
from celery.message import is_name
from celery.platform import PIDFile, require_linux
from celery.worker import connections as worker_connections
from celery.worker.supervisor import Options, Supervisor

MESSAGE_TABLES = ("celery_message", "celery_worker")
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


def parse_options(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line of the console script."""
    parser = argparse.ArgumentParser(prog="celeryd", description="Run tasks of a Django project.")
    parser.add_argument("--version", action="version", version=f"celery {version_with_meta()}")
    add_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Start a worker for the project that DJANGO_SETTINGS_MODULE names, found from the current folder."""
    options = parse_options(sys.argv[1:] if argv is None else argv)
    sys.path.insert(0, os.environ.get("DJANGO_PROJECT_DIR") or str(Path.cwd()))
    if "DJANGO_SETTINGS_MODULE" not in os.environ:
        sys.exit("celeryd: set DJANGO_SETTINGS_MODULE, or start it as `manage.py celeryd`.")
    django.setup()
    try:
        call_command("celeryd", **vars(options), skip_checks=False)
    except (CommandError, ImproperlyConfigured) as error:
        sys.exit(f"celeryd: {error}")


def run(options: dict[str, object]) -> int:
    """Run a worker until it is told to stop, and return its exit code. SIGHUP begins anew with new code."""
    require_linux()
    settled = worker_options(options)
    _open_log(options)
    worker_connections.prepare()
    preflight()
    _warn_of_threads()
    pidfile = PIDFile(str(options["pidfile"])) if options.get("pidfile") else None
    if pidfile:
        pidfile.acquire()
    supervisor = Supervisor(settled)
    try:
        code = supervisor.run()
    finally:
        if pidfile:
            pidfile.release()
    if supervisor.wants_restart:
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - the very command line that started us
    return code


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
        dict.fromkeys(name.strip() for name in str(options.get("queues") or conf.QUEUE).split(",") if name.strip())
    )
    if not queues:
        text = "-Q names no queue"
        raise CommandError(text)
    if odd := [queue for queue in queues if not is_name(queue)]:
        text = f"-Q names a queue that cannot be: {odd[0]!r:.80}. A name has at most 255 characters and no NUL."
        raise CommandError(text)
    name = str(options.get("name") or f"{platform.node()}.{os.getpid()}")
    return Options(name=name[:255], queues=queues, children=children, drain_timeout=float(conf.DRAIN_TIMEOUT))


def preflight() -> None:
    """Refuse to start on databases without our tables; one that cannot be reached now is waited for by the worker."""
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
            if connection.vendor == "sqlite" and conf.SQLITE_TUNING:
                cursor.execute("PRAGMA journal_mode = WAL")
    except DatabaseTrouble as error:
        log.logger.warning("The database %r cannot be reached yet: %s", alias, error)
        return
    if missing:
        where = "" if alias == DEFAULT_DB_ALIAS else f" --database={alias}"
        text = f"{', '.join(sorted(missing))} is missing in DATABASES[{alias!r}]: run `manage.py migrate{where}` first."
        raise CommandError(text)


def _warn_of_threads() -> None:
    """Name threads that the project's imports have started: they do not exist in the forked processes."""
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        log.logger.warning("Threads started by imports do not run in child processes: %s.", ", ".join(others))
