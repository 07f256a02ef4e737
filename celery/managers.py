"""Reading rows: the managers of results, and of what lies beside the messages."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import models

from celery import backends, broker, schedules, states
from celery.backends.base import BaseBackend
from celery.moments import as_moment
from celery.registry import tasks


class TaskManager(models.Manager[Any]):
    """Finds results. Reading never creates a row; writing and deleting go by the rules of the database backend."""

    def get_task(self, task_id: str) -> Any:
        """Return the row of `task_id`, or an unsaved one in state PENDING if there is none."""
        return self.filter(task_id=task_id).first() or self.model(task_id=task_id)

    def is_done(self, task_id: str) -> bool:
        """Tell whether the task executed successfully."""
        return self.filter(task_id=task_id, status=states.DONE).exists()

    def get_all_expired(self) -> models.QuerySet[Any]:
        """Return the results that are older than CELERY_TASK_RESULT_EXPIRES."""
        return self.filter(date_done__lt=datetime.now(UTC) - timedelta(seconds=_backend().lifetime))

    def delete_expired(self) -> int:
        """Delete what is expired, in batches, and return the number; results with a message in the database stay."""
        return _backend().cleanup()

    def store_result(self, task_id: str, result: Any, status: str) -> Any:
        """Store a value, or an exception for FAILURE and RETRY, and return the row as it is then.

        A stored attempt that is over stays as it is, as everywhere.
        """
        _backend().store_result(task_id, result, status)
        return self.get_task(task_id)


def _backend() -> BaseBackend:
    return backends.get_backend_cls("database")()


class BesideMessagesManager(models.Manager[Any]):
    """Finds rows in the database of messages, wherever the broker has that."""

    def get_queryset(self) -> models.QuerySet[Any]:
        """Return all rows."""
        return super().get_queryset().using(self._db or broker.current().alias)


class PeriodicTaskManager(BesideMessagesManager):
    """Finds the rows of periodic tasks."""

    def get_waiting_tasks(self) -> list[Any]:
        """Return the rows of those tasks of this process that are due now, and that no worker has sent yet.

        A task that no worker has seen yet has no row.
        """
        periodic, now = tasks.get_all_periodic(), datetime.now(UTC)
        rows = self.filter(name__in=sorted(periodic))
        return [row for row in rows if _overdue(periodic[row.name], row, now)]


def _overdue(task: Any, row: Any, now: datetime) -> bool:
    schedule = schedules.schedule_of(task.run_every)
    return schedules.overdue(schedule, as_moment(row.last_run_at), now) is not None
