"""Processes stand still beyond the lease, and then go on as if nothing had been: the old owner must not settle."""

import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Final

from django.apps import apps

from celery import backends
from tests.chaos import victims
from tests.chaos.faults.base import Fault, Field, Struck
from tests.chaos.faults.moments import a_whole_worker
from tests.chaos.gates import Gates, Standing
from tests.chaos.place import Place
from tests.servers.processes import Identity

#: Seconds to stand still: more than the lease of 3 s and a round of the others; more than the watchdog waits, and
#: more than two heartbeats of RabbitMQ.
LONG, VERY_LONG = 5.5, 28.0
#: Seconds for a child to be in a task, for a lease to be over, for others to do the task, and for a result.
SECONDS_TO_BE_BUSY: Final = 2.0
SECONDS_TO_BE_LOST: Final = 12.0
SECONDS_TO_BE_DONE: Final = 6.0
SECONDS_TO_FINISH: Final = 2.0
#: How often a connection is cut until another worker gets the message, and the seconds for that to do it.
MOST_CUTS, SECONDS_BETWEEN_CUTS = 4, 2.5
GATE: Final = "in user code"


class Stop(Fault):
    """SIGSTOP for `duration` seconds, then SIGCONT. Nothing may follow from it, unless `ends_worker`."""

    duration = LONG
    seconds = LONG + 0.5
    weight = 2
    #: The lease is over meanwhile, or the children end.
    ends_worker = False

    @abstractmethod
    def choose(self, field: Field, aim: Identity) -> list[Identity]:
        """Return who is to be stopped. `aim` is the supervisor of a worker."""

    def strike(self, field: Field) -> Struck | None:
        aim = a_whole_worker(field)
        if aim is None:
            return None
        _wait_until_busy(field, aim)
        chosen = self.choose(field, aim)
        owners, since = owners_of(aim), time.monotonic()
        if not chosen or not victims.hold(chosen):
            victims.release(chosen)
            return None
        time.sleep(self.duration)
        still = [process for process in chosen if victims.state_of(process) == "T"]
        lost = owners - owners_of(aim)
        victims.release(field.random.sample(still, len(still)))
        return Struck(
            since=since,
            until=time.monotonic(),
            victims=field.pids(chosen) if self.ends_worker else frozenset(),
            workers=frozenset({aim.pid}) if self.ends_worker else frozenset(),
            moment="its lease was over" if lost else "its lease held",
            proof=f"{len(chosen)} stopped; {len(still)} stood still for {self.duration:g} s, others ended meanwhile",
        )


class StopChild(Stop):
    """In the middle of a task: that takes longer, and that is all."""

    name = "stop: child"

    def choose(self, field: Field, aim: Identity) -> list[Identity]:
        field.scene.look()
        return field.scene.busy(field.scene.living(aim.pid, "child"))[:1]


class StopSupervisor(Stop):
    """It is not needed as long as nobody dies."""

    name = "stop: supervisor"

    def choose(self, field: Field, aim: Identity) -> list[Identity]:
        return [aim]


class StopDispatcher(Stop):
    """Its steward withholds the proof of life, so others take over."""

    name = "stop: dispatcher"
    ends_worker = True

    def choose(self, field: Field, aim: Identity) -> list[Identity]:
        return field.scene.living(aim.pid, "dispatcher")


class StopSteward(Stop):
    name = "stop: steward"
    ends_worker = True

    def choose(self, field: Field, aim: Identity) -> list[Identity]:
        return field.scene.living(aim.pid, "steward")


class StopStewardForLong(StopSteward):
    """Its supervisor's watchdog kills it."""

    name = "stop: steward, for long"
    duration, seconds = VERY_LONG, VERY_LONG + 1
    weight = 1


class StopWorker(Stop):
    """All processes of a worker at once: a virtual machine that is suspended, a laptop that is closed."""

    name = "stop: worker"
    ends_worker = True

    def choose(self, field: Field, aim: Identity) -> list[Identity]:
        return [aim, *aim.descendants()]


class StopWorkerForLong(StopWorker):
    """RabbitMQ misses two heartbeats and gives its messages to others."""

    name = "stop: worker, for long"
    duration, seconds = VERY_LONG, VERY_LONG + 1
    weight = 1

    def fits(self, place: Place) -> bool:
        return place.has_rabbitmq


class OldOwner(Fault):
    """A child sleeps in a task until that is another's and done; then it awakes, and must neither settle nor overwrite.

    A message in the database is lost with the lease of the worker, one of RabbitMQ with the connection.
    """

    name = "stop: old owner"
    seconds = 6.0
    weight = 2

    def strike(self, field: Field) -> Struck | None:
        aim = a_whole_worker(field)
        if aim is None:
            return None
        gates = Gates(field.place.folder / "gates")
        stopped: list[Identity] = []
        try:
            gates.arm(GATE, worker=aim.pid)
            standing = gates.wait(GATE, SECONDS_TO_BE_BUSY)
            field.scene.look()
            stopped = [] if field.place.has_rabbitmq else [aim, *field.scene.living(aim.pid, "steward")]
            if standing is None or not victims.hold(stopped):
                return None
            return self._sleep(field, gates, aim, standing)
        finally:
            gates.lift(GATE)
            gates.close()
            victims.release(stopped)

    def _sleep(self, field: Field, gates: Gates, aim: Identity, standing: Standing) -> Struck:
        """Wait until the task is others', then let the child go on. Supervisor and steward, if stopped, still sleep."""
        ids = list(standing.ids)
        take_away = self._cut if field.place.has_rabbitmq else self._outlast
        how = take_away(field, aim, ids)
        _wait(lambda: _states(ids) == {"DONE"}, SECONDS_TO_BE_DONE)
        states = _states(ids)
        gates.lift(GATE)
        _wait(lambda: _has_ended(field, standing.process), SECONDS_TO_FINISH)
        return Struck(
            since=standing.at,
            until=time.monotonic(),
            victims=frozenset({standing.process.pid}),
            workers=frozenset({aim.pid}),
            moment="done by others" if states == {"DONE"} else "not done by others",
            proof=f"child {standing.process.pid} slept in {', '.join(ids)}; {how}; the task was"
            f" {', '.join(states) or 'without a result'} when it awoke",
        )

    @staticmethod
    def _outlast(_field: Field, aim: Identity, _ids: list[str]) -> str:
        """Wait until others declare the worker lost."""
        lost = _wait(lambda: not owners_of(aim), SECONDS_TO_BE_LOST)
        return "its worker was declared lost" if lost else "its worker kept its lease"

    @staticmethod
    def _cut(field: Field, aim: Identity, ids: list[str]) -> str:
        """Cut the worker off RabbitMQ, so that others get the message; it may come back to this worker at first."""
        (relay,) = field.place.relays_of("rabbitmq", field.workers.name_of(aim.pid))
        cuts = 0
        for _ in range(MOST_CUTS):
            cuts += relay.cut()
            if _wait(lambda: _states(ids) == {"DONE"}, SECONDS_BETWEEN_CUTS):
                break
        return f"{cuts} connections of its worker were cut"


class Freeze(Fault):
    """Processes stop for a moment, again and again, each for less than the lease: nothing may follow from it."""

    name = "stop: stutter"
    seconds = 5.0

    def strike(self, field: Field) -> Struck | None:
        aim = a_whole_worker(field)
        if aim is None:
            return None
        since, count = time.monotonic(), 0
        while time.monotonic() - since < self.seconds:
            chosen = field.random.sample(family := [aim, *aim.descendants()], min(2, len(family)))
            count += victims.hold(chosen)
            time.sleep(field.random.uniform(0.05, 0.6))
            victims.release(chosen)
            time.sleep(field.random.uniform(0.05, 0.2))
        return Struck(
            since=since, until=time.monotonic(), proof=f"{count} times two processes stood still for a moment"
        )


def owners_of(supervisor: Identity) -> frozenset[str]:
    """Return the owners in whose name a worker holds a lease."""
    rows = apps.get_model("celery", "Worker").objects.filter(pid=supervisor.pid)
    return frozenset(rows.values_list("owner", flat=True))


def _states(ids: list[str]) -> set[str]:
    return {result.state for result in backends.default().fetch(ids).values()} if ids else set()


def _has_ended(field: Field, child: Identity) -> bool:
    field.scene.look()
    return not child.is_alive() or not field.scene.busy([child])


def _wait_until_busy(field: Field, aim: Identity) -> None:
    def is_busy() -> bool:
        field.scene.look()
        return bool(field.scene.busy(field.scene.living(aim.pid, "child")))

    _wait(is_busy, SECONDS_TO_BE_BUSY)


def _wait(is_so: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (found := is_so()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return found


FAULTS = (
    StopChild(),
    StopSupervisor(),
    StopDispatcher(),
    StopSteward(),
    StopStewardForLong(),
    StopWorker(),
    StopWorkerForLong(),
    OldOwner(),
    Freeze(),
)
