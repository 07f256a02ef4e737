"""The engine without servers: the order of faults, parts and seeds of the long form, going on, and the sums."""

import dataclasses
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.chaos import __main__ as command_line
from tests.chaos import brake, checker, history, injector, report, summary
from tests.chaos.faults.base import Fault, Field, Struck
from tests.chaos.history import Event, History
from tests.chaos.injector import Injector
from tests.chaos.leftovers import Figures, Leftovers
from tests.chaos.long import CRASHES, Goal, LongForm, Shelf
from tests.chaos.scene import Scene
from tests.servers.processes import Identity

#: For arguments that are not looked at.
UNUSED: list[Any] = [None, None, None]

GOAL = Goal(places=("sqlite", "postgresql"), tasks=1000, faults=20, seed="7")


def a_part(place: str = "sqlite", tasks: int = 100, **others: Any) -> report.Part:
    nothing: dict[str, Any] = dict.fromkeys((*summary.COUNTS, "seconds"), 0)
    return {
        "place": place,
        "seed": f"7-{place}-1",
        "passed": True,
        **nothing,
        **{name: {} for name in summary.COUNTERS},
        "tasks": tasks,
        "faults": {"child": 5},
        "healed": {},
        "versions": {"Python": "3.11"},
        **others,
    }


class Sketch(Fault):
    """Hits, misses or raises, as often as it is asked."""

    def __init__(self, name: str, does: str = "hit", *, weight: int = 1, seconds: float = 0.0) -> None:
        self.name, self.does, self.weight, self.seconds = name, does, weight, seconds
        self.strikes = 0
        self.undone = 0

    def strike(self, field: Field) -> Struck | None:
        self.strikes += 1
        if self.does == "raise":
            raise RuntimeError("the server did not come back")
        return Struck(since=0.0, until=0.0) if self.does == "hit" else None

    def undo(self, field: Field) -> None:
        self.undone += 1


@pytest.fixture
def field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(injector, "SHORTEST", 0.0)
    monkeypatch.setattr(injector, "LONGEST", 0.001)
    monkeypatch.setattr(injector, "LAST_SECONDS", 0.0)
    monkeypatch.setattr(injector, "HASTE", 1.0)
    path = tmp_path / "history"
    grounds = SimpleNamespace(mended=0)
    grounds.mend = lambda: setattr(grounds, "mended", grounds.mended + 1)
    return SimpleNamespace(
        history=History(path), random=random.Random(1), path=path, mend=grounds.mend, grounds=grounds
    )


def events(field: Any, name: str) -> list[Event]:
    return [event for event in history.read(field.path) if event["event"] == name]


def run_with(field: Any, *faults: Sketch, seconds: float = 0.2) -> None:
    Injector(field, faults).run(seconds)


class TestTheInjector:
    def test_every_kind_comes_once_before_chance_decides(self, field: Any) -> None:
        faults = [Sketch(f"kind {number}") for number in range(9)]

        run_with(field, *faults)

        kinds = [event["kind"] for event in events(field, "fault")]
        assert sorted(kinds[:9]) == [fault.name for fault in faults]

    def test_the_same_seed_gives_the_same_order(self, field: Any) -> None:
        faults = [Sketch(f"kind {number}", weight=number + 1) for number in range(9)]

        orders = []
        for _ in range(2):
            field.random.seed(1)
            orders.append([fault.name for fault in Injector(field, faults)._first_turn()])

        assert orders[0] == orders[1]

    def test_kinds_that_have_hit_least_often_elsewhere_come_first(self, field: Any) -> None:
        faults = [Sketch("heavy", weight=4), Sketch("often"), Sketch("seldom"), Sketch("never")]

        turn = Injector(field, faults, {"heavy": 7, "often": 3, "seldom": 2})._first_turn()

        assert [fault.name for fault in turn] == ["never", "heavy", "seldom", "often"]

    def test_a_kind_that_never_hits_has_several_chances_before_it_is_a_defect(self, field: Any) -> None:
        never, once = Sketch("never", "miss"), Sketch("once")

        run_with(field, never, once)

        assert never.strikes >= injector.CHANCES
        assert [event["text"] for event in events(field, "left")] == [
            f"no fault of kind 'never' has hit in {never.strikes} tries"
        ]

    def test_one_that_raises_is_noted_and_mended_and_the_others_go_on(self, field: Any) -> None:
        broken, good = Sketch("broken", "raise"), Sketch("good")

        run_with(field, broken, good)

        assert events(field, "left")[0]["text"] == "broken raised RuntimeError: the server did not come back"
        assert events(field, "missed")[0]["error"] == "RuntimeError: the server did not come back"
        assert broken.undone == field.grounds.mended == broken.strikes
        assert good.strikes > 0

    def test_one_that_would_not_be_over_in_time_is_not_begun(self, field: Any) -> None:
        long = Sketch("long", seconds=60.0)

        run_with(field, long, Sketch("short"))

        assert long.strikes == 0
        assert events(field, "left") == []


class TestTheScene:
    def test_it_waits_only_for_what_will_leave_a_result(self, tmp_path: Path) -> None:
        scene, notes = Scene(tmp_path / "history"), History(tmp_path / "history")

        notes.note("confirmed", pairs=[["id-1", "t-1"]])
        notes.note("confirmed", pairs=[["id-2", "t-2"]], awaited=False)
        notes.note("started", id="id-3", token="t-3", pid=1, worker=1)
        scene.look()

        assert scene.confirmed == {"id-1"}
        assert scene.named == {"id-1", "id-2", "id-3"}

    def test_a_line_that_is_still_being_written_is_read_later(self, tmp_path: Path) -> None:
        scene, path = Scene(tmp_path / "history"), tmp_path / "history"

        path.write_text('{"at":1.0,"event":"fault","kind":"child"}\n{"at":2.0,"eve')
        scene.look()
        with path.open("a") as file:
            file.write('nt":"missed","kind":"child"}\n')
        scene.look()

        assert [event["event"] for event in scene.chronicle] == ["fault", "missed"]


class TestTheBrake:
    def test_producers_pause_while_too_much_waits(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(brake, "MOST", 2)
        monkeypatch.setattr(brake, "FEWEST", 1)
        monkeypatch.setenv("CHAOS_HISTORY", str(tmp_path / "history"))
        notes, follower = History(tmp_path / "history"), brake.Brake(tmp_path / "history")

        notes.note("settled", id="id-1", state="DONE")
        notes.note("confirmed", pairs=[[f"id-{number}", f"t-{number}"] for number in (1, 2, 3)])
        notes.note("confirmed", pairs=[["id-8", "t-8"], ["id-9", "t-9"]], awaited=False)
        follower.look()
        assert not brake.is_on()

        notes.note("confirmed", pairs=[["id-4", "t-4"]])
        follower.look()
        assert brake.is_on()

        notes.note("settled", id="id-2", state="RETRY")
        notes.note("settled", id="id-3", state="FAILURE")
        follower.look()
        assert brake.is_on()

        notes.note("settled", id="id-2", state="DONE")
        notes.note("settled", id="id-4", state="DONE")
        follower.look()
        assert not brake.is_on()

    def test_it_is_off_afterwards(self, tmp_path: Path) -> None:
        with brake.Brake(tmp_path / "history"):
            brake.file_beside(tmp_path / "history").touch()

        assert list(tmp_path.iterdir()) == []


class TestLeftovers:
    def test_by_what_a_supervisor_watches_its_processes_counts_for_no_fork(self) -> None:
        me = Identity.of(os.getpid())
        assert me is not None
        before = Figures.of(me, is_fork=True), Figures.of(me, is_fork=False)

        ends = [*os.pipe(), os.pidfd_open(me.pid)]
        after = Figures.of(me, is_fork=True), Figures.of(me, is_fork=False)
        for end in ends:
            os.close(end)

        grown = [now.descriptors - then.descriptors for then, now in zip(before, after, strict=True) if now and then]
        assert grown == [0, 3]

    def test_a_process_that_is_gone_holds_nothing(self) -> None:
        assert Figures.of(Identity(os.getpid(), 0), is_fork=False) is None

    def test_what_a_process_holds_more_than_its_role_did_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        leftovers = Leftovers(*UNUSED)
        leftovers._usual = {"child": [Figures(10, 2, 50_000), Figures(11, 2, 40_000)]}
        process = SimpleNamespace(pid=5)
        now = [(process, Figures(15, 3, 50_100)), (process, Figures(14, 3, 50_100))]
        monkeypatch.setattr(leftovers, "_by_role", lambda: {"child": now, "unknown": now})

        found = list(leftovers._growth_now())

        assert found == [("descriptors", "child 5 has 15, at the beginning 11")]


class TestAPart:
    def test_it_keeps_what_the_summary_needs(self) -> None:
        begun: list[Event] = [
            {"at": 0.0, "event": "asked", "tokens": ["t", "u"], "route": "delay", "kind": "work", "attempts": 1},
            {"at": 0.1, "event": "confirmed", "pairs": [["id-t", "t"], ["id-u", "u"]]},
            {"at": 0.2, "event": "healed", "kind": "child", "seconds": 0.51234},
        ]
        chronicle: list[Event] = [
            {"event": "missed", "kind": "steward"},
            {"event": "dead", "id": "id-v"},
        ]

        part = report.part(
            checker.check(begun), chronicle, {"place": "sqlite", "seed": "1", "seconds": 3.0, "mutant": ""}
        )

        assert (part["tasks"], part["lost"], part["dead"], part["passed"]) == (2, 2, 1, False)
        assert part["healed"] == {"child": [0.512]}
        assert part["missed"] == {"steward": 1}
        assert "  lost                    2" in report.lines(part)

    def test_it_is_written_as_a_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "results" / "sqlite-001.json"

        report.write(path, a_part())

        assert [each.name for each in path.parent.iterdir()] == ["sqlite-001.json"]


class TestTheGoal:
    def test_each_place_does_its_share_of_both(self) -> None:
        assert GOAL.share_done([]) == 0
        assert GOAL.share_done([a_part(tasks=250)]) == 0.5
        assert GOAL.share_done([a_part(tasks=5000)]) == 0.5, "only 5 of 10 faults"
        assert GOAL.share_done([a_part(tasks=500), a_part(tasks=0)]) == 1

    def test_every_part_has_a_seed_of_its_own_that_is_the_same_every_time(self) -> None:
        seeds = [GOAL.seed_of(place, number) for place in GOAL.places for number in range(1, 50)]

        assert len(set(seeds)) == len(seeds)
        assert GOAL.seed_of("sqlite", 3) == "7-sqlite-3"


class TestGoingOn:
    def test_the_seed_of_the_parts_that_are_there_is_kept(self, tmp_path: Path) -> None:
        shelf = Shelf(folder=tmp_path / "long")

        assert shelf.seed("7") == "7"
        assert shelf.seed(None) == shelf.seed("7") == "7"
        with pytest.raises(ValueError, match="holds parts of seed 7"):
            shelf.seed("8")

    def test_a_new_folder_gets_a_seed_by_chance(self, tmp_path: Path) -> None:
        assert Shelf(folder=tmp_path / "long").seed(None).isdigit()

    def test_another_seed_for_the_same_folder_is_bad_input(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Shelf(folder=tmp_path).seed("7")

        assert command_line.main(["--long", str(tmp_path), "--seed", "8"]) == 2
        assert "leave --seed away" in capsys.readouterr().err

    def test_finished_parts_are_found_by_their_reports(self, tmp_path: Path) -> None:
        shelf = Shelf(folder=tmp_path)
        report.write(shelf.report_of("sqlite", 2), a_part())
        report.write(shelf.report_of("rabbitmq-sqlite", 1), a_part("rabbitmq-sqlite"))
        report.write(tmp_path / "summary.json", {})
        shelf.room_of("sqlite", 3).mkdir()

        assert list(shelf.parts("sqlite")) == [2]
        assert list(shelf.parts("rabbitmq")) == []
        assert [part["place"] for part in shelf.all_parts(["sqlite", "rabbitmq-sqlite"])] == [
            "sqlite",
            "rabbitmq-sqlite",
        ]

    def test_what_an_interrupted_part_left_is_removed(self, tmp_path: Path) -> None:
        shelf = Shelf(folder=tmp_path)
        (shelf.room_of("sqlite", 1) / "database").mkdir(parents=True)

        shelf.clear("sqlite", 1)
        shelf.clear("sqlite", 1)

        assert list(tmp_path.iterdir()) == []


@dataclass(kw_only=True)
class Rehearsal(LongForm):
    """Parts are over at once, and leave a report unless their place is named in `crashing`."""

    begun: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    crashing: frozenset[str] = frozenset()

    def _started(self, place: str, number: int) -> Any:
        self.begun.append((place, number))
        if place not in self.crashing:
            report.write(self.shelf.report_of(place, number), a_part(place, tasks=250))
        process = SimpleNamespace(poll=lambda: 1, returncode=1)
        return SimpleNamespace(place=place, number=number, process=process, deadline=float("inf"))


class TestTheLongForm:
    @pytest.fixture
    def form(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rehearsal:
        monkeypatch.setattr("tests.chaos.long.PAUSE", 0.0)
        return Rehearsal(goal=GOAL, shelf=Shelf(folder=tmp_path))

    def test_it_runs_parts_until_every_place_has_done_its_share(self, form: Rehearsal, tmp_path: Path) -> None:
        code = form.run()

        assert code == 0
        assert sorted(form.begun) == [("postgresql", 1), ("postgresql", 2), ("sqlite", 1), ("sqlite", 2)]
        assert (tmp_path / "summary.rst").read_text().startswith(".. Written by")

    def test_the_last_parts_of_a_place_run_side_by_side_where_there_is_room(self, form: Rehearsal) -> None:
        report.write(form.shelf.report_of("postgresql", 1), a_part("postgresql", tasks=500, faults={"child": 10}))
        report.write(form.shelf.report_of("sqlite", 1), a_part(tasks=200))
        form.crashing = frozenset({"sqlite"})  # leaves no report

        form._start_some()

        assert form.begun == [("sqlite", 2), ("sqlite", 3)]

    def test_an_interrupted_run_goes_on_behind_the_parts_that_are_there(self, form: Rehearsal) -> None:
        for place, number in (("sqlite", 1), ("sqlite", 2), ("postgresql", 2)):
            report.write(form.shelf.report_of(place, number), a_part(place, tasks=250))

        form.run()

        assert form.begun == [("postgresql", 1)]

    def test_a_part_that_failed_is_not_run_again_and_fails_the_whole(self, form: Rehearsal) -> None:
        report.write(form.shelf.report_of("sqlite", 1), a_part(tasks=500, faults={"child": 10}, passed=False, lost=1))

        code = form.run()

        assert code == 1
        assert ("sqlite", 1) not in form.begun

    def test_a_place_whose_parts_end_without_a_report_is_given_up(
        self, form: Rehearsal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        form.crashing = frozenset({"sqlite"})

        code = form.run()

        assert code == 1
        assert form.begun.count(("sqlite", 1)) == CRASHES
        assert "part 1 of sqlite ended with code 1 and no report" in capsys.readouterr().out

    def test_a_part_that_is_stuck_is_ended(self, form: Rehearsal, capsys: pytest.CaptureFixture[str]) -> None:
        ends: list[str] = []
        process = SimpleNamespace(poll=lambda: None, terminate=lambda: ends.append("TERM"))
        form._running.append(cast("Any", SimpleNamespace(place="sqlite", number=1, process=process, deadline=0.0)))

        form._collect()
        form._collect()

        assert ends == ["TERM"]
        assert "part 1 of sqlite is stuck" in capsys.readouterr().out


class TestTheSummary:
    def test_it_adds_up_what_the_parts_say(self) -> None:
        parts = [
            a_part(tasks=100, healed={"child": [0.5, 1.5]}, explained=2),
            a_part(tasks=50, healed={"child": [1.0]}, versions={"Python": "3.12"}),
            a_part("postgresql", tasks=25, moments={"idle": 3}, faults={"child": 1, "steward": 2}),
        ]

        found = summary.of(parts, seed="7")

        assert found["passed"]
        assert found["total"]["tasks"] == 175
        assert found["total"]["faults"] == {"child": 11, "steward": 2}
        assert found["places"]["sqlite"]["recovery"] == {"child": {"times": 3, "min": 0.5, "median": 1.0, "max": 1.5}}
        assert found["places"]["sqlite"]["versions"] == {"Python": "3.11, 3.12"}
        assert found["places"]["sqlite"]["explained"] == 2

    def test_one_failed_part_fails_it_and_is_named(self) -> None:
        found = summary.of([a_part(), a_part("postgresql", passed=False, lost=1)], seed="7")

        assert not found["passed"]
        assert found["places"]["sqlite"]["passed"]
        assert "  failed: 7-postgresql-1" in summary.lines(found)

    def test_nothing_done_is_not_passed(self) -> None:
        assert not summary.of([], seed="7")["passed"]

    def test_the_table_has_a_cell_for_every_column(self) -> None:
        parts = [a_part(healed={"child": [0.5]}), a_part("postgresql", faults={"child": 2, "steward": 1})]

        found = summary.of(parts, seed="7")
        text, faults = summary.table(found), summary.table_of_faults(found)

        assert "   * - tasks, confirmed\n     - 100\n     - 100\n     - 200\n" in text
        assert "   * - Python\n     - 3.11" in text
        assert "   * - child\n     - 5\n     - 2\n     - 0.5\n     - 0.5\n     - 0.5\n" in faults
        assert "   * - steward\n     - 0\n     - 1\n     -\n     -\n     -\n" in faults


class TestTheCommandLine:
    @pytest.mark.parametrize("words", [["--place", "moon"], ["--tasks", "0"], ["--fault", "boredom"]])
    def test_bad_input_is_refused(self, words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as refused:
            command_line.main(words)

        assert refused.value.code == 2
        assert words[0] in capsys.readouterr().err

    def test_places_run_side_by_side_and_the_worst_exit_code_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        commands = [[sys.executable, "-c", f"raise SystemExit({code})"] for code in (0, 1, 0)]

        assert command_line._codes_of(commands) == [0, 1, 0]
