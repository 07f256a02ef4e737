"""Several producers at once, each calling `delay` one by one: what all of them together send a second.

PostgreSQL lets transactions that notify commit one after the other. So ours notify only where a worker says that it
waits for that queue: one of another queue, which waits all the time, makes no difference. Beside it stand raw INSERTs,
with and without a NOTIFY each.
"""

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import labels
from benchmarks.contender import PROJECTS, Broken, Contender, our_python
from benchmarks.figure import Figure
from benchmarks.plan import Contenders, Sizes, Step
from benchmarks.scenarios.limits import POSTGRESQL, connection_of
from benchmarks.usage import Reading
from tests.interop.environment import ROOT, clean_environment

NAME = labels.PRODUCERS
NUMBERS = (1, 2, 4, 8)
SECONDS = 1.0
ELSEWHERE = "bench_elsewhere"


@dataclass(frozen=True, kw_only=True)
class Crew:
    """Programs that all do the same: each says when it is ready, hears for how many seconds, and tells its count."""

    label: str
    command: Sequence[str]
    folder: Path
    environment: dict[str, str]
    contender: Contender
    #: A worker of another queue waits meanwhile.
    watched: bool = False


def steps(they: Contenders, sizes: Sizes) -> list[Step]:
    """All crews with one producer, then all with two, and so on."""
    seconds = SECONDS * sizes.part
    return [partial(together, crew, number, seconds) for number in NUMBERS for crew in crews(they)]


def crews(they: Contenders) -> list[Crew]:
    """Ours without and with a worker that waits, the raw INSERT without and with NOTIFY, and RabbitMQ."""
    ours = they.ours_postgresql
    return [
        _ours(ours, ours.label),
        _ours(ours, f"{ours.label}, a worker waits", watched=True),
        _raw(ours, f"{POSTGRESQL}, INSERT", notify=False),
        _raw(ours, f"{POSTGRESQL}, INSERT and NOTIFY", notify=True),
        _ours(they.ours, they.ours.label),
    ]


def _ours(contender: Contender, label: str, *, watched: bool = False) -> Crew:
    elsewhere = {"BENCH_QUEUE": ELSEWHERE} if watched else {}
    return Crew(
        label=label,
        command=("produce.py", json.dumps({"action": "one_by_one"})),
        folder=PROJECTS / contender.product.folder,
        environment=contender.environment() | elsewhere,
        contender=contender,
        watched=watched,
    )


def _raw(contender: Contender, label: str, *, notify: bool) -> Crew:
    order = {"action": "insert_together", "connect": connection_of(contender), "notify": notify}
    return Crew(
        label=label,
        command=("-m", "benchmarks.raw.postgresql", json.dumps(order)),
        folder=ROOT / "docs",
        environment=clean_environment(PYTHONPATH=str(ROOT)),
        contender=contender,
    )


def together(crew: Crew, number: int, seconds: float) -> Iterator[Figure]:
    """One figure: what `number` of them send together."""
    crew.contender.clear()
    with crew.contender.worker() if crew.watched else nullcontext():
        if crew.watched:
            wait_until_idle(crew.contender)
        counts, used = _counts(crew, number, seconds)
    crew.contender.clear()
    total = sum(count for count, _ in counts)
    yield Figure(
        scenario=NAME,
        measure=f"{number} producer{'s' * (number > 1)}",
        unit="/s",
        contender=crew.label,
        value=sum(count / took for count, took in counts),
        details={"calls": total, "servers_us": used.servers / total * 1e6, "cores": used.machine / seconds},
    )


def wait_until_idle(contender: Contender) -> None:
    """Return when its worker has asked to be notified."""
    deadline = time.monotonic() + 30
    while not contender.database.rows("SELECT 1 FROM celery_worker WHERE idle"):
        if time.monotonic() > deadline:
            raise Broken(f"{contender.label}: its worker does not say that it is idle. {contender.last_words()}")
        time.sleep(0.05)


def _counts(crew: Crew, number: int, seconds: float) -> tuple[list[tuple[int, float]], Reading]:
    """How many calls each has made, and in how many seconds; and what that cost."""
    with ExitStack() as stack:
        processes = [stack.enter_context(_started(crew)) for _ in range(number)]
        for process in processes:
            stack.callback(process.kill)
        for process in processes:
            _hear(process, crew)  # ready
        before = Reading.now([], crew.contender.servers)
        for process in processes:
            _tell(process, f"{seconds}\n")
        answers = [json.loads(_hear(process, crew)) for process in processes]
        used = Reading.now([], crew.contender.servers).since(before)
    return [(answer["count"], answer["seconds"]) for answer in answers], used


def _started(crew: Crew) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [our_python(), *crew.command],
        cwd=crew.folder,
        env=crew.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _tell(process: subprocess.Popen[str], line: str) -> None:
    if process.stdin:
        process.stdin.write(line)
        process.stdin.flush()


def _hear(process: subprocess.Popen[str], crew: Crew) -> str:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        process.kill()
        _, said = process.communicate()
        raise Broken(f"{crew.label}: a producer ended: {said[-2000:]}")
    return line
