"""The worker of a test in a thread, with database connections of its own."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import Any, Final, Self

from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from celery.broker import store
from celery.exceptions import CeleryError, TimeoutError  # noqa: A004 - the classic name
from celery.testing.bench import Bench

logger = logging.getLogger("celery.testing")

#: Seconds between looks into an empty queue: from the first, doubling, to the longest.
FIRST_PAUSE: Final = 0.002
LONGEST_PAUSE: Final = 0.05
#: Seconds for which one connection waits for another one in a shared cache, and between two tries.
LOCK_TIMEOUT: Final = 20.0
LOCK_PAUSE: Final = 0.001
#: Seconds that the running task gets at the end of the block.
STOP_TIMEOUT: Final = 10.0


class BackgroundWorker:
    """A thread that runs what waits in the database `alias`, from the beginning to the end of the block.

    What ends the thread before its time is logged, and raised at the end of the block or by `wait`.
    """

    def __init__(self, alias: str, queues: Sequence[str] | None) -> None:
        self._alias = alias
        self._queues = queues
        self._thread = threading.Thread(target=self._run, name="celery.testing.worker", daemon=True)
        self._is_ready = threading.Event()
        self._stopping = threading.Event()
        self._is_busy = False
        self._error: BaseException | None = None
        self._patience = ExitStack()

    def __enter__(self) -> Self:
        """Return when the thread is ready."""
        if store.is_in_transaction(self._alias):
            raise CeleryError(
                "worker(background=True) has a connection of its own, which never sees what this test writes: "
                f"a transaction is open on DATABASES[{self._alias!r}]. Use TransactionTestCase, or in pytest "
                "django_db(transaction=True); or worker() and its run()."
            )
        self._patience = _patience()
        self._thread.start()
        self._is_ready.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        """Let the running task end, then the thread. What waits stays where it is."""
        self._stopping.set()
        self._thread.join(STOP_TIMEOUT)
        self._patience.close()
        if self._error and self._error is not error:
            raise self._error from error
        if self._thread.is_alive() and not error:
            raise CeleryError(f"a task still runs {STOP_TIMEOUT:.0f} seconds after the end of its test. Does it wait?")

    def wait(self, timeout: float = 5.0) -> None:
        """Wait until no message is ready or in hand, retries and delayed ones that are not due left aside.

        Raises celery.timer.TimeoutError after `timeout` seconds, and what has ended the thread.
        """
        deadline = time.monotonic() + timeout
        bench = Bench(self._alias, self._queues)
        while not self._is_idle(bench):
            if self._error:
                raise self._error
            if time.monotonic() >= deadline:
                busy = "a task runs" if self._is_busy else "no task runs"
                raise TimeoutError(f"{bench.waiting()} messages are not done after {timeout} seconds, and {busy}")
            time.sleep(FIRST_PAUSE)

    def _is_idle(self, bench: Bench) -> bool:
        """Tell whether nothing is left: before and after a moment in which the thread held nothing."""
        return not bench.waiting() and not self._is_busy and not bench.waiting()

    # -- the thread

    def _run(self) -> None:
        try:
            with _patience(), Bench(self._alias, self._queues) as bench:
                self._is_ready.set()
                self._serve(bench)
        except BaseException as error:
            logger.exception("The worker of this test has ended.")
            self._error = error
        finally:
            self._is_ready.set()
            _close_connections()

    def _serve(self, bench: Bench) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            self._is_busy = True
            ran = bench.step(datetime.now(UTC))
            self._is_busy = False
            pause = FIRST_PAUSE if ran else min(pause * 2, LONGEST_PAUSE)
            if not ran:
                self._stopping.wait(pause)


def _patience() -> ExitStack:
    """Make this thread's connections to databases in memory wait for those of other threads."""
    stack = ExitStack()
    for alias in connections:
        connection: Any = connections[alias]
        if connection.vendor == "sqlite" and connection.is_in_memory_db():
            stack.enter_context(connection.execute_wrapper(_patiently))
    return stack


def _patiently(
    execute: Callable[..., Any],
    statement: str,
    parameters: Any,
    many: bool,  # noqa: FBT001 - that is its signature
    context: dict[str, Any],
) -> Any:
    """Execute a statement once nothing it needs is locked. The timeout of SQLite means nothing in a shared cache."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            return execute(statement, parameters, many, context)
        except OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= deadline:
                raise
        time.sleep(LOCK_PAUSE)


def _close_connections() -> None:
    """Close what this thread has opened, really: Django leaves databases in memory open, and their locks too."""
    connection: Any
    for connection in connections.all(initialized_only=True):
        with suppress(Exception):
            BaseDatabaseWrapper.close(connection)
