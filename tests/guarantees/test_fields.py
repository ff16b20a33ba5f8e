"""Several text columns: the guarantees hold for texts with fields, and a text of one column stays what it was.

The field token is a group of its own between the fields, so that both directions meet it there. Nothing that a user
types becomes a field token.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import bothways
from bothways.bundle.manifest import Kind
from bothways.bundle.read import read_bundle
from bothways.errors import BundleBroken, ConfigError, TextError
from bothways.runtime.classifier import Classifier, load
from bothways.runtime.verify import verify
from bothways.text.fields import FIELD, Text
from bothways.text.reading import Direction, SpecialTokenPlacement, TokenizedText, read, reading_positions
from bothways.text.subword_tokenizer import SubwordTokenizer
from bothways.text.tokenizer_document import parse_tokenizer
from tests.bundles import TinyClassifiers, edit_json, edit_manifest, write_with_early_exit

TYPED = st.lists(
    st.text(max_size=8) | st.sampled_from([FIELD, "xxfld 1", "The", "CAT", "no no no", "soooo", "漢字"])
).map(" ".join)
ROWS = st.lists(st.tuples(TYPED, TYPED), min_size=1, max_size=6)
ORDERS = [(direction, placement) for direction in Direction for placement in SpecialTokenPlacement]


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer: SubwordTokenizer) -> SubwordTokenizer:
    return tiny_tokenizer.with_field_token()


# Tokens.


@given(fields=st.lists(TYPED, min_size=1, max_size=4))
@example(fields=["xxfld", "one xxfld two", " xxfld xxfld"])
@settings(max_examples=60)
def test_fields_are_tokenized_alone_and_only_the_field_token_is_between_them(
    tokenizer: SubwordTokenizer, fields: list[str]
) -> None:
    (field_token,) = [i for i, token in enumerate(tokenizer.tokens(range(len(tokenizer)))) if token == FIELD]
    found = tokenizer.tokenize(tuple(fields))
    alone = [tokenizer.tokenize(field) for field in fields]
    expected = alone[0].ids.tolist()
    for each in alone[1:]:
        expected += [field_token, *each.ids.tolist()[1:]]
    assert found.ids.tolist() == expected
    assert found.ids.tolist().count(field_token) == len(fields) - 1  # whatever users type


@given(text=TYPED)
@settings(max_examples=40)
def test_a_field_token_changes_no_other_id(tiny_tokenizer: SubwordTokenizer, text: str) -> None:
    tokenizer = tiny_tokenizer.with_field_token()
    assert len(tokenizer) == len(tiny_tokenizer) + 1
    assert tokenizer.tokenize(text).ids.tolist() == tiny_tokenizer.tokenize(text).ids.tolist()
    assert tokenizer.decode(range(len(tokenizer))) == tiny_tokenizer.decode(range(len(tiny_tokenizer)))


def test_the_document_of_a_tokenizer_without_a_field_token_is_what_it_was(tiny_tokenizer: SubwordTokenizer) -> None:
    tokenizer = tiny_tokenizer.with_field_token()
    assert b"field_token" not in tiny_tokenizer.to_bytes()
    assert b'\n "field_token": "xxfld",\n' in tokenizer.to_bytes()
    again = parse_tokenizer(tokenizer.to_bytes())
    assert again.to_bytes() == tokenizer.to_bytes()
    assert again.tokenize(("a", "b")).ids.tolist() == tokenizer.tokenize(("a", "b")).ids.tolist()
    assert tokenizer.with_field_token() is tokenizer
    with pytest.raises(TextError, match="a text has 2 fields, but this tokenizer has no field token"):
        tiny_tokenizer.tokenize(("a", "b"))


# Guarantee 5.


@given(fields=st.tuples(TYPED, TYPED))
@pytest.mark.parametrize(("direction", "placement"), ORDERS)
@settings(max_examples=25)
def test_the_field_token_stays_between_its_fields_in_every_reading_order(
    tokenizer: SubwordTokenizer, direction: Direction, placement: SpecialTokenPlacement, fields: tuple[str, str]
) -> None:
    text = tokenizer.tokenize(fields)
    positions = reading_positions(text, direction, placement).tolist()
    assert sorted(positions) == list(range(len(text)))
    title, body = (tokenizer.tokenize(field) for field in fields)
    first, second = (title, body) if direction is Direction.FORWARD else (body, title)
    words = [read(each, direction, placement).tolist() for each in (first, second)]
    start = words[0][-1] if (direction, placement) == (Direction.BACKWARD, SpecialTokenPlacement.AS_WRITTEN) else None
    inner = [each[:-1] if start is not None else each[1:] for each in words]  # without the start token
    expected = [*inner[0], len(tokenizer) - 1, *inner[1]]
    found = read(text, direction, placement).tolist()
    assert found == ([*expected, start] if start is not None else [words[0][0], *expected])


# Guarantees 1, 2, 3, 4 and 6.


def test_the_bundle_reproduces_torch_for_long_and_short_fields(
    fields_torch_models: TinyClassifiers, fields_model: Classifier
) -> None:
    texts: list[Text] = [
        ("", ""),
        ("A title", ""),
        ("", "a body"),
        ("one " * 3, "two three four " * 70),
        (" ".join(map(str, range(300))), "xxfld and a body"),
    ]
    theirs = fields_torch_models.probabilities(texts)
    ours = fields_model.predict_proba_by_direction(texts)
    for name, probabilities in theirs.items():
        assert np.abs(ours[name] - probabilities).max() < 1e-5


@given(rows=ROWS)
@settings(max_examples=15)
def test_a_row_has_the_same_bits_alone_in_any_batch_and_in_any_form(
    fields_model: Classifier, rows: list[tuple[str, str]]
) -> None:
    together = fields_model.predict_proba(rows)
    alone = np.concatenate([fields_model.predict_proba([row]) for row in rows])
    reverse = fields_model.predict_proba(rows[::-1])[::-1]
    dicts: list[Any] = [{"body": body, "title": title, "id": 7} for title, body in rows]
    table = {"title": [title for title, _ in rows], "body": [body for _, body in rows]}
    for other in (alone, reverse, *map(fields_model.predict_proba, (dicts, table, pd.DataFrame(table)))):
        assert np.array_equal(together, other)


def test_each_row_is_tokenized_once(fields_bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(fields_bundle_path)
    tokenize = model.tokenizer.tokenize
    seen: list[Text] = []

    def counted(text: Text) -> TokenizedText:
        seen.append(text)
        return tokenize(text)

    monkeypatch.setattr(model.tokenizer, "tokenize", counted)
    rows = [("a", "b c"), ("", "d")]
    assert len(list(model.stream(rows))) == 2
    assert seen == rows


def test_the_order_of_the_fields_decides(fields_model: Classifier) -> None:
    one, other = fields_model.predict_proba([("a lovely film", "about a cat"), ("about a cat", "a lovely film")])
    assert not np.allclose(one, other)
    joined = fields_model.predict_proba([("a lovely film xxfld about a cat", "")])
    assert not np.allclose(one, joined)


def test_a_text_in_parts_is_refused(fields_model: Classifier) -> None:
    with pytest.raises(ConfigError, match="reads the text columns 'title' and 'body', which cannot be read in parts"):
        fields_model.open()


# C3: the order of the columns is part of the parity record.


def test_c3_columns_in_another_order_are_noticed(fields_bundle_path: Path, tmp_path: Path) -> None:
    assert verify(fields_bundle_path).passed
    path = shutil.copytree(fields_bundle_path, tmp_path / "m.bundle")
    edit_manifest(path, lambda fields: fields["training"].update(text_columns=["body", "title"]))
    found = verify(path)
    assert not found.passed
    assert found.different_tokens > 20


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["title", "text"], r"parity\.jsonl, line 1: the text is not a text for each of the text columns 'text' and"),
        (["title"], r"parity\.jsonl, line 1: the text is not a string"),
        (["title", "title"], "a text column occurs twice"),
    ],
)
def test_c3_other_columns_are_refused(
    fields_bundle_path: Path, tmp_path: Path, columns: list[str], message: str
) -> None:
    path = shutil.copytree(fields_bundle_path, tmp_path / "m.bundle")
    edit_manifest(path, lambda fields: fields["training"].update(text_columns=columns))
    with pytest.raises(BundleBroken, match=message):
        verify(path)


def test_a_tokenizer_without_a_field_token_is_refused(
    bundle_path: Path, fields_bundle_path: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(bundle_path, tmp_path / "m.bundle")
    edit_manifest(path, lambda fields: fields["training"].update(text_columns=["title", "body"]))
    with pytest.raises(BundleBroken, match="reads the text columns 'title' and 'body', but its tokenizer has no field"):
        load(path)
    path = shutil.copytree(fields_bundle_path, tmp_path / "n.bundle")
    edit_json(path, "tokenizer.json", lambda fields: fields.pop("field_token"))
    with pytest.raises(BundleBroken, match="the tokenizer has"):
        load(path)


@pytest.mark.parametrize("first", list(Direction))
def test_early_exit_and_int8_read_every_column(fields_bundle_path: Path, tmp_path: Path, first: Direction) -> None:
    rows: list[Text] = [(f"title {number}", "word " * (number % 9)) for number in range(40)]
    path = write_with_early_exit(fields_bundle_path, tmp_path / "fast.bundle", first, rows)
    assert verify(path).passed
    model, both = load(path, early_exit=True), load(path)
    expected = both.predict_proba_by_direction(rows)
    for number, prediction in enumerate(model.stream(rows)):
        assert np.array_equal(prediction.scores[first], expected[first][number])
        if prediction.read == "both":
            assert np.array_equal(prediction.scores["ensemble"], expected["ensemble"][number])
    quantized = load(path, precision="int8")
    assert np.abs(quantized.predict_proba(rows) - expected["ensemble"]).max() < 0.1


def test_the_parity_record_contains_every_column(fields_bundle_path: Path) -> None:
    bundle = read_bundle(fields_bundle_path, Kind.CLASSIFIER)
    assert all(isinstance(row.text, dict) and list(row.text) == ["title", "body"] for row in bundle.parity_record)
    assert any(FIELD in text[0] for text in bundle.parity_texts)
    assert bothways.verify(fields_bundle_path).texts == len(bundle.parity_record) > 40
