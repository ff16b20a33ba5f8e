"""The word tokenizer of imported models: ids, groups, vocabularies and the document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.errors import BundleBroken, TextError
from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS
from bothways.text.reading import Direction, SpecialTokenPlacement, read
from bothways.text.subword_tokenizer import SubwordTokenizer
from bothways.text.tokenizer import PADDING_ID, START_ID, UNKNOWN_ID
from bothways.text.tokenizer_document import parse_tokenizer
from bothways.text.word_tokenizer import WordTokenizer
from tests.words import WORDS, make_word_tokenizer

V1, V2 = make_word_tokenizer("fastai-v1"), make_word_tokenizer("fastai-v2")


def words_of(tokenizer: WordTokenizer, text: str) -> list[str]:
    return tokenizer.tokens(tokenizer.tokenize(text).ids.tolist())


def groups_of(tokenizer: WordTokenizer, text: str) -> list[tuple[list[str], list[str]]]:
    """Return the special tokens and the other tokens of each group."""
    found = tokenizer.tokenize(text)
    tokens = tokenizer.tokens(found.ids.tolist())
    starts = [*found.group_starts.tolist(), len(tokens)]
    counts = found.special_token_counts.tolist()
    return [
        (tokens[start : start + count], tokens[start + count : stop])
        for start, stop, count in zip(starts, starts[1:], counts, strict=False)
    ]


@pytest.mark.parametrize("tokenizer", [V1, V2], ids=["v1", "v2"])
def test_the_first_ids_are_those_of_every_tokenizer(tokenizer: WordTokenizer) -> None:
    assert tokenizer.tokens([UNKNOWN_ID, PADDING_ID, START_ID]) == ["xxunk", "xxpad", "xxbos"]
    assert words_of(tokenizer, "") == ["xxbos"]


def test_words_become_ids_and_others_the_unknown_one() -> None:
    assert words_of(V2, "The cat sat on the zebra.") == [
        "xxbos", "xxmaj", "the", "cat", "sat", "on", "the", "xxunk", ".",
    ]  # fmt: skip


def test_a_special_token_and_its_word_are_one_group() -> None:
    assert groups_of(V2, "A good CAT sat!!! Dog") == [
        (["xxbos"], []),
        ([], ["a"]),
        ([], ["good"]),
        (["xxup"], ["cat"]),
        ([], ["sat"]),
        (["xxrep", "xxunk"], ["!"]),
        (["xxmaj"], ["dog"]),
    ]


def test_special_tokens_without_a_word_are_a_group_of_their_own() -> None:
    assert groups_of(V2, "cat xxmaj")[-1] == (["xxmaj"], [])


def test_backward_reading_as_written_turns_all_around() -> None:
    text = V2.tokenize("The cat")
    backward = read(text, Direction.BACKWARD, SpecialTokenPlacement.AS_WRITTEN)
    assert V2.tokens(backward.tolist()) == ["cat", "the", "xxmaj", "xxbos"]


@given(st.text(max_size=60))
def test_groups_cover_every_token_once_and_reading_back_gives_the_text(text: str) -> None:
    for tokenizer in (V1, V2):
        found = tokenizer.tokenize(text)
        sizes = [*found.group_starts.tolist()[1:], len(found)]
        assert found.group_starts[0] == 0
        assert all(start < stop for start, stop in zip(found.group_starts.tolist(), sizes, strict=True))
        assert (found.special_token_counts <= [b - a for a, b in zip(found.group_starts, sizes, strict=True)]).all()
        for placement in SpecialTokenPlacement:
            assert sorted(read(found, Direction.BACKWARD, placement).tolist()) == sorted(found.ids.tolist())


@given(st.text(max_size=60))
def test_a_text_gets_the_same_ids_cold_and_warm(text: str) -> None:
    assert make_word_tokenizer("fastai-v1").tokenize(text).ids.tolist() == V1.tokenize(text).ids.tolist()


def test_of_equal_words_the_last_one_counts_and_an_empty_one_is_never_found() -> None:
    """fastai v1 calls all its fillers xxfake. fastai v2 has fillers that occur in no text."""
    doubled = make_word_tokenizer("fastai-v1", [*WORDS, "xxfake", "xxfake"])
    assert doubled.tokenize("xxfake").ids.tolist()[1:] == [len(doubled) - 1]
    without = make_word_tokenizer("fastai-v2", [*WORDS, "", ""])
    assert without.id_of("") is None
    assert without.tokenize("xxfake").ids.tolist()[1:] == [UNKNOWN_ID]


def test_what_can_be_typed_is_composed_and_nothing_else() -> None:
    tokenizer = make_word_tokenizer("fastai-v1", [*WORDS, "xxfake", ""])
    assert tokenizer.decode(range(len(tokenizer))) == " ".join(WORDS)


def test_a_vocabulary_is_learnt_as_fastai_does() -> None:
    texts = ["the zebra and the Zebra", "zebra the quagga", "a quagga, a cat"]
    adapted = V2.adapted(texts)
    control = list(FASTAI_CONTROL_TOKENS["fastai-v2"])
    assert adapted.tokens(range(len(adapted))) == [*control, "the", "zebra"]  # at least three times
    assert words_of(adapted, "the zebra") == ["xxbos", "the", "zebra"]


def test_a_document_comes_back_as_it_was_written() -> None:
    for tokenizer in (
        *(V1, V2, make_word_tokenizer("fastai-v1", ends=True, marks_field=True)),
        make_word_tokenizer("fastai-v1", separator="", begins=False, rules=[], post_rules=["deal_caps"]),
    ):
        data = tokenizer.to_bytes()
        again = parse_tokenizer(data)
        assert isinstance(again, WordTokenizer)
        assert again.to_bytes() == data
        assert again.tokenize("The cat!").ids.tolist() == tokenizer.tokenize("The cat!").ids.tolist()


def test_each_kind_of_document_gives_its_kind_of_tokenizer(tiny_tokenizer: SubwordTokenizer) -> None:
    assert isinstance(parse_tokenizer(tiny_tokenizer.to_bytes()), SubwordTokenizer)
    assert isinstance(parse_tokenizer(V1.to_bytes()), WordTokenizer)


def changed(**changes: object) -> bytes:
    fields: dict[str, Any] = json.loads(V1.to_bytes())
    return json.dumps({**fields, **changes}).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (changed(words="regex"), "Input should be 'spacy', 'sentencepiece' or 'split'"),
        (changed(words="split", separator=" "), "the field tables is present, but the engine is split"),
        (changed(separator=" "), "the field separator is present, but the engine is spacy"),
        (changed(rules=["lowercase"]), "rules: unknown rule 'lowercase', expected fix_html, replace_rep"),
        (changed(post_rules=["fix_html"]), "unknown rule 'fix_html', expected replace_all_caps, deal_caps"),
        (changed(rules=["fix_html"] * 21), "at most 20 items"),
        (changed(cleaning="bothways-1"), "Input should be 'fastai-v1' or 'fastai-v2'"),
        (changed(vocabulary=["xxunk", "xxpad"]), "at least 3 items"),
        (
            changed(vocabulary=["xxpad", "xxunk", "xxbos"]),
            "begins with xxpad, xxunk, xxbos, expected xxunk, xxpad, xxbos",
        ),
        (changed(vocabulary=["xxunk", "xxpad", "xxbos", "\ud800"]), "lone surrogate"),
        (changed(vocabulary=["xxunk", "xxpad", "xxbos", 7]), "valid string"),
        (changed(more=1), "Extra inputs are not permitted"),
        (changed(tables={}), "tables"),
        (b"[1]", "Input should be an object"),
        (b'{"words": NaN}', "strict JSON"),
    ],
)
def test_an_invalid_document_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(BundleBroken, match=message):
        parse_tokenizer(data)


# Several fields, as in fastai.


@pytest.mark.parametrize("cleaning", ["fastai-v1", "fastai-v2"])
def test_fields_are_marked_and_numbered_as_in_fastai(cleaning: str) -> None:
    tokenizer = make_word_tokenizer(cleaning, [*WORDS, "1", "2"]).with_field_token()
    assert len(tokenizer) == len(make_word_tokenizer(cleaning, [*WORDS, "1", "2"]))
    expected = ["xxbos", "xxfld", "1", "a", "cat", "xxfld", "2", "the", "mat"]
    assert tokenizer.tokens(tokenizer.tokenize(("a cat", "the mat")).ids.tolist()) == expected
    assert tokenizer.words_of(("a cat", "the mat")) == expected
    assert words_of(tokenizer, "a cat") == expected[:5]
    assert parse_tokenizer(tokenizer.to_bytes()).has_field_token
    assert tokenizer.with_field_token() is tokenizer


def test_fields_without_marks_are_refused() -> None:
    assert not V2.has_field_token
    with pytest.raises(TextError, match="a text has 2 fields, but this tokenizer does not mark fields"):
        V2.tokenize(("a", "b"))


def test_a_new_vocabulary_is_made_of_all_fields() -> None:
    found = V2.with_field_token().adapted([("cat", "mat")] * 3)
    assert {"xxfld", "1", "2", "cat", "mat"} <= set(found.document.vocabulary)


# Rules and splitters other than the defaults.


@pytest.mark.parametrize(
    ("cleaning", "options", "text", "expected"),
    [
        ("fastai-v2", {}, "The  cat.", ["xxbos", "xxmaj", "the", "cat."]),
        ("fastai-v2", {}, "", ["xxbos", ""]),
        ("fastai-v2", {"rules": []}, "The  cat", ["The", "", "cat"]),
        ("fastai-v2", {"rules": ["lowercase", "replace_rep"], "begins": False}, "AAA", ["", "xxrep", "3", "a", ""]),
        ("fastai-v2", {"rules": ["lowercase", "replace_space"], "ends": True}, "A b", ["xxbos▁a▁b▁xxeos"]),
        ("fastai-v1", {}, "The  CAT.", ["xxbos", "xxmaj", "the", "xxup", "cat."]),
        ("fastai-v1", {"rules": [], "post_rules": []}, "The  cat", ["xxbos", "The", "", "cat"]),
        ("fastai-v1", {"rules": [], "post_rules": ["deal_caps"]}, "The  CAT", ["xxbos", "xxmaj", "the", "cat"]),
        ("fastai-v1", {"rules": [], "begins": False, "ends": True}, "", ["xxeos"]),
        ("fastai-v1", {"rules": [], "post_rules": [], "separator": ""}, " a\n b ", ["xxbos", "a", "b"]),
    ],
)  # fmt: skip
def test_words_between_separators_and_rules_by_name(
    cleaning: str, options: dict[str, object], text: str, expected: list[str]
) -> None:
    tokenizer = make_word_tokenizer(cleaning, ["", "a", " "], **{"separator": " ", **options})
    assert tokenizer.words_of(text) == expected
    known = tokenizer.document.vocabulary
    assert tokenizer.tokenize(text).ids.tolist() == [known.index(word) if word in known else 0 for word in expected]


def test_a_text_without_tokens_is_one_unknown_word() -> None:
    tokenizer = make_word_tokenizer("fastai-v1", begins=False)
    assert tokenizer.tokenize("").ids.tolist() == [UNKNOWN_ID]
    assert groups_of(tokenizer, "Cat sat") == [(["xxmaj"], ["cat"]), ([], ["sat"])]
    assert groups_of(tokenizer, "xxmaj") == [(["xxmaj"], [])]
