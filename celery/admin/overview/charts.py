"""Charts as inline SVG, made on the server: pure functions from numbers to markup.

There is no style attribute and no script in it, so it is drawn under "default-src 'self'" too. Colours, dashes and the
size of letters are in celery/overview.css. Whatever the numbers are, all coordinates are within the view box.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from celery.admin.scales import COUNT, Unit, drawable, named_moments, period

WIDTH, HEIGHT = 480, 200
LEFT, RIGHT, TOP, BOTTOM = 54, 472, 12, 172
#: A name is a link's length at most; the whole of it is in the title.
LONGEST_NAME = 32
#: Lines that can be told apart, by colour and by dash.
LINE_STYLES = ("line-1", "line-2", "line-3", "line-4", "line-5")
#: How near the right end the name of a moment is aligned with it instead of centred.
EDGE = 24
WIDEST_BAR = 40.0
LOWEST_BAR = 1.0
NOTHING = mark_safe("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Numbers for the moments of a chart, None where there is none. `style` is a class of the style sheet."""

    name: str
    style: str
    values: Sequence[float | None]

    def __post_init__(self) -> None:
        """Keep only what can be drawn and written into XML."""
        object.__setattr__(self, "name", printable(self.name))
        object.__setattr__(self, "values", [drawable(value) for value in self.values])

    @property
    def known(self) -> list[float]:
        """Return the values without the gaps."""
        return [value for value in self.values if value is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What is to be drawn: `key` is unique in the page, `moments` are even and ascending, `step` is between them."""

    key: str
    title: str
    summary: str
    moments: Sequence[datetime]
    step: timedelta
    series: Sequence[Series]
    unit: Unit = COUNT

    def x(self, place: float) -> float:
        """Return the abscissa of a place, counted in steps from the first moment."""
        return LEFT + (RIGHT - LEFT) * min(max(place / max(len(self.moments), 1), 0), 1)


def bars(chart: Chart) -> SafeString:
    """Return a figure with one bar a moment, in which the series stand upon each other."""
    totals = [sum(one.values[at] or 0 for one in chart.series) for at in range(len(chart.moments))]
    ticks = chart.unit.ticks(max(totals, default=0))
    drawn = _join(_bar(chart, at, ticks[-1]) for at, total in enumerate(totals) if total)
    return _figure(chart, ticks, drawn, _pattern_definitions(chart), _bar_sample)


def lines(chart: Chart) -> SafeString:
    """Return a figure with one line a series, broken where a value is missing."""
    ticks = chart.unit.ticks(max((value for one in chart.series for value in one.known), default=0))
    drawn = _join(_line(chart, one, ticks[-1]) for one in chart.series)
    return _figure(chart, ticks, drawn, NOTHING, _line_sample)


def printable(text: str) -> str:
    """Return text without the characters that XML forbids: names come from messages."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


# -- the frame


def _figure(
    chart: Chart,
    ticks: Sequence[float],
    drawn: SafeString,
    definitions: SafeString,
    sample: Callable[[Chart, Series], SafeString],
) -> SafeString:
    return format_html(
        '<figure class="celery-chart"><figcaption><h2 id="{key}-title">{title}</h2><p id="{key}-summary">{summary}</p>'
        '</figcaption>{legend}<svg class="drawing" viewBox="0 0 {width} {height}" role="img" '
        'aria-labelledby="{key}-title {key}-summary">{definitions}{grid}{drawn}</svg>{table}</figure>',
        key=chart.key,
        title=chart.title,
        summary=chart.summary,
        width=WIDTH,
        height=HEIGHT,
        legend=_legend(chart, sample),
        definitions=definitions,
        grid=_grid(chart, ticks),
        drawn=drawn,
        table=_table(chart),
    )


def _grid(chart: Chart, ticks: Sequence[float]) -> SafeString:
    rows = format_html_join(
        "",
        '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="scale" x="{}" y="{}" dy="4">{}</text>',
        (
            (LEFT, RIGHT, y, y, LEFT - 6, y, chart.unit.short(tick))
            for tick in ticks
            for y in [_number(_y(tick, ticks[-1]))]
        ),
    )
    columns = format_html_join(
        "",
        '<line class="mark" x1="{x}" x2="{x}" y1="{y}" y2="{low}"/>'
        '<text class="moment {where}" x="{x}" y="{base}">{name}</text>',
        (
            {
                "x": _number(x),
                "y": BOTTOM,
                "low": BOTTOM + 4,
                "base": BOTTOM + 19,
                "where": "last" if x > RIGHT - EDGE else "",
                "name": name,
            }
            for place, name in named_moments(chart.moments, chart.step)
            for x in [chart.x(place)]
        ),
    )
    return _join([rows, columns])


def _y(value: float, highest: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * min(value / highest, 1)


def _number(value: float) -> str:
    return f"{value:.1f}"


def _join(parts: Iterable[SafeString]) -> SafeString:
    return format_html_join("", "{}", ((part,) for part in parts))


# -- bars


def _bar(chart: Chart, at: int, highest: float) -> SafeString:
    width = min((chart.x(1) - LEFT) * 0.84, WIDEST_BAR)
    left = chart.x(at + 0.5) - width / 2
    base = float(BOTTOM)
    parts = []
    for one in chart.series:
        if value := one.values[at]:
            height = min(max(BOTTOM - _y(value, highest), LOWEST_BAR), base)
            base -= height
            parts.append(_rectangle((left, base, width, height), _pattern(chart, one)))
    said = ", ".join(f"{chart.unit.full(one.values[at] or 0)} {one.name}" for one in chart.series)
    return format_html("<g><title>{}: {}</title>{}</g>", period(chart.moments[at], chart.step), said, _join(parts))


def _rectangle(box: tuple[float, float, float, float], pattern: str) -> SafeString:
    numbers = map(_number, box)
    return format_html('<rect x="{}" y="{}" width="{}" height="{}" fill="url(#{})"/>', *numbers, pattern)


def _pattern(chart: Chart, one: Series) -> str:
    return f"{chart.key}-{one.style}"


def _pattern_definitions(chart: Chart) -> SafeString:
    """Return the fillings: ground and strokes are the style sheet's, so that each style looks different in grey too."""
    patterns = format_html_join(
        "",
        '<pattern id="{}" class="{}" width="6" height="6" patternUnits="userSpaceOnUse">'
        '<rect class="ground" width="6" height="6"/><path class="up" d="M-1 1l2-2M0 6l6-6M5 7l2-2"/>'
        '<path class="across" d="M0 1.5h6M0 4.5h6"/></pattern>',
        ((_pattern(chart, one), one.style) for one in chart.series),
    )
    return format_html("<defs>{}</defs>", patterns)


def _bar_sample(chart: Chart, one: Series) -> SafeString:
    return format_html('<rect x="1" y="1" width="22" height="10" fill="url(#{})"/>', _pattern(chart, one))


# -- lines


def _line(chart: Chart, one: Series, highest: float) -> SafeString:
    places = [(at, value) for at, value in enumerate(one.values[: len(chart.moments)]) if value is not None]
    found = [(at, value, chart.x(at + 0.5), _y(value, highest)) for at, value in places]
    runs = (list(run) for _, run in groupby(enumerate(found), lambda pair: pair[1][0] - pair[0]))
    path = " ".join("M" + "L".join(f"{x:.1f} {y:.1f}" for _, (_, _, x, y) in run) for run in runs)
    points = format_html_join(
        "",
        '<circle class="{}" cx="{}" cy="{}" r="4"><title>{}</title></circle>',
        (
            (
                "point alone" if _is_alone(one.values, at) else "point",
                _number(x),
                _number(y),
                f"{period(chart.moments[at], chart.step)}: {chart.unit.full(value)}, {one.name}",
            )
            for at, value, x, y in found
        ),
    )
    return format_html('<g class="{}"><path class="line" d="{}"/>{}</g>', one.style, path, points)


def _is_alone(values: Sequence[float | None], at: int) -> bool:
    """Tell whether a value has no neighbour, so that no line would show it."""
    around = [*values[max(at - 1, 0) : at], *values[at + 1 : at + 2]]
    return all(value is None for value in around)


def _line_sample(_chart: Chart, one: Series) -> SafeString:
    return format_html('<g class="{}"><path class="line" d="M0 6L24 6"/></g>', one.style)


# -- words


def _legend(chart: Chart, sample: Callable[[Chart, Series], SafeString]) -> SafeString:
    entries = format_html_join(
        "",
        '<li title="{}"><svg class="sample" viewBox="0 0 24 12" aria-hidden="true">{}</svg> {}</li>',
        ((one.name, sample(chart, one), shortened(one.name)) for one in chart.series),
    )
    return format_html('<ul class="legend">{}</ul>', entries)


def shortened(name: str) -> str:
    """Return a name of at most 32 letters."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"


def _table(chart: Chart) -> SafeString:
    """Return the same numbers for those who do not see the drawing, the latest first."""
    heads = format_html_join("", '<th scope="col">{}</th>', ((one.name,) for one in chart.series))
    rows = format_html_join(
        "",
        '<tr><th scope="row">{}</th>{}</tr>',
        (
            (period(moment, chart.step), _cells(chart, at))
            for at, moment in reversed(list(enumerate(chart.moments)))
            if any(one.values[at] is not None for one in chart.series)
        ),
    )
    return format_html(
        "<details><summary>The numbers of \N{LEFT DOUBLE QUOTATION MARK}{title}\N{RIGHT DOUBLE QUOTATION MARK}"
        '</summary><div class="scroll" tabindex="0" role="region" aria-label="{title}"><table><thead><tr>'
        '<th scope="col">Time</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div></details>',
        title=chart.title,
        heads=heads,
        rows=rows,
    )


def _cells(chart: Chart, at: int) -> SafeString:
    values = (one.values[at] for one in chart.series)
    texts = (("\N{EN DASH}" if value is None else chart.unit.full(value),) for value in values)
    return format_html_join("", "<td>{}</td>", texts)
