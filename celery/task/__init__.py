"""What users write and call: `Task` classes, the `@task` decorator, and the functions of the classic interface."""

from celery.messaging import discard_all
from celery.registry import tasks
from celery.task.base import FunctionTask, Task, task
from celery.task.sending import apply_async, delay_task, is_done

__all__ = ["FunctionTask", "Task", "apply_async", "delay_task", "discard_all", "is_done", "task", "tasks"]
