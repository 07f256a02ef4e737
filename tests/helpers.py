"""Small helpers that any test may use."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

FIRST_PAUSE = 0.001
LONGEST_PAUSE = 0.1

Value = TypeVar("Value")


def eventually(predicate: Callable[[], Value], within: float = 5.0) -> Value:
    """Return the first true value of `predicate`; fail when there is none `within` so many seconds.

    A failed assert in the predicate means "not yet", and the last one explains why we gave up.
    """
    deadline = time.monotonic() + within
    pause = FIRST_PAUSE
    while True:
        was_last_try = time.monotonic() >= deadline
        value, reason = _ask(predicate)
        if value:
            return value
        if was_last_try:
            name = getattr(predicate, "__qualname__", repr(predicate))
            raise AssertionError(f"{name} was still {value!r} after {within:g} s") from reason
        time.sleep(min(pause, max(deadline - time.monotonic(), 0)))
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _ask(predicate: Callable[[], Value]) -> tuple[Value | None, AssertionError | None]:
    try:
        return predicate(), None
    except AssertionError as reason:
        return None, reason


def close_connections() -> None:
    """Close what this thread has opened, also to databases in memory, which Django leaves open."""
    for connection in connections.all(initialized_only=True):
        BaseDatabaseWrapper.close(connection)


class OneDatabase:
    """A router that sends every model to one database."""

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def db_for_read(self, model: object, **_: Any) -> str:
        return self._alias

    def db_for_write(self, model: object, **_: Any) -> str:
        return self._alias
