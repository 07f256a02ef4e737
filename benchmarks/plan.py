"""Who takes part in which scenario, and in which order."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.contender import CELERY, OURS, Contender, our_python
from benchmarks.places import AmqpQueue, Database, PostgreSQL, SQLite, Table
from benchmarks.scenarios import Figure, drain, enqueue, round_trip
from benchmarks.usage import listener
from tests.interop.environment import python_of_celery

Step = Callable[[], Iterator[Figure]]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many tasks a step takes: of our side, and of Celery, which needs longer for each."""

    rounds: int
    drain: int
    drain_celery: int
    enqueue: int
    trips: int
    slow_trips: int


FULL = Sizes(rounds=3, drain=20_000, drain_celery=5_000, enqueue=2_000, trips=300, slow_trips=20)
QUICK = Sizes(rounds=1, drain=6_000, drain_celery=1_500, enqueue=500, trips=100, slow_trips=6)


@dataclass(frozen=True, kw_only=True)
class Contenders:
    """All of them; Celery once as the issue wants it tuned, and with what else might help it."""

    ours: Contender
    ours_postgresql: Contender
    ours_sqlite: Contender
    celery: Contender

    @property
    def celery_wide(self) -> Contender:
        """Celery with the prefetch of 1,024 that our side grows to."""
        return replace(self.celery, label="Celery, prefetch 1024", variables={"BENCH_PREFETCH": "256"})

    @property
    def celery_confirming(self) -> Contender:
        """Celery waiting for RabbitMQ's confirm, as our side does."""
        return replace(self.celery, label="Celery, confirming", variables={"BENCH_CONFIRM": "1"})

    def all(self) -> tuple[Contender, ...]:
        """Those with databases of their own."""
        return (self.ours, self.celery, self.ours_postgresql, self.ours_sqlite)


@contextmanager
def contenders(postgres: str, amqp: str, folder: Path) -> Iterator[Contenders]:
    """Make databases, queues and tables of the run's own, and remove them at the end."""
    peer = python_of_celery()
    with ExitStack() as stack:
        databases = [PostgreSQL(postgres, f"bench_{name}") for name in ("ours", "celery", "queue")]
        in_file = SQLite(folder / "bench.sqlite3")
        queues = [AmqpQueue(amqp, f"bench_{name}") for name in ("ours", "celery")]
        everywhere: list[Database] = [*databases, in_file]
        for database in everywhere:
            stack.callback(database.remove)
        for queue in queues:
            stack.callback(queue.remove)
        pids = tuple(pid for pid in (listener(urlsplit(url).port or 0) for url in (postgres, amqp)) if pid)
        ours = partial(Contender, product=OURS, python=our_python(), log=folder / "ours.log", servers=pids)
        made = Contenders(
            ours=ours(label="ours, RabbitMQ", queue=queues[0], database=databases[0]),
            ours_postgresql=ours(label="ours, PostgreSQL", queue=Table(databases[2]), database=databases[2]),
            ours_sqlite=ours(label="ours, SQLite", queue=Table(in_file), database=in_file),
            celery=Contender(
                label="Celery, RabbitMQ",
                product=CELERY,
                python=peer,
                log=folder / "celery.log",
                servers=pids,
                queue=queues[1],
                database=databases[1],
            ),
        )
        for one in made.all():
            one.prepare()
        yield made


def steps_of_drain(they: Contenders, sizes: Sizes) -> list[Step]:
    """Our side, Celery, and so on, in pairs."""
    return [
        partial(drain, they.ours, sizes.drain),
        partial(drain, they.celery, sizes.drain_celery),
        partial(drain, they.ours_postgresql, sizes.drain),
        partial(drain, they.celery_wide, sizes.drain_celery),
        partial(drain, they.ours_sqlite, sizes.drain),
    ]


def steps_of_enqueue(they: Contenders, sizes: Sizes) -> list[Step]:
    """One by one and, where that exists, many at once."""
    one, many = "enqueue_one_by_one", "enqueue_many"
    return [
        partial(enqueue, they.ours, one, sizes.enqueue),
        partial(enqueue, they.celery, one, sizes.enqueue),
        partial(enqueue, they.ours, many, 10 * sizes.enqueue),
        partial(enqueue, they.celery_confirming, one, sizes.enqueue),
        *(partial(enqueue, our, one, sizes.enqueue) for our in (they.ours_postgresql, they.ours_sqlite)),
        *(partial(enqueue, our, many, 10 * sizes.enqueue) for our in (they.ours_postgresql, they.ours_sqlite)),
    ]


def steps_of_round_trip(they: Contenders, sizes: Sizes) -> list[Step]:
    """Celery as it waits by default, and as it can be made to."""
    return [
        partial(round_trip, they.ours, "round_trip", sizes.trips),
        partial(round_trip, they.celery, "round_trip", sizes.slow_trips),
        partial(round_trip, they.ours_postgresql, "round_trip", sizes.trips),
        partial(round_trip, they.celery, "round_trip_polling", sizes.trips),
        partial(round_trip, they.ours_sqlite, "round_trip", sizes.trips),
    ]


SCENARIOS = {"drain": steps_of_drain, "enqueue": steps_of_enqueue, "round-trip": steps_of_round_trip}
