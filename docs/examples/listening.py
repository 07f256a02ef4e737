"""Counting failures by a listener of `celery.signals`, in an app's `tasks.py` or `apps.py`.

>>> from celery import signals
>>> from listening import failures
>>> facts = {"task_id": "4711", "name": "shop.pay", "attempt": 1, "runtime": 0.1, "error": ""}
>>> signals.notify(signals.task_finished, state="DONE", **facts)
>>> signals.notify(signals.task_finished, state="FAILURE", **facts)
>>> failures
Counter({'shop.pay': 1})

The signal is sent in the child that ran the task, once the result is stored. What a listener raises is logged, and
changes nothing.
"""

from collections import Counter
from typing import Any

from django.dispatch import receiver

from celery import signals, states

failures: Counter[str] = Counter()


@receiver(signals.task_finished)
def count(*, name: str, state: str, **_: Any) -> None:
    if state == states.FAILURE:
        failures[name] += 1
