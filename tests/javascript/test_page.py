"""The demo page and bothways.js in a real Chromium, without requests to other hosts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from tools.javascript_site import served

from bothways.text.fields import Text
from tests.javascript.conftest import ExportedModels
from tests.javascript.programs import NEEDS_RUNTIME, Site
from tests.javascript.test_predictions import demo_texts, largest_difference
from tests.serve.browsers import NEEDS_CHROMIUM, opened
from tests.serve.test_page_access import AXE, violations

pytestmark = [*NEEDS_RUNTIME, *NEEDS_CHROMIUM]

TEXT = "What a LOVELY film & 100 % <b>mine</b> #1"
PREDICT = """async ([file, texts]) => {
  const ort = await import("./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs");
  const { load } = await import("./bothways.js");
  const model = await load(ort, await (await fetch(file)).arrayBuffer());
  return model.predict(texts);
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with served(folder) as url:
        yield Site(url, folder)


def predict(page: Page, *texts: str) -> str:
    """Predict a text of one or more fields, and return the verdict."""
    for number, text in enumerate(texts):
        page.fill(f"#text-{number}", text)
    page.click("#predict")
    expect(page.locator("#status")).to_contain_text("predicted in")
    return page.locator("#status").inner_text().partition(" (")[0]


def test_1000_texts_get_the_bundles_probabilities(browser: Browser, site: Site, exported: ExportedModels) -> None:
    path, model = exported["linear"]
    texts: list[Text] = [*demo_texts()[:1000]]
    with opened(browser, site) as page:
        found = page.evaluate(PREDICT, [site.add(path), texts])
    assert len(found) == 1000
    assert largest_difference(found, model, texts) <= 1e-5


def test_probabilities_of_each_direction_are_shown(browser: Browser, site: Site, exported: ExportedModels) -> None:
    path, model = exported["linear"]
    (prediction,) = model.stream([TEXT])
    assert prediction.probability is not None
    with opened(browser, site, f"/?model={site.add(path)}") as page:
        expect(page.locator("#model-line")).to_contain_text(model.digest[:12])
        page.get_by_label("Text").fill(TEXT)
        page.keyboard.press("Control+Enter")
        expect(page.locator("#status")).to_contain_text(f"{prediction.label}, {100 * prediction.probability:.1f} %")
        bars = page.locator("#rows .bar").all_inner_texts()
        widths = page.locator(".track").evaluate_all(
            "(tracks) => tracks.map((track) => track.firstChild.offsetWidth / track.offsetWidth)"
        )
    shares = [(name, share) for name, row in prediction.probabilities.items() for share in row.tolist()]
    assert {" ".join(line.split("\n")) for line in bars} == {f"{name} {100 * share:.1f} %" for name, share in shares}
    assert sorted(widths) == pytest.approx(sorted(share for _, share in shares), abs=0.01)


@pytest.mark.parametrize("kind", ["multi-label", "regression", "targets", "fields"])
def test_a_file_is_chosen(browser: Browser, site: Site, exported: ExportedModels, kind: str) -> None:
    path, model = exported[kind]
    texts = (TEXT, "two\nlines")[: len(model.manifest.training.text_columns)]
    (prediction,) = model.stream([texts if len(texts) > 1 else texts[0]])
    with opened(browser, site) as page:
        page.get_by_label("Model").set_input_files(path)
        expect(page.locator("#status")).to_contain_text("is loaded")
        verdict = predict(page, *texts)
        lines = page.locator("#rows th").all_inner_texts()
    if prediction.value is None:
        assert verdict.startswith(", ".join(map(str, prediction.chosen)) or "no label")
        assert sorted(lines) == sorted(map(str, model.labels))
    else:
        values = prediction.scores["ensemble"]
        assert [float(part.split()[-1]) for part in verdict.split(", ")] == pytest.approx(values.tolist(), abs=1e-3)


def test_abstention_is_shown(browser: Browser, site: Site, exported: ExportedModels) -> None:
    path, model = exported["abstaining"]
    (prediction,) = model.stream(["12 / 7"])
    with opened(browser, site, f"/?model={site.add(path)}") as page:
        expect(page.locator("#status")).to_contain_text("is loaded")
        verdict = predict(page, "12 / 7")
    answer = f"{prediction.label}, {100 * float(prediction.probability or 0):.1f} %"
    expected = f"The model abstains: only digits or punctuation. Its answer would be {answer}. Label set: "
    assert verdict == expected + ", ".join(map(str, prediction.label_set or ()))


def test_errors_are_shown(browser: Browser, site: Site, tmp_path: Path, exported: ExportedModels) -> None:
    path, _ = exported["linear"]
    (tmp_path / "other.onnx").write_bytes(b"not a model")
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:5000])
    with opened(browser, site, "/?model=missing.onnx", statuses=(404,)) as page:
        expect(page.locator("#error")).to_contain_text("missing.onnx cannot be loaded: HTTP status 404")
        expect(page.locator("#predict")).to_be_disabled()
        for name in ("other", "cut"):
            page.set_input_files("#file", tmp_path / f"{name}.onnx")
            expect(page.locator("#error")).to_have_text("The file is damaged or not an ONNX file.")
        page.set_input_files("#file", path)
        predict(page, TEXT)
        expect(page.locator("#error")).to_be_empty()


@pytest.mark.skipif(not AXE.exists(), reason="no axe-core: make .clients/.axe installs it")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, site: Site, exported: ExportedModels, scheme: Any) -> None:
    path, _ = exported["linear"]
    with opened(browser, site, color_scheme=scheme, bypass_csp=True) as page:
        assert violations(page) == []
    with opened(browser, site, f"/?model={site.add(path)}", color_scheme=scheme, bypass_csp=True) as page:
        expect(page.locator("#status")).to_contain_text("is loaded")
        predict(page, TEXT)
        assert violations(page) == []
