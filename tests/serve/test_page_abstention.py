"""What the page shows of a model that abstains, in a real Chromium: why, its label sets, and columns of a table."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import bothways
from bothways.bundle.manifest import AbstentionReason
from bothways.runtime.classifier import Classifier
from bothways.runtime.prediction import Prediction
from bothways.text.coverage import Unreadable
from tests.serve.browsers import NEEDS_CHROMIUM, opened
from tests.serve.conftest import CALIBRATION, RunningServer
from tests.serve.test_page import contrast
from tests.serve.test_page_access import check_offline, classify_one, saved
from tests.serve.test_page_tables import cells_of, choose, classify, csv_text, downloaded

pytestmark = [*NEEDS_CHROMIUM, pytest.mark.server]
IN_WORDS: dict[str, str] = {
    Unreadable.EMPTY: "there is no word in the text.",
    Unreadable.WORDLESS: "there is no letter in the text.",
    Unreadable.UNKNOWN: "most words have a character that it does not know.",
    AbstentionReason.OUT_OF_DOMAIN: "the text is unlike those of its calibration.",
    AbstentionReason.LOW_CONFIDENCE: "its confidence is below the threshold of {threshold:.1%}.",
}
TEXTS = [*CALIBRATION, "&nbsp;", "12 / 7", "漢字 かな", "!!!! ?!?! def f(x): return {x: [y for y in x]} " * 20]
"""Texts from which both models abstain for every reason, and some that they answer."""


@pytest.fixture
def page(browser: Browser, page_server: RunningServer) -> Iterator[Page]:
    with opened(browser, page_server) as found:
        yield found


@pytest.fixture(scope="module", params=["careful", "careful-topics"])
def careful(
    request: pytest.FixtureRequest, careful_bundle_path: Path, careful_topics_bundle_path: Path
) -> tuple[str, Path, Classifier]:
    """The name, the bundle and the model: single-label with label sets, and multi-label."""
    path = {"careful": careful_bundle_path, "careful-topics": careful_topics_bundle_path}[request.param]
    return request.param, path, bothways.load(path)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def answer_of(prediction: Prediction) -> str:
    chosen = ", ".join(map(str, prediction.chosen)) or "no label"
    probability = percent(float(prediction.probability or 0))
    return (
        f"{chosen} {probability}"
        if prediction.chosen == (prediction.label,)
        else (f"{chosen} (most probable: {prediction.label}, {probability})")
    )


def test_each_reason_is_shown_in_words_with_the_label_set(page: Page, careful: tuple[str, Path, Classifier]) -> None:
    name, _, model = careful
    abstention = model.abstention
    assert abstention is not None
    page.select_option("#model", name)
    expect(page.locator("#model-line")).to_contain_text(
        "at most 50\u00a0% of its answers are wrong, with 98 % probability"
    )
    seen, sizes = set(), set()
    for text, prediction in zip(TEXTS, model.stream(TEXTS), strict=True):
        verdict, line = classify_one(page, text), page.locator("#abstention")
        parts = []
        if prediction.abstained is None:
            assert verdict == answer_of(prediction)
        else:
            reason = IN_WORDS[prediction.abstained].format(threshold=abstention.threshold).replace("%", " %")
            assert verdict == f"The model abstains: {reason}"
            parts.append(f"Its answer would be {answer_of(prediction)}.")
        if prediction.label_set is not None:
            sizes.add(len(prediction.label_set))
            sets = "At least 90\u00a0% of label sets have the correct label, for texts like those of the calibration."
            parts.append(f"Label set: {', '.join(map(str, prediction.label_set))}. {sets}")
        shown = line.inner_text().strip() if line.is_visible() else ""
        assert shown == " ".join(parts)
        expect(page.locator("#status")).to_contain_text(f"Result: {verdict.rstrip('.')}. {shown}".strip())
        seen.add(prediction.abstained)
    assert seen == {None, *IN_WORDS}
    assert len(sizes) > 1 if name == "careful" else not sizes


def test_rows_have_the_reason_and_the_label_set(
    page: Page, careful: tuple[str, Path, Classifier], tmp_path: Path
) -> None:
    name, path, model = careful
    found = list(model.stream(TEXTS))
    table = csv_text([["text"], *([text] for text in TEXTS)])
    (tmp_path / "in.csv").write_text(table, newline="")
    bothways.score(path, tmp_path / "in.csv", tmp_path / "out.csv", text="text", abstain=True)
    page.select_option("#model", name)
    page.check("#mode-many")
    choose(page, "in.csv", table)
    abstained = [each.abstained for each in found if each.abstained is not None]
    classify(page, f"{len(TEXTS)} of {len(TEXTS)} rows classified, abstained from {len(abstained)}")
    headings = page.locator("#rows th").all_inner_texts()
    sets = ["Label set"] if name == "careful" else []
    assert headings == ["Row", "text", "Prediction", "Probability", "Abstained", *sets]
    for line, each in zip(page.locator("#rows tbody tr").all(), found, strict=True):
        cells = line.locator("td").all_inner_texts()[2:]
        expected = [", ".join(map(str, each.chosen)) or "no label", percent(float(each.probability or 0))]
        expected.append(each.abstained or "")
        if each.label_set is not None:
            expected.append(", ".join(map(str, each.label_set)))
        assert cells == expected
    captions = page.locator("#distributions caption").all_inner_texts()
    assert captions == ["Answered rows per label", "Answered rows, and rows per reason to abstain"]
    lines = [line.rsplit(maxsplit=1) for line in page.locator("#distributions tr").all_inner_texts()]
    answers = [each.chosen or ("no label",) for each in found if each.abstained is None]
    counts = Counter(label for chosen in answers for label in map(str, chosen))
    counts += Counter(answered=len(answers)) + Counter(map(str, abstained))
    assert {label: int(count) for label, count in lines if count != "0"} == counts
    header, *rows = downloaded(page)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        expected_rows = list(csv.reader(file))
    assert header == expected_rows[0]
    for row, theirs, each in zip(cells_of(rows), cells_of(expected_rows[1:]), found, strict=True):
        decision = slice(1, header.index("predicted_abstained"))
        assert row[decision.stop :] == theirs[decision.stop :]
        if each.abstained is None:
            assert row == theirs
        else:  # bothways predict --abstain leaves it empty
            assert set(theirs[decision]) == {""}
            assert all(row[decision]) or not each.chosen


def test_a_saved_result_has_the_reason(browser: Browser, page: Page, tmp_path: Path) -> None:
    page.select_option("#model", "careful")
    verdict = classify_one(page, "12 / 7")
    one = saved(page, "#save-one", tmp_path / "one.html")
    page.check("#mode-many")
    page.fill("#paste", "12 / 7\n3 / 4")
    classify(page, "2 of 2 rows classified, abstained from 2")
    many = saved(page, "#save-many", tmp_path / "many.html")
    check_offline(browser, one, [verdict, "Its answer would be", "Label set:", "Abstains"])
    check_offline(browser, many, ["only digits or punctuation", "Label set", "abstained from"])


def test_other_models_look_as_before(page: Page) -> None:
    """Also after a model that abstained."""
    page.select_option("#model", "careful")
    classify_one(page, "12 / 7")
    for name in ("tiny", "topics", "ratings"):
        page.select_option("#model", name)
        expect(page.locator("#model-line")).not_to_contain_text("bstain")
        classify_one(page, "12 / 7")
        assert page.locator("#abstention").is_hidden()
        assert page.locator("#verdict").get_attribute("class") == ""
        assert "bstain" not in page.locator("main").inner_text()
    page.select_option("#model", "tiny")
    page.check("#mode-many")
    page.fill("#paste", "12 / 7\nthe cat")
    classify(page, "2 of 2 rows classified")
    assert page.locator("#rows th").all_inner_texts() == ["Row", "text", "Prediction", "Probability"]
    assert "bstain" not in page.locator("main").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_reason_can_be_read_in_light_and_dark(browser: Browser, page_server: RunningServer, scheme: str) -> None:
    with opened(browser, page_server, color_scheme=scheme, viewport={"width": 390, "height": 800}) as page:
        page.select_option("#model", "careful")
        classify_one(page, "12 / 7")
        for selector in ("#verdict", "#abstention", "#abstention .soft"):
            ink = page.eval_on_selector(selector, "element => getComputedStyle(element).color")
            paper = page.eval_on_selector(
                selector, "element => getComputedStyle(element.closest('.card')).backgroundColor"
            )
            assert contrast(ink, paper) >= 4.5, (selector, ink, paper)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
