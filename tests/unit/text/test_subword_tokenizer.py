from __future__ import annotations

import json
from typing import Any

import pytest

from bothways.errors import BundleBroken
from bothways.text import subword_tokenizer as tokenizer_module
from bothways.text.subword_tokenizer import CONTROL_TOKENS, FIRST_PIECE_ID, SubwordTokenizer
from bothways.text.tokenizer import START_ID, UNKNOWN_ID
from bothways.text.tokenizer_document import parse_tokenizer

PIECES = [("▁", -3.0), ("▁cat", -1.0), ("s", -2.0), ("c", -5.0), ("a", -5.0), ("t", -5.0)]


@pytest.fixture
def handmade() -> SubwordTokenizer:
    return SubwordTokenizer.from_pieces(PIECES)


def tokens_of(tokenizer: SubwordTokenizer, text: str) -> list[str]:
    return tokenizer.tokens(tokenizer.tokenize(text).ids.tolist())


def test_control_tokens_keep_their_ids() -> None:
    special_tokens = ["xxbos", "xxmaj", "xxup", "xxrep-3", "xxrep-4", "xxrep-5", "xxrep-10"]
    special_tokens += ["xxwrep-3", "xxwrep-4", "xxwrep-5", "xxwrep-10"]
    assert list(CONTROL_TOKENS) == ["xxunk", "xxpad", *special_tokens]


def test_special_tokens_stand_before_the_pieces_of_their_word(handmade: SubwordTokenizer) -> None:
    assert tokens_of(handmade, "Cats cat CAT") == [
        "xxbos",
        *("xxmaj", "▁cat", "s"),
        "▁cat",
        *("xxup", "▁cat"),
    ]


def test_groups_are_counted_by_hand(handmade: SubwordTokenizer) -> None:
    text = handmade.tokenize("Cats cat CAT")
    assert text.ids.tolist() == [
        2,
        3,
        FIRST_PIECE_ID + 1,
        FIRST_PIECE_ID + 2,
        FIRST_PIECE_ID + 1,
        4,
        FIRST_PIECE_ID + 1,
    ]
    assert text.group_starts.tolist() == [0, 1, 4, 5]
    assert text.special_token_counts.tolist() == [1, 1, 0, 1]
    assert len(text) == 7
    assert {str(column.dtype) for column in (text.ids, text.group_starts, text.special_token_counts)} == {"int32"}


def test_a_repeated_word_has_its_count_before_its_own_special_tokens(handmade: SubwordTokenizer) -> None:
    assert tokens_of(handmade, "Cat Cat cat") == ["xxbos", "xxwrep-3", "xxmaj", "▁cat"]
    assert handmade.tokenize("Cat Cat cat").special_token_counts.tolist() == [1, 2]


def test_unknown_characters_in_a_row_are_one_unknown(handmade: SubwordTokenizer) -> None:
    assert tokens_of(handmade, "cat漢字s") == ["xxbos", "▁cat", "xxunk", "s"]
    assert UNKNOWN_ID in handmade.tokenize("漢").ids


def test_characters_without_a_piece_are_their_bytes() -> None:
    tokenizer = SubwordTokenizer.from_pieces(PIECES, byte_fallback=True)
    assert tokenizer.byte_ids == range(FIRST_PIECE_ID + len(PIECES), FIRST_PIECE_ID + len(PIECES) + 256)
    assert tokens_of(tokenizer, "cat漢ßs") == [
        *("xxbos", "▁cat", "<0xE6>", "<0xBC>", "<0xA2>", "<0xC3>", "<0x9F>", "s"),
    ]
    assert tokens_of(tokenizer, "Cats")[1:] == ["xxmaj", "▁cat", "s"]


def test_the_start_of_a_word_may_lack_a_piece_too() -> None:
    tokenizer = SubwordTokenizer.from_pieces([("cat", -1.0)], byte_fallback=True)
    ids = tokenizer.tokenize("cat cat").ids.tolist()
    assert tokenizer.tokens(ids[1:5]) == ["<0xE2>", "<0x96>", "<0x81>", "cat"]
    assert tokenizer.decode(ids) == "cat cat"


def test_bytes_that_are_no_character_are_decoded_as_the_replacement_character() -> None:
    tokenizer = SubwordTokenizer.from_pieces(PIECES, byte_fallback=True)
    first = tokenizer.byte_ids.start
    assert tokenizer.decode([FIRST_PIECE_ID + 1, first + 0xE4, first + 0x41]) == "cat\ufffdA"


def test_the_field_token_follows_the_bytes() -> None:
    tokenizer = SubwordTokenizer.from_pieces(PIECES, byte_fallback=True)
    fields = tokenizer.with_field_token()
    assert fields.tokens([len(fields) - 1]) == ["xxfld"]
    assert len(fields) - 1 == len(tokenizer) == fields.byte_ids.stop
    ids = fields.tokenize(("漢", "cat")).ids.tolist()
    assert ids == [*tokenizer.tokenize("漢").ids, len(fields) - 1, *tokenizer.tokenize("cat").ids[1:]]
    assert fields.decode(ids) == "漢 cat"


def test_an_empty_text_is_its_start_alone(handmade: SubwordTokenizer) -> None:
    text = handmade.tokenize("")
    assert (text.ids.tolist(), text.group_starts.tolist(), text.special_token_counts.tolist()) == ([START_ID], [0], [1])


def test_length_is_one_more_than_the_largest_id(handmade: SubwordTokenizer) -> None:
    assert len(handmade) == len(CONTROL_TOKENS) + len(PIECES)
    assert handmade.tokens([len(handmade) - 1]) == ["t"]
    with pytest.raises(IndexError):
        handmade.tokens([len(handmade)])


def test_the_document_is_these_bytes() -> None:
    expected = """{
 "cleaning": "bothways-1",
 "control_tokens": ["xxunk", "xxpad", "xxbos", "xxmaj", "xxup", "xxrep-3", "xxrep-4", "xxrep-5", "xxrep-10", \
"xxwrep-3", "xxwrep-4", "xxwrep-5", "xxwrep-10"],
 "subwords": "unigram",
 "pieces": [
  ["▁", -1.5],
  ["\\"é", -0.1]
 ]
}
"""
    pieces = [("▁", -1.5), ('"é', -0.1)]
    assert SubwordTokenizer.from_pieces(pieces).to_bytes().decode() == expected
    with_bytes = expected.replace('"unigram",', '"unigram",\n "byte_fallback": "utf-8",')
    assert SubwordTokenizer.from_pieces(pieces, byte_fallback=True).to_bytes().decode() == with_bytes


def test_the_cache_never_changes_a_result(handmade: SubwordTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "cat cats Cat tac sac cat cats act Cat"
    expected = tokens_of(handmade, words)
    monkeypatch.setattr(tokenizer_module, "_MAX_CACHED_CHUNKS", 2)
    monkeypatch.setattr(tokenizer_module, "_MAX_CACHED_CHUNK_LENGTH", 3)
    forgetful = SubwordTokenizer.from_pieces(PIECES)
    assert tokens_of(forgetful, words) == expected
    assert tokens_of(forgetful, words) == expected


def document(**changes: Any) -> bytes:
    fields: dict[str, Any] = json.loads(SubwordTokenizer.from_pieces(PIECES).to_bytes())
    return json.dumps({**fields, **changes}).encode()


def test_the_document_of_these_tests_is_good() -> None:
    assert len(parse_tokenizer(document())) == len(CONTROL_TOKENS) + len(PIECES)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"cleaning": "bothways-99"}, "unknown cleaning rules 'bothways-99', expected one of"),
        ({"control_tokens": ["xxpad", "xxunk"]}, "control tokens"),
        ({"subwords": "bpe"}, "subwords"),
        ({"pieces": []}, "pieces"),
        ({"pieces": [["a", -1.0], ["a", -2.0]]}, "a piece occurs twice"),
        ({"pieces": [["", -1.0]]}, "can't occur in a word"),
        ({"pieces": [[" unknown", -1.0]]}, "the piece ' unknown' can't occur in a word"),
        ({"pieces": [["a\tb", -1.0]]}, "can't occur in a word"),
        ({"pieces": [["a", "-1.0"]]}, "pieces.0.1"),
        ({"pieces": [["a", -1.0, 3]]}, "pieces.0"),
        ({"pieces": [["a"]]}, "pieces.0"),
        ({"pieces": {"a": -1.0}}, "pieces"),
        ({"pattern": "(a+)+"}, "pattern: Extra inputs"),
        ({"byte_fallback": True}, "byte_fallback"),
        ({"byte_fallback": "utf-16"}, "byte_fallback"),
        ({"byte_fallback": "utf-8", "pieces": [["<0x41>", -1.0]]}, "the piece '<0x41>' has the name of a byte token"),
        ({"byte_fallback": "utf-8", "pieces": [["<0xE4>", -1.0]]}, "the piece '<0xE4>' has the name of a byte token"),
    ],
)
def test_a_wrong_document_is_refused_by_name(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(BundleBroken) as caught:
        parse_tokenizer(document(**changes), "folder/tokenizer.json")
    assert str(caught.value).startswith("folder/tokenizer.json: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "Expecting value"),
        (b"[]", "tokenizer.json: Input should be an object"),
        (b"\xff\xfe{}", "utf-8"),
        (b'{"cleaning": "a", "cleaning": "b"}', "'cleaning' occurs twice"),
        (b'{"pieces": [["a", NaN]]}', "NaN is not a JSON number"),
        (b'{"pieces": [["a", 1e999]]}', "too large"),
        (b"[" * 100_000, "nested too deeply"),
        (document(pieces=[["\ud800", -1.0]]), "lone surrogate"),
        (document(pieces=[[f"{number:x}".ljust(900, "x"), -1.0] for number in range(100)]), "different beginnings"),
    ],
)
def test_an_invalid_document_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(BundleBroken, match=r"^tokenizer\.json") as caught:
        parse_tokenizer(data)
    assert problem in str(caught.value)
