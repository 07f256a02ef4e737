"""What is looked at before a worker starts: places where it cannot work are refused, with a sentence."""

import threading
from typing import Final

from django.core.management import CommandError
from django.db import DEFAULT_DB_ALIAS, connections
from django.db import Error as DatabaseTrouble

from celery import backends, broker, conf, log
from celery.broker import store
from celery.worker.chore import one_line

MESSAGE_TABLES: Final = (
    "celery_message",
    "celery_worker",
    "celery_periodictaskmeta",
    "celery_throughput",
    "celery_queuedepth",
)
RESULT_TABLES: Final = ("celery_taskmeta",)


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
        log.logger.warning("The database %r cannot be reached yet: %s", alias, one_line(error))
        return
    if shortcoming:
        text = f"DATABASES[{alias!r}] is too old: {shortcoming}. Use MariaDB 10.6, MySQL 8.0.17, or later."
        raise CommandError(text)
    if missing:
        where = "" if alias == DEFAULT_DB_ALIAS else f" --database={alias}"
        names, verb = ", ".join(sorted(missing)), "is" if len(missing) == 1 else "are"
        text = f"{names} {verb} missing in DATABASES[{alias!r}]: run `manage.py migrate{where}` first."
        raise CommandError(text)


def warn_of_threads() -> None:
    """Name threads that the project's imports have started: they do not exist in the forked processes."""
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        log.logger.warning("Threads started by imports do not run in child processes: %s.", ", ".join(others))
