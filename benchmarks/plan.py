"""Who takes part, and how much they have to do."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from benchmarks import labels
from benchmarks.contender import Contender, Product, our_python
from benchmarks.environments import python_of
from benchmarks.figure import Figure
from benchmarks.places import (
    AmqpQueue,
    Database,
    Ground,
    Marks,
    PostgreSQL,
    Queue,
    ResultRows,
    Results,
    Rows,
    SQLite,
    Table,
)
from benchmarks.usage import listener
from tests.interop.environment import python_of_celery

Step = Callable[[], Iterator[Figure]]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much each step does. A drain takes `part` of the tasks that its product names."""

    rounds: int
    part: float
    enqueue: int
    trips: int
    slow_trips: int
    starts: int
    idle_seconds: float
    delayed: int
    seconds_ahead: float
    many: int


FULL = Sizes(
    rounds=3,
    part=1,
    enqueue=2_000,
    trips=300,
    slow_trips=10,
    starts=1,
    idle_seconds=5,
    delayed=5_000,
    seconds_ahead=7,
    many=1_000_000,
)
QUICK = Sizes(
    rounds=1,
    part=0.25,
    enqueue=500,
    trips=100,
    slow_trips=6,
    starts=1,
    idle_seconds=5,
    delayed=1_000,
    seconds_ahead=3,
    many=20_000,
)


def _on_rabbitmq(rows: Rows) -> Callable[[Ground], tuple[Queue, Results]]:
    return lambda ground: (AmqpQueue(ground.amqp, ground.name), ResultRows(ground.database, rows))


def _our_table(ground: Ground) -> tuple[Queue, Results]:
    return Table(ground.database, Rows(table="celery_message")), ResultRows(ground.database, OUR_RESULTS)


OUR_RESULTS: Final = Rows(table="celery_taskmeta", good="status = 'DONE'")
RESULTS_OF_CELERY: Final = Rows(table="django_celery_results_taskresult", good="status = 'SUCCESS'")

OURS: Final = Product(
    label=labels.OURS_RABBITMQ,
    folder="ours",
    worker=lambda children: ("-m", "django", "celeryd", "-c", str(children), "-l", "WARNING"),
    places=_on_rabbitmq(OUR_RESULTS),
    sees_root=True,
    drain=30_000,
    drain_ignored=40_000,
)
OURS_POSTGRESQL: Final = replace(OURS, label=labels.OURS_POSTGRESQL, places=_our_table, servers=("postgresql",))
OURS_SQLITE: Final = replace(OURS, label=labels.OURS_SQLITE, places=_our_table, servers=(), in_file=True)

CELERY_DEFAULTS: Final = Product(
    label=labels.CELERY_DEFAULTS,
    folder="celery57",
    worker=lambda children: ("-m", "celery", "-A", "application", "worker", "-c", str(children), "-l", "WARNING"),
    places=_on_rabbitmq(RESULTS_OF_CELERY),
    lacks={"enqueue_many": "no call for many", "ignored": "its settings that differ are about results"},
    drain=1_500,
    drain_ignored=8_000,
)
CELERY: Final = replace(
    CELERY_DEFAULTS,
    label=labels.CELERY,
    worker=lambda children: (*CELERY_DEFAULTS.worker(children), "--without-gossip", "--without-mingle"),
    variables={"BENCH_TUNED": "1"},
    lacks={"enqueue_many": "no call for many"},
    drain=4_000,
)


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Addresses; of Redis only where a peer needs it."""

    postgres: str
    amqp: str
    redis: str = ""

    def pids(self) -> tuple[int, ...]:
        """The process that listens at each."""
        found = (listener(urlsplit(url).port or 0) for url in (self.postgres, self.amqp, self.redis) if url)
        return tuple(pid for pid in found if pid)


@dataclass(frozen=True, kw_only=True)
class Contenders:
    """All of them; Celery as the issue wants it tuned, with its defaults, and with what else might help it."""

    ours: Contender
    ours_postgresql: Contender
    ours_sqlite: Contender
    celery: Contender
    celery_defaults: Contender
    peers: tuple[Contender, ...]
    servers: Servers
    folder: Path

    @property
    def celery_wide(self) -> Contender:
        """Celery with the prefetch of 1,024 that our side grows to."""
        return replace(self.celery, label=f"{labels.CELERY}, prefetch 1024", variables={"BENCH_PREFETCH": "256"})

    @property
    def celery_confirming(self) -> Contender:
        """Celery waiting for RabbitMQ's confirm, as our side does."""
        return replace(self.celery, label=f"{labels.CELERY}, confirming", variables={"BENCH_CONFIRM": "1"})

    @property
    def ours_logging(self) -> Contender:
        """Our side at its own default level, INFO: a line for each task. All other lines are at Celery's, WARNING."""
        product = replace(self.ours.product, worker=lambda children: (*OURS.worker(children), "-l", "INFO"))
        return replace(self.ours, label=labels.OURS_LOGGING, product=product)

    def ours_everywhere(self) -> tuple[Contender, ...]:
        """Our side on each broker."""
        return (self.ours, self.ours_postgresql, self.ours_sqlite)

    def everybody(self) -> tuple[Contender, ...]:
        """Those with places of their own, ours and others in turns."""
        return (
            *(self.ours, self.celery, self.ours_postgresql, self.celery_defaults, self.ours_sqlite),
            *self.peers,
        )


@contextmanager
def contenders(servers: Servers, peers: Sequence[Product], folder: Path) -> Iterator[Contenders]:
    """Make databases, queues and tables of the run's own, and remove them at the end."""
    with ExitStack() as stack:
        makers = (OURS, OURS_POSTGRESQL, OURS_SQLITE, CELERY, CELERY_DEFAULTS)
        ours, ours_postgresql, ours_sqlite, celery, defaults, *others = (
            stack.enter_context(_made(product, f"bench_{number}", servers, folder))
            for number, product in enumerate((*makers, *peers))
        )
        yield Contenders(
            ours=ours,
            ours_postgresql=ours_postgresql,
            ours_sqlite=ours_sqlite,
            celery=celery,
            celery_defaults=defaults,
            peers=tuple(others),
            servers=servers,
            folder=folder,
        )


@contextmanager
def _made(product: Product, name: str, servers: Servers, folder: Path) -> Iterator[Contender]:
    database: Database = SQLite(folder / f"{name}.sqlite3") if product.in_file else PostgreSQL(servers.postgres, name)
    with ExitStack() as stack:
        stack.callback(database.remove)
        ground = Ground(name=name, database=database, **{key: getattr(servers, key) for key in ADDRESSES})
        queue, results = product.places(ground)
        stack.callback(queue.remove)
        made = Contender(
            label=product.label,
            product=product,
            python=_python(product),
            queue=queue,
            results=results,
            database=database,
            log=folder / f"{name}.log",
            marks=Marks(folder / f"{name}.marks"),
            servers=servers.pids(),
        )
        made.prepare()
        yield made


ADDRESSES: Final = ("postgres", "amqp", "redis")
PYTHONS: Final[Mapping[str, Callable[[], Path]]] = {"ours": our_python, "celery57": python_of_celery}


def _python(product: Product) -> Path:
    make = PYTHONS.get(product.folder)
    return make() if make else python_of(product.folder, product.requirements)
