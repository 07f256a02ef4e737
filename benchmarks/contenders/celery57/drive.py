"""Celery's producer: ``drive.py ACTION JSON``; see benchmarks/contender.py."""

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import django
from django.db import connection
from django.utils.module_loading import import_string

WARM_UP = 5


def fill(task: Any, order: dict[str, Any]) -> dict[str, Any]:
    for argument in arguments(order):
        task.delay(argument)
    return {}


def enqueue_one_by_one(task: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Celery's publisher does not wait for the broker, unless its transport option confirm_publish is set."""
    first, *others = arguments(order)
    task.delay(first)
    return measured(lambda: [task.delay(argument) for argument in others], len(others))


def round_trip(task: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Wait as Celery does by default: a look every half second."""
    return trips(task, order, {})


def round_trip_polling(task: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Wait with a look every 5 ms."""
    return trips(task, order, {"interval": 0.005})


def trips(task: Any, order: dict[str, Any], options: dict[str, float]) -> dict[str, Any]:
    for number in range(WARM_UP):
        task.delay(number).get(timeout=60, interval=0.005)
    return {"times": [seconds(lambda one=one: task.delay(one).get(timeout=60, **options)) for one in arguments(order)]}


def delay_until(task: Any, order: dict[str, Any]) -> dict[str, Any]:
    eta = datetime.fromtimestamp(order["at"], UTC)
    return {"seconds": seconds(lambda: [task.apply_async((one,), eta=eta) for one in arguments(order)])}


def facts(_task: Any, _order: dict[str, Any]) -> dict[str, Any]:
    versions = {name: version(name) for name in ("celery", "django-celery-results", "Django", "kombu")}
    return {"versions": versions | {"Python": sys.version.split()[0]}, "database": durability()}


def durability() -> dict[str, str]:
    """What the connection that this project's settings make says of itself."""
    with connection.cursor() as cursor:
        names = ("server_version", "fsync", "synchronous_commit")
        return {name: str(cursor.execute(f"SHOW {name}").fetchone()[0]) for name in names}


def arguments(order: dict[str, Any]) -> Iterator[Any]:
    """One for each call: the same for all, or its number."""
    given = random.Random(1).randbytes(order["size"] // 2).hex() if order["size"] else order["argument"]
    return (number if given is None else given for number in range(order["count"]))


def measured(action: Callable[[], object], count: int) -> dict[str, Any]:
    cpu = time.process_time()
    return {"seconds": seconds(action), "measured": count, "cpu": time.process_time() - cpu}


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


ACTIONS = (fill, enqueue_one_by_one, round_trip, round_trip_polling, delay_until, facts)

if __name__ == "__main__":
    django.setup()
    wanted = json.loads(sys.argv[2])
    action = {one.__name__: one for one in ACTIONS}[sys.argv[1]]
    print(json.dumps(action(import_string(f"work.tasks.{wanted['task']}"), wanted)))
