"""The one seam for observation: logs, metrics and the admin listen here.

`notify` never lets a listener stop a task: what it raises is logged.

===================  ============================================================  ===================
signal               arguments                                                     sent in
===================  ============================================================  ===================
``task_started``     task_id, name, attempt                                        child, before run
``task_finished``    task_id, name, attempt, state, runtime (s), error, traceback  child or steward
``task_retried``     task_id, name, attempt, until, error                          child
``job_dead``         task_id, name, reason                                         child or steward
``job_postponed``    task_id, name, until, reason ("": by its own eta)             child
``process_died``     role, pid, cause                                              steward
``worker_ready``     name, pid, queues, concurrency                                steward
``worker_stopping``  name, timeout (s)                                             steward
``worker_lost``      owner, name, released (number of messages)                    steward
===================  ============================================================  ===================

What was stored is told after that. The steward tells it in a thread of its own, ``announcer``.
"""

import logging
from typing import Any

from django.dispatch import Signal

logger = logging.getLogger("celery.signals")

task_started = Signal()
task_finished = Signal()
task_retried = Signal()
job_dead = Signal()
job_postponed = Signal()
process_died = Signal()
worker_ready = Signal()
worker_stopping = Signal()
worker_lost = Signal()


def notify(signal: Signal, **facts: Any) -> None:
    """Send `signal`; a listener that fails is logged and changes nothing."""
    if not signal.receivers:
        return
    for receiver, answer in signal.send_robust(sender=None, **facts):
        if isinstance(answer, Exception):
            logger.error("A listener failed: %r", receiver, exc_info=answer, extra=facts)
