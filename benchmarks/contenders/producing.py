"""What the producers of the peers share: the order on their command line, and how their calls are timed.

A peer's interpreter imports it, so it needs the standard library only. What orders there are is told in
``benchmarks/contender.py``.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count, islice, repeat
from pathlib import Path
from typing import Any, Self

WARM_UP = 20
SECONDS_FOR_A_TRIP = 60.0


class Wrong(Exception):
    """A product did something else than it was asked to: there is no figure then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What ``drive.py ACTION JSON`` is asked to do."""

    task: str = "noop"
    count: int = 1
    argument: Any = None
    size: int = 0
    at: float = 0.0

    def arguments(self) -> Iterator[Any]:
        """The argument of each call: always the same one, or each its own number."""
        given = random.Random(1).randbytes(self.size // 2).hex() if self.size else self.argument
        return islice(count() if given is None else repeat(given), self.count)


Found = dict[str, Any]
Action = Callable[[Order], Found]


def obey(actions: Mapping[str, Action]) -> None:
    """Do what the command line asks, and print what was found as JSON."""
    action, text = sys.argv[1:]
    given = {name: value for name, value in json.loads(text).items() if name in Order.__slots__}
    print(json.dumps(actions[action](Order(**given))))


def timed_calls(call: Callable[[Any], object], order: Order) -> Found:
    """Make the calls of an order and time all but the first, which connects."""
    first, *others = order.arguments()
    call(first)
    with Stopwatch() as watch:
        for argument in others:
            call(argument)
    return watch.found | {"measured": len(others)}


def timed_trips(trip: Callable[[Any], object], order: Order) -> Found:
    """Make trips one at a time, after a few that are not timed; each must bring back what noop returns."""
    for number in range(WARM_UP):
        expect(trip(number), number)
    times = []
    for argument in order.arguments():
        began = time.perf_counter()
        value = trip(argument)
        times.append(time.perf_counter() - began)
        expect(value, argument)
    return {"times": times}


class Stopwatch:
    """How many seconds a block took, by the clock and of this process's CPU."""

    found: Found

    def __enter__(self) -> Self:
        self._cpu, self._began = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.found = {"seconds": time.perf_counter() - self._began, "cpu": time.process_time() - self._cpu}


def expect(value: object, wanted: object) -> None:
    """Raise Wrong unless a trip brought back what was wanted."""
    if value != wanted:
        raise Wrong(f"{wanted!r} was sent, {value!r} came back")


def wait_until(is_over: Callable[[], bool], *, pause: float) -> None:
    """Ask again and again, with a pause in between; raises Wrong when it takes too long."""
    deadline = time.monotonic() + SECONDS_FOR_A_TRIP
    while not is_over():
        if time.monotonic() > deadline:
            raise Wrong(f"nothing came within {SECONDS_FOR_A_TRIP:.0f} s")
        time.sleep(pause)


def peak_megabytes() -> float:
    """The most that this program has held. What getrusage says begins with the size of the program that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def versions(*distributions: str) -> dict[str, str]:
    """Return what is installed of these, and the interpreter's own version."""
    return {name: version(name) for name in distributions} | {"Python": sys.version.split()[0]}


def redis_facts(client: Any) -> dict[str, str]:
    """Return what Redis says of its own durability, through a product's client."""
    settings = {name: client.config_get(name)[name] for name in ("appendonly", "appendfsync", "save")}
    return {"server_version": client.info("server")["redis_version"]} | settings


def postgres_facts(cursor: Any) -> dict[str, str]:
    """Return what PostgreSQL says of its own durability, through a product's connection."""
    names = ("server_version", "fsync", "synchronous_commit")
    return {name: str(cursor.execute(f"SHOW {name}").fetchone()[0]) for name in names}
