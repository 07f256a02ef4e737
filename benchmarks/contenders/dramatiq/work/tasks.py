"""The tasks. An actor stores no result unless it is told to."""

import dramatiq
from configuration import QUEUE

from benchmarks.contenders import bodies


@dramatiq.actor(queue_name=QUEUE, store_results=True)
def noop(number):
    return number


@dramatiq.actor(queue_name=QUEUE)
def mark(number):
    bodies.mark(number)


@dramatiq.actor(queue_name=QUEUE, store_results=True)
def pause(milliseconds):
    bodies.pause(milliseconds)


@dramatiq.actor(queue_name=QUEUE, store_results=True)
def size(text):
    return len(text)
