"""Our side's producer: ``drive.py ACTION JSON``; see benchmarks/contender.py."""

import json
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import django
import kombu
from django.db import connection
from django.utils.module_loading import import_string

WARM_UP = 20


def fill(task: Any, order: dict[str, Any]) -> dict[str, Any]:
    task.delay_many((argument,) for argument in arguments(order))
    return {}


def enqueue_one_by_one(task: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Each call returns when its message is durable."""
    first, *others = arguments(order)
    task.delay(first)
    return measured(lambda: [task.delay(argument) for argument in others], len(others))


def enqueue_many(task: Any, order: dict[str, Any]) -> dict[str, Any]:
    others = arguments(order)
    task.delay(next(others))
    before = peak_megabytes()
    found = measured(lambda: task.delay_many((argument,) for argument in others), order["count"] - 1)
    return found | {"rss_growth_mb": peak_megabytes() - before}


def round_trip(task: Any, order: dict[str, Any]) -> dict[str, Any]:
    for number in range(WARM_UP):
        task.delay(number).get(timeout=60)
    return {"times": [seconds(lambda one=one: task.delay(one).get(timeout=60)) for one in arguments(order)]}


def delay_until(task: Any, order: dict[str, Any]) -> dict[str, Any]:
    eta = datetime.fromtimestamp(order["at"], UTC)
    return {"seconds": seconds(lambda: [task.apply_async((one,), eta=eta) for one in arguments(order)])}


def facts(_task: Any, _order: dict[str, Any]) -> dict[str, Any]:
    celery = import_string("celery.VERSION")
    versions = {"celery": ".".join(map(str, celery)), "Django": django.__version__, "kombu": kombu.__version__}
    return {"versions": versions | {"Python": sys.version.split()[0]}, "database": durability()}


def durability() -> dict[str, str]:
    """What the connection that this project's settings make says of itself."""
    statement = {"postgresql": "SHOW {}", "sqlite": "PRAGMA {}"}[connection.vendor]
    names = {"postgresql": ("server_version", "fsync", "synchronous_commit"), "sqlite": ("journal_mode", "synchronous")}
    with connection.cursor() as cursor:
        return {name: str(cursor.execute(statement.format(name)).fetchone()[0]) for name in names[connection.vendor]}


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


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


ACTIONS = (fill, enqueue_one_by_one, enqueue_many, round_trip, delay_until, facts)

if __name__ == "__main__":
    django.setup()
    wanted = json.loads(sys.argv[2])
    action = {one.__name__: one for one in ACTIONS}[sys.argv[1]]
    print(json.dumps(action(import_string(f"work.tasks.{wanted['task']}"), wanted)))
