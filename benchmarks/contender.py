"""A contender: a small project in `contenders`, run by its own interpreter on its own database and queue.

Its `drive.py ACTION JSON` does what is asked for and prints one JSON object. The JSON has `task`, `count`, `argument`
(null: each call gets its own number), `size` (if not 0, the argument is a text of so many bytes, which compresses
badly) and what else the action needs. The actions are:

    fill                `count` calls into the queue, as fast as this product can; not measured
    enqueue_one_by_one  seconds, measured, cpu: calls of one producer, without the first
    enqueue_many        the same by the product's call for many, and rss_growth_mb
    round_trip          times: from the call to the value, as the product waits by default
    round_trip_polling  times: the same, made to look often
    delay_until         seconds: `count` calls that are due at the epoch second `at`
    facts               versions, and how durable the database or broker is, asked through its own connection

Its tasks are noop(n), which returns n; mark(n), which appends 15 digits and the end of the line to the file BENCH_MARKS
and stores no result; pause(ms); size(text), which returns the length; late(at), which appends as a mark of the same
length how many seconds it is late.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.looking import Look, looks
from benchmarks.places import Database, Ground, Marks, Queue, Results
from benchmarks.usage import tree
from tests.interop.environment import ROOT, clean_environment

PROJECTS = Path(__file__).parent / "contenders"
CHILDREN = 4
SECONDS_TO_STOP = 60.0
OUR_END_IS_ITS_END = ("setpriv", "--pdeathsig", "TERM", "--")  # also kill -9
SECONDS_TO_DRIVE = 300.0


class Broken(Exception):
    """A contender did not do what it must do; there is no figure then."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """What is measured: a folder of `contenders`, how its worker is started, and where it keeps things."""

    label: str
    folder: str
    #: Arguments of the interpreter that run its worker with so many children.
    worker: Callable[[int], Sequence[str]]
    #: Where its messages wait and its results are stored.
    places: Callable[[Ground], tuple[Queue, Results]]
    #: What pip installs into its environment; nothing: it runs in our own.
    requirements: tuple[str, ...] = ()
    #: True: a worker is one process, so as many are started as there are to be children.
    one_each: bool = False
    #: Its project sees the root of the repository, where `celery` is ours.
    sees_root: bool = False
    #: Its database is a file.
    in_file: bool = False
    #: The servers that it needs, as tests.servers calls them.
    servers: tuple[str, ...] = ("postgresql", "rabbitmq")
    variables: Mapping[str, str] = field(default_factory=dict)
    #: What is not measured of it, and why: an action, a scenario, "results" (it stores none) or "ignored" (it always
    #: does).
    lacks: Mapping[str, str] = field(default_factory=dict)
    #: Tasks of a full drain, some seconds of its work: with results stored, and ignored.
    drain: int = 5_000
    drain_ignored: int = 10_000
    #: What it may exit with after SIGTERM.
    exit_codes: tuple[int, ...] = (0,)
    #: Arguments of the interpreter that make its tables; none: it needs no tables.
    prepare: tuple[str, ...] = ("-m", "django", "migrate", "-v0")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One product on one broker and one database."""

    label: str
    product: Product
    python: Path
    queue: Queue
    results: Results
    database: Database
    log: Path
    marks: Marks
    servers: tuple[int, ...] = ()
    children: int = CHILDREN
    variables: Mapping[str, str] = field(default_factory=dict)

    def prepare(self) -> None:
        """Make the tables."""
        if self.product.prepare:
            self._run(self.product.prepare)

    def can(self, *wanted: str) -> bool:
        """False for what is beyond the product, or is measured of another form of it."""
        return not set(wanted) & set(self.product.lacks)

    def drive(self, action: str, *, task: str = "noop", count: int = 0, **more: Any) -> dict[str, Any]:
        """Let its producer do `action`, see the top of this module, and return what it says."""
        order = {"task": task, "count": count, "argument": None, "size": 0} | more
        return found_in(self._run(("drive.py", action, json.dumps(order))))

    def produce(self, **order: Any) -> dict[str, Any]:
        """Let its `produce.py` do what is ordered, if it has one, and return what it says."""
        return found_in(self._run(("produce.py", json.dumps(order))))

    @contextmanager
    def worker(self) -> Iterator["Worker"]:
        """Run its worker."""
        arguments = self.product.worker(1 if self.product.one_each else self.children)
        number = self.children if self.product.one_each else 1
        with self.log.open("wb") as log:
            worker = Worker(self, [self._start([*arguments], log) for _ in range(number)])
        try:
            yield worker
            worker.stop()
        finally:
            worker.kill()

    def clear(self) -> None:
        """Forget messages, results and marks."""
        self.queue.clear()
        self.results.clear()
        self.marks.clear()

    def check(self, expected: int) -> None:
        """Raise Broken unless each of the tasks has one good result, and nothing is left in the queue."""
        good, stored, depth = self.results.good(), self.results.stored(), self.queue.depth()
        if (good, stored, depth) != (expected, expected, 0):
            raise Broken(f"{self.label}: {good} of {expected} done, {stored} results, {depth} messages left")

    def check_marks(self, expected: int, *, each_its_own: bool) -> None:
        """Raise Broken unless each of the tasks left one mark, and nothing is left in the queue."""
        lines, depth = self.marks.lines(), self.queue.depth()
        different = len(set(lines)) if each_its_own else expected
        if (different, len(lines), depth) != (expected, expected, 0):
            raise Broken(
                f"{self.label}: {len(lines)} marks of {expected}, {different} different, {depth} messages left"
            )

    def look(self, count: Callable[[], int], expected: int) -> Iterator[Look]:
        """Look until `count` reaches `expected`; Broken when it stands still for a minute."""
        try:
            yield from looks(count, expected, SECONDS_TO_STOP)
        except TimeoutError as standing:
            raise Broken(f"{self.label}: {standing}. {self.last_words()}") from None

    def wait(self, count: Callable[[], int], expected: int) -> None:
        """Return when `count` has reached `expected`."""
        for _ in self.look(count, expected):
            pass

    def last_words(self) -> str:
        """The end of what its workers wrote."""
        return "Its log: " + self.log.read_text(errors="replace")[-2000:] if self.log.exists() else "It wrote no log."

    def environment(self) -> dict[str, str]:
        """What its processes find in their environment."""
        path = {"PYTHONPATH": str(ROOT)} if self.product.sees_root else {}
        return clean_environment(
            DJANGO_SETTINGS_MODULE="settings",
            BENCH_DATABASE=json.dumps(self.database.settings),
            BENCH_BROKER=self.queue.broker,
            BENCH_QUEUE=self.queue.name,
            BENCH_RESULTS=self.results.url,
            BENCH_MARKS=str(self.marks.path),
            **path,
            **self.product.variables,
            **self.variables,
        )

    @property
    def _folder(self) -> Path:
        return PROJECTS / self.product.folder

    def _start(self, arguments: list[str], log: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*OUR_END_IS_ITS_END, self.python, *arguments],
            cwd=self._folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
        )

    def _run(self, arguments: Sequence[str]) -> str:
        return output_of(self.label, [str(self.python), *arguments], self._folder, self.environment())


class Worker:
    """A running worker."""

    def __init__(self, contender: Contender, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        self._contender = contender
        self._processes = processes

    def pids(self) -> list[int]:
        """All of its processes; Broken when it ended."""
        if any(process.poll() is not None for process in self._processes):
            raise Broken(f"{self._contender.label}: the worker ended. {self._contender.last_words()}")
        return [pid for process in self._processes for pid in tree(process.pid)]

    def stop(self) -> None:
        """Let it drain; Broken if it does not end in order."""
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + SECONDS_TO_STOP
        try:
            codes = [process.wait(max(deadline - time.monotonic(), 0)) for process in self._processes]
        except subprocess.TimeoutExpired:
            raise Broken(f"{self._contender.label}: the worker does not stop. {self._contender.last_words()}") from None
        if wrong := set(codes) - set(self._contender.product.exit_codes):
            raise Broken(f"{self._contender.label}: exit code {wrong}. {self._contender.last_words()}")

    def kill(self) -> None:
        """End all that is left of it. Harmless when it has ended."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def output_of(label: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Run a program in `folder` and return what it prints; Broken, in the name of `label`, if it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_TO_DRIVE,
        )
    except subprocess.TimeoutExpired:
        raise Broken(f"{label}: {list(command[1:3])} took more than {SECONDS_TO_DRIVE:.0f} s") from None
    if done.returncode:
        raise Broken(f"{label}: {' '.join(command[1:])[:200]} failed: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def found_in(output: str) -> dict[str, Any]:
    """The one JSON object that a producer or a raw program prints."""
    found: dict[str, Any] = json.loads(output)
    return found


def our_python() -> Path:
    """The interpreter of our side: the one that runs this."""
    return Path(sys.executable)
