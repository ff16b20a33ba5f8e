"""The programs of docs/javascript.md run as they are written, and bothways.js names what is wrong with its input."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from tools.javascript_site import JAVASCRIPT, served

from tests.docs.test_pages import blocks
from tests.javascript.conftest import ExportedModels
from tests.javascript.programs import NEEDS_RUNTIME, NODE, ROOT, Site, predictions
from tests.serve.browsers import CHROMIUM, opened
from tests.words import make_word_tokenizer

pytestmark = NEEDS_RUNTIME

PAGE = ROOT / "docs" / "javascript.md"
TEXTS = ["What a LOVELY film!", "I want my money back."]
FAULTS = """
import { readFileSync } from "node:fs";
import * as ort from "MODULE";
import { load, Tokenizer } from "./bothways.js";
const model = await load(ort, readFileSync(process.argv[2]));
const faults = [];
for (const action of JSON.parse(readFileSync(0))) {
  try {
    await eval(action);
    faults.push("no error");
  } catch (error) {
    faults.push(error.message);
  }
}
console.log(JSON.stringify(faults));
"""


def test_the_program_for_node_prints_the_bundles_predictions(exported: ExportedModels, tmp_path: Path) -> None:
    path, model = exported["single-label"]
    program = folder_with(tmp_path, blocks(PAGE, "js")[0])
    shutil.copy(path, tmp_path / "reviews.onnx")
    assert NODE is not None
    finished = subprocess.run([NODE, program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 0, finished.stderr
    for line, prediction in zip(finished.stdout.splitlines(), model.stream(TEXTS), strict=True):
        label, probability, *_ = line.split()
        assert label == prediction.label
        assert float(probability) == pytest.approx(prediction.probability, abs=1e-5)


@pytest.mark.enable_socket
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: install Debian's package")
def test_the_lines_for_a_browser_load_a_model(browser: Browser, exported: ExportedModels, tmp_path: Path) -> None:
    path, model = exported["single-label"]
    shutil.copy(path, tmp_path / "reviews.onnx")
    (tmp_path / "page.html").write_text(
        f'<link rel="icon" href="data:,"><script type="module">{blocks(PAGE, "js")[1]}\nwindow.model = model;</script>'
    )
    with served(tmp_path) as url, opened(browser, Site(url, tmp_path), "/page.html") as page:
        page.wait_for_function("window.model")
        assert page.evaluate("model.digest") == model.digest


def folder_with(folder: Path, program: str) -> Path:
    """Write a program next to bothways.js and ONNX Runtime."""
    shutil.copy(JAVASCRIPT / "bothways.js", folder)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "node_modules").symlink_to(JAVASCRIPT / "node_modules")
    path = folder / "program.js"
    path.write_text(program)
    return path


def faults(folder: Path, model: Path, *actions: str) -> Any:
    program = folder_with(folder, FAULTS.replace("MODULE", "onnxruntime-web"))
    return predictions(program, model, actions)


def test_errors_name_the_text_and_what_is_expected(exported: ExportedModels, tmp_path: Path) -> None:
    path, _ = exported["single-label"]
    found = faults(
        tmp_path,
        path,
        "model.predict('a text')",
        "model.predict(['good', null])",
        "model.predict([{ text: 'good' }])",
        "model.predict(['good', 'half \\ud800'])",
        "load(ort, new Uint8Array(0))",
        "load(ort, new Uint8Array([0x72, 3, 1]))",
    )
    assert found == [
        "predict expects an array of texts: predict([text])",
        "text 1 is of the type null, expected a string.",
        "text 0 is of the type object, expected a string.",
        "text 1 contains half of a character (a lone surrogate). Repair it.",
        "The file has no tokenizer, expected a file of `bothways export-onnx`.",
        "The file is damaged or not an ONNX file.",
    ]


def test_text_columns_are_named_in_errors(exported: ExportedModels, tmp_path: Path) -> None:
    path, _ = exported["fields"]
    good = "{ title: 'a', body: null }, ['a', ''], { body: '', title: 'a', more: 1 }"
    found = faults(
        tmp_path,
        path,
        f"model.predict([{good}])",
        "model.predict(['a'])",
        "model.predict([['a']])",
        "model.predict([{ title: 'a' }])",
        "model.predict([{ title: null, body: null }])",
        "model.predict([null])",
        "model.predict([['a', 1]])",
    )
    expected = "text 0: expected one string for each of the text columns title, body."
    assert found == ["no error", *[expected] * 5, "text 0, column body, is of the type number, expected a string."]


def test_a_tokenizer_with_words_is_refused(exported: ExportedModels, tmp_path: Path) -> None:
    path, _ = exported["single-label"]
    document = make_word_tokenizer("fastai-v2").to_bytes().decode()
    (found,) = faults(tmp_path, path, f"new Tokenizer({json.dumps(document)})")
    assert found == "The model's tokenizer is of the kind fastai-v2, which runs in Python only: use bothways there."
