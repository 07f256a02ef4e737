"""Links are cut, stalled, half-open, deaf or slow. A link is what one worker, or the producers, has to one server."""

import time
from typing import ClassVar

from tests.chaos.faults.base import Fault, Field, Struck
from tests.chaos.place import Place
from tests.chaos.workers import NAMES
from tests.proxy import Proxy
from tests.servers.processes import Identity

#: Seconds within which a worker has to work over new connections when its link is half-open.
HALF_OPEN = 30.0
#: Seconds for clients to come back, when nothing hinders them.
PATIENCE = 8.0
#: Cuts in one burst.
BURST = 10
#: Seconds to wait for an answer that can be lost.
DEAF = 3.0


class LinkFault(Fault):
    """Concerns the links of one worker to the broker, or to the database."""

    victim: ClassVar[str]

    def fits(self, place: Place) -> bool:
        return place.has_rabbitmq if self.victim == "rabbitmq" else place.database != "sqlite"

    def links(self, field: Field, who: str = "") -> list[Proxy]:
        server = "rabbitmq" if self.victim == "rabbitmq" else field.place.database
        return field.place.relays_of(server, who)

    def strike(self, field: Field) -> Struck | None:
        aim = field.a_supervisor()
        if aim is None:
            return None
        since = time.monotonic()
        (link,) = self.links(field, field.workers.name_of(aim.pid))
        proof = self.trouble(field, link, aim)
        if not proof:
            return None
        return Struck(since=since, until=time.monotonic(), workers=frozenset({aim.pid}), proof=proof)

    def trouble(self, field: Field, link: Proxy, aim: Identity) -> str:
        """Make it, end it, and return what was seen; "" if it did not hit."""
        raise NotImplementedError


def came_back(links: list[Proxy], before: int) -> int:
    """Return how many connections have been made anew, as soon as there is one or some seconds have passed."""
    deadline = time.monotonic() + PATIENCE
    while not (new := sum(link.accepted for link in links) - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    return new


# -- cut


class Cut(LinkFault):
    weight = 3

    def trouble(self, field: Field, link: Proxy, aim: Identity) -> str:
        before = link.accepted
        clients = link.cut()
        return f"{clients} connections cut, {came_back([link], before)} made anew" if clients else ""


class BrokerCut(Cut):
    name = "broker link cut"
    victim = "rabbitmq"


class DatabaseCut(Cut):
    name = "database link cut"
    victim = "database"


class AllCut(Fault):
    """All links of everybody at once."""

    name = "all links cut"
    weight = 2

    def fits(self, place: Place) -> bool:
        return bool(place.kind.servers)

    def strike(self, field: Field) -> Struck | None:
        links = list(field.place.relays.values())
        before = sum(link.accepted for link in links)
        since = time.monotonic()
        clients = sum(link.cut() for link in links)
        if not clients:
            return None
        proof = f"{clients} connections of {len(links)} links cut, {came_back(links, before)} made anew"
        return Struck(since=since, until=time.monotonic(), everywhere=True, proof=proof)


class BurstOfCuts(AllCut):
    """One link after the other, again and again, while everybody is still connecting."""

    name = "burst of cuts"
    seconds = 4.0
    weight = 3

    def strike(self, field: Field) -> Struck | None:
        links = list(field.place.relays.values())
        since = time.monotonic()
        cuts = clients = 0
        while cuts < BURST and time.monotonic() < since + PATIENCE:
            time.sleep(field.random.uniform(0.05, 0.5))
            if cut := field.random.choice(links).cut():
                cuts, clients = cuts + 1, clients + cut
        if not cuts:
            return None
        proof = f"{cuts} cuts ended {clients} connections"
        return Struck(since=since, until=time.monotonic(), everywhere=True, proof=proof)


# -- half-open


class HalfOpen(LinkFault):
    """The connections that there are lead nowhere, and neither end is told; new ones are served.

    It is over when the worker has left those that it has used and settles tasks over new ones, or when it should have
    done so. Only then does the server learn that the old ones are gone.
    """

    seconds = 28.0
    healing = HALF_OPEN

    def trouble(self, field: Field, link: Proxy, aim: Identity) -> str:
        before, mute = link.accepted, link.swallowed
        frozen = link.freeze()
        try:
            time.sleep(1.0)  # for everybody to use what leads nowhere
            took = 1.0 + _seconds_until_it_works_anew(field, link, aim, before)
        finally:
            held = link.bury()
        if not frozen:
            return ""
        if took > HALF_OPEN:
            text = f"{self.name}: worker {aim.pid} does not work over new connections after {HALF_OPEN:g} s"
            field.history.note("left", what="healing", text=text)
        lost = f"{link.swallowed - mute} bytes were lost on {frozen} connections"
        return f"{lost}; the worker works over new ones after {took:.1f} s, {held} unused ones still held"


def _seconds_until_it_works_anew(field: Field, link: Proxy, aim: Identity, accepted: int) -> float:
    """Wait until nobody waits for an answer over an old connection, and the worker settles a task over new ones."""
    began = time.monotonic()
    free_at = 0.0
    while (passed := time.monotonic() - began) <= HALF_OPEN and aim.is_alive():
        field.scene.look()
        if link.accepted == accepted or link.waiting:
            free_at = 0.0
        elif not free_at:
            free_at = time.monotonic()
        elif field.scene.settled_at(aim.pid) > free_at:
            break
        time.sleep(0.02)
    return passed


class BrokerHalfOpen(HalfOpen):
    name = "broker link half-open"
    victim = "rabbitmq"


class DatabaseHalfOpen(HalfOpen):
    name = "database link half-open"
    victim = "database"


# -- stalled


class Stalled(LinkFault):
    """Nothing passes either way for longer than it takes to notice; then everything does, old things too."""

    shortest, longest = 24.0, 28.0
    seconds = 27.0
    healing = HALF_OPEN

    def trouble(self, field: Field, link: Proxy, aim: Identity) -> str:
        connections = link.connections
        if not connections:
            return ""
        link.stall()
        try:
            time.sleep(0.5)
            before, began = link.passed, time.monotonic()
            time.sleep(field.random.uniform(self.shortest, self.longest))
            passed, seconds = link.passed - before, time.monotonic() - began
        finally:
            link.resume()
        if passed:
            raise RuntimeError(f"the relay is stalled, and passed {passed} bytes on.")
        return f"not a byte passed on {connections} connections for {seconds:.1f} s"


class BrokerStalled(Stalled):
    name = "broker link stalled"
    victim = "rabbitmq"


class DatabaseStalled(Stalled):
    name = "database link stalled"
    victim = "database"


# -- deaf, slow


class Deaf(LinkFault):
    """What the server answers is lost, then the link: what was asked for happened, and nobody was told."""

    weight = 3
    seconds = 1.5

    def trouble(self, field: Field, link: Proxy, aim: Identity) -> str:
        before, deadline = link.swallowed, time.monotonic() + DEAF
        link.is_deaf = True
        try:
            while link.swallowed == before and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(field.random.choice((0, field.random.uniform(0, 1))))
        finally:
            if swallowed := link.swallowed - before:  # else nothing has happened yet
                link.cut()
            link.is_deaf = False
        return f"{swallowed} bytes of answers were lost" if swallowed else ""


class BrokerDeaf(Deaf):
    name = "broker link deaf"
    victim = "rabbitmq"


class DatabaseDeaf(Deaf):
    name = "database link deaf"
    victim = "database"


class Slow(LinkFault):
    """It takes long until anything arrives. Excuses no second execution."""

    seconds = 5.0

    def strike(self, field: Field) -> Struck | None:
        links = [link for name in NAMES for link in self.links(field, name)]
        delay = field.random.uniform(0.05, 0.3)
        since, before = time.monotonic(), sum(link.delayed for link in links)
        try:
            for link in links:
                link.delay = delay
            time.sleep(field.random.uniform(3, 6))
        finally:
            for link in links:
                link.delay = 0.0
        pieces = sum(link.delayed for link in links) - before
        if not pieces:
            return None
        return Struck(since=since, until=time.monotonic(), proof=f"{pieces} pieces came {delay * 1000:.0f} ms late")


class BrokerSlow(Slow):
    name = "broker link slow"
    victim = "rabbitmq"


class DatabaseSlow(Slow):
    name = "database link slow"
    victim = "database"


FAULTS = (
    BrokerCut(),
    DatabaseCut(),
    AllCut(),
    BurstOfCuts(),
    BrokerHalfOpen(),
    DatabaseHalfOpen(),
    BrokerStalled(),
    DatabaseStalled(),
    BrokerDeaf(),
    DatabaseDeaf(),
    BrokerSlow(),
    DatabaseSlow(),
)
