"""Prepared INSERTs on PostgreSQL: to plan one of ours costs the server more than to execute it (decision 0029).

Only what inserts: a plan that reads tables is best made when their sizes are known. psycopg could prepare, and Django
does not let it by default: behind a pooler each transaction may come to another server process, which knows nothing of
what was prepared, or knows something else by that name. So it is done where it is certain that there is none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakKeyDictionary

from django.db.backends.postgresql import base as postgresql

#: INSERTs on a connection before one is prepared: it costs two round trips, and many connections are closed soon.
NOT_YET: Final = 5
#: psycopg2 has none.
CURSOR: Final[Any] = getattr(postgresql, "ServerBindingCursor", None)


class Connections:
    """What is known of the open connections: how often each has inserted, and whether a pooler stands before it."""

    def __init__(self) -> None:
        self._insertions: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._is_direct: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()

    def may_prepare(self, raw: Any) -> bool:
        """Tell whether an INSERT on a connection of psycopg may be prepared, and is worth it."""
        if CURSOR is None:
            return False
        if raw not in self._is_direct:
            self._insertions[raw] = self._insertions.get(raw, 0) + 1
            if self._insertions[raw] <= NOT_YET:
                return False
            self._is_direct[raw] = is_direct(raw)
        return self._is_direct[raw]


def is_direct(raw: Any) -> bool:
    """Tell whether the process that answers is the one that opened the connection: no pooler stands between."""
    return bool(raw.execute("SELECT pg_backend_pid()").fetchone()[0] == raw.info.backend_pid)


_connections: Final = Connections()


@contextmanager
def cursor_of(connection: Any) -> Iterator[Any]:
    """Lend a cursor of Django's `connection` for one INSERT, which it prepares if that is safe and worth it.

    Who has queries logged gets an ordinary one: Django cannot show what was prepared.
    """
    with connection.wrap_database_errors:
        connection.ensure_connection()
        raw = connection.connection
        may_prepare = not connection.queries_logged and _connections.may_prepare(raw)
    if not may_prepare:
        with connection.cursor() as cursor:
            yield cursor
        return
    connection.validate_thread_sharing()
    threshold, raw.prepare_threshold = raw.prepare_threshold, 0
    try:
        with connection.make_cursor(CURSOR(raw)) as cursor:
            yield cursor
    finally:
        raw.prepare_threshold = threshold
