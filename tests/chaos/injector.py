"""The injector: strikes with one fault after another, notes what hit, and how long the workers took to heal."""

import time
from collections.abc import Iterator, Sequence
from typing import Final

from tests.chaos.faults.base import Fault, Field

#: Seconds between two faults.
SHORTEST: Final = 0.2
LONGEST: Final = 1.2
#: How often the next fault does not wait until the workers have healed from the last one.
HASTE: Final = 0.3


class Injector:
    """Strikes until its time is up. Every kind hits once before chance decides."""

    def __init__(self, field: Field, faults: Sequence[Fault]) -> None:
        self._field = field
        self._faults = list(faults)
        self._sequence = self._in_turn()
        self._strikes = 0
        self._hit: set[str] = set()

    def run(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._strike(next(self._sequence))
            time.sleep(self._field.random.uniform(SHORTEST, LONGEST))
        if self._strikes >= len(self._faults):
            for name in sorted({fault.name for fault in self._faults} - self._hit):
                self._field.history.note("left", what="fault", text=f"no fault of kind {name!r} has hit")

    def _in_turn(self) -> Iterator[Fault]:
        """Yield each kind once, then those again that found no victim (a worker was just starting), then any."""
        choose = self._field.random
        yield from choose.sample(self._faults, len(self._faults))
        while True:
            missed = [fault for fault in self._faults if fault.name not in self._hit]
            yield missed[0] if missed else choose.choices(self._faults, [fault.weight for fault in self._faults])[0]

    def _strike(self, fault: Fault) -> None:
        self._strikes += 1
        began = time.monotonic()
        struck = fault.strike(self._field)
        if struck is None:
            self._field.history.note("missed", kind=fault.name, since=began)
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

    def _wait_until_healed(self, fault: Fault, since: float) -> None:
        """Note how long it took until every worker settled tasks again; `left` if that was too long."""
        scene = self._field.scene
        deadline = time.monotonic() + fault.healing
        while time.monotonic() < deadline:
            scene.look()
            ill = [one for one in self._field.workers.supervisors() if scene.settled_at(one.pid) <= since]
            if not ill and self._are_all_there():
                took = max(scene.settled_at(one.pid) for one in self._field.workers.supervisors()) - since
                self._field.history.note("healed", kind=fault.name, seconds=took)
                return
            time.sleep(0.01)
        self._field.history.note("left", what="healing", text=f"{fault.name}: not healed after {fault.healing:g} s")

    def _are_all_there(self) -> bool:
        return len(self._field.workers.supervisors()) == len(self._field.workers.daemons)
