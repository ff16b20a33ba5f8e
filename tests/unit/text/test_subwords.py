from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.errors import DataError, DependencyMissing
from bothways.text.subword_tokenizer import FIRST_PIECE_ID, SubwordTokenizer
from bothways.text.subwords import count_words, train_tokenizer
from bothways.text.tokenizer import UNKNOWN_ID
from bothways.text.tokenizer_document import parse_tokenizer
from tests.conftest import TINY_CORPUS

TRAIN_AND_SHOW = """
import sys
from bothways.text.subwords import train_tokenizer
texts = ["".join(chr(97 + (i * j) % 26) for j in range(1, 12)) + " the cat " + str(i) for i in range(500)]
sys.stdout.buffer.write(train_tokenizer(texts, 150).to_bytes())
"""


def test_the_same_texts_give_the_same_bytes_in_any_process() -> None:
    documents = []
    for seed in ("0", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        run = subprocess.run(
            [sys.executable, "-c", TRAIN_AND_SHOW], env=environment, capture_output=True, check=True, timeout=60
        )
        documents.append(run.stdout)
    assert documents[0] == documents[1]
    assert len(parse_tokenizer(documents[0])) > 100


def test_words_are_counted_as_the_tokenizer_will_see_them() -> None:
    counts = count_words(["The the cat", "CAT &amp; soooo so no no no no"])
    assert counts == {"the": 2, "cat": 2, "&": 1, "so": 2, "no": 1}


def test_the_order_of_the_texts_does_not_matter() -> None:
    assert train_tokenizer(TINY_CORPUS, 150).to_bytes() == train_tokenizer(TINY_CORPUS[::-1], 150).to_bytes()


def test_frequent_words_become_one_piece(tiny_tokenizer: SubwordTokenizer) -> None:
    assert tiny_tokenizer.tokens(tiny_tokenizer.tokenize("film").ids.tolist()) == ["xxbos", "▁film"]


def test_the_vocabulary_is_no_larger_than_wanted() -> None:
    corpus = [" ".join(f"{a}{b}{c}" for a in "abcdefgh" for b in "ijklm" for c in "nopqr")]
    assert len(train_tokenizer(corpus, 60)) <= FIRST_PIECE_ID + 60


def test_every_frequent_character_has_a_piece() -> None:
    tokenizer = train_tokenizer(["абвгд 漢字 αβγ"] * 3, 8)
    assert UNKNOWN_ID not in tokenizer.tokenize("дгвба 字漢 γβα").ids


@pytest.mark.parametrize("texts", [[], [""], [" \n", "\0\ufeff"], ["▅", "▅▅"]])
def test_texts_without_a_word_teach_nothing(texts: list[str]) -> None:
    with pytest.raises(DataError, match=r"contain no words|no tokenizer can be trained"):
        train_tokenizer(texts, 100)


@settings(max_examples=30)
@given(st.lists(st.text() | st.sampled_from(["<unk>", "<s>", "</s>", "<0x41>", "▁", "⁇", "xxunk"]), max_size=5))
def test_any_texts_with_a_word_give_a_tokenizer_that_reads_them(texts: list[str]) -> None:
    try:
        tokenizer = train_tokenizer(texts, 8)
    except DataError:
        assert not count_words(texts) or "▅" in "".join(texts)
        return
    for text in texts:
        assert tokenizer.tokenize(text).ids.max() < len(tokenizer)


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(DependencyMissing, match=r"pip install 'bothways\[train\]'"):
        train_tokenizer(["a text"], 100)
