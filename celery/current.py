"""Which task runs here: set by the worker around each run, read by results, retries and logs."""

from contextvars import ContextVar
from typing import NamedTuple


class Running(NamedTuple):
    """The task that this thread runs. `retries` counts those that it has asked for, `attempt` all tries, from 1."""

    name: str
    task_id: str
    attempt: int
    retries: int = 0


running: ContextVar[Running | None] = ContextVar("celery_running", default=None)
