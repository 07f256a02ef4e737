"""Celery's producer: ``drive.py ACTION COUNT`` does it and prints what it measured as JSON."""

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import django
from django.db import connection
from django.utils.module_loading import import_string

WARM_UP = 5


def enqueue_one_by_one(noop: Any, count: int) -> dict[str, Any]:
    """Celery's publisher does not wait for the broker, unless its transport option confirm_publish is set."""
    noop.delay(0)
    return {"seconds": seconds(lambda: [noop.delay(number) for number in range(1, count)]), "measured": count - 1}


def round_trip(noop: Any, count: int) -> dict[str, Any]:
    """Wait as Celery does by default: a look every half second."""
    return trips(noop, count, {})


def round_trip_polling(noop: Any, count: int) -> dict[str, Any]:
    """Wait with a look every 5 ms."""
    return trips(noop, count, {"interval": 0.005})


def trips(noop: Any, count: int, options: dict[str, float]) -> dict[str, Any]:
    for number in range(WARM_UP):
        noop.delay(number).get(timeout=60, interval=0.005)
    return {"times": [seconds(lambda: noop.delay(1).get(timeout=60, **options)) for _ in range(count)]}


def facts(_noop: Any, _count: int) -> dict[str, Any]:
    versions = {name: version(name) for name in ("celery", "django-celery-results", "Django", "kombu")}
    return {"versions": versions | {"Python": sys.version.split()[0]}, "database": durability()}


def durability() -> dict[str, str]:
    """What the connection that this project's settings make says of itself."""
    with connection.cursor() as cursor:
        names = ("server_version", "fsync", "synchronous_commit")
        return {name: str(cursor.execute(f"SHOW {name}").fetchone()[0]) for name in names}


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


ACTIONS = {action.__name__: action for action in (enqueue_one_by_one, round_trip, round_trip_polling, facts)}

if __name__ == "__main__":
    django.setup()
    print(json.dumps(ACTIONS[sys.argv[1]](import_string("work.tasks.noop"), int(sys.argv[2]))))
