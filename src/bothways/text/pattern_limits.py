"""Refuse regular expressions of a foreign file that would take long to compile or to match.

Input: a pattern that a bundle stores as data. Output: the width of its character classes, or a ``PatternCost`` that
says what is wrong. The time of a match is bounded by counting paths: Python's ``re`` tries one way to match after the
other, so it takes long only where a text can be read in many ways. The patterns of all of spaCy's languages are below
the limits (docs/decisions/009).
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

from bothways.errors import quoted

MOST_PLAIN_CHARACTERS = 10_000
"""Maximum number of characters of a pattern outside of character classes. French has 3,886."""
MOST_CLASSES = 2_000
"""Maximum number of character classes of a pattern. French has 805."""
LONGEST_CLASSES = 50_000
"""Maximum number of characters of all different character classes of a pattern together. Catalan has 15,128."""
WIDEST_CLASSES = 25_000_000
"""Maximum number of code points of all character classes of a pattern together. French has 21 million. Python visits
each of them to compile a class."""
MOST_POSITIONS = 10_000
"""Maximum number of single-character parts, with repeats of a fixed number written out."""
MOST_PATHS = 200
"""Maximum number of ways to read the beginning of any text. Romanian has more than 100 suffixes of one group."""
MOST_LASTING_PATHS = 20
"""Maximum number of these ways that are in an unlimited repeat or behind one."""
_WIDE_CLASSES = 2_000_000
_MOST_STEPS = 1_000_000
_MOST_TESTED = 5_000_000
_LONGEST_LOOK = 100
_FIRST_STAND_IN = 0x100000

_TOKEN = re.compile(r"\\.|\[\^?\]?(?:[^\]\\]+|\\.)*(?:\]|\\?\Z)", re.DOTALL)
"""An escape or a character class, also one without an end."""
_BRACKET_IN_COMMENT = re.compile(rf"(?<!\\)(?:\\\\)*\(\?#(?:[^)\\]|\\.)*?[{chr(_FIRST_STAND_IN)}-\U0010ffff]")
_URL_START, _URL_END = (
    r"(?u)^(?:(?:[\w\+\-\.]{2,})://)?(?:\S+(?::\S*)?@)?(?:(?!(?:10|127)(?:\.\d{1,3}){3})"
    r"(?!(?:169\.254|192\.168)(?:\.\d{1,3}){2})(?!172\.(?:1[6-9]|2\d|3[0-1])(?:\.\d{1,3}){2})"
    r"(?:[1-9]\d?|1\d\d|2[01]\d|22[0-3])(?:\.(?:1?\d{1,2}|2[0-4]\d|25[0-5])){2}"
    r"(?:\.(?:[1-9]\d?|1\d\d|2[0-4]\d|25[0-4]))|"
    r"(?:(?:[A-Za-z0-9\u00a1-\uffff][A-Za-z0-9\u00a1-\uffff_-]{0,62})?[A-Za-z0-9\u00a1-\uffff]\.)+(?:",
    r"{2,63}))(?::\d{2,5})?(?:[/?#]\S*)?$",
)
"""spaCy's pattern of a web address, the same in all languages except for the letters of its last part."""


class PatternCost(ValueError):  # noqa: N818  (read as "a cost that is too high")
    """A pattern could take long, or has a part that is not supported."""


def check_cost(pattern: str, flags: int) -> int:
    """Raise if a pattern could take long to compile, or to match at a position of any text.

    Returns:
        The number of code points of all character classes together, which the time to compile depends on.

    Raises:
        PatternCost: The pattern exceeds a limit, can read a text in many ways, or has a part that is not supported.
        re.error: The pattern is not a regular expression.
    """
    short, classes = _shortened(pattern)
    if _BRACKET_IN_COMMENT.search(short):
        raise PatternCost("it has a bracket in a comment")  # which is no character class
    tests = {_FIRST_STAND_IN + number: text for number, text in enumerate(classes)}
    width = _checked_width(short, classes)
    if not _is_web_address(pattern):
        tree = _parsed(short, flags)
        if tree.state.flags & ~int(re.UNICODE | re.IGNORECASE):
            raise PatternCost("it has flags other than UNICODE and IGNORECASE")
        _check_paths(tree, tree.state.flags, tests)
    return width


def _is_web_address(pattern: str) -> bool:
    if not (pattern.startswith(_URL_START) and pattern.endswith(_URL_END)):
        return False
    letters = pattern[len(_URL_START) : -len(_URL_END)]
    return _TOKEN.fullmatch(letters) is not None and letters.startswith("[")


def _shortened(pattern: str) -> tuple[str, list[str]]:
    """Return a pattern with a single character in place of each character class, and the different classes."""
    if r"\U001" in pattern or (pattern and ord(max(pattern)) >= _FIRST_STAND_IN):
        raise PatternCost("it contains private characters beyond U+FFFFF")
    found: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        text = match.group()
        if text.startswith("\\"):
            return text
        return found.setdefault(text, chr(_FIRST_STAND_IN + len(found)))

    return _TOKEN.sub(stand_in, pattern), list(found)


def _checked_width(short: str, classes: list[str]) -> int:
    counts = Counter(short)
    stand_ins = [chr(_FIRST_STAND_IN + number) for number in range(len(classes))]
    limits = (
        (len(short), MOST_PLAIN_CHARACTERS, "characters outside of character classes"),
        (sum(counts[one] for one in stand_ins), MOST_CLASSES, "character classes"),
        (sum(map(len, classes)), LONGEST_CLASSES, "characters in different character classes"),
    )
    for found, most, what in limits:
        if found > most:
            raise PatternCost(f"it has {found} {what}, expected at most {most}")
    width = sum(counts[one] * _width(text) for one, text in zip(stand_ins, classes, strict=True))
    if width > WIDEST_CLASSES:
        raise PatternCost(f"its character classes have {width} characters, expected at most {WIDEST_CLASSES}")
    return width


@lru_cache(maxsize=256)
def _members(text: str) -> list[tuple[str, Any]]:
    """Return the parsed parts of a character class."""
    tree = list(_parsed(text, 0))
    if len(tree) != 1:
        raise PatternCost(f"{quoted(text, 40)} is not a character class")
    part, value = tree[0]
    return [(one.name, content) for one, content in value] if part.name == "IN" else [(part.name, value)]


def _width(text: str) -> int:
    return sum(min(v[1], 0xFFFF) - min(v[0], 0xFFFF) if name == "RANGE" else 1 for name, v in _members(text))


def _parsed(pattern: str, flags: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # "possible nested set": today's meaning is the intended one
        return import_module("re._parser").parse(pattern, flags)


# Faster matching ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def start_match(pattern: str, flags: int) -> Callable[[str, int, int], object]:
    """Return a function of a string and two positions that matches what is between them from its start.

    It is like ``re.compile(pattern, flags).match(string[start:stop])``, for a pattern that ``check_cost`` accepts.

    Python visits every code point of every character class to compile a pattern. If there are very many of them, all
    characters that pass the same classes and literals are replaced by one of them, in the pattern and in each string.
    A string that is matched between many positions is replaced once.

    Raises:
        re.error: The pattern is not a regular expression.
    """
    short, classes = _shortened(pattern)
    if _checked_width(short, classes) < _WIDE_CLASSES:
        whole = _compiled(pattern, flags).match
        return lambda text, start, stop: whole(text[start:stop])
    kinds = _Kinds(short, classes, flags)
    narrow = _compiled(short.translate(kinds.narrow_classes()), flags).match
    replaced = lru_cache(maxsize=8)(lambda text: text.translate(kinds))
    exact: list[Callable[[str], object]] = []

    def match(text: str, start: int, stop: int) -> object:
        if not exact:
            try:
                return narrow(replaced(text)[start:stop])
            except _UnknownKind:  # no character is known that has another kind than all in the sample
                exact.append(_compiled(pattern, flags).match)
        return exact[0](text[start:stop])

    return match


class _UnknownKind(Exception):  # noqa: N818  (not an error: the whole pattern is compiled)
    """A character is of a kind that the sample does not have."""


class _Kinds(dict[int, str]):
    """A character of the same kind for each character: it passes the same classes, literals and categories."""

    def __init__(self, short: str, classes: list[str], flags: int) -> None:
        super().__init__()
        tree = _parsed(short, flags)
        self._classes = classes
        literals = {re.escape(chr(code)) for code in _literals(tree) if code < _FIRST_STAND_IN}
        texts = [*classes, r"\w", r"\d", r"\s", r"\n", *sorted(literals)]
        flags |= tree.state.flags & int(re.IGNORECASE)
        self._tests = [_compiled(text, flags) for text in texts]
        sample = _sample("".join(texts), flags)
        passed: dict[str, list[int]] = {character: [] for character in sample}
        for number, test in enumerate(self._tests):
            for character in test.findall(sample):
                passed[character].append(number)
        self._first: dict[tuple[int, ...], str] = {}
        for character in sample:
            self._first.setdefault(tuple(passed[character]), character)

    def narrow_classes(self) -> dict[int, str]:
        """Return for the stand-in of each character class a pattern that has one character of each kind."""
        members: list[list[str]] = [[] for _ in self._classes]
        for passed, character in self._first.items():
            for number in passed:
                if number < len(members):
                    members[number].append(re.escape(character))
        return {
            _FIRST_STAND_IN + number: f"(?-i:[{''.join(found)}])" if found else r"(?-i:[^\s\S])"
            for number, found in enumerate(members)
        }

    def __missing__(self, code: int) -> str:
        character = chr(code)
        passed = tuple(number for number, test in enumerate(self._tests) if test.match(character))
        if passed not in self._first:
            raise _UnknownKind
        self[code] = self._first[passed]
        return self[code]


def _literals(tree: Any) -> Iterator[int]:
    """Yield the characters that a parsed pattern names, at any depth."""
    for part, value in tree:
        if part.name in {"LITERAL", "NOT_LITERAL"}:
            yield value
        elif part.name == "IN":
            yield from _literals(value)
        elif part.name == "BRANCH":
            for branch in value[1]:
                yield from _literals(branch)
        elif part.name in {"ASSERT", "ASSERT_NOT"}:
            yield from _literals(value[1])
        elif part.name in {"SUBPATTERN", "MAX_REPEAT", "MIN_REPEAT"}:
            yield from _literals(value[-1])


def _compiled(pattern: str, flags: int) -> re.Pattern[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # "possible nested set": today's meaning is the intended one
        return re.compile(pattern, flags)


# Paths ----------------------------------------------------------------------------------------------------------------

_Paths = Counter[int]
"""Positions, each with the number of ways to get there."""


@dataclass
class _Part:
    """A part of a pattern: the positions that it can begin and end with, and the number of ways to match nothing.

    ``has_assertion`` means that it can fail without reading a character.
    """

    first: _Paths = field(default_factory=Counter)
    last: _Paths = field(default_factory=Counter)
    empty: int = 1
    has_assertion: bool = False


class _Automaton:
    """The single-character parts of a pattern as positions, with the ways that lead from each to the next."""

    def __init__(self, flags: int, classes: dict[int, str]) -> None:
        self._flags = flags
        self._classes = classes
        self.tests: list[str] = []
        self.following: list[_Paths] = []
        self.before_assertions: set[int] = set()
        self._repeated_positions: set[int] = set()

    def lasting(self) -> set[int]:
        """Return the positions that are in an unlimited repeat or behind one."""
        found, pending = set(self._repeated_positions), list(self._repeated_positions)
        while pending:
            new = self.following[pending.pop()].keys() - found
            found |= new
            pending += new
        return found

    def read(self, tree: Any) -> _Part:
        whole = _Part()
        for part, value in tree:
            whole = self._joined(whole, self._read_one(part.name, value))
        return whole

    def _read_one(self, name: str, value: Any) -> _Part:
        if name == "AT":
            return _Part(has_assertion=True)
        if name in {"ASSERT", "ASSERT_NOT"}:
            if value[1].getwidth()[1] > _LONGEST_LOOK:
                raise PatternCost(f"a lookaround looks at more than {_LONGEST_LOOK} characters")
            _check_paths(value[1], self._flags, self._classes)
            return _Part(has_assertion=True)
        if name == "BRANCH":
            branches = [self.read(branch) for branch in value[1]]
            firsts, lasts = Counter[int](), Counter[int]()
            for branch in branches:
                firsts.update(branch.first)
                lasts.update(branch.last)
            has_assertion = any(branch.has_assertion for branch in branches)
            return _Part(firsts, lasts, sum(branch.empty for branch in branches), has_assertion)
        if name == "SUBPATTERN":
            if value[1] or value[2]:
                raise PatternCost("it changes flags inside")
            return self.read(value[3])
        if name in {"MAX_REPEAT", "MIN_REPEAT"}:
            most = None if getattr(value[1], "name", "") == "MAXREPEAT" else int(value[1])
            return self._repeated(int(value[0]), most, value[2])
        return self._position(name, value)

    def _position(self, name: str, value: Any) -> _Part:
        if name == "LITERAL":
            test = self._classes.get(value) or re.escape(chr(value))
        elif name == "NOT_LITERAL":
            test = f"[^{re.escape(chr(value))}]"
        elif name == "ANY":
            test = "."
        elif name == "IN":  # a category, or the parser's short form of several alternatives
            if any(self._classes.get(content, "").startswith("[^") for one, content in value if one.name == "LITERAL"):
                raise PatternCost("it has alternatives that begin with [^")  # not merged in the whole pattern
            members = [self._member(one.name, content) for one, content in value]
            test = members[0] if len(members) == 1 else f"(?:{'|'.join(members)})"
        else:
            raise PatternCost(f"it has a part that is not supported ({name})")
        if len(self.tests) >= MOST_POSITIONS:
            raise PatternCost(f"it has more than {MOST_POSITIONS} single-character parts, with its repeats written out")
        self.tests.append(test)
        self.following.append(Counter())
        only = len(self.tests) - 1
        return _Part(Counter({only: 1}), Counter({only: 1}), 0)

    def _member(self, name: str, value: Any) -> str:
        if name == "LITERAL":
            return self._classes.get(value) or re.escape(chr(value))
        if name == "CATEGORY" and value.name in _CATEGORIES:
            return _CATEGORIES[value.name]
        raise PatternCost(f"it has a part that is not supported ({name})")

    def _link(self, lasts: _Paths, firsts: _Paths) -> None:
        for last, ways in lasts.items():
            for first, more in firsts.items():
                self.following[last][first] += ways * more

    def _joined(self, left: _Part, right: _Part) -> _Part:
        self._link(left.last, right.first)
        if right.has_assertion:
            self.before_assertions.update(left.last)
        first, last = left.first.copy(), right.last.copy()
        for one in right.first if left.empty else ():
            first[one] += left.empty * right.first[one]
        for one in left.last if right.empty else ():
            last[one] += right.empty * left.last[one]
        return _Part(first, last, left.empty * right.empty, left.has_assertion or right.has_assertion)

    def _repeated(self, least: int, most: int | None, tree: Any) -> _Part:
        whole, ends = _Part(), _Part(empty=int(least == 0))
        if most == 0:
            return whole
        for count in range(1, (max(least, 1) if most is None else most) + 1):
            body = self.read(tree)
            if body.empty and most != 1:
                raise PatternCost("it repeats a part that can match nothing")
            if most is None and count >= least:
                self._link(body.last, body.first)
                self._repeated_positions.update(body.first)
            whole = self._joined(whole, body)
            if count == 1:
                ends.first, ends.empty = body.first.copy(), ends.empty + body.empty
                ends.has_assertion = body.has_assertion
            if count >= least:
                ends.last.update(body.last)
        return ends


_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}


def _check_paths(tree: Any, flags: int, classes: dict[int, str]) -> None:
    """Raise if some text can be read in more than ``MOST_PATHS`` ways.

    Where a match may end without an assertion, it ends the search. No other way is tried then that begins before it.
    """
    automaton = _Automaton(flags, classes)
    whole = automaton.read(tree)
    ends = set(whole.last) - automaton.before_assertions
    lasting = automaton.lasting()
    groups = _groups_of_characters(set(automaton.tests), flags)
    pending: list[_Paths] = [whole.first, *(automaton.following[end] for end in ends)]
    seen: set[frozenset[tuple[int, int]]] = set()
    steps = 0
    while pending:
        candidates = pending.pop()
        present = {automaton.tests[position] for position in candidates}
        possible = set().union(*(groups[test] for test in present))
        steps += len(candidates) + len(possible)
        for group in {group & present for group in possible}:
            reached = {p: ways for p, ways in candidates.items() if automaton.tests[p] in group}
            lasting_ways = sum(ways for p, ways in reached.items() if p in lasting)
            if sum(reached.values()) > MOST_PATHS or lasting_ways > MOST_LASTING_PATHS:
                raise PatternCost(f"it can read a text in more than {MOST_LASTING_PATHS} ways")
            key = frozenset((p, ways) for p, ways in reached.items() if p not in ends)
            if key and key not in seen:
                seen.add(key)
                following: _Paths = Counter()
                for position, ways in key:
                    for then, more in automaton.following[position].items():
                        following[then] += ways * more
                    steps += len(automaton.following[position])
                pending.append(following)
            if (steps := steps + len(reached)) > _MOST_STEPS:
                raise PatternCost("it has too many different states")


def _groups_of_characters(tests: set[str], flags: int) -> dict[str, set[frozenset[str]]]:
    """Return, for each test, the combinations of tests that some character passes, it among them."""
    sample = _sample("".join(sorted(tests)), flags)
    passed: dict[str, set[str]] = {character: set() for character in sample}
    is_exact = not flags & re.IGNORECASE
    searched = [test for test in tests if not (is_exact and len(test) == 1 and test != ".")]
    if len(searched) * len(sample) > _MOST_TESTED:
        raise PatternCost("it has too many different single-character parts")
    for test in tests.difference(searched):
        passed[test].add(test)
    for test in searched:
        for character in re.compile(test, flags & re.IGNORECASE).findall(sample):
            passed[character].add(test)
    groups: dict[str, set[frozenset[str]]] = {test: set() for test in tests}
    for group in set(map(frozenset, passed.values())):
        for test in group:
            groups[test].add(group)
    return groups


def _sample(tests: str, flags: int) -> str:
    """Return characters among which every combination of tests occurs: the first of each run, and the one behind it."""
    codes = {0, 10, *map(ord, tests)}
    for text in _TOKEN.findall(tests):
        for name, value in _members(text):
            if name == "RANGE":
                codes |= {value[0], value[1] + 1}
            elif name in {"LITERAL", "NOT_LITERAL"}:
                codes |= {value, value + 1}
    codes |= {code + 1 for code in codes}
    if re.search(r"\\[wWdDsS]", tests):
        codes.update(_borders_of_categories())
    characters = {chr(code) for code in codes if code <= 0x10FFFF}
    if flags & re.IGNORECASE:
        characters |= {one for text in list(characters) for one in (*text.lower(), *text.upper())}
    return "".join(characters)


@cache
def _borders_of_categories() -> frozenset[int]:
    codes = [*range(0x40000), *range(0xE0000, 0xE1000)]  # all others are unassigned or private in Unicode
    everything = "".join(map(chr, codes))
    return frozenset(
        border
        for category in (r"\w+", r"\d+", r"\s+")
        for run in re.finditer(category, everything)
        for border in (codes[run.start()], codes[run.end() - 1] + 1)
    )
