"""What brings a worker to a moment that does not come by itself: one of its processes dies, or it is asked to end."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos import victims
from tests.chaos.faults.base import Field
from tests.chaos.faults.processes import check_followers
from tests.servers.processes import Identity


@dataclass(slots=True, kw_only=True)
class Blow:
    """What has been done to a worker so far. `aim` is its supervisor, None: whoever comes to the gate."""

    since: float
    aim: Identity | None = None
    killed: list[Identity] = field(default_factory=list)
    ends_worker: bool = False
    #: It was asked to end (SIGTERM), or to begin anew (SIGHUP).
    asked: int = 0
    #: Its dispatcher before that.
    before: Identity | None = None


#: Does it, and tells whether it is done.
Provoke = Callable[[Field, Blow], bool]


def by_death_of_a_child(field: Field, blow: Blow) -> bool:
    busy = field.scene.busy(living(field, blow, "child"))
    return bool(busy) and _kill(field, blow, [field.random.choice(busy)])


def by_death_of_the_dispatcher(field: Field, blow: Blow) -> bool:
    blow.ends_worker = True
    return _kill(field, blow, living(field, blow, "dispatcher"))


def by_death_of_the_steward(field: Field, blow: Blow) -> bool:
    return _kill(field, blow, living(field, blow, "steward"))


def by_death_of_the_worker(field: Field, blow: Blow) -> bool:
    """Others find out when its lease is over; meanwhile it begins anew, under another owner."""
    if blow.aim is None:
        return False
    blow.ends_worker = True
    family = blow.aim.descendants()
    is_done = _kill(field, blow, [blow.aim])
    check_followers(field, family)
    field.workers.start_the_dead()
    return is_done


def by_term(field: Field, blow: Blow) -> bool:
    return _ask(field, blow, signal.SIGTERM)


def by_hup(field: Field, blow: Blow) -> bool:
    return _ask(field, blow, signal.SIGHUP)


def _ask(field: Field, blow: Blow, number: signal.Signals) -> bool:
    if blow.aim is None or not field.scene.busy(living(field, blow, "child")):
        return False
    blow.asked = number
    blow.before = next(iter(living(field, blow, "dispatcher")), None)
    blow.aim.send(number)
    return True


def _kill(field: Field, blow: Blow, chosen: list[Identity]) -> bool:
    if not chosen or not victims.hold(chosen):
        victims.release(chosen)
        return False
    blow.killed += chosen
    return victims.kill(chosen)


def living(field: Field, blow: Blow, role: str) -> list[Identity]:
    field.scene.look()
    return field.scene.living(blow.aim.pid, role) if blow.aim else []
