"""Tasks that note when they ran, in the ledger that the setting TIMELY_LEDGER names."""

import time

from django.conf import settings

from celery import current
from celery.schedules import crontab
from celery.task import PeriodicTask, periodic_task, tasks
from tests.shop import ledger


@periodic_task(run_every=crontab("* * * * *"), name="timely.minute")
def minute() -> None:
    _note()


class Second(PeriodicTask):
    """The class-based form."""

    name = "timely.second"
    run_every = 1

    def run(self) -> None:
        _note()


tasks.register(Second)


def _note() -> None:
    running = current.running.get()
    assert running is not None
    path: str = settings.TIMELY_LEDGER  # type: ignore[misc]  # only its own workers have it
    ledger.append(path, f"{running.name}/{running.task_id}/{time.time():.3f}")
