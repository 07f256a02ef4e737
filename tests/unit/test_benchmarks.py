"""How the benchmarks measure: the parts that compute, on made-up sightings. No figure is measured here."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks import __main__ as command_line
from benchmarks import looking
from benchmarks.contender import PROJECTS, Broken, Product
from benchmarks.figure import Figure
from benchmarks.looking import LONGEST, SHORTEST, Look, longest_pause, looks, pause
from benchmarks.places import Marks, parsed
from benchmarks.plan import CELERY, CELERY_DEFAULTS, FULL, OURS, OURS_POSTGRESQL, OURS_SQLITE, QUICK
from benchmarks.products import PEERS, PRODUCTS
from benchmarks.quantiles import quantile
from benchmarks.record import Record
from benchmarks.scenarios import MODULES, SCENARIOS
from benchmarks.scenarios.delayed import since_first
from benchmarks.scenarios.drain import Drained
from benchmarks.scenarios.durations import busy_share
from benchmarks.usage import Reading

EVERYBODY = (OURS, OURS_POSTGRESQL, OURS_SQLITE, CELERY, CELERY_DEFAULTS, *PRODUCTS.values())


def look(moment: float, count: int) -> Look:
    return Look(moment, count, 0.001)


def drained(tasks: int, span: float) -> Drained:
    return Drained(tasks=tasks - 1, seconds=span, details={}, everything=tasks, span=span)


def figure(value: float = 1.0) -> Figure:
    return Figure(scenario="drain", measure="results stored", unit="/s", contender="ours", value=value)


class TestLooking:
    def test_nothing_seen_yet_is_looked_for_often(self) -> None:
        assert pause(look(0, 0), look(1, 0), 100) == SHORTEST

    def test_far_from_the_end_looks_are_seldom(self) -> None:
        assert pause(look(0, 0), look(1, 10), 1000) == LONGEST

    def test_near_the_end_looks_are_often(self) -> None:
        assert pause(look(0, 0), look(1, 990), 1000) == SHORTEST

    def test_between_them_a_quarter_of_what_is_left_passes(self) -> None:
        assert pause(look(0, 0), look(1, 800), 1000) == pytest.approx(0.25 / 4, abs=0.001)

    @given(done=st.integers(1, 10**6), left=st.integers(0, 10**6), elapsed=st.floats(0.001, 1000))
    def test_a_pause_is_never_shorter_or_longer_than_it_may_be(self, done: int, left: int, elapsed: float) -> None:
        assert SHORTEST <= pause(look(0, 0), look(elapsed, done), done + left) <= LONGEST

    @pytest.mark.parametrize("rate", [300.0, 1200.0, 20_000.0])
    def test_the_end_is_seen_soon_at_every_speed(self, monkeypatch: pytest.MonkeyPatch, rate: float) -> None:
        clock = Clock()
        monkeypatch.setattr(looking, "time", clock)

        seen = list(looks(lambda: min(int(clock.now * rate), 5000), 5000, patience=60))

        assert seen[-1].count == 5000
        assert seen[-1].moment - 5000 / rate <= 2 * SHORTEST

    def test_who_stands_still_is_waited_for_no_longer_than_patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock()
        monkeypatch.setattr(looking, "time", clock)

        with pytest.raises(TimeoutError, match="7 of 10"):
            list(looks(lambda: 7, 10, patience=60))

        assert clock.now == pytest.approx(60, abs=1)

    def test_slow_but_steady_is_not_standing_still(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock()
        monkeypatch.setattr(looking, "time", clock)

        assert list(looks(lambda: int(clock.now / 50), 3, patience=60))[-1].count == 3

    def test_the_longest_pause_is_between_two_moves(self) -> None:
        assert longest_pause([look(0, 1), look(1, 2), look(2, 2), look(4, 3), look(5, 4)]) == 3

    def test_one_look_has_no_pause(self) -> None:
        assert longest_pause([look(0, 1)]) == 0


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class TestMarks:
    def test_lines_of_sixteen_bytes_are_read(self) -> None:
        assert parsed(b"000000000000007\n-0000000.001500\n") == ["000000000000007", "-0000000.001500"]

    def test_no_marks_are_none(self) -> None:
        assert parsed(b"") == []

    @pytest.mark.parametrize("content", [b"7\n", b"000000000000007\n00", b"00000000000007\n00000000000000008\n"])
    def test_half_a_mark_is_not_taken_for_one(self, content: bytes) -> None:
        with pytest.raises(ValueError, match="16 bytes"):
            parsed(content)

    def test_marks_are_counted_without_being_read(self, tmp_path: Path) -> None:
        marks = Marks(tmp_path / "marks")
        assert marks.count() == 0

        marks.path.write_bytes(b"000000000000007\n" * 3)

        assert marks.count() == 3

    def test_who_has_the_file_open_goes_on_after_it_was_emptied(self, tmp_path: Path) -> None:
        marks = Marks(tmp_path / "marks")
        with marks.path.open("ab", buffering=0) as held:
            held.write(b"000000000000007\n")
            marks.clear()
            held.write(b"000000000000008\n")

        assert marks.lines() == ["000000000000008"]

    @given(late=st.floats(-1000, 1_000_000))
    def test_lateness_of_any_sign_fits_into_a_mark(self, late: float) -> None:
        assert len(f"{late:015.6f}\n") == 16


class TestArithmetic:
    def test_children_that_never_wait_are_busy_all_the_time(self) -> None:
        assert busy_share(drained(400, 0.99), milliseconds=10, children=4) == pytest.approx(1.0)

    def test_half_the_tasks_in_that_time_is_half_as_busy(self) -> None:
        assert busy_share(drained(200, 0.99), milliseconds=10, children=4) == pytest.approx(0.5)

    def test_children_that_began_one_after_the_other_are_not_busier_than_all_the_time(self) -> None:
        ends = [begin + 0.1 * number for begin in (0.0, 0.025, 0.05, 0.075) for number in range(1, 11)]

        assert busy_share(drained(40, max(ends) - min(ends)), milliseconds=100, children=4) <= 1.0

    def test_moments_are_counted_from_the_first(self) -> None:
        assert since_first([5.0, 3.0, 4.5]) == [2.0, 0.0, 1.5]

    def test_the_median_is_one_of_the_values(self) -> None:
        assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0

    def test_all_of_them_do_not_exceed_the_largest(self) -> None:
        assert quantile([3.0, 1.0, 2.0], 1.0) == 3.0

    def test_nothing_measured_has_no_quantile(self) -> None:
        with pytest.raises(ValueError, match="nothing"):
            quantile([], 0.5)

    @given(values=st.lists(st.floats(-1e9, 1e9), min_size=1), part=st.floats(0, 1))
    def test_a_quantile_did_occur(self, values: list[float], part: float) -> None:
        assert quantile(values, part) in values

    @given(values=st.lists(st.floats(-1e9, 1e9), min_size=1), parts=st.tuples(st.floats(0, 1), st.floats(0, 1)))
    def test_a_larger_part_has_no_smaller_quantile(self, values: list[float], parts: tuple[float, float]) -> None:
        assume(parts[0] <= parts[1])

        assert quantile(values, parts[0]) <= quantile(values, parts[1])

    def test_others_are_who_is_neither_worker_nor_server_nor_we(self) -> None:
        before = Reading(worker=1, servers=1, ourselves=1, machine=10)
        after = Reading(worker=3, servers=2, ourselves=1.5, machine=14)

        assert after.since(before).others == 0.5


class TestTheCommandLine:
    def test_everything_is_measured_by_default(self) -> None:
        options = command_line.parse([])

        assert (options.scenario, list(options.peers)) == (None, [])
        assert command_line.sizes_of(options) == FULL

    def test_quick_does_little(self) -> None:
        assert command_line.sizes_of(command_line.parse(["--quick"])) == QUICK

    def test_rounds_can_be_chosen(self) -> None:
        assert command_line.sizes_of(command_line.parse(["--rounds", "7"])).rounds == 7

    @pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--scenario", "unheard-of"], ["--peers", "unheard_of"]])
    def test_what_cannot_be_done_is_refused(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            command_line.parse(arguments)

        assert ended.value.code == 2
        assert "usage" in capsys.readouterr().err

    def test_a_peer_takes_part_in_all_its_forms(self) -> None:
        wanted = [product for product in PRODUCTS.values() if product.folder in PEERS[:2]]

        assert command_line.parse(["--peers", " ".join(PEERS[:2])]).peers == wanted

    @pytest.mark.parametrize("given", ["", " "])
    def test_make_without_peers_asks_for_none(self, given: str) -> None:
        assert command_line.parse(["--peers", given]).peers == []

    def test_every_other_round_goes_backwards(self) -> None:
        first, second = steps_that_say("ab")

        assert list(command_line.in_turns([first, second], 1)) == [first, second]
        assert list(command_line.in_turns([first, second], 2)) == [second, first]


def steps_that_say(names: str) -> list[Callable[[], Iterator[Figure]]]:
    return [lambda name=name: iter([figure(ord(name))]) for name in names]  # type: ignore[misc]


class TestARun:
    @pytest.fixture
    def record(self, tmp_path: Path) -> Record:
        return Record(path=tmp_path / "new" / "run.json", facts={"machine": {"cores": 4}}, sizes=QUICK)

    def test_what_was_measured_is_told_and_kept(self, record: Record, capsys: pytest.CaptureFixture[str]) -> None:
        command_line.take(lambda: iter([figure(1234)]), "drain 1", 1, record)

        assert capsys.readouterr().out == "drain 1: ours: results stored 1,234 /s\n"
        assert record.rounds.as_data()[0]["value"] == 1234

    @pytest.mark.parametrize("reason", [Broken("no more comes"), ValueError("no JSON")])
    def test_what_breaks_is_told_and_does_not_stop_the_others(
        self, record: Record, capsys: pytest.CaptureFixture[str], reason: Exception
    ) -> None:
        def breaks() -> Iterator[Figure]:
            yield figure(1)
            raise reason

        for step in (breaks, lambda: iter([figure(2)])):
            command_line.take(step, "drain 1", 1, record)

        assert [one["value"] for one in record.rounds.as_data()] == [1, 2]
        assert str(reason) in record.broken[0]
        assert "BROKEN" in capsys.readouterr().err

    def test_a_file_of_results_holds_facts_sizes_what_broke_and_figures(self, record: Record) -> None:
        record.add(3, figure(5))
        record.broken.append("drain 1: something")

        record.write()

        found = json.loads(record.path.read_text())
        assert found["facts"] == {"machine": {"cores": 4}}
        assert found["sizes"]["rounds"] == QUICK.rounds
        assert found["broken"] == ["drain 1: something"]
        assert [(one["round"], one["value"]) for one in found["figures"]] == [(3, 5)]


class TestWhoTakesPart:
    def test_labels_are_unique(self) -> None:
        assert len({product.label for product in EVERYBODY}) == len(EVERYBODY)

    @pytest.mark.parametrize("product", EVERYBODY, ids=lambda product: product.label)
    def test_everybody_has_a_producer_and_tasks(self, product: Product) -> None:
        folder = PROJECTS / product.folder

        assert (folder / "drive.py").is_file()
        assert (folder / "work" / "tasks.py").is_file()

    @pytest.mark.parametrize("product", EVERYBODY, ids=lambda product: product.label)
    def test_what_is_not_measured_of_it_exists_and_has_a_reason(self, product: Product) -> None:
        told = Path(looking.__file__).with_name("contender.py").read_text()
        actions = re.findall(r"^    ([a-z_]+)  +\S", told, re.MULTILINE)

        assert set(product.lacks) <= {*actions, *SCENARIOS, "results", "ignored"}
        assert all(product.lacks.values())

    def test_our_worker_has_as_many_children_as_it_is_told(self) -> None:
        arguments = list(OURS.worker(7))

        assert ("-c", "7") in itertools.pairwise(arguments)

    def test_scenarios_have_names_of_their_own(self) -> None:
        assert len(SCENARIOS) == len(MODULES)
