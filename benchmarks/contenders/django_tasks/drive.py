"""The producer of django-tasks. It has neither a call for many nor one that waits, so the row is read every 5 ms."""

import django
from django.db import connection
from django.utils.module_loading import import_string

from benchmarks.contenders.producing import (
    Found,
    Order,
    obey,
    postgres_facts,
    timed_calls,
    timed_trips,
    versions,
    wait_until,
)


def fill(order: Order) -> Found:
    return enqueue_one_by_one(order)


def enqueue_one_by_one(order: Order) -> Found:
    """A call returns when the task's row is committed."""
    return timed_calls(task_of(order).enqueue, order)


def round_trip_polling(order: Order) -> Found:
    """Wait by ``refresh()``."""
    task = task_of(order)

    def trip(argument):
        result = task.enqueue(argument)
        wait_until(lambda: has_finished(result), pause=0.005)
        return result.return_value

    return timed_trips(trip, order)


def facts(_order: Order) -> Found:
    with connection.cursor() as cursor:
        database = postgres_facts(cursor)
    return {"versions": versions("django-tasks", "django-tasks-db", "Django", "psycopg"), "database": database}


def has_finished(result) -> bool:
    result.refresh()
    return result.is_finished


def task_of(order: Order):
    return import_string(f"work.tasks.{order.task}")


django.setup()
obey({action.__name__: action for action in (fill, enqueue_one_by_one, round_trip_polling, facts)})
