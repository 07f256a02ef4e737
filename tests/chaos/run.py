"""One run on one broker: set up, send, kill, wait until all is quiet, look, judge."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import django
from django.apps import apps
from django.core.management import call_command
from django.db import connections

from celery import backends, broker
from celery.backends.base import Result
from tests.chaos import checker, faults, history, place, report, victims
from tests.chaos.faults.base import Fault, Field
from tests.chaos.history import History
from tests.chaos.injector import Injector
from tests.chaos.place import Place
from tests.chaos.scene import Scene
from tests.chaos.workers import NAMES, ROLES, WORKERS, Workers
from tests.helpers import eventually
from tests.shop.daemon import ROOT

PRODUCERS = "producers"
PRODUCER_COUNT = 2
LEASE = 3.0
SECONDS_TO_START = 20.0
#: Seconds after the last fault in which everything has to be done, and every worker whole.
BOUND = 20.0
#: Seconds without any event after which nothing is expected to come any more: while messages are left, and else.
QUIET, QUIET_WITHOUT_MESSAGES = LEASE + 3.0, 3.0
#: Seconds of a run that are not for faults: starting, and coming to rest.
RESERVE = 13.0
SHORTEST_LOAD = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, and where: `place` is a name in `place.PLACES`. `kinds` are names of faults; none: all that fit."""

    place: str
    seconds: float
    seed: str
    mutant: str = ""
    kinds: tuple[str, ...] = ()
    keep: bool = False
    verbose: bool = False

    @property
    def load(self) -> float:
        """Seconds of sending and killing."""
        return max(self.seconds - RESERVE, SHORTEST_LOAD)

    def faults(self, here: Place) -> list[Fault]:
        """Return the kinds of faults to strike with: those that were named; else those that fit the place and time."""
        if self.kinds:
            return [faults.ALL[name] for name in self.kinds]
        return [fault for fault in faults.ALL.values() if fault.fits(here) and fault.seconds <= self.load / 4]


def run(plan: Plan) -> int:
    """Carry out a plan, print what came of it, and return the exit code."""
    title = place.PLACES[plan.place].title
    print(f"chaos: {title}, seed {plan.seed}{f', mutant {plan.mutant}' if plan.mutant else ''}", flush=True)
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="celery-chaos-"))
        _Run(plan, folder, stack).carry_out()
    verdict = checker.check(history.read(folder / "history"))
    _show(plan, verdict, folder, began)
    if plan.keep or verdict.problems:
        print(f"  history and logs: {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if verdict.problems else 0


def _show(plan: Plan, verdict: checker.Verdict, folder: Path, began: float) -> None:
    if plan.verbose:
        for event in history.read(folder / "history"):
            if event["event"] == "fault":
                print(report.fault_line(event, began))
    print("\n".join([*report.summary(verdict), *report.problems(verdict)]))
    print(f"  {'FAILED' if verdict.problems else 'passed'} after {time.monotonic() - began:.1f} s")


class _Run:
    def __init__(self, plan: Plan, folder: Path, stack: ExitStack) -> None:
        self._plan = plan
        self._folder = folder
        self._stack = stack
        self._path = folder / "history"
        self._history = History(self._path)
        self._scene = Scene(self._path)
        self._queue = f"chaos-{uuid.uuid4().hex[:12]}"
        self._missing: set[str] = set()

    def carry_out(self) -> None:
        here = self._stack.enter_context(place.opened(self._plan.place, self._folder, (*NAMES, PRODUCERS)))
        self._prepare(here)

        def environment(name: str) -> dict[str, str]:
            return {**os.environ, **here.environment(name), "CHAOS_MUTANT": self._plan.mutant}

        workers = self._stack.enter_context(Workers(self._folder, environment=environment, queue=self._queue))
        if not self._have_started(workers):
            return
        field = Field(
            workers=workers,
            scene=self._scene,
            place=here,
            history=self._history,
            random=random.Random(f"{self._plan.seed} faults"),
        )
        with self._producers(here.environment(PRODUCERS)):
            Injector(field, self._plan.faults(here)).run(self._plan.load)
        self._come_to_rest(workers)
        for text in workers.stop():
            self._leave("exit", text)
        self._note_what_is_left()
        self._note_results()

    # -- setting up

    def _have_started(self, workers: Workers) -> bool:
        try:
            return eventually(lambda: self._are_whole(workers), SECONDS_TO_START)
        except AssertionError:
            self._leave("rest", f"the workers did not start within {SECONDS_TO_START:.0f} s")
            for gap in self._gaps(workers):
                self._leave("gap", gap)
            return False

    def _prepare(self, here: Place) -> None:
        """Point Django at the place, make the tables, and name a queue."""
        os.environ |= {
            **here.environment(),
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "CELERY_QUEUE_TYPE": here.kind.queue_type,
            "SHOP_QUEUE": self._queue,
            "CHAOS_HISTORY": str(self._path),
            "CHAOS_LEASE": str(LEASE),
            "CHAOS_MUTANT": "",
        }
        django.setup()
        call_command("migrate", verbosity=0, interactive=False)
        self._stack.callback(connections.close_all)

    @contextmanager
    def _producers(self, environment: dict[str, str]) -> Iterator[None]:
        """Producers that send during the block, and a little longer at most."""
        started = [self._start_producer(f"p{number}", environment) for number in range(1, PRODUCER_COUNT + 1)]
        try:
            yield
            for producer in started:
                if producer.wait(self._plan.load):
                    self._leave("producer", f"exit code {producer.returncode}; see {self._folder}/producers.log")
        finally:
            for producer in started:
                producer.kill()
                producer.wait()

    def _start_producer(self, name: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.chaos.producer", name, self._plan.seed, str(self._plan.load - 1)]
        with (self._folder / "producers.log").open("ab") as log:
            return subprocess.Popen(
                command, env={**os.environ, **environment}, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    # -- coming to rest

    def _come_to_rest(self, workers: Workers) -> None:
        """Wait until all is done and whole; for `BOUND` seconds, or until nothing moves any more."""
        deadline = time.monotonic() + BOUND
        events, moved_at = 0, time.monotonic()
        while not (self._is_done() and self._are_whole(workers)):
            now = time.monotonic()
            if self._scene.events != events:
                events, moved_at = self._scene.events, now
            quiet = QUIET if self._messages() or self._depth() else QUIET_WITHOUT_MESSAGES
            if now >= deadline or now - moved_at >= quiet:
                return self._note_unrest(workers, now - deadline + BOUND)
            time.sleep(0.1)
        return None

    def _are_whole(self, workers: Workers) -> bool:
        self._scene.look()
        return len(self._workers_known()) == WORKERS and not self._gaps(workers)

    def _gaps(self, workers: Workers) -> list[str]:
        supervisors = workers.supervisors()
        found = [f"{WORKERS - len(supervisors)} supervisors are gone"] if len(supervisors) < WORKERS else []
        for supervisor in supervisors:
            for role in sorted(set(ROLES)):
                count = len(self._scene.living(supervisor.pid, role))
                if count != ROLES.count(role):
                    found.append(f"worker {supervisor.pid} has {count} of role {role}")
        return found

    def _workers_known(self) -> list[str]:
        return list(apps.get_model("celery", "Worker").objects.values_list("owner", flat=True))

    def _is_done(self) -> bool:
        self._scene.look()
        return not self._messages() and not self._depth() and not self._without_result()

    def _messages(self) -> list[dict[str, object]]:
        """Return the messages that are not dead."""
        fields = ("id", "task_id", "owner", "visible_at", "suspect", "starts", "crashes")
        return list(apps.get_model("celery", "Message").objects.filter(dead_at=None).values(*fields))

    def _depth(self) -> int:
        return broker.current().depth(self._queue)

    def _without_result(self) -> set[str]:
        """Return the confirmed tasks without a result, asking only for those that had none before."""
        self._missing |= self._scene.confirmed
        self._scene.confirmed.clear()
        self._missing -= set(backends.default().fetch(list(self._missing)))
        return self._missing

    def _note_unrest(self, workers: Workers, waited: float) -> None:
        self._leave(
            "rest", f"not at rest {waited:.1f} s after the last fault: {len(self._without_result())} without result"
        )
        for gap in self._gaps(workers):
            self._leave("gap", gap)
        owners = self._workers_known()
        if len(owners) != WORKERS:
            self._leave("worker", f"{len(owners)} rows for {WORKERS} workers")

    # -- looking

    def _note_what_is_left(self) -> None:
        for message in self._messages():
            self._leave("message", ", ".join(f"{name}={value}" for name, value in message.items()))
        if depth := self._depth():
            self._leave("message", f"{depth} in the queue")
        for owner in self._workers_known():
            self._leave("worker", f"row of {owner} after a clean end")
        for process in victims.wait_for_end(victims.with_variable("CHAOS_HISTORY", str(self._path)), 2):
            self._leave("process", str(process.pid))

    def _note_results(self) -> None:
        events = history.read(self._path)
        named = {pair[0] for event in events for pair in event.get("pairs", ())}
        named |= {event["id"] for event in events if event["event"] == "started"}
        for task_id, result in backends.default().fetch(sorted(named)).items():
            self._history.note("final", id=task_id, state=result.state, value=_value(result))

    def _leave(self, what: str, text: str) -> None:
        self._history.note("left", what=what, text=text)


def _value(result: Result) -> object:
    value = backends.default().to_python(result)
    return repr(value) if isinstance(value, BaseException) else value
