"""One run on one broker: set up, send, break, wait until all is quiet, look, judge."""

import os
import random
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import django
from django.apps import apps
from django.core.management import call_command
from django.db import connections
from django.utils.timezone import now

from celery import backends
from tests.chaos import checker, faults, history, observer, place, report, versions, victims
from tests.chaos.brake import Brake
from tests.chaos.faults.base import Fault, Field
from tests.chaos.history import Event, History
from tests.chaos.injector import Injector
from tests.chaos.leftovers import Leftovers
from tests.chaos.place import Place
from tests.chaos.producers import Producers
from tests.chaos.scene import Scene
from tests.chaos.workers import NAMES, ROLES, WORKERS, Workers
from tests.helpers import eventually

PRODUCERS: Final = "producers"
PRODUCERS_OWN: Final = {"CHAOS_PATIENCE": "5"}
LEASE: Final = 3.0
SECONDS_TO_START: Final = 30.0
#: Seconds after the last fault in which everything has to be done, and every worker whole.
BOUND: Final = 60.0
#: Longer than any task here is sent for later.
LONGEST_WAIT: Final = timedelta(minutes=10)
#: Seconds without any event after which nothing is expected to come any more, once no message is left.
QUIET: Final = 10.0
#: The same two of a run with a mutant, which is to fail: it need not be patient.
BOUND_OF_A_MUTANT, QUIET_OF_A_MUTANT = 15.0, 5.0
#: Seconds of a run that are not for faults: starting, and coming to rest.
RESERVE: Final = 13.0
SHORTEST_LOAD: Final = 4.0
#: Seconds that producers may go on beyond the load, while the last fault heals.
OVERTIME: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, and where: `place` is a name in `place.PLACES`. `kinds` are names of faults; none: all that fit.

    `pace` is tasks a second, 0 for the producers' own; `hits` is how often kinds have hit in other runs: the seldom
    ones come first. With `report` a file is written for the long form, and `folder`, which must not exist yet, gets
    history and logs; else that is a temporary one.
    """

    place: str
    seconds: float
    seed: str
    mutant: str = ""
    kinds: tuple[str, ...] = ()
    pace: float = 0.0
    hits: Mapping[str, int] = field(default_factory=dict)
    folder: Path | None = None
    report: Path | None = None
    keep: bool = False
    verbose: bool = False

    @property
    def load(self) -> float:
        """Seconds of sending and breaking."""
        return max(self.seconds - RESERVE, SHORTEST_LOAD)

    def faults(self, here: Place) -> list[Fault]:
        """Return the kinds of faults to strike with: of those that were named, or fit the time, those that fit here."""
        return [faults.ALL[name] for name in self._chosen if faults.ALL[name].fits(here)]

    @property
    def needs_small_disk(self) -> bool:
        """Tell whether a fault of this plan fills the disk of the database."""
        on_sqlite = not place.PLACES[self.place].has_database_server
        return on_sqlite and any(faults.ALL[name].small_disk for name in self._chosen)

    @property
    def _chosen(self) -> Sequence[str]:
        return self.kinds or [name for name, fault in faults.ALL.items() if fault.seconds <= self.load / 4]


def run(plan: Plan) -> int:
    """Carry out a plan, print what came of it, and return the exit code."""
    began = time.monotonic()
    folder = _folder_for(plan)
    with ExitStack() as stack:
        it = _Run(plan, folder, stack)
        it.carry_out()
    verdict = checker.check(history.stream(folder / "history"))
    facts = {
        "place": plan.place,
        "seed": plan.seed,
        "mutant": plan.mutant,
        "load": plan.load,
        "pace": plan.pace,
        "seconds": round(time.monotonic() - began, 1),
        "versions": it.versions,
    }
    part = report.part(verdict, it.chronicle, facts)
    lines = [report.fault_line(event, began) for event in it.chronicle if event["event"] == "fault" and plan.verbose]
    print("\n".join([*lines, *report.lines(part)]), flush=True)
    if plan.report:
        report.write(plan.report, part)
    if plan.keep or verdict.problems:
        print(f"  history and logs: {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if verdict.problems else 0


def _folder_for(plan: Plan) -> Path:
    if plan.folder is None:
        return Path(tempfile.mkdtemp(prefix="celery-chaos-"))
    plan.folder.mkdir(parents=True)
    return plan.folder.resolve()


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
        self.versions: Mapping[str, str] = {}

    @property
    def chronicle(self) -> list[Event]:
        """What the injector and the observer noted."""
        self._scene.look()
        return self._scene.chronicle

    def carry_out(self) -> None:
        users = (*NAMES, PRODUCERS)
        small = self._plan.needs_small_disk
        self._here = here = self._stack.enter_context(
            place.opened(self._plan.place, self._folder, users, small_disk=small)
        )
        self._prepare(here)
        self.versions = versions.of(here)
        kinds = self._plan.faults(here)

        def environment(who: str) -> dict[str, str]:
            asked = {name: value for fault in kinds for name, value in fault.environment(here, who).items()}
            its_own = PRODUCERS_OWN if who == PRODUCERS else {"CHAOS_MUTANT": self._plan.mutant}
            return {**os.environ, **here.environment(who), **its_own, **asked}

        began = time.monotonic()
        workers = self._stack.enter_context(Workers(self._folder, environment=environment, queue=self._queue))
        if not self._have_started(workers):
            return
        self._seconds_to_start = time.monotonic() - began
        self._break(here, workers, kinds, environment(PRODUCERS))
        for text in workers.stop():
            self._leave("exit", text)
        self._note_what_is_left()
        for what, text in self._leftovers.left_on_servers():
            self._leave(what, text)
        self._note_results()

    # -- setting up

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

    def _have_started(self, workers: Workers) -> bool:
        try:
            return eventually(lambda: self._are_whole(workers), SECONDS_TO_START)
        except AssertionError:
            self._leave("rest", f"the workers did not start within {SECONDS_TO_START:.0f} s")
            for gap in self._gaps(workers):
                self._leave("gap", gap)
            return False

    # -- under faults

    def _break(self, here: Place, workers: Workers, kinds: list[Fault], environment: Mapping[str, str]) -> None:
        """Send and strike, come to rest, and look at what the workers hold then."""
        self._leftovers = Leftovers(here, workers, self._scene)
        producers = Producers(
            self._folder,
            environment=environment,
            seed=self._plan.seed,
            seconds=self._plan.load + OVERTIME,
            pace=self._plan.pace,
        )
        grounds = Field(
            workers=workers,
            producers=producers,
            scene=self._scene,
            place=here,
            history=self._history,
            random=random.Random(f"{self._plan.seed} faults"),
            seconds_to_start=self._seconds_to_start,
        )
        with producers, Brake(self._path):
            if self._all_work(workers):
                self._leftovers.remember()
                Injector(grounds, kinds, self._plan.hits).run(self._plan.load)
            for text in producers.stop():
                self._leave("producer", text)
        if self._comes_to_rest(workers):
            for what, text in self._leftovers.growth():
                self._leave(what, text)

    def _all_work(self, workers: Workers) -> bool:
        def all_work() -> bool:
            self._scene.look()
            supervisors = workers.supervisors()
            return len(supervisors) == WORKERS and all(self._scene.settled_at(one.pid) for one in supervisors)

        try:
            return eventually(all_work, SECONDS_TO_START)
        except AssertionError:
            self._leave("rest", f"not every worker had settled a task {SECONDS_TO_START:.0f} s after they had started")
            return False

    # -- coming to rest

    def _comes_to_rest(self, workers: Workers) -> bool:
        """Wait until all is done and whole; for `BOUND` seconds, or until nothing can come any more."""
        connections.close_all()  # a server may have been another one since we asked it
        bound, quiet = (BOUND_OF_A_MUTANT, QUIET_OF_A_MUTANT) if self._plan.mutant else (BOUND, QUIET)
        began = time.monotonic()
        events, moved_at = 0, began
        while not (self._is_done() and self._are_whole(workers)):
            moment = time.monotonic()
            if self._scene.events != events:
                events, moved_at = self._scene.events, moment
            self._bring_forward()
            is_quiet = moment - moved_at >= quiet and not self._is_something_waiting()
            if is_quiet or moment >= began + bound:
                self._note_unrest(workers, moment - began)
                return False
            time.sleep(0.1)
        return True

    def _bring_forward(self) -> None:
        """Make due what a worker with a wrong clock has put off by an hour; nothing here waits for minutes."""
        late = apps.get_model("celery", "Message").objects.filter(dead_at=None, visible_at__gt=now() + LONGEST_WAIT)
        if late.exists():
            self._history.note("postponed", count=late.update(visible_at=now()))

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
        return not self._is_something_waiting() and not self._without_result()

    def _is_something_waiting(self) -> bool:
        return apps.get_model("celery", "Message").objects.filter(dead_at=None).exists() or self._depth() > 0

    def _depth(self) -> int:
        return self._here.depth(self._queue)

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
        fields = ("id", "task_id", "owner", "visible_at", "suspect", "starts", "crashes")
        messages = apps.get_model("celery", "Message").objects
        for message in messages.filter(dead_at=None).values(*fields):
            self._leave("message", ", ".join(f"{name}={value}" for name, value in message.items()))
        if depth := self._depth():
            self._leave("message", f"{depth} in the queue")
        for owner in self._workers_known():
            self._leave("worker", f"row of {owner} after a clean end")
        for process in victims.wait_for_end(victims.with_variable("CHAOS_HISTORY", str(self._path)), 2):
            self._leave("process", str(process.pid))
        dead = messages.exclude(dead_at=None)
        for task_id, reason, starts, crashes in dead.values_list("task_id", "reason", "starts", "crashes"):
            self._history.note("dead", id=task_id, reason=reason, starts=starts, crashes=crashes)

    def _note_results(self) -> None:
        self._scene.look()
        observer.note_results(self._history, sorted(self._scene.named))

    def _leave(self, what: str, text: str) -> None:
        self._history.note("left", what=what, text=text)
