"""The figures and tables of the page Performance: anybody can read them, and they say what the file of results says."""

import json
import re
from html import unescape
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import charts, labels, pages, report
from benchmarks.drawings import DRAWINGS
from benchmarks.products import PRODUCTS
from benchmarks.rounds import Key, Rounds, read
from benchmarks.scenarios import SCENARIOS
from benchmarks.svg import Bar, Frame, Line, Point, bars, lines, powers, round_numbers
from benchmarks.targets import TARGETS
from tests.unit.benchmark_figures import OURS, PEER, STORED, THEIRS, against, rounds, run_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.rst"
SVG = "{http://www.w3.org/2000/svg}"

#: Something of everything that is drawn.
MEASURES = {
    labels.DRAIN: (labels.STORED, labels.IGNORED),
    labels.ENQUEUE: (labels.ONE_BY_ONE, labels.IN_BULK),
    labels.ROUND_TRIP: (labels.P50, labels.P99),
    labels.CHILDREN: labels.NUMBERS_OF_CHILDREN,
    labels.PAYLOADS: labels.SIZES,
    labels.PRODUCERS: labels.NUMBERS_OF_PRODUCERS,
    labels.MILLIONS: labels.OF_EMPTY_TABLES,
}
KEYS = [
    Key(name, measure, who) for name, measures in MEASURES.items() for measure in measures for who in (OURS, THEIRS)
]
EVERYTHING = rounds({key: [90, 100, 120] for key in KEYS}, cpu_us=100, servers_us=50)


def drawn(made: Rounds) -> dict[str, str]:
    """The figures by their names."""
    written = charts.made(run_of(made)).items()
    return {path.stem.removeprefix(charts.PREFIX): text for path, text in written if path.suffix == ".svg"}


def texts_in(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314 - our own


class TestDrawings:
    def test_of_everything_there_is_a_figure(self) -> None:
        assert drawn(EVERYTHING).keys() == {drawing.name for drawing in DRAWINGS}

    @pytest.mark.parametrize("name", [drawing.name for drawing in DRAWINGS])
    def test_a_figure_can_be_read_by_everybody(self, name: str) -> None:
        svg = drawn(EVERYTHING)[name]
        root = ET.fromstring(svg)  # noqa: S314 - our own

        title, described = root.findall(f"{SVG}title"), root.findall(f"{SVG}desc")
        assert [element.get("id") for element in (*title, *described)] == root.get("aria-labelledby", "").split()
        assert root.get("role") == "img"
        assert title[0].text in texts_in(svg)
        assert "RabbitMQ" in (described[0].text or "")
        assert len(svg.encode()) < 30_000
        assert not re.search(r"<script|\bon\w+=|href|<image|url\(", svg)

    def test_nothing_is_drawn_of_nothing(self) -> None:
        made = charts.made(run_of(Rounds()))

        assert [path for path in made if path.suffix == ".svg"] == []

    def test_who_is_better_than_us_is_drawn_and_comes_first(self) -> None:
        svg = drawn(rounds({STORED: [100], against(THEIRS): [7], against(PEER): [150]}))["drain"]

        found = [text for text in texts_in(svg) if text in {OURS, THEIRS, PEER}]
        assert found == [PEER, OURS, THEIRS]
        assert "150 /s" in texts_in(svg)

    def test_who_is_quicker_than_us_is_drawn_and_comes_first(self) -> None:
        trips = {(OURS, labels.P50): 2.0, (OURS, labels.P99): 4.0, (PEER, labels.P50): 1.2, (PEER, labels.P99): 2.4}

        svg = drawn(rounds({Key(labels.ROUND_TRIP, measure, who): [it] for (who, measure), it in trips.items()}))[
            "round-trip"
        ]

        assert [text for text in texts_in(svg) if text in {OURS, PEER}] == [PEER, OURS]
        assert "1.2 ms (2.4)" in texts_in(svg)

    def test_names_are_escaped(self) -> None:
        name = 'ours, <b> & "c"'

        svg = drawn(rounds({against(name): [5]}))["drain"]

        assert name in texts_in(svg)
        assert unescape(svg).count(name) == svg.count("&lt;b&gt; &amp; &quot;c&quot;") == 2

    def test_bars_are_as_long_as_their_values(self) -> None:
        rows = [
            Bar(label=str(value), kind="ours", parts=(value,), whole=Point(value=value, low=value, high=value))
            for value in (100.0, 50.0)
        ]
        svg = bars(Frame(name="x", title="x", subtitle="", note=""), rows)

        long, brief = (float(width) for width in re.findall(r'width="([\d.]+)" height="16"', svg))
        assert long == pytest.approx(2 * brief, abs=0.2)

    def test_a_line_leaves_out_what_was_not_measured(self) -> None:
        points = (Point(value=1, low=1, high=1), None, Point(value=3, low=2, high=4))

        svg = lines(
            Frame(name="x", title="x", subtitle="", note=""), ["a", "b", "c"], [Line(label="ours", points=points)]
        )

        assert svg.count("<circle") == 1 + 2  # of the legend, and of the points
        assert "b" not in re.findall(r"<desc[^>]*>(.*)</desc>", svg)[0].split()

    def test_on_a_scale_by_powers_ten_times_as_much_is_one_step(self) -> None:
        points = tuple(Point(value=value, low=value, high=value) for value in (1.0, 10.0, 100.0))

        svg = lines(
            Frame(name="x", title="x", subtitle="", note=""),
            ["a", "b", "c"],
            [Line(label="ours", points=points)],
            by_powers=True,
        )

        low, middle, high = (float(y) for y in re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)" r="4"', svg)[1:])
        assert low - middle == pytest.approx(middle - high, abs=0.2)
        assert {"1", "10", "100"} <= {*texts_in(svg)}

    def test_ticks_are_round_and_reach_beyond_the_largest(self) -> None:
        assert round_numbers(19_339) == [0, 5_000, 10_000, 15_000, 20_000]
        assert round_numbers(1.15)[-1] >= 1.15
        assert round_numbers(0) == [0, 1]
        assert powers(1.2, 506) == [1, 10, 100, 1_000]
        assert powers(10, 10) == [10, 100]


class TestTheCommand:
    @pytest.fixture
    def _folders(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(charts, "IMAGES", tmp_path)
        monkeypatch.setattr(pages, "FOLDER", tmp_path / "tables")

    @pytest.mark.usefixtures("_folders")
    def test_it_writes_what_was_measured_and_removes_what_was_not(self, tmp_path: Path) -> None:
        (tmp_path / "performance-children.svg").write_text("of an earlier run")
        (tmp_path / "overview.svg").write_text("somebody else's")
        content = {
            "facts": {"machine": {"cores": 4}, OURS: {"versions": {"Django": "5.2"}, "database": {"fsync": "on"}}},
            "sizes": {"rounds": 1},
            "broken": ["drain 1: it broke"],
            "figures": rounds({STORED: [100]}).as_data(),
        }
        (tmp_path / "made_up.json").write_text(json.dumps(content))

        assert charts.main([str(tmp_path / "made_up.json")]) == 0

        assert {path.name for path in tmp_path.glob("*.svg")} == {"overview.svg", "performance-drain.svg"}
        machine = (tmp_path / "tables" / "machine.rst").read_text()
        assert all(text in machine for text in ("cores", "rounds 1", "made\\_up.json", "drain 1: it broke"))
        assert "fsync on" in (tmp_path / "tables" / "sides.rst").read_text()
        assert ":alt: Tasks per second" in (tmp_path / "tables" / "drain.rst").read_text()


class TestTheDocumentation:
    """What is made from a file of results is what that file says."""

    def test_tables_and_figures_are_up_to_date(self) -> None:
        """Otherwise: python -m benchmarks.charts benchmarks/results/FILE.json."""
        head = (pages.FOLDER / "machine.rst").read_text().splitlines()[0]
        names = re.findall(r"[\w.-]+\.json", head)
        made = charts.made(read([report.RESULTS / name for name in names]))

        on_disk = {*charts.IMAGES.glob(f"{charts.PREFIX}*.svg"), *pages.FOLDER.glob("*.rst")}
        assert on_disk == made.keys()
        assert {path.name for path, text in made.items() if path.read_text(encoding="utf-8") != text} == set()

    def test_the_page_includes_every_table(self) -> None:
        included = re.findall(r"^\.\. include:: (\S+)$", PAGE.read_text(), re.MULTILINE)

        assert {(PAGE.parent / name).resolve() for name in included} == {*pages.FOLDER.glob("*.rst")}

    def test_every_scenario_has_its_place_on_the_page(self) -> None:
        assert set(SCENARIOS) == set(labels.SECTIONS)
        assert {drawing.scenario for drawing in DRAWINGS} <= set(SCENARIOS)
        assert {target.figure.scenario for target in TARGETS} <= set(SCENARIOS)

    def test_a_peer_that_a_target_names_is_among_the_products(self) -> None:
        named = {target.against.contender for target in TARGETS if target.against}

        assert {name for name in named if labels.kind(name) == "peer"} <= {one.label for one in PRODUCTS.values()}
