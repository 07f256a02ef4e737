"""Processes of a worker are killed."""

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
        _check_followers(field, family)
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


def _wait_until_busy(field: Field, supervisor: Identity) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        field.scene.look()
        if field.scene.busy(field.scene.living(supervisor.pid, "child")):
            return
        time.sleep(0.002)


def _check_followers(field: Field, family: list[Identity]) -> None:
    """Processes of a worker end with it, so that a new one can start."""
    for orphan in victims.wait_for_end(family, SECONDS_TO_FOLLOW):
        field.history.note("left", what="process", text=f"{orphan.pid} outlived its supervisor")
        victims.wait_for_end([orphan], 10)


FAULTS = (KillChild(), KillDispatcher(), KillSteward(), KillDispatcherAndSteward(), KillSupervisor(), KillTwoWorkers())
