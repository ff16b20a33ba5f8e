"""Pieces of SentencePiece models, compared with sentencepiece itself on every kind of text and model."""

from __future__ import annotations

import functools
import itertools
import json
import random
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.errors import BundleBroken
from bothways.text.coverage import Unreadable, unreadable
from bothways.text.piece_splitter import PieceSplitter
from bothways.text.tokenizer import UNKNOWN_ID
from bothways.text.tokenizer_document import parse_tokenizer
from bothways.text.word_tokenizer import WordTokenizer
from tests.pieces import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    made,
    make_piece_tokenizer,
    piece_model_of,
    reference,
    trained,
)

ALGORITHMS = ("unigram", "bpe", "char", "word")
TRAPS = [
    *("▁", "▁▁", "xxbos", "▁xxbos", "▁xxmaj", "xxmaj", "<unk>", " ", "  ", "\t", "\n", "\r\n", "\u3000", "\u00a0"),
    *("\0", "\x01", "\x7f", "\u200b", "\u200d", "\ufeff", "\u00ad", "\u0301", "e\u0301", "ﬁ", "㍿", "½", "①", "Å", "ǆ"),
    *("\u00a8", "\u1100\u1161\u11a8", "ﾊﾞ", "\uffa1\uffc2", "ﷺ", "İ", "😀", "😂😂", "👩‍👩‍👧", "日本", "нет", "ส"),
    *("the", "house", "haus", "hahahaha", "!!!!!", "......", "mmmm", "1234", "über"),
]


def compare(data: bytes, *texts: str) -> None:
    """Compare the pieces of texts with those of sentencepiece. A splitter that has seen other texts gives the same."""
    theirs, ours = reference(data), PieceSplitter(piece_model_of(data))
    for text in [*texts, *texts]:
        assert ours.split(text) == theirs.EncodeAsPieces(text), ascii(text[:200])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_text_has_the_pieces_of_sentencepiece(algorithm: str) -> None:
    data = trained(algorithm)
    theirs, ours = reference(data), PieceSplitter(piece_model_of(data))
    parts = st.lists(st.one_of(st.sampled_from(TRAPS), st.text(string.ascii_lowercase, max_size=5)), max_size=20)

    @settings(max_examples=200, deadline=None)
    @given(st.one_of(parts.map("".join), parts.map(" ".join), st.text(max_size=50)))
    def check(text: str) -> None:
        assert ours.split(text) == theirs.EncodeAsPieces(text)

    check()
    for text in ("", " ", "▁", *TRAPS):
        assert ours.split(text) == theirs.EncodeAsPieces(text), ascii(text)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_long_texts_have_the_pieces_of_sentencepiece(algorithm: str) -> None:
    """Their scores add up to so much that single precision decides between nearly equal segmentations."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abehmn!?.", k=rng.randint(1, 7))) for _ in range(200)]
    texts = [" ".join(rng.choices(words, k=2_000)) for _ in range(10)]
    compare(trained(algorithm), *texts, "".join(words), "😀日" * 5_000, "ab" * 5_000, "a " * 5_000)


def piece_models() -> st.SearchStrategy[bytes]:
    """Return models made by hand, with equal scores, scores above 0, spaces inside pieces, and pieces of all kinds."""
    scores = st.sampled_from([-1.0, -2.0, -3.0, -2.0000002, -0.1, -30.0])
    pieces = st.lists(st.text("ab▁é", min_size=1, max_size=4), min_size=2, max_size=20, unique=True)
    kinds = st.sampled_from([NORMAL] * 6 + [USER_DEFINED, UNUSED, CONTROL])

    @st.composite
    def models(draw: st.DrawFn) -> bytes:
        offset = draw(st.sampled_from([0.0, 0.0, 3.0]))
        drawn = [(piece, draw(scores) + offset, draw(kinds)) for piece in draw(pieces)]
        training = {3: draw(st.sampled_from([1, 2, 3, 4]))}
        has_spaces = draw(st.booleans())
        all_pieces = [("<unk>", 0.0, UNKNOWN), ("b", -1.5, NORMAL), *(p for p in drawn if p[0] != "b")]
        if has_spaces and "▁" not in {piece for piece, _, _ in all_pieces}:
            all_pieces.append(("▁", -1.0, NORMAL))
        return made(all_pieces, training, prefix=draw(st.booleans()), spaces=draw(st.booleans()))

    return models()


@settings(max_examples=150, deadline=None)
@given(piece_models(), st.lists(st.text("ab▁é zß", max_size=30), min_size=5, max_size=5))
def test_every_model_has_the_pieces_of_sentencepiece(data: bytes, texts: list[str]) -> None:
    compare(data, *texts)
    theirs, model = reference(data), piece_model_of(data)
    ids, ours = model.ids_of_pieces(), PieceSplitter(model)
    for text in texts:
        assert [ids.get(piece, model.unknown) for piece in ours.split(text)] == theirs.EncodeAsIds(text)


@pytest.mark.parametrize("rule", ["nfkc", "nmt_nfkc_cf", "identity"])
def test_every_normalization_is_that_of_sentencepiece(rule: str) -> None:
    data = trained("bpe", normalization_rule_name=rule)
    compare(data, *("a".join(pair) for pair in itertools.product(TRAPS, repeat=2)))


@pytest.mark.parametrize("options", [{"split_by_whitespace": False}, {"remove_extra_whitespaces": False}])
def test_pieces_with_spaces_inside_are_those_of_sentencepiece(options: dict[str, object]) -> None:
    rng = random.Random(1)
    words = ["the", "house", "of", "the", "old", "man", "is", "", "the", "first", "thing", "that", "you", "see"]
    texts = [" ".join(rng.choices(words, k=300)) for _ in range(2)]
    for algorithm in ("unigram", "bpe"):
        compare(trained(algorithm, size=200, **options), *texts, *TRAPS)


# As a tokenizer.


@pytest.fixture(params=["fastai-v1", "fastai-v2"])
def tokenizer(request: pytest.FixtureRequest) -> WordTokenizer:
    return make_piece_tokenizer(request.param)


def groups_of(tokenizer: WordTokenizer, text: str) -> list[list[str]]:
    found = tokenizer.tokenize(text)
    stops = [*found.group_starts.tolist()[1:], len(found)]
    tokens = tokenizer.tokens(found.ids.tolist())
    return [tokens[start:stop] for start, stop in zip(found.group_starts.tolist(), stops, strict=True)]


def test_a_text_is_cleaned_then_segmented(tokenizer: WordTokenizer) -> None:
    assert groups_of(tokenizer, "That film") == [["▁xxbos"], ["▁xxmaj", "▁that"], ["▁film"]]
    assert groups_of(tokenizer, "") == [["▁xxbos"]]
    assert tokenizer.words_of("THAT 😀😂") == ["▁xxbos", "▁xxup", "▁that", "▁", "😀😂"]
    assert len(groups_of(tokenizer, "THAT 😀😂")) == 3
    assert unreadable("😀 😂 😀😂", tokenizer.tokenize("😀 😂 😀😂"), tokenizer) == Unreadable.UNKNOWN
    assert unreadable("that film", tokenizer.tokenize("that film"), tokenizer) is None
    assert tokenizer.decode(tokenizer.tokenize("The house, the garden").ids.tolist()) == "the house, the garden"


def test_an_unknown_character_has_the_unknown_id_of_its_version(tokenizer: WordTokenizer) -> None:
    unknown = tokenizer.tokenize("😀").ids.tolist()[-1]
    assert unknown == tokenizer.unknown_id == (9 if tokenizer.document.has_ids_of_pieces else UNKNOWN_ID)
    assert tokenizer.tokens([unknown]) == ["<unk>" if tokenizer.document.has_ids_of_pieces else "xxunk"]


def test_v1_has_the_ids_of_the_model_and_v2_those_of_the_vocabulary() -> None:
    v1, v2 = make_piece_tokenizer("fastai-v1"), make_piece_tokenizer("fastai-v2")
    assert v1.tokenize("that film").ids.tolist() == reference(trained("unigram", "fastai-v1")).EncodeAsIds(
        "xxbos that film"
    )
    assert v2.tokenize("that film").ids.tolist() == [
        v2.document.vocabulary.index(piece) for piece in ("▁xxbos", "▁that", "▁film")
    ]


def test_unknown_characters_that_are_words_of_the_vocabulary_have_their_ids() -> None:
    v2 = make_piece_tokenizer("fastai-v2")
    vocabulary = [*v2.document.vocabulary, "😀😂"]
    known = WordTokenizer(v2.document.model_copy(update={"vocabulary": vocabulary}))
    assert known.tokenize("😀😂").ids.tolist()[-1] == len(vocabulary) - 1
    assert known.tokenize("😀").ids.tolist()[-1] == UNKNOWN_ID


def test_fine_tuning_keeps_the_vocabulary(tokenizer: WordTokenizer) -> None:
    assert tokenizer.adapted(["zebra"] * 10) is tokenizer


def test_a_document_with_a_model_comes_back_as_it_was_written(tokenizer: WordTokenizer) -> None:
    again = parse_tokenizer(tokenizer.to_bytes())
    assert again.to_bytes() == tokenizer.to_bytes()
    assert (
        again.tokenize("The ﬁrst house, 1½ m!").ids.tolist() == tokenizer.tokenize("The ﬁrst house, 1½ m!").ids.tolist()
    )


@functools.cache
def document() -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(make_piece_tokenizer("fastai-v1").to_bytes())
    fields["sentencepiece"]["replacements"] = []
    return fields


def changed(**changes: object) -> bytes:
    fields = document()
    return json.dumps({**fields, "sentencepiece": {**fields["sentencepiece"], **changes}}).encode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": "bytes"}, "Input should be 'unigram', 'bpe'"),
        ({"unknown": 1_000}, "does not exist or is of two kinds"),
        ({"user_defined": [0, 0]}, "does not exist or is of two kinds"),
        ({"control": [-1]}, "does not exist or is of two kinds"),
        ({"pieces": [["a", 0], ["b", 0]], "unknown": 0, "user_defined": [1]}, "all pieces are special"),
        ({"pieces": [["a", 0], ["a", 0], ["b", 0]], "unknown": 0, "user_defined": []}, "a piece occurs twice"),
        ({"pieces": [["a" * 101, 0], ["b", 0]], "unknown": 0, "user_defined": []}, "a piece has 101 characters"),
        ({"pieces": [["a", 1e10], ["b", 0]], "unknown": 0, "user_defined": []}, "a score is larger than 1e"),
        ({"pieces": [["a", 0], ["b", 0]], "unknown": 0, "user_defined": []}, "the vocabulary is not the pieces"),
        ({"replacements": [[["a"], "bc", "d"]]}, "1 replacements for 2 characters after 'a', expected one each"),
        ({"replacements": [[["a"], "b", "d"]] * 3}, "the prefix 'a' is in 3 rows, expected at most 2"),
        ({"replacements": [[["a" * 32], "b", "d"]]}, "at most 31 characters"),
        ({"replacements": [[["a"], "b", ["d" * 33]]]}, "sentencepiece.replacements.0"),
    ],
)
def test_an_invalid_model_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BundleBroken, match=message):
        parse_tokenizer(changed(**changes))
