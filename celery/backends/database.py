"""Results in Django's database: the table ``celery_taskmeta``, written by one conditional upsert a group."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from django.apps import apps
from django.db import connections, router, transaction

from celery.backends.base import BaseBackend, Result
from celery.broker import store as message_store
from celery.broker.store.base import Store
from celery.broker.store.statements import now
from celery.states import CLOSED_STATES, may_replace

TABLE: Final = "celery_taskmeta"
COLUMNS: Final = ("task_id", "name", "status", "attempt", "result", "traceback", "worker", "runtime", "date_done")
CHANGES: Final = ", ".join(f"{column} = excluded.{column}" for column in COLUMNS[1:])
CLOSED: Final = ", ".join(f"'{state}'" for state in sorted(CLOSED_STATES))
PAGE: Final = 500

#: `states.may_replace`, in SQL.
CONDITION: Final = (
    f" ON CONFLICT (task_id) DO UPDATE SET {CHANGES} WHERE celery_taskmeta.attempt < excluded.attempt"
    f" OR (celery_taskmeta.attempt = excluded.attempt AND celery_taskmeta.status NOT IN ({CLOSED})) RETURNING task_id"
)


class Backend(BaseBackend):
    """Results in the database that Django's routers choose for `TaskMeta`."""

    @property
    def alias(self) -> str:  # type: ignore[override]
        """Return the alias of the database of results."""
        return router.db_for_write(apps.get_model("celery", "TaskMeta"))

    def store(self, results: Sequence[Result]) -> set[str]:
        """Upsert `results`, a page a statement, in the order of their ids: groups that overlap never deadlock."""
        latest: dict[str, Result] = {}
        for result in results:
            known = latest.get(result.task_id)
            if known is None or may_replace(
                stored=known.state, stored_attempt=known.attempt, new_attempt=result.attempt
            ):
                latest[result.task_id] = result
        ordered = [latest[task_id] for task_id in sorted(latest)]
        if len(ordered) <= PAGE:
            return self._upsert(ordered) if ordered else set()
        with transaction.atomic(using=self.alias):
            pages = [self._upsert(ordered[start : start + PAGE]) for start in range(0, len(ordered), PAGE)]
        return set().union(*pages)

    def _upsert(self, results: Sequence[Result]) -> set[str]:
        keeper = message_store.of(self.alias)
        source, parameters = keeper.source(TABLE, COLUMNS, [_row(keeper, result) for result in results])
        rows = keeper.rows(f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}) {source}{CONDITION}", parameters)
        return {task_id for (task_id,) in rows}

    def fetch(self, task_ids: Sequence[str]) -> dict[str, Result]:
        """Select the rows of `task_ids`, 500 at a time."""
        keeper = message_store.of(self.alias)
        found: dict[str, Result] = {}
        for start in range(0, len(task_ids), PAGE):
            among, values = keeper.among(task_ids[start : start + PAGE])
            for row in keeper.rows(f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE task_id {among}", values):
                found[row[0]] = _result(keeper, row)
        return found

    def wait_for(self, task_id: str, timeout: float | None = None) -> Any:
        """Wait as `BaseBackend.wait_for` does; inside a snapshot on another connection, since this one sees no news."""
        if not self._reads_a_snapshot():
            return super().wait_for(task_id, timeout)
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self._wait_elsewhere, task_id, timeout).result()

    def _reads_a_snapshot(self) -> bool:
        connection: Any = connections[self.alias]
        level = getattr(getattr(connection, "isolation_level", None), "name", "")
        return connection.in_atomic_block and level in {"REPEATABLE_READ", "SERIALIZABLE"}

    def _wait_elsewhere(self, task_id: str, timeout: float | None) -> Any:
        try:
            return super().wait_for(task_id, timeout)
        finally:
            connections[self.alias].close()

    def refusal(self) -> str | None:
        """Refuse inside a transaction on SQLite: it holds the only write lock, so no worker can store a result."""
        connection = connections[self.alias]
        if connection.in_atomic_block and connection.vendor == "sqlite":
            return "an open transaction on SQLite keeps every worker from storing a result"
        return None


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
