"""Results in Django's database: the table ``celery_taskmeta``, written by one conditional upsert a group."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from django.apps import apps
from django.db import connections, router, transaction

from celery import broker
from celery.backends import periodic
from celery.backends.base import BaseBackend, Result, survivors
from celery.broker import store as message_store
from celery.broker.store.base import Store
from celery.broker.store.statements import Merge, now
from celery.states import CLOSED_STATES, may_replace

TABLE: Final = "celery_taskmeta"
COLUMNS: Final = ("task_id", "name", "status", "attempt", "result", "traceback", "worker", "runtime", "date_done")
CLOSED: Final = ", ".join(f"'{state}'" for state in sorted(CLOSED_STATES))
PAGE: Final = 500
#: Rows that one short transaction of `cleanup` deletes at most.
CLEANUP_PAGE: Final = 1000

STORED: Final = Merge(
    table=TABLE,
    columns=COLUMNS,
    key=("task_id",),
    changes=COLUMNS[1:],
    answer="task_id",
    condition=f"{TABLE}.attempt < excluded.attempt"
    f" OR ({TABLE}.attempt = excluded.attempt AND {TABLE}.status NOT IN ({CLOSED}))",
    decides_by=("status", "attempt"),
    may_replace=lambda stored, new: may_replace(stored=stored[0], stored_attempt=stored[1], new_attempt=new[3]),
)


class Backend(BaseBackend):
    """Results in the database that Django's routers choose for `celery.models.TaskMeta`."""

    capabilities = ("ResultStore", "PeriodicStatus")

    @property
    def alias(self) -> str:  # type: ignore[override]
        """The alias of the database of results."""
        return router.db_for_write(apps.get_model("celery", "TaskMeta"))

    def store(self, results: Sequence[Result]) -> set[str]:
        """Upsert `results`, a page a statement, in the order of their ids: groups that overlap never deadlock."""
        latest = survivors(results)
        ordered = [latest[task_id] for task_id in sorted(latest)]
        if len(ordered) <= PAGE:
            return self._upsert(ordered) if ordered else set()
        with transaction.atomic(using=self.alias):
            pages = [self._upsert(ordered[start : start + PAGE]) for start in range(0, len(ordered), PAGE)]
        return set().union(*pages)

    def _upsert(self, results: Sequence[Result]) -> set[str]:
        keeper = message_store.of(self.alias)
        return set(keeper.merge(STORED, [_row(keeper, result) for result in results]))

    def fetch(self, task_ids: Sequence[str]) -> dict[str, Result]:
        """Select the rows of `task_ids`, 500 at a time."""
        keeper = message_store.of(self.alias)
        return {row[0]: _result(keeper, row) for row in self._rows(keeper, COLUMNS, task_ids)}

    def stages(self, task_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Select no more than state and attempt: a result may be large."""
        rows = self._rows(message_store.of(self.alias), ("task_id", "status", "attempt"), task_ids)
        return {task_id: (state, attempt) for task_id, state, attempt in rows}

    @staticmethod
    def _rows(keeper: Store, columns: Sequence[str], task_ids: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(task_ids), PAGE):
            among, values = keeper.among(task_ids[start : start + PAGE])
            yield from keeper.rows(f"SELECT {', '.join(columns)} FROM {TABLE} WHERE task_id {among}", values)

    def cleanup(self) -> int:
        """Delete results older than `lifetime`, each page in a short transaction, and return their number.

        The result of a task that has a message in the database stays: an attempt that will be followed by another is
        closed by it, and who looks at a dead message wants to see how it failed.
        """
        keeper = message_store.of(self.alias)
        limit = keeper.moment(now() - timedelta(seconds=self.lifetime))
        expired = f"SELECT id, task_id FROM {TABLE} WHERE date_done < %s ORDER BY date_done, id LIMIT %s OFFSET %s"
        deleted = passed = 0
        while page := keeper.rows(expired, [limit, CLEANUP_PAGE, passed]):
            wanted = self._with_message([task_id for _, task_id in page])
            among, values = keeper.among(sorted(row_id for row_id, task_id in page if task_id not in wanted))
            gone = 0
            if values:  # a result that was replaced meanwhile is young again
                gone = keeper.run(f"DELETE FROM {TABLE} WHERE id {among} AND date_done < %s", [*values, limit])
            deleted += gone
            passed += len(page) - gone
        return deleted

    def _with_message(self, task_ids: Sequence[str]) -> set[str]:
        keeper = message_store.of(broker.current().alias)
        among, values = keeper.among(task_ids)
        rows = keeper.rows(f"SELECT DISTINCT task_id FROM celery_message WHERE task_id {among}", values)
        return {task_id for (task_id,) in rows}

    @contextmanager
    def reader(self) -> Iterator[Callable[[Sequence[str]], Mapping[str, Result]]]:
        """Lend `fetch`; inside a snapshot one that asks on another connection, since this one sees no news."""
        if not self._reads_a_snapshot():
            yield self.fetch
            return
        with ThreadPoolExecutor(1, "results") as thread:
            try:
                yield lambda task_ids: thread.submit(self.fetch, task_ids).result()
            finally:
                thread.submit(self._close_connection).result()

    def _reads_a_snapshot(self) -> bool:
        """Tell whether the open transaction sees no news. psycopg has levels, MySQL names, or None for its own."""
        connection: Any = connections[self.alias]
        level = getattr(connection, "isolation_level", "read committed") or "repeatable read"
        name = getattr(level, "name", level).upper().replace("_", " ")
        return connection.in_atomic_block and name in {"REPEATABLE READ", "SERIALIZABLE"}

    def _close_connection(self) -> None:
        connections[self.alias].close()

    def refusal(self) -> str | None:
        """Refuse inside a transaction on SQLite: it holds the only write lock, so no worker can store a result."""
        connection = connections[self.alias]
        if connection.in_atomic_block and connection.vendor == "sqlite":
            return "an open transaction on SQLite keeps every worker from storing a result"
        return None

    def run_periodic_tasks(self) -> float:
        """Send what is due of the periodic tasks, and return the seconds to wait before asking again."""
        return periodic.of(broker.current().alias).run()


def _row(keeper: Store, result: Result) -> tuple[Any, ...]:
    return (
        *(result.task_id, result.name, result.state, result.attempt, result.result, result.traceback),
        *(result.worker, result.runtime, keeper.moment(result.date_done)),
    )


def _result(keeper: Store, row: Sequence[Any]) -> Result:
    task_id, name, state, attempt, result, traceback, worker, runtime, date_done = row
    return Result(
        task_id=task_id,
        name=name,
        state=state,
        attempt=attempt,
        result=result,
        traceback=traceback,
        worker=worker,
        runtime=runtime,
        date_done=keeper.read_moment(date_done) or now(),
    )
