"""The injector: strikes with one fault after another, notes what hit, and how long the workers took to heal."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from django.db import connections

from tests.chaos.faults.base import Fault, Field, Struck

#: Seconds between two faults.
SHORTEST: Final = 0.2
LONGEST: Final = 1.2
#: How often the next fault does not wait until the workers have healed from the last one.
HASTE: Final = 0.3
#: Seconds of load after the last fault.
LAST_SECONDS: Final = 3.0
#: A kind that was tried so often without a hit is a defect of its own.
CHANCES: Final = 3


class Injector:
    """Strikes until its time is up.

    Every kind comes once before chance decides: those first that have hit least often elsewhere, for their weight, as
    `hits` has it; among equals the heavy ones tend to come first.
    """

    def __init__(self, field: Field, faults: Sequence[Fault], hits: Mapping[str, int] | None = None) -> None:
        self._field = field
        self._faults = list(faults)
        self._hits = hits or {}
        self._turn = self._first_turn()
        self._tries: Counter[str] = Counter()
        self._hit: set[str] = set()

    def run(self, seconds: float) -> None:
        """Strike for so many seconds; return when the workers have healed from the last fault."""
        deadline = time.monotonic() + seconds
        while fault := self._next(deadline - time.monotonic() - LAST_SECONDS):
            self._strike(fault)
            time.sleep(self._field.random.uniform(SHORTEST, LONGEST))
        time.sleep(max(deadline - time.monotonic(), 0))
        for name, tries in sorted(self._tries.items()):
            if tries >= CHANCES and name not in self._hit:
                self._leave("fault", f"no fault of kind {name!r} has hit in {tries} tries")

    def _first_turn(self) -> Iterator[Fault]:
        """Yield each kind once: drawn without putting back, by weight, and the seldom ones first."""
        draw = self._field.random.random
        drawn = sorted(self._faults, key=lambda fault: draw() ** (1 / fault.weight), reverse=True)
        yield from sorted(drawn, key=lambda fault: self._hits.get(fault.name, 0) // fault.weight)

    def _next(self, seconds: float) -> Fault | None:
        """Return a fault that is over within so many seconds, None if there is none."""
        fitting = [fault for fault in self._faults if fault.seconds <= seconds]
        if not fitting:
            return None
        for fault in self._turn:
            if fault in fitting:
                return fault
        missed = [one for one in fitting if one.name not in self._hit and self._tries[one.name] < CHANCES]
        return missed[0] if missed else self._field.random.choices(fitting, [fault.weight for fault in fitting])[0]

    def _strike(self, fault: Fault) -> None:
        began = time.monotonic()
        struck = self._attempt(fault, began)
        if struck is None:
            return
        self._hit.add(fault.name)
        self._field.history.note(
            "fault",
            kind=fault.name,
            since=struck.since,
            until=struck.until,
            victims=sorted(struck.victims),
            workers=sorted(struck.workers),
            everywhere=struck.everywhere,
            moment=struck.moment,
            proof=struck.proof,
        )
        if self._field.random.random() >= HASTE:
            self._wait_until_healed(fault, struck.until)

    def _attempt(self, fault: Fault, began: float) -> Struck | None:
        """Strike. One that raises is noted and cleaned up, and others go on; the run has failed by then."""
        self._tries[fault.name] += 1
        connections.close_all()  # the one before may have ended them: what a fault asks of Django begins anew
        try:
            struck = fault.strike(self._field)
        except Exception as error:  # noqa: BLE001 - whatever it is, servers and processes must not stay broken
            reason = f"{type(error).__name__}: {error}"
            self._leave("fault", f"{fault.name} raised {reason}")
            self._field.history.note("missed", kind=fault.name, since=began, error=reason)
            fault.undo(self._field)
            self._field.mend()
            return None
        if struck is None:
            self._field.history.note("missed", kind=fault.name, since=began)
        return struck

    def _wait_until_healed(self, fault: Fault, since: float) -> None:
        """Note how long it took until every worker settled tasks again; `left` if that was too long.

        A worker that was killed as a whole is started by us: what a start takes on this machine comes on top.
        """
        scene = self._field.scene
        deadline = since + fault.healing + self._field.seconds_to_start
        while True:
            scene.look()
            supervisors = self._field.workers.supervisors()
            moments = [scene.settled_at(supervisor.pid) for supervisor in supervisors]
            if len(moments) == len(self._field.workers.daemons) and min(moments) > since:
                self._field.history.note("healed", kind=fault.name, seconds=max(moments) - since)
                return
            if time.monotonic() >= deadline:
                break
            time.sleep(0.01)
        self._leave("healing", f"{fault.name}: not healed after {deadline - since:.1f} s")

    def _leave(self, what: str, text: str) -> None:
        self._field.history.note("left", what=what, text=text)
