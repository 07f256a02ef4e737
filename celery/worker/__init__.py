"""The worker: four kinds of process, each with one duty.

`supervisor` forks and watches; `dispatcher` takes messages and hands them to children; a `child` runs tasks and stores
their results; the `steward` does the chores in the database. The names of 0.2 are in `classic`, and are found here at
their first use: the processes know nothing of each other, so this package imports none of them.
"""

from typing import TYPE_CHECKING, Any

from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from celery.worker.classic import EmptyQueue, TaskWrapper, UnknownTask, WorkController, jail

__all__ = ["EmptyQueue", "TaskWrapper", "UnknownTask", "WorkController", "jail"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_string(f"celery.worker.classic.{name}")
    text = f"module 'celery.worker' has no attribute {name!r}"
    raise AttributeError(text)
