"""Read the tokenizer of a bundle, ``tokenizer.json``, with subword pieces or with words."""

from __future__ import annotations

from bothways import strict_json
from bothways.errors import BundleBroken
from bothways.schema import Faults, validated
from bothways.text.subword_tokenizer import SubwordTokenizer, SubwordTokenizerDocument
from bothways.text.tokenizer import Tokenizer
from bothways.text.word_tokenizer import WordTokenizer, WordTokenizerDocument


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
        return SubwordTokenizer(validated(SubwordTokenizerDocument, value))
    except Faults as error:
        raise BundleBroken(f"{name}: {error}") from None
    except ValueError as error:
        raise BundleBroken(f"{name} is not strict JSON: {error}") from None
