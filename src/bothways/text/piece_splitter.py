"""Split texts into pieces by a SentencePiece model, without sentencepiece.

The input is a text, the output the strings that sentencepiece's ``EncodeAsPieces`` returns. Words that occur again are
looked up: the pieces of a word do not depend on its text, with the exceptions that ``text.piece_segmentation``
describes. Any other text takes the exact path.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain

from bothways.text.piece_model import WORD_START, PieceModel
from bothways.text.piece_normalization import PieceNormalization
from bothways.text.piece_segmentation import Segmentation, UnigramSegmenter, segmenter_of, split_before_spaces

_MAX_CACHED_CHUNKS = 100_000
_MAX_CACHED_CHUNK_LENGTH = 40

_IRREGULAR = Segmentation((), limit=-1.0)
"""The entry of a chunk whose pieces depend on its text."""


class PieceSplitter:
    """Splits texts into pieces as SentencePiece does. Safe to share between threads.

    Cached entries are a pure function of the chunk, so an entry that is lost or computed twice only costs time.
    """

    def __init__(self, model: PieceModel) -> None:
        self._normalization = PieceNormalization(model)
        self._segmenter = segmenter_of(model)
        usable = model.ids_of_pieces()
        self._is_by_words = (
            self._segmenter.is_independent
            and WORD_START in usable  # else it could be joined with unknown characters before it
            and not any(WORD_START in piece[1:] for piece in usable)
        )
        self._is_by_chunks = self._is_by_words and self._normalization.is_by_chunks
        self._chunks: dict[str, Segmentation] = {}
        self._words: dict[str, Segmentation] = {}

    def split(self, text: str) -> list[str]:
        """Return the pieces of a text in order. Neighboring unknown characters are one piece."""
        if self._is_by_chunks:
            chunks = text.split(" ")
            known = self._chunks.get
            entries = [known(chunk) or self._chunk(chunk) for chunk in chunks]
            if sum(entry.cost for entry in entries) <= min(entry.limit for entry in entries):
                return list(chain.from_iterable(entry.pieces for entry in entries))
        return self._split_exactly(text)

    def can_return(self, word: str) -> bool:
        """Return whether a word could be a piece: pieces are not empty."""
        return bool(word)

    def _split_exactly(self, text: str) -> list[str]:
        normalized = self._normalization.normalized(text)
        segmenter = self._segmenter
        if not self._is_by_words:
            if isinstance(segmenter, UnigramSegmenter):
                return list(segmenter.segment_after(normalized, 0.0).pieces)
            return list(segmenter.segment(normalized).pieces)
        pieces: list[str] = []
        so_far = total = 0.0
        for word in split_before_spaces(normalized):
            entry = self._word(word)
            if isinstance(segmenter, UnigramSegmenter):
                if total + entry.cost > entry.limit:
                    entry = segmenter.segment_after(word, so_far)
                total += entry.cost
                so_far = segmenter.add(so_far, entry.scores)
            pieces += entry.pieces
        return pieces

    def _chunk(self, chunk: str) -> Segmentation:
        """Return the pieces of a chunk between spaces. It has no words, one, or several."""
        replaced = self._normalization.replaced(chunk)
        if WORD_START in replaced:  # it would be removed at the end of a text
            entry = _IRREGULAR
        else:
            words = [self._word(WORD_START + word) for word in replaced.split(" ") if word]
            entry = words[0] if len(words) == 1 else _concatenated(words)
        if len(chunk) <= _MAX_CACHED_CHUNK_LENGTH:
            if len(self._chunks) >= _MAX_CACHED_CHUNKS:
                self._chunks.clear()
            self._chunks[chunk] = entry
        return entry

    def _word(self, word: str) -> Segmentation:
        entry = self._words.get(word)
        if entry is None:
            entry = self._segmenter.segment(word)
            if len(word) <= _MAX_CACHED_CHUNK_LENGTH:
                if len(self._words) >= _MAX_CACHED_CHUNKS:
                    self._words.clear()
                self._words[word] = entry
        return entry


def _concatenated(words: Sequence[Segmentation]) -> Segmentation:
    """Return the pieces of several words."""
    return Segmentation(
        tuple(chain.from_iterable(word.pieces for word in words)),
        cost=sum(word.cost for word in words),
        limit=min((word.limit for word in words), default=math.inf),
    )
