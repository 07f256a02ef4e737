"""The classic forms: a class with `run`, and a plain function that is registered under a name.

>>> from classes import Multiply
>>> Multiply.delay(6, 7).get()
42
>>> Multiply()(6, 7)
42

A function knows nothing of being a task, so it is sent by its name:

>>> from celery.task import apply_async, delay_task
>>> delay_task("docs.divide", 42, 6).get()
7.0
>>> from classes import divide
>>> apply_async(divide, (42, 7)).get()
6.0

A name that nobody has is an error at once:

>>> delay_task("docs.divine", 42, 6)
Traceback (most recent call last):
...
celery.exceptions.NotRegistered: no task named 'docs.divine'; is 'docs' in INSTALLED_APPS, ...
"""

from celery.task import Task, tasks


class Multiply(Task):
    name = "docs.multiply"

    def run(self, x: int, y: int) -> int:
        return x * y


def divide(x: float, y: float) -> float:
    return x / y


tasks.register(Multiply)
tasks.register(divide, "docs.divide")
