"""The table ``celery_worker``: proof of life, and what follows when there is none."""

from collections.abc import Sequence
from typing import Any, Final

from django.db import transaction

from celery.broker.store.statements import Statements, now

TABLE: Final = "celery_message"


class WorkerRows(Statements):
    """The rows of workers. An owner without a row holds nothing: see `has_lease`."""

    #: Appended to the SELECT that keeps the own worker row from vanishing during a transaction.
    share_lock = ""
    #: Appended to the INSERT of a worker that may have its row already.
    unless_enlisted = " ON CONFLICT (owner) DO NOTHING"

    def through(self, index: str) -> str:  # noqa: ARG002 - for databases that have to be told
        """Return the table, as a SELECT names it that shall find its rows by `index`."""
        return TABLE

    @property
    def _of_owners(self) -> str:
        return f"UPDATE {self.through('celery_message_owner')}"

    def enlist(  # noqa: PLR0913 - the columns
        self, owner: str, *, name: str, pid: int, queues: Sequence[str], concurrency: int, lease: float
    ) -> None:
        """Write the row that lets `owner` hold messages. `lease` in seconds."""
        moment = self.moment(now())
        self.run(
            "INSERT INTO celery_worker"
            " (owner, name, pid, queues, concurrency, lease, counter, idle, started_at, seen_at)"
            f" VALUES (%s, %s, %s, %s, %s, %s, 0, FALSE, %s, %s){self.unless_enlisted}",
            [owner, name, pid, ",".join(queues), concurrency, lease, moment, moment],
        )

    def renew(self, owner: str) -> bool:
        """Give proof of life. False: the row is gone, others have taken over what `owner` held."""
        statement = "UPDATE celery_worker SET counter = counter + 1, seen_at = %s WHERE owner = %s"
        return self.run(statement, [self.moment(now()), owner]) > 0

    def set_idle(self, owner: str, *, idle: bool) -> bool:
        """Ask producers to poke, or not to. False: `owner` has no row."""
        return self.run("UPDATE celery_worker SET idle = %s WHERE owner = %s", [idle, owner]) > 0

    def census(self) -> list[tuple[str, str, int, float]]:
        """Return owner, name, counter and lease of every worker."""
        return self.rows("SELECT owner, name, counter, lease FROM celery_worker", [])

    def retire(self, owner: str, *, counter: int | None = None) -> int:
        """Remove a worker and give back what it holds, in one transaction; the messages return as suspects.

        With `counter`: only if its proof of life still stands there; -1 if it moved, else the number of messages.
        """
        guard, values = ("", []) if counter is None else (" AND counter = %s", [counter])
        with transaction.atomic(using=self.alias):
            removed = self.run(f"DELETE FROM celery_worker WHERE owner = %s{guard}", [owner, *values])
            if not removed and counter is not None:
                return -1
            return self._give_back_all("owner = %s", [owner])

    def retire_orphans(self) -> int:
        """Give back what is held in the name of workers that have no row.

        First a look, at one snapshot of both tables: an UPDATE that had to wait for a row would compare its newest
        owner with the workers of before, and take it from one that has just begun. Where nobody is lost, nothing is
        locked.
        """
        lost = self.rows(
            f"SELECT DISTINCT owner FROM {TABLE} WHERE owner IS NOT NULL"
            " AND owner NOT IN (SELECT owner FROM celery_worker)",
            [],
        )
        return sum(self._give_back_all("owner = %s", [owner]) for (owner,) in lost)

    def _give_back_all(self, condition: str, values: list[Any]) -> int:
        change = "owner = NULL, suspect = (suspect OR visible_at IS NULL)"
        return self.run(f"{self._of_owners} SET {change} WHERE {condition}", values)

    def has_lease(self, owner: str) -> bool:
        """Tell whether `owner` may hold messages; inside a transaction, for as long as that lasts."""
        return bool(self.rows(f"SELECT 1 FROM celery_worker WHERE owner = %s{self.share_lock}", [owner]))
