"""More of our side's producer: calls for some seconds together with others, and the memory that many calls take.

``produce.py JSON`` does what the order says and prints one JSON object.
"""

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import django
from django.utils.module_loading import import_string

from benchmarks.contenders.producing import peak_megabytes
from benchmarks.raw.command import Order, count_together, run


def one_by_one(_order: Order) -> dict[str, Any]:
    """Call `delay` for as long as told, from the moment on when all others do."""
    task = noop()
    task.delay(0)
    return count_together(lambda: task.delay(1))


def many(order: Order) -> dict[str, Any]:
    """Call `delay_many` for `count` calls, or once for each `part` of them, letting go of the results in between."""
    task, count = noop(), order["count"]
    task.delay_many((number,) for number in range(2_000))  # what two batches take, all others take too
    before = peak_megabytes()
    began = time.perf_counter()
    for part in parts(count, order.get("part") or count):
        task.delay_many(part)
    return {"seconds": time.perf_counter() - began, "rss_growth_mb": peak_megabytes() - before}


def parts(count: int, size: int) -> Iterator[Iterator[tuple[int]]]:
    """The arguments of `count` calls, `size` at a time."""
    arguments = ((number,) for number in range(count))
    return (islice(arguments, size) for _ in range(0, count, size))


def noop() -> Any:
    django.setup()
    return import_string("work.tasks.noop")


if __name__ == "__main__":
    run((one_by_one, many))
