r"""Clean texts exactly as fastai does, with the rule sets ``fastai-v1`` and ``fastai-v2``.

``clean_before`` returns the input of the word tokenizer, with fastai's control tokens written into the text as words.
``mark_token`` returns what becomes of each token of the word tokenizer.

The rules are those of fastai 1.0.61 and 2.8.12, including their bugs, because models were trained with them: ``xxmaj``
typed by a user becomes a control token, ``&amp;`` becomes two tokens, and ``fastai-v2`` ignores capitals after a
bracket. A model may have been trained with some of the rules, or in another order. They are then listed by the names of
fastai's functions.

**Deviation.** fastai raises an error for a decimal entity of more than 4,300 digits. Here it becomes U+FFFD, like every
other number that is not a character.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence

from bothways.text.fields import FIELD, Text, fields_of

FASTAI_V1 = "fastai-v1"
FASTAI_V2 = "fastai-v2"

UNKNOWN, PADDING, START, END = "xxunk", "xxpad", "xxbos", "xxeos"
CAPITALIZED, ALL_CAPITALS = "xxmaj", "xxup"
CHARACTER_REPEATED, WORD_REPEATED = "xxrep", "xxwrep"

FASTAI_CONTROL_TOKENS: dict[str, tuple[str, ...]] = {
    FASTAI_V1: (
        *(UNKNOWN, PADDING, START, END, FIELD),
        *(CAPITALIZED, ALL_CAPITALS, CHARACTER_REPEATED, WORD_REPEATED),
    ),
    FASTAI_V2: (
        *(UNKNOWN, PADDING, START, END, FIELD),
        *(CHARACTER_REPEATED, WORD_REPEATED, ALL_CAPITALS, CAPITALIZED),
    ),
}
"""Control tokens by rule set, in the order of their ids. Both sets have the same words, in different orders."""

Rule = Callable[[str], str]

_MAX_DIGITS = 4300
"""Maximum number of digits of an integer that Python parses."""

_ENDLESS_ENTITY = re.compile(rf"&#[0-9]{{{_MAX_DIGITS + 1},}};?")
_SPACES = re.compile(r" {2,}")


def clean_before(
    text: Text,
    cleaning: str,
    rules: Sequence[str] | None = None,
    *,
    begins: bool = True,
    marks_field: bool = False,
    ends: bool = False,
    strips: bool = False,
) -> str:
    """Return the input of the word tokenizer: the start token and the cleaned text.

    Args:
        text: A validated text. Several fields need ``marks_field``.
        cleaning: ``fastai-v1`` or ``fastai-v2``.
        rules: Names of the rules in their order. Defaults to those of the version. In ``fastai-v2`` the rule
            ``lowercase`` adds the start token and the token at the end.
        begins: Whether the model was trained with the start token.
        marks_field: Whether the model was trained with marked fields. Each field is then preceded by ``xxfld`` and its
            number, and the rules apply to the joined text.
        ends: Whether the model was trained with a control token at the end of each text.
        strips: Whether spaces at the ends are removed before the rules apply.
    """
    fields = fields_of(text)
    if cleaning == FASTAI_V1:
        fields = tuple(field.rstrip("\0") for field in fields)  # fastai puts them into a numpy array, which strips them
    if marks_field:
        fields = tuple(f"{FIELD} {number} {field}" for number, field in enumerate(fields, start=1))
    text = " ".join(fields)
    if cleaning == FASTAI_V1:  # the rules apply to the control tokens as they do to typed words
        text = _framed(text, begins=begins, ends=ends)
    if strips:
        text = text.strip(" ")
    known = RULES[cleaning]
    for name in DEFAULT_RULES[cleaning] if rules is None else rules:
        text = known[name](text)
        if name == LOWERCASE:
            text = _framed(text, begins=begins, ends=ends)
    return text


def mark_token(token: str, cleaning: str, post_rules: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the tokens that a token of the word tokenizer becomes, control tokens first.

    fastai 2 marks nothing at this point. It replaces spaces in a token with ``▁`` (its rule ``replace_space``) only
    when it tokenizes training texts. ``predict`` skips that rule, so a token such as two line breaks and a space is
    unknown even to a model that has it in its vocabulary.

    Args:
        token: A token of the word tokenizer.
        cleaning: ``fastai-v1`` or ``fastai-v2``.
        post_rules: Names of the rules in their order. Defaults to those of the version.
    """
    tokens: tuple[str, ...] = (token,)
    for name in DEFAULT_POST_RULES[cleaning] if post_rules is None else post_rules:
        rule = POST_RULES[cleaning][name]
        tokens = tuple(marked for each in tokens for marked in rule(each))
    return tokens


def _framed(text: str, *, begins: bool, ends: bool) -> str:
    """Return a text with the start token before it and the end token after it, if the model was trained with them."""
    if begins:
        text = f"{START} {text}"
    return f"{text} {END}" if ends else text


# The rules ------------------------------------------------------------------------------------------------------------

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
"""Replacements applied one after the other, each to the result of the previous one."""

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


def _mark_repeated_character(match: re.Match[str]) -> str:
    return f" {CHARACTER_REPEATED} {len(match[2]) + 1} {match[1]} "


def _mark_repeated_characters_v1(text: str) -> str:
    return _CHARACTER_4_TIMES.sub(_mark_repeated_character, text)


def _mark_repeated_characters_v2(text: str) -> str:
    return _CHARACTER_3_TIMES.sub(_mark_repeated_character, text)


_WORD_4_TIMES = re.compile(r"(\b\w+\W+)(\1{3,})")
_WORD_3_TIMES = re.compile(r"(?:\s|^)(\w+)\s+((?:\1\s+)+)\1(\s|\W|$)")


def _mark_repeated_words_v1(text: str) -> str:
    """Mark words that occur four times in a row, each followed by the same separator. The separator is kept."""
    return _WORD_4_TIMES.sub(lambda match: f" {WORD_REPEATED} {len(match[2].split()) + 1} {match[1]} ", text)


def _mark_repeated_words_v2(text: str) -> str:
    """Mark words that occur three times in a row, separated by white space."""
    return _WORD_3_TIMES.sub(lambda match: f" {WORD_REPEATED} {len(match[2].split()) + 2} {match[1]} {match[3]}", text)


_ISOLATED_V1 = re.compile(r"([/#\n])")
_ISOLATED_V2 = re.compile(r"([/#\\])")


def _isolate_characters_v1(text: str) -> str:
    return _ISOLATED_V1.sub(r" \1 ", text)


def _isolate_characters_v2(text: str) -> str:
    return _ISOLATED_V2.sub(r" \1 ", text)


# fastai has [A-Z]+[^a-z\s]*, which matches the same but takes quadratic time where it fails. Backtracking can't succeed
# either, because white space or the end must follow, so the repetition is possessive (*+).
_ALL_CAPITALS_CHUNK = re.compile(r"(\s|^)([A-Z][^a-z\s]*+)(?=\s|$)")
_CAPITALIZED_CHUNK = re.compile(r"(\s|^)([A-Z][^A-Z\s]*+)(?=\s|$)")


def _lower_with(control_token: str) -> Callable[[re.Match[str]], str]:
    def lower(match: re.Match[str]) -> str:
        mark = f"{control_token} " if len(match[2]) > 1 else ""
        return f"{match[1]}{mark}{match[2].lower()}"

    return lower


_lower_all_capitals = _lower_with(ALL_CAPITALS)
_lower_capitalized = _lower_with(CAPITALIZED)


def _mark_all_capitals(text: str) -> str:
    return _ALL_CAPITALS_CHUNK.sub(_lower_all_capitals, text)


def _mark_capitalized(text: str) -> str:
    return _CAPITALIZED_CHUNK.sub(_lower_capitalized, text)


def _lower_and_strip(text: str) -> str:
    return text.lower().strip()


def _replace_spaces(text: str) -> str:
    return text.replace(" ", "▁")


def _mark_all_capitals_token(token: str) -> tuple[str, ...]:
    return (ALL_CAPITALS, token.lower()) if token.isupper() and len(token) > 1 else (token,)


def _mark_capitalized_token(token: str) -> tuple[str, ...]:
    if not token:
        return ()
    if token[0].isupper() and token[1:].islower():
        return CAPITALIZED, token.lower()
    return (token.lower(),)


LOWERCASE = "lowercase"

RULES: dict[str, dict[str, Rule]] = {
    FASTAI_V1: {
        "fix_html": _decode_v1,
        "replace_rep": _mark_repeated_characters_v1,
        "replace_wrep": _mark_repeated_words_v1,
        "spec_add_spaces": _isolate_characters_v1,
        "rm_useless_spaces": _join_spaces,
    },
    FASTAI_V2: {
        "fix_html": _decode_v2,
        "replace_rep": _mark_repeated_characters_v2,
        "replace_wrep": _mark_repeated_words_v2,
        "spec_add_spaces": _isolate_characters_v2,
        "rm_useless_spaces": _join_spaces,
        "replace_all_caps": _mark_all_capitals,
        "replace_maj": _mark_capitalized,
        LOWERCASE: _lower_and_strip,
        "replace_space": _replace_spaces,
    },
}
"""The rules that apply to a text, by fastai's names."""

DEFAULT_RULES: dict[str, tuple[str, ...]] = {
    FASTAI_V1: tuple(RULES[FASTAI_V1]),
    FASTAI_V2: tuple(name for name in RULES[FASTAI_V2] if name != "replace_space"),
}
"""fastai's own rules, in the order in which they are applied."""

POST_RULES: dict[str, dict[str, Callable[[str], tuple[str, ...]]]] = {
    FASTAI_V1: {"replace_all_caps": _mark_all_capitals_token, "deal_caps": _mark_capitalized_token},
    FASTAI_V2: {},
}
"""The rules that apply to each token, by fastai's names."""

DEFAULT_POST_RULES: dict[str, tuple[str, ...]] = {cleaning: tuple(rules) for cleaning, rules in POST_RULES.items()}
"""fastai's own rules for tokens, in the order in which they are applied."""
