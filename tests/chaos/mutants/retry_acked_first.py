"""The message of a task that asks for another attempt is deleted, and only then that of the next one is stored."""

import time
from collections.abc import Sequence
from typing import Any

from celery import broker, states
from celery.broker import store
from celery.worker import job, writes
from celery.worker.job import Outcome
from celery.worker.writes import Planned

#: Seconds in between: a short run has not many retries.
PAUSE = 1.0

_write = writes.write


def plant() -> None:
    vars(writes).update(write=_write_after_deleting)


def _write_after_deleting(group: Sequence[Outcome], *, owner: str, **options: Any) -> Planned:
    retries = [one for one in group if one.kind == states.RETRY and one.job.delivery.row_id]
    if retries:
        rows = [one.job.delivery.row_id for one in retries if not one.job.flags & job.SETTLED]
        store.of(broker.current().alias).finish(owner, rows)
        for one in retries:
            one.job = one.job._replace(flags=one.job.flags | job.SETTLED)
        time.sleep(PAUSE)
    return _write(group, owner=owner, **options)
