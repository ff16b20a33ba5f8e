"""Compare how long an LSTM and a QRNN of the same sizes take to read, with random weights.

Run: .venv/bin/python -m benchmarks.encoder_speed windows [--threads 1 2] [--sizes 400 1152 3]
     BOTHWAYS_DATA=... .venv/bin/python -m benchmarks.encoder_speed reviews BUNDLE [--threads 2] [--texts 300]

``windows`` measures one direction, as tokens per text and texts per batch. ``reviews`` measures the API on reviews of
IMDb: BUNDLE provides the tokenizer, the directions and the sizes. Run it with nothing else running.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
from benchmarks.speed.models import random_bundle, random_weights

from bothways.bundle.manifest import Architecture
from bothways.bundle.weights import encoder_shapes
from bothways.runtime.classifier import Classifier
from bothways.runtime.encoder import PRECISIONS, Precision
from bothways.runtime.sessions import EncoderSession

TEXTS_AND_TOKENS = ((1, 32), (1, 224), (1, 1000), (8, 32), (32, 32))
_VOCABULARY = 15_000
_SINGLES = 50
_MIN_RUNS, _MIN_S = 5, 1.0

clock = time.perf_counter


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    windows = commands.add_parser("windows")
    windows.add_argument("--sizes", type=int, nargs=3, default=[400, 1152, 3], help="embedding, hidden and layers")
    windows.set_defaults(run=measure_windows)
    reviews = commands.add_parser("reviews")
    reviews.add_argument("bundle", type=Path)
    reviews.add_argument("--texts", type=int, default=300, help="number of reviews; 300 by default")
    reviews.set_defaults(run=measure_reviews)
    for command in (windows, reviews):
        command.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="1 and 2 by default")
        command.add_argument("--cpu", action="store_true", help="report CPU time: other jobs disturb it less")
        command.add_argument("--kinds", nargs="+", default=["lstm", "qrnn"], help="both by default")
    arguments = parser.parse_args()
    global clock  # noqa: PLW0603
    clock = time.process_time if arguments.cpu else time.perf_counter
    arguments.run(arguments)


def measure_windows(arguments: argparse.Namespace) -> None:
    """Print the time to read texts of some lengths with one direction."""
    _print_row("encoder", "precision", "threads", *(f"{texts} × {tokens:,}" for texts, tokens in TEXTS_AND_TOKENS))
    _print_row("---", "---", "--:", *["--:"] * len(TEXTS_AND_TOKENS))
    embedding, hidden, layers = arguments.sizes
    for kind in arguments.kinds:
        architecture = Architecture(
            vocabulary_size=_VOCABULARY, width_embedding=embedding, width_hidden=hidden, layers=layers, kind=kind
        )
        for precision in PRECISIONS:
            for threads in arguments.threads:
                found = windows_ms(architecture, precision, threads)
                _print_row(kind, precision, str(threads), *(f"{ms:,.1f}" for ms in found))


def windows_ms(architecture: Architecture, precision: Precision, threads: int) -> list[float]:
    """Return the median time in milliseconds for each number of texts and tokens."""
    rng = np.random.default_rng(0)
    weights = random_weights({f"encoder.{n}": s for n, s in encoder_shapes(architecture).items()})
    session = EncoderSession(architecture, weights, threads=threads, precision=precision)
    found = []
    for texts, tokens in TEXTS_AND_TOKENS:
        ids, lengths = rng.integers(0, _VOCABULARY, (tokens, texts)), np.full(texts, tokens, dtype=np.int32)
        states = [np.zeros((texts, width), dtype=np.float32) for width in session.layout.state_widths]
        width = session.layout.output_width
        pooled = np.full((texts, width), -np.inf, dtype=np.float32), np.zeros((texts, width))
        found.append(1000 * median_s(lambda: session.advance(ids, lengths, states, *pooled)))  # noqa: B023
    return found


def measure_reviews(arguments: argparse.Namespace) -> None:
    """Print the time per review, one by one and all in one call."""
    reviews = pyarrow.parquet.read_table(Path(os.environ["BOTHWAYS_DATA"]) / "imdb" / "test.parquet")["text"]
    texts = [str(reviews[int(row)]) for row in np.random.default_rng(0).permutation(len(reviews))[: arguments.texts]]
    _print_row("encoder", "precision", "threads", "single text, median", "single text, p99", "texts/s")
    _print_row("---", "---", "--:", "--:", "--:", "--:")
    for kind in arguments.kinds:
        for precision in PRECISIONS:
            for threads in arguments.threads:
                model = Classifier(random_bundle(arguments.bundle, kind), threads, precision=precision)
                model.predict(texts[:20])
                single = sorted(_seconds(lambda: model.predict([text])) for text in texts[:_SINGLES])  # noqa: B023
                all_s = min(_seconds(lambda: model.predict(texts)) for _ in range(3))  # noqa: B023
                p50, p99 = statistics.median(single), single[int(0.99 * (len(single) - 1))]
                cells = f"{1000 * p50:,.1f} ms", f"{1000 * p99:,.1f} ms", f"{len(texts) / all_s:,.1f}"
                _print_row(kind, precision, str(threads), *cells)


def median_s(work: Callable[[], object]) -> float:
    """Return the median time of a function in seconds, after one run that is not counted."""
    work()
    seconds: list[float] = []
    while len(seconds) < _MIN_RUNS or sum(seconds) < _MIN_S:
        seconds.append(_seconds(work))
    return statistics.median(seconds)


def _seconds(work: Callable[[], object]) -> float:
    started = clock()
    work()
    return clock() - started


def _print_row(*cells: str) -> None:
    print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
