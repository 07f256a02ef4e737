"""What a fault is, and what it gets to work with."""

import random
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import ClassVar, Final

from tests.chaos.history import History
from tests.chaos.place import Place
from tests.chaos.scene import Scene
from tests.chaos.workers import Workers
from tests.servers.processes import Identity

#: Seconds within which a worker settles tasks again when a fault is over.
HEALING: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck:
    """A fault that hit, for certain. Moments are the machine's monotonic clock."""

    #: From when on it could have had an effect, and when it was over.
    since: float
    until: float
    #: The processes that it killed, stopped or cut off.
    victims: frozenset[int] = frozenset()
    #: The supervisors of the workers all of whose children end by it, or lose what they hold.
    workers: frozenset[int] = frozenset()
    #: It hit all workers.
    everywhere: bool = False
    #: What the victim was doing.
    moment: str = ""
    #: What was seen that proves the hit.
    proof: str = ""


@dataclass(slots=True, kw_only=True)
class Field:
    """What a fault may look at and lay hands on."""

    workers: Workers
    scene: Scene
    place: Place
    history: History
    random: random.Random
    #: Moments of `tests.chaos.gates` that have been hit.
    seen: set[str] = field(default_factory=set)

    def a_supervisor(self) -> Identity | None:
        """Return one of those that live."""
        return next(iter(self.random.sample(found, 1)), None) if (found := self.workers.supervisors()) else None

    def pids(self, processes: Collection[Identity]) -> frozenset[int]:
        return frozenset(process.pid for process in processes)


class Fault(ABC):
    """One kind of fault. `strike` returns when it is over: servers are up again, locks released, clocks right."""

    name: ClassVar[str]
    #: How often it comes, beside others.
    weight: ClassVar[int] = 1
    #: Seconds that it takes, about; a short run leaves the long ones out.
    seconds: ClassVar[float] = 1.0
    #: Seconds within which every worker has to settle tasks again.
    healing: ClassVar[float] = HEALING

    def fits(self, place: Place) -> bool:
        """Tell whether it is possible at this place."""
        return True

    @abstractmethod
    def strike(self, field: Field) -> Struck | None:
        """Do it, and return the proof; None if it found no victim or did not hit."""
