"""Read the tokenizer of a bundle, ``tokenizer.json``, with subword pieces or with words."""

from __future__ import annotations

from itertools import pairwise
from os.path import commonprefix
from typing import Final

from bothways import strict_json
from bothways.errors import BundleBroken
from bothways.schema import Faults, validated
from bothways.text.subword_tokenizer import SubwordTokenizer, SubwordTokenizerDocument
from bothways.text.tokenizer import Tokenizer
from bothways.text.word_tokenizer import WordTokenizer, WordTokenizerDocument

_FREE_NODES: Final = 10_000
_BYTES_PER_NODE: Final = 4


def parse_tokenizer(data: bytes, name: str = "tokenizer.json") -> Tokenizer:
    """Return the tokenizer that a ``tokenizer.json`` describes.

    Args:
        data: The document.
        name: The name of the document in error messages.

    Raises:
        BundleBroken: The document is not strict JSON, or does not match the schema of a tokenizer.
    """
    try:
        value = strict_json.parse(data, allow_surrogates=False)
        if isinstance(value, dict) and "words" in value:
            return WordTokenizer(validated(WordTokenizerDocument, value))
        document = validated(SubwordTokenizerDocument, value)
        _refuse_long_pieces([piece.encode() for piece, _ in document.pieces], len(data), name)
        return SubwordTokenizer(document)
    except Faults as error:
        raise BundleBroken(f"{name}: {error}") from None
    except ValueError as error:
        raise BundleBroken(f"{name} is not strict JSON: {error}") from None


def _refuse_long_pieces(pieces: list[bytes], size_bytes: int, name: str) -> None:
    """Refuse pieces for which the library would need far more memory than their document has bytes.

    It stores the pieces as a trie, with about 350 bytes for each node: a byte of a piece that no other piece before it
    shares. Pieces that were learned from texts share most of theirs.

    Raises:
        BundleBroken: The trie has more than a node per ``_BYTES_PER_NODE`` bytes of the document.
    """
    most_nodes = _FREE_NODES + size_bytes // _BYTES_PER_NODE
    if sum(map(len, pieces)) <= most_nodes:
        return
    nodes = 0
    for before, piece in pairwise([b"", *sorted(pieces)]):
        nodes += len(piece) - len(commonprefix([before, piece]))  # noqa: RUF071  (bytes are compared on purpose)
    if nodes > most_nodes:
        raise BundleBroken(f"{name}: the pieces have {nodes} different beginnings, expected at most {most_nodes}")
