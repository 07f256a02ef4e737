"""Every name of a scenario, a measure or a contender that tables, targets and figures refer to: here and nowhere else.

What is renamed in the scenarios is renamed here; a test compares the two.
"""

from collections.abc import Mapping
from typing import Final

from benchmarks.rounds import Key

OURS_RABBITMQ: Final = "ours, RabbitMQ"
OURS_POSTGRESQL: Final = "ours, PostgreSQL"
OURS_SQLITE: Final = "ours, SQLite"
OURS_LOGGING: Final = "ours, RabbitMQ, a log line a task"
#: Celery, tuned: what others are compared with.
CELERY: Final = "Celery, tuned"
CELERY_DEFAULTS: Final = "Celery, defaults"
#: After a label: whose get() was made to look more often than by default.
LOOKING_OFTEN: Final = "looking often"
#: What raw limits begin with: "raw, RabbitMQ".
RAW: Final = "raw"

DRAIN: Final = "drain"
STORED: Final = "results stored"
IGNORED: Final = "results ignored"
ENQUEUE: Final = "enqueue"
ONE_BY_ONE: Final = "one by one"
IN_BULK: Final = "in bulk"
ROUND_TRIP: Final = "round-trip"
P50: Final = "p50"
P95: Final = "p95"
P99: Final = "p99"
START: Final = "start"
FIRST_TASK: Final = "first task"
IDLE: Final = "idle"
IDLE_CPU: Final = "CPU of the worker"
IDLE_MEMORY: Final = "memory"
DELAYED: Final = "delayed"
BEYOND: Final = "lateness p99 beyond the drain"
GROWTH: Final = "growth while they wait"
CHILDREN: Final = "children"
NUMBERS_OF_CHILDREN: Final = ("1 child", "2 children", "4 children", "8 children")
DURATIONS: Final = "durations"
BUSY: Final = ("busy, 1 ms", "busy, 10 ms", "busy, 100 ms")
PAYLOADS: Final = "payloads"
SIZES: Final = ("100 B", "10 KB", "1 MB")
PRODUCERS: Final = "producers"
NUMBERS_OF_PRODUCERS: Final = ("1 producer", "2 producers", "4 producers", "8 producers")
#: After a label: every call notifies a worker that waits.
WATCHED: Final = "a worker waits"
MILLIONS: Final = "millions"
MILLION: Final = ("1,000,000 waiting", "1,000,000 future", "1,000,000 stored")
MILLION_SENT: Final = "million-sent"
GROWTH_OF_SENDER: Final = "1,000,000 calls: growth of the sender"
LIMITS: Final = "limits"

DRAMATIQ: Final = "dramatiq, RabbitMQ + Redis"
HUEY: Final = "huey, Redis"
TASKIQ: Final = "taskiq, RabbitMQ"
TASKIQ_CLASSIC: Final = "taskiq, RabbitMQ, classic queue, prefetch 100"
DJANGO_TASKS: Final = "django-tasks, PostgreSQL"
DJANGO_TASKS_KEPT: Final = "django-tasks, PostgreSQL, connections kept"

#: All scenarios, in the order of the page.
SECTIONS: Final = (
    *(DRAIN, ENQUEUE, ROUND_TRIP, START, IDLE, DELAYED, CHILDREN, DURATIONS, PAYLOADS),
    *(MILLIONS, MILLION_SENT, PRODUCERS, LIMITS),
)

#: What has a raw limit, where it was measured: scenario and measure, and the name of that limit's measure.
RAW_LIMITS: Final[Mapping[tuple[str, str], str]] = {
    **{(LIMITS, measure): measure for measure in (ONE_BY_ONE, IN_BULK, STORED)},
    **{(ENQUEUE, measure): measure for measure in (ONE_BY_ONE, IN_BULK)},
    (DRAIN, STORED): STORED,
    (ROUND_TRIP, P50): f"{ROUND_TRIP} {P50}",
}


def of_empty_tables(rows: str) -> str:
    """Name the measure of what a task costs beside so many rows."""
    return f"CPU a task, {rows}, of that on empty tables"


OF_EMPTY_TABLES: Final = tuple(map(of_empty_tables, MILLION))


def kind(contender: str) -> str:
    """Tell whose it is: ours, celery, raw, or peer."""
    first = contender.partition(",")[0].partition(" ")[0].lower()
    return first if first in {"ours", "celery", "raw"} else "peer"


def baseline(key: Key) -> Key | None:
    """Return the figure of Celery, tuned, that this one is compared with; None for itself and raw limits.

    Celery has no call for many: that is compared with its calls one by one.
    """
    if key.contender == CELERY or kind(key.contender) == "raw":
        return None
    return key._replace(contender=CELERY, measure=ONE_BY_ONE if key.measure == IN_BULK else key.measure)


def raw_limit(key: Key) -> Key | None:
    """Return what a plain program does at the same place, if that is measured: no task queue, the same statements."""
    measure = RAW_LIMITS.get((key.scenario, key.measure))
    if measure is None or kind(key.contender) != "ours":
        return None
    return Key(LIMITS, measure, key.contender.replace("ours", RAW, 1))
