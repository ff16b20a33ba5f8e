"""Segment normalized texts into pieces exactly as SentencePiece does, by a unigram model or by byte-pair encoding.

**Unigram.** SentencePiece adds scores along the whole text in single precision, so which of two segmentations of a word
is better can depend on what precedes it, in long texts or if both are nearly equal. ``segment`` therefore returns the
total score up to which its result holds (``limit``), and ``segment_after`` repeats SentencePiece's computation from a
given score. The bound: a sum of ``n`` scores has an error of at most ``n * 2**-24`` times the sum of their sizes.
Scores of user-defined pieces are those of sentencepiece 0.2.3. Earlier versions have others, which matters only where
two segmentations are equally good.

**Byte-pair encoding.** The neighboring pair with the best score is merged until no merged pair is a piece.

**Characters, words.** Each character, or each word with the space before it, is a piece or unknown.
"""

from __future__ import annotations

import ctypes
import heapq
import math
import re
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from bothways.text.piece_model import WORD_START, PieceModel

_UNKNOWN_PENALTY = 10.0
"""How much worse an unknown character is than the worst piece."""
_USER_DEFINED_BONUS = 0.1
"""Score of a user-defined piece per byte beyond the first."""

_WORD = re.compile(f"{WORD_START}[^{WORD_START}]*|[^{WORD_START}]+")

_ROUNDING = 2.0**-24
"""Largest relative error of a single-precision sum."""
_SAFETY = 4
"""The errors of two sums add up, and the other sum is larger than the one that is known."""


class Segmentation(NamedTuple):
    """The pieces of a word or text.

    Attributes:
        pieces: The pieces. Neighboring unknown characters are one piece.
        scores: The score of each piece before unknown ones were joined. Empty for byte-pair encoding.
        cost: Sum of the sizes of the scores.
        limit: The largest sum of the sizes of all scores, this word's included, for which the pieces are right.
    """

    pieces: tuple[str, ...]
    scores: tuple[float, ...] = ()
    cost: float = 0.0
    limit: float = math.inf


def _single(number: float) -> float:
    """Return a number rounded to single precision."""
    return ctypes.c_float(number).value


def _lengths(pieces: Iterable[str], characters: int) -> dict[str, tuple[int, ...]]:
    """Return the ascending lengths of the pieces that share their first ``characters`` characters, by these."""
    lengths: dict[str, set[int]] = {}
    for piece in pieces:
        if len(piece) >= characters:
            lengths.setdefault(piece[:characters], set()).add(len(piece))
    return {first: tuple(sorted(found)) for first, found in lengths.items()}


class UnigramSegmenter:
    """Finds the segmentation with the best sum of scores. Safe to share between threads.

    Attributes:
        is_independent: Whether the scores allow the segmentation of a word apart from its text.
    """

    def __init__(self, model: PieceModel) -> None:
        special = {model.unknown, *model.control, *model.user_defined, *model.unused}
        scores = [_single(score) for _, score in model.pieces]
        normal = [score for position, score in enumerate(scores) if position not in special]
        self._scores = {
            piece: score
            for position, ((piece, _), score) in enumerate(zip(model.pieces, scores, strict=True))
            if position not in special
        }
        for piece in (model.pieces[position][0] for position in model.user_defined):
            self._scores[piece] = _single((len(piece.encode()) - 1) * _USER_DEFINED_BONUS)
        self._unknown_score = _single(min(normal) - _UNKNOWN_PENALTY)
        self._lengths = _lengths(self._scores, 2)
        self.is_independent = max(normal) <= 0

    def segment(self, text: str) -> Segmentation:
        """Return the segmentation of a text as if its scores were added without rounding errors."""
        stop = len(text)
        best, second, starts = [-math.inf] * (stop + 1), [-math.inf] * (stop + 1), [0] * (stop + 1)
        best[0] = 0.0
        for start in range(stop):
            so_far, second_so_far = best[start], second[start]
            for end, score in self._candidates(text, start):
                total = so_far + score
                if total > best[end]:
                    second[end] = max(best[end], second_so_far + score)
                    best[end], starts[end] = total, start
                elif total > second[end]:
                    second[end] = total
        margin = best[stop] - second[stop]
        return self._traced(text, starts, margin / (_SAFETY * _ROUNDING * (stop + 1)) - stop)

    def segment_after(self, text: str, so_far: float) -> Segmentation:
        """Return the segmentation of a text by SentencePiece's own computation.

        Args:
            text: The text.
            so_far: The sum of scores before the text, in single precision.
        """
        stop = len(text)
        best, starts = [-math.inf] * (stop + 1), [0] * (stop + 1)
        best[0] = so_far
        for start in range(stop):
            before = best[start]
            for end, score in self._candidates(text, start):
                total = _single(before + score)
                if total > best[end]:
                    best[end], starts[end] = total, start
        return self._traced(text, starts, math.inf)

    def _candidates(self, text: str, start: int) -> list[tuple[int, float]]:
        """Return the ends and the scores of the pieces that begin at a place. A character may be unknown."""
        scores = self._scores
        found = [(start + 1, scores.get(text[start], self._unknown_score))]
        for length in self._lengths.get(text[start : start + 2], ()):
            end = start + length
            if end > len(text):
                break
            if (score := scores.get(text[start:end])) is not None:
                found.append((end, score))
        return found

    def add(self, so_far: float, scores: Sequence[float]) -> float:
        """Return the sum of scores after some pieces, in single precision."""
        for score in scores:
            so_far = _single(so_far + score)
        return so_far

    def _traced(self, text: str, starts: Sequence[int], limit: float) -> Segmentation:
        pieces = []
        end = len(text)
        while end > 0:
            pieces.append(text[starts[end] : end])
            end = starts[end]
        pieces.reverse()
        scores = tuple(self._scores.get(piece, self._unknown_score) for piece in pieces)
        return Segmentation(_joined(pieces, self._scores), scores, sum(map(abs, scores)), limit)


class CharacterSegmenter:
    """Splits into characters and user-defined pieces. Safe to share between threads.

    Attributes:
        is_independent: Whether the segmentation of a word does not depend on the rest of its text.
    """

    def __init__(self, model: PieceModel) -> None:
        self._known: Container[str] = model.ids_of_pieces().keys()
        self._symbols = frozenset(model.pieces[position][0] for position in model.user_defined)
        self._symbol_lengths = _lengths(self._symbols, 1)
        self.is_independent = True

    def segment(self, text: str) -> Segmentation:
        """Return the segmentation of a text."""
        return Segmentation(_joined(self._characters(text)[0], self._known))

    def _characters(self, text: str) -> tuple[list[str], list[bool]]:
        """Return the characters and user-defined pieces of a text, and which are user-defined pieces."""
        symbols, is_frozen = [], []
        position = 0
        while position < len(text):
            found = 0
            for length in self._symbol_lengths.get(text[position], ()):
                if text[position : position + length] in self._symbols:
                    found = length
            symbols.append(text[position : position + (found or 1)])
            is_frozen.append(found > 0)
            position += found or 1
        return symbols, is_frozen


class WholeWordSegmenter:
    """Splits before spaces. Safe to share between threads.

    Attributes:
        is_independent: Whether the segmentation of a word does not depend on the rest of its text. Unknown words are
            joined.
    """

    is_independent = False

    def __init__(self, model: PieceModel) -> None:
        self._known = model.ids_of_pieces().keys()

    def segment(self, text: str) -> Segmentation:
        """Return the segmentation of a text."""
        return Segmentation(_joined(split_before_spaces(text), self._known))


class BpeSegmenter(CharacterSegmenter):
    """Merges neighboring characters and pieces. Safe to share between threads."""

    def __init__(self, model: PieceModel) -> None:
        super().__init__(model)
        reserved = {model.unknown, *model.control}
        self._scores = {
            piece: _single(score) for position, (piece, score) in enumerate(model.pieces) if position not in reserved
        }
        self._unused = frozenset(model.pieces[position][0] for position in model.unused)
        self.is_independent = not self._unused

    def segment(self, text: str) -> Segmentation:
        """Return the segmentation of a text."""
        scores = self._scores
        symbols, is_frozen = self._characters(text)
        following, preceding = list(range(1, len(symbols) + 1)), list(range(-1, len(symbols) - 1))
        parts_of_unused: dict[str, tuple[str, str]] = {}
        agenda: list[tuple[float, int, int, int]] = []

        def consider(left: int, right: int) -> None:
            if left < 0 or right >= len(symbols) or is_frozen[left] or is_frozen[right]:
                return
            piece = symbols[left] + symbols[right]
            if (score := scores.get(piece)) is not None:
                heapq.heappush(agenda, (-score, left, right, len(piece)))
                if piece in self._unused:
                    parts_of_unused[piece] = symbols[left], symbols[right]

        for place in range(1, len(symbols)):
            consider(place - 1, place)
        while agenda:
            _, left, right, length = heapq.heappop(agenda)
            if not symbols[left] or not symbols[right] or len(symbols[left]) + len(symbols[right]) != length:
                continue
            symbols[left] += symbols[right]
            symbols[right] = ""
            following[left] = following[right]
            if following[left] < len(symbols):
                preceding[following[left]] = left
            consider(preceding[left], left)
            consider(left, following[left])
        pieces = [part for symbol in symbols if symbol for part in self._used_parts(symbol, parts_of_unused)]
        return Segmentation(_joined(pieces, self._known))

    def _used_parts(self, symbol: str, parts_of_unused: dict[str, tuple[str, str]]) -> list[str]:
        """Return the pieces of a symbol: those that it was merged from if it must not be used."""
        waiting, found = [symbol], []
        while waiting:
            piece = waiting.pop()
            if piece in parts_of_unused:
                waiting += reversed(parts_of_unused[piece])
            else:
                found.append(piece)
        return found


def split_before_spaces(text: str) -> list[str]:
    """Return the words of a normalized text, each with the space before it."""
    return _WORD.findall(text)


def segmenter_of(model: PieceModel) -> UnigramSegmenter | CharacterSegmenter | WholeWordSegmenter:
    """Return what segments texts by a model."""
    match model.algorithm:
        case "unigram":
            return UnigramSegmenter(model)
        case "bpe":
            return BpeSegmenter(model)
        case "char":
            return CharacterSegmenter(model)
        case "word":
            return WholeWordSegmenter(model)


def _joined(pieces: Sequence[str], known: Container[str]) -> tuple[str, ...]:
    """Return pieces with neighboring unknown ones joined."""
    joined: list[str] = []
    unknown: list[str] = []
    for piece in pieces:
        if piece not in known:
            unknown.append(piece)
            continue
        if unknown:
            joined.append("".join(unknown))
            unknown = []
        joined.append(piece)
    if unknown:
        joined.append("".join(unknown))
    return tuple(joined)
