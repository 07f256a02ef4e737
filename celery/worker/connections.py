"""The database connections of a worker's processes: kept from task to task, clean between tasks, tried after a rest."""

import contextlib
import threading
import time
from typing import Any, Final

from django.conf import settings
from django.db import connections, reset_queries
from django.db.backends.signals import connection_created

#: Seconds without a task after which a kept connection is tried before it is used again.
STALE_AFTER: Final = 10.0
#: Options of libpq: a connection ends when the other machine has been silent for some 20 s. Seconds and milliseconds.
SIGNS_OF_LIFE: Final = {
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


def prepare() -> None:
    """Set up the databases for worker processes, before the first fork.

    CONN_MAX_AGE 0 is for web requests. A pool would share its sockets between forked processes. Without autocommit our
    own transactions would not commit. A connection whose other side has vanished is to end.
    """
    drop_connections()
    for alias in connections:
        options = connections.settings[alias]
        if options["CONN_MAX_AGE"] == 0:
            options["CONN_MAX_AGE"] = None
        options["AUTOCOMMIT"] = True
        options.get("OPTIONS", {}).pop("pool", None)
        if connections[alias].vendor == "postgresql":
            options["OPTIONS"] = {**SIGNS_OF_LIFE, **options.get("OPTIONS", {})}


def drop_connections() -> None:
    """Close this thread's connections; each is opened again at its next use."""
    connection: Any
    for connection in connections.all(initialized_only=True):
        with contextlib.suppress(Exception):
            connection.close()
        if hasattr(connection, "close_pool"):
            connection.close_pool()


def forget_queries() -> None:
    """Let go of what DEBUG records of every statement."""
    if settings.DEBUG:
        reset_queries()


class TaskConnections:
    """The connections that tasks use, in the main thread of a child."""

    def __init__(self) -> None:
        self._used_at = time.monotonic()
        #: Those that were opened on this thread. To ask Django for them after each task costs as much as a quick task.
        self._opened: dict[int, Any] = {}
        self._thread = threading.get_ident()
        for connection in connections.all(initialized_only=True):
            self._note_opened(connection)
        connection_created.connect(self._note_opened)

    def _note_opened(self, connection: Any, **_: Any) -> None:
        if threading.get_ident() == self._thread:
            self._opened[id(connection)] = connection

    def before_task(self) -> None:
        """Have connections tried at their next use if nothing ran for a while: servers drop idle ones."""
        if time.monotonic() - self._used_at > STALE_AFTER:
            for connection in self._opened.values():
                connection.health_check_enabled = True
                connection.health_check_done = False

    def after_task(self, *, was_hit: bool = False) -> None:
        """Roll back what the task left open, and drop connections that broke; all of them, if it `was_hit`."""
        forget_queries()
        for connection in list(self._opened.values()):
            if connection.connection is not None:
                _roll_back(connection, anyway=was_hit)
        self._used_at = time.monotonic()


def _roll_back(connection: Any, *, anyway: bool) -> None:
    """Close a connection that is inside a transaction: the server rolls it back, and Django opens a fresh one.

    `anyway`: also one that may be in the middle of a query, whose answer nobody has read.
    """
    if anyway or connection.in_atomic_block or connection.needs_rollback or not connection.get_autocommit():
        connection.in_atomic_block = False  # else Django keeps the closed connection for a block that never ends
        connection.close()
    elif connection.errors_occurred and connection.vendor == "sqlite":
        connection.close()  # Django takes every SQLite connection for usable; one to a file that was replaced is not
    elif connection.errors_occurred:
        connection.close_if_unusable_or_obsolete()
