"""The task that runs under faults."""

import os
import time

from celery.current import running
from celery.task import task
from tests.chaos import history


@task(name="chaos.work")
def work(token: str, seconds: float) -> str:
    """Note the start, take some time, note the end."""
    me = running.get()
    task_id = me.task_id if me else ""
    history.current().note("started", id=task_id, token=token, pid=os.getpid(), worker=os.getppid())
    if seconds:
        time.sleep(seconds)
    history.current().note("finished", id=task_id, pid=os.getpid())
    return token
