"""Guarantee 6 for texts that arrive in parts: wherever they are cut, the scores are those of the text so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import bothways
from bothways.bundle.parity import NASTY_TEXTS
from bothways.errors import ConfigError, TextError
from bothways.runtime.classifier import Classifier
from bothways.text.reading import Direction, SpecialTokenPlacement, concatenate
from bothways.text.subword_tokenizer import SubwordTokenizer
from tests.bundles import make_classifiers, write_classifiers
from tests.words import make_word_tokenizer

PIECES = [
    "no",
    "NO",
    " ",
    " ",
    "  ",
    "\n",
    "<br",
    "<BR />",
    "/>",
    "/",
    ">",
    "&amp",
    ";",
    "&",
    "#32;",
    "e",
    "\u0301",
    "\t",
]
PIECES += ["the cat", "sat ", "!!!", "a" * 300, "\x00", "▁", "\xa0", "\u2028", "no no no", "Σ", "x"]
LONG_PIECES = ["a" * 300, "ab" * 400, "A" * 256, "a" * 256, "é" * 700, "你好" * 400, "a" * 4000]
LONG_PIECES += ["no " * 14, " " * 20, "\n" * 9, "e\u0301" * 300, "&amp;" * 60, "😀" * 600, "no\n" * 13, "/> " * 13]
LONG_PIECES += ["<br ", "<br", "\u0301", "&", ";", "x", " ", "/>", "\t", "a" * 255, "ᄀ", "ᅡ" * 256, "Σ" * 800]
LONG_PIECES += ["".join(map(chr, range(0x4E00, 0x5100)))]
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=25)


@given(parts=TEXTS | st.lists(st.sampled_from(LONG_PIECES), max_size=12))
@example(parts=["x<br", " />x y"])
@example(parts=["x<br ", "/>" + "ab" * 600])
@example(parts=["ab" * 600, "\u0301" * 300, "x"])
@example(parts=["no no", " no no ", "no"])
@example(parts=["x x<br", " /> no"])
@example(parts=["<br />x x ", "x y"])
@example(parts=["no no<br ", "/> no y"])
@example(parts=["no \x00 ", "no no y"])
def test_settled_characters_have_the_tokens_that_they_have_in_the_whole_text(
    tiny_tokenizer: SubwordTokenizer, parts: list[str]
) -> None:
    whole = tiny_tokenizer.tokenize("".join(parts))
    found, pending = [], ""
    for part in parts:
        pending += part
        count = tiny_tokenizer.stable_length(pending)
        if count:
            found.append(tiny_tokenizer.tokenize(pending[:count]))
            pending = pending[count:]
        pending = tiny_tokenizer.without_repetitions(pending)
    together = concatenate([*found, tiny_tokenizer.tokenize(pending)])
    for name in ("ids", "group_starts", "special_token_counts"):
        np.testing.assert_array_equal(getattr(together, name), getattr(whole, name))
        assert getattr(together, name).dtype == np.int32


def test_only_the_last_words_stay_unsettled(tiny_tokenizer: SubwordTokenizer) -> None:
    text = "The cat sat on the mat, and the DOG ate it all "
    assert text[tiny_tokenizer.stable_length(text) :] == "all "
    assert text[tiny_tokenizer.stable_length(text + "u") :] == "all "
    # the last word may be repeated once more
    assert tiny_tokenizer.stable_length(text + "all all ") == tiny_tokenizer.stable_length(text)


@given(parts=TEXTS)
def test_each_part_returns_the_forward_scores_so_far_and_close_returns_the_prediction(
    each_model: Classifier, parts: list[str]
) -> None:
    reader, text = each_model.open(), ""
    for part in parts:
        text += part
        found = reader.append(part)
        assert found.tolist() == each_model.predict_proba_by_direction([text])["forward"][0].tolist()
    (expected,) = each_model.stream([text])
    prediction = reader.close()
    assert (prediction.label, prediction.probability) == (expected.label, expected.probability)
    assert prediction.probabilities.keys() == expected.probabilities.keys()
    for name, row in expected.probabilities.items():
        assert prediction.probabilities[name].tolist() == row.tolist()


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_nasty_texts_in_parts_of_any_size(mixed_bundle_path: Path, size: int) -> None:
    model = bothways.load(mixed_bundle_path)  # backward comes first
    for text in NASTY_TEXTS:
        short = text[: 40 * size]
        reader = model.open()
        for start in range(0, len(short), size):
            reader.append(short[start : start + size])
        (expected,) = model.stream([short])
        assert reader.close().probabilities["ensemble"].tolist() == expected.probabilities["ensemble"].tolist()


def test_the_cost_of_a_part_does_not_depend_on_the_text_before_it(
    model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = model.open()
    session = reader._states.session
    advance = session.advance
    read: list[int] = []

    def counted(ids: Any, *rest: Any) -> Any:
        read.append(len(ids))
        return advance(ids, *rest)

    monkeypatch.setattr(session, "advance", counted)
    tokens = []
    for _ in range(400):
        read.clear()
        reader.append("and another, ")
        tokens.append(sum(read))
    assert sum(tokens[:100]) == pytest.approx(sum(tokens[-100:]), rel=0.2)
    assert max(tokens) <= 2 * 32 + 20

    reader = model.open()
    tokens = []
    for number in range(1000):  # one long word, a letter at a time
        read.clear()
        reader.append("abcdefghijklmnopqrstu"[number * number % 21])
        tokens.append(sum(read))
    assert sum(tokens[-100:]) <= 100 * 2 * 32


def test_a_forward_only_bundle_reads_parts_and_a_backward_only_one_does_not(
    tiny_tokenizer: SubwordTokenizer, tmp_path: Path
) -> None:
    for direction in Direction:
        made = make_classifiers(tiny_tokenizer, {direction: SpecialTokenPlacement.READING_ORDER})
        write_classifiers(tmp_path / direction, made)
    model = bothways.load(tmp_path / "forward")
    reader = model.open()
    found = reader.append("the cat")
    assert (
        found.tolist()
        == reader.close().probabilities["forward"].tolist()
        == model.predict_proba(["the cat"])[0].tolist()
    )
    with pytest.raises(ConfigError, match="this bundle only reads backward"):
        bothways.load(tmp_path / "backward").open()


def test_fastais_word_tokenizer_is_rejected(tmp_path: Path) -> None:
    made = make_classifiers(
        make_word_tokenizer("fastai-v2"), dict.fromkeys(Direction, SpecialTokenPlacement.AS_WRITTEN)
    )
    write_classifiers(tmp_path / "words", made)
    with pytest.raises(ConfigError, match="which look across a whole text: read complete texts"):
        bothways.load(tmp_path / "words").open()


def test_an_error_leaves_the_reader_unchanged(model: Classifier) -> None:
    reader = model.open()
    before = reader.append("the c")
    for wrong in ("half \ud83d", b"bytes", None):
        with pytest.raises(TextError, match=r"part 1[ :]"):
            reader.append(wrong)  # type: ignore[arg-type]
    assert reader.append("").tolist() == before.tolist()
    reader.close()
    for use in (reader.close, lambda: reader.append("more")):
        with pytest.raises(ConfigError, match="this reader is closed"):
            use()


@pytest.mark.parametrize("unit", ["a", "no ", "你好世界", " ", "".join(map(chr, range(0x4E00, 0x9000)))])
def test_d_many_tiny_parts_take_linear_time(tiny_tokenizer: SubwordTokenizer, unit: str) -> None:
    """Findings D: what is read again with each part is bounded, also without white space and in repetitions."""
    text, pending, longest = (unit * 8_000)[:8_000], "", 0
    for character in text:
        pending += character
        pending = tiny_tokenizer.without_repetitions(pending[tiny_tokenizer.stable_length(pending) :])
        longest = max(longest, len(pending))
    assert longest < 16 * 256
