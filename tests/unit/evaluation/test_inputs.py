"""Which columns of a table a model reads."""

from __future__ import annotations

import pytest

from bothways.errors import ConfigError
from bothways.evaluation.benchmark import _synthetic_fields, synthetic_texts
from bothways.evaluation.inputs import choose_label_column, choose_text_columns
from bothways.text.tokenizer import Tokenizer


@pytest.mark.parametrize(
    ("given", "recorded", "expected"),
    [
        (None, ["a"], ["a"]),
        (None, ["a", "b"], ["a", "b"]),
        ([], ["a", "b"], ["a", "b"]),
        ("x", ["a"], ["x"]),
        ("x", [], ["x"]),
        (["b", "x"], ["a", "b"], ["b", "x"]),
    ],
)
def test_text_columns_default_to_those_of_the_training(
    given: list[str] | str | None, recorded: list[str], expected: list[str]
) -> None:
    assert choose_text_columns(given, recorded) == expected


@pytest.mark.parametrize(
    ("given", "recorded", "message"),
    [
        (None, [], "does not record its text column. Name it with --text"),
        ("x", ["a", "b"], "1 text column is named, but the model reads the text columns 'a' and 'b'. Repeat --text"),
        (["x", "y"], ["a"], "2 text columns are named, but the model reads the text column 'a'"),
        (["x", "y"], [], "2 text columns are named, but the model reads one text column"),
        (["b", "a"], ["a", "b"], "the model reads the text columns 'a' and 'b'. Name them with --text in this order"),
        (["a", "a"], ["a", "b"], "the text column 'a' is named twice"),
    ],
)
def test_other_numbers_of_columns_and_orders_are_refused(
    given: list[str] | str | None, recorded: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_text_columns(given, recorded)


def test_a_label_column_is_needed() -> None:
    assert choose_label_column(None, "a") == "a"
    with pytest.raises(ConfigError, match="does not record its label column"):
        choose_label_column(None, None)


def test_synthetic_texts_of_several_columns_share_their_words(tiny_tokenizer: Tokenizer) -> None:
    assert _synthetic_fields(tiny_tokenizer, 5, ["text"]) == synthetic_texts(tiny_tokenizer, 5)
    for one, fields in zip(
        synthetic_texts(tiny_tokenizer, 5), _synthetic_fields(tiny_tokenizer, 5, ["a", "b", "c"]), strict=True
    ):
        assert len(fields) == 3
        assert " ".join(fields).split() == one.split()
