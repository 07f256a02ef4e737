"""procrastinate's producer. It has no call that waits for a result, so the job's row is looked at every 2 ms."""

import django
from django.db import connection
from django.utils.module_loading import import_string

from benchmarks.contenders.producing import (
    Found,
    Order,
    Stopwatch,
    obey,
    peak_megabytes,
    postgres_facts,
    timed_calls,
    timed_trips,
    versions,
    wait_until,
)

BATCH = 500


def fill(order: Order) -> Found:
    return deferred(order, list(order.arguments()))


def enqueue_one_by_one(order: Order) -> Found:
    """A call returns when the job's row is committed."""
    task = task_of(order)
    return timed_calls(lambda argument: task.defer(argument=argument), order)


def enqueue_many(order: Order) -> Found:
    """All but the first by ``batch_defer``, 500 a call."""
    first, *others = order.arguments()
    task_of(order).defer(argument=first)
    before = peak_megabytes()
    with Stopwatch() as watch:
        deferred(order, others)
    return watch.found | {"measured": len(others), "rss_growth_mb": peak_megabytes() - before}


def round_trip_polling(order: Order) -> Found:
    """From the call until the row says that the job has succeeded; the value is not stored anywhere."""
    task, jobs = task_of(order), import_string("procrastinate.contrib.django.models.ProcrastinateJob").objects

    def trip(argument):
        number = task.defer(argument=argument)
        wait_until(lambda: jobs.filter(pk=number, status="succeeded").exists(), pause=0.002)
        return argument

    return timed_trips(trip, order)


def facts(_order: Order) -> Found:
    with connection.cursor() as cursor:
        database = postgres_facts(cursor)
    return {"versions": versions("procrastinate", "Django", "psycopg"), "database": database}


def deferred(order: Order, arguments: list) -> Found:
    task = task_of(order)
    for start in range(0, len(arguments), BATCH):
        task.batch_defer(*({"argument": argument} for argument in arguments[start : start + BATCH]))
    return {}


def task_of(order: Order):
    return import_string(f"work.tasks.{order.task}")


django.setup()
obey(
    {action.__name__: action for action in (fill, enqueue_one_by_one, enqueue_many, round_trip_polling, facts)},
)
