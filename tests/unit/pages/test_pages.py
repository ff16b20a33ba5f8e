"""Pages: nothing is loaded or executed, every text is escaped, and charts state their numbers."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.pages.charts import chart_svg, figure
from bothways.pages.elements import Markup, details, element, escape, table
from bothways.pages.figures import Axis, Chart, Matrix, Series, Table, thinned
from bothways.pages.shell import document

HOSTILE = "<script>alert(1)</script>\"'&\u202e\x00</title></style>"


class _Reader(HTMLParser):
    """Collects the elements and the text of a page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def chart(name: str = "ensemble", **more: object) -> Chart:
    series = Series(name, (0.1, 0.5, 0.9), (0.2, 0.5, 0.8), "points", ((0.1, 0.3), (0.4, 0.6), (0.7, 0.9)))
    axis = Axis("predicted", percent=True, low=0, high=1)
    return Chart("key", name, name, axis, axis, (series,), **more)  # type: ignore[arg-type]


def plain(x: Axis, *series: Series) -> Chart:
    return Chart("c", "title", "description", x, Axis("y"), series)


def test_hostile_text_stays_text_in_every_place() -> None:
    parts = [
        element("p", HOSTILE, title=HOSTILE),
        table([HOSTILE, HOSTILE], [[HOSTILE, 1]], caption=HOSTILE),
        details(HOSTILE, HOSTILE),
        figure(chart(HOSTILE, diagonal=True, verticals=(0.5,), vertical_name=HOSTILE)),
        figure(
            Chart("c", "t", "d", Axis("x", categories=(HOSTILE,)), Axis("y"), (Series(HOSTILE, (0,), (1,), "bars"),))
        ),
        figure(Matrix("m", HOSTILE, HOSTILE, HOSTILE, HOSTILE, (HOSTILE,), ((1,),))),
        figure(Table("t", HOSTILE, HOSTILE, (HOSTILE,), ((HOSTILE,),))),
    ]
    page = _Reader(document(HOSTILE, parts))
    assert "script" not in page.tags
    assert page.tags.count("title") == 3  # the page's and two charts'
    assert page.tags.count("style") == 1
    assert not [name for name in page.attributes if name.startswith("on") or name == "style"]
    assert "\u202e" not in page.text
    assert "\x00" not in page.text
    assert "<script>alert(1)</script>" in page.text


@given(st.text())
def test_escaped_text_reads_as_it_was(text: str) -> None:
    page = _Reader(element("p", text, title=text).encode())
    assert page.tags == ["p"]
    if text.isprintable():
        assert page.text == text


def test_markup_is_not_escaped_twice() -> None:
    assert element("p", element("b", "a & b"), None, ["<", Markup("<br>")]) == "<p><b>a &amp; b</b>&lt;<br></p>"
    assert escape("<") == "&lt;"


def test_a_page_permits_its_own_style_only_and_loads_nothing() -> None:
    page = document("t", element("p", "text")).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    style = re.search(r"<style>(.*)</style>", page, flags=re.DOTALL)
    assert policy
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy[1].replace("&#x27;", "'").startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert not re.search(r"https?://|url\(|@import|src=", page)
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_a_chart_has_a_title_a_description_and_its_numbers() -> None:
    shown = figure(chart())
    assert '<title id="key-title">ensemble</title><desc id="key-desc">' in shown
    assert 'role="img" aria-labelledby="key-title key-desc"' in shown
    assert '<td class="number">10.0% to 30.0%</td>' in shown
    assert shown.count('class="whisker"') == 3


@pytest.mark.parametrize(
    ("values", "expected"),
    [((0.0, 7.3), ["0", "2", "4", "6", "8"]), ((-1.0, 1.0), ["-1", "-0.5", "0", "0.5", "1"]), ((5.0, 5.0), None)],
)
def test_ticks_are_round_numbers(values: tuple[float, ...], expected: list[str] | None) -> None:
    drawn = chart_svg(plain(Axis("x", categories=("a", "b")), Series("s", (0, 1), values)))
    found = re.findall(r'text-anchor="end">([^<]+)<', drawn)
    assert found == expected or (expected is None and len(found) >= 2)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20))
def test_every_point_lies_inside_the_picture(values: list[float]) -> None:
    positions = tuple(map(float, range(len(values))))
    drawn = chart_svg(
        Chart("k", "t", "d", Axis("x"), Axis("y"), (Series("ensemble", positions, tuple(values), "points"),))
    )
    for x, y in re.findall(r'cx="([^"]+)" cy="([^"]+)"', drawn):
        assert 57 <= float(x) <= 447
        assert 9 <= float(y) <= 205


def test_series_differ_without_color() -> None:
    names = ("forward", "backward", "linear", "ensemble")
    drawn = chart_svg(plain(Axis("x"), *(Series(name, (0, 1), (0, 1)) for name in names)))
    styles = re.findall(r'class="series style-(\d)"><path', drawn)
    assert len(set(styles)) == 4
    page = document("t").decode()
    dashes = re.findall(r"\.style-[123] \.line \{ stroke-dasharray: ([^;]+);", page)
    assert len(set(dashes)) == 3


def test_long_series_are_thinned_evenly() -> None:
    assert thinned(5, 10) == [0, 1, 2, 3, 4]
    assert thinned(101, 3) == [0, 50, 100]
    shown = figure(plain(Axis("x"), Series("s", tuple(range(500)), tuple(range(500)))))
    assert "21 of 500 points" in shown
