"""Pages on paper and on a phone, in a real Chromium: names of classes are whole, and nothing is cut off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from bothways.pages.charts import figure
from bothways.pages.elements import element, section
from bothways.pages.figures import Matrix, Table
from bothways.pages.shell import document
from tests.serve.browsers import NEEDS_CHROMIUM, started_browser

pytestmark = NEEDS_CHROMIUM
PAPER_WIDTH = 718
"""A4 without margins of 10 mm, in CSS pixels."""
NAMES = [f"replacement_card_duration_{number}" for number in range(60)]
INTERVALS = ("precision", "95 % interval", "recall", "95 % interval", "F1", "rows", "predicted")
CLASSES = Table(
    "classes",
    "Metrics per class",
    "Of the ensemble.",
    ("label", *INTERVALS),
    tuple((name, "94.5%", "89.5% to 97.2%", "99.3%", "96.0% to 99.9%", "0.968", "138", "145") for name in NAMES),
)
MATRIX = Matrix("matrix", "Confusion matrix", "Rows.", "true", "predicted", ("a", "b"), ((1, 2), (3, 4)))
PAGE = document(
    "a report",
    element("h1", "A report"),
    section("answers", "Answers", element("div", [figure(CLASSES), figure(MATRIX)], class_="figures")),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started_browser() as found:
        yield found


def shown(browser: Browser, folder: Path, width: int, media: str) -> Page:
    path = folder / "page.html"
    path.write_bytes(PAGE)
    view = browser.new_page(viewport={"width": width, "height": 900})
    view.emulate_media(media=media)  # type: ignore[arg-type]
    view.goto(path.as_uri())
    return view


@pytest.mark.parametrize(("width", "media"), [(PAPER_WIDTH, "print"), (1200, "screen"), (390, "screen")])
def test_the_name_of_a_class_is_not_broken(browser: Browser, tmp_path: Path, width: int, media: str) -> None:
    with shown(browser, tmp_path, width, media) as view:
        heights = view.eval_on_selector_all("#classes tbody th", "cells => cells.map(cell => cell.offsetHeight)")
        line = view.eval_on_selector("#classes thead th", "cell => cell.offsetHeight")
    assert len(heights) == 60
    assert max(heights) <= line + 2


@pytest.mark.parametrize(("width", "media"), [(PAPER_WIDTH, "print"), (390, "screen")])
def test_no_table_reaches_beyond_the_page(browser: Browser, tmp_path: Path, width: int, media: str) -> None:
    with shown(browser, tmp_path, width, media) as view:
        assert view.evaluate("document.documentElement.scrollWidth") == width


def test_on_paper_a_long_table_continues_on_the_next_page_and_a_matrix_is_kept_whole(
    browser: Browser, tmp_path: Path
) -> None:
    with shown(browser, tmp_path, PAPER_WIDTH, "print") as view:
        breaks = view.eval_on_selector_all("figure", "all => all.map(each => getComputedStyle(each).breakInside)")
        head = view.eval_on_selector("thead", "each => getComputedStyle(each).display")
    assert breaks == ["auto", "avoid"]
    assert head == "table-header-group"  # is repeated on each page
