"""Draw charts as inline SVG, which takes its colors from the page and so follows its light and dark style.

In: a ``Chart``. Out: markup with a title and a description for screen readers. Series differ in dash and in the shape
of their points, not only in color.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bothways.errors import shown
from bothways.pages.elements import Cell, Markup, details, element, table
from bothways.pages.figures import Axis, Chart, Figure, Matrix, Series, Table, thinned

_WIDTH, _PLOT_HEIGHT = 460.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 14.0, 10.0, 46.0
_LEGEND_ROW = 19.0
_CHARACTER = 6.6
"""Approximate width of a character in the legend."""
_TICKS = 5
_NUMBERS_SHOWN = 21
_LONGEST_NAME = 32
_SHADES = 8

_STYLES = {"ensemble": 0, "forward": 1, "backward": 2, "linear": 3}
_OTHERS = 4
"""Number of styles for series of other names, behind those that have their own."""
_SHAPES = ("circle", "square", "triangle", "diamond")
_CORNERS = {
    "square": ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)),
    "triangle": ((0.0, -1.3), (1.2, 1.0), (-1.2, 1.0)),
    "diamond": ((0.0, -1.4), (1.4, 0.0), (0.0, 1.4), (-1.4, 0.0)),
}


@dataclass(frozen=True)
class _Scale:
    """Maps values of an axis to positions on the page."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / (self.high - self.low) * (self.end - self.start)


def figure(shown_figure: Figure) -> Markup:
    """Return a figure of any kind with its title and description."""
    drawn = {Chart: _chart_with_numbers, Table: _table, Matrix: _matrix}[type(shown_figure)]
    return element(
        "figure",
        element("figcaption", element("h3", shown_figure.title), element("p", shown_figure.description)),
        drawn(shown_figure),  # type: ignore[operator]
        class_="chart" if isinstance(shown_figure, Chart) else "wide",
        id=shown_figure.key,
    )


def _chart_with_numbers(chart: Chart) -> Markup:
    return Markup(f"{chart_svg(chart)}{details('Numbers', *(_numbers(chart, each) for each in chart.series))}")


def _table(shown_table: Table) -> Markup:
    return table(shown_table.columns, shown_table.rows, caption=None)


def _matrix(matrix: Matrix) -> Markup:
    """Return a table whose cells are shaded by their share of the row. The counts are written, too."""
    names = [shown(name, _LONGEST_NAME) for name in matrix.names]
    head = element(
        "tr",
        element("th", f"{matrix.row_title} ↓ {matrix.column_title} →", scope="col"),
        [element("th", name, scope="col", class_="number") for name in names],
    )
    rows = []
    for place, (name, counts) in enumerate(zip(names, matrix.counts, strict=True)):
        whole = max(1, sum(counts))
        cells = [
            element(
                "td",
                count or "·",
                class_=f"number shade-{math.ceil(_SHADES * count / whole)}{' right' if column == place else ''}",
            )
            for column, count in enumerate(counts)
        ]
        rows.append(element("tr", element("th", name, scope="row"), cells))
    grid = element("table", element("thead", head), element("tbody", rows), class_="matrix")
    return element("div", grid, class_="scroll", tabindex="0", role="region", aria_label=matrix.title)


def chart_svg(chart: Chart) -> Markup:
    """Return the picture of a chart."""
    legend, legend_rows = _legend(chart)
    height = _PLOT_HEIGHT + _LEGEND_ROW * legend_rows + (4 if legend_rows else 0)
    x_scale, x_ticks = _scaled(chart.x, [value for each in chart.series for value in each.x], _LEFT, _WIDTH - _RIGHT)
    values = [value for each in chart.series for value in (*each.y, *(b for pair in each.intervals for b in pair))]
    y_scale, y_ticks = _scaled(chart.y, values, _PLOT_HEIGHT - _BOTTOM, _TOP)
    parts = [*_axes(chart, x_scale, x_ticks, y_scale, y_ticks)]
    if chart.diagonal:
        low, high = max(x_scale.low, y_scale.low), min(x_scale.high, y_scale.high)
        parts.append(_line(x_scale(low), y_scale(low), x_scale(high), y_scale(high), "reference"))
    parts += [_line(x_scale(at), _TOP, x_scale(at), _PLOT_HEIGHT - _BOTTOM, "vertical") for at in chart.verticals]
    bars = [each for each in chart.series if each.kind == "bars"]
    for number, each in enumerate(chart.series):
        style = _style(each.name, number)
        drawn = _bars(each, x_scale, y_scale, bars) if each.kind == "bars" else _drawn(each, x_scale, y_scale, style)
        parts.append(element("g", drawn, class_=f"series style-{style}"))
    ids = {"title": f"{chart.key}-title", "desc": f"{chart.key}-desc"}
    return element(
        "svg",
        element("title", chart.title, id=ids["title"]),
        element("desc", chart.description, id=ids["desc"]),
        parts,
        element("g", legend, transform=f"translate(0 {_PLOT_HEIGHT + 4})"),
        viewBox=f"0 0 {_WIDTH:g} {height:g}",
        role="img",
        aria_labelledby=" ".join(ids.values()),
        xmlns="http://www.w3.org/2000/svg",
    )


def _style(name: str, number: int) -> int:
    return _STYLES.get(name, len(_STYLES) + number % _OTHERS)


def _scaled(axis: Axis, values: Sequence[float], start: float, end: float) -> tuple[_Scale, list[float]]:
    """Return the scale of an axis and the values that it names."""
    if axis.categories:
        return _Scale(-0.5, len(axis.categories) - 0.5, start, end), list(map(float, range(len(axis.categories))))
    low = axis.low if axis.low is not None else min(values, default=0.0)
    high = axis.high if axis.high is not None else max(values, default=1.0)
    if high <= low:
        low, high = (low - 0.5, low + 0.5) if axis.low is None else (low, low + 1.0)
    step = _step(high - low)
    if axis.low is None:
        low = math.floor(low / step + 1e-9) * step
    if axis.high is None:
        high = math.ceil(high / step - 1e-9) * step
    first = math.ceil(low / step - 1e-9)
    ticks = [number * step for number in range(first, first + 12) if number * step <= high + step * 1e-6]
    return _Scale(low, high, start, end), ticks


def _step(span: float) -> float:
    """Return a round distance between two ticks: 1, 2 or 5 times a power of ten."""
    rough = span / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * 0.999)


def _axes(
    chart: Chart, x_scale: _Scale, x_ticks: Sequence[float], y_scale: _Scale, y_ticks: Sequence[float]
) -> list[Markup]:
    bottom, right = _PLOT_HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for tick, text in zip(y_ticks, _tick_texts(chart.y, y_ticks), strict=True):
        parts.append(_line(_LEFT, y_scale(tick), right, y_scale(tick), "grid"))
        parts.append(_text(text, _LEFT - 6, y_scale(tick) + 4, "end"))
    widest = (right - _LEFT) / max(1, len(chart.x.categories)) / _CHARACTER
    for tick, text in zip(x_ticks, _tick_texts(chart.x, x_ticks), strict=True):
        parts.append(_line(x_scale(tick), bottom, x_scale(tick), bottom + 4, "tick"))
        cut = shown(text, max(4, int(widest))) if chart.x.categories else text
        anchor = "end" if x_scale(tick) > right - 8 and not chart.x.categories else "middle"
        parts.append(_text(cut, x_scale(tick) + (6 if anchor == "end" else 0), bottom + 17, anchor))
    parts.append(_line(_LEFT, bottom, right, bottom, "axis"))
    parts.append(_text(chart.x.title, (_LEFT + right) / 2, bottom + 36, "middle", "axis-title"))
    middle = (_TOP + bottom) / 2
    parts.append(
        element(
            "text",
            chart.y.title,
            transform=f"translate(13 {middle:g}) rotate(-90)",
            text_anchor="middle",
            class_="axis-title",
        )
    )
    return parts


def _tick_texts(axis: Axis, ticks: Sequence[float]) -> list[str]:
    if axis.categories:
        return list(axis.categories)
    if axis.percent:
        digits = 0 if all(abs(100 * tick - round(100 * tick)) < 1e-6 for tick in ticks) else 1
        return [f"{tick:.{digits}%}" for tick in ticks]
    return [_number(tick) for tick in ticks]


def _number(value: float) -> str:
    """Return a number with four digits."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 and value == round(value) else f"{value:.4g}"


def _drawn(series: Series, x_scale: _Scale, y_scale: _Scale, style: int) -> list[Markup]:
    """Return lines and points of a series."""
    places = [(x_scale(x), y_scale(y)) for x, y in zip(series.x, series.y, strict=True)]
    parts = _whiskers(series, places, y_scale)
    if series.kind in ("line", "step") and places:
        path = [f"M{places[0][0]:.1f} {places[0][1]:.1f}"]
        for x, y in places[1:]:
            path.append(f"H{x:.1f}V{y:.1f}" if series.kind == "step" else f"L{x:.1f} {y:.1f}")
        parts.append(element("path", d="".join(path), class_="line"))
    if series.kind == "points" or series.intervals:
        many = len(places) > 60
        parts += [_point(_SHAPES[style % len(_SHAPES)], x, y, 2.2 if many else 3.8, many) for x, y in places]
    return parts


def _whiskers(series: Series, places: Sequence[tuple[float, float]], y_scale: _Scale) -> list[Markup]:
    bounds = zip(places, series.intervals, strict=False)
    return [_line(x, y_scale(low), x, y_scale(high), "whisker") for (x, _), (low, high) in bounds]


def _bars(series: Series, x_scale: _Scale, y_scale: _Scale, bars: Sequence[Series]) -> list[Markup]:
    """Return the bars of a series, beside those of other series with bars."""
    positions = [x_scale(x) for x in series.x]
    gaps = [after - before for before, after in itertools.pairwise(positions) if after > before]
    room = min(gaps, default=(x_scale.end - x_scale.start) / max(1, len(positions))) * 0.7
    width, number = room / len(bars), list(bars).index(series)
    base = y_scale(max(y_scale.low, min(0.0, y_scale.high)))
    parts, places = [], []
    for x, y in zip(positions, series.y, strict=True):
        left, top = x - room / 2 + number * width, min(y_scale(y), base)
        parts.append(
            element(
                "rect",
                x=f"{left:.1f}",
                y=f"{top:.1f}",
                width=f"{width:.1f}",
                height=f"{abs(y_scale(y) - base):.1f}",
                class_="bar",
            )
        )
        places.append((left + width / 2, y_scale(y)))
    return [*parts, *_whiskers(series, places, y_scale)]


def _point(shape: str, x: float, y: float, size: float, is_faint: bool) -> Markup:
    class_ = "point faint" if is_faint else "point"
    if shape == "circle":
        return element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{size:g}", class_=class_)
    path = "L".join(f"{x + size * right:.1f} {y + size * down:.1f}" for right, down in _CORNERS[shape])
    return element("path", d=f"M{path}Z", class_=class_)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=class_)


def _text(text: str, x: float, y: float, anchor: str, class_: str | None = None) -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=class_)


def _legend(chart: Chart) -> tuple[list[Markup], int]:
    """Return the legend and its number of rows. A single series without reference lines needs none."""
    entries: list[tuple[str, Callable[[float, float], list[Markup]], str]] = []
    for number, each in enumerate(chart.series):
        style = _style(each.name, number)
        entries.append((each.name, _sample_of(each, style), f"series style-{style}"))
    if chart.diagonal:
        entries.append((f"{chart.y.title} = {chart.x.title}", _sample("reference"), "series"))
    if chart.verticals:
        entries.append((chart.vertical_name, _sample("vertical"), "series"))
    if len(entries) < 2:
        return [], 0
    parts, x, row = [], _LEFT, 0
    for name, sample, class_ in entries:
        text = shown(name, 56)
        width = 34 + _CHARACTER * len(text) + 14
        if x > _LEFT and x + width > _WIDTH:
            x, row = _LEFT, row + 1
        y = row * _LEGEND_ROW + 9
        parts.append(element("g", sample(x, y), class_=class_))
        parts.append(_text(text, x + 32, y + 4, "start"))
        x += width
    return parts, row + 1


def _sample(class_: str) -> Callable[[float, float], list[Markup]]:
    return lambda x, y: [_line(x, y, x + 26, y, class_)]


def _sample_of(series: Series, style: int) -> Callable[[float, float], list[Markup]]:
    """Return a function that draws a sample of a series for the legend."""

    def draw(x: float, y: float) -> list[Markup]:
        if series.kind == "bars":
            return [element("rect", x=f"{x + 6:g}", y=f"{y - 6:g}", width="14", height="12", class_="bar")]
        parts = [] if series.kind == "points" else [_line(x, y, x + 26, y, "line")]
        if series.kind == "points" or series.intervals:
            parts.append(_point(_SHAPES[style % len(_SHAPES)], x + 13, y, 3.8, False))
        return parts

    return draw


def _numbers(chart: Chart, series: Series) -> Markup:
    """Return the values of a series as a table, of a long one some."""
    columns = [chart.x.title, chart.y.title, *(["95 % interval"] if series.intervals else [])]
    rows: list[list[Cell]] = []
    for place in thinned(len(series.x), _NUMBERS_SHOWN):
        row: list[Cell] = [_value(chart.x, series.x[place]), _value(chart.y, series.y[place])]
        if series.intervals:
            row.append(" to ".join(_value(chart.y, bound) for bound in series.intervals[place]))
        rows.append(row)
    some = f", {len(rows)} of {len(series.x):,} points" if len(rows) < len(series.x) else ""
    return table(columns, rows, caption=f"{series.name}{some}")


def _value(axis: Axis, value: float) -> str:
    if axis.categories:
        return axis.categories[int(value)]
    return f"{value:.1%}" if axis.percent else _number(value)
