"""The page for everyone and everywhere: axe-core, keyboard, narrow windows, links, saved pages, keys, URL prefixes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from bothways.runtime.classifier import Classifier
from tests.bundles import python_environment
from tests.serve.browsers import NEEDS_CHROMIUM, opened
from tests.serve.conftest import HOST, RunningServer, free_port, running, wait_until_ready

ROOT = Path(__file__).parents[2]
AXE = ROOT / ".clients" / "node_modules" / "axe-core" / "axe.min.js"
TEXT = "What a LOVELY film & 100 % <b>mine</b> #1"
LONG_WORD = "Donaudampfschifffahrtsgesellschaft" * 5
MOUNTED = """
import os, bothways.serve
from starlette.applications import Starlette
from starlette.routing import Mount
app = Starlette(routes=[Mount("/some/texts", bothways.serve.asgi_app(os.environ["BUNDLE"], threads=1))])
"""

pytestmark = [*NEEDS_CHROMIUM, pytest.mark.server]


@pytest.fixture
def page(browser: Browser, page_server: RunningServer) -> Iterator[Page]:
    with opened(browser, page_server) as found:
        yield found


def classify_one(page: Page, *texts: str) -> str:
    """Classify a text, and return the verdict."""
    for number, text in enumerate(texts):
        page.fill(f"#text-{number}" if number else "#text", text)
    page.click("#classify")
    page.wait_for_selector("#readings ol")
    return page.locator("#verdict").inner_text()


def classify_rows(page: Page, *texts: str) -> None:
    page.check("#mode-many")
    page.fill("#paste", "\n".join(texts))
    page.click("#classify")
    expect(page.locator("#batch-line")).to_contain_text("classified")
    expect(page.locator("#progress")).to_be_hidden()


def saved(page: Page, button: str, path: Path) -> Path:
    with page.expect_download() as download:
        page.click(button)
    download.value.save_as(path)
    return path


def states(page: Page) -> Iterator[str]:
    """Bring the page into each of its states, one after the other."""
    expect(page.locator("#model-line")).to_contain_text("single-label")
    yield "empty"
    for model in ("tiny", "topics", "ratings", "houses"):
        page.select_option("#model", model)
        classify_one(page, f"{TEXT} {LONG_WORD}")
        yield f"result of {model}"
    for model in ("careful", "careful-topics"):
        page.select_option("#model", model)
        classify_one(page, "漢字 かな")
        expect(page.locator("#verdict")).to_contain_text("The model abstains")
        yield f"{model} abstains"
    page.click("#copy-link")
    yield "link"
    page.click("#explain")
    page.wait_for_selector("#explanation h3")
    yield "explained"
    page.select_option("#model", "news")
    yield "two text columns"
    page.check("#mode-many")
    yield "empty, many texts"
    page.click("#classify")
    expect(page.locator("#error")).not_to_be_empty()
    yield "error"
    rows = "\n".join(f"{number}\t{TEXT} {LONG_WORD}\tbody" for number in range(30))
    page.fill("#paste", f"number\ttitle\tbody\n{rows}")
    expect(page.locator("#table-line")).to_contain_text("30 rows")
    yield "preview"
    page.route("**/v1/classify", lambda route: None)
    page.click("#classify")
    expect(page.locator("#progress")).to_be_visible()
    yield "progress"
    page.click("#cancel")
    page.unroute("**/v1/classify")
    page.click("#continue")
    expect(page.locator("#batch-line")).to_have_text("30 of 30 rows classified")
    yield "results"
    page.select_option("#model", "careful")
    page.fill("#paste", f"12 / 7\n漢字 かな\n{TEXT}\n{LONG_WORD}")
    page.click("#classify")
    expect(page.locator("#batch-line")).to_contain_text("4 of 4 rows classified, abstained from")
    yield "results with abstention"
    page.select_option("#model", "houses")
    page.fill("#paste", '{"text": "good"}\n{"text": null}\n{"text": "bad"}')
    page.click("#classify")
    expect(page.locator("#faults")).to_contain_text("missing")
    yield "results with errors, of a regression"
    page.route("**/v1/classify", lambda route: route.fulfill(status=401, body='{"error": "no key"}'))
    page.click("#classify")
    expect(page.locator("#key")).to_be_focused()
    yield "key"


def violations(page: Page) -> list[str]:
    """Return what axe-core finds, with the elements."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{each['impact']} {each['id']}: {[node['html'][:200] for node in each['nodes']]}"
        for each in found["violations"]
    ]


@pytest.mark.skipif(not AXE.exists(), reason="no axe-core: make .clients/.axe installs it")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_any_state(
    browser: Browser, page_server: RunningServer, scheme: Any, tmp_path: Path
) -> None:
    with opened(browser, page_server, statuses=(401,), color_scheme=scheme) as page:
        found = {state: violations(page) for state in states(page)}
        assert {state: each for state, each in found.items() if each} == {}
        assert len(found) == 18
        path = saved(page, "#save-many", tmp_path / "saved.html")
    page = browser.new_page(color_scheme=scheme)
    page.goto(path.as_uri())
    assert violations(page) == []
    page.set_content("<html><body><img src='data:,'><input></body></html>")
    assert len(violations(page)) >= 2  # it does find faults
    page.close()


def test_nothing_is_wider_than_a_narrow_window(browser: Browser, page_server: RunningServer) -> None:
    """320 CSS pixels, which is also a window of 1,280 pixels at 400 %. Tables with texts scroll on their own."""
    size: Any = {"width": 320, "height": 640}
    with opened(browser, page_server, statuses=(401,), viewport=size) as page:
        widths = {state: page.evaluate("document.documentElement.scrollWidth") for state in states(page)}
    assert {state: width for state, width in widths.items() if width > 320} == {}


def test_many_texts_are_classified_and_downloaded_by_keyboard_alone(page: Page) -> None:
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(page.locator("#mode-one")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    expect(page.locator("#paste")).to_be_focused()
    page.keyboard.type("first text")
    page.keyboard.press("Enter")
    page.keyboard.type("second text")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#batch-line")).to_be_focused()
    expect(page.locator("#status")).to_have_text("2 of 2 rows classified")
    with page.expect_download():
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")


def test_results_are_announced_once(page: Page) -> None:
    """A screen reader hears the verdict, not every bar: the only live regions are the status and the error."""
    verdict = classify_one(page, TEXT)
    expect(page.locator("#status")).to_contain_text(f"Result: {verdict}")
    live = page.locator("[aria-live], [role=status], [role=alert]")
    assert [each.get_attribute("id") for each in live.all()] == ["error", "status"]
    assert page.evaluate("document.getAnimations().length") == 0
    assert "transition" not in page.locator("style").inner_html()


def test_a_version_is_chosen(page: Page, model: Classifier) -> None:
    """The version with the largest weight is the default. Each one answers for itself."""
    verdicts = {}
    for version in ("1", "2"):
        page.select_option("#version", version)
        verdicts[version] = classify_one(page, TEXT)
        expect(page.locator("#model-line")).to_contain_text(f"version {version}")
    (prediction,) = model.stream([TEXT])
    assert verdicts["1"].startswith(str(prediction.label))
    assert verdicts["1"] != verdicts["2"]
    page.select_option("#model", "topics")
    assert page.locator("#version").is_hidden()


def test_thresholds_of_a_multi_label_model_are_shown(page: Page, multi_label_model: Classifier) -> None:
    page.select_option("#model", "topics")
    verdict = classify_one(page, TEXT)
    (prediction,) = multi_label_model.stream([TEXT])
    assert verdict.startswith(", ".join(map(str, prediction.chosen)) or "no label")
    thresholds = multi_label_model.task.record().thresholds or ()
    shown = page.locator("#labels th").all_inner_texts()
    assert sorted(shown) == sorted(
        f"{label}\nthreshold {100 * threshold:.1f} %"
        for label, threshold in zip(multi_label_model.labels, thresholds, strict=True)
    )


def test_a_link_holds_the_text_where_no_server_sees_it(browser: Browser, page_server: RunningServer) -> None:
    with opened(browser, page_server) as page:
        page.select_option("#model", "news")
        verdict = classify_one(page, TEXT, "two\nlines + ü")
        page.click("#copy-link")
        expect(page.locator("#link")).to_be_focused()
        link = page.locator("#link").input_value()
    address, _, fragment = link.partition("#")
    assert "LOVELY" not in address
    requests: list[str] = []
    with opened(browser, page_server, "/#" + fragment) as page:
        page.on("request", lambda request: requests.append(request.url + str(request.headers)))
        expect(page.locator("#verdict")).to_have_text(verdict)
        assert page.get_by_label("body").input_value() == "two\nlines + ü"
        page.evaluate("location.hash = 'model=topics&text=other'")
        expect(page.locator("#model-line")).to_contain_text("topics")
        expect(page.locator("#text")).to_have_value("other")
        page.evaluate(f"location.hash = 'model=gone&text={quote(TEXT)}'")
        expect(page.locator("#error")).to_have_text("The link is for the model gone, but this server does not have it.")
    assert requests
    assert "LOVELY" not in "".join(requests)
    assert "LOVELY" not in page_server.log_text


def test_a_saved_result_opens_without_a_server(browser: Browser, page_server: RunningServer, tmp_path: Path) -> None:
    with opened(browser, page_server) as page:
        verdict = classify_one(page, TEXT)
        one = saved(page, "#save-one", tmp_path / "one.html")
        classify_rows(page, *[f"{TEXT} {number}" for number in range(150)])
        many = saved(page, "#save-many", tmp_path / "many.html")
        digest = page.evaluate("chosenModel().digest")
    check_offline(browser, one, [verdict, TEXT, digest[:12]])
    check_offline(browser, many, [f"{TEXT} 0", f"{TEXT} 149", "150 of 150 rows", digest[:12]])


def check_offline(browser: Browser, path: Path, parts: list[str]) -> None:
    """Check that a file shows text and bars on its own, without scripts, requests or complaints."""
    context = browser.new_context(offline=True)
    page, requested, complaints = context.new_page(), list[str](), list[str]()
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(path.as_uri())
    shown = page.locator("main").inner_text()
    assert [part for part in parts if part not in shown] == []
    assert page.locator("script, b, button").count() == 0
    assert page.locator(".track > div").first.bounding_box()
    assert requested == [path.as_uri()]
    assert complaints == []
    context.close()


def test_a_key_is_requested_and_used(browser: Browser, bundle_path: Path, tmp_path: Path) -> None:
    """It is not stored, and a wrong or expired one is reported. Also with --root-path."""
    keys = tmp_path / "keys.txt"
    keys.write_text("right\n")
    options = ["--api-key-file", keys, "--root-path", "/reviews", "--threads", 1]
    with (
        running(f"tiny={bundle_path}", *options, folder=tmp_path) as server,
        opened(browser, server, "/reviews/", statuses=(401,)) as page,
    ):
        page.get_by_label("API key").fill("wröng")
        page.keyboard.press("Enter")
        expect(page.locator("#error")).to_contain_text("ASCII characters")
        for key in ("wrong", "right"):
            page.get_by_label("API key").fill(key)
            page.keyboard.press("Enter")
            expect(page.locator("#error")).to_have_text("The server did not accept this key." * (key == "wrong"))
        expect(page.locator("#model-line")).to_contain_text("single-label")
        classify_one(page, TEXT)
        classify_rows(page, "one", "two")
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        page.evaluate("key = 'expired'")
        page.click("#classify")
        page.get_by_label("API key").fill("right")
        page.keyboard.press("Enter")
        expect(page.locator("#batch-line")).to_have_text("2 of 2 rows classified")
        assert "right" not in server.log_text


@pytest.mark.parametrize("path", ["/some/texts/", "/some/texts"])
def test_the_page_works_below_a_path(browser: Browser, bundle_path: Path, tmp_path: Path, path: str) -> None:
    (tmp_path / "mounted.py").write_text(MOUNTED)
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--port", str(port), "mounted:app"]
    environment = python_environment() | {"BUNDLE": str(bundle_path)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as process:
        server = RunningServer(process, port, tmp_path / "log")
        try:
            wait_until_ready(server, "/some/texts/health/ready")
            with opened(browser, server, path) as page:
                requested: list[str] = []
                page.on("request", lambda request: requested.append(request.url))
                classify_one(page, TEXT)
                classify_rows(page, "one", "two")
            assert set(requested) == {f"http://{HOST}:{port}/some/texts/v1/classify"}
        finally:
            process.terminate()
