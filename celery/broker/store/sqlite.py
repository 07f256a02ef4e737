"""The store on SQLite: one writer at a time, so nothing is ever locked row by row.

Every transaction is IMMEDIATE (see `celery.apps.tune_sqlite`). Looking before claiming keeps an idle worker from
taking the write lock.
"""

from django.db import connections

from celery.broker.store.base import READY, Hints, Store
from celery.broker.store.workers import TABLE
from celery.message import Delivery
from celery.platform import FileWatch


class FileHints(Hints):
    """The file system tells when any process writes to the database or its write-ahead log."""

    patience = 1.0

    def __init__(self, path: str) -> None:
        self._watch = FileWatch([path, f"{path}-wal"])

    def fileno(self) -> int:
        """Return the descriptor of the watch."""
        return self._watch.fileno()

    def pending(self) -> bool:
        """Tell whether a file was written to. The commit becomes visible only a moment after its last write."""
        return self._watch.clear()

    def close(self) -> None:
        """End the watch."""
        self._watch.close()


class SqliteStore(Store):
    """`Store` on SQLite 3.35 or later."""

    def claim(self, owner: str, queue: str, limit: int) -> list[Delivery]:
        """Take messages as `Store.claim` does, after a look that takes no lock."""
        if not self.rows(f"SELECT 1 FROM {TABLE} WHERE queue = %s AND {READY} LIMIT 1", [queue]):
            return []
        return super().claim(owner, queue, limit)

    def hints(self) -> Hints:
        """Watch the files of the database."""
        return FileHints(str(connections[self.alias].settings_dict["NAME"]))
