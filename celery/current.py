"""Which task runs here: set by the worker around each run, read by results and logs."""

from contextvars import ContextVar
from typing import NamedTuple


class Running(NamedTuple):
    """The task that this thread runs."""

    name: str
    task_id: str
    attempt: int


running: ContextVar[Running | None] = ContextVar("celery_running", default=None)
