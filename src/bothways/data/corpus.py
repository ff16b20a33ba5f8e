"""Read the texts of a corpus for language models from plain text files or from a column of tables.

Texts are read from the files again each time they are needed, a few at a time. In plain text files, paragraphs
separated by blank lines are the texts.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator

import numpy as np

from bothways.data.dialect import FORMATS, Dialect
from bothways.data.labeled import iterate_texts
from bothways.data.lines import Lines
from bothways.data.tables import inner_name, matching_paths, refuse_other_kinds
from bothways.data.token_store import Numbers
from bothways.errors import DataError
from bothways.files import open_for_reading, split_suffix
from bothways.text.fields import Text

_VALIDATION_SHARE = 0.02
_VALIDATION_CHARACTERS = 2_000_000


class Corpus:
    """The non-empty texts of files, in order. All texts are validated when the corpus is created.

    Attributes:
        texts: Number of texts.
        characters: Number of characters in all texts.
        digest: SHA-256 of the texts in their order.
    """

    def __init__(self, paths: list[str], text_column: str, dialect: Dialect | None = None) -> None:
        """Read and validate all texts once.

        Args:
            paths: Tables in any supported format, or plain text files (any other suffix), also compressed, and patterns
                such as ``data/*.txt``.
            text_column: The text column of the tables.
            dialect: What the user states about the files.

        Raises:
            DataError: A file can't be read, is not UTF-8, or lacks the column, or there are no texts.
            TextError: A value of the text column is not a valid text.
        """
        self._paths = [found for path in paths for found in matching_paths(path)]
        self._text_column, self._dialect = text_column, dialect or Dialect()
        self.texts, self.characters = 0, 0
        digest = hashlib.sha256()
        for text in self.read():
            data = text.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)
            self.texts += 1
            self.characters += len(text)
        self.digest = digest.hexdigest()
        if not self.texts:
            raise DataError(f"{', '.join(paths) or 'the corpus'} contains no text")

    def read(self) -> Iterator[str]:
        """Yield all texts, in order."""
        for path in self._paths:
            texts: Iterator[Text]
            if _is_table(path, self._dialect):
                texts = iterate_texts(path, self._text_column, self._dialect)
            else:
                texts = _paragraphs(path, self._dialect.encoding)
            for text in texts:
                assert isinstance(text, str)  # of one column
                if text.strip():
                    yield text

    def sample(self, characters: int) -> Iterator[str]:
        """Return an iterator over texts spread evenly over the corpus.

        Args:
            characters: Approximate number of characters in the sample. A smaller corpus is returned completely.
        """
        return itertools.islice(self.read(), 0, None, math.ceil(self.characters / characters))

    def split(self, seed: int) -> tuple[Numbers, Numbers]:
        """Split the texts into a training set and a small validation set.

        The validation set has 2 % of the texts, but at most about two million characters and at least one text.

        Args:
            seed: Random seed. The same seed returns the same split.

        Returns:
            The sorted indices of the training texts, and those of the validation texts.
        """
        share = min(_VALIDATION_SHARE, _VALIDATION_CHARACTERS / self.characters)
        count = max(1, round(share * self.texts))
        order = np.random.default_rng(seed).permutation(self.texts).astype(np.int64)
        return np.sort(order[count:]), np.sort(order[:count])


def _is_table(path: str, dialect: Dialect) -> bool:
    is_stated = dialect.format is not None or dialect.delimiter is not None
    return is_stated or split_suffix(path)[0] in FORMATS or split_suffix(inner_name(path))[0] in FORMATS


def _paragraphs(path: str, encoding: str | None) -> Iterator[str]:
    paragraph: list[str] = []
    with open_for_reading(path) as stream:
        refuse_other_kinds(path, stream)
        source = Lines(path, stream, encoding)
        for number, line in enumerate(itertools.chain.from_iterable(source), start=1):
            if source.is_damaged:
                source.check(line, f"line {number}")
            source.done = number
            if line.strip():
                paragraph.append(line)
            elif paragraph:
                yield "".join(paragraph)
                paragraph = []
    if paragraph:
        yield "".join(paragraph)
