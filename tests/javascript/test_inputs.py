"""bothways.js turns every text into the tokens and n-grams of the bundle. Needs Node only."""

from __future__ import annotations

import base64
import html.entities
import json
import sys
import unicodedata
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tools.javascript_site import JAVASCRIPT
from tools.make_html_entities import with_table

from bothways.bundle.parity import NASTY_TEXTS
from bothways.runtime.linear import KnownNgrams
from bothways.text.ngrams import ngrams_of
from bothways.text.subword_tokenizer import SubwordTokenizer
from tests.javascript.programs import NEEDS_NODE, InputsProgram
from tests.parity.nasty_texts import NASTY_TEXTS as MORE_NASTY_TEXTS

pytestmark = NEEDS_NODE

CHANGED = "\u0295\u10fc\ua7f2\ua7f3\ua7f4\uab69\U0001171e"
"""Characters whose case changed after the version of Unicode in Python 3.11. docs/javascript.md names them."""


def is_comparable(character: str) -> bool:
    """Return whether Python's version of Unicode has the character, with the properties that it still has."""
    return unicodedata.category(character) not in ("Cn", "Cs") and character not in CHANGED


CHARACTERS = st.characters(exclude_categories=("Cs", "Cn"), exclude_characters=CHANGED)
TEXTS = st.lists(
    st.one_of(
        st.text(CHARACTERS, max_size=60),
        st.text("aAbB!. \n\t<br/>&#x;0123456789\x85\x1c\ufeff", max_size=60),
        st.text("aAΣσςİıßẞǅ\u0301\u0307\u0323가각\u1100\u1161\u11a8👍🏽\u200d\U0001f1e6▁_\u00ad", max_size=40),
        st.lists(
            st.sampled_from(
                [
                    *["no", "NO", "No", "sooo", "HELLO", "a1", "ÄÖ", "\U0001fffe", "\ufdd0", "a" * 300, "🎉" * 120],
                    *["&amp;", "&amp", "&notit;", "&#x80;", "&#55296;", "&#xfdd0;", "&bogus;", "&Eacute", "&", ";"],
                ]
            ),
            max_size=20,
        ).map(" ".join),
        st.lists(st.sampled_from(sorted(html.entities.html5)), max_size=8).map(lambda names: "&" + "x&".join(names)),
    ),
    min_size=1,
    max_size=20,
)


@pytest.fixture(scope="module", params=["tiny_tokenizer", "byte_tokenizer"])
def program(request: pytest.FixtureRequest) -> Iterator[InputsProgram]:
    """The program with a tokenizer that has unknown tokens, and with one that has bytes."""
    found = InputsProgram(request.getfixturevalue(request.param))
    yield found
    found.close()


def test_nasty_texts_become_the_bundles_tokens(program: InputsProgram) -> None:
    numbers = [f"&#{'1' * 5000}; a", f"&#{'0' * 99}65;b", f"&#x{'0' * 500}41;"]
    program.check_ids([*NASTY_TEXTS, *MORE_NASTY_TEXTS, *numbers, "a" * 9999])


def test_entities_are_decoded_as_in_python(program: InputsProgram) -> None:
    """Each name with and without its end, and each number up to U+03FF and around the limits."""
    names = [f"&{name}x a&{name[:-1]}q &{name[:-2]}; x" for name in html.entities.html5]
    limits = [
        0xD7FF,
        0xD800,
        0xDFFF,
        0xE000,
        0xFDCF,
        0xFDD0,
        0xFDEF,
        0xFDF0,
        0xFFFD,
        0xFFFE,
        0x1FFFF,
        0x10FFFD,
        0x110000,
    ]
    numbers = [f"a&#{number};b &#x{number:x}c &#X{number:X};" for number in [*range(0x400), *limits]]
    program.check_ids(names + numbers)


@given(texts=TEXTS)
def test_any_text_becomes_the_bundles_tokens(program: InputsProgram, texts: list[str]) -> None:
    program.check_ids(texts)


SOME_PIECES = [*"ab▁é👍", "ab", "ba", "aba", "bab", "abab", "▁a", "▁b", "▁ab", "▁ba", "▁aba", "👍a", "éb"]
PIECES = st.dictionaries(st.sampled_from(SOME_PIECES), st.sampled_from([-1.0, -2.0, -3.0]), min_size=1)
"""Pieces with equal scores, and with characters that have no piece of their own."""


@given(
    pieces=PIECES,
    texts=st.lists(st.text("ab", max_size=8) | st.text("ab é👍c", max_size=12), max_size=20),
    has_bytes=st.booleans(),
)
def test_any_pieces_are_segmented_as_in_the_bundle(
    program: InputsProgram, pieces: dict[str, float], texts: list[str], has_bytes: bool
) -> None:
    tokenizer = SubwordTokenizer.from_pieces(list(pieces.items()), byte_fallback=has_bytes)
    found = program.inputs(texts, tokenizer=tokenizer.to_bytes().decode())
    program.inputs([], tokenizer=program.tokenizer.to_bytes().decode())
    assert [each["ids"] for each in found] == [tokenizer.tokenize(text).ids.tolist() for text in texts]


@pytest.mark.slow
def test_every_character_becomes_the_bundles_tokens(byte_tokenizer: SubwordTokenizer) -> None:
    """Characters of all scripts where case, repetition, composition or a final sigma depend on them.

    Of the scripts with thousands of characters alike (CJK, Hangul, private use), every 50th one.
    """
    program = InputsProgram(byte_tokenizer)
    found = [character for character in map(chr, range(sys.maxunicode + 1)) if is_comparable(character)]
    alike = [character for character in found if unicodedata.category(character) in ("Lo", "Co")]
    rest = sorted({*found} - {*alike} | {*alike[::50]})
    assert len(rest) > 15_000
    program.check_ids([f"{c} A{c} a{c}\u0301\u0323 Ab{c}Σ x{c * 3} AΣ{c}" for c in rest])
    program.close()


def test_a_text_with_several_fields_has_field_tokens(tiny_tokenizer: SubwordTokenizer) -> None:
    program = InputsProgram(tiny_tokenizer.with_field_token())
    program.check_ids([("What a FILM", "I loved it, xxfld"), ("", "no title"), ("no no", "no"), ("", "")])
    program.close()


@given(texts=TEXTS)
def test_any_text_has_the_bundles_ngrams(program: InputsProgram, texts: list[str]) -> None:
    """The linear member knows most n-grams of the texts."""
    ngrams = [ngrams_of(text) for text in texts]
    words, characters = (
        np.unique(np.concatenate([getattr(each, kind).hashes for each in ngrams]))[:: 1 + len(texts) % 2]
        for kind in ("words", "characters")
    )
    idf = np.linspace(0.001, 9, len(words) + len(characters)).astype(np.float16)
    known = KnownNgrams(words, characters, idf)
    arrays = {"hashes": np.concatenate([words, characters]).astype("<u4"), "idf": idf.astype("<f2")}
    encoded = {name: base64.b64encode(array.tobytes()).decode() for name, array in arrays.items()}
    linear = json.dumps({"words": len(words), "characters": len(characters), **encoded})
    for text, each, found in zip(texts, ngrams, program.inputs(texts, linear=linear), strict=True):
        places, values = known.row(each)
        expected = dict(zip(places.tolist(), values.tolist(), strict=True))
        assert dict(zip(found["places"], found["values"], strict=True)) == pytest.approx(expected), ascii(text)


def test_the_table_of_entities_is_that_of_python() -> None:
    content = (JAVASCRIPT / "bothways.js").read_text(encoding="utf-8")
    assert with_table(content) == content
