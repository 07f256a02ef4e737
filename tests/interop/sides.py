"""Both sides as processes: each can send the calls of `theirs.calls` and run a worker on the default queue."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import kombu
from amqp.exceptions import NotFound

from tests.interop.environment import ROOT, clean_environment
from tests.shop.daemon import Daemon

QUEUE = EXCHANGE = "celery"
SECONDS_TO_STOP = 20.0


class Sent(NamedTuple):
    """A call that was sent: when (seconds since 1970, before sending), and the id it got."""

    at: float
    task_id: str


@dataclass(frozen=True, kw_only=True)
class Ours:
    """The `celery` of this repository."""

    broker: str
    database: str
    folder: Path

    def send(self, *tokens: str) -> dict[str, Sent]:
        """Send the calls; raises CalledProcessError."""
        return _sent(_run([sys.executable, "-m", "tests.interop.ours.send", *tokens], self.environment, ROOT))

    def worker(self, queue: str = QUEUE) -> Daemon:
        """Return a worker: a context manager, started by entering it."""
        return Daemon(self.folder, environment=self.environment, children=2, queue=queue)

    def migrate(self) -> None:
        """Make the tables."""
        _run([sys.executable, "-m", "django", "migrate", "-v0"], self.environment, ROOT)

    @property
    def environment(self) -> dict[str, str]:
        return clean_environment(
            DJANGO_SETTINGS_MODULE="tests.interop.ours.settings",
            INTEROP_BROKER=self.broker,
            INTEROP_DATABASE=self.database,
            INTEROP_LEDGER=str(self.folder / "ledger"),
        )


@dataclass(frozen=True, kw_only=True)
class Theirs:
    """PyPI's Celery, which publishes by `protocol`."""

    python: Path
    broker: str
    folder: Path
    protocol: int = 2

    def send(self, *tokens: str) -> dict[str, Sent]:
        """Send the calls; raises CalledProcessError."""
        return _sent(_run([str(self.python), "send.py", *tokens], self.environment, self.project))

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Run a worker with two children."""
        command = [str(self.python), "-m", "celery", "-A", "application", "worker", "-c2", "-lWARNING"]
        with (self.folder / "theirs.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=self.environment, cwd=self.project, stdout=log, stderr=log, process_group=0
            )
        try:
            yield
            process.terminate()
            process.wait(SECONDS_TO_STOP)
        finally:
            _end_group(process)

    @property
    def project(self) -> Path:
        return Path(__file__).parent / "theirs"

    @property
    def environment(self) -> dict[str, str]:
        return clean_environment(
            INTEROP_BROKER=self.broker,
            INTEROP_LEDGER=str(self.folder / "ledger"),
            INTEROP_PROTOCOL=str(self.protocol),
        )


def executions(folder: Path) -> list[dict[str, Any]]:
    """Return what was executed by whichever worker, in the order of writing."""
    ledger = folder / "ledger"
    return [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []


def depth(broker: str) -> int:
    """Return how many messages wait in the default queue."""
    with kombu.Connection(broker) as connection:
        try:
            return int(connection.channel().queue_declare(QUEUE, passive=True).message_count)
        except NotFound:
            return 0


def forget_queue(broker: str) -> None:
    """Delete queue and exchange, so that whoever comes first declares them."""
    with kombu.Connection(broker) as connection:
        connection.channel().queue_delete(QUEUE)
        connection.channel().exchange_delete(EXCHANGE)


def _run(command: Sequence[str], environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed: {done.stdout}{done.stderr}")
    return done.stdout


def _sent(output: str) -> dict[str, Sent]:
    return {token: Sent(*fields) for token, fields in json.loads(output).items()}


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
