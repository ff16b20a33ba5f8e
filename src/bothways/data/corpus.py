"""Collect the texts of a corpus for language models: plain text, or a column of tables.

In: paths. Out: texts in memory. In plain text, paragraphs between blank lines are the texts.
"""

from __future__ import annotations

import numpy as np

from bothways.data.files import open_for_reading, split_suffix
from bothways.data.labelled import read_unlabelled
from bothways.data.tables import FORMATS
from bothways.errors import DataError
from bothways.text.checking import check_text


def read_corpus(paths: list[str], text_column: str) -> list[str]:
    """Give the texts of all files, in order, without empty ones.

    Args:
        paths: Files of any table format, or of plain text (any other suffix), also compressed.
        text_column: The tables' column of texts.

    Raises:
        DataError: A file can't be read, is not UTF-8, or lacks the column; or there is no text at all.
    """
    texts: list[str] = []
    for path in paths:
        is_table = split_suffix(path)[0] in FORMATS
        texts += read_unlabelled(path, text_column) if is_table else _paragraphs(path)
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise DataError(f"{', '.join(paths) or 'the corpus'}: there is no text")
    return texts


def split_corpus(texts: list[str], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Give texts to train on and a share of them, at least one, to validate on; the same for the same seed."""
    count = max(1, round(share * len(texts)))
    held = set(np.random.default_rng(seed).permutation(len(texts))[:count].tolist())
    return [t for i, t in enumerate(texts) if i not in held], [t for i, t in enumerate(texts) if i in held]


def _paragraphs(path: str) -> list[str]:
    paragraphs: list[str] = []
    lines: list[str] = []
    with open_for_reading(path) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise DataError(
                    f"{path}, line {number}: not valid UTF-8; save the file as UTF-8 and try again"
                ) from None
            if text.strip():
                lines.append(check_text(text, f"{path}, line {number}"))
            elif lines:
                paragraphs.append("".join(lines))
                lines = []
    return [*paragraphs, "".join(lines)] if lines else paragraphs
