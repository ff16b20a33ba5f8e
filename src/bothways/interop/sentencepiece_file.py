"""Read a SentencePiece model, a protocol buffer, as data.

Input: the bytes of a ``.model`` file, or those that a pickled ``SentencePieceProcessor`` contains. Output: a
``PieceModel``. sentencepiece is not needed. Models whose settings ``text.piece_splitter`` does not reproduce are
refused by the name of the setting.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

import numpy as np

from bothways.errors import ForeignModelError, path_text, shown
from bothways.interop.facts import Fact
from bothways.interop.known_objects import Known, require
from bothways.interop.pickle_reader import Record
from bothways.schema import Faults, validated
from bothways.text.piece_model import LONGEST_REPLACEMENT, LONGEST_SOURCE, MOST_PIECES, PieceModel

LARGEST_MODEL_BYTES: Final = 100_000_000
"""Largest model that is read. One of 30,000 pieces has 0.8 MB."""

_MOST_EDGES: Final = 500_000
_MOST_PREFIXES: Final = 50_000
_LONGEST_REPLACEMENT_BYTES: Final = 4 * LONGEST_REPLACEMENT
"""Limits of the table of replacements. SentencePiece's own tables have at most 40,000 edges and 8,000 prefixes."""

_PROCESSORS: Final = {
    "sentencepiece.SentencePieceProcessor": Known(
        {f"_{name}": (False,) for name in ("add_bos", "add_eos", "reverse", "emit_unk_piece", "enable_sampling")},
        frozenset({"_return_type", "_out_type", "model_proto"}),
    )
}

_ALGORITHMS: Final = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_KINDS: Final = {_UNKNOWN: "unknown", _CONTROL: "control", _USER_DEFINED: "user_defined", _UNUSED: "unused"}

_Row = tuple[list[str], str, str | list[str]]

_Field = tuple[int, int | bytes]
"""The number of a field and its value."""


def read_piece_file(path: Path) -> PieceModel:
    """Return the model in a file, which fastai v1 calls ``spm.model``.

    Raises:
        ForeignModelError: The file can't be read, is not a SentencePiece model, or uses a setting that is not
            supported.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_MODEL_BYTES + 1)
    except OSError as error:
        raise ForeignModelError(f"{path_text(path)} can't be read: {shown(error.strerror or str(error))}") from None
    return read_piece_model(data, path_text(path))


def pickled_piece_model(processor: Fact) -> PieceModel:
    """Return the model of a pickled ``SentencePieceProcessor``.

    Its state is the model up to sentencepiece 0.2.2, and a dictionary with the model and the options of the processor
    since then.

    Raises:
        ForeignModelError: The object is not a processor, has options that fastai does not use, or its model is not
            supported.
    """
    require(processor, _PROCESSORS, "its SentencePiece tokenizer")
    state = processor.value.state if isinstance(processor.value, Record) else None
    data = state.get("model_proto") if isinstance(state, dict) else state
    if not isinstance(data, bytes):
        raise Fact(data, f"{processor.name}.model_proto", processor.work).refusal("a SentencePiece model")
    return read_piece_model(data, processor.work.source)


def read_piece_model(data: bytes, source: str) -> PieceModel:
    """Return the model that a protocol buffer describes.

    Args:
        data: The protocol buffer.
        source: Name of the file in error messages.

    Raises:
        ForeignModelError: The data is not a SentencePiece model, is damaged, or uses a setting that is not supported.
    """
    if len(data) > LARGEST_MODEL_BYTES:
        raise ForeignModelError(f"{source}: a SentencePiece model of {len(data)} bytes, expected at most 100 MB")
    pieces: list[tuple[str, float, int]] = []
    training: dict[int, int | bytes] = {}
    normalization: dict[int, int | bytes] = {}
    for number, value in _fields(data, source):
        if number == 1:
            pieces.append(_piece(_message(value, source), source))
            if len(pieces) > MOST_PIECES:
                _refuse(source, f"more than {MOST_PIECES} pieces", "fewer")
        elif number in (2, 3):
            (training if number == 2 else normalization).update(_fields(_message(value, source), source))
    unknown = [position for position, (_, _, kind) in enumerate(pieces) if kind == _UNKNOWN]
    if len(unknown) != 1:
        raise ForeignModelError(
            f"{source} is not a SentencePiece model: {len(pieces)} pieces, of which {len(unknown)} is for unknown "
            "characters, expected one"
        )
    algorithm = _algorithm(training, normalization, source)
    fields = {
        "algorithm": algorithm,
        "starts_with_space": bool(normalization.get(3, 1)),
        "joins_spaces": bool(normalization.get(4, 1)),
        "replacements": _rows(_bytes(normalization.get(2, b""), source), source),
        "unknown": unknown[0],
        "pieces": [(text, score) for text, score, _ in pieces],
    }
    for kind in (_CONTROL, _USER_DEFINED, _UNUSED):
        fields[_KINDS[kind]] = [position for position, (_, _, other) in enumerate(pieces) if other == kind]
    try:
        return validated(PieceModel, fields)
    except Faults as error:
        raise ForeignModelError(f"{source}: {error}") from None


def _algorithm(training: dict[int, int | bytes], normalization: dict[int, int | bytes], source: str) -> str:
    """Return the name of the algorithm. Refuse settings that are not supported."""
    number = _integer(training.get(3, 1), source)
    if number not in _ALGORITHMS:
        _refuse(source, f"the unknown model type {number}", "unigram, bpe, word or char")
    if training.get(24, 0):
        _refuse(source, "treat_whitespace_as_suffix", "spaces before words")
    if training.get(35, 0):
        _refuse(source, "byte_fallback", "an unknown piece")
    if not normalization.get(5, 1):
        _refuse(source, "escape_whitespaces=false", "▁ for spaces")
    if unknown := [number for number in normalization if number > 6]:
        _refuse(source, f"the setting {unknown[0]} of the normalization", "those of sentencepiece 0.2")
    return _ALGORITHMS[number]


def _piece(data: bytes, source: str) -> tuple[str, float, int]:
    """Return the text, the score and the kind of a piece."""
    text, score, kind = "", 0.0, _NORMAL
    for number, value in _fields(data, source):
        if number == 1:
            try:
                text = _bytes(value, source).decode("utf-8")
            except UnicodeDecodeError:
                _damaged(source, "a piece is not UTF-8")
        elif number == 2:
            score = _shortest(_bytes(value, source), source)
        elif number == 3:
            kind = _integer(value, source)
    if kind == _BYTE:
        _refuse(source, "byte_fallback", "an unknown piece")
    if kind != _NORMAL and kind not in _KINDS:
        _damaged(source, f"a piece of the kind {kind}")
    return text, score, kind


def _shortest(data: bytes, source: str) -> float:
    """Return a single-precision number as the shortest decimal number that stands for it."""
    if len(data) != 4:
        _damaged(source, "a score that is not a number")
    return float(str(np.frombuffer(data, "<f4")[0]))


# Protocol buffers -------------------------------------------------------------------------------------------------


def _fields(data: bytes, source: str) -> Iterator[_Field]:
    """Yield the number and value of each field of a message: an integer, or the bytes of anything else."""
    position, stop = 0, len(data)
    while position < stop:
        tag, position = _varint(data, position, source)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(data, position, source)
            yield number, value
            continue
        if wire == 2:
            length, position = _varint(data, position, source)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            _damaged(source, f"a field of the wire type {wire}")
        if position + length > stop:
            _damaged(source, "it ends early")
        yield number, data[position : position + length]
        position += length


def _varint(data: bytes, position: int, source: str) -> tuple[int, int]:
    """Return an integer of variable length, and the position after it."""
    value = 0
    for shift, byte in enumerate(data[position : position + 10]):
        value |= (byte & 127) << (7 * shift)
        if byte < 128:
            break
    else:
        _damaged(source, "an integer does not end")
    if position >= len(data):
        _damaged(source, "it ends early")
    return value, position + shift + 1


def _message(value: int | bytes, source: str) -> bytes:
    return _bytes(value, source)


def _bytes(value: int | bytes, source: str) -> bytes:
    if isinstance(value, int):
        _damaged(source, "a number instead of a text")
    return value


def _integer(value: int | bytes, source: str) -> int:
    if not isinstance(value, int):
        _damaged(source, "a text instead of a number")
    return value


def _damaged(source: str, what: str) -> NoReturn:
    raise ForeignModelError(f"{source} is not a SentencePiece model, or is damaged: {what}")


def _refuse(source: str, what: str, expected: str) -> NoReturn:
    raise ForeignModelError(f"{source}: its SentencePiece model has {what}, expected {expected}: it can't be imported")


# The table of replacements ----------------------------------------------------------------------------------------


class _Trie:
    """A precompiled table of replacements: a double-array trie of the bytes of texts (Darts).

    A unit's low byte is the label of the edge that leads to it, and its place xor its offset is the base of its
    children. A leaf holds the place of the replacement, which ends with a zero byte.
    """

    def __init__(self, data: bytes, source: str) -> None:
        size = struct.unpack_from("<I", data)[0] if len(data) > 4 else 0
        if not 4 <= size <= len(data) - 4 or size % 4:
            _damaged(source, "a table of replacements of a wrong size")
        units = np.frombuffer(data, "<u4", size // 4, 4).astype(np.int64)
        labels = units & 0x800000FF
        edges = np.flatnonzero((labels > 0) & (labels < 256))
        self._edges: dict[int, list[tuple[int, int]]] = {}
        for base, label, place in zip(
            *(a.tolist() for a in (edges ^ labels[edges], labels[edges], edges)), strict=True
        ):
            self._edges.setdefault(base, []).append((label, place))
        self._bases = (np.arange(len(units)) ^ ((units >> 10) << ((units & 512) >> 6))).tolist()
        self._has_value = (units & 256 > 0).tolist()
        self._values = (units & 0x7FFFFFFF).tolist()
        self._texts, self._source = data[4 + size :], source
        self._characters: dict[int, list[tuple[str, int]]] = {}
        self._left = _MOST_EDGES

    def characters(self, place: int) -> list[tuple[str, int]]:
        """Return the characters that continue a text, each with its place. The place of the empty text is 0."""
        if place not in self._characters:
            found, waiting = [], [(place, b"")]
            while waiting:
                at, key = waiting.pop()
                for label, child in self._edges.get(self._bases[at], ()):
                    self._left -= 1
                    if self._left < 0:
                        _refuse(self._source, "a table of more replacements than any known one", "a smaller table")
                    longer = key + bytes((label,))
                    if len(longer) == _length_of_character(longer[0]):
                        found.append((self._decoded(longer), child))
                    else:
                        waiting.append((child, longer))
                if key and self._has_value[at]:
                    self._decoded(key)
            self._characters[place] = sorted(found)
        return self._characters[place]

    def replacement(self, place: int) -> str | None:
        """Return what the text that leads to a place is replaced with, or None if it is not replaced."""
        if not self._has_value[place]:
            return None
        base = self._bases[place]
        start = self._values[base] if base < len(self._values) else len(self._texts)
        end = self._texts.find(b"\0", start, start + _LONGEST_REPLACEMENT_BYTES)
        if end < 0:
            _damaged(self._source, "a replacement without an end")
        return self._decoded(self._texts[start:end])

    def _decoded(self, data: bytes) -> str:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            _refuse(self._source, "a replacement of a part of a character", "whole characters")


def _length_of_character(first: int) -> int:
    """Return the number of bytes of a character in UTF-8 by its first byte."""
    return 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4


def _rows(data: bytes, source: str) -> list[_Row]:
    """Return a precompiled table of replacements in the form of a ``PieceModel``.

    Texts that lead to the same place of the trie have the same continuations, so they are the prefixes of one row.
    """
    if not data:
        return []
    trie = _Trie(data, source)
    prefixes: dict[int, list[str]] = {}
    longer: dict[int, list[tuple[str, int]]] = {}
    waiting = [("", 0)]
    while waiting:
        prefix, place = waiting.pop()
        if place not in longer:
            longer[place] = [
                (character, child) for character, child in trie.characters(place) if trie.characters(child)
            ]
        prefixes.setdefault(place, []).append(prefix)
        waiting += [(prefix + character, child) for character, child in longer[place]]
        if len(waiting) > _MOST_PREFIXES or len(prefix) >= LONGEST_SOURCE:
            _refuse(source, "a table of more or longer replacements than any known one", "a smaller table")
    rows: list[_Row] = []
    for place, found in prefixes.items():
        targets = {c: text for c, child in trie.characters(place) if (text := trie.replacement(child)) is not None}
        single = "".join(last for last, target in targets.items() if len(target) == 1)
        if single:
            rows.append((sorted(found), single, "".join(targets[last] for last in single)))
        if other := "".join(last for last, target in targets.items() if len(target) != 1):
            rows.append((sorted(found), other, [targets[last] for last in other]))
    return sorted(rows, key=lambda row: row[:2])
