"""kill -9 at an exact moment: a process stops itself at a gate, is seen standing there, and then somebody is killed."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from tests.chaos import victims
from tests.chaos.faults.base import Fault, Field, Struck
from tests.chaos.faults.processes import SECONDS_TO_DRAIN, check_followers
from tests.chaos.faults.provocations import (
    Blow,
    Provoke,
    by_death_of_a_child,
    by_death_of_the_dispatcher,
    by_death_of_the_steward,
    by_death_of_the_worker,
    by_hup,
    by_term,
    living,
)
from tests.chaos.gates import Gates, Standing
from tests.chaos.place import Place
from tests.chaos.workers import ROLES
from tests.servers.processes import Identity

#: Seconds in which somebody comes to a gate, and in which the death of a child is answered.
PATIENCE, PATIENCE_WITH_A_CHILD = 8.0, 3.0
#: Seconds for a worker to be whole again before it is struck.
SECONDS_TO_BE_WHOLE: Final = 5.0

#: How many of each role a worker has.
CREW: Final = Counter(ROLES)

#: Victims that are not a role.
ITSELF: Final = "itself"
OTHER: Final = "the other one"
WORKER: Final = "worker"

#: Whose death ends all children of the worker.
FATAL: Final = ("dispatcher", "supervisor", WORKER)

#: Where a moment exists.
Where = Callable[[Place], bool]


def anywhere(_place: Place) -> bool:
    return True


def with_rabbitmq(place: Place) -> bool:
    return place.has_rabbitmq


def without_rabbitmq(place: Place) -> bool:
    return not place.has_rabbitmq


def where_a_claim_is_a_transaction(place: Place) -> bool:
    """PostgreSQL claims by one statement."""
    return not place.has_rabbitmq and place.database != "postgresql"


class Moment(Fault):
    """One gate and one victim. `provoke` brings a worker there; `elsewhere`: another worker than the provoked one."""

    def __init__(  # noqa: PLR0913 - a row of a table
        self,
        gate: str,
        victim: str = ITSELF,
        *,
        where: Where = anywhere,
        provoke: Provoke | None = None,
        elsewhere: bool = False,
        everywhere: bool = False,
    ) -> None:
        self.gate = gate
        self.victim = victim
        self.name = _name(gate, victim, provoke)
        self._where = where
        self._provoke = provoke
        self._elsewhere = elsewhere
        self._everywhere = everywhere
        self.seconds = 1.5 if provoke is None else 3.0

    def fits(self, place: Place) -> bool:
        return self._where(place)

    def strike(self, field: Field) -> Struck | None:
        gates = Gates(field.place.folder / "gates")
        try:
            return self._strike(field, gates)
        finally:
            gates.lift(self.gate)
            gates.close()

    def _strike(self, field: Field, gates: Gates) -> Struck | None:
        blow = Blow(since=time.monotonic())
        if self._provoke and not self._has_been_provoked(field, gates, blow):
            return self._end(field, blow, None, "")
        if not self._provoke:
            gates.arm(self.gate)
        is_by_child = self._provoke is by_death_of_a_child
        standing = gates.wait(self.gate, PATIENCE_WITH_A_CHILD if is_by_child else PATIENCE)
        if standing is None and is_by_child and by_death_of_a_child(field, blow):
            standing = gates.wait(self.gate, PATIENCE)  # the first one ran what is not tried again
        if standing is None:
            return self._end(field, blow, None, "")
        if not self._provoke:
            blow.since = standing.at
        chosen, family = self._victims(field, standing), self._family(standing)
        if not chosen or not victims.hold(chosen) or not victims.kill(chosen):
            victims.release(chosen)
            gates.lift(self.gate)
            return self._end(field, blow, None, "")
        blow.killed += chosen
        gates.lift(self.gate)
        check_followers(field, family)
        return self._end(field, blow, standing, _told(standing, self.victim, chosen))

    def _has_been_provoked(self, field: Field, gates: Gates, blow: Blow) -> bool:
        """Bring a worker to the gate. Armed before, as it may be passed at once."""
        blow.aim = a_whole_worker(field)
        if blow.aim is None or self._provoke is None:
            return False
        others = [other.pid for other in field.workers.supervisors() if other != blow.aim]
        target = others[0] if self._elsewhere and others else blow.aim.pid
        deadline = time.monotonic() + PATIENCE
        gates.arm(self.gate, worker=target)
        blow.since = time.monotonic()
        while not self._provoke(field, blow):
            if time.monotonic() > deadline or blow.killed:
                return False
            time.sleep(0.002)
        return True

    def _victims(self, field: Field, standing: Standing) -> list[Identity]:
        if self.victim == ITSELF:
            return [standing.process]
        if self.victim == OTHER:
            return [found] if (found := Identity.of(standing.other)) else []
        supervisor = Identity.of(standing.worker)
        if supervisor is None:
            return []
        if self.victim == "supervisor":
            return [supervisor]
        if self.victim == WORKER:
            return [supervisor, *supervisor.descendants()]
        field.scene.look()
        candidates = field.scene.living(supervisor.pid, self.victim)
        busy = field.scene.busy(candidates)
        return field.random.sample(busy or candidates, 1) if candidates else []

    def _family(self, standing: Standing) -> list[Identity]:
        """Return those who end with the victim."""
        supervisor = Identity.of(standing.worker)
        is_supervisor = self.victim == "supervisor" or (self.victim == ITSELF and standing.role == "supervisor")
        return supervisor.descendants() if supervisor and is_supervisor else []

    def _end(self, field: Field, blow: Blow, standing: Standing | None, proof: str) -> Struck | None:
        """Have all workers and producers run again, and return what was done."""
        _wait_for_the_asked(field, blow)
        field.workers.start_the_dead()
        field.producers.start_the_dead()
        ended = [blow.aim.pid] if blow.aim and blow.ends_worker else []
        if standing and _role_of(self.victim, standing) in FATAL:
            ended.append(standing.worker)
        struck = Struck(
            since=blow.since,
            until=time.monotonic(),
            victims=field.pids(blow.killed),
            workers=frozenset(ended),
            everywhere=self._everywhere,
            moment=self.gate,
            proof=proof,
        )
        if standing is None and struck.victims:
            _note_a_miss(field, struck)
        return struck if standing else None


def _note_a_miss(field: Field, struck: Struck) -> None:
    """What was killed on the way to a moment that was missed is a fault too, if not of this kind."""
    field.history.note(
        "fault",
        kind="on the way to a moment",
        since=struck.since,
        until=struck.until,
        victims=sorted(struck.victims),
        workers=sorted(struck.workers),
        everywhere=False,
        moment="",
        proof="",
    )


def _name(gate: str, victim: str, provoke: Provoke | None) -> str:
    again = " at a restart" if provoke is by_hup else ""
    return f"moment: {gate}{again}" + ("" if victim == ITSELF else f", {victim}")


def _role_of(victim: str, standing: Standing) -> str:
    """Return what died. The other one is a child, but where somebody deals with a new dispatcher or steward."""
    if victim == OTHER:
        return next((role for role in ("dispatcher", "steward") if role in standing.gate), "child")
    return standing.role if victim == ITSELF else victim


def _told(standing: Standing, victim: str, chosen: list[Identity]) -> str:
    more = f" and {len(standing.ids) - 3} more" if len(standing.ids) > 3 else ""
    tasks = f", concerned with {', '.join(standing.ids[:3])}{more}" if standing.ids else ""
    who = "it" if victim == ITSELF else f"{victim} ({', '.join(str(process.pid) for process in chosen)})"
    return f"{standing.role} {standing.process.pid} stood still there{tasks}; then {who} was killed"


def a_whole_worker(field: Field) -> Identity | None:
    """Return the supervisor of a worker that has all its processes, so that it can be brought to a moment."""
    deadline = time.monotonic() + SECONDS_TO_BE_WHOLE
    while time.monotonic() < deadline:
        field.scene.look()
        if (aim := field.a_supervisor()) and all(len(field.scene.living(aim.pid, role)) == CREW[role] for role in CREW):
            return aim
        time.sleep(0.01)
    return None


def _wait_for_the_asked(field: Field, blow: Blow) -> None:
    """Wait until a worker that was asked to end has ended, or one that was asked to begin anew has a new crew."""
    deadline = time.monotonic() + SECONDS_TO_DRAIN
    while blow.asked and blow.aim and blow.aim.is_alive() and time.monotonic() < deadline:
        dispatchers = living(field, blow, "dispatcher")
        if blow.asked == signal.SIGHUP and dispatchers and dispatchers[0] != blow.before:
            return
        time.sleep(0.01)
    if blow.asked == signal.SIGTERM and blow.aim and blow.aim.is_alive():
        field.history.note("left", what="process", text=f"{blow.aim.pid} has not ended after SIGTERM")


def _each(
    gate: str, *chosen: str, where: Where = anywhere, provoke: Provoke | None = None, everywhere: bool = False
) -> list[Moment]:
    return [Moment(gate, victim, where=where, provoke=provoke, everywhere=everywhere) for victim in chosen]


FAULTS = (
    # -- taking and handing over
    *_each("before claim", ITSELF, "supervisor"),
    *_each("claimed, not committed", ITSELF, WORKER, where=where_a_claim_is_a_transaction),
    *_each("after claim", ITSELF, "steward", WORKER),
    *_each("handed over", ITSELF, OTHER),
    # -- running and storing
    *_each("in user code", ITSELF, "dispatcher", "steward", "supervisor"),
    *_each("finished, not stored", ITSELF, "dispatcher", "steward"),
    *_each("stored, not committed", ITSELF, "dispatcher", where=without_rabbitmq),
    *_each("stored, not settled", ITSELF, "dispatcher", WORKER),
    *_each("retry stored, not settled", ITSELF, "dispatcher", WORKER),
    *_each("reported, not acked", ITSELF, WORKER, where=with_rabbitmq),
    *_each("retry reported, not acked", ITSELF, where=with_rabbitmq),
    *_each("acked", ITSELF, where=with_rabbitmq),
    *_each("parked, not answered", ITSELF, "dispatcher", where=with_rabbitmq),
    *_each("parked, not acked", ITSELF, "steward", where=with_rabbitmq),
    *_each("parked, not finished", ITSELF, "dispatcher", where=with_rabbitmq),
    # -- what waits in the database
    *_each("hook: locked, not published", ITSELF, where=with_rabbitmq),
    *_each("hook: published, not deleted", ITSELF, where=with_rabbitmq, everywhere=True),  # there are two copies now
    *_each("relay: claimed, not published", ITSELF, WORKER, where=with_rabbitmq),
    *_each("relay: published, not deleted", ITSELF, WORKER, where=with_rabbitmq, everywhere=True),
    *_each("promote: due, not promoted", ITSELF, where=without_rabbitmq),
    *_each("promote: promoted", ITSELF, where=without_rabbitmq),
    # -- rescue
    *_each("crash: decided, not counted", ITSELF, "dispatcher", WORKER, provoke=by_death_of_a_child),
    *_each("crash: counted, not answered", ITSELF, WORKER, provoke=by_death_of_a_child),
    *_each("suspect: examined, not answered", ITSELF, "dispatcher", provoke=by_death_of_the_dispatcher),
    *_each("suspect: marked, not answered", ITSELF, "dispatcher", provoke=by_death_of_the_dispatcher),
    *_each("suspect: marked, not started", ITSELF, provoke=by_death_of_the_dispatcher),
    *_each("retire: not committed", ITSELF, WORKER, provoke=by_death_of_the_dispatcher),
    Moment("take-over: not committed", provoke=by_death_of_the_worker, elsewhere=True),
    # -- processes that have just begun
    *_each("fork: child not announced", OTHER, "dispatcher", "supervisor", provoke=by_death_of_a_child),
    *_each("fork: child begins", ITSELF, "supervisor", provoke=by_death_of_a_child),
    *_each("fork: dispatcher not announced", OTHER, "steward", "supervisor", provoke=by_death_of_the_dispatcher),
    *_each("fork: dispatcher known, not enlisted", ITSELF, "dispatcher", provoke=by_death_of_the_dispatcher),
    *_each("fork: dispatcher enlisted", ITSELF, "dispatcher", WORKER, provoke=by_death_of_the_dispatcher),
    *_each("fork: steward not introduced", OTHER, "dispatcher", provoke=by_death_of_the_steward),
    # -- the end, and the new beginning
    *_each("shutdown: draining", ITSELF, "child", "steward", "supervisor", provoke=by_term),
    *_each("give back: before", ITSELF, "dispatcher", provoke=by_term, where=without_rabbitmq),
    *_each("give back: not answered", ITSELF, "supervisor", provoke=by_term, where=without_rabbitmq),
    *_each("give back: nacked", ITSELF, provoke=by_term, where=with_rabbitmq),
    *_each("shutdown: drained", ITSELF, "supervisor", provoke=by_term),
    *_each("shutdown: child dismissed", ITSELF, provoke=by_term),
    *_each("shutdown: signing off", ITSELF, "supervisor", provoke=by_term),
    *_each("shutdown: draining", ITSELF, "child", "steward", "supervisor", provoke=by_hup),
    *_each("shutdown: signing off", ITSELF, provoke=by_hup),
    *_each("shutdown: before exec", ITSELF, provoke=by_hup),
)
