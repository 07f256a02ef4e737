"""One soak at one place: start a worker, feed it so that little waits, look now and then, come to rest, look again."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from django.db.models import Sum

from celery.models import Message, TaskMeta, Throughput
from tests.helpers import eventually
from tests.integration.places import Place
from tests.integration.settings import INSTALLED_APPS
from tests.integration.worker import WorkerProcess
from tests.servers.rabbitmq import RabbitMQ
from tests.soak import feed
from tests.soak.producers import Producers, producers
from tests.soak.sample import Clock, Sample, Sampler

CHILDREN = 4
COMPLAINT = re.compile(r"\[[^]]*: (WARNING|ERROR|CRITICAL)/[^]]*\] (?!Task soak\.(failing|retried)\[)")
#: Tasks that are sent at a time, and ready ones beyond which we wait: so no more than 10,000 wait.
STEP = MOST_WAITING = 5_000
SECONDS_TO_DRAIN = 120.0
#: Seconds of rest before a sample that is judged: writers are done, and what was freed has gone back to the system.
REST = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many tasks, after how many the first sample is taken that is judged, and how many lie between samples."""

    tasks: int = 1_000_000
    first: int = 10_000
    every: int = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All samples, and what the history of the worker says in the end."""

    samples: list[Sample]
    seconds: float
    exit_code: int
    done: int
    failed: int
    retried: int
    complaints: int

    def labelled(self, label: str) -> Sample:
        """Return the sample of this label."""
        return next(sample for sample in self.samples if sample.label == label)


def soak(place: Place, plan: Plan, rabbitmq: RabbitMQ | None = None, tell: Callable[[Sample], object] = id) -> Outcome:
    """Carry out `plan`. Raises AssertionError when the worker does not come to rest."""
    settings = {"INSTALLED_APPS": [*INSTALLED_APPS, "tests.soak"]}
    with producers(place) as sending, WorkerProcess(place, children=CHILDREN, settings=settings) as worker:
        run = _Run(place, plan, sending, Sampler(place, worker, rabbitmq), tell)
        seconds = run.carry_out()
        exit_code = worker.stop()
        complaints = _complaints(worker)
    sums = Throughput.objects.aggregate(done=Sum("done"), failed=Sum("failed"), retried=Sum("retried"))
    counted = {name: int(value or 0) for name, value in sums.items()}
    return Outcome(
        samples=run.sampler.samples, seconds=round(seconds, 2), exit_code=exit_code, complaints=complaints, **counted
    )


class _Run:
    def __init__(
        self, place: Place, plan: Plan, sending: Producers, sampler: Sampler, tell: Callable[[Sample], object]
    ) -> None:
        self._place = place
        self._plan = plan
        self._producers = sending
        self._tell = tell
        self._clock = Clock()
        self._sent = 0
        self.sampler = sampler

    def carry_out(self) -> float:
        """Send all, and return the seconds that it took until the last was done."""
        self._look("start")
        self._send_until(self._plan.first)
        self._drain()
        self._look("first", rest=REST)
        while self._sent < self._plan.tasks:
            self._send_until(min(self._sent + self._plan.every, self._plan.tasks))
            self._look("")
        self._drain()
        self._look("end", rest=REST)
        return self._clock.seconds

    def _send_until(self, count: int) -> None:
        while self._sent < count:
            step = min(STEP, count - self._sent)
            with self._clock:
                self._producers.send(step // feed.THOUSAND)
                eventually(lambda: self._place.waiting() <= MOST_WAITING, SECONDS_TO_DRAIN)
            self._sent += step

    def _drain(self) -> None:
        with self._clock:
            eventually(self._is_done, SECONDS_TO_DRAIN)

    def _is_done(self) -> bool:
        if self._place.waiting() or Message.objects.exists():
            return False
        return TaskMeta.objects.exclude(status="RETRY").count() == self._sent * feed.RESULTS // feed.THOUSAND

    def _look(self, label: str, rest: float = 0.0) -> None:
        time.sleep(rest)
        self._tell(self.sampler.take(label, self._sent, self._clock.seconds))


def _complaints(worker: WorkerProcess) -> int:
    """Count what the log complains of, beside the tasks that were sent to fail and to be tried again."""
    with worker.log.open(encoding="utf-8", errors="replace") as lines:
        return sum(1 for line in lines if COMPLAINT.match(line))
