"""Our side's producer: ``drive.py ACTION JSON``; see benchmarks/contender.py."""

from datetime import UTC, datetime
from typing import Any

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
)


def fill(order: Order) -> Found:
    task_of(order).delay_many((argument,) for argument in order.arguments())
    return {}


def enqueue_one_by_one(order: Order) -> Found:
    """Each call returns when its message is durable."""
    return timed_calls(task_of(order).delay, order)


def enqueue_many(order: Order) -> Found:
    task, others = task_of(order), order.arguments()
    task.delay(next(others))
    before = peak_megabytes()
    with Stopwatch() as watch:
        task.delay_many((argument,) for argument in others)
    return watch.found | {"measured": order.count - 1, "rss_growth_mb": peak_megabytes() - before}


def round_trip(order: Order) -> Found:
    task = task_of(order)
    return timed_trips(lambda argument: task.delay(argument).get(timeout=60), order)


def delay_until(order: Order) -> Found:
    task, eta = task_of(order), datetime.fromtimestamp(order.at, UTC)
    with Stopwatch() as watch:
        for argument in order.arguments():
            task.apply_async((argument,), eta=eta)
    return watch.found


def facts(_order: Order) -> Found:
    celery = ".".join(map(str, import_string("celery.VERSION")))
    return {"versions": {"celery": celery} | versions("Django", "kombu"), "database": durability()}


def durability() -> Found:
    """What the connection that this project's settings make says of itself."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            return postgres_facts(cursor)
        names = ("journal_mode", "synchronous")
        return {name: str(cursor.execute(f"PRAGMA {name}").fetchone()[0]) for name in names}


def task_of(order: Order) -> Any:
    return import_string(f"work.tasks.{order.task}")


if __name__ == "__main__":
    django.setup()
    obey({one.__name__: one for one in (fill, enqueue_one_by_one, enqueue_many, round_trip, delay_until, facts)})
