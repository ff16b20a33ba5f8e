"""Decode a stream of bytes into lines, and keep the lines of the row that is being read.

In: a binary stream and an encoding. Out: lines with their ends. Only LF and CR LF end a line, or CR in a file without
any LF. Other characters that Unicode calls line separators do not.
"""

from __future__ import annotations

import codecs
import io
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO

from bothways.errors import DataError

BLOCK_BYTES = 1 << 16
LARGEST_LINE_CHARACTERS = 64 * 1024 * 1024
"""A longer line, or a longer field over several lines, is refused: it would need too much memory."""
_SURROGATE = re.compile("[\ud800-\udfff]")
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Block:
    """Consecutive lines of a file.

    Attributes:
        first: Number of the first line. The first line of a file is 1.
        lines: The lines, each with its end.
        text: All lines in one string.
    """

    def __init__(self, first: int, text: str, newline: str) -> None:
        self.first = first
        self.text = text
        self.lines = io.StringIO(text, newline=newline).readlines()

    @property
    def last(self) -> int:
        """Number of the last line."""
        return self.first + len(self.lines) - 1


class Lines:
    """The lines of a stream, read block by block.

    Attributes:
        encoding: Python's name of the encoding.
        has_mixed_ends: Whether the first line ends with LF, and some line so far with CR LF.
        is_damaged: Whether some bytes so far are not valid in the encoding. They are lone surrogates in the lines.
        done: Number of the last line that is not needed again. The reader of the rows sets it.
        blocks: The blocks that have a later line.
    """

    def __init__(self, name: str, stream: IO[bytes], encoding: str | None) -> None:
        self.encoding = encoding or "utf-8"
        self.has_mixed_ends = False
        self.is_damaged = False
        self.done = 0
        self.blocks: deque[Block] = deque()
        self._name = name
        self._is_stated = encoding is not None
        self._read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
        codec = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
        self._decoder = codecs.getincrementaldecoder(codec)("strict")
        self._newline = ""
        self._is_lf = False

    def __iter__(self) -> Iterator[list[str]]:
        """Yield the lines of one block after the other."""
        pending: list[str] = []  # the beginning of a line whose end is not read yet
        size, number = 0, 1
        is_last = False
        while not is_last:
            data = self._read(BLOCK_BYTES)
            is_last = not data
            text = self._decode(data, is_last, number)
            pending.append(text)
            size += len(text)
            if not self._newline:
                self._newline = _newline(pending, is_last)
            end = len(text) if is_last else text.rfind(self._newline) + 1 if self._newline else 0
            if not end and not is_last:
                if size > LARGEST_LINE_CHARACTERS:
                    raise DataError(
                        f"{self._name}, line {number}: longer than {LARGEST_LINE_CHARACTERS:,} characters, expected a "
                        "text table with one row per line"
                    )
                continue
            pending[-1] = text[:end]
            block = Block(number, "".join(pending), self._newline or "\n")
            pending, size = [text[end:]], len(text) - end
            if number == 1:
                self._is_lf = bool(block.lines) and not block.lines[0].endswith("\r\n")
            if self._is_lf and "\r" in block.text and "\r\n" in block.text:  # a search for one character is faster
                self.has_mixed_ends = True
            number += len(block.lines)
            while self.blocks and self.blocks[0].last <= self.done:
                self.blocks.popleft()
            self.blocks.append(block)
            yield block.lines

    def between(self, first: int, last: int) -> list[str]:
        """Return the lines of the row that is being read, by their numbers."""
        block = self.blocks[-1]
        if first >= block.first:
            return block.lines[first - block.first : last + 1 - block.first]
        return [
            line
            for block in self.blocks
            if block.first <= last
            for line in block.lines[max(first - block.first, 0) : last + 1 - block.first]
        ]

    def check(self, value: str, place: str) -> None:
        """Raise an error if a value has bytes that cannot be decoded.

        Raises:
            DataError: It has. The message names the file and ``place``.
        """
        if not value.isascii() and _SURROGATE.search(value):
            raise DataError(f"{self._name}, {place}: {self.problem}")

    def _decode(self, data: bytes, is_last: bool, line: int) -> str:
        if not self._is_stated and line == 1 and (data.startswith(UTF_16_MARKS) or b"\0" in data.split(b"\n", 1)[0]):
            raise DataError(f"{self._name} looks like UTF-16, expected UTF-8. Pass --encoding utf-16")
        state = self._decoder.getstate()
        try:
            return self._decoder.decode(data, is_last)
        except UnicodeError:
            self.is_damaged = True
        try:
            self._decoder.errors = "surrogateescape"
            self._decoder.setstate(state)
            return self._decoder.decode(data, is_last)
        except UnicodeError as error:
            raise DataError(f"{self._name}, at or after line {line}: {self.problem} ({error})") from None

    @property
    def problem(self) -> str:
        """What is wrong with bytes that cannot be decoded, and how to fix it."""
        return not_in_encoding(self.encoding if self._is_stated else None)


def not_in_encoding(encoding: str | None) -> str:
    """Return what is wrong with bytes that cannot be decoded, and how to fix it."""
    if encoding is not None:
        return f"not valid {encoding}. Pass the encoding of the file with --encoding"
    return "not valid UTF-8. Save the file as UTF-8, or pass its encoding, such as --encoding cp1252"


def _newline(pending: list[str], is_last: bool) -> str:
    """Return the line end of a file from its first characters, or an empty string if it is not known yet."""
    if any("\n" in part for part in pending):
        return "\n"
    has_return = any("\r" in part for part in pending)
    return "\r" if has_return and (is_last or not pending[-1].endswith("\r")) else ""
