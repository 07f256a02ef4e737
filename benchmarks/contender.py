"""A contender: a small Django project in `contenders`, run by its own interpreter on its own database and queue."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.places import Database, Queue
from benchmarks.usage import tree
from tests.interop.environment import ROOT, clean_environment

PROJECTS = Path(__file__).parent / "contenders"
CHILDREN = 4
SECONDS_TO_STOP = 60.0


class Broken(Exception):
    """A contender did not do what it must do; there is no figure then."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """What is measured: how its worker is started, and where it stores results."""

    folder: str
    worker: tuple[str, ...]
    fills_queue_by: str
    results: str
    done: str
    sees_root: bool


OURS = Product(
    folder="ours",
    worker=("-m", "django", "celeryd", "-c", str(CHILDREN), "-l", "WARNING"),
    fills_queue_by="enqueue_many",
    results="celery_taskmeta",
    done="DONE",
    sees_root=True,
)
CELERY = Product(
    folder="celery57",
    worker=(
        *("-m", "celery", "-A", "application", "worker", "-c", str(CHILDREN), "-l", "WARNING"),
        *("--without-gossip", "--without-mingle"),
    ),
    fills_queue_by="enqueue_one_by_one",
    results="django_celery_results_taskresult",
    done="SUCCESS",
    sees_root=False,
)


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One product on one broker and one database."""

    label: str
    product: Product
    python: Path
    queue: Queue
    database: Database
    log: Path
    servers: tuple[int, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def prepare(self) -> None:
        """Make the tables."""
        self._run("-m", "django", "migrate", "-v0")

    def drive(self, action: str, count: int = 0) -> dict[str, Any]:
        """Let its producer do `action`, a function of its drive.py, and return what it measured."""
        found: dict[str, Any] = json.loads(self._run("drive.py", action, str(count)))
        return found

    @contextmanager
    def worker(self) -> Iterator["Worker"]:
        """Run its worker."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [self.python, *self.product.worker],
                cwd=self._folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        worker = Worker(self, process)
        try:
            yield worker
            worker.stop()
        finally:
            worker.kill()

    def clear(self) -> None:
        """Forget messages and results."""
        self.queue.clear()
        self.database.clear(self.product.results)

    def stored(self) -> int:
        """How many results are stored."""
        return int(self.database.rows(f"SELECT count(*) FROM {self.product.results}")[0][0])

    def check(self, expected: int) -> None:
        """Raise Broken unless each of the tasks has one good result, and nothing is left in the queue."""
        statement = f"SELECT count(DISTINCT task_id) FROM {self.product.results} WHERE status = '{self.product.done}'"
        done, depth = self.database.rows(statement)[0][0], self.queue.depth()
        if (done, self.stored(), depth) != (expected, expected, 0):
            raise Broken(f"{self.label}: {done} of {expected} done, {self.stored()} results, {depth} messages left")

    def wait_for(self, count: Callable[[], int], expected: int, pause: float = 0.02) -> Iterator[tuple[float, int]]:
        """Yield (moment, count) until `count` reaches `expected`; Broken when it stands still for a minute."""
        moved_at, before = time.perf_counter(), -1
        while before < expected:
            found = count()
            now = time.perf_counter()
            yield now, found
            if found != before:
                moved_at, before = now, found
            elif now - moved_at > SECONDS_TO_STOP:
                raise Broken(f"{self.label}: {found} of {expected}, and no more comes. {self.last_words()}")
            time.sleep(pause if found < expected else 0)

    def last_words(self) -> str:
        """The end of what its workers wrote."""
        return "Its log: " + self.log.read_text(errors="replace")[-2000:] if self.log.exists() else "It wrote no log."

    @property
    def _folder(self) -> Path:
        return PROJECTS / self.product.folder

    def _environment(self) -> dict[str, str]:
        path = {"PYTHONPATH": str(ROOT)} if self.product.sees_root else {}
        return clean_environment(
            DJANGO_SETTINGS_MODULE="settings",
            BENCH_DATABASE=json.dumps(self.database.settings),
            BENCH_BROKER=self.queue.broker,
            BENCH_QUEUE=self.queue.name,
            **path,
            **self.variables,
        )

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [self.python, *arguments],
            cwd=self._folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Broken(f"{self.label}: {' '.join(arguments)} failed: {done.stdout}{done.stderr}")
        return done.stdout


class Worker:
    """A running worker."""

    def __init__(self, contender: Contender, process: subprocess.Popen[bytes]) -> None:
        self._contender = contender
        self._process = process

    def pids(self) -> list[int]:
        """All of its processes; Broken when it ended."""
        if self._process.poll() is not None:
            raise Broken(f"{self._contender.label}: the worker ended. {self._contender.last_words()}")
        return tree(self._process.pid)

    def stop(self) -> None:
        """Let it drain; Broken if it does not end in order."""
        self._process.terminate()
        try:
            code = self._process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            raise Broken(f"{self._contender.label}: the worker does not stop. {self._contender.last_words()}") from None
        if code:
            raise Broken(f"{self._contender.label}: exit code {code}. {self._contender.last_words()}")

    def kill(self) -> None:
        """End all that is left of it. Harmless when it has ended."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def our_python() -> Path:
    """The interpreter of our side: the one that runs this."""
    return Path(sys.executable)
