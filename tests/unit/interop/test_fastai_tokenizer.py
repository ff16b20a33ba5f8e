"""What split the texts of saved weights must be stated, and is compared with their vocabulary."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bothways.errors import ConfigError
from bothways.interop import fastai_tokenizer
from bothways.interop.fastai_file import ForeignModel, model_of
from bothways.interop.learner_facts import Requested
from bothways.text.word_tokenizer import WordTokenizer
from tests.hostile.foreign_files import LABELS, tiny_state
from tests.unit.interop.exports import v1_export, vocabulary
from tests.words import make_word_tokenizer

SPLIT_BY_SPACY = ["film", "good", "not", ".", ",", *(f"word{number}" for number in range(30))]
SPLIT_AT_SPACES = ["film", "good", "film.", *(f"word{number}," for number in range(30))]


@pytest.fixture(autouse=True)
def _tables(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = make_word_tokenizer("fastai-v2").document.tables
    monkeypatch.setattr(fastai_tokenizer, "tables_from_spacy", lambda *_: (tables, "0"))


def opened(words: list[str], **requested: Any) -> ForeignModel:
    whole = vocabulary(2, words)
    return model_of(
        tiny_state(words=len(whole)),
        "clas.pth",
        read_vocabulary=lambda: (whole, []),
        requested=Requested(task="single-label", labels=tuple(LABELS), **requested),
    )


def test_base_tokenizer_splits_at_spaces() -> None:
    tokenizer = WordTokenizer(opened(SPLIT_AT_SPACES, words_by="split").tokenizer)
    ids = tokenizer.tokenize("good film.").ids
    assert [tokenizer.document.vocabulary[number] for number in ids][-2:] == ["good", "film."]


def test_the_empty_word_is_no_filler_of_the_vocabulary() -> None:
    """BaseTokenizer splits the empty text into one empty word, which fastai does not know."""
    tokenizer = WordTokenizer(opened([*SPLIT_AT_SPACES, "xxfake", "xxfake"], words_by="split").tokenizer)
    assert list(tokenizer.tokenize("").ids) == [tokenizer.id_of("xxbos"), tokenizer.unknown_id]


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ({}, "add --language with spaCy's code of their language, such as en, or --tokenizer split"),
        ({"words_by": "spacy"}, "does not record its language: add --language"),
        ({"words_by": "sentencepiece"}, "does not contain the SentencePiece model: pass it"),
    ],
)
def test_what_the_file_does_not_say_is_asked_for(requested: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        opened(SPLIT_BY_SPACY, **requested)


def test_a_vocabulary_that_spacy_would_have_split_is_refused() -> None:
    assert opened(SPLIT_BY_SPACY, language="en").tokenizer.words == "spacy"
    message = r"spaCy would have split 31 of the 33 words of its vocabulary, such as 'film\.': .* --tokenizer split"
    with pytest.raises(ConfigError, match=message):
        opened(SPLIT_AT_SPACES, language="en")


def test_the_tokenizer_of_an_export_can_not_be_replaced() -> None:
    words = vocabulary(1, SPLIT_BY_SPACY)
    export = v1_export(tiny_state(words=len(words)), words, LABELS)
    same = model_of(export, "x.pkl", read_vocabulary=lambda: ([], []), requested=Requested(words_by="spacy"))
    assert same.tokenizer.words == "spacy"
    with pytest.raises(ConfigError, match=r"x\.pkl records another tokenizer than --tokenizer split: drop --tokenizer"):
        model_of(export, "x.pkl", read_vocabulary=lambda: ([], []), requested=Requested(words_by="split"))
