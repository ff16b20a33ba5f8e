"""Many texts on the page, in a real Chromium: pasted, chosen and dropped, with the mistakes that people make."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, FilePayload, Page, Route, expect

import bothways
from bothways.runtime.classifier import Classifier
from tests.serve.browsers import NEEDS_CHROMIUM, opened
from tests.serve.conftest import RunningServer, free_port, running

pytestmark = [*NEEDS_CHROMIUM, pytest.mark.server]
WORDS = "what a LOVELY film, the dog ate my price and the plot of the music was good for bad days"
ROWS = [["1", "What a LOVELY film", "x"], ["2", 'He said "no", and\nleft', "=1+1"], ["3", " schöne Grüße 👋", ""]]


@pytest.fixture
def page(browser: Browser, page_server: RunningServer) -> Iterator[Page]:
    """The opened page for many texts."""
    with opened(browser, page_server) as found:
        found.check("#mode-many")
        yield found


def choose(page: Page, name: str, content: str | bytes) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    page.set_input_files("#file", FilePayload(name=name, mimeType="", buffer=data))


def classify(page: Page, line: str) -> None:
    """Classify the rows, and wait until the page reports the expected line."""
    page.click("#classify")
    expect(page.locator("#batch-line")).to_have_text(line, timeout=60_000)
    expect(page.locator("#progress")).to_be_hidden(timeout=60_000)


def downloaded(page: Page) -> list[list[str]]:
    """Return the cells of the CSV file that the page offers."""
    with page.expect_download() as download:
        page.click("#download")
    content = Path(download.value.path()).read_bytes()
    assert content.startswith(codecs.BOM_UTF8)
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))


def csv_text(rows: list[list[str]], **options: Any) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, **options).writerows(rows)
    return out.getvalue()


def many_rows(count: int) -> list[list[str]]:
    """Return rows with a number and a text of 1 to 60 characters."""
    return [[f"{i:05d}", (WORDS[i % 31 :] + WORDS)[: i % 60 + 1].strip() or "day"] for i in range(count)]


def cells_of(rows: list[list[str]]) -> list[list[object]]:
    """Return cells with the numbers that they stand for, however they are written."""

    def value(cell: str) -> object:
        try:
            return float(cell)
        except ValueError:
            return cell

    return [[value(cell) for cell in row] for row in rows]


@pytest.mark.parametrize(
    ("name", "bundle"),
    [
        ("tiny", "bundle_path"),
        ("topics", "multi_label_bundle_path"),
        ("ratings", "regression_bundle_path"),
        ("houses", "targets_bundle_path"),
        ("news", "fields_bundle_path"),
    ],
)
def test_a_file_gets_the_columns_of_bothways_predict(
    page: Page, name: str, bundle: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """For every task: the original columns as they are, and the same new ones with the same numbers."""
    path = request.getfixturevalue(bundle)
    text = ["title", "body"] if name == "news" else ["body"]
    table = csv_text([["title", "body", "note"], *ROWS])
    (tmp_path / "in.csv").write_text(table, newline="")
    bothways.score(path, tmp_path / "in.csv", tmp_path / "out.csv", text=text)
    page.select_option("#model", name)
    choose(page, "in.csv", table)
    if name != "news":
        expect(page.locator("#column-0 option:checked")).to_have_text("body")  # the column with the longest cells
    classify(page, "3 of 3 rows classified")
    found = downloaded(page)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        expected = list(csv.reader(file))
    assert [row[:3] for row in found] == [["title", "body", "note"], *ROWS]
    assert found[0] == expected[0]
    assert cells_of(found) == cells_of(expected)
    expect(page.locator("#formulas")).to_contain_text("can read 1 cell as a formula")
    captions = page.locator("#distributions caption").all_inner_texts()
    kinds = {"ratings": ["range of value"], "houses": ["range of price", "range of stars"]}
    assert captions == [f"Rows per {kind}" for kind in kinds.get(name, ["label"])]
    cells = ["=1", "+a", "-b", "@c", "-1", "+2.5", "a=b"]
    assert page.evaluate("cells => cells.map(isFormula)", cells) == [True] * 4 + [False] * 3


@pytest.mark.parametrize(
    ("pasted", "texts"),
    [
        (
            'one text, with commas\n\n\tsecond "text"  \nthird\n',
            ["one text, with commas", '\tsecond "text"  ', "third"],
        ),
        ('id\ttext\n1\tfirst\n2\t"over\ntwo ""lines"""\n', ["first", 'over\ntwo "lines"']),
        ("1\tfirst text\n2\tsecond text\n", ["first text", "second text"]),
        ('{"text": "first", "id": 12345678901234567890}\n{"id": 1.50, "text": "second"}\n', ["first", "second"]),
        ('[{"text": 1.50, "more": {"id": 98765432109876543210}}, {"text": 2}]', ["1.50", "2"]),
    ],
)
def test_a_paste_is_read_as_what_it_is(page: Page, model: Classifier, pasted: str, texts: list[str]) -> None:
    """One text per line, a table from a spreadsheet with or without column names, or JSON."""
    page.fill("#paste", pasted)
    classify(page, f"{len(texts)} of {len(texts)} rows classified")
    header, *rows = downloaded(page)
    place = next(place for place, cell in enumerate(rows[0]) if cell == texts[0])
    assert [row[place] for row in rows] == texts
    labels = [row[header.index("predicted_label")] for row in rows]
    assert labels == model.predict(texts).tolist()
    assert "12345678901234567890" not in pasted or [row[1] for row in rows] == ["12345678901234567890", "1.50"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("semicolons.csv", "id;review\n1;good, really\n2;bad\n"),
        ("tabs.tsv", "id\treview\n1\tgood, really\n2\tbad\n"),
        ("mark.csv", '\ufeffid,review\r\n1,"good, really"\r\n2,bad\r\n'),
        ("old-mac.csv", 'id,review\r1,"good, really"\r2,bad\r'),
        ("wide.csv", 'id,review\n1,"good, really"\n2,bad\n'.encode("utf-16")),
        ("lines.jsonl", '{"id": 1, "review": "good, really"}\n\n{"id": 2, "review": "bad"}\n'),
        ("blank lines.csv", 'id,review\n\n1,"good, really"\n2,bad\n\n'),
        ("spaces.csv", 'id, review\n1,"good, really"\n2,bad'),
    ],
)
def test_a_file_of_each_kind_is_read(page: Page, name: str, content: str | bytes) -> None:
    choose(page, name, content)
    expect(page.locator("#table-line")).to_have_text(f"{name}: 2 rows.")
    classify(page, "2 of 2 rows classified")
    header, *rows = downloaded(page)
    assert [name.strip() for name in header[:2]] == ["id", "review"]
    assert [row[:2] for row in rows] == [["1", "good, really"], ["2", "bad"]]


def test_a_text_file_has_one_text_per_line(page: Page) -> None:
    choose(page, "notes.txt", "good, really\nbad\n")
    classify(page, "2 of 2 rows classified")
    assert [row[0] for row in downloaded(page)] == ["text", "good, really", "bad"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", "", "empty.csv is empty."),
        ("blank.txt", " \n\n", "blank.txt is empty."),
        ("book.xlsx", b"PK\x03\x04\x14\x00\x06\x00", "book.xlsx is not a text file. Save it as CSV"),
        ("picture.csv", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "picture.csv is not a text file."),
        ("stray.csv", 'id,text\n1,"he said\n2,she said\n', "Line 2: a cell begins with a quotation mark"),
        ("stray.csv", 'id,text\n1,fine\n2,"no" way\n', "Line 3: a cell begins with a quotation mark"),
        ("uneven.csv", 'id,text\n1,"over\nlines"\n2,one, two\n', "Line 4 has 3 values, but the first line has 2."),
        ("bad.jsonl", '{"text": "a"}\n{"text": \n', "Line 2 is not valid JSON."),
        ("bad.jsonl", '{"text": "a"}\n[1]\n', "Item 2 is not a JSON object"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(
    page: Page, name: str, content: str | bytes, message: str
) -> None:
    choose(page, name, content)
    expect(page.locator("#error")).to_contain_text(message)
    page.click("#classify")
    expect(page.locator("#error")).not_to_be_empty()
    assert page.locator("#batch").is_hidden()


def test_mistakes_are_named_and_can_be_corrected(page: Page) -> None:
    """Nothing chosen, only column names, a wrong format, no column for a text, a wrong column, bytes of Windows."""
    error = page.locator("#error")
    page.click("#classify")
    expect(error).to_have_text("There are no texts. Paste some, or choose a file.")
    choose(page, "names.csv", "id,text\n")
    page.click("#classify")
    expect(error).to_have_text("names.csv has no rows, only column names.")
    choose(page, "commas.csv", "text\nfine\nwith, commas\n")
    expect(error).to_contain_text("Line 3 has 2 values")
    page.select_option("#format", label="One text per line")
    classify(page, "2 of 2 rows classified")
    assert [row[0] for row in downloaded(page)] == ["text", "fine", "with, commas"]
    choose(page, "stray.csv", 'text,label\n"good,a\nbad,b\nso-so,c\nend",d\n')  # the rows read as one
    expect(page.locator("#table-line")).to_have_text(
        "stray.csv: 1 row. Cells with several lines: 1, the longest has 4."
    )
    choose(page, "two.csv", "number,words\n1,some words\n2,more words\n".encode("cp1252") + b"3,caf\xe9\n")
    expect(page.locator("#table-line")).to_contain_text("read as Windows-1252")
    expect(page.locator("#preview")).to_contain_text("café")
    page.select_option("#column-0", label="number")
    expect(page.locator("#preview th").first).to_have_text("number (text)")
    page.select_option("#column-0", label="words")
    page.uncheck("#header")
    expect(page.locator("#table-line")).to_contain_text("4 rows")
    page.check("#header")
    classify(page, "3 of 3 rows classified")
    page.select_option("#model", "news")
    page.click("#classify")
    expect(error).to_have_text("Choose the column for title.")
    page.select_option("#column-0", label="number")
    page.select_option("#column-1", label="words")
    classify(page, "3 of 3 rows classified")
    page.evaluate(
        """size => {
      const file = new File(["text"], "large.csv");
      return chooseFile(Object.defineProperty(file, "size", { value: size }));
    }""",
        100_000_001,
    )
    expect(error).to_contain_text("large.csv is larger than 100 MB.")


def test_a_file_is_dropped_on_the_page(page: Page) -> None:
    drop = """names => {
      const data = new DataTransfer();
      for (const name of names) data.items.add(new File(["text\\nfine\\n"], name));
      document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }"""
    page.check("#mode-one")
    page.evaluate(drop, ["a.csv", "b.csv"])
    expect(page.locator("#error")).to_have_text("Drop one file at a time.")
    page.evaluate(drop, ["a.csv"])
    expect(page.locator("#table-line")).to_have_text("a.csv: 1 row.")
    classify(page, "1 of 1 row classified")


def test_rows_that_cannot_be_classified_have_an_error_of_their_own(
    browser: Browser, page_server: RunningServer
) -> None:
    """Without a text, with something else as text, or larger than a request may be. The other rows are not affected."""
    texts = ["good", None, {"a": 1}, "a b " * 10_000, "bad"]
    with opened(browser, page_server, statuses=(413, 400)) as page:
        page.check("#mode-many")
        choose(page, "rows.jsonl", "\n".join(json.dumps({"text": text, "predicted_label": "own"}) for text in texts))
        classify(page, "2 of 5 rows classified, 3 errors")
        faults = page.locator("#faults tbody tr")
        assert [row.split("\t")[0] for row in faults.all_inner_texts()] == ["2", "3", "4"]
        expect(faults.nth(0)).to_contain_text("The text is")
        expect(faults.nth(2)).to_contain_text("max-body-bytes")
        header, *rows = downloaded(page)
        assert header[1:3] == ["predicted_label", "predicted_label_2"]
        assert [bool(row[header.index("predicted_error")]) for row in rows] == [False, True, True, True, False]
        assert [bool(row[2]) for row in rows] == [True, False, False, False, True]


def test_ten_thousand_rows_are_sent_in_portions_within_the_limits(page: Page, model: Classifier) -> None:
    rows = [["id", "text"], *many_rows(10_001)]
    sent: list[bytes] = []
    page.on("request", lambda request: sent.append(request.post_data_buffer or b""))
    choose(page, "many.csv", csv_text(rows))
    expect(page.locator("#table-line")).to_have_text("many.csv: 10,001 rows.")
    page.click("#classify")
    expect(page.locator("#cancel")).to_be_focused()
    expect(page.locator("#progress-line")).to_contain_text("seconds left")
    expect(page.locator("#batch-line")).to_have_text("10,001 of 10,001 rows classified", timeout=120_000)
    expect(page.locator("#batch-line")).to_be_focused()
    assert len(sent) >= 100
    assert max(len(json.loads(body)["texts"]) for body in sent) <= 100
    assert max(map(len, sent)) <= 20_000
    header, *found = downloaded(page)
    assert [row[:2] for row in found] == rows[1:]
    texts = [row[1] for row in found]
    labels = model.predict(texts).tolist()
    assert [row[header.index("predicted_label")] for row in found] == labels
    counts = dict(line.split() for line in page.locator("#distributions tr").all_inner_texts())
    assert counts == {label: f"{labels.count(label):,}" for label in model.labels}
    shown = page.locator("#rows tbody tr")
    assert shown.count() == 100
    expect(page.locator("#rows caption")).to_have_text("First 100 of 10,001 rows")
    with page.expect_download() as download:
        page.click("#save-many")
    saved = Path(download.value.path()).read_text()
    assert "First 10,000 of 10,001 rows" in saved
    assert found[9_999][1] in saved


def test_a_busy_server_is_waited_for(browser: Browser, page_server: RunningServer) -> None:
    """429 and 503 with Retry-After."""
    refusals = [429, 503, 429]

    def refuse_at_first(route: Route) -> None:
        if refusals:
            route.fulfill(status=refusals.pop(), headers={"retry-after": "1"}, body='{"error": "the queue is full"}')
        else:
            route.continue_()

    with opened(browser, page_server, statuses=(429, 503)) as page:
        page.check("#mode-many")
        page.route("**/v1/classify", refuse_at_first)
        page.fill("#paste", "\n".join(row[1] for row in many_rows(50)))
        page.click("#classify")
        expect(page.locator("#progress-line")).to_contain_text("Trying again in 1 second.")
        expect(page.locator("#batch-line")).to_have_text("50 of 50 rows classified", timeout=30_000)
        assert refusals == []
        expect(page.locator("#error")).to_be_empty()


def test_a_canceled_run_keeps_its_results_and_continues(page: Page) -> None:
    held: list[Route] = []

    def hold_later_requests(route: Route) -> None:
        held.append(route)
        if len(held) <= 2:
            route.continue_()

    page.route("**/v1/classify", hold_later_requests)
    page.fill("#paste", "\n".join(row[1] for row in many_rows(300)))
    page.click("#classify")
    expect(page.locator("#progress-line")).to_contain_text("32 of 300 rows done")
    page.keyboard.press("Enter")  # Cancel has the focus
    line = "32 of 300 rows classified, 268 not classified yet"
    expect(page.locator("#batch-line")).to_have_text(line)
    assert len(held) == 4  # two requests at a time
    assert [row[-1] for row in downloaded(page)].count("not classified") == 268
    for route in held[2:]:
        with contextlib.suppress(Error):  # the page has canceled the request
            route.abort()
    page.unroute("**/v1/classify")
    page.click("#continue")
    expect(page.locator("#batch-line")).to_have_text("300 of 300 rows classified")
    assert page.locator("#continue").is_hidden()


def test_results_of_two_models_are_not_mixed(page: Page) -> None:
    """A run ends if the server replaces the model, and cannot continue with the new one."""
    replies = 0

    def replace_the_model(route: Route) -> None:
        nonlocal replies
        replies += 1
        reply = route.fetch().json()
        route.fulfill(json=reply if replies == 1 else reply | {"digest": "0" * 64})

    page.route("**/v1/classify", replace_the_model)
    page.fill("#paste", "\n".join(row[1] for row in many_rows(100)))
    page.click("#classify")
    expect(page.locator("#error")).to_have_text(
        "The server has loaded another model meanwhile. Classify the rows again."
    )
    expect(page.locator("#batch-line")).to_contain_text("not classified yet")
    assert page.locator("#continue").is_hidden()


def test_a_server_that_stops_meanwhile_loses_no_results(browser: Browser, bundle_path: Path, tmp_path: Path) -> None:
    """The page waits some seconds for a server that restarts. Otherwise it stops, and continues on request."""
    command = [f"tiny={bundle_path}", "--max-texts", 5, "--threads", 1]
    options: dict[str, Any] = {"folder": tmp_path, "port": free_port()}
    with running(*command, **options) as server, opened(browser, server, statuses=(0, 503)) as page:
        page.check("#mode-many")
        choose(page, "many.csv", csv_text([["id", "text"], *many_rows(6000)]))
        page.click("#classify")
        expect(page.locator("#progress-line")).to_contain_text("left")
        server.stop(signal.SIGTERM)
        done = page.evaluate("run.done")
        with running(*command, **options) as restarted:
            deadline = time.monotonic() + 60
            while page.evaluate("run.done") < done + 100:  # without a click
                assert time.monotonic() < deadline
                page.wait_for_timeout(50)
            restarted.stop(signal.SIGKILL)
        expect(page.locator("#error")).to_contain_text("The server cannot be reached.", timeout=60_000)
        expect(page.locator("#batch-line")).to_contain_text("not classified yet")
        with running(*command, **options):
            page.click("#continue")
            expect(page.locator("#batch-line")).to_have_text("6,000 of 6,000 rows classified", timeout=60_000)
            assert all(row[-1] for row in downloaded(page))
