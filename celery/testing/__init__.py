"""Helpers for the tests of projects that use this package; they need no pytest. The page "Testing" explains each.

`run_inline` runs tasks where they are sent; `worker` is a worker inside the test's process; `sent_tasks`, `assert_sent`
and `assert_nothing_sent` look at what is sent.
"""

from celery.testing.background import BackgroundWorker
from celery.testing.bench import Run
from celery.testing.recording import SentTask, SentTasks, assert_nothing_sent, assert_sent, sent_tasks
from celery.testing.running import Worker, run_inline, worker

__all__ = [
    "BackgroundWorker",
    "Run",
    "SentTask",
    "SentTasks",
    "Worker",
    "assert_nothing_sent",
    "assert_sent",
    "run_inline",
    "sent_tasks",
    "worker",
]
