"""A chore: something that the steward does again and again, each with a back-off of its own."""

import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

from django.db import DataError, IntegrityError
from django.db import Error as DatabaseTrouble

from celery.exceptions import CeleryError
from celery.worker.connections import drop_connections

Value = TypeVar("Value")

logger = logging.getLogger("celery.worker")

#: What concerns one row and not the world: too deep a nesting, too. InternalError is not here: a read-only server
#: raises it.
ROW_ERRORS: Final = (DataError, IntegrityError, ValueError, TypeError, ArithmeticError, RecursionError)
#: The world is down: wait, try again. Everything else is our own mistake, and ends the process.
TROUBLE: Final = (DatabaseTrouble, OSError, CeleryError)
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0


def one_line(error: BaseException) -> str:
    """Return the text of an error without line breaks; those of PostgreSQL have some."""
    return " ".join(str(error).split())


def patiently(act: Callable[[], Value], what: str) -> Value:
    """Return what `act` returns, however long the world takes to let it: log once, and once more when it is over.

    ROW_ERRORS, and whatever is no TROUBLE, are raised.
    """
    pause, failed_at = FIRST_PAUSE, 0.0
    while True:
        try:
            value = act()
        except ROW_ERRORS:
            raise
        except TROUBLE as error:
            if not failed_at:
                failed_at = time.monotonic()
                logger.error("%s: not possible now, trying until it is: %s", what, one_line(error))  # noqa: TRY400
            drop_connections()
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        else:
            if failed_at:
                logger.warning("%s: possible again, after %.1f s.", what, time.monotonic() - failed_at)
            return value


class Chore:
    """`act` returns the seconds until its next time. Trouble is logged once, and once more when it is over."""

    def __init__(self, name: str, act: Callable[[], float]) -> None:
        self.name = name
        self.at = 0.0
        self._act = act
        self._pause = 0.0
        self._failed_at = 0.0

    def run_if_due(self) -> None:
        """Act if it is time to."""
        if time.monotonic() < self.at:
            return
        try:
            wait = self._act()
        except TROUBLE as error:
            wait = self._note_failure(error)
        else:
            self._note_success()
        self.at = time.monotonic() + wait

    def _note_failure(self, error: Exception) -> float:
        if not self._failed_at:
            self._failed_at = time.monotonic()
            logger.error("%s: not possible now, trying until it is: %s", self.name, one_line(error))
        drop_connections()
        self._pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
        return self._pause

    def _note_success(self) -> None:
        if self._failed_at:
            logger.warning("%s: possible again, after %.1f s.", self.name, time.monotonic() - self._failed_at)
        self._pause = self._failed_at = 0.0
