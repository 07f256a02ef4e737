"""What all scripts of this folder share: the order, the clock, the messages, and a start together with others."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from celery.calling import new_id

TASK = "bench.noop"

#: What is compared is done so often before it is the other's turn.
TURN = 50

Order = dict[str, Any]


class Call(NamedTuple):
    """A call of the task that costs nothing: its id, and its body as our side writes it."""

    task_id: str
    body: bytes


def calls(count: int) -> list[Call]:
    """Make so many calls."""
    return [call(number) for number in range(count)]


def call(number: int) -> Call:
    """Make the call whose argument is `number`."""
    task_id = new_id()
    asked = {"task": TASK, "id": task_id, "args": [number], "kwargs": {}, "retries": 0}
    options = {"eta": None, "expires": None, "utc": True, "taskset": None}
    return Call(task_id, json.dumps(asked | options).encode())


def seconds(action: Callable[[], object]) -> float:
    """How long `action` takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def rate(count: int, action: Callable[[], object]) -> dict[str, float]:
    """How many a second, where `action` does `count` of them."""
    return {"rate": count / seconds(action)}


def rates_in_turns(count: int, **actions: Callable[[], object]) -> dict[str, float]:
    """How often a second each is done, `count` times in all, in turns: what disturbs one disturbs all."""
    spent = dict.fromkeys(actions, 0.0)
    turns = -(-count // TURN)
    for _ in range(turns):
        for name, action in actions.items():
            spent[name] += seconds(lambda action=action: [action() for _ in range(TURN)])  # type: ignore[misc]
    return {name: turns * TURN / took for name, took in spent.items()}


def pages(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Cut `items` into pages of `size`, the last one perhaps shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def count_together(action: Callable[[], object]) -> dict[str, float]:
    """Say "ready", wait for a line, and count how often `action` succeeds in so many seconds as that line says."""
    print("ready", flush=True)
    patience = float(sys.stdin.readline())
    began = time.perf_counter()
    count = 0
    while time.perf_counter() - began < patience:
        action()
        count += 1
    return {"count": count, "seconds": time.perf_counter() - began}


def run(actions: Sequence[Callable[[Order], dict[str, Any]]]) -> None:
    """Do what the command line orders, and print what came of it."""
    order: Order = json.loads(sys.argv[1])
    action = {one.__name__: one for one in actions}[order["action"]]
    print(json.dumps(action(order)))
