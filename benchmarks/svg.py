"""Three kinds of figures as SVG: bars, dots on a logarithmic scale, lines. Text stays text, and nothing runs in them.

Each is a light card with dark text, so that it can be read on a page of either colour.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Final

from benchmarks.ratios import short

WIDTH: Final = 760
MARGIN: Final = 24
TOP: Final = 74
ROW: Final = 28
BAR: Final = 16
PLOT_HEIGHT: Final = 260
#: About the width of a character, in pixels: text is not measured, so this is generous.
CHARACTER: Final = 6.9
ROOM_FOR_VALUES: Final = 110

#: Of whom: a colour that those who see few colours can tell from the others by its lightness.
COLOURS: Final = {"ours": "#0b5cad", "celery": "#e08a1e", "peer": "#8a93a0", "raw": "#d5dae1"}
#: Lines need more of them; what tells them apart beside the colour is the shape of their points.
LINES: Final = ("#0b5cad", "#e08a1e", "#2f8f5b", "#8a4fb0", "#5f6873", "#b3372f", "#1795a5", "#a88a00")
LIGHTER: Final = 0.45

STYLE: Final = (
    "text{font-family:system-ui,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;font-size:13px;fill:#1c2733}"
    ".title{font-size:16px;font-weight:600}.small{font-size:11px;fill:#55606c}.axis{stroke:#dfe4ea}"
    ".mark{stroke:#b3372f;stroke-dasharray:4 3}.span{stroke:#1c2733;stroke-width:1.2}"
    ".span,.halo{fill:none}.halo{stroke:#fff;stroke-width:3.4;stroke-opacity:.75}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What stands around a figure."""

    name: str
    title: str
    subtitle: str
    note: str
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One value: the median, with the least and the most of its rounds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A row of bars: whose it is, and the parts that it consists of, from the axis on."""

    label: str
    kind: str
    parts: tuple[float, ...]
    whole: Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Dots:
    """A row of dots: the usual value, and one that is seldom exceeded."""

    label: str
    kind: str
    usual: Point
    seldom: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line through points, one for each place on the axis, or none where nothing was measured."""

    label: str
    points: tuple[Point | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A value to compare with, as a broken line."""

    label: str
    value: float


def bars(frame: Frame, rows: Sequence[Bar], marks: Sequence[Mark] = ()) -> str:
    """Draw bars from nought."""
    largest = max([row.whole.high for row in rows] + [mark.value for mark in marks])
    ticks = round_numbers(largest)
    left = _room_for_labels([row.label for row in rows])
    scale = _linear(max(largest, ticks[-1]), left, WIDTH - MARGIN - ROOM_FOR_VALUES)
    bottom = TOP + ROW * len(rows)
    shapes = [*_ticks_below(ticks, scale, bottom), *_marks(marks, scale, bottom)]
    for number, row in enumerate(rows):
        shapes += _bar(row, TOP + ROW * number, left, scale, frame.unit)
    told = [f"{row.label}: {_said(row.whole, frame.unit)}" for row in rows]
    return _card(frame, shapes, told, bottom + 48)


def dots(frame: Frame, rows: Sequence[Dots]) -> str:
    """Draw dots on a logarithmic scale: from the usual value a line to the one that is seldom exceeded."""
    values = [value for row in rows for value in (row.usual.low, row.usual.high, row.seldom) if value]
    ticks = powers(min(values), max(values))
    left = _room_for_labels([row.label for row in rows])
    scale = _logarithmic(ticks[0], ticks[-1], left, WIDTH - MARGIN - ROOM_FOR_VALUES)
    bottom = TOP + ROW * len(rows)
    shapes = [*_ticks_below(ticks, scale, bottom)]
    for number, row in enumerate(rows):
        shapes += _dots(row, TOP + ROW * number, left, scale, frame.unit)
    told = [f"{row.label}: {_said(row.usual, frame.unit)}, p99 {_number(row.seldom)}" for row in rows]
    return _card(frame, shapes, told, bottom + 48)


def lines(frame: Frame, places: Sequence[str], rows: Sequence[Line], *, by_powers: bool = False) -> str:
    """Draw lines over places that stand at equal distances; `by_powers` on a logarithmic scale."""
    points = [point for row in rows for point in row.points if point]
    least, largest = min(point.low for point in points), max(point.high for point in points)
    ticks = powers(least, largest) if by_powers else round_numbers(largest)
    top = TOP + 20 * math.ceil(len(rows) / 2)
    left, right, bottom = MARGIN + 56, WIDTH - MARGIN - 20, top + PLOT_HEIGHT
    upright = (
        _logarithmic(ticks[0], ticks[-1], bottom, top + 8)
        if by_powers
        else _linear(max(largest, ticks[-1]), bottom, top + 8)
    )
    step = (right - left) / max(len(places), 1)
    across = [left + step * (number + 0.5) for number in range(len(places))]
    shapes = list(_legend([row.label for row in rows]))
    for tick in ticks:
        shapes.append(_stroke(left, upright(tick), right, upright(tick), "axis"))
        shapes.append(_text(left - 8, upright(tick) + 4, short(tick), "small", "end"))
    shapes += [_text(x, bottom + 20, place, "", "middle") for x, place in zip(across, places, strict=True)]
    for number, row in enumerate(rows):
        shapes += _line(number, row, across, upright)
    told = [
        f"{row.label}: "
        + ", ".join(f"{place} {_said(one, frame.unit)}" for place, one in zip(places, row.points, strict=True) if one)
        for row in rows
    ]
    return _card(frame, shapes, told, bottom + 56)


def round_numbers(largest: float, about: int = 5) -> list[float]:
    """Return nought and multiples of 1, 2 or 5 times a power of ten, the last of them not below `largest`."""
    if largest <= 0:
        return [0.0, 1.0]
    rough = largest / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [number * step for number in range(math.ceil(largest / step - 1e-9) + 1)]


def powers(least: float, most: float) -> list[float]:
    """Return the powers of ten around, at least two of them."""
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


Scale = Callable[[float], float]


def _linear(largest: float, start: float, end: float) -> Scale:
    return lambda value: start + (end - start) * value / largest


def _logarithmic(least: float, most: float, start: float, end: float) -> Scale:
    span = math.log10(most / least)
    return lambda value: start + (end - start) * math.log10(value / least) / span


def _bar(row: Bar, y: float, left: float, scale: Scale, unit: str) -> Iterator[str]:
    middle = y + ROW / 2
    yield _text(left - 10, middle + 4, row.label, "", "end")
    from_ = 0.0
    for number, part in enumerate(row.parts):
        x, end = scale(from_), scale(from_ + part)
        opacity = f' fill-opacity="{LIGHTER}"' if number else ""
        place = f'x="{x:.1f}" y="{middle - BAR / 2:.1f}" width="{max(end - x, 0.5):.1f}" height="{BAR}"'
        yield f'<rect {place} fill="{COLOURS[row.kind]}"{opacity}/>'
        from_ += part
    yield from _span(row.whole, middle, scale)
    yield _text(scale(max(row.whole.high, row.whole.value)) + 8, middle + 4, f"{short(row.whole.value)} {unit}".strip())


def _dots(row: Dots, y: float, left: float, scale: Scale, unit: str) -> Iterator[str]:
    middle, colour = y + ROW / 2, COLOURS[row.kind]
    usual, seldom = scale(row.usual.value), scale(row.seldom or row.usual.value)
    yield _text(left - 10, middle + 4, row.label, "", "end")
    yield f'<path d="M{usual:.1f} {middle:.1f}H{seldom:.1f}" stroke="{colour}" stroke-width="3"/>'
    yield from _span(row.usual, middle, scale)
    yield f'<circle cx="{usual:.1f}" cy="{middle:.1f}" r="5.5" fill="{colour}"/>'
    if row.seldom:
        yield f'<circle cx="{seldom:.1f}" cy="{middle:.1f}" r="4.5" fill="#fff" stroke="{colour}" stroke-width="2"/>'
    words = f"{short(row.usual.value)} {unit}" + (f" ({short(row.seldom)})" if row.seldom else "")
    yield _text(max(usual, seldom, scale(row.usual.high)) + 10, middle + 4, words)


def _line(number: int, row: Line, across: Sequence[float], upright: Scale) -> Iterator[str]:
    colour = LINES[number % len(LINES)]
    found = [(x, point) for x, point in zip(across, row.points, strict=True) if point]
    for (x, point), (next_x, following) in pairwise(found):
        way = f"M{x:.1f} {upright(point.value):.1f}L{next_x:.1f} {upright(following.value):.1f}"
        yield f'<path d="{way}" stroke="{colour}" stroke-width="2.2"/>'
    for x, point in found:
        yield _stroke(x, upright(point.low), x, upright(point.high), "span")
        yield _shape(number, x, upright(point.value), colour)


def _shape(number: int, x: float, y: float, colour: str) -> str:
    """Draw the mark of a line's points: filled or hollow, round or square."""
    paint = f'fill="{colour if number % 2 == 0 else "#fff"}" stroke="{colour}" stroke-width="2"'
    if number // 2 % 2 == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" {paint}/>'
    return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" {paint}/>'


def _legend(labels: Sequence[str]) -> Iterator[str]:
    for number, label in enumerate(labels):
        x, y = MARGIN + 6 + (number % 2) * (WIDTH - 2 * MARGIN) / 2, TOP + 6 + 20 * (number // 2)
        yield _shape(number, x, y - 4, LINES[number % len(LINES)])
        yield _text(x + 14, y, label)


def _ticks_below(ticks: Iterable[float], scale: Scale, bottom: float) -> Iterator[str]:
    for tick in ticks:
        yield _stroke(scale(tick), TOP - 4, scale(tick), bottom + 4, "axis")
        yield _text(scale(tick), bottom + 18, short(tick), "small", "middle")


def _marks(marks: Iterable[Mark], scale: Scale, bottom: float) -> Iterator[str]:
    for mark in marks:
        yield _stroke(scale(mark.value), TOP - 8, scale(mark.value), bottom + 4, "mark")
        yield _text(scale(mark.value), TOP - 10, mark.label, "small", "middle")


def _span(point: Point, y: float, scale: Scale) -> Iterator[str]:
    if point.high > point.low:
        way = f"M{scale(point.low):.1f} {y - 4:.1f}v8m0-4H{scale(point.high):.1f}m0-4v8"
        yield f'<path class="halo" d="{way}"/><path class="span" d="{way}"/>'


def _stroke(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<path class="{style}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def _text(x: float, y: float, words: str, style: str = "", anchor: str = "") -> str:
    named = (f' class="{style}"' if style else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}>{escape(words)}</text>'


def _room_for_labels(labels: Iterable[str]) -> float:
    return MARGIN + 12 + min(max(len(label) for label in labels) * CHARACTER, WIDTH / 2)


def _said(point: Point, unit: str) -> str:
    return f"{short(point.value)} {unit}".strip()


def _number(value: float | None) -> str:
    return "not measured" if value is None else short(value)


def _card(frame: Frame, shapes: Iterable[str], told: Iterable[str], height: float) -> str:
    described = f"{frame.subtitle}. {'; '.join(told)}. {frame.note}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-labelledby="{frame.name}-title {frame.name}-desc">'
    )
    parts = [
        head,
        f'<title id="{frame.name}-title">{escape(frame.title)}</title>',
        f'<desc id="{frame.name}-desc">{escape(described)}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="8" fill="#fff" stroke="#cfd6de"/>',
        _text(MARGIN, 30, frame.title, "title"),
        _text(MARGIN, 49, frame.subtitle, "small"),
        *shapes,
        _text(MARGIN, height - 12, frame.note, "small"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
