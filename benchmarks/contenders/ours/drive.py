"""Our side's producer: ``drive.py ACTION COUNT`` does it and prints what it measured as JSON."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import django
import kombu
from django.db import connection
from django.utils.module_loading import import_string

WARM_UP = 20


def enqueue_one_by_one(noop: Any, count: int) -> dict[str, Any]:
    """Each call returns when its message is durable."""
    noop.delay(0)
    return {"seconds": seconds(lambda: [noop.delay(number) for number in range(1, count)]), "measured": count - 1}


def enqueue_many(noop: Any, count: int) -> dict[str, Any]:
    noop.delay(0)
    return {"seconds": seconds(lambda: noop.delay_many((number,) for number in range(1, count))), "measured": count - 1}


def round_trip(noop: Any, count: int) -> dict[str, Any]:
    for number in range(WARM_UP):
        noop.delay(number).get(timeout=60)
    return {"times": [seconds(lambda: noop.delay(1).get(timeout=60)) for _ in range(count)]}


def facts(_noop: Any, _count: int) -> dict[str, Any]:
    celery = import_string("celery.VERSION")
    versions = {"celery": ".".join(map(str, celery)), "Django": django.__version__, "kombu": kombu.__version__}
    return {"versions": versions | {"Python": sys.version.split()[0]}, "database": durability()}


def durability() -> dict[str, str]:
    """What the connection that this project's settings make says of itself."""
    statement = {"postgresql": "SHOW {}", "sqlite": "PRAGMA {}"}[connection.vendor]
    names = {"postgresql": ("server_version", "fsync", "synchronous_commit"), "sqlite": ("journal_mode", "synchronous")}
    with connection.cursor() as cursor:
        return {name: str(cursor.execute(statement.format(name)).fetchone()[0]) for name in names[connection.vendor]}


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


ACTIONS = {action.__name__: action for action in (enqueue_one_by_one, enqueue_many, round_trip, facts)}

if __name__ == "__main__":
    django.setup()
    print(json.dumps(ACTIONS[sys.argv[1]](import_string("work.tasks.noop"), int(sys.argv[2]))))
