"""A question to a database that is never answered fails after `ANSWER` seconds, and holds its process no longer.

A server may be paused, a proxy may hang, a link may be cut where nobody sees it: then no error comes by itself. This is
for the threads of the worker itself, which have an answer to errors; queries of tasks are the tasks' own affair.
"""

import threading
import time
from collections.abc import Generator, Mapping
from typing import Any, Final

from django.db import connections
from django.db.backends.signals import connection_created

#: Seconds for the answer to one statement: more than a healthy server ever takes for ours, less than the lease.
ANSWER: Final = 20
#: Seconds for a new connection.
CONNECT: Final = 5
#: What the drivers of MySQL and MariaDB, libpq and SQLite take as options: as long as this, at most.
OPTIONS: Final = {
    "mysql": {"connect_timeout": CONNECT, "read_timeout": ANSWER, "write_timeout": ANSWER},
    "postgresql": {"connect_timeout": CONNECT},
    "sqlite": {"timeout": ANSWER},
}

_this_thread: Final = threading.local()


def apply_to_this_thread() -> None:
    """Bound what this thread asks on connections that it opens from now on."""
    _this_thread.is_bounded = True
    connection_created.connect(_bound, dispatch_uid="celery.worker.deadlines")
    for alias in connections:
        connection: Any = connections[alias]
        settings = connection.settings_dict
        connection.settings_dict = {**settings, "OPTIONS": bounded(connection.vendor, settings["OPTIONS"])}


def bounded(vendor: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a database with no limit that is longer than ours: the watchdog would take it for death.

    SQLite has a limit of its own, or the one of `celery.apps`; it is another one only where the project says so.
    """
    longest = OPTIONS.get(vendor, {})
    named = {name: most for name, most in longest.items() if name in options or vendor != "sqlite"}
    return {**options, **{name: _at_most(most, options.get(name)) for name, most in named.items()}}


def _at_most(most: float, given: Any) -> Any:
    """Return what was given, if it is a limit, and no longer one."""
    try:
        return given if 0 < float(given) < most else most
    except (TypeError, ValueError):
        return most


def _bound(connection: Any, **_: Any) -> None:
    """Bound what is asked by psycopg, which has no such option. psycopg2 is bounded by the system alone."""
    raw = connection.connection
    if connection.vendor == "postgresql" and getattr(_this_thread, "is_bounded", False) and hasattr(raw, "wait"):
        raw.wait = _Waiting(connection.Database, raw)


class _Waiting:
    """Takes the place of a connection's ``wait``, through which psycopg does whatever waits for the server."""

    def __init__(self, database: Any, raw: Any) -> None:
        self._error = database.OperationalError
        self._pgconn = raw.pgconn
        self._wait = type(raw).wait.__get__(raw)

    def __call__(self, steps: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:
        return self._wait(self._bounded(steps), *args, **options)

    def _bounded(self, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Go through `steps`: each yields what it waits for, and is sent what has come; nothing, every 0.1 s."""
        deadline = time.monotonic() + ANSWER
        try:
            wanted = next(steps)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    self._pgconn.finish()
                    raise self._error(f"the server has not answered within {ANSWER} s")
                wanted = steps.send(ready)
        except StopIteration as end:
            return end.value
