"""What the servers and SQLite take from a plain program: see `benchmarks.raw`. Beside it, ours in the same minute.

A figure of ours that is compared with a raw limit is measured here again, next to it, whatever other scenarios say.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks import labels
from benchmarks.contender import Contender, found_in, our_python, output_of
from benchmarks.figure import Figure, less_is_better
from benchmarks.plan import Contenders, Sizes, Step
from benchmarks.scenarios.drain import stored_results
from benchmarks.scenarios.enqueue import TIMES_AS_MANY_IN_BULK, enqueue
from tests.interop.environment import ROOT, clean_environment

NAME = labels.LIMITS
RABBITMQ, POSTGRESQL, SQLITE = (f"{labels.RAW}, {name}" for name in ("RabbitMQ", "PostgreSQL", "SQLite"))
CONSUMED = "consumed and acknowledged"
#: What our worker does on SQLite: it claims half of its window at once, and a child stores what has piled up meanwhile.
#: The mean of a drain of 40,000 was 374 rows a claim and 91 rows a group.
BATCH, GROUP = 512, 91
PREFETCH = 1024
BULK = 1_000
ROWS_OF_AN_INSERT = 500
GROUPS = (64, 500)
CONNECTIONS = (1, 4)

Raw = Callable[..., dict[str, float]]


def steps(they: Contenders, sizes: Sizes) -> list[Step]:
    """Each limit with its like of ours before it."""
    one, many = "enqueue_one_by_one", "enqueue_many"
    bulk = TIMES_AS_MANY_IN_BULK * sizes.enqueue
    return [
        partial(beside, enqueue, they.ours, one, sizes.enqueue),
        partial(published, they, sizes.enqueue),
        partial(beside, enqueue, they.ours, many, bulk),
        partial(published_in_bulk, they, bulk),
        partial(beside, enqueue, they.ours_postgresql, one, sizes.enqueue),
        partial(inserted, they, sizes.enqueue),
        partial(beside, enqueue, they.ours_postgresql, many, bulk),
        partial(inserted_in_bulk, they, bulk),
        partial(consumed, they, bulk),
        partial(finished, they, bulk),
        partial(beside, stored_results, they.ours_sqlite, sizes),
        partial(drained, they, bulk),
        partial(hops, they, sizes.trips),
    ]


def beside(scenario: Callable[..., Iterator[Figure]], *arguments: Any) -> Iterator[Figure]:
    """What another scenario measures, under our name."""
    return (replace(figure, scenario=NAME) for figure in scenario(*arguments))


def published(they: Contenders, count: int) -> Iterator[Figure]:
    """One confirmed publish at a time."""
    yield from _one_by_one(RABBITMQ, raw("rabbitmq", "publish_one_by_one", url=they.servers.amqp, count=count))


def published_in_bulk(they: Contenders, count: int) -> Iterator[Figure]:
    """As many as we send at once, with one wait for all their confirms."""
    found = raw("rabbitmq", "publish_in_batches", url=they.servers.amqp, count=count, batch=BULK)
    yield _rate(RABBITMQ, labels.IN_BULK, found, {"batch": BULK})


def consumed(they: Contenders, count: int) -> Iterator[Figure]:
    """Nothing is done with what is consumed."""
    found = raw("rabbitmq", "consume", url=they.servers.amqp, count=count, prefetch=PREFETCH)
    yield _rate(RABBITMQ, CONSUMED, found, {"prefetch": PREFETCH})


def inserted(they: Contenders, count: int) -> Iterator[Figure]:
    """The row of a message in autocommit mode."""
    yield from _one_by_one(POSTGRESQL, _on_postgresql(they, "insert_one_by_one", count=count))


def inserted_in_bulk(they: Contenders, count: int) -> Iterator[Figure]:
    """As many rows in a statement as ours."""
    found = _on_postgresql(they, "insert_groups", count=count, group=ROWS_OF_AN_INSERT)
    yield _rate(POSTGRESQL, labels.IN_BULK, found, {"group": ROWS_OF_AN_INSERT})


def finished(they: Contenders, count: int) -> Iterator[Figure]:
    """What follows a group of tasks: results in, messages out."""
    for connections in CONNECTIONS:
        for group in GROUPS:
            found = _on_postgresql(they, "finish", count=count, group=group, connections=connections)
            measure = f"results stored, groups of {group}, {connections} connection{'s' * (connections > 1)}"
            yield _rate(POSTGRESQL, measure, found)


def drained(they: Contenders, count: int) -> Iterator[Figure]:
    """The statements of a whole drain, by one process that does nothing else."""
    they.ours_sqlite.clear()
    path = they.ours_sqlite.database.settings["NAME"]
    found = raw("sqlite", "drain", path=path, count=count, batch=BATCH, group=GROUP)
    yield _rate(SQLITE, labels.STORED, found, {"batch": BATCH, "group": GROUP})


def hops(they: Contenders, count: int) -> Iterator[Figure]:
    """What a round trip is made of at the least, hop by hop, and their sums."""
    delivery = raw("rabbitmq", "hop", url=they.servers.amqp, count=count)["p50"]
    rows = _on_postgresql(they, "hops", count=count)
    found = {
        "publish to delivery": delivery,
        "upsert": rows["upsert"],
        "select": rows["select"],
        "insert to wake": rows["wake"],
    }
    for name, value in found.items():
        yield _milliseconds(RABBITMQ if value is delivery else POSTGRESQL, f"{name} {labels.P50}", value)
    stored = rows["upsert"] + rows["select"]
    yield _milliseconds(RABBITMQ, f"{labels.ROUND_TRIP} {labels.P50}", delivery + stored)
    yield _milliseconds(POSTGRESQL, f"{labels.ROUND_TRIP} {labels.P50}", rows["wake"] + stored)


def raw(module: str, action: str, **order: Any) -> dict[str, float]:
    """Run a script of `benchmarks.raw`, and return what it measured; Broken when it fails."""
    command = [str(our_python()), "-m", f"benchmarks.raw.{module}", json.dumps({"action": action} | order)]
    folder = ROOT / "docs"  # any that has no modules
    return found_in(output_of(f"raw {module}, {action}", command, folder, clean_environment(PYTHONPATH=str(ROOT))))


def connection_of(contender: Contender) -> dict[str, str]:
    """The arguments with which psycopg connects to its database."""
    names = {"HOST": "host", "PORT": "port", "USER": "user", "PASSWORD": "password", "NAME": "dbname"}
    settings = contender.database.settings
    return {name: settings[key] for key, name in names.items() if settings.get(key)}


def _on_postgresql(they: Contenders, action: str, **order: Any) -> dict[str, float]:
    they.ours_postgresql.clear()
    return raw("postgresql", action, connect=connection_of(they.ours_postgresql), **order)


def _one_by_one(contender: str, found: Mapping[str, float]) -> Iterator[Figure]:
    """With messages that are ready, and with such as have to be made: nothing that makes them comes above that."""
    yield _rate(contender, labels.ONE_BY_ONE, found)
    yield _rate(contender, f"{labels.ONE_BY_ONE}, messages made too", {"rate": found["made"]})


def _rate(contender: str, measure: str, found: Mapping[str, float], more: Mapping[str, float] | None = None) -> Figure:
    details = {name: value for name, value in found.items() if name != "rate"} | dict(more or {})
    return Figure(scenario=NAME, measure=measure, unit="/s", contender=contender, value=found["rate"], details=details)


def _milliseconds(contender: str, measure: str, seconds: float) -> Figure:
    return less_is_better(NAME, contender, measure, "ms", 1000 * seconds)
