"""The injector: kills processes at random moments, proves that it did, and notes it."""

import random
import time
from collections.abc import Iterator

from tests.chaos import victims
from tests.chaos.history import History
from tests.chaos.scene import Scene
from tests.chaos.workers import Workers
from tests.servers.processes import Identity

#: Kinds of fault, and how often each comes.
KINDS = {"child": 7, "dispatcher": 4, "steward": 3, "dispatcher and steward": 2, "supervisor": 3, "two workers": 1}
#: Of these kinds all children of the worker end.
FATAL = frozenset({"dispatcher", "dispatcher and steward", "supervisor", "two workers"})
#: Seconds between two faults.
SHORTEST, LONGEST = 0.2, 1.2
#: How often a fault waits until a child of the worker is in a task, and for how many seconds at most.
PATIENT, PATIENCE = 0.8, 1.0
#: Seconds in which a worker's processes have followed their supervisor.
SECONDS_TO_FOLLOW = 2.0


class Injector:
    """Strikes until its time is up. Every kind hits once before chance decides."""

    def __init__(self, workers: Workers, scene: Scene, history: History, *, seed: str) -> None:
        self._workers = workers
        self._scene = scene
        self._history = history
        self._random = random.Random(f"{seed} faults")
        self._kinds = self._sequence()
        self._strikes = 0
        self._hit: set[str] = set()

    def run(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._strike(next(self._kinds))
            time.sleep(self._random.uniform(SHORTEST, LONGEST))
        if self._strikes >= len(KINDS):
            for kind in sorted(set(KINDS) - self._hit):
                self._history.note("left", what="fault", text=f"no fault of kind {kind!r} has hit")

    def _sequence(self) -> Iterator[str]:
        """Yield each kind once, then those again that found no victim (a worker was just starting), then any."""
        yield from self._random.sample(list(KINDS), len(KINDS))
        while True:
            missed = sorted(set(KINDS) - self._hit)
            yield missed[0] if missed else self._random.choices(list(KINDS), list(KINDS.values()))[0]

    def _strike(self, kind: str) -> None:
        self._strikes += 1
        supervisors = self._workers.supervisors()
        aim = supervisors if kind == "two workers" else self._random.sample(supervisors, 1)
        if self._random.random() < PATIENT:
            self._wait_until_busy(aim[0])
        self._scene.look()
        chosen = self._choose(kind, aim)
        since = time.monotonic()
        if not chosen or not victims.hold(chosen):
            victims.release(chosen)
            return
        moment = self._moment(kind, chosen)
        family = self._family(chosen)
        hit = victims.kill(chosen)
        self._history.note(
            "fault",
            kind=kind,
            since=since,
            victims=[process.pid for process in chosen],
            workers=[supervisor.pid for supervisor in aim] if kind in FATAL else [],
            moment=moment,
            hit=hit,
        )
        self._hit |= {kind} if hit else set()
        self._check_followers(family)
        self._workers.start_the_dead()

    def _wait_until_busy(self, supervisor: Identity) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self._scene.look()
            if self._scene.busy(self._scene.living(supervisor.pid, "child")):
                return
            time.sleep(0.002)

    def _choose(self, kind: str, aim: list[Identity]) -> list[Identity]:
        if kind in {"supervisor", "two workers"}:
            return aim
        if kind == "child":
            return self._choose_child(aim[0])
        return [process for role in kind.split(" and ") for process in self._scene.living(aim[0].pid, role)]

    def _choose_child(self, supervisor: Identity) -> list[Identity]:
        children = self._scene.living(supervisor.pid, "child")
        preferred = self._scene.busy(children) if self._random.random() < PATIENT else []
        return self._random.sample(preferred or children, 1) if children else []

    def _moment(self, kind: str, chosen: list[Identity]) -> str:
        """Return what a child was doing when it stood still: that is what the kill will interrupt."""
        self._scene.look()
        return self._scene.moment_of(chosen[0]) if kind == "child" else ""

    @staticmethod
    def _family(chosen: list[Identity]) -> list[Identity]:
        return [member for process in chosen for member in process.descendants()]

    def _check_followers(self, family: list[Identity]) -> None:
        """Processes of a worker end with it, so that a new one can start."""
        for orphan in victims.wait_for_end(family, SECONDS_TO_FOLLOW):
            self._history.note("left", what="process", text=f"{orphan.pid} outlived its supervisor")
            victims.wait_for_end([orphan], 10)
