"""Rows as a busy shop would have them after a day: results, messages, workers, periodic tasks and the history."""

import math
import random
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from django.db import models
from django.utils import timezone

from celery import message as wire
from celery import states
from celery.backends.exceptions import dump
from celery.models import Message, PeriodicTaskMeta, QueueDepth, TaskMeta, Throughput, Worker
from celery.schedules import crontab
from celery.standing import READY
from celery.task import periodic_task

DAY = 24 * 60
PAGE = 5_000
WAITING = 640
WORKERS = ("worker-1@shop-a", "worker-2@shop-a", "worker-1@shop-b", "worker-2@shop-b")
#: Task, queue, and how often it is sent compared with the others.
TASKS = (
    ("shop.pay", "celery", 30),
    ("shop.send_invoice", "mail", 25),
    ("shop.send_reminder", "mail", 12),
    ("shop.index_product", "search", 20),
    ("shop.resize_image", "images", 10),
    ("shop.export_orders", "celery", 3),
)
ERRORS = (
    TimeoutError("the bank did not answer within 10 s"),
    ConnectionRefusedError(111, "Connection refused"),
    ValueError("order 48112 has no address"),
    KeyError("vat_rate"),
)
#: Minutes before now in which the bank was away.
TROUBLE = range(170, 205)

chance = random.Random(4711)


@periodic_task(name="shop.daily_report", run_every=crontab("0 6 * * mon-fri"))
def daily_report() -> None:
    """Do nothing; no worker of ours is started."""


@periodic_task(name="shop.clean_baskets", run_every=crontab("*/15 * * * *"))
def clean_baskets() -> None:
    """Do nothing."""


@periodic_task(name="shop.fetch_rates", run_every=timedelta(minutes=5))
def fetch_rates() -> None:
    """Do nothing."""


def fill(*, results: int, messages: int, dead: int = 1_284) -> None:
    """Write results and messages."""
    now = timezone.now()
    _store(TaskMeta, _results(results, now))
    _store(Message, _messages(messages, dead, now))


def freshen() -> None:
    """Write anew what changes from second to second: what waits, workers, periodic tasks, the history up to now."""
    now = timezone.now()
    for model, rows in {
        Worker: _workers(now),
        PeriodicTaskMeta: _periodic(now),
        Throughput: _throughput(now),
        QueueDepth: _depths(now),
    }.items():
        model._base_manager.all().delete()
        _store(model, rows)
    Message.objects.filter(READY).delete()
    _store(Message, _waiting(now))


def _store(model: type[models.Model], rows: Iterable[models.Model]) -> None:
    pending = iter(rows)
    while page := list(islice(pending, PAGE)):
        model._base_manager.bulk_create(page)


def _task_id() -> str:
    return str(UUID(int=chance.getrandbits(128), version=4))


def _a_task() -> tuple[str, str]:
    ((name, queue, _),) = chance.choices(TASKS, weights=[weight for _, _, weight in TASKS])
    return name, queue


# -- what was done


def _results(number: int, now: datetime) -> Iterator[TaskMeta]:
    for left in range(number, 0, -1):
        name, _ = _a_task()
        row = TaskMeta(
            task_id=_task_id(),
            name=name,
            status=states.DONE,
            result=str(chance.randint(1, 10_000)),
            worker=chance.choice(WORKERS),
            runtime=chance.expovariate(8),
            date_done=now - timedelta(days=1) * (left / number) - timedelta(seconds=4),
        )
        yield _failed(row) if chance.random() < 0.012 else row


def _failed(row: TaskMeta) -> TaskMeta:
    error = chance.choice(ERRORS)
    row.status, row.attempt, row.result = states.FAILURE, chance.choice((1, 4)), dump(error)
    row.traceback = (
        "Traceback (most recent call last):\n"
        '  File "/srv/shop/tasks.py", line 48, in pay\n    bank.charge(order.number, order.amount)\n'
        '  File "/srv/shop/bank.py", line 17, in charge\n    return self.post("/charges", timeout=10)\n'
        f"{type(error).__name__}: {error}\n"
    )
    return row


def _throughput(now: datetime) -> Iterator[Throughput]:
    end = now.replace(second=0, microsecond=0)
    for minute in range(DAY):
        for worker in WORKERS:
            done = round(_load(end - timedelta(minutes=minute)) / len(WORKERS) * chance.gauss(1, 0.08))
            failed = _failures(minute, done)
            yield Throughput(
                at=end - timedelta(minutes=minute),
                worker=worker,
                done=max(done - failed, 0),
                failed=failed,
                retried=failed * 3 if minute in TROUBLE else round(done * 0.004),
                runtime=done * 0.12,
            )


def _load(moment: datetime) -> float:
    """Return the tasks of a minute: few at night, most in the afternoon."""
    hour = moment.hour + moment.minute / 60
    return 950 + 780 * math.sin((hour - 9) / 24 * 2 * math.pi) + 120 * math.sin(hour * 2.3)


def _failures(minute: int, done: int) -> int:
    share = 0.16 if minute in TROUBLE else 0.002
    return round(done * share * chance.uniform(0.3, 1.7))


def _depths(now: datetime) -> Iterator[QueueDepth]:
    end = now.replace(second=0, microsecond=0)
    usual = {"celery": 40, "mail": 90, "search": 160, "images": 15}
    for minute in range(DAY):
        since_trouble = TROUBLE.stop - minute
        jam = 5_200 * math.exp(-(((since_trouble - 45) / 32) ** 2)) if since_trouble > 0 else 0
        for queue, depth in usual.items():
            waiting = round(depth * chance.uniform(0.2, 1.8) * _load(end - timedelta(minutes=minute)) / 950)
            waiting += round(jam) if queue == "celery" else round(jam / 4) if queue == "mail" else 0
            yield QueueDepth(
                at=end - timedelta(minutes=minute), queue=queue, depth=waiting, oldest=0.4 + waiting * 0.11
            )


# -- what waits


def _messages(number: int, dead: int, now: datetime) -> Iterator[Message]:
    """Yield all but the few that wait: those of a day to come, and the dead."""
    scheduled = number - dead
    soon, days = timedelta(minutes=25), timedelta(days=2)
    for left in range(scheduled, 0, -1):
        yield _message(now - timedelta(hours=2), visible_at=now + soon + days * (left / scheduled))
    for at in range(dead):
        yield _dead(_message(now - timedelta(hours=5)), now - timedelta(minutes=7) * (dead - at) / 4)


def _waiting(now: datetime) -> Iterator[Message]:
    for left in range(WAITING, 0, -1):
        yield _message(now - timedelta(seconds=38) * (left / WAITING))


def _message(created_at: datetime, **fields: Any) -> Message:
    name, queue = _a_task()
    task_id = _task_id()
    args = [chance.randint(40_000, 50_000)]
    body = wire.to_json({"task": name, "id": task_id, "args": args, "kwargs": {}, "retries": 0, "utc": True}).encode()
    row: dict[str, Any] = {"task_id": task_id, "task": name, "queue": queue, "body": body, "created_at": created_at}
    return Message(**row | fields)


def _dead(row: Message, dead_at: datetime) -> Message:
    row.dead_at, row.crashes = dead_at, 3
    row.reason = (
        f"the process of {chance.choice(WORKERS)} that ran it was killed by SIGKILL, perhaps for its use of memory; "
        "this was the third time"
    )
    return row


def _workers(now: datetime) -> Iterator[Worker]:
    for number, name in enumerate(WORKERS):
        yield Worker(
            owner=f"{number:032x}",
            name=name,
            pid=2_204 + 31 * number,
            queues="celery,mail" if number % 2 else "celery,search,images",
            concurrency=8,
            lease=30,
            counter=8_640,
            started_at=now - timedelta(hours=22),
            seen_at=now - timedelta(seconds=3 + 2 * number if number < 3 else 94),
        )


def _periodic(now: datetime) -> Iterator[PeriodicTaskMeta]:
    since_midnight = now.hour * 60 + now.minute
    done = TaskMeta.objects.filter(status=states.DONE).order_by("-date_done").values_list("task_id", flat=True)
    for name, minutes, count in (
        ("celery.delete_expired_task_meta", since_midnight % 1440, 212),
        ("shop.clean_baskets", now.minute % 15, 20_352),
        ("shop.daily_report", (since_midnight - 360) % 1440, 152),
        ("shop.fetch_rates", now.minute % 5, 61_056),
    ):
        last_run_at = now.replace(second=0, microsecond=0) - timedelta(minutes=minutes)
        yield PeriodicTaskMeta(name=name, last_run_at=last_run_at, total_run_count=count, last_task_id=done[len(name)])
