from __future__ import annotations

import hashlib
import os
import random
import string
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.errors import DataError, DependencyMissing
from bothways.text import subwords
from bothways.text.subword_tokenizer import BYTE_TOKENS, FIRST_PIECE_ID, SubwordTokenizer
from bothways.text.subwords import count_words, train_tokenizer
from bothways.text.tokenizer_document import parse_tokenizer

TRAIN_AND_SHOW = """
import sys
from bothways.text.subwords import train_tokenizer
texts = ["".join(chr(97 + (i * j) % 26) for j in range(1, 12)) + " the cat " + str(i) for i in range(500)]
sys.stdout.buffer.write(train_tokenizer(texts, 150).to_bytes())
"""

TINY_CORPUS = [
    "The cat sat on the mat, and the DOG ate it all up.",
    "what a lovely film; I loved every minute of it!",
    "what a terrible film: I hated every minute of it?",
    " ".join((string.ascii_lowercase, string.digits, string.punctuation)),
    " ".join((*string.ascii_lowercase, *string.digits, *string.punctuation)),
] * 10
"""Contains every printable ASCII character, so no ASCII text has unknown pieces."""


@pytest.fixture(scope="module")
def tiny_tokenizer() -> SubwordTokenizer:
    """A tokenizer of the tiny corpus, trained here."""
    return train_tokenizer(TINY_CORPUS, vocabulary_size=200)


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
    assert counts.words == {"the": 2, "cat": 2, "&": 1, "so": 2, "no": 1}
    assert counts.characters == Counter("▁the▁the▁cat▁cat▁&▁so▁so▁no")


def test_the_order_of_the_texts_does_not_matter() -> None:
    assert train_tokenizer(TINY_CORPUS, 150).to_bytes() == train_tokenizer(TINY_CORPUS[::-1], 150).to_bytes()


def test_frequent_words_become_one_piece(tiny_tokenizer: SubwordTokenizer) -> None:
    assert tiny_tokenizer.tokens(tiny_tokenizer.tokenize("film").ids.tolist()) == ["xxbos", "▁film"]


WORDS = ["where", "country", "когда", "नमस्ते", "किताब", "ขอบคุณ", "می\u200cخواهم", "?"]
MIXED_WORDS = {"don't": ["don", "'", "t"], "covid19": ["covid", "19"], "है।": ["है", "।"]}


def test_frequent_words_that_are_part_of_no_other_word_have_a_piece_per_script() -> None:
    tokenizer = train_tokenizer([" ".join([*WORDS, *MIXED_WORDS])] * 20, 100)
    for word, (first, *others) in [*((word, [word]) for word in WORDS), *MIXED_WORDS.items()]:
        tokens = tokenizer.tokens(tokenizer.tokenize(word).ids.tolist())
        assert tokens == ["xxbos", f"▁{first}", *others]


def test_the_vocabulary_is_no_larger_than_wanted() -> None:
    corpus = [" ".join(f"{a}{b}{c}" for a in "abcdefgh" for b in "ijklm" for c in "nopqr")]
    assert len(train_tokenizer(corpus, 60)) <= FIRST_PIECE_ID + 60 + 256


def test_every_frequent_character_has_a_piece() -> None:
    tokenizer = train_tokenizer(["абвгд 漢字 αβγ"] * 3, 8)
    assert share_without_piece(tokenizer, ["дгвба 字漢 γβα"]) == 0


def test_other_characters_are_read_as_their_bytes(tiny_tokenizer: SubwordTokenizer) -> None:
    tokens = tiny_tokenizer.tokens(tiny_tokenizer.tokenize("mäuse").ids.tolist())
    assert "".join(tokens) == "xxbos▁m<0xC3><0xA4>use"
    assert tiny_tokenizer.tokens(tiny_tokenizer.byte_ids) == list(BYTE_TOKENS)
    assert len(tiny_tokenizer) == tiny_tokenizer.byte_ids.stop


def test_no_piece_has_the_name_of_a_byte() -> None:
    tokenizer = train_tokenizer(["<0x41>", "the <0x41> and a<0x42>"] * 50, 200)
    tokens = tokenizer.tokens(range(len(tokenizer)))
    assert len(set(tokens)) == len(tokens)
    ids = tokenizer.tokenize("<0x41> a<0x42>").ids
    assert not set(ids.tolist()) & set(tokenizer.byte_ids)
    assert tokenizer.decode(ids.tolist()) == "<0x41> a<0x42>"


SCRIPTS = {
    "Latin": "abcdefghijklmnopqrstuvwxyzäöüßéñ",
    "Cyrillic": "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "Greek": "αβγδεζηθικλμνξοπρστυφχψω",
    "Hebrew": "אבגדהוזחטיכלמנסעפצקרשת",
    "Arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "Devanagari": "अआइईउकखगघचछजटठडतथदधनपफबभमयरलवशसह" + "ािीुूेैोौ्ं",
    "Thai": "กขคงจฉชซญดตถทธนบปผพฟภมยรลวศสหอ" + "ะาิีึืุูเแโใไ" + "่้",
    "Georgian": "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ",
    "Hangul": "".join(map(chr, range(0xAC00, 0xAC00 + 1600))),
    "Han": "".join(map(chr, range(0x4E00, 0x4E00 + 2600))),
    "Egyptian hieroglyphs": "".join(map(chr, range(0x13000, 0x13000 + 400))),
}
"""Letters of eleven scripts. The last ones have very many, and the very last ones have long codes."""


def drawn_texts(rng: random.Random, letters: str, count: int) -> list[str]:
    """Return texts of drawn words. Some letters are hundreds of times as frequent as others, as in real texts."""
    weights = [1 / (2 + rank) for rank in range(len(letters))]
    return [
        " ".join("".join(rng.choices(letters, weights, k=rng.randint(1, 9))) for _ in range(rng.randint(3, 15)))
        for _ in range(count)
    ]


def share_without_piece(tokenizer: SubwordTokenizer, texts: list[str]) -> float:
    """Return the share of the tokens that are bytes. None may be unknown."""
    ids = np.concatenate([tokenizer.tokenize(text).ids for text in texts])
    assert tokenizer.unknown_id not in ids
    return float(np.isin(ids, tokenizer.byte_ids).mean())


def with_known_characters(texts: list[str], training: list[str]) -> list[str]:
    known = set("".join(training)) | {" "}
    return ["".join(character for character in text if character in known) for text in texts]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("vocabulary_size", [2000, 4000])
def test_b4_no_script_becomes_unknown_tokens(script: str, vocabulary_size: int) -> None:
    rng = random.Random(script)
    training, others = (drawn_texts(rng, SCRIPTS[script], count) for count in (400, 100))
    tokenizer = train_tokenizer(training, vocabulary_size)
    assert share_without_piece(tokenizer, with_known_characters(others, training)) == 0
    assert share_without_piece(tokenizer, others) < 0.1  # some letters occur in none of the training texts
    assert len(tokenizer) <= FIRST_PIECE_ID + 2 * len(SCRIPTS[script]) + 500 + vocabulary_size + 256


@pytest.mark.parametrize("script", ["Thai", "Han", "Egyptian hieroglyphs"])
def test_b4_a_script_of_one_text_in_a_hundred_has_pieces_too(script: str) -> None:
    rng = random.Random(script)
    training, others = (
        drawn_texts(rng, SCRIPTS["Latin"], 99 * count) + drawn_texts(rng, SCRIPTS[script], count) for count in (12, 6)
    )
    tokenizer = train_tokenizer(training, 2000)
    assert share_without_piece(tokenizer, with_known_characters(others, training)) == 0


def test_b4_the_rarest_characters_of_many_get_no_piece() -> None:
    common, rare = ["abcdefgh hgfedcba " * 500] * 300, "".join(map(chr, range(0x4E00, 0x4E00 + 900)))
    tokenizer = train_tokenizer([*common, rare], 50)  # one in 2.7 million
    assert share_without_piece(tokenizer, [rare]) > 0.99
    assert len(tokenizer) <= FIRST_PIECE_ID + 50 + 256
    tokenizer = train_tokenizer([*common, *[rare] * 3], 50)  # three in 2.7 million, which is more than one
    assert share_without_piece(tokenizer, [rare]) == 0
    assert len(tokenizer) <= FIRST_PIECE_ID + 50 + 900 + 256


def test_b4_a_tokenizer_that_lacks_no_character_is_that_of_sentencepiece(tiny_tokenizer: SubwordTokenizer) -> None:
    without_bytes = tiny_tokenizer.to_bytes().replace(b' "byte_fallback": "utf-8",\n', b"")
    digest = hashlib.sha256(without_bytes).hexdigest()
    assert digest == "3cf6d92c8c49b4b18830bbde0d744030a5b02fad0606470c3408ca880007f212"


def test_b4_texts_without_spaces_are_not_forgotten_when_there_are_millions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subwords, "_MOST_DISTINCT_CHUNKS", 50)
    rng = random.Random(0)
    counts = count_words("".join(rng.choices(SCRIPTS["Han"][:60], k=12)) for _ in range(200))
    assert 25 <= len(counts.words) <= 50
    assert counts.characters.total() == 200 * 13


@pytest.mark.parametrize("texts", [["▅", "▅▅"], ["the ▅bar▅ of a chart ▅▅"], ["<unk> <s>"]])
def test_b4_characters_that_sentencepiece_reserves_have_pieces(texts: list[str]) -> None:
    tokenizer = train_tokenizer(texts, 100)
    assert share_without_piece(tokenizer, texts) == 0
    assert all("\ufdd0" not in token for token in tokenizer.tokens(range(len(tokenizer))))


@pytest.mark.parametrize("texts", [[], [""], [" \n", "\0\ufeff"]])
def test_texts_without_a_word_teach_nothing(texts: list[str]) -> None:
    with pytest.raises(DataError, match="the texts contain no words"):
        train_tokenizer(texts, 100)


@settings(max_examples=30)
@given(st.lists(st.text() | st.sampled_from(["<unk>", "▅", "<s>", "</s>", "<0x41>", "▁", "⁇", "xxunk"]), max_size=5))
def test_any_texts_with_a_word_give_a_tokenizer_that_reads_them(texts: list[str]) -> None:
    if not count_words(texts).words:
        return
    tokenizer = train_tokenizer(texts, 8)
    for text in texts:
        assert tokenizer.tokenize(text).ids.max() < len(tokenizer)
        assert share_without_piece(tokenizer, [text]) == 0


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(DependencyMissing, match=r"pip install 'bothways\[train\]'"):
        train_tokenizer(["a text"], 100)
