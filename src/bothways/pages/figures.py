"""Figures as plain data: what a chart, a table or a matrix shows, independent of how it is drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bothways.pages.elements import Cell

SeriesKind = Literal["line", "step", "points", "bars"]
MOST_POINTS = 1500
"""A chart shows at most this number of points."""


@dataclass(frozen=True)
class Axis:
    """An axis of a chart.

    Attributes:
        title: What it shows, with the unit.
        percent: Whether values are shares, 0..1, written as percentages.
        low: Its lowest value. Defaults to a round number below the lowest one that is drawn.
        high: Its highest value. Defaults to a round number above the highest one that is drawn.
        categories: Names of the values 0, 1, 2 and so on, if it has no numbers.
    """

    title: str
    percent: bool = False
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """Values that belong together.

    Attributes:
        name: Its name in the legend. ``forward``, ``backward``, ``linear`` and ``ensemble`` have their own styles.
        x: Positions.
        y: Values, as many as positions.
        kind: How they are drawn.
        intervals: Lower and upper bound of each value. Empty for none.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    kind: SeriesKind = "line"
    intervals: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Chart:
    """A chart with two axes.

    Attributes:
        key: Identifies it on a page.
        title: Title.
        description: What it shows and how to read it, one or two sentences.
        x: Horizontal axis.
        y: Vertical axis.
        series: What is drawn, the most important last.
        diagonal: Whether a line shows where both axes are equal.
        verticals: Positions of vertical lines.
        vertical_name: What the vertical lines are, for the legend.
    """

    key: str
    title: str
    description: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    diagonal: bool = False
    verticals: tuple[float, ...] = ()
    vertical_name: str = ""


@dataclass(frozen=True)
class Table:
    """A table of numbers and names.

    Attributes:
        key: Identifies it on a page.
        title: Title.
        description: What it shows and how to read it.
        columns: Titles of the columns.
        rows: Cells, as many per row as columns.
    """

    key: str
    title: str
    description: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Matrix:
    """Counts by row and column, such as a confusion matrix.

    Attributes:
        key: Identifies it on a page.
        title: Title.
        description: What it shows and how to read it.
        row_title: What the rows are.
        column_title: What the columns are.
        names: Names of the rows, and of the columns in the same order.
        counts: Counts by row and column.
    """

    key: str
    title: str
    description: str
    row_title: str
    column_title: str
    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


Figure = Chart | Table | Matrix


def thinned(count: int, most: int) -> list[int]:
    """Return at most ``most`` of the positions 0 to ``count - 1``, evenly spaced, with the first and the last one."""
    if count <= most:
        return list(range(count))
    return [round(number * (count - 1) / (most - 1)) for number in range(most)]


def as_points(values: Iterable[float]) -> tuple[float, ...]:
    """Return values as plain floats."""
    return tuple(map(float, values))
