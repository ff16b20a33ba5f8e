"""Tokenize many texts in several processes, once per text, and put the tokens into the reading order of each model.

Run as a module, it is one of the worker processes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

import numpy as np

from bothways.processes import module_command, module_environment
from bothways.text.fields import Text, characters_of
from bothways.text.reading import Direction, Ids, SpecialTokenPlacement, read
from bothways.text.tokenizer import Tokenizer
from bothways.text.tokenizer_document import parse_tokenizer

ReadingOrder = tuple[Direction, SpecialTokenPlacement]
_FRAME_CHARACTERS = 1_000_000
_HEADER = struct.Struct("<Q")


def tokenize_all(
    tokenizer: Tokenizer, texts: Iterable[Text], orders: Sequence[ReadingOrder], processes: int
) -> Iterator[list[Ids]]:
    """Yield the ids of each text in each reading order, each (T,) int32.

    Guarantees 3 and 4: each text is tokenized once, regardless of the number of reading orders, and the texts keep
    their order.

    Args:
        tokenizer: The tokenizer.
        texts: Validated texts. Only a few at a time are in memory.
        orders: The reading order of each model.
        processes: Number of worker processes. Few texts are tokenized in this process, which is faster than starting
            workers.
    """
    frames = _frames(texts)
    first = list(itertools.islice(frames, 2))
    frames = itertools.chain(first, frames)
    if processes < 2 or len(first) < 2:  # starting workers takes longer
        for text in itertools.chain.from_iterable(frames):
            yield _tokenized(tokenizer, text, orders)
        return
    with contextlib.ExitStack() as stack:
        workers = [_start_worker(stack, tokenizer, orders) for _ in range(processes)]
        while batch := list(itertools.islice(frames, processes)):
            for worker, frame in zip(workers, batch, strict=False):
                assert worker.stdin is not None
                _write_frame(worker.stdin, json.dumps(frame).encode())
            for worker, frame in zip(workers, batch, strict=False):
                assert worker.stdout is not None
                yield from _unpacked(_read_frame(worker.stdout), len(frame), len(orders))


def _frames(texts: Iterable[Text]) -> Iterator[list[Text]]:
    """Yield texts in groups that are large enough to send to a worker."""
    frame: list[Text] = []
    characters = 0
    for text in texts:
        frame.append(text)
        characters += characters_of(text)
        if characters >= _FRAME_CHARACTERS:
            yield frame
            frame, characters = [], 0
    if frame:
        yield frame


def _tokenized(tokenizer: Tokenizer, text: Text, orders: Sequence[ReadingOrder]) -> list[Ids]:
    tokens = tokenizer.tokenize(text)
    return [read(tokens, direction, placement) for direction, placement in orders]


def _start_worker(
    stack: contextlib.ExitStack, tokenizer: Tokenizer, orders: Sequence[ReadingOrder]
) -> subprocess.Popen[bytes]:
    worker = stack.enter_context(
        subprocess.Popen(
            module_command("bothways.data.tokenization", json.dumps(orders)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=module_environment(),
            process_group=0,  # only the parent process handles Ctrl-C
        )
    )
    stack.callback(worker.kill)
    assert worker.stdin is not None
    _write_frame(worker.stdin, tokenizer.to_bytes())
    return worker


def _write_frame(file: IO[bytes], data: bytes) -> None:
    file.write(_HEADER.pack(len(data)))
    file.write(data)
    file.flush()


def _read_frame(file: IO[bytes]) -> bytes:
    header = file.read(_HEADER.size)
    if not header:
        return b""
    (size,) = _HEADER.unpack(header)
    return file.read(size)


def _packed(texts: list[list[Ids]]) -> bytes:
    lengths = np.array([len(ids[0]) for ids in texts], dtype=np.int64)
    return b"".join([lengths.tobytes(), *(ids.astype(np.int32).tobytes() for text in texts for ids in text)])


def _unpacked(data: bytes, texts: int, orders: int) -> Iterator[list[Ids]]:
    lengths = np.frombuffer(data, dtype=np.int64, count=texts)
    start = lengths.nbytes
    for length in lengths.tolist():
        found = []
        for _ in range(orders):
            found.append(np.frombuffer(data, dtype=np.int32, count=length, offset=start))
            start += 4 * length
        yield found


def _text(value: str | list[str]) -> Text:
    """Return a text as it was before it became JSON."""
    return value if isinstance(value, str) else tuple(value)


def _work() -> None:
    orders = [
        (Direction(direction), SpecialTokenPlacement(placement)) for direction, placement in json.loads(sys.argv[1])
    ]
    incoming, outgoing = sys.stdin.buffer, sys.stdout.buffer
    tokenizer = parse_tokenizer(_read_frame(incoming), "tokenizer")
    while data := _read_frame(incoming):
        _write_frame(outgoing, _packed([_tokenized(tokenizer, _text(value), orders) for value in json.loads(data)]))


if __name__ == "__main__":
    _work()
