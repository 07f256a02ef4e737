"""The store on SQLite: one writer at a time, so nothing is ever locked row by row.

Every transaction is IMMEDIATE (see `celery.apps.tune_sqlite`). Looking before claiming keeps an idle worker from
taking the write lock.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from django.db import connections, transaction

from celery.broker.store.base import PAGE, READY, Hints, Store
from celery.broker.store.statements import Merge, Row
from celery.broker.store.workers import TABLE
from celery.message import Delivery
from celery.platform import FileWatch, has_open

#: Texts are asked for as bytes: one that is not UTF-8 would fail the whole page, again and again.
TAKEN: Final = (
    "CAST(task_id AS BLOB), attempt, CAST(queue AS BLOB), rank, CAST(headers AS BLOB), CAST(body AS BLOB),"
    " id, suspect, starts, crashes"
)


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
    """`Store` on SQLite 3.35 or later.

    Python keeps the last 128 statements of each connection prepared, and each number of rows would be a statement of
    its own, the larger ones of 300 KB. So rows come in numbers that are powers of two, of which there are nine.
    """

    taken = TAKEN
    relayed = f"CAST(task AS BLOB), {TAKEN}"

    def claim(self, owner: str, queue: str, limit: int) -> list[Delivery]:
        """Take messages as `Store.claim` does, after a look that takes no lock."""
        if not self.rows(f"SELECT 1 FROM {TABLE} WHERE queue = %s AND {READY} LIMIT 1", [queue]):
            return []
        return super().claim(owner, queue, limit)

    def renew(self, owner: str) -> bool:
        """Give proof of life as `Store.renew` does, in the file that has the name now.

        A connection to one that was deleted or replaced meanwhile goes on as if nothing had happened; but what is sent
        goes to the new one. There an owner of the old one has no row, so its worker starts anew.
        """
        connection = connections[self.alias]
        if connection.connection is not None and not has_open(self._path):
            connection.close()
        return super().renew(owner)

    def hints(self) -> Hints:
        """Watch the files of the database."""
        return FileHints(self._path)

    @property
    def _path(self) -> str:
        return str(connections[self.alias].settings_dict["NAME"])

    def merge(self, rule: Merge, rows: Sequence[Row]) -> list[Any]:
        """Merge as `Store.merge` does, page by page in one transaction."""
        pages = list(_pages(rows))
        if len(pages) == 1:
            return super().merge(rule, rows)
        answers: list[Any] = []
        with transaction.atomic(using=self.alias):
            for page in pages:
                answers += super().merge(rule, page)
        return answers

    def among(self, ids: Sequence[Any]) -> tuple[str, list[Any]]:
        """Return the condition "one of these", the last of them named as often as makes a power of two."""
        if not 0 < len(ids) <= PAGE:
            return super().among(ids)
        missing = (1 << (len(ids) - 1).bit_length()) - len(ids)
        return super().among([*ids, *[ids[-1]] * missing])


def _pages(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Cut `rows` into pages of as many rows as are a power of two, the largest first."""
    start = 0
    while start < len(rows):
        size = 1 << ((len(rows) - start).bit_length() - 1)
        yield rows[start : start + size]
        start += size
