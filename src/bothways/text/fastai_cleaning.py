r"""Clean texts as fastai's text models expect it: the rule sets ``fastai-v1`` and ``fastai-v2``, to the letter.

In: a checked string. Out: the string that goes into the word tokenizer, with fastai's control tokens written into it as
words; and what comes of each token behind the tokenizer. Does not know how words are split, nor of ids.

The rules are those of fastai 1.0.61 and 2.8.12, faults included: a model has learnt from what they give. So a typed
``xxmaj`` becomes a marker here, ``&amp;`` becomes two tokens, and ``v2`` sees no capital behind a bracket.

**Where this differs.** fastai raises an error on a decimal entity of more than 4,300 digits; here it gives U+FFFD, as
every other number does that stands for no character.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

FASTAI_V1 = "fastai-v1"
FASTAI_V2 = "fastai-v2"

UNKNOWN, PADDING, START, END, FIELD = "xxunk", "xxpad", "xxbos", "xxeos", "xxfld"
CAPITALISED, ALL_CAPITALS = "xxmaj", "xxup"
CHARACTER_REPEATED, WORD_REPEATED = "xxrep", "xxwrep"

CONTROL_TOKENS: dict[str, tuple[str, ...]] = {
    FASTAI_V1: (
        *(UNKNOWN, PADDING, START, END, FIELD),
        *(CAPITALISED, ALL_CAPITALS, CHARACTER_REPEATED, WORD_REPEATED),
    ),
    FASTAI_V2: (
        *(UNKNOWN, PADDING, START, END, FIELD),
        *(CHARACTER_REPEATED, WORD_REPEATED, ALL_CAPITALS, CAPITALISED),
    ),
}
"""By rule set, in the order of their ids. The same words, with different ids."""

Rule = Callable[[str], str]

_LONGEST_NUMBER = 4300
"""Digits that Python reads at most."""

_ENDLESS_ENTITY = re.compile(rf"&#[0-9]{{{_LONGEST_NUMBER + 1},}};?")
_SPACES = re.compile(r" {2,}")


def clean_before(text: str, rules: str, *, marks_field: bool = False, ends: bool = False) -> str:
    """Return what the word tokenizer gets: the cleaned text, with the marker of its beginning.

    Args:
        text: A checked string.
        rules: ``fastai-v1`` or ``fastai-v2``.
        marks_field: Whether the model was trained with marked fields; the text is then the first one.
        ends: Whether the model was trained with a marker at the end of each text.
    """
    if rules == FASTAI_V1:
        text = text.rstrip("\0")  # predict puts the text into an array of numpy, which loses them
    if marks_field:
        text = f"{FIELD} 1 {text}"
    if rules == FASTAI_V1:  # the markers pass through the rules like typed words
        text = f"{START} {text}"
        if ends:
            text = f"{text} {END}"
    for rule in _RULES[rules]:
        text = rule(text)
    if rules == FASTAI_V2:
        text = f"{START} {text.lower().strip()}"
        if ends:
            text = f"{text} {END}"
    return text


def mark_token(token: str, rules: str) -> tuple[str, ...]:
    """Return the tokens that one token of the word tokenizer becomes, markers first.

    fastai 2 marks nothing here, and it writes ``▁`` for the spaces in a token (its rule ``replace_space``) only when it
    tokenizes the texts to train on: ``predict`` passes that rule over, so a token such as two line breaks and a space
    is unknown to a model that has it in its vocabulary.
    """
    if rules == FASTAI_V2:
        return (token,)
    if token.isupper() and len(token) > 1:
        return ALL_CAPITALS, *_with_capital_marked(token.lower())  # some capitals have no lower form
    return _with_capital_marked(token)


def _with_capital_marked(token: str) -> tuple[str, ...]:
    if not token:
        return ()
    if token[0].isupper() and token[1:].islower():
        return CAPITALISED, token.lower()
    return (token.lower(),)


# The rules, in the order of their use ---------------------------------------------------------------------------------

_BOTH_REPLACE = (
    ("#39;", "'"),
    ("amp;", "&"),
    ("#146;", "'"),
    ("nbsp;", " "),
    ("#36;", "$"),
    ("\\n", "\n"),
    ("quot;", "'"),
    ("<br />", "\n"),
    ('\\"', '"'),
    ("<unk>", UNKNOWN),
    (" @.@ ", "."),
    (" @-@ ", "-"),
)
"""One after the other, each in what the one before has left."""

_V1_REPLACES = (*_BOTH_REPLACE, (" @,@ ", ","), ("\\", " \\ "))
_V2_REPLACES = (*_BOTH_REPLACE, ("...", " …"))


def _decode_v1(text: str) -> str:
    return _join_spaces(_decode_entities(_replace(text, _V1_REPLACES)))


def _decode_v2(text: str) -> str:
    return _decode_entities(_replace(text, _V2_REPLACES))


def _replace(text: str, replacements: tuple[tuple[str, str], ...]) -> str:
    for old, new in replacements:
        text = text.replace(old, new)
    return text


def _decode_entities(text: str) -> str:
    if "&#" in text:
        text = _ENDLESS_ENTITY.sub("\N{REPLACEMENT CHARACTER}", text)
    return html.unescape(text)


def _join_spaces(text: str) -> str:
    return _SPACES.sub(" ", text)


_CHARACTER_4_TIMES = re.compile(r"(\S)(\1{3,})")
_CHARACTER_3_TIMES = re.compile(r"(\S)(\1{2,})")


def _tell_repeated_character(match: re.Match[str]) -> str:
    return f" {CHARACTER_REPEATED} {len(match[2]) + 1} {match[1]} "


def _tell_repeated_characters_v1(text: str) -> str:
    return _CHARACTER_4_TIMES.sub(_tell_repeated_character, text)


def _tell_repeated_characters_v2(text: str) -> str:
    return _CHARACTER_3_TIMES.sub(_tell_repeated_character, text)


_WORD_4_TIMES = re.compile(r"(\b\w+\W+)(\1{3,})")
_WORD_3_TIMES = re.compile(r"(?:\s|^)(\w+)\s+((?:\1\s+)+)\1(\s|\W|$)")


def _tell_repeated_words_v1(text: str) -> str:
    """Tell words that stand four times in a row, each with the same separator behind it; the separator stays."""
    return _WORD_4_TIMES.sub(lambda match: f" {WORD_REPEATED} {len(match[2].split()) + 1} {match[1]} ", text)


def _tell_repeated_words_v2(text: str) -> str:
    """Tell words that stand three times in a row, between white space."""
    return _WORD_3_TIMES.sub(lambda match: f" {WORD_REPEATED} {len(match[2].split()) + 2} {match[1]} {match[3]}", text)


_SET_APART_V1 = re.compile(r"([/#\n])")
_SET_APART_V2 = re.compile(r"([/#\\])")


def _set_apart_v1(text: str) -> str:
    return _SET_APART_V1.sub(r" \1 ", text)


def _set_apart_v2(text: str) -> str:
    return _SET_APART_V2.sub(r" \1 ", text)


# fastai writes [A-Z]+[^a-z\s]*, which is the same and takes quadratic time where it does not match. Giving characters
# back can't help either, as white space or the end has to follow: hence the *+.
_CHUNK_IN_CAPITALS = re.compile(r"(\s|^)([A-Z][^a-z\s]*+)(?=\s|$)")
_CHUNK_CAPITALISED = re.compile(r"(\s|^)([A-Z][^A-Z\s]*+)(?=\s|$)")


def _lower_with(marker: str) -> Callable[[re.Match[str]], str]:
    def lower(match: re.Match[str]) -> str:
        said = f"{marker} " if len(match[2]) > 1 else ""
        return f"{match[1]}{said}{match[2].lower()}"

    return lower


_lower_all_capitals = _lower_with(ALL_CAPITALS)
_lower_capitalised = _lower_with(CAPITALISED)


def _mark_all_capitals(text: str) -> str:
    return _CHUNK_IN_CAPITALS.sub(_lower_all_capitals, text)


def _mark_capitalised(text: str) -> str:
    return _CHUNK_CAPITALISED.sub(_lower_capitalised, text)


_RULES: dict[str, tuple[Rule, ...]] = {
    FASTAI_V1: (
        _decode_v1,
        _tell_repeated_characters_v1,
        _tell_repeated_words_v1,
        _set_apart_v1,
        _join_spaces,
    ),
    FASTAI_V2: (
        _decode_v2,
        _tell_repeated_characters_v2,
        _tell_repeated_words_v2,
        _set_apart_v2,
        _join_spaces,
        _mark_all_capitals,
        _mark_capitalised,
    ),
}
