"""SQLite: the statements by which our worker works off a queue, executed one after the other by one plain connection.

Their texts are not copied: the store is asked for them, and what it would execute is written down.
"""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import django
from django.conf import settings

from benchmarks.raw.command import TASK, Order, call, rate, run

settings.configure(
    INSTALLED_APPS=["celery"],
    USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()

from celery.backends.database import STORED  # noqa: E402 - it needs settings
from celery.broker.store.base import COLUMNS  # noqa: E402 - likewise
from celery.broker.store.sqlite import SqliteStore  # noqa: E402 - likewise

QUEUE, OWNER = "bench_raw", "raw"
CHANGES = ("UPDATE", "DELETE", "INSERT")


class Recorder(SqliteStore):
    """A store that executes nothing: it keeps what it would have executed. Whatever it asks about is there."""

    def __init__(self) -> None:
        super().__init__("default")
        self.said: list[tuple[str, list[Any]]] = []

    def rows(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        self.said.append((statement.replace("%s", "?"), list(parameters)))
        return [] if statement.startswith(CHANGES) else [(1,)]

    def heard(self) -> list[tuple[str, list[Any]]]:
        """What was said since the last time."""
        said, self.said = self.said, []
        return said


class Drain:
    """Claims messages in batches, then stores results and deletes messages in groups, as our worker does."""

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=20)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self.connection.execute(f"PRAGMA {pragma}")
        self._store = Recorder()

    def fill(self, count: int) -> None:
        """Put `count` messages into the queue, and the row of a worker that may take them."""
        moment = text_of_now()
        places = ", ".join("?" * len(COLUMNS))
        calls = map(call, range(count))
        rest = ("", moment, None, None, False, 0, 0, None, "")
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.execute(
            "INSERT INTO celery_worker VALUES (?, 'raw', 1, ?, 1, 30, 0, FALSE, ?, ?)", (OWNER, QUEUE, moment, moment)
        )
        self.connection.executemany(
            f"INSERT INTO celery_message ({', '.join(COLUMNS)}) VALUES ({places})",
            ((one.task_id, 1, TASK, QUEUE, 0, one.body, *rest) for one in calls),
        )
        self.connection.execute("COMMIT")
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def work_off(self, batch: int, group: int) -> None:
        """Claim and finish until nothing is left."""
        while claimed := self._claim(batch):
            pending = iter(claimed)
            while part := list(islice(pending, group)):
                self._finish(part)

    def _claim(self, batch: int) -> list[tuple[Any, ...]]:
        self._store.claim(OWNER, QUEUE, batch)
        look, *rest = self._store.heard()
        if not self.connection.execute(*look).fetchall():
            return []
        return self._in_one_commit(rest)

    def _finish(self, part: Sequence[tuple[Any, ...]]) -> None:
        done = text_of_now()
        ids = sorted(str(row[0], "utf-8") for row in part)
        self._store.finish(OWNER, [row[6] for row in part])
        self._store.merge(STORED, [(one, TASK, "DONE", 1, "7", "", "celery@bench", 0.00001, done) for one in ids])
        self._in_one_commit(self._store.heard())

    def _in_one_commit(self, statements: Sequence[tuple[str, list[Any]]]) -> list[tuple[Any, ...]]:
        """Execute them, and return what the last one answers."""
        rows: list[tuple[Any, ...]] = []
        self.connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            rows = self.connection.execute(*statement).fetchall()
        self.connection.execute("COMMIT")
        return rows

    def left(self) -> tuple[int, int]:
        """How many messages and how many results there are."""
        return self._count("celery_message"), self._count("celery_taskmeta")

    def _count(self, table: str) -> int:
        return int(self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def forget(self) -> None:
        """Leave the tables empty."""
        for table in ("celery_message", "celery_taskmeta", "celery_worker"):
            self.connection.execute(f"DELETE FROM {table}")


def drain(order: Order) -> dict[str, Any]:
    """How many tasks a second the statements alone allow."""
    worker = Drain(order["path"])
    worker.forget()
    worker.fill(order["count"])
    found = rate(order["count"], lambda: worker.work_off(order["batch"], order["group"]))
    left = worker.left()
    worker.forget()
    if left != (0, order["count"]):
        raise RuntimeError(f"{left[0]} messages and {left[1]} results are left of {order['count']}")
    return found


def text_of_now() -> str:
    """The present moment as Django writes it into SQLite."""
    return datetime.now(UTC).replace(tzinfo=None).isoformat(" ")


if __name__ == "__main__":
    run((drain,))
