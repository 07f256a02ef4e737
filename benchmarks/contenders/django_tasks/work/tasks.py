"""The tasks. Their results are stored whatever they return."""

from django_tasks import task

from benchmarks.contenders import bodies


@task()
def noop(number):
    return number


@task()
def mark(number):
    bodies.mark(number)


@task()
def pause(milliseconds):
    bodies.pause(milliseconds)


@task()
def size(text):
    return len(text)
