"""What users write and call: `Task` classes, the `@task` decorator, and the functions of the classic interface."""

from celery.messaging import discard_all
from celery.registry import tasks
from celery.task.base import FunctionTask, Task, task
from celery.task.periodic import DeleteExpiredTaskMetaTask, PeriodicTask, periodic_task
from celery.task.remote import AsynchronousMapTask, ExecuteRemoteTask, execute_remote
from celery.task.sending import apply_async, delay_task, is_done
from celery.task.sets import TaskSet, dmap, dmap_async

__all__ = [
    "AsynchronousMapTask",
    "DeleteExpiredTaskMetaTask",
    "ExecuteRemoteTask",
    "FunctionTask",
    "PeriodicTask",
    "Task",
    "TaskSet",
    "apply_async",
    "delay_task",
    "discard_all",
    "dmap",
    "dmap_async",
    "execute_remote",
    "is_done",
    "periodic_task",
    "task",
    "tasks",
]
