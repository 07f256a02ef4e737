"""Tasks that behave, and tasks that do not: what an integration test needs to see a worker's every answer."""

import os
import signal as signals
import sys
import time
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from celery.current import running
from celery.task import Task, task, tasks
from tests.shop import ledger
from tests.shop.analysis import analyse
from tests.shop.models import Order

__all__ = ["analyse"]

MEGABYTE = 1024 * 1024

hoard: list[bytes] = []


class OddError(Exception):
    """Its __init__ takes other arguments than `args` shows: the usual trap for whoever rebuilds exceptions."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code
        self.reason = reason


# Work


@task(name="shop.add")
def add(x: int, y: int) -> int:
    return x + y


@task
def echo(value: object) -> object:
    """Return what came in. Its name is the default one: module and function."""
    return value


@task(name="shop.pay")
def pay(order_id: int) -> Decimal:
    """Pay an order and return its amount, 0 if it was paid before; Order.DoesNotExist if there is none."""
    amount: Decimal = Order.objects.get(pk=order_id).amount
    changed = Order.objects.filter(pk=order_id, is_paid=False).update(is_paid=True, paid_at=timezone.now())
    return amount if changed else Decimal(0)


class Multiply(Task):
    """The class-based form."""

    name = "shop.multiply"

    def run(self, x: int, y: int) -> int:
        return x * y


tasks.register(Multiply)


# Executions that can be counted


@task(name="shop.record")
def record(path: str, token: str) -> str:
    """Write a line to the ledger at `path`."""
    ledger.append(path, token)
    return token


@task(name="shop.record_quietly", ignore_result=True)
def record_quietly(path: str, token: str) -> None:
    """Write a line to the ledger; nobody wants the result."""
    ledger.append(path, token)


@task(name="shop.record_and_sleep")
def record_and_sleep(path: str, token: str, seconds: float) -> str:
    ledger.append(path, token)
    time.sleep(seconds)
    return token


@task(name="shop.record_then_crash")
def record_then_crash(path: str, token: str) -> None:
    """Write a line to the ledger, then die by SIGKILL, each time."""
    ledger.append(path, token)
    os.kill(os.getpid(), signals.SIGKILL)


@task(name="shop.record_then_crash_once")
def record_then_crash_once(path: str, token: str) -> str:
    """Write a line to the ledger; die by SIGKILL if it was the first with this token."""
    ledger.append(path, token)
    if ledger.executions(path)[token] == 1:
        os.kill(os.getpid(), signals.SIGKILL)
    return token


@task(name="shop.record_and_retry", retry_interval=0.01, max_retries=10)
def record_and_retry(path: str, token: str, failures: int, countdown: float | None = None) -> int:
    """Write a line to the ledger; ask for another attempt until there were so many, then return which one this is."""
    ledger.append(path, token)
    now = running.get()
    assert now is not None
    if now.retries < failures:
        record_and_retry.retry(exc=ConnectionError("the bank is away"), countdown=countdown)
    return now.attempt


@task(name="shop.record_and_fail_twice", auto_retry=(ConnectionError,), retry_interval=0.01, max_retries=1)
def record_and_fail(path: str, token: str) -> None:
    """Write a line to the ledger and fail; the worker tries it once more."""
    ledger.append(path, token)
    raise ConnectionError("the bank is away for good")


# Processes under strain


@task(name="shop.sleep")
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@task(name="shop.exit")
def exit(code: int) -> None:  # noqa: A001 - the task is named after what it does
    """Leave the process at once, without any clean-up."""
    os._exit(code)


@task(name="shop.sys_exit")
def sys_exit(code: int) -> None:
    """Raise SystemExit, which is no Exception."""
    sys.exit(code)


@task(name="shop.kill")
def kill(signal: int) -> None:
    """Send a signal to the own process."""
    os.kill(os.getpid(), signal)


@task(name="shop.use_memory")
def use_memory(megabytes: int) -> int:
    """Take real memory and never give it back; return how many megabytes this process has taken so far."""
    hoard.append(b"x" * (megabytes * MEGABYTE))
    return sum(map(len, hoard)) // MEGABYTE


@task(name="shop.process_id")
def process_id() -> int:
    return os.getpid()


# Failures


@task(name="shop.fail")
def fail(message: str) -> None:
    raise ValueError(message)


@task(name="shop.fail_oddly")
def fail_oddly(code: int, reason: str) -> None:
    raise OddError(code, reason=reason)


@task(name="shop.fail_with_an_object")
def fail_with_an_object() -> None:
    """Raise an exception whose argument no JSON can carry."""
    raise ValueError(object())


@task(name="shop.fail_with_a_cause")
def fail_with_a_cause(message: str) -> None:
    try:
        _look_up(message)
    except KeyError as exc:
        raise ValueError(message) from exc


def _look_up(name: str) -> None:
    raise KeyError(name)


@task(name="shop.return_set")
def return_set() -> set[int]:
    """Return what JSON cannot carry."""
    return {1, 2}


@task(name="shop.return_object")
def return_object() -> object:
    """Return what nothing can carry."""
    return object()


@task(name="shop.leave_transaction_open")
def leave_transaction_open(number: str) -> int:
    """Write an order and return in the middle of the transaction: the order must never be seen."""
    transaction.set_autocommit(False)
    return Order.objects.create(number=number).pk
