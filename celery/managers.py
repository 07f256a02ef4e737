"""Reading results: the manager of `TaskMeta`."""

from typing import Any

from django.db import models

from celery import states


class TaskManager(models.Manager[Any]):
    """Finds results. Reading never creates a row."""

    def get_task(self, task_id: str) -> Any:
        """Return the row of `task_id`, or an unsaved one in state PENDING if there is none."""
        return self.filter(task_id=task_id).first() or self.model(task_id=task_id)

    def is_done(self, task_id: str) -> bool:
        """Tell whether the task executed successfully."""
        return self.filter(task_id=task_id, status=states.DONE).exists()
