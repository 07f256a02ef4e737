"""The task that costs nothing, so that what is measured is the queue."""

from celery.task import task


@task(name="bench.noop")
def noop(number: int) -> int:
    return number
