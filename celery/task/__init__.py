"""What users write and call: `Task` classes, the `@task` decorator, and the functions of the classic interface."""

from celery.registry import tasks
from celery.task.base import FunctionTask, Task, apply_async, delay_task, is_done, task

__all__ = ["FunctionTask", "Task", "apply_async", "delay_task", "is_done", "task", "tasks"]
