"""The example of docs/onnx.md gives the bundle's tokens and numbers without bothways."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bothways
from bothways.bundle.parity import NASTY_TEXTS
from bothways.text.fields import Text, fields_of
from bothways.text.subword_tokenizer import SubwordTokenizer

EXAMPLE = Path(__file__).parents[3] / "tools" / "run_onnx.py"
RUN_WITHOUT_US = f"""
import runpy, sys
sys.modules["bothways"] = sys.modules["torch"] = sys.modules["onnx"] = None
runpy.run_path({str(EXAMPLE)!r}, run_name="__main__")
"""


@pytest.fixture(scope="module", params=["tiny_tokenizer", "byte_tokenizer"])
def tokenizer(request: pytest.FixtureRequest) -> SubwordTokenizer:
    """A tokenizer with unknown tokens, and one with bytes."""
    found: SubwordTokenizer = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def to_ids(tokenizer: SubwordTokenizer) -> Callable[[str], list[int]]:
    spec = importlib.util.spec_from_file_location("run_onnx", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Callable[[str], list[int]] = module.TextToIds(tokenizer.to_bytes().decode())
    return made


@pytest.mark.parametrize("text", [*NASTY_TEXTS, f"&#{'1' * 5000}; a", f"&#{'0' * 99}65;b"])
def test_nasty_texts_become_the_bundles_tokens(
    to_ids: Callable[[str], list[int]], tokenizer: SubwordTokenizer, text: str
) -> None:
    assert to_ids(text) == tokenizer.tokenize(text).ids.tolist()


@given(
    text=st.one_of(
        st.text(max_size=60),
        st.text(alphabet="aAbB!. \n<br/>&;#", max_size=60),
        st.lists(
            st.sampled_from(["no", "NO", "No", "sooo", "HELLO", "&amp;", "a1", "ÄÖ", "\U0001fffe", "\ufdd0"]),
            max_size=20,
        ).map(" ".join),
    )
)
def test_any_text_becomes_the_bundles_tokens(
    to_ids: Callable[[str], list[int]], tokenizer: SubwordTokenizer, text: str
) -> None:
    assert to_ids(text) == tokenizer.tokenize(text).ids.tolist()


ONE_COLUMN = ["The cat sat on the mat!!!!", "", "WHAT a terrible, terrible film: I hated every minute of it?"]
TWO_COLUMNS = [("What a FILM", "I loved it, xxfld"), ("", "no title"), ("no body", "")]


@pytest.mark.parametrize(
    ("bundle", "texts"),
    [("bundle_path", ONE_COLUMN), ("fields_bundle_path", TWO_COLUMNS), ("linear_bundle_path", ONE_COLUMN)],
)
def test_the_program_gives_the_bundles_probabilities_without_bothways(
    bundle: str, texts: list[Text], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    bundle_path = request.getfixturevalue(bundle)
    bothways.export_onnx(bundle_path, out=tmp_path / "m.onnx")
    finished = subprocess.run(
        [sys.executable, "-I", "-c", RUN_WITHOUT_US, tmp_path / "m.onnx"],
        input="".join("\t".join(fields_of(text)) + "\n" for text in texts),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    model = bothways.load(bundle_path)
    found = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [list(row) for row in found] == [list(model.labels)] * len(texts)
    for row, expected in zip(found, model.predict_proba(texts), strict=True):
        assert list(row.values()) == pytest.approx(expected.tolist(), abs=1e-5)
