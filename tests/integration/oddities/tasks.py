"""Tasks that do to a worker what no shop would. `Forgotten` is a task that no worker knows."""

import operator
import os
import signal
import time
from pathlib import Path
from typing import Any, NoReturn

from django.db import connection, transaction

from celery.current import running
from celery.exceptions import SoftTimeLimitExceeded
from celery.result import AsyncResult
from celery.task import Task, dmap_async, task
from tests.shop import ledger
from tests.shop.models import Order


class Forgotten(Task):
    """Nobody registers it: it was removed from the worker's code."""

    name = "oddities.forgotten"


class HostileError(Exception):
    """Its arguments, notes and text raise when they are looked at."""

    @property
    def args(self) -> NoReturn:  # type: ignore[override]
        raise ValueError("no arguments for you")

    def __str__(self) -> str:
        raise ValueError("no text for you")


@task(name="oddities.interrupt")
def interrupt() -> None:
    raise KeyboardInterrupt


@task(name="oddities.fail_with_hostility")
def fail_with_hostility() -> None:
    raise HostileError("hidden")


@task(name="oddities.enter_atomic")
def enter_atomic(number: str) -> None:
    """Enter a transaction by hand and return in the middle of it."""
    transaction.atomic().__enter__()
    Order.objects.create(number=number)


@task(name="oddities.create_order")
def create_order(number: str) -> bool:
    """Write an order, outside of any transaction."""
    Order.objects.create(number=number)
    return connection.in_atomic_block


@task(name="oddities.close_connection")
def close_connection() -> None:
    """Leave no connection behind, as careful tasks do."""
    Order.objects.count()
    connection.close()


@task(name="oddities.touch_database")
def touch_database(path: str, token: str) -> str:
    """Use the database, write to the ledger, and rest a little."""
    Order.objects.count()
    ledger.append(path, token)
    time.sleep(0.002)
    return token


@task(name="oddities.hold")
def hold(path: str, token: str, gate: str) -> str:
    """Write to the ledger, then wait until the file `gate` is there."""
    ledger.append(path, token)
    while not Path(gate).exists():
        time.sleep(0.01)
    return token


@task(name="oddities.hold_once", acks_late=False)
def hold_once(path: str, token: str, gate: str) -> str:
    """Do as `hold` does, at most once."""
    return hold.run(path, token, gate)


@task(name="oddities.record_once", acks_late=False)
def record_once(path: str, token: str, seconds: float) -> str:
    """Write to the ledger and take some time, at most once."""
    ledger.append(path, token)
    time.sleep(seconds)
    return token


@task(name="oddities.crash_until")
def crash_until(path: str, token: str, gate: str) -> str:
    """Write to the ledger, and die unless the file `gate` is there."""
    ledger.append(path, token)
    if not Path(gate).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return token


@task(name="oddities.wait_for_another")
def wait_for_another() -> Any:
    """Wait for a task inside a task, for one that cannot have ended already."""
    return AsyncResult("nobody-sent-it").get(timeout=1)


@task(name="oddities.map_from_within")
def map_from_within(number: int) -> str:
    """Send a map and do not wait for it; return its id."""
    return dmap_async(operator.neg, [[number], [number]]).task_id


@task(name="oddities.leave_alarm")
def leave_alarm(seconds: float) -> None:
    """Ask for an alarm, and return before it rings. By default it ends the process."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


RETRIES = 3


@task(name="oddities.record_attempt", retry_interval=1, max_retries=RETRIES)
def record_attempt(path: str, token: str, failures: int) -> None:
    """Write attempt and moment into the ledger; ask for another attempt until there were so many."""
    now = running.get()
    assert now is not None
    ledger.append(path, f"{token}/{now.attempt}/{time.monotonic():.4f}")
    if now.retries < failures:
        record_attempt.retry(exc=ConnectionError("the bank is away"))


@task(name="oddities.hold_briefly", time_limit=1)
def hold_briefly(path: str, token: str) -> None:
    """Write to the ledger, and never end by itself."""
    ledger.append(path, token)
    while True:
        time.sleep(60)


@task(name="oddities.hold_briefly_once", time_limit=1, acks_late=False)
def hold_briefly_once(path: str, token: str) -> None:
    """Do as `hold_briefly` does, at most once."""
    hold_briefly.run(path, token)


@task(name="oddities.tidy_up", soft_time_limit=0.3, time_limit=60)
def tidy_up(path: str, token: str) -> str:
    """Be interrupted by the soft limit, and end well."""
    try:
        ledger.append(path, token)
        time.sleep(60)
    except SoftTimeLimitExceeded:
        return "tidy"
    return "never interrupted"


@task(name="oddities.pid")
def pid() -> int:
    """Return the process that ran this."""
    return os.getpid()


_ballast: list[bytearray] = []


@task(name="oddities.eat")
def eat(mebibytes: int) -> int:
    """Keep memory for good; return the process that holds it."""
    _ballast.append(bytearray(b"x") * (mebibytes * 1024 * 1024))
    return os.getpid()


@task(name="oddities.rest_in_database", soft_time_limit=0.3)
def rest_in_database(catches: bool = False) -> str:
    """Be interrupted in the middle of a query."""
    rest = {"mysql": "SELECT SLEEP(3)", "postgresql": "SELECT pg_sleep(3)"}[connection.vendor]
    try:
        with connection.cursor() as cursor:
            cursor.execute(rest)
    except SoftTimeLimitExceeded:
        if not catches:
            raise
    return "never interrupted"


@task(name="oddities.leave_a_copy", time_limit=1)
def leave_a_copy(path: str, token: str) -> None:
    """Fork a copy that leaves by an exception, as `sys.exit()` is one; then never end."""
    ledger.append(path, token)
    if not os.fork():
        raise SystemExit(0)
    while True:
        time.sleep(60)
