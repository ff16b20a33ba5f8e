"""Find texts that differ from the rest: empty, broken, in another script, of extreme length, code, or of new words.

In: texts. Out: the unusual ones with reasons. A property that more than one text in twenty has is usual.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bothways.terminal import OnProgress, ignore_progress, reported
from bothways.text.fields import Text, fields_of

_USUAL_SHARE = 0.05
_RARE_SCRIPT = 0.01
_FEWEST_WORDS = 5
_LEAST_NEW_WORDS = 0.8
_LEAST_SYMBOLS = 0.12
_SHORTEST_CODE = 20
_FEWEST_TAGS = 2
_DEVIATIONS = 5
_SMALLEST_SPREAD = 0.3
_WORD = re.compile(r"[^\W\d_]{2,}")
_SYMBOL = re.compile(r"[{}\[\]<>=;\\|_^~$]")
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")
_BROKEN = re.compile("\N{REPLACEMENT CHARACTER}|Ã[\x80-\xbf]|Â[\x80-\xbf]|â€|[\ue000-\uf8ff]")
_EAST_ASIAN = {"HIRAGANA": "CJK", "KATAKANA": "CJK"}


@dataclass(frozen=True)
class Oddity:
    """An unusual text.

    Attributes:
        place: Its place among the texts.
        score: How unusual it is, 0..1.
        reason: Why.
    """

    place: int
    score: float
    reason: str


def unusual_texts(
    texts: Sequence[Text], keys: Sequence[str], on_progress: OnProgress = ignore_progress
) -> list[Oddity]:
    """Return the texts that differ from the rest, the most unusual first.

    Args:
        texts: Texts.
        keys: The ``key_of`` of each text.
        on_progress: Called with a stage, and how much of it is done and in total.
    """
    whole = ["\n".join(fields_of(text)) for text in texts]
    found = [Oddity(place, 1.0, "empty after cleaning") for place, key in enumerate(keys) if not key]
    rules = (_without_letters, _broken, _in_rare_script, _of_extreme_length, _code, _without_known_words)
    for rule in reported(rules, "finding unusual texts", len(rules), on_progress):
        of_rule = list(rule(whole, keys))
        if len(of_rule) <= max(1, _USUAL_SHARE * len(texts)):
            found += of_rule
    by_place: dict[int, list[Oddity]] = defaultdict(list)
    for each in found:
        by_place[each.place].append(each)
    merged = [
        Oddity(place, max(each.score for each in of_text), "; ".join(each.reason for each in of_text))
        for place, of_text in by_place.items()
    ]
    return sorted(merged, key=lambda each: (-each.score, each.place))


def _without_letters(texts: Sequence[str], keys: Sequence[str]) -> Iterator[Oddity]:
    del texts
    for place, key in enumerate(keys):
        if key and not any(map(str.isalpha, key)):
            yield Oddity(place, 0.9, "no letters")


def _broken(texts: Sequence[str], keys: Sequence[str]) -> Iterator[Oddity]:
    del keys
    for place, text in enumerate(texts):
        if count := len(_BROKEN.findall(text)):
            yield Oddity(place, min(0.95, 0.7 + 5 * count / len(text)), "broken characters (wrong encoding)")


def _in_rare_script(texts: Sequence[str], keys: Sequence[str]) -> Iterator[Oddity]:
    del texts
    scripts = [_script(key) for key in keys]
    counts = Counter(script for script in scripts if script)
    for place, script in enumerate(scripts):
        if script and counts[script] <= max(1, _RARE_SCRIPT * counts.total()) and counts.total() > counts[script]:
            rows = f"{counts[script]:,} text{'s' if counts[script] > 1 else ''}"
            yield Oddity(place, 0.85, f"written in {script.title()}, as {rows} of {counts.total():,}")


def _script(key: str) -> str:
    """Return the script of most letters of a text, or an empty string if it has no letters."""
    counts: Counter[str] = Counter()
    for character, count in Counter(key).items():
        if script := _script_of(character):
            counts[script] += count
    return counts.most_common(1)[0][0] if counts else ""


@functools.lru_cache(20_000)
def _script_of(character: str) -> str:
    if not character.isalpha():
        return ""
    name = unicodedata.name(character, "unknown").split()[0].split("-")[0]
    return _EAST_ASIAN.get(name, name)


def _of_extreme_length(texts: Sequence[str], keys: Sequence[str]) -> Iterator[Oddity]:
    del texts
    lengths = np.array([len(key) for key in keys])
    if not lengths.any():
        return
    logarithms = np.log(np.maximum(lengths, 1))
    median = float(np.median(logarithms[lengths > 0]))
    spread = max(_SMALLEST_SPREAD, 1.4826 * float(np.median(np.abs(logarithms[lengths > 0] - median))))
    for place in np.flatnonzero((lengths > 0) & (np.abs(logarithms - median) > _DEVIATIONS * spread)):
        deviation = abs(logarithms[place] - median) / spread
        median_text = f"{round(float(np.exp(median))):,} is the median"
        yield Oddity(int(place), float(1 - 2 / deviation), f"{lengths[place]:,} characters, {median_text}")


def _code(texts: Sequence[str], keys: Sequence[str]) -> Iterator[Oddity]:
    del keys
    for place, text in enumerate(texts):
        share = len(_SYMBOL.findall(text)) / max(1, len(text))
        if len(text) >= _SHORTEST_CODE and (share >= _LEAST_SYMBOLS or len(_TAG.findall(text)) >= _FEWEST_TAGS):
            yield Oddity(place, min(0.8, 0.5 + share), "looks like code or markup")


def _without_known_words(texts: Sequence[str], keys: Sequence[str]) -> Iterator[Oddity]:
    del texts
    words = [set(_WORD.findall(key)) for key in keys]
    counts = Counter(word for of_text in words for word in of_text)
    for place, of_text in enumerate(words):
        new = sum(counts[word] == 1 for word in of_text)
        if len(of_text) >= _FEWEST_WORDS and new >= _LEAST_NEW_WORDS * len(of_text):
            yield Oddity(place, 0.7 * new / len(of_text), f"{new} of {len(of_text)} words are in no other text")
