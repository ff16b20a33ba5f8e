"""The page in a real Chromium: by keyboard, in light and dark, without requests to other hosts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from bothways.runtime.classifier import Classifier
from bothways.text.reading import reading_positions
from tests.serve.browsers import NEEDS_CHROMIUM, opened
from tests.serve.conftest import HOST, RunningServer

pytestmark = NEEDS_CHROMIUM


@pytest.fixture
def page(browser: Browser, server: RunningServer) -> Iterator[Page]:
    """The opened page of a server with one classifier."""
    with opened(browser, server) as found:
        yield found


def test_a_text_is_classified_by_keyboard_alone(page: Page, model: Classifier) -> None:
    text = "What a LOVELY film; I loved every minute of it!"
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type(text)
    page.keyboard.press("Control+Enter")
    (prediction,) = model.stream([text])
    expect(page.locator("#verdict strong")).to_have_text(str(prediction.label))
    bars = page.locator("#labels .bar").all_inner_texts()
    assert len(bars) == 3 * len(model.labels)
    for name, row in prediction.probabilities.items():
        for probability in row:
            assert any(name in line and f"{100 * probability:.1f} %" in line for line in bars)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Classify"


def test_tokens_are_shown_in_the_reading_order_of_each_direction(page: Page, model: Classifier) -> None:
    text = "The DOG ate the cat"
    page.fill("#text", text)
    page.click("#classify")
    page.wait_for_selector("#readings ol")
    tokenized = model.tokenizer.tokenize(text)
    tokens = model.tokenizer.tokens(tokenized.ids.tolist())
    lists = page.locator("#readings ol")
    for number, member in enumerate(model.manifest.members):
        order = reading_positions(tokenized, member.direction, member.special_tokens)
        assert lists.nth(number).locator("li").all_text_contents() == [tokens[place] for place in order]


def test_disagreement_of_the_directions_is_shown(page: Page, model: Classifier) -> None:
    texts = [f"the {one} sat on the {two}" for one in "abcdefghij" for two in "klmnopqrst"]
    rows = model.predict_proba_by_direction(texts)
    differs = (rows["forward"].argmax(axis=1) != rows["backward"].argmax(axis=1)).tolist()
    page.fill("#text", texts[differs.index(True)])
    page.click("#classify")
    expect(page.locator("#disagreement")).to_contain_text("The directions disagree")


def test_a_regression_model_shows_its_value_and_those_of_both_directions(
    browser: Browser, regression_server: RunningServer, regression_model: Classifier
) -> None:
    text = "What a LOVELY film"
    (prediction,) = regression_model.stream([text])
    with opened(browser, regression_server) as page:
        page.fill("#text", text)
        page.click("#classify")
        page.wait_for_selector("#readings ol")
        expect(page.locator("#verdict")).to_have_text(f"{prediction.value:.6g}")
        numbers = page.locator("#labels .number").all_inner_texts()
        assert [number.split() for number in numbers] == [
            [name, f"{prediction.values[name]:.6g}"] for name in ("forward", "backward", "ensemble")
        ]
        expect(page.locator("#numbers caption")).to_have_text("Value per direction")
        assert page.locator("#labels .bar").count() == 0
        assert "%" not in page.locator("#result").inner_text()
        apart = abs(prediction.scores["forward"] - prediction.scores["backward"])[0]
        expect(page.locator("#disagreement")).to_contain_text(f"The directions differ by {apart:.6g}")
        page.select_option("#model", "tiny")
        page.click("#classify")
        expect(page.locator("#numbers caption")).to_have_text("Probabilities per label")
        assert page.locator("#labels .bar").count() > 0


def test_a_model_with_several_text_columns_has_an_input_for_each(
    browser: Browser, fields_server: RunningServer, fields_model: Classifier
) -> None:
    row = ("What a LOVELY film", "xxfld and a body")
    (prediction,) = fields_model.stream([row])
    with opened(browser, fields_server) as page:
        page.get_by_label("title").fill(row[0])
        page.get_by_label("body").fill(row[1])
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#readings ol")
        expect(page.locator("#verdict strong")).to_have_text(str(prediction.label))
        tokens = page.locator("#readings ol").first.locator("li").all_text_contents()
        assert tokens.count("xxfld") == 1
        page.select_option("#model", "tiny")
        assert page.locator("#texts textarea").count() == 1
        page.fill("#text", "one text")
        page.click("#classify")
        page.wait_for_selector("#readings ol")


def test_markup_in_a_text_stays_text(page: Page) -> None:
    page.fill("#text", "<img src=x onerror=alert(1)> <b>bold</b>")
    page.click("#classify")
    page.wait_for_selector("#readings ol")
    assert page.locator("img, b").count() == 0


def test_an_error_is_shown(browser: Browser, server: RunningServer) -> None:
    with opened(browser, server, statuses=(429,)) as page:
        page.route("**/v1/classify", lambda route: route.fulfill(status=429, body='{"error": "the queue is full"}'))
        page.click("#classify")
        expect(page.locator("#error")).to_have_text("There is no text. Type or paste one.")
        page.fill("#text", "a")
        page.click("#classify")
        expect(page.locator("#error")).to_have_text("the queue is full")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_light_and_dark(
    browser: Browser, server: RunningServer, scheme: str, tmp_path: Path
) -> None:
    page = browser.new_page(
        color_scheme="dark" if scheme == "dark" else "light", viewport={"width": 900, "height": 1000}
    )
    page.goto(f"http://{HOST}:{server.port}/")
    page.fill("#text", "What a LOVELY film")
    page.click("#classify")
    page.wait_for_selector("#readings ol")
    page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
    for selector in (
        "body",
        "#hint",
        "button.main",
        ".name-forward",
        ".name-backward",
        ".name-ensemble",
        "#disagreement",
    ):
        ink, paper = page.eval_on_selector(selector, _COLORS)
        assert contrast(ink, paper) >= 4.5, (scheme, selector, ink, paper)
    page.close()


_COLORS = """element => {
  const clear = "rgba(0, 0, 0, 0)";
  let below = element;
  while (getComputedStyle(below).backgroundColor === clear && below.parentElement) below = below.parentElement;
  return [getComputedStyle(element).color, getComputedStyle(below).backgroundColor];
}"""


def contrast(ink: str, paper: str) -> float:
    """Return the contrast ratio of WCAG 2."""
    high, low = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(color: str) -> float:
    parts = [int(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
