"""The words that decided, on the page in a real Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from bothways.runtime.classifier import Classifier
from bothways.runtime.explanation import Explanation
from tests.serve.browsers import NEEDS_CHROMIUM, opened
from tests.serve.conftest import RunningServer
from tests.serve.test_page import contrast

pytestmark = NEEDS_CHROMIUM
TEXT = "What a LOVELY film 🎬 <b>and</b>  more"


def explained(page: Page, *texts: str) -> None:
    for area, text in zip(page.locator("#texts textarea").all(), texts, strict=True):
        area.fill(text)
    page.click("#classify")
    page.wait_for_selector("#readings ol")
    page.click("#explain")
    page.wait_for_selector("#explanation h3")


def colored_words(page: Page, name: str) -> dict[str, str]:
    """Return the class of each word that is colored for a direction."""
    place = page.locator("#explanation h3").all_text_contents()
    number = next(number for number, title in enumerate(place) if title.startswith(name))
    spans = page.locator("#explanation h3").nth(number).locator("xpath=following-sibling::p[1]/span").all()
    return {span.inner_text(): str(span.get_attribute("class")) for span in spans if span.get_attribute("class")}


def expected_words(explanation: Explanation, name: str) -> dict[str, str]:
    numbers = {word.text: word.attributions[name] for word in explanation.words}
    most = max(map(abs, numbers.values()))
    return {word: "for" if number > 0 else "against" for word, number in numbers.items() if abs(number) >= 0.08 * most}


def test_words_are_colored_by_what_they_add(browser: Browser, server: RunningServer, model: Classifier) -> None:
    explanation = model.explain(TEXT)
    with opened(browser, server) as page:
        explained(page, TEXT)
        titles = page.locator("#explanation h3").all_text_contents()
        assert titles == [f"{name}: {100 * score:.1f} %" for name, score in explanation.scores.items()]
        for name in explanation.methods:
            assert colored_words(page, name) == expected_words(explanation, name)
        assert page.locator("#explanation .words").nth(1).text_content() == TEXT
        strongest = max(explanation.words, key=lambda word: word.attributions["forward"])
        expect(page.locator("#explanation p.soft").nth(1)).to_contain_text(f"For: {strongest.text} +")
        assert page.locator("#explanation b").count() == 0


def test_another_label_can_be_explained(browser: Browser, server: RunningServer, model: Classifier) -> None:
    with opened(browser, server) as page:
        explained(page, TEXT)
        for label in map(str, model.labels):
            page.select_option("#explained", label=label)
            page.click("#explain")
            expect(page.locator("#explanation p strong")).to_have_text(label)
            assert colored_words(page, "ensemble") == expected_words(model.explain(TEXT, label=label), "ensemble")


def test_a_new_result_has_no_old_explanation(browser: Browser, server: RunningServer) -> None:
    with opened(browser, server) as page:
        explained(page, TEXT)
        page.fill("#text", "another text")
        page.click("#classify")
        page.wait_for_selector("#readings ol")
        expect(page.locator("#explanation h3")).to_have_count(0)


def test_several_columns_and_values(
    browser: Browser, fields_server: RunningServer, fields_model: Classifier, regression_server: RunningServer
) -> None:
    explanation = fields_model.explain(("A film", "I LOVED it"))
    with opened(browser, fields_server) as page:
        explained(page, "A film", "I LOVED it")
        shown = page.locator("#explanation .words").all_text_contents()[1:3]
        assert shown == ["title: A film", "body: I LOVED it"]
        strongest = max(explanation.words, key=lambda word: abs(word.attributions["forward"]))
        assert strongest.text in page.locator("#explanation p.soft").nth(1).inner_text()
    with opened(browser, regression_server) as page:
        explained(page, TEXT)
        expect(page.locator("label[for=explained]")).to_have_text("Target")
        assert "%" not in page.locator("#explanation").inner_text()


def test_an_error_is_shown(browser: Browser, server: RunningServer) -> None:
    with opened(browser, server, statuses=(413,)) as page:
        page.fill("#text", "film " * 5_000)
        page.click("#classify")
        page.wait_for_selector("#readings ol")
        page.click("#explain")
        expect(page.locator("#error")).to_contain_text("but at most 10000 can be explained")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colored_words_can_be_read_in_light_and_dark(browser: Browser, server: RunningServer, scheme: str) -> None:
    with opened(browser, server, color_scheme=scheme) as page:
        explained(page, TEXT)
        words = page.locator("#explanation .for, #explanation .against").all()
        assert len(words) > 3
        for word in words:
            ink, paper = (word.evaluate(f"element => getComputedStyle(element).{name}") for name in _COLORS)
            assert paper.startswith("color(srgb ")  # of color-mix, with parts from 0 to 1
            parts = [255 * float(part) for part in paper.removeprefix("color(srgb ").rstrip(")").split()]
            assert contrast(ink, f"rgb({', '.join(str(round(part)) for part in parts)})") >= 4.5


_COLORS = ("color", "backgroundColor")


@pytest.mark.parametrize("is_explained", [True, False])
def test_a_saved_page_keeps_an_explanation(
    browser: Browser, server: RunningServer, tmp_path: Path, is_explained: bool
) -> None:
    with opened(browser, server) as page:
        explained(page, TEXT)
        if not is_explained:
            page.click("#classify")
            expect(page.locator("#explanation h3")).to_have_count(0)
            page.wait_for_selector("#readings ol")
        with page.expect_download() as download:
            page.click("#save-one")
        download.value.save_as(tmp_path / "saved.html")
    saved = browser.new_page()
    saved.goto((tmp_path / "saved.html").as_uri())
    assert saved.locator("button, select").count() == 0
    assert saved.locator("#explanation h3").count() == (3 if is_explained else 0)
    assert saved.get_by_text("Words that decided").count() == is_explained
    if is_explained:
        color = saved.locator(".words .for").first.evaluate("element => getComputedStyle(element).backgroundColor")
        assert color not in ("rgba(0, 0, 0, 0)", "rgb(255, 255, 255)")
    saved.close()
