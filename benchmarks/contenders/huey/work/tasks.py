"""The tasks. huey stores what a task returns, unless that is None."""

from configuration import huey

from benchmarks.contenders import bodies

__all__ = ["huey"]  # its consumer looks for it here, with the tasks


@huey.task()
def noop(number):
    return number


@huey.task()
def mark(number):
    bodies.mark(number)


@huey.task()
def pause(milliseconds):
    bodies.pause(milliseconds)
    return milliseconds


@huey.task()
def size(text):
    return len(text)
