"""Has workers write to the history, shortens their patience, and plants the mutant that the environment names."""

import os
from functools import wraps
from typing import Any

from django.apps import AppConfig

from celery import signals
from celery.states import RETRY
from celery.worker import parking
from celery.worker.process import Offspring
from tests.chaos import clocks, history, mutants, points

#: Seconds after which RabbitMQ's messages are parked, in place of ten minutes.
PARK_AFTER = 1.0


class ChaosConfig(AppConfig):
    name = "tests.chaos"
    label = "chaos"

    def ready(self) -> None:
        signals.task_finished.connect(_settled)
        signals.task_retried.connect(_settled)
        signals.worker_lost.connect(_took_over)
        Offspring.start = _noting_births(Offspring.start)  # type: ignore[method-assign]
        vars(parking).update(PARK_AFTER=PARK_AFTER)
        points.plant()
        clocks.plant()
        if mutant := os.environ.get("CHAOS_MUTANT"):
            mutants.plant(mutant)


def _settled(*, task_id: str, attempt: int, state: str = RETRY, **_: Any) -> None:
    history.current().note("settled", id=task_id, pid=os.getpid(), state=state, attempt=attempt)


def _took_over(*, name: str, owner: str, released: int, **_: Any) -> None:
    history.current().note("took_over", name=name, owner=owner, released=released)


def _noting_births(start: Any) -> Any:
    """Have the supervisor note which process is which: nobody can tell that from outside."""

    @wraps(start)
    def start_and_note(self: Offspring, *args: Any) -> None:
        start(self, *args)
        history.current().note("born", role=self.role, index=self.index, pid=self.pid, worker=os.getpid())

    return start_and_note
