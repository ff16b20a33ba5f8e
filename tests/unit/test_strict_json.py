from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways import strict_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(VALUES)
def test_what_is_dumped_is_parsed_again(value: object) -> None:
    line = strict_json.dump(value)
    assert "\n" not in line
    assert strict_json.parse(line.encode()) == value


@given(VALUES)
def test_strict_json_is_json(value: object) -> None:
    assert strict_json.parse(json.dumps(value).encode()) == value


def test_a_dump_is_these_characters() -> None:
    assert strict_json.dump({"b": [1, 0.5, None, True], "a": "é\n"}) == '{"b": [1, 0.5, null, true], "a": "é\\n"}'


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b"NaN", "NaN is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not a JSON number"),
        (b"1e400", "the number 1e400 is too large"),
        (b"9223372036854775808", "does not fit into 64 bits"),
        (b"-9223372036854775808", "does not fit into 64 bits"),
        (b"1" * 5_000, "does not fit into 64 bits"),
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' occurs twice in one object"),
        (b'[{"a": {"b": 1, "b": 1}}]', "the key 'b' occurs twice"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "utf-8"),
        (b'"\xff"', "utf-8"),
        (b'"\xed\xa0\x80"', "utf-8"),
        (b'{"a": 1} {"a": 2}', "Extra data"),
        (b"{'a': 1}", "Expecting property name"),
        (b'{"a": 1,}', "Expecting property name|Illegal trailing comma"),
        (b'"a\x00b"', "Invalid control character"),
        (b"01", "Extra data"),
        (b"", "Expecting value"),
        (b"[" * 200_000 + b"]" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "nested too deeply"),
    ],
)
def test_liberties_are_refused(document: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        strict_json.parse(document)


def test_the_largest_integers_fit() -> None:
    assert strict_json.parse(b"[9223372036854775807, -9223372036854775807]") == [2**63 - 1, -(2**63) + 1]


def test_what_is_no_json_is_never_dumped() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        strict_json.dump(float("nan"))


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_d1_documents_are_nested_100_levels_at_most(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    strict_json.parse((opening * 100 + "1" + closing * 100).encode())
    with pytest.raises(ValueError, match="nested too deeply, expected at most 100 levels"):
        strict_json.parse((opening * 101 + "1" + closing * 101).encode())
    strict_json.parse(strict_json.dump(["[" * 500, {"{": '[\\"' * 500}]).encode())  # brackets in texts are no levels


@given(VALUES, st.integers(0, 30))
def test_d1_the_number_of_values_is_limited_before_parsing(value: object, most_values: int) -> None:
    def count(part: object) -> int:
        if isinstance(part, dict):
            return 1 + sum(1 + count(inner) for inner in part.values())
        return 1 + sum(map(count, part)) if isinstance(part, list) else 1

    document = strict_json.dump(value).encode()
    if count(value) <= most_values:
        assert strict_json.parse(document, most_values=most_values + 1) == value
    elif count(value) > 2 * most_values + 2:
        with pytest.raises(strict_json.TooManyValues):
            strict_json.parse(document, most_values=most_values)


def test_half_of_a_character_is_refused_on_request() -> None:
    document = b'["\\ud83d\\ude00", "\\\\ud800"]'
    assert strict_json.parse(document, allow_surrogates=False) == ["\U0001f600", "\\ud800"]
    assert strict_json.parse(b'["\\ud800"]') == ["\ud800"]
    with pytest.raises(ValueError, match="lone surrogate"):
        strict_json.parse(b'["\\ud800"]', allow_surrogates=False)
