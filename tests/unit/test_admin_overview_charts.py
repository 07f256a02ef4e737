"""celery/admin/overview/charts.py, scales.py and figures.py: whatever the numbers, the drawing is sound."""

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone
from django.utils.safestring import SafeString
from hypothesis import given
from hypothesis import strategies as st

from celery.admin import scales
from celery.admin.overview import charts, figures
from celery.admin.overview.charts import Chart, Series
from celery.admin.scales import COUNT, TIME
from celery.history import Depth, Minute

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
DRAWINGS = [charts.bars, charts.lines]

Draw = Callable[[Chart], SafeString]


def chart(
    *values: Sequence[float | None], names: Sequence[str] = ("celery", "mail", "slow"), step: timedelta = MINUTE
) -> Chart:
    length = max(map(len, values), default=0)
    return Chart(
        key="some",
        title="Some <numbers>",
        summary="So & so many",
        moments=[NOON + step * number for number in range(length)],
        step=step,
        series=[
            Series(name=name, style=style, values=[*row, *[None] * (length - len(row))])
            for name, style, row in zip(names, charts.LINE_STYLES, values, strict=False)
        ],
    )


def parsed(drawn: SafeString) -> ET.Element:
    """Read it as XML, which is what makes sure that it is well-formed."""
    assert isinstance(drawn, SafeString)
    return ET.fromstring(drawn)  # noqa: S314 - our own


def drawing(drawn: SafeString) -> ET.Element:
    found = parsed(drawn).find("svg[@class='drawing']")
    assert found is not None
    return found


def texts(element: ET.Element, tag: str) -> list[str]:
    return ["".join(found.itertext()) for found in element.iter(tag)]


def classes(element: ET.Element, tag: str) -> list[str]:
    return [found.get("class", "") for found in element.iter(tag)]


def points(svg: ET.Element) -> Iterator[tuple[float, float]]:
    """Yield every corner that is drawn; those of patterns are in a box of their own."""
    for parent in svg:
        if parent.tag != "defs":
            for one in parent.iter():
                yield from corners(one)


def corners(one: ET.Element) -> Iterator[tuple[float, float]]:
    number = {name: float(value) for name, value in one.attrib.items() if re.fullmatch(r"-?[\d.]+", value)}
    match one.tag:
        case "rect":
            yield number["x"], number["y"]
            yield number["x"] + number["width"], number["y"] + number["height"]
        case "line":
            yield number["x1"], number["y1"]
            yield number["x2"], number["y2"]
        case "text":
            yield number["x"], number["y"]
        case "circle":
            yield number["cx"] - number["r"], number["cy"] - number["r"]
            yield number["cx"] + number["r"], number["cy"] + number["r"]
        case "path":
            for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", one.get("d", "")):
                yield float(x), float(y)


def is_sound(drawn: SafeString) -> bool:
    svg, cells = drawing(drawn), texts(parsed(drawn), "td")
    said = [*cells, *(value for one in svg.iter() for value in one.attrib.values())]
    assert not [text for text in said if re.search(r"nan|inf", text, re.IGNORECASE)]
    assert not [one for one in svg.iter() if one.tag == "script" or "style" in one.attrib]
    corners = list(points(svg))
    outside = [(x, y) for x, y in corners if not (-0.1 <= x <= charts.WIDTH + 0.1 and -0.1 <= y <= charts.HEIGHT + 0.1)]
    return corners != [] and outside == []


numbers = st.none() | st.integers(min_value=-(10**30), max_value=10**30).map(float) | st.floats()
rows = st.lists(st.lists(numbers, max_size=40), min_size=1, max_size=3)
steps = st.sampled_from([MINUTE, 3 * MINUTE, 12 * MINUTE, 90 * MINUTE])


class TestAnyNumbers:
    @pytest.mark.parametrize("draw", DRAWINGS)
    @pytest.mark.parametrize("unit", [COUNT, TIME])
    @given(rows=rows, step=steps, name=st.text())
    def test_give_a_sound_drawing(
        self, draw: Draw, unit: scales.Unit, rows: list[list[float | None]], step: timedelta, name: str
    ) -> None:
        one = chart(*rows, names=(name, "mail", "slow"), step=step)
        object.__setattr__(one, "unit", unit)

        assert is_sound(draw(one))

    @pytest.mark.parametrize("draw", DRAWINGS)
    @pytest.mark.parametrize(
        "values",
        [
            [],
            [0],
            [7],
            [0, 0, 0],
            [5, 5, 5],
            [None, None],
            [1, None, 2],
            [1e300, 1],
            [1e-300],
            [math.nan, math.inf, -1],
        ],
        ids=repr,
    )
    def test_give_a_sound_drawing_at_the_edges(self, draw: Draw, values: list[float | None]) -> None:
        assert is_sound(draw(chart(values)))

    @pytest.mark.parametrize(
        ("value", "drawn"),
        [(7, 7.0), (0, 0.0), (1e300, 1e15), (-1, None), (math.nan, None), (math.inf, None), (None, None)],
    )
    def test_are_drawn_unless_they_are_none(self, value: float | None, drawn: float | None) -> None:
        assert scales.drawable(value) == drawn

    @given(highest=st.floats(min_value=0, max_value=scales.LARGEST), unit=st.sampled_from([COUNT, TIME]))
    def test_have_an_axis_with_few_round_ticks_that_reaches_them(self, highest: float, unit: scales.Unit) -> None:
        ticks = unit.ticks(highest)

        assert ticks[0] == 0
        assert ticks[-1] >= highest
        assert 2 <= len(ticks) <= scales.MOST_INTERVALS + 1
        assert len(set(map(unit.short, ticks))) == len(ticks)
        assert all(len(unit.short(tick)) <= 8 for tick in ticks)


class TestBars:
    def test_stand_upon_each_other_and_are_as_high_as_their_share(self) -> None:
        # given: the axis goes to 4
        svg = drawing(charts.bars(chart([1], [3])))

        # then
        low, high = [one for one in svg.iter("rect") if one.get("fill")]
        assert float(high.get("height", 0)) == pytest.approx(3 * float(low.get("height", 0)))
        assert float(high.get("y", 0)) + float(high.get("height", 0)) == pytest.approx(float(low.get("y", 0)))
        assert float(high.get("y", 0)) == charts.TOP

    def test_say_what_they_are(self) -> None:
        svg = drawing(charts.bars(chart([1200, 0], [3, 0])))

        assert texts(svg, "title") == ["12:00: 1,200 celery, 3 mail"]

    def test_can_be_seen_however_small(self) -> None:
        svg = drawing(charts.bars(chart([1_000_000], [1])))

        assert min(float(one.get("height", 0)) for one in svg.iter("rect") if one.get("fill")) >= charts.LOWEST_BAR

    def test_differ_by_more_than_colour(self) -> None:
        patterns = {one.get("id"): one.get("class") for one in drawing(charts.bars(chart([1], [3]))).iter("pattern")}

        assert patterns == {"some-line-1": "line-1", "some-line-2": "line-2"}


class TestLines:
    def test_are_broken_where_a_value_is_missing(self) -> None:
        svg = drawing(charts.lines(chart([1, 2, None, 4, 5])))

        (path,) = [one.get("d", "") for one in svg.iter("path")]
        assert path.count("M") == 2

    def test_show_a_point_that_has_no_neighbour(self) -> None:
        svg = drawing(charts.lines(chart([None, 2, None, 4, 5])))

        assert classes(svg, "circle") == ["point alone", "point", "point"]

    def test_say_what_each_point_is(self) -> None:
        svg = drawing(charts.lines(chart([None, 1200])))

        assert texts(svg, "title") == ["12:01: 1,200, celery"]


class TestForThoseWhoDoNotSeeIt:
    @pytest.mark.parametrize("draw", DRAWINGS)
    def test_the_drawing_has_a_name_and_a_summary(self, draw: Draw) -> None:
        figure = parsed(draw(chart([1])))

        svg = drawing(draw(chart([1])))
        assert svg.get("role") == "img"
        ids = {one.get("id"): "".join(one.itertext()) for one in figure.iter() if one.get("id")}
        assert [ids[name] for name in svg.get("aria-labelledby", "").split()] == ["Some <numbers>", "So & so many"]

    @pytest.mark.parametrize("draw", DRAWINGS)
    def test_the_numbers_are_in_a_table_the_latest_first(self, draw: Draw) -> None:
        figure = parsed(draw(chart([1200, None, 7], [3, None, None])))

        assert texts(figure, "th") == ["Time", "celery", "mail", "12:02", "12:00"]
        assert texts(figure, "td") == ["7", "\N{EN DASH}", "1,200", "3"]


class TestNames:
    HOSTILE = "<b onload=x>&\"'\x00\x1b\ud800 "

    @pytest.mark.parametrize("draw", DRAWINGS)
    def test_are_escaped(self, draw: Draw) -> None:
        drawn = draw(chart([1], [2], names=(self.HOSTILE, "mail")))

        assert "<b" not in drawn
        assert any(text.strip().startswith("<b onload=x>&") for text in texts(parsed(drawn), "li"))

    def test_that_are_long_are_cut_in_the_legend_and_whole_in_its_title(self) -> None:
        figure = parsed(charts.lines(chart([1], [2], names=("q" * 255, "mail"))))

        first = next(figure.iter("li"))
        assert len("".join(first.itertext()).strip()) == charts.LONGEST_NAME
        assert first.get("title") == "q" * 255


class TestMoments:
    def test_are_in_the_current_time_zone(self) -> None:
        with timezone.override(ZoneInfo("Asia/Kolkata")):
            svg = drawing(charts.bars(chart([1])))

        assert texts(svg, "title") == ["17:30: 1 celery"]

    @pytest.mark.parametrize(
        ("length", "step", "names"),
        [
            (60, MINUTE, ["12:00", "12:10", "12:20", "12:30", "12:40", "12:50"]),
            (120, 3 * MINUTE, ["12:00", "13:00", "14:00", "15:00", "16:00", "17:00"]),
            (120, 12 * MINUTE, ["12:00", "16:00", "20:00", "00:00", "04:00", "08:00"]),
            (
                112,
                90 * MINUTE,
                [
                    f"{day} {date}"
                    for day, date in zip(["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"], range(23, 30), strict=True)
                ],
            ),
        ],
    )
    def test_of_the_axis_are_round(self, length: int, step: timedelta, names: list[str]) -> None:
        moments = [NOON + step * number for number in range(length)]

        assert [name for _, name in scales.named_moments(moments, step)] == names

    def test_of_the_axis_stand_where_the_clock_shows_them(self) -> None:
        moments = [NOON + timedelta(minutes=7) + MINUTE * number for number in range(60)]

        assert next(scales.named_moments(moments, MINUTE)) == (3, "12:10")

    @pytest.mark.parametrize(
        ("day", "hours"), [(25, ["01:00", "02:00", "02:00", "03:00"]), (26, ["01:00", "02:00", "03:00"])]
    )
    def test_an_hour_that_the_clock_repeats_is_named_twice(self, day: int, hours: list[str]) -> None:
        moments = [datetime(2026, 10, day - 1, 22, tzinfo=UTC) + 3 * MINUTE * number for number in range(120)]

        with timezone.override(ZoneInfo("Europe/Berlin")):
            names = [name for _, name in scales.named_moments(moments, 3 * MINUTE)]

        assert [name for name in names if "01:00" <= name <= "03:00"] == hours

    def test_naive_ones_are_taken_as_they_are(self) -> None:
        assert scales.period(datetime(2026, 1, 1, 7, 5), 3 * MINUTE) == "07:05\N{EN DASH}07:08"  # noqa: DTZ001 - that is it


class TestWords:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0, "0"),
            (9_999, "9,999"),
            (10_000, "10k"),
            (25_000, "25k"),
            (1_500_000, "1.5M"),
            (2e9, "2G"),
            (5e14, "500T"),
        ],
    )
    def test_counts_are_short_on_an_axis(self, value: float, text: str) -> None:
        assert COUNT.short(value) == text

    @pytest.mark.parametrize(
        ("seconds", "full", "short"),
        [
            (0, "0 s", "0"),
            (59.9, "59 s", "59s"),
            (60, "1 min", "1m"),
            (3_660, "1 h 1 min", "1h 1m"),
            (3_605, "1 h", "1h"),
            (100 * 86_400, "100 d", "100d"),
            (20_000 * 86_400, "20,000 d", "20kd"),
        ],
    )
    def test_durations_are_told_by_their_two_largest_parts(self, seconds: float, full: str, short: str) -> None:
        assert (TIME.full(seconds), TIME.short(seconds)) == (full, short)


class TestTheFiguresOfThroughput:
    HISTORY = (Minute(at=NOON, done=10, failed=1, retried=2), Minute(at=NOON + MINUTE, done=4))

    def test_show_all_that_ended_and_the_failures_alone(self) -> None:
        everything, failures = map(parsed, figures.of_throughput(self.HISTORY, MINUTE))

        assert texts(everything, "h2") == ["Tasks per minute"]
        assert texts(everything, "p") == ["17 tasks; the most, 13, at 12:00"]
        assert texts(everything, "td") == ["4", "0", "0", "10", "1", "2"]
        assert texts(failures, "p") == ["1 failed; the most, 1, at 12:00"]
        assert texts(failures, "td") == ["0", "1"]

    def test_say_when_none_failed(self) -> None:
        _, failures = map(parsed, figures.of_throughput(self.HISTORY[1:], MINUTE))

        assert texts(failures, "p") == ["None failed"]

    def test_are_not_there_when_nothing_has_run(self) -> None:
        assert figures.of_throughput([Minute(at=NOON)], MINUTE) == []
        assert figures.of_throughput([], MINUTE) == []


class TestTheFiguresOfQueues:
    @staticmethod
    def line(*pairs: tuple[int | None, float | None]) -> list[Depth]:
        return [Depth(at=NOON + MINUTE * at, depth=depth, oldest=age) for at, (depth, age) in enumerate(pairs)]

    def test_show_depth_and_age_by_queue(self) -> None:
        history = {"mail": self.line((3, 90), (None, None)), "celery": self.line((0, None), (5, 12.4))}

        depth, age = map(parsed, figures.of_queues(history, MINUTE))

        assert texts(depth, "p") == ["At most 5, in celery"]
        assert texts(depth, "th")[:3] == ["Time", "celery", "mail"]
        assert texts(depth, "td") == ["5", "\N{EN DASH}", "0", "3"]
        assert texts(age, "p") == ["At most 1 min 30 s, in mail"]
        assert texts(age, "td") == ["12 s", "\N{EN DASH}", "\N{EN DASH}", "1 min 30 s"]

    def test_age_is_not_there_where_the_broker_cannot_tell(self) -> None:
        (depth,) = map(parsed, figures.of_queues({"mail": self.line((0, None))}, MINUTE))

        assert texts(depth, "p") == ["Nothing waited"]

    def test_are_not_there_when_nobody_looked(self) -> None:
        assert figures.of_queues({"mail": self.line((None, None))}, MINUTE) == []
        assert figures.of_queues({}, MINUTE) == []

    def test_of_many_queues_the_fullest_are_shown_and_the_others_as_one(self) -> None:
        # given: seven queues, of which q6 is the fullest, and what the history itself has put together
        history = {f"q{number}": self.line((10 * number, float(number))) for number in range(7)}
        history["others"] = self.line((1_000, 50.0))

        # when
        depth, age = map(parsed, figures.of_queues(history, MINUTE))

        # then
        assert texts(depth, "th")[1:6] == ["q3", "q4", "q5", "q6", "others"]
        assert texts(depth, "td") == ["30", "40", "50", "60", "1,030"]
        assert texts(age, "td") == ["3 s", "4 s", "5 s", "6 s", "50 s"]

    def test_a_queue_looks_the_same_in_both(self) -> None:
        # given: the shallowest queue has the oldest message, and of one nobody knows the depth
        history = {f"q{number}": self.line((number, float(9 - number))) for number in range(1, 7)}
        history["q0"] = self.line((None, 100.0))

        # when
        depth, age = map(parsed, figures.of_queues(history, MINUTE))

        # then
        of_depth, of_age = self.styles(depth), self.styles(age)
        both = set(of_depth) & set(of_age)
        assert both
        assert {name: of_depth[name] for name in both} == {name: of_age[name] for name in both}
        assert len(set(of_age.values())) == len(of_age) == 5

    @staticmethod
    def styles(figure: ET.Element) -> dict[str, str]:
        return {one.get("title", ""): next(one.iter("g")).get("class", "") for one in figure.iter("li")}


@pytest.mark.parametrize(
    ("minutes", "words"), [(1, "minute"), (12, "12 minutes"), (60, "hour"), (90, "90 minutes"), (120, "2 hours")]
)
def test_a_step_has_a_name(minutes: int, words: str) -> None:
    assert figures.step_name(minutes * MINUTE) == words
