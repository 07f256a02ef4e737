"""A million rows lie in the tables: messages that wait, messages for next year, or results.

What a task costs then, in CPU of worker and servers, is compared with what it costs on empty tables, drain by drain.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from benchmarks import labels
from benchmarks.contender import Broken, Contender
from benchmarks.figure import Figure, less_is_better
from benchmarks.filled import KINDS, WAITING, beside, filling_of
from benchmarks.plan import Contenders, Sizes, Step
from benchmarks.usage import Reading

NAME = labels.MILLIONS
TASKS: Final = 20_000
EMPTY: Final = "empty tables"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """CPU of a drain, in microseconds a task."""

    worker: float
    servers: float
    rate: float

    @property
    def total(self) -> float:
        """Of all together."""
        return self.worker + self.servers


def steps(they: Contenders, sizes: Sizes) -> list[Step]:
    """On each database. RabbitMQ has its turn in `million_sent`."""
    return [partial(in_tables, they, one, sizes) for one in (they.ours_postgresql, they.ours_sqlite)]


def in_tables(they: Contenders, contender: Contender, sizes: Sizes) -> Iterator[Figure]:
    """A drain beside each kind of a million rows, between two on empty tables."""
    count = int(TASKS * sizes.part)
    place = partial(beside, contender, they.folder, they.servers.postgres)
    with ThreadPoolExecutor(len(KINDS)) as threads:
        list(threads.map(lambda kind: _fill(place(kind), kind, sizes.many), KINDS))
    contender.clear()
    before, *full, after = [_cost_in_tables(place(kind), kind, count) for kind in ("", *KINDS, "")]
    contender.clear()
    empty = (before.total + after.total) / 2
    yield cost_figure(NAME, contender, EMPTY, min(before, after, key=lambda cost: cost.total))
    for kind, cost in zip(KINDS, full, strict=True):
        name = f"{sizes.many:,} {kind}"
        yield cost_figure(NAME, contender, name, cost)
        yield ratio_figure(NAME, contender, name, cost.total / empty)


def _fill(place: Contender, kind: str, rows: int) -> None:
    """Make the tables, and put into them what is missing of `rows`."""
    place.prepare()
    filling = filling_of(place)
    filling.top_up(kind, rows)
    place.database.remove()


def _cost_in_tables(place: Contender, kind: str, count: int) -> Cost:
    """Drain `count` tasks beside what is there, and forget their results."""
    if kind != WAITING:
        place.drive("fill", count=count)
    filling_of(place).settle()
    row, waiting = _number(place, "SELECT coalesce(max(id), 0) FROM celery_taskmeta"), _waiting(place)
    cost = cost_of(place, lambda: _stored_after(place, row), count)
    done = _number(place, f"SELECT count(DISTINCT task_id) FROM celery_taskmeta WHERE status = 'DONE' AND id > {row}")
    if not done == _stored_after(place, row) == waiting - _waiting(place):
        raise Broken(f"{place.label}: {done} results of {waiting - _waiting(place)} messages that are gone")
    place.database.rows(f"DELETE FROM celery_taskmeta WHERE id > {row}")
    if kind:
        place.database.remove()
    return cost


def _stored_after(place: Contender, row: int) -> int:
    """How many results are new. To count all of them would cost more than the drain."""
    return _number(place, f"SELECT count(*) FROM celery_taskmeta WHERE id > {row}")


def _waiting(place: Contender) -> int:
    return _number(place, "SELECT count(*) FROM celery_message WHERE visible_at IS NULL")


def _number(place: Contender, statement: str) -> int:
    return int(place.database.rows(statement)[0][0])


def cost_of(contender: Contender, stored: Callable[[], int], count: int) -> Cost:
    """What `count` tasks cost, from the first one seen done on; others may wait behind them."""
    with contender.worker() as worker:
        first = next(look for look in contender.look(stored, count) if look.count)
        before = Reading.now(worker.pids(), contender.servers)
        *_, last = contender.look(stored, count)
        used = Reading.now(worker.pids(), contender.servers).since(before)
    tasks = last.count - first.count
    if tasks <= 0:
        raise Broken(f"{contender.label}: {count} tasks are too few to be measured")
    rate = tasks / (last.moment - first.moment)
    return Cost(worker=used.worker / tasks * 1e6, servers=used.servers / tasks * 1e6, rate=rate)


def cost_figure(scenario: str, contender: Contender, name: str, cost: Cost) -> Figure:
    """CPU of worker and servers, of tables that are called `name`."""
    details = {"cpu_us": cost.worker, "servers_us": cost.servers, "rate": cost.rate}
    return less_is_better(scenario, contender.label, f"CPU a task, {name}", "us", cost.total, details)


def ratio_figure(scenario: str, contender: Contender, name: str, ratio: float) -> Figure:
    """How many times as much as on empty tables."""
    return less_is_better(scenario, contender.label, labels.of_empty_tables(name), "times", ratio)
