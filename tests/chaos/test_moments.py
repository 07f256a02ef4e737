"""Gates stop whom they should, and every moment that matters has a fault."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos import faults, gates, points
from tests.chaos.faults import moments
from tests.chaos.faults.moments import Moment
from tests.chaos.gates import Gates, Standing
from tests.chaos.history import Event, Reader
from tests.chaos.place import PLACES, Place
from tests.helpers import eventually
from tests.servers.processes import Identity
from tests.shop.daemon import ROOT

GATE = "in user code"
#: Goes through a gate again and again, and writes a line each time.
PASSER = """
import os, sys, time
from pathlib import Path
from tests.chaos.gates import Gates
from tests.chaos.points import Point, gated

passed = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
line = f"{os.getpid()}\\n".encode()
point = Point(gate=sys.argv[3], owner=None, function="", look=lambda arguments, value: (arguments, 77))
go = gated(Gates(Path(sys.argv[2])), point, lambda task_id: os.write(passed, line))
while True:
    go("a-task")
    time.sleep(0.002)
"""

#: The moments that issue 5 names, and who is to be killed there.
DEMANDED = {
    "before claim": ["before claim"],
    "after claim": ["after claim", "after claim, worker"],
    "in user code": ["in user code", "in user code, dispatcher", "in user code, steward", "in user code, supervisor"],
    "result stored but not settled": [
        "stored, not settled",
        "stored, not settled, dispatcher",
        "reported, not acked",
        "reported, not acked, worker",
    ],
    "between a retry's store and its ack": [
        "retry stored, not settled",
        "retry stored, not settled, dispatcher",
        "retry reported, not acked",
    ],
    "relay between publish and delete": ["relay: published, not deleted", "relay: published, not deleted, worker"],
    "hook between publish and delete": ["hook: published, not deleted"],
    "during shutdown": [
        "shutdown: draining",
        "shutdown: draining, child",
        "shutdown: draining, steward",
        "shutdown: draining, supervisor",
        "shutdown: draining at a restart",
        "shutdown: draining at a restart, supervisor",
        "shutdown: before exec at a restart",
    ],
    "during re-fork": [
        "fork: child begins",
        "fork: child not announced, the other one",
        "fork: dispatcher not announced, the other one",
        "fork: dispatcher not announced, supervisor",
        "fork: dispatcher known, not enlisted, dispatcher",
        "fork: dispatcher enlisted",
    ],
    "a crash decided and not counted": ["crash: decided, not counted", "crash: decided, not counted, worker"],
    "take-over of a lost worker": ["take-over: not committed", "retire: not committed"],
    "parking": ["parked, not answered", "parked, not acked"],
    "giving back": ["give back: before", "give back: not answered", "give back: nacked"],
    "promote": ["promote: due, not promoted", "promote: promoted"],
}


class Passers:
    """Processes that go through one gate all the time."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.history = folder / "history"
        self._reader = Reader(self.history)
        self.gates = Gates(gates.beside(self.history))
        self._passed = folder / "passed"
        self._passed.touch()
        self._stack = stack
        stack.callback(self.gates.close)
        self.pids = {self._start() for _ in range(4)}
        self.have_passed_again()

    def noted(self) -> list[Event]:
        """Return what was noted since somebody asked."""
        return self._reader.news()

    def _start(self) -> int:
        command = [sys.executable, "-c", PASSER, str(self._passed), str(gates.beside(self.history)), GATE]
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "CHAOS_HISTORY": str(self.history)})
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process.pid

    def have_passed_again(self, *, but: int = 0) -> None:
        """Wait until each has passed several times from now on."""
        before, wanted = self._counts(), self.pids - {but}
        eventually(lambda: all(self._counts()[pid] > before[pid] + 5 for pid in wanted), 20)

    def _counts(self) -> Counter[int]:
        return Counter(int(line) for line in self._passed.read_text().splitlines())

    def stands(self) -> Standing:
        """Return who stands at the gate, which somebody has to reach."""
        found = self.gates.wait(GATE, 5)
        assert found
        return found


@pytest.fixture(scope="module")
def passing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Passers]:
    with ExitStack() as stack:
        yield Passers(tmp_path_factory.mktemp("passers"), stack)


@pytest.fixture
def passers(passing: Passers) -> Iterator[Passers]:
    passing.noted()
    yield passing
    passing.gates.lift(GATE)


def state(process: Identity) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


# -- gates


def test_an_armed_gate_stops_one_process_once(passers: Passers) -> None:
    passers.gates.arm(GATE)

    standing = passers.stands()
    passers.have_passed_again(but=standing.process.pid)

    assert state(standing.process) == "T"
    assert (standing.role, standing.worker, standing.ids, standing.other) == ("child", os.getpid(), ("a-task",), 77)

    passers.gates.lift(GATE)
    passers.have_passed_again()

    (event,) = passers.noted()
    assert (event["event"], event["gate"], event["pid"]) == ("at_gate", GATE, standing.process.pid)


def test_who_is_killed_at_a_gate_is_the_only_one_that_was_there(passers: Passers) -> None:
    passers.gates.arm(GATE)
    standing = passers.stands()

    standing.process.send(signal.SIGKILL)
    eventually(lambda: not standing.process.is_alive())
    passers.pids.remove(standing.process.pid)
    passers.gates.lift(GATE)
    passers.have_passed_again()

    assert len(passers.noted()) == 1


def test_a_gate_can_be_armed_again(passers: Passers) -> None:
    for _ in range(3):
        passers.gates.arm(GATE)
        passers.stands()
        passers.gates.lift(GATE)

    passers.have_passed_again()
    assert len(passers.noted()) == 3


def test_a_gate_for_one_worker_lets_others_pass(passers: Passers) -> None:
    passers.gates.arm(GATE, worker=1)

    passers.have_passed_again()

    assert passers.gates.who_stands_at(GATE) is None
    assert not passers.noted()

    passers.gates.arm(GATE, worker=os.getpid())
    assert passers.stands().process.pid in passers.pids


def test_gates_that_are_not_armed_note_nothing(passers: Passers) -> None:
    passers.gates.arm("after claim")
    passers.have_passed_again()
    passers.gates.lift("after claim")
    passers.have_passed_again()

    assert not passers.noted()


def test_the_injector_never_stops_at_its_own_gate(tmp_path: Path) -> None:
    mine = Gates(tmp_path / "gates")
    mine.arm(GATE)

    assert not mine._wins(GATE, 0, os.getpid())  # whoever wins stops, and nobody would be left to fail here

    mine.lift(GATE)
    mine.close()


def test_a_gate_that_is_not_armed_does_not_even_look(tmp_path: Path) -> None:
    def look(_arguments: Sequence[Any], _value: Any) -> points.Seen:
        pytest.fail("nobody armed this gate")

    mine = Gates(tmp_path / "gates")
    for is_after in (True, False):
        assert points.gated(mine, _point(look, is_after=is_after), lambda: "done")() == "done"
    mine.close()


@pytest.mark.parametrize(("is_after", "seen"), [(True, ["act", "look at done"]), (False, ["look at None", "act"])])
def test_a_gate_stands_before_or_after_what_it_is_of(tmp_path: Path, *, is_after: bool, seen: list[str]) -> None:
    found: list[str] = []

    def look(_arguments: Sequence[Any], value: Any) -> None:
        found.append(f"look at {value}")

    def act() -> str:
        found.append("act")
        return "done"

    mine = Gates(tmp_path / "gates")
    mine.arm(GATE)
    points.gated(mine, _point(look, is_after=is_after), act)()
    mine.lift(GATE)
    mine.close()

    assert found == seen


def test_a_gate_within_another_function_is_for_its_calls_only(tmp_path: Path) -> None:
    looks: list[str] = []

    def look(arguments: Sequence[Any], _value: Any) -> None:
        looks.append(arguments[0])

    mine = Gates(tmp_path / "gates")
    mine.arm(GATE)
    inner = points.gated(mine, _point(look, inside="relay"), lambda name: name)
    points.surrounding("relay", inner)("from the relay")
    points.surrounding("hook", inner)("from elsewhere")
    inner("from nowhere")
    mine.lift(GATE)
    mine.close()

    assert looks == ["from the relay"]


def _point(
    look: Callable[[Sequence[Any], Any], points.Seen], *, is_after: bool = False, inside: str = ""
) -> points.Point:
    return points.Point(gate=GATE, owner=None, function="", look=look, is_after=is_after, inside=inside)


# -- moments


def a_field(passers: Passers) -> Any:
    """Return what a fault works with, where the passers are all there is."""
    crowd = SimpleNamespace(start_the_dead=lambda: None)
    place = SimpleNamespace(folder=passers.history.parent)
    return SimpleNamespace(
        workers=crowd, producers=crowd, place=place, pids=lambda found: frozenset(one.pid for one in found)
    )


def test_a_moment_kills_who_stands_there_and_says_so(passers: Passers) -> None:
    struck = Moment(GATE).strike(a_field(passers))

    assert struck
    (victim,) = struck.victims
    passers.pids.remove(victim)
    passers.have_passed_again()
    (event,) = passers.noted()
    assert (event["pid"], struck.workers) == (victim, frozenset())
    assert event["at"] == struck.since < struck.until
    assert str(victim) in struck.proof
    assert "a-task" in struck.proof


def test_a_moment_that_nobody_comes_to_is_missed_and_leaves_no_gate_armed(
    passers: Passers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "PATIENCE", 0.05)

    assert Moment("after claim").strike(a_field(passers)) is None

    assert not any(passers.gates.page[:])
    assert not list(passers.history.parent.glob("*.armed"))
    passers.have_passed_again()


@pytest.mark.parametrize("moment", DEMANDED)
def test_every_moment_that_was_demanded_has_its_faults(moment: str) -> None:
    assert not {f"moment: {name}" for name in DEMANDED[moment]} - set(faults.ALL)


def test_every_gate_has_a_point_in_the_product_and_a_fault() -> None:
    assert {point.gate for point in points.POINTS} == set(gates.ROLES)
    assert {fault.gate for fault in faults.ALL.values() if isinstance(fault, Moment)} == set(gates.ROLES)


@pytest.mark.parametrize("point", points.POINTS, ids=lambda point: f"{point.gate} {point.function}")
def test_every_point_is_a_function_of_the_product(point: points.Point) -> None:
    assert callable(getattr(point.owner, point.function))
    assert point.inside in {"", *(name for name, _, _ in points.SURROUNDINGS)}


def test_every_fault_fits_somewhere(tmp_path: Path) -> None:
    places = [
        Place(name=name, kind=kind, folder=tmp_path, servers=dict.fromkeys(kind.servers))
        for name, kind in PLACES.items()
    ]
    assert not [name for name, fault in faults.ALL.items() if not any(fault.fits(place) for place in places)]
