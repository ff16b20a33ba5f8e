"""How foreign text appears in messages (D5), and how paths become text (A6)."""

import copy
import os
import pickle
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.errors import BothwaysError, ConfigError, DataError, escaped, path_text, quoted, shown

ANSI = "\x1b[31mred\x1b[0m"
BIDI = "user\u202egnp.exe"
ANY_TEXT = st.text(st.characters(categories=None), max_size=400)  # lone surrogates too


@given(ANY_TEXT)
def test_d5_foreign_text_is_printable_valid_unicode_and_short(text: str) -> None:
    for form in (escaped(text), shown(text), quoted(text), path_text(text), str(BothwaysError(text))):
        assert form.isprintable()
        form.encode("utf-8")
        assert not any(unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for character in form)
    assert len(shown(text)) <= 200 + 3


def test_d5_ordinary_text_is_shown_as_it_is() -> None:
    for text in ("encoder.weight", "café", "好评", "👍 [red]", "C:\\new", "it's"):
        assert shown(text) == escaped(text) == text
    assert shown("x" * 10**6) == "x" * 200 + "..."


def test_d5_control_characters_are_escaped() -> None:
    assert shown(ANSI) == "\\x1b[31mred\\x1b[0m"
    assert shown(BIDI) == "user\\u202egnp.exe"
    assert shown("a\nb\r\tc") == "a\\nb\\r\\tc"
    assert shown("\ud800") == "\\ud800"
    assert shown("\u200b") == "\\u200b"


def test_d5_quotes_tell_text_from_numbers() -> None:
    assert [quoted(5), quoted("5"), quoted("it's"), quoted(None)] == ["5", "'5'", '"it\'s"', "None"]
    assert quoted("a\n") == "'a\\n'"


@pytest.mark.parametrize(
    "value",
    [
        ["x" * 1000] * 10**5,
        dict.fromkeys(map(str, range(10**5))),
        b"\xff" * 10**7,
        bytearray(10**7),
        10**100_000,
        [[[[[[[]]]]]]] * 10**5,
        np.zeros((1000, 1000)),
        {ANSI: ANSI},
        [ANSI] * 3,
    ],
    ids=lambda value: type(value).__name__,
)
def test_d5_any_value_is_shown_in_part(value: object) -> None:
    assert len(shown(value)) <= 200 + 3
    assert shown(value).isprintable()


def test_d5_every_message_is_escaped_and_bounded() -> None:
    assert str(DataError(f"the column {ANSI}")) == f"the column {shown(ANSI)}"
    assert len(str(ConfigError("x" * 10**6))) == 10_003
    error = DataError("file, row 3: no text")
    assert str(copy.copy(error)) == str(pickle.loads(pickle.dumps(error))) == "file, row 3: no text"


def test_a6_a_path_that_is_not_utf8_becomes_text() -> None:
    path = Path(os.fsdecode(b"b\xe9.b"))
    assert path_text(path) == "b\\xe9.b"
    assert path_text("a\nb") == "a\\nb"
    assert path_text("/".join(["folder"] * 300)) == "/".join(["folder"] * 300)  # long, but a path all the same
