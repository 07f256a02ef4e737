"""What the benchmarks make of their figures: ratios, verdicts, tables. No figure is measured here."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import labels, pages, report
from benchmarks.ratios import interval, paired, ratio, short, spread, summed_up
from benchmarks.rounds import APART, Key, Rounds, read
from benchmarks.table import table, told
from benchmarks.targets import TARGETS, Target
from benchmarks.verdicts import Verdict, judged
from tests.unit.benchmark_figures import OURS, STORED, THEIRS, against, figure, rounds, run_of


class TestRatios:
    def test_a_ratio_is_the_median_of_the_pairs_and_not_the_pair_of_the_medians(self) -> None:
        found = ratio({1: 10, 2: 40, 3: 90}, {1: 10, 2: 20, 3: 10})

        assert found
        assert (found.value, found.low, found.high, found.pairs) == (2, 1, 9, 3)
        assert found.is_interval

    def test_of_what_should_be_little_the_ratio_is_turned_over(self) -> None:
        found = ratio({1: 2.0}, {1: 500.0}, less_is_better=True)

        assert found
        assert found.value == 250

    def test_only_rounds_that_both_have_make_pairs_whatever_came_first(self) -> None:
        assert paired({3: 9, 1: 4, 2: 5}, {1: 2, 3: 3}) == [2, 3]
        assert ratio({1: 5}, {2: 5}) is None

    def test_nothing_makes_no_pair(self) -> None:
        assert paired({1: 5, 2: 0}, {1: 0, 2: 5}) == []
        assert summed_up([]) is None

    def test_fewer_than_three_pairs_have_no_interval_and_it_is_said(self) -> None:
        two = summed_up([2, 4])
        one = summed_up([3])

        assert two
        assert one
        assert not two.is_interval
        assert (two.value, two.low, two.high) == (3, 2, 4)
        assert told(two) == "3 (2..4, 2 pairs)"
        assert told(one) == "3 (1 pair)"

    def test_the_interval_holds_the_median_and_narrows_with_more_pairs(self) -> None:
        few, many = [*range(1, 6)], [number / 40 for number in range(41, 241)]

        low, high = interval(few)
        assert (low, high) == (1, 5)
        low, high = interval(many)
        assert 3.0 < low < 3.5 < high < 4.1

    def test_the_interval_is_the_same_each_time(self) -> None:
        ratios = [1.5, 1.1, 2.2, 1.9, 1.3, 1.7, 2.0]

        assert interval(ratios) == interval(ratios)

    def test_a_spread_is_median_least_and_most(self) -> None:
        found = spread([3, 1, 2, 10])

        assert (found.median, found.least, found.most, found.rounds) == (2.5, 1, 10, 4)

    @pytest.mark.parametrize(
        ("value", "text"),
        [(12_345.6, "12,346"), (99.96, "100"), (1.2345, "1.23"), (0.00123, "0.00123"), (0, "0"), (-1.5, "-1.5")],
    )
    def test_numbers_have_three_digits(self, value: float, text: str) -> None:
        assert short(value) == text


class TestRounds:
    def test_what_is_written_can_be_read(self) -> None:
        made = rounds({STORED: [1, 2]}, cpu_us=3)

        assert Rounds.from_data(made.as_data()).as_data() == made.as_data()

    def test_details_have_spreads_and_ratios_too(self) -> None:
        made = Rounds()
        made.add(1, figure(STORED, 10, cpu_us=100))
        made.add(1, figure(against(THEIRS), 10, cpu_us=300))

        found = made.ratio(STORED._replace(detail="cpu_us"), against(THEIRS)._replace(detail="cpu_us"))

        assert found
        assert found.value == 3
        assert made.spread(STORED._replace(detail="pss_mb")) is None

    def test_rounds_of_several_files_are_put_together_and_no_pair_crosses_them(self, tmp_path: Path) -> None:
        first = rounds({STORED: [10], against(THEIRS): [1]})
        trip = Key(labels.ROUND_TRIP, labels.P50, OURS)
        second = rounds({STORED: [20], trip: [3]})
        for name, made in (("1.json", first), ("2.json", second)):
            content = {"facts": {name: {}}, "sizes": {}, "broken": [], "figures": made.as_data()}
            (tmp_path / name).write_text(json.dumps(content))

        found = read([tmp_path / "1.json", tmp_path / "2.json"])

        assert found.sources[labels.DRAIN] == found.files == ("1.json", "2.json")
        assert found.sources[labels.ROUND_TRIP] == ("2.json",)
        series = found.rounds.series(STORED)
        assert series
        assert series.values() == {1: 10, 1 + APART: 20}
        ratio = found.rounds.ratio(STORED, against(THEIRS))
        assert ratio
        assert ratio.value == 10
        assert [*found.facts] == ["1.json", "2.json"]


class TestVerdicts:
    def judge(self, made: Rounds, target: Target) -> tuple[Verdict, str, str]:
        (found,) = judged(made, [target])
        return found.verdict, found.found, found.remark

    def times(self, wanted: float, aimed: float | None = None) -> Target:
        return Target(measure="drain", compared="x", figure=STORED, against=against(THEIRS), wanted=wanted, aimed=aimed)

    def test_a_ratio_that_is_reached_is_held(self) -> None:
        made = rounds({STORED: [24, 26, 28], against(THEIRS): [2, 2, 2]})

        assert self.judge(made, self.times(12, 17)) == (Verdict.HELD, "13 (12..14)", "")
        assert self.judge(made, self.times(10, 13)) == (Verdict.HELD, "13 (12..14)", "the aim too")
        assert self.judge(made, self.times(13.1)) == (Verdict.NOT_HELD, "13 (12..14)", "")

    def test_a_value_that_has_to_be_small_is_held_below_it(self) -> None:
        trip = Key(labels.ROUND_TRIP, labels.P50, OURS)
        target = Target(measure="p50", compared="x", figure=trip, wanted=2, aimed=1.5, at_most=True, unit="ms")

        assert self.judge(rounds({trip: [1.8]}), target) == (Verdict.HELD, "1.8 ms", "")
        assert self.judge(rounds({trip: [1.4, 1.5, 9]}), target)[::2] == (Verdict.HELD, "the aim too")
        assert self.judge(rounds({trip: [2.1, 2.2]}), target) == (Verdict.NOT_HELD, "2.15 ms (2.1..2.2)", "")

    def test_who_did_not_take_part_is_named(self) -> None:
        found = self.judge(rounds({STORED: [1]}), self.times(1))

        assert found == (Verdict.NOT_MEASURED, "", f"no {THEIRS} in this run")

    def test_what_was_not_measured_is_not_held_against_anybody(self) -> None:
        other = Key(labels.DRAIN, labels.IGNORED, THEIRS)

        assert self.judge(rounds({STORED: [1], other: [1]}), self.times(1))[0] == Verdict.NOT_MEASURED
        assert {one.verdict for one in judged(Rounds())} == {Verdict.NOT_MEASURED}

    def test_a_round_that_only_one_of_both_has_makes_no_verdict(self) -> None:
        made = Rounds()
        made.add(1, figure(STORED, 5))
        made.add(2, figure(against(THEIRS), 1))

        assert self.judge(made, self.times(1))[::2] == (Verdict.NOT_MEASURED, "never in the same round")

    def test_a_target_says_what_it_wants(self) -> None:
        assert self.times(12, 17).words == "at least 12, aim 17"
        assert {True, False} == {target.at_most for target in TARGETS}
        assert len({(target.figure, target.against) for target in TARGETS}) == len(TARGETS)


class TestTables:
    def test_a_row_has_median_span_ratio_and_costs(self) -> None:
        made = rounds({STORED: [1000, 1200, 1400], against(THEIRS): [100, 100, 100]}, cpu_us=150.4, pss_mb=90.0)

        found = table(made, labels.DRAIN)

        assert found.headings == ("measure", "of", "median", "least..most", "times Celery", "CPU µs", "MB")
        assert found.rows[0] == (labels.STORED, OURS, "1,200 /s", "1,000..1,400", "12 (10..14)", "150", "90")
        assert found.rows[1][4] == ""

    @pytest.mark.parametrize(("scenario", "measure"), labels.RAW_LIMITS)
    def test_the_raw_limit_of_the_same_measure_stands_beside_it(self, scenario: str, measure: str) -> None:
        ours = Key(scenario, measure, OURS)
        limit = labels.raw_limit(ours)
        assert limit
        made = rounds({ours: [10, 12, 15], limit: [10, 10, 10]})

        found = table(made, scenario)

        text = "0.833 (0.667..1)" if scenario == labels.ROUND_TRIP else "1.2 (1..1.5)"
        assert found.rows[0][found.headings.index("of raw limit")] == text
        assert labels.raw_limit(limit) is None

    def test_a_call_for_many_is_compared_with_the_calls_that_celery_has(self) -> None:
        one_by_one = Key(labels.ENQUEUE, labels.ONE_BY_ONE, THEIRS)

        assert labels.baseline(Key(labels.ENQUEUE, labels.IN_BULK, OURS)) == one_by_one
        assert labels.baseline(one_by_one) is None

    def test_the_terminal_shows_every_scenario_and_every_target(self) -> None:
        trip = Key(labels.ROUND_TRIP, labels.P50, OURS)
        console = Console(width=report.WIDTH)
        with console.capture() as capture:
            report.show(rounds({STORED: [1300], against(THEIRS): [100], trip: [1.2]}), console)
        text = capture.get()

        assert all(word in text for word in (labels.DRAIN, labels.ROUND_TRIP, "1,300 /s", "13 (1 pair)", "1.2 ms"))
        assert text.count(Verdict.NOT_MEASURED) + text.count(Verdict.HELD) == len(TARGETS)

    def test_what_would_be_markup_is_text_in_the_documentation(self) -> None:
        found = pages.listed(("a", "b"), [("x_ | *y*", "`z`")])

        assert found.splitlines()[-2:] == [r"   * - x\_ \| \*y\*", r"     - \`z\`"]

    def test_a_scenario_that_was_not_measured_says_so(self) -> None:
        made = pages.texts(run_of(rounds({STORED: [1]})), [])

        assert made.keys() >= {f"{name}.rst" for name in labels.SECTIONS}
        assert pages.ABSENT in made[f"{labels.ENQUEUE}.rst"]
        assert "made up.json" in made[f"{labels.DRAIN}.rst"]
