"""Small SentencePiece models: trained ones with fastai's options, and ones made by hand, as protocol buffers."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import sentencepiece

from bothways.interop.sample_texts import SAMPLE_TEXTS
from bothways.interop.sentencepiece_file import read_piece_model
from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS
from bothways.text.piece_model import PieceModel
from bothways.text.word_tokenizer import WordTokenizer, WordTokenizerDocument

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


@functools.cache
def trained(algorithm: str, cleaning: str = "fastai-v2", size: int = 500, **options: Any) -> bytes:
    """Return a model that was trained on a few texts in many languages."""
    special = ["▁" + token for token in FASTAI_CONTROL_TOKENS[cleaning]]
    texts = [text for texts in SAMPLE_TEXTS.values() for text in texts]
    return train([f"xxbos {text.lower()}" for text in texts], algorithm, size, special, **options)


def train(texts: Iterable[str], algorithm: str, size: int, special: Sequence[str], **options: Any) -> bytes:
    """Return a model that was trained on texts with the options of fastai."""
    model = io.BytesIO()
    options = {"character_coverage": 0.99999, "hard_vocab_limit": False, "num_threads": 1} | options
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type=algorithm,
        vocab_size=size,
        unk_id=len(special),
        pad_id=-1,
        bos_id=-1,
        eos_id=-1,
        user_defined_symbols=special,
        minloglevel=3,
        **options,
    )
    return model.getvalue()


def field(number: int, value: bytes | float) -> bytes:
    """Return a field of a protocol buffer."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


def varint(value: int) -> bytes:
    """Return an integer of variable length."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def small_table() -> bytes:
    """Return a precompiled table that replaces ``a`` by ``x``."""
    units = [0] * 98
    units[96:98] = 0x80000000, ord("a") | 256 | 1 << 10  # the leaf, and the edge that leads to it
    return struct.pack("<I98I", 4 * len(units), *units) + b"x\0"


def made(
    pieces: Iterable[tuple[str, float, int]], training: dict[int, int] | None = None, **normalization: bytes | int
) -> bytes:
    """Return a model with these pieces. Options of the normalization are ``charsmap``, ``prefix`` and ``spaces``."""
    data = b"".join(
        field(1, field(1, piece.encode()) + field(2, float(score)) + field(3, kind)) for piece, score, kind in pieces
    )
    data += field(2, b"".join(field(number, value) for number, value in (training or {}).items()))
    numbers = {"charsmap": 2, "prefix": 3, "spaces": 4, "escape": 5}
    return data + field(3, b"".join(field(numbers[name], value) for name, value in normalization.items()))


def reference(data: bytes) -> sentencepiece.SentencePieceProcessor:
    """Return the real thing."""
    return sentencepiece.SentencePieceProcessor(model_proto=data)


@functools.cache
def piece_model_of(data: bytes) -> PieceModel:
    """Return a model as data."""
    return read_piece_model(data, "a test")


def make_piece_tokenizer(cleaning: str, algorithm: str = "unigram", **options: object) -> WordTokenizer:
    """Return a tokenizer with a trained model. In v2 its vocabulary has all pieces that a text can contain."""
    model = piece_model_of(trained(algorithm, cleaning))
    pieces = [piece for piece, _ in model.pieces]
    vocabulary = pieces if cleaning == "fastai-v1" else [*FASTAI_CONTROL_TOKENS[cleaning], *model.ids_of_pieces(), ""]
    fields = {"cleaning": cleaning, "language": "en", "source": "a test", "vocabulary": vocabulary}
    return WordTokenizer(
        WordTokenizerDocument.model_validate({**fields, "words": "sentencepiece", "sentencepiece": model, **options})
    )
