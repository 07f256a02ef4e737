"""Processes of a worker are killed, or it is asked to end or to begin anew."""

import signal
import time
from abc import abstractmethod
from typing import ClassVar

from tests.chaos import victims
from tests.chaos.faults.base import Fault, Field, Struck
from tests.servers.processes import Identity

#: How often a fault waits until a child of the worker is in a task, and for how many seconds at most.
PATIENT, PATIENCE = 0.8, 1.0
#: Seconds in which a worker's processes have followed their supervisor.
SECONDS_TO_FOLLOW = 2.0
#: Seconds in which a worker does what a signal asks for: the time to drain is 25.
SECONDS_TO_DRAIN = 30.0


class Kill(Fault):
    """kill -9, of processes that stand still by then, so that it is known what they were doing."""

    #: All children of the worker end by it.
    ends_worker: ClassVar[bool] = False

    @abstractmethod
    def choose(self, field: Field, aim: Identity) -> list[Identity]:
        """Return the victims. `aim` is the supervisor of a worker."""

    def moment(self, field: Field, chosen: list[Identity]) -> str:
        """Return what the victims were doing."""
        return ""

    def strike(self, field: Field) -> Struck | None:
        aim = field.a_supervisor()
        if aim is None:
            return None
        if field.random.random() < PATIENT:
            _wait_until_busy(field, aim)
        field.scene.look()
        chosen = self.choose(field, aim)
        since = time.monotonic()
        if not chosen or not victims.hold(chosen):
            victims.release(chosen)
            return None
        field.scene.look()
        moment = self.moment(field, chosen)
        owners = field.workers.supervisors() if len(chosen) > 1 and aim in chosen else [aim]
        family = [member for process in chosen for member in process.descendants()]
        if not victims.kill(chosen):
            return None
        struck = Struck(
            since=since,
            until=time.monotonic(),
            victims=field.pids(chosen),
            workers=field.pids(owners) if self.ends_worker else frozenset(),
            moment=moment,
            proof="stood still, then ended by our signal",
        )
        check_followers(field, family)
        field.workers.start_the_dead()
        return struck


class KillChild(Kill):
    name = "child"
    weight = 7

    def choose(self, field: Field, aim: Identity) -> list[Identity]:
        children = field.scene.living(aim.pid, "child")
        preferred = field.scene.busy(children) if field.random.random() < PATIENT else []
        return field.random.sample(preferred or children, 1) if children else []

    def moment(self, field: Field, chosen: list[Identity]) -> str:
        return field.scene.moment_of(chosen[0])


class KillRoles(Kill):
    """Processes of one worker, by their role."""

    roles: ClassVar[tuple[str, ...]]

    def choose(self, field: Field, aim: Identity) -> list[Identity]:
        return [process for role in self.roles for process in field.scene.living(aim.pid, role)]


class KillDispatcher(KillRoles):
    name = "dispatcher"
    weight = 4
    roles = ("dispatcher",)
    ends_worker = True


class KillSteward(KillRoles):
    name = "steward"
    weight = 3
    roles = ("steward",)


class KillDispatcherAndSteward(KillRoles):
    name = "dispatcher and steward"
    weight = 2
    roles = ("dispatcher", "steward")
    ends_worker = True


class KillSupervisor(Kill):
    name = "supervisor"
    weight = 3
    ends_worker = True

    def choose(self, field: Field, aim: Identity) -> list[Identity]:
        return [aim]


class KillTwoWorkers(Kill):
    name = "two workers"
    ends_worker = True

    def choose(self, field: Field, aim: Identity) -> list[Identity]:
        return [aim, *(other for other in field.workers.supervisors() if other != aim)]


class Ask(Fault):
    """An operator's signal, under load: nothing may follow from it, no task may run twice."""

    number: signal.Signals
    seconds = 4.0
    weight = 2

    def strike(self, field: Field) -> Struck | None:
        aim = field.a_supervisor()
        field.scene.look()
        before = field.scene.living(aim.pid, "dispatcher") if aim else []
        if aim is None or not before:  # it has just been started, and would not be ready for signals
            return None
        _wait_until_busy(field, aim)
        since = time.monotonic()
        aim.send(self.number)
        while not self.is_over(field, aim, before[0]):
            if time.monotonic() > since + SECONDS_TO_DRAIN:
                field.history.note("left", what="process", text=f"{aim.pid} has not followed {self.number.name}")
                break
            time.sleep(0.01)
        seconds = time.monotonic() - since
        field.workers.start_the_dead()
        return Struck(since=since, until=time.monotonic(), proof=f"{aim.pid} has followed after {seconds:.1f} s")

    @abstractmethod
    def is_over(self, field: Field, aim: Identity, before: Identity) -> bool:
        """Tell whether the worker has done what it was asked for. `before` is its dispatcher until then."""


class Drain(Ask):
    """SIGTERM, and a new worker."""

    name = "stopped by TERM"
    number = signal.SIGTERM

    def is_over(self, field: Field, aim: Identity, before: Identity) -> bool:
        return not aim.is_alive()


class Reload(Ask):
    """SIGHUP: the same process begins anew, and has a new crew."""

    name = "reloaded by HUP"
    number = signal.SIGHUP

    def is_over(self, field: Field, aim: Identity, before: Identity) -> bool:
        field.scene.look()
        return not before.is_alive() and bool(field.scene.living(aim.pid, "dispatcher"))


def _wait_until_busy(field: Field, supervisor: Identity) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        field.scene.look()
        if field.scene.busy(field.scene.living(supervisor.pid, "child")):
            return
        time.sleep(0.002)


def check_followers(field: Field, family: list[Identity]) -> None:
    """Processes of a worker end with it, so that a new one can start."""
    for orphan in victims.wait_for_end(family, SECONDS_TO_FOLLOW):
        field.history.note("left", what="process", text=f"{orphan.pid} outlived its supervisor")
        victims.wait_for_end([orphan], 10)


FAULTS = (
    KillChild(),
    KillDispatcher(),
    KillSteward(),
    KillDispatcherAndSteward(),
    KillSupervisor(),
    KillTwoWorkers(),
    Drain(),
    Reload(),
)
