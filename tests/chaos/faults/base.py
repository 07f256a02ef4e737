"""What a fault is, and what it gets to work with."""

import random
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.history import History
from tests.chaos.place import Place
from tests.chaos.producers import Producers
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
    producers: Producers
    scene: Scene
    place: Place
    history: History
    random: random.Random
    #: What the start of a worker took at the beginning of the run: so busy is this machine.
    seconds_to_start: float = 0.0
    #: Moments of `tests.chaos.gates` that have been hit.
    seen: set[str] = field(default_factory=set)

    def a_supervisor(self) -> Identity | None:
        """Return one of those that live."""
        return next(iter(self.random.sample(found, 1)), None) if (found := self.workers.supervisors()) else None

    def pids(self, processes: Collection[Identity]) -> frozenset[int]:
        return frozenset(process.pid for process in processes)

    def mend(self) -> None:
        """Put in order what a fault left broken that raised: links, stopped processes, servers, workers, producers."""
        self.place.mend()
        self.workers.go_on()
        self.producers.go_on()
        self.workers.start_the_dead()
        self.producers.start_the_dead()


class Fault(ABC):
    """One kind of fault. `strike` returns when it is over: servers are up again, locks released, clocks right."""

    name: str
    #: How often it comes, beside others.
    weight: int = 1
    #: Seconds that it takes, about; a short run leaves the long ones out.
    seconds: float = 1.0
    #: Seconds within which every worker has to settle tasks again.
    healing: float = HEALING
    #: The SQLite database has to lie on a small disk of its own, see `place.SMALL_DISK`.
    small_disk: bool = False

    def fits(self, place: Place) -> bool:
        """Tell whether it is possible at this place."""
        return True

    def environment(self, place: Place, who: str) -> Mapping[str, str]:
        """Return the variables that the worker or the producers ("producers") called `who` have to be started with."""
        return {}

    def undo(self, field: Field) -> None:
        """Put in order what `Field.mend` does not know of. Called when `strike` raised."""

    @abstractmethod
    def strike(self, field: Field) -> Struck | None:
        """Do it, and return the proof; None if it found no victim or did not hit."""
