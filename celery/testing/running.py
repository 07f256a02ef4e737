"""Running tasks in tests: inline, by a worker that runs when it is told to, or by one in a thread."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, overload

from django.test import override_settings

from celery import broker, conf
from celery.calling import moment
from celery.exceptions import WouldWaitForever
from celery.testing.background import BackgroundWorker
from celery.testing.bench import Bench, Run

#: Later than any message waits for, and a year that every database has.
END_OF_TIME: Final = datetime(9000, 1, 1, tzinfo=UTC)
MOST_RUNS: Final = 10_000


def run_inline() -> override_settings:
    """Have every task run at once, where it is sent: a context manager, and a decorator of functions and test cases.

    >>> from celery.testing import run_inline
    >>> with run_inline():
    ...     pass
    """
    return override_settings(CELERY_ALWAYS_EAGER=True)


class Worker:
    """Runs what waits in the database queue when it is told to, in the test's thread and inside its transaction."""

    def __init__(self, alias: str, queues: Sequence[str] | None) -> None:
        self._alias = alias
        self._queues = queues

    def run(self, now: datetime | timedelta | float = 0, *, limit: int = MOST_RUNS) -> list[Run]:
        """Run all that is ready, and all that waits for a moment not later than `now`; return what ran, in its order.

        `now` is a moment, or a time from the real present, in seconds or as a timedelta. What these tasks send, and
        their retries, run too where they are due by then. The tasks' own clock stays what it is: `expires` is compared
        with the real time. What a task raises is its result. Raises NotRegistered for a message whose task is unknown,
        and WouldWaitForever after `limit` runs.
        """
        return self._run_until(_moment(now), limit)

    def run_scheduled(self, *, limit: int = MOST_RUNS) -> list[Run]:
        """Run all that waits, for whatever moment, in the order of the moments, until nothing is left."""
        return self._run_until(END_OF_TIME, limit)

    def _run_until(self, until: datetime, limit: int) -> list[Run]:
        runs: list[Run] = []
        with Bench(self._alias, self._queues) as bench:
            while run := bench.step(until):
                runs.append(run)
                if len(runs) >= limit and bench.waiting():
                    raise WouldWaitForever(
                        f"{limit} tasks ran, the last was {run.task}, and more are ready. Does a task send itself? "
                        "If there are so many, say run(limit=...)."
                    )
        return runs


def _moment(now: datetime | timedelta | float) -> datetime:
    found = moment("now", now.total_seconds() if isinstance(now, timedelta) else now)
    return found or datetime.now(UTC)


@overload
def worker(
    *, queues: Sequence[str] | None = None, background: Literal[False] = False
) -> AbstractContextManager[Worker]: ...


@overload
def worker(
    *, queues: Sequence[str] | None = None, background: Literal[True]
) -> AbstractContextManager[BackgroundWorker]: ...


def worker(
    *, queues: Sequence[str] | None = None, background: bool = False
) -> AbstractContextManager[Worker | BackgroundWorker]:
    """Have tasks wait in the test's database for a worker in this process, which serves `queues`, or all.

    What is sent inside goes to the database queue, whatever CELERY_BROKER_URL and CELERY_ALWAYS_EAGER say: no server is
    touched. The worker runs when `run` is called. With `background` it is a thread with connections of its own, which
    runs what has been committed while the test goes on, and has ended after the block; a test inside a transaction
    cannot have that one.
    """
    return _background(queues) if background else _manual(queues)


@contextmanager
def _manual(queues: Sequence[str] | None) -> Iterator[Worker]:
    with _database_queue():
        yield Worker(broker.configured().alias, queues)


@contextmanager
def _background(queues: Sequence[str] | None) -> Iterator[BackgroundWorker]:
    with _database_queue(), BackgroundWorker(broker.configured().alias, queues) as made:
        yield made


def _database_queue() -> override_settings:
    url = str(conf.BROKER_URL)
    is_one = url.startswith("django://")
    return override_settings(CELERY_BROKER_URL=url if is_one else "django://", CELERY_ALWAYS_EAGER=False)
