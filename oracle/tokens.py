"""Tokenize and numericalize texts with the real fastai: python tokens.py VERSION LANGUAGE TEXTS OUT.

TEXTS is a JSON list of strings. OUT gets a JSON object: `vocabulary`, made of these texts by fastai's own rule, and
`ids`, a list for each text. Run with the oracle's python.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path


def with_fastai1(language: str, texts: list[str]) -> tuple[list[str], list[list[int]]]:
    """Tokenize each text alone, as `predict` does."""
    from fastai1 import load_fastai1

    fastai_text = load_fastai1()
    from fastai.text.data import NumericalizeProcessor, TokenizeProcessor

    tokenize = TokenizeProcessor(tokenizer=fastai_text.Tokenizer(lang=language))
    tokens = [tokenize.process_one(text) for text in texts]
    vocabulary = fastai_text.Vocab.create(tokens, max_vocab=60000, min_freq=2)
    numericalize = NumericalizeProcessor(vocab=vocabulary)
    return list(vocabulary.itos), [numericalize.process_one(row).tolist() for row in tokens]


def with_fastai2(language: str, texts: list[str]) -> tuple[list[str], list[list[int]]]:
    """Build the vocabulary as training does, and tokenize with the pipeline's own transforms, as `predict` does."""
    from fastai.text.all import Numericalize, SpacyTokenizer, Tokenizer, TokenizeWithRules

    tokenizer = SpacyTokenizer(language)
    numericalize = Numericalize(min_freq=2)
    numericalize.setup(list(TokenizeWithRules(tokenizer)(texts)))
    tokenize = Tokenizer(tokenizer)
    return list(numericalize.vocab), [numericalize(tokenize(text)).tolist() for text in texts]


def main(version: str, language: str, source: Path, out: Path) -> None:
    """Read, tokenize, write."""
    warnings.simplefilter("ignore")
    texts = json.loads(source.read_text(encoding="ascii"))
    vocabulary, ids = (with_fastai1 if version == "1" else with_fastai2)(language, texts)
    out.write_text(json.dumps({"vocabulary": vocabulary, "ids": ids}), encoding="ascii")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
