"""The peers: other people's task queues, one entry for each way in which they are set up.

Each is the product that pip finds today, in a compatible range, with the defaults of a new user and four worker
processes, unless its label says otherwise. How each is set up is told in its folder of `contenders`; where it can say
less about each task in its log, it is told to, as our own workers are.
"""

import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final
from urllib.parse import quote, urlsplit

from benchmarks import labels
from benchmarks.contender import Product
from benchmarks.places import AmqpQueue, Ground, Queue, ResultRows, Results, Rows, Table
from benchmarks.places_redis import NoResults, RedisDatabase, RedisHash, RedisKeys, RedisList

NOT_ASKED: Final = {"delay_until": "not measured of this product"}
NO_CALL_FOR_MANY: Final = {"enqueue_many": "no call that puts many into the queue"}
NO_WAITING: Final = {"round_trip": "no call that waits for a result"}
ALWAYS_STORED: Final = {"ignored": "what became of a task is always stored"}
TOO_OFTEN: Final = {"round_trip_polling": "it is told when the result is there, and need not look"}
WITHOUT_RESULTS: Final = dict.fromkeys(("results", "round_trip", "round_trip_polling"), "set up without results")
#: What another way of setting the same product up does not change.
SAME: Final = dict.fromkeys(("enqueue", "start", "idle"), "measured of the same product in another row")
#: TERM came before the worker had its handler: it had nothing to drain.
IN_ORDER: Final = (0, -signal.SIGTERM)


def on_rabbitmq(results: Callable[[Ground], Results], *beside: str) -> Callable[[Ground], tuple[Queue, Results]]:
    """Messages on RabbitMQ; `beside` is what follows the queue's name in those of the product's other queues."""
    return lambda ground: (AmqpFamily(ground.amqp, ground.name, beside), results(ground))


class AmqpFamily(AmqpQueue):
    """A queue with others beside it, for delays and dead letters."""

    def __init__(self, url: str, name: str, beside: tuple[str, ...]) -> None:
        super().__init__(with_quoted_vhost(url), name)
        self._beside = beside

    def clear(self) -> None:
        super().clear()
        for ending in self._beside:
            AmqpQueue(self.broker, self.name + ending).clear()

    def remove(self) -> None:
        """Remove an exchange of that name, too."""
        super().remove()
        with self._channel() as channel:
            channel.exchange_delete(self.name)


def with_quoted_vhost(url: str) -> str:
    """Write ``amqp://host//``, which kombu understands, as other clients do: ``amqp://host/%2F``."""
    parts = urlsplit(url)
    return parts._replace(path="/" + quote(parts.path[1:] or "/", safe="%")).geturl()


def in_redis(number: int) -> Callable[[Ground], Results]:
    """Results as keys of a database of their own."""
    return lambda ground: RedisKeys(RedisDatabase(ground.redis, number))


def nowhere(_: Ground) -> Results:
    """No results."""
    return NoResults()


def of_huey(number: int) -> Callable[[Ground], tuple[Queue, Results]]:
    """All in one database: huey names its list and its hash after the queue."""

    def places(ground: Ground) -> tuple[Queue, Results]:
        database, name = RedisDatabase(ground.redis, number), ground.name.replace("_", "")
        return (
            RedisList(database, name=name, key=f"huey.redis.{name}"),
            RedisHash(database, key=f"huey.results.{name}"),
        )

    return places


def in_one_table(waiting: Rows, done: Rows) -> Callable[[Ground], tuple[Queue, Results]]:
    """Tasks and their results in the same rows."""
    return lambda ground: (Table(ground.database, waiting), ResultRows(ground.database, done))


DRAMATIQ: Final = Product(
    label=labels.DRAMATIQ,
    folder="dramatiq",
    requirements=("dramatiq[rabbitmq,redis]==2.*",),
    worker=lambda children: ("-m", "dramatiq", "work.tasks", "-p", str(children)),
    places=on_rabbitmq(in_redis(11), ".DQ", ".XQ"),
    servers=("rabbitmq", "redis"),
    lacks=NO_CALL_FOR_MANY | TOO_OFTEN | NOT_ASKED,
    sees_root=True,
    prepare=(),
    drain=20_000,
    drain_ignored=30_000,
)
HUEY: Final = Product(
    label=labels.HUEY,
    folder="huey",
    requirements=("huey==3.*", "redis==8.*"),
    # its consumer drains on INT unless it is told to on TERM
    worker=lambda children: (
        *("-m", "huey.bin.huey_consumer", "work.tasks.huey", "-k", "process", "-w", str(children)),
        *("-g", "TERM", "--quiet"),
    ),
    places=of_huey(12),
    servers=("redis",),
    lacks=NO_CALL_FOR_MANY | NOT_ASKED | {"round_trip_polling": "notify_result is the quick way"},
    sees_root=True,
    prepare=(),
    drain=25_000,
    drain_ignored=30_000,
)
HUEY_NOTIFYING: Final = replace(
    HUEY,
    label=f"{labels.HUEY}, notify_result",
    places=of_huey(13),
    variables={"BENCH_NOTIFY": "1"},
    lacks=NO_CALL_FOR_MANY | NOT_ASKED | TOO_OFTEN | SAME | {"ignored": "the same as without"},
)
TASKIQ: Final = Product(
    label="taskiq, RabbitMQ + Redis",
    folder="taskiq",
    requirements=("taskiq==0.13.*", "taskiq-aio-pika==0.6.*", "taskiq-redis==1.*"),
    worker=lambda children: (
        *("-m", "taskiq", "worker", "configuration:broker", "work.tasks", "-w", str(children)),
        *("--log-level", "WARNING"),
    ),
    places=on_rabbitmq(in_redis(14), ".dead_letter"),
    servers=("rabbitmq", "redis"),
    lacks=NO_CALL_FOR_MANY | NOT_ASKED | {"ignored": "all results are stored, or none"},
    sees_root=True,
    prepare=(),
    drain=20_000,
    drain_ignored=30_000,
)
TASKIQ_WITHOUT: Final = replace(
    TASKIQ,
    label=labels.TASKIQ,
    places=on_rabbitmq(nowhere, ".dead_letter"),
    servers=("rabbitmq",),
    lacks=NO_CALL_FOR_MANY | NOT_ASKED | SAME | WITHOUT_RESULTS,
)
TASKIQ_CLASSIC: Final = replace(
    TASKIQ_WITHOUT, label=f"{labels.TASKIQ}, classic queue, prefetch 100", variables={"BENCH_CLASSIC": "1"}
)
JOBS: Final = "procrastinate_jobs"
PROCRASTINATE: Final = Product(
    label="procrastinate, PostgreSQL",
    folder="procrastinate",
    requirements=("procrastinate[django]==3.*", "Django==5.2.*", "psycopg[binary]>=3.2"),
    worker=lambda _: ("-m", "django", "procrastinate", "worker"),
    one_each=True,
    exit_codes=IN_ORDER,
    places=in_one_table(
        Rows(table="procrastinate_jobs", counted="status IN ('todo', 'doing')"),
        Rows(
            table="procrastinate_jobs", counted="status NOT IN ('todo', 'doing')", good="status = 'succeeded'", key="id"
        ),
    ),
    servers=("postgresql",),
    lacks=NOT_ASKED | NO_WAITING | ALWAYS_STORED,
    sees_root=True,
    drain=2_500,
)
TASKS: Final = "django_tasks_database_dbtaskresult"
DJANGO_TASKS: Final = Product(
    label=labels.DJANGO_TASKS,
    folder="django_tasks",
    requirements=("django-tasks-db[compat]==0.13.*", "Django==5.2.*", "psycopg[binary]>=3.2"),
    worker=lambda _: ("-m", "django", "db_worker", "-v", "0"),
    one_each=True,
    exit_codes=IN_ORDER,
    places=in_one_table(
        Rows(table=TASKS, counted="finished_at IS NULL"),
        Rows(
            table=TASKS,
            counted="finished_at IS NOT NULL",
            good="status = 'SUCCESSFUL'",
            key="id",
        ),
    ),
    servers=("postgresql",),
    lacks=NO_CALL_FOR_MANY | NOT_ASKED | NO_WAITING | ALWAYS_STORED,
    sees_root=True,
    drain=1_500,
)
DJANGO_TASKS_KEEPING: Final = replace(
    DJANGO_TASKS,
    label=f"{labels.DJANGO_TASKS}, connections kept",
    variables={"BENCH_KEEP": "1"},
    lacks={**DJANGO_TASKS.lacks, **SAME},
    drain=3_000,
)

PRODUCTS: Final[Mapping[str, Product]] = MappingProxyType(
    {
        "dramatiq": DRAMATIQ,
        "huey": HUEY,
        "huey_notifying": HUEY_NOTIFYING,
        "taskiq": TASKIQ,
        "taskiq_without": TASKIQ_WITHOUT,
        "taskiq_classic": TASKIQ_CLASSIC,
        "procrastinate": PROCRASTINATE,
        "django_tasks": DJANGO_TASKS,
        "django_tasks_keeping": DJANGO_TASKS_KEEPING,
    }
)
#: What PEERS may name: a folder of `contenders`, with all the ways in which its product is set up.
PEERS: Final = tuple(dict.fromkeys(product.folder for product in PRODUCTS.values()))


def peers(names: Iterable[str]) -> list[Product]:
    """Return all entries of the named peers; ValueError for a name that is none."""
    wanted = list(names)
    if unknown := sorted(set(wanted) - set(PEERS)):
        raise ValueError(f"no peers: {', '.join(unknown)}; known: {', '.join(PEERS)}")
    return [product for name in wanted for product in PRODUCTS.values() if product.folder == name]
