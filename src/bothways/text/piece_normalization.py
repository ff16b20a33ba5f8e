"""Normalize texts exactly as SentencePiece does before it segments them, by a table of replacements.

The input is a text, the output a text in which ``▁`` stands for a space. At each position the longest text that the
table has is replaced, and user-defined pieces are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

from bothways.text.piece_model import WORD_START, PieceModel


class PieceNormalization:
    """Replaces characters and joins spaces. Safe to share between threads.

    Attributes:
        is_by_chunks: Whether a text can be normalized chunk by chunk, where chunks are what is between spaces.
    """

    def __init__(self, model: PieceModel) -> None:
        self._model = model
        self._targets: dict[str, list[dict[str, str]]] = {}
        for prefixes, lasts, targets in model.replacements:
            by_last = dict(zip(lasts, targets, strict=True))
            for prefix in prefixes:
                self._targets.setdefault(prefix, []).append(by_last)
        self._lengths = sorted({len(prefix) + 1 for prefix in self._targets}, reverse=True)
        self._last_characters = frozenset(last for _, lasts, _ in model.replacements for last in lasts)
        symbols = [model.pieces[position][0] for position in model.user_defined]
        self._symbols = frozenset(symbols)
        self._symbol_lengths: dict[str, list[int]] = {}
        for length in sorted({len(symbol) for symbol in symbols}, reverse=True):
            for first in {symbol[0] for symbol in symbols if len(symbol) == length}:
                self._symbol_lengths.setdefault(first, []).append(length)
        self.is_by_chunks = (
            model.starts_with_space
            and model.joins_spaces
            and not any(" " in text for text in (*symbols, *self._targets, *self._last_characters))
            and not any("  " in target for _, _, targets in model.replacements for target in targets)
        )

    def replaced(self, text: str) -> str:
        """Return a text with its replacements made. Spaces are not joined."""
        if self._last_characters.isdisjoint(text):
            return text
        if not self._symbol_lengths.keys().isdisjoint(text):
            return "".join(self._parts(text))
        kept: list[str] = []
        position, longest = 0, self._lengths[0]
        for place, character in enumerate(text):
            if place < position or character not in self._last_characters:
                continue
            start = max(position, place + 1 - longest)  # nothing that begins earlier is replaced
            kept.append(text[position:start])
            position = start
            while position <= place:
                length, part = self._replacement(text, position)
                kept.append(part)
                position += length
        kept.append(text[position:])
        return "".join(kept)

    def normalized(self, text: str) -> str:
        """Return a text as it is segmented."""
        joins = self._model.joins_spaces
        kept: list[str] = []
        is_after_space = is_at_start = joins
        has_content = False
        for part in self._parts(text):
            if is_at_start and part == " ":
                continue
            is_at_start = False
            has_content = True
            if rest := part.lstrip(" ") if is_after_space else part:
                kept.append(rest)
                is_after_space = joins and rest.endswith(" ")
        if not has_content:
            return ""
        result = (" " if self._model.starts_with_space else "") + "".join(kept)
        result = result.replace(" ", WORD_START)
        return result.rstrip(WORD_START) if joins else result

    def _parts(self, text: str) -> Iterator[str]:
        """Yield what becomes of each part of a text that is replaced, or left as it is, at once."""
        position, stop = 0, len(text)
        while position < stop:
            if length := self._symbol_length(text, position):
                yield text[position : position + length]
            else:
                length, part = self._replacement(text, position)
                yield part
            position += length

    def _symbol_length(self, text: str, position: int) -> int:
        for length in self._symbol_lengths.get(text[position], ()):
            if text[position : position + length] in self._symbols:
                return length
        return 0

    def _replacement(self, text: str, position: int) -> tuple[int, str]:
        """Return the length of the longest text at a position that is replaced, and its replacement."""
        for length in self._lengths:
            last = position + length - 1
            if last < len(text) and text[last] in self._last_characters:
                for by_last in self._targets.get(text[position:last], ()):
                    if (target := by_last.get(text[last])) is not None:
                        return length, target
        return 1, text[position]
