"""The word splitter with small hand-made tables, and its fast paths compared with its exact path. Needs no spaCy."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bothways.text import word_patterns, word_rules
from bothways.text.word_patterns import Pattern
from bothways.text.word_rules import LONGEST_CHUNK, LONGEST_EXCEPTION, WordSplitter, WordTables

PREFIX = r"^\(|^\"|^:|^\.\.+|^\+(?![0-9])"
SUFFIX = r"\)$|\"$|:$|\.\.+$|'s$|(?<=[0-9])(?:km|m)$|(?<=[a-z0-9)])\.$|(?<=[A-Z][A-Z])\.$"
INFIX = r"\.\.+|(?<=[a-z])-(?=[a-z])|(?<=[0-9])[+*](?=[0-9-])|(?<=l')(?=[a-z])"
URL = r"^[a-z]+\.(?:com|org)(?:/\S*)?$"
EXCEPTIONS = {
    ":)": [":)"],
    ":(": [":("],
    "(:": ["(:"],
    ":(:": [":(:"],
    "a.": ["a."],
    "e.g.": ["e.g."],
    "don't": ["do", "n't"],
    "he's": ["he", "'s"],
    "in spite": ["in spite"],
    "\n": ["\n"],
    " ": [" "],
}


def tables(**changed: Any) -> WordTables:
    rules: dict[str, Any] = {"prefix": PREFIX, "suffix": SUFFIX, "infix": INFIX, "token_match": None, "url_match": URL}
    rules = {
        name: None if text is None else Pattern(pattern=text, flags=int(re.UNICODE))
        for name, text in (rules | changed).items()
    }
    return WordTables(exceptions=EXCEPTIONS, **rules)


SPLITTER = WordSplitter(tables())


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        ("a b", ["a", "b"]),
        ("a  b", ["a", " ", "b"]),
        ("a   b ", ["a", "  ", "b"]),
        (" a", [" ", "a"]),
        ("a\nb", ["a", "\n", "b"]),
        ("a \n b", ["a", "\n ", "b"]),
        ("a\n b\u00a0 \tc", ["a", "\n ", "b", "\u00a0 \t", "c"]),
        ("  ", ["  "]),
    ],
)
def test_only_the_space_right_behind_a_word_is_no_token(text: str, tokens: list[str]) -> None:
    assert SPLITTER.split(text) == tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ('("word")', ["(", '"', "word", '"', ")"]),
        ("...end...", ["...", "end", "..."]),
        ("+a +1", ["+", "a", "+1"]),
        ("10km 10km. km", ["10", "km", "10", "km", ".", "km"]),
        ("dog's", ["dog", "'s"]),
        ("well-known -a", ["well", "-", "known", "-a"]),
        ("1+2*-3", ["1", "+", "2", "*", "-3"]),
        ("x..y", ["x", "..", "y"]),
        ("l'eau", ["l'", "eau"]),
        ("see(x.com/a-b)", ["see(x.com/a", "-", "b", ")"]),
        ("(x.com/a-b)", ["(", "x.com/a-b", ")"]),
        ("US. us. U.", ["US", ".", "us", ".", "U."]),
        ("()", ["(", ")"]),
    ],
)
def test_affixes_come_off_and_infixes_cut(text: str, tokens: list[str]) -> None:
    assert SPLITTER.split(text) == tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("don't (don't) don't.", ["do", "n't", "(", "do", "n't", ")", "do", "n't", "."]),
        ("(a.) e.g.)", ["(", "a.", ")", "e.g.", ")"]),
        ("x:)", ["x", ":)"]),  # ":" and ")" came off, the last pass puts them together
        ("((:", ["(", "(:"]),
        ("he's", ["he", "'s"]),
        ("in spite of", ["in spite", "of"]),
        ("in  spite", ["in", " ", "spite"]),
        ("a b:", ["a", "b", ":"]),
    ],
)
def test_exceptions_win(text: str, tokens: list[str]) -> None:
    assert SPLITTER.split(text) == tokens


def test_a_match_across_a_space_keeps_a_shorter_one_from_being_found() -> None:
    assert SPLITTER.split("(:x") == ["(:", "x"]
    assert SPLITTER.split("x: (:x") == ["x", ":", "(", ":", "x"]  # ": (:" is no exception, but was found first
    assert SPLITTER.split("a .") == ["a", "."]
    assert SPLITTER.split("x: )") == ["x", ":", ")"]


def test_the_last_pass_takes_the_longest_then_the_earliest() -> None:
    assert SPLITTER.split("x:):)") == ["x", ":)", ":)"]
    three = tables().model_copy(update={"exceptions": {**EXCEPTIONS, "):)": ["):)"]}})
    assert WordSplitter(three).split("x:):)") == ["x", ":", "):)"]


def test_without_the_heuristic_every_exception_is_looked_for() -> None:
    glued = {"ab": ["ab"], "a-b": ["a-b"]}
    infix = Pattern(pattern="-", flags=32)
    rules: dict[str, Any] = {"prefix": None, "suffix": None, "token_match": None, "url_match": None, "infix": infix}
    for heuristic in (True, False):
        splitter = WordSplitter(WordTables(exceptions=glued, faster_heuristics=heuristic, **rules))
        assert splitter.split("ab a-b c-a-b") == ["ab", "a-b", "c", "-", "a-b"]


def test_token_match_stops_everything_at_once_and_url_match_only_at_the_end() -> None:
    splitter = WordSplitter(tables(token_match=r"^\(\d+\)$"))
    assert splitter.split("(1) ((1)) (x)") == ["(1)", "(", "(1)", ")", "(", "x", ")"]


def test_a_prefix_that_is_not_tied_to_the_start_counts_by_its_length() -> None:
    splitter = WordSplitter(tables(prefix=r"^\(|<a([^>]+)>"))
    assert splitter.split("xyzuvw<ab>1") == ["xyzu", "vw<a", "b>1"]  # as spaCy does: four characters come off in front
    assert splitter.split("<ab>x <a") == ["<ab>", "x", "<a"]


def test_no_rules_at_all() -> None:
    rules = dict.fromkeys(("prefix", "suffix", "infix", "token_match", "url_match"))
    splitter = WordSplitter(WordTables.model_validate({"exceptions": {}, **rules}))
    assert splitter.split("(a) b.\n") == ["(a)", "b.", "\n"]


ALPHABET = "()\":.+-'*<>/$1 2a\nsklmABn\u00a0é…"
ODD_RULES = [
    {},
    {"suffix": SUFFIX + r"|^[a-z]\)$|[a-z]+(-[a-z]+)+$|([0-9])+\.m$|" + "k" * 80 + r"$|\bl$|m{2,70}$"},
    {"suffix": SUFFIX + r"|(?<!a)'$|(?<=[0-9])(?:km||s)$|\)\.$"},
    {"prefix": PREFIX + r"|<a[^>]+>|^'[a-z]+'|^(?:1|2){1,2}a"},
    {"prefix": PREFIX + r"|(?<=a)b", "suffix": "a|b$"},  # can't be analyzed: all is searched
    {"prefix": PREFIX + r"|^^m", "suffix": r"a$|\Bm$", "infix": r"(?#-)-"},
    {"infix": INFIX + r"|(?=k)|(?<=a)(?=[bl])"},
    {"infix": r"(?<=a)|1+2+|[^a-z0-9]", "token_match": r"(?i)l[kl]", "url_match": r"^[^\s.]+\.\S+$"},
]


@pytest.mark.parametrize("changed", ODD_RULES)
@settings(max_examples=150)
@given(text=st.text(ALPHABET, max_size=130) | st.lists(st.sampled_from([*EXCEPTIONS, " ", "  "])).map("".join))
def test_the_faster_ways_give_what_searching_everything_gives(changed: dict[str, str], text: str) -> None:
    """Compare the definition with everything that is precomputed, cached or searched in windows."""
    changed_tables = tables(**changed)
    ours = remembered(changed_tables)
    assert ours.split(text) == plain(changed_tables)._split_exactly(text)
    assert ours.split(text) == ours._split_exactly(text)


_SPLITTERS: dict[str, WordSplitter] = {}


def remembered(some: WordTables) -> WordSplitter:
    return _SPLITTERS.setdefault(some.model_dump_json(), WordSplitter(some))


def plain(some: WordTables) -> WordSplitter:
    key = f"plain {some.model_dump_json()}"
    if key not in _SPLITTERS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(word_rules, "analyzed", lambda _rule: None)
            patch.setattr(word_patterns, "_parsed", _not_understood)
            _SPLITTERS[key] = WordSplitter(some)
    return _SPLITTERS[key]


def _not_understood(_pattern: str, _flags: int) -> Any:
    raise word_patterns._NotUnderstood


def test_what_can_be_analysed_is() -> None:
    """The fast paths must not disappear unnoticed."""
    assert SPLITTER._for_words is not SPLITTER._for_space
    assert SPLITTER._could_be_cut("word") is None
    assert SPLITTER._could_be_cut("word.") is not None


@pytest.mark.parametrize("pattern", ["a{2,}b$", "[]a|]$|b", r"\|$|[^]|]b$", "(a|b)$|c$", r"a\\|b", "[|][|]|a"])
def test_bars_in_groups_and_classes_do_not_part(pattern: str) -> None:
    parts = word_patterns._split_at_bars(pattern)
    assert "|".join(parts) == pattern
    for part in parts:
        re.compile(part)


def test_the_memory_is_bounded_and_harmless_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_rules, "_MAX_CACHED_CHUNKS", 3)
    splitter = WordSplitter(tables())
    for number in range(20):
        assert splitter.split(f"({number}km) x{number} don't") == [
            "(",
            str(number),
            "km",
            ")",
            f"x{number}",
            "do",
            "n't",
        ]
        assert len(splitter._entries) <= 3
        assert len(splitter._finals) <= 3
    long = "(" + "x" * 100
    assert splitter.split(long) == ["(", "x" * 100]
    assert long not in splitter._entries


def test_threads_share_a_splitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_rules, "_MAX_CACHED_CHUNKS", 7)
    splitter = WordSplitter(tables())
    texts = [f"(w{number}.) x: (:y don't {number}km" for number in range(50)]
    expected = [WordSplitter(tables()).split(text) for text in texts]
    wrong: list[str] = []

    def work() -> None:
        for _ in range(20):
            wrong.extend(text for text, tokens in zip(texts, expected, strict=True) if splitter.split(text) != tokens)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "text",
    [
        "()" * 50_000,
        "." * 100_000,
        "a." * 50_000,
        "a" * 100_000,
        "x-" * 50_000,
        ".)" * 50_000,
        ": (" * 30_000,
        "\n" * 10**5,
    ],
    ids=lambda text: repr(text[:4]),
)
def test_long_texts_without_space_end(text: str) -> None:
    started = time.monotonic()
    tokens = SPLITTER.split(text)
    assert time.monotonic() - started < 5
    assert "".join(tokens) == text.replace(" ", "")


def test_longer_chunks_are_cut_first() -> None:
    text = "a" * (2 * LONGEST_CHUNK + 1)
    assert [len(token) for token in SPLITTER.split(text)] == [LONGEST_CHUNK, LONGEST_CHUNK, 1]
    assert SPLITTER.split("b" * LONGEST_CHUNK) == ["b" * LONGEST_CHUNK]
    assert SPLITTER.split(f"x: {text} (:y")[-2:] == ["(:", "y"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"exceptions": {"": []}}, "0 characters"),
        ({"exceptions": {"ab": ["a"]}}, "do not add up to it"),
        ({"exceptions": {"ab": ["ab", ""]}}, "do not add up to it"),
        ({"exceptions": {"a" * (LONGEST_EXCEPTION + 1): []}}, f"expected 1 to {LONGEST_EXCEPTION}"),
        ({"suffix": Pattern(pattern="(", flags=32)}, "the suffix pattern is not a valid regular expression"),
        ({"infix": Pattern(pattern="(" * 5000, flags=32)}, "the infix pattern is not a valid regular expression"),
        ({"infix": Pattern(pattern="a{99999999999}", flags=32)}, "the infix pattern is not a valid regular expression"),
        ({"prefix": Pattern(pattern="a", flags=32 | int(re.DEBUG))}, "flags"),
        ({"prefix": Pattern(pattern="a", flags=int(re.LOCALE))}, "flags"),
        ({"prefix": Pattern(pattern="(?x)a", flags=32)}, "the prefix pattern can't be used safely: it has flags"),
        ({"suffix": Pattern(pattern="(a+)+$", flags=32)}, "the suffix pattern can't be used safely"),
        ({"suffix": Pattern(pattern="[a-\uffff]" * 50, flags=32)}, "the character classes of the patterns have"),
    ],
)
def test_tables_that_make_no_sense_are_named(changed: dict[str, Any], said: str) -> None:
    rules = dict.fromkeys(("prefix", "suffix", "infix", "token_match", "url_match"))
    with pytest.raises(ValidationError, match=said):
        WordTables.model_validate({"exceptions": {}, **rules, **changed})


def test_tables_survive_json() -> None:
    assert WordTables.model_validate_json(tables().model_dump_json()) == tables()
