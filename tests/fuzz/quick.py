"""Work that is the same for every case, or out of proportion to it, is left out when thousands of cases are read."""

from __future__ import annotations

import contextlib
import gc
import io
import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import IO
from unittest.mock import patch

import pyarrow

from bothways import files
from bothways.data import arrow_files, excel
from bothways.interop import fastai_tokenizer
from bothways.interop.spacy_tables import tables_from_spacy
from bothways.text.word_rules import WordTables

_EXPANDED_BYTES, _EXPANDED_ROWS = 1 << 13, 1000
"""What small files may expand to. A mutated file of some hundred bytes often contains megabytes."""
_FEW_RULES = WordTables(
    exceptions={"don't": ["do", "n't"]}, prefix=None, suffix=None, infix=None, token_match=None, url_match=None
)
_tables_of = cache(tables_from_spacy)


def _few_tables(language: str, control_tokens: Sequence[str]) -> tuple[WordTables, str]:
    """Return some rules for English, because spaCy's own take 30 ms to check. They do not come from a stranger."""
    return (_FEW_RULES, "3") if language == "en" else _tables_of(language, tuple(control_tokens))


@contextlib.contextmanager
def quick_readers() -> Iterator[None]:
    """Read without constant work: no rules of spaCy, small expansions, one thread, and no old objects to collect."""
    limits = (
        patch.object(files, "_FREE_BYTES", _EXPANDED_BYTES),
        patch.object(excel, "_FREE_BYTES", _EXPANDED_BYTES),
        patch.multiple(arrow_files, _FREE_BYTES=_EXPANDED_BYTES, _FREE_ROWS=_EXPANDED_ROWS),
    )
    threads = pyarrow.cpu_count()
    with contextlib.ExitStack() as stack:
        for limit in (*limits, patch.object(fastai_tokenizer, "tables_from_spacy", _few_tables)):
            stack.enter_context(limit)
        pyarrow.set_cpu_count(1)
        gc.freeze()  # the garbage collector would visit all modules again and again
        try:
            yield
        finally:
            gc.unfreeze()
            pyarrow.set_cpu_count(threads)


class KeptFile(os.PathLike[str]):
    """A path whose content is kept in memory, and written to the file only for a reader that opens it by its name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content, self._is_written = b"", False
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)

    def keep(self, content: bytes) -> None:
        """Replace the content."""
        self._content, self._is_written = content, False

    def read_bytes(self) -> bytes:
        """Return the content."""
        return self._content

    def open(self, mode: str) -> IO[bytes]:
        """Return the content as a stream."""
        assert mode == "rb", mode
        return io.BytesIO(self._content)

    def __str__(self) -> str:
        return str(self._written())

    def __fspath__(self) -> str:
        return str(self._written())

    def __getattr__(self, name: str) -> object:
        return getattr(self._written(), name)

    def _written(self) -> Path:
        if not self._is_written:
            self._is_written = True
            os.ftruncate(self._descriptor, len(self._content))
            os.pwrite(self._descriptor, self._content, 0)
        return self._path
