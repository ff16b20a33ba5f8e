"""Compare the speed of our word tokenizer, the same rules without pattern analysis, and spaCy's tokenizer.

Run: .venv/bin/python benchmarks/word_tokenizer.py [--texts 2000]

Ordinary texts are English reviews, English text messages and German tweets from the directory named by BOTHWAYS_DATA,
or the demo's messages if it is unset. They are cleaned by the rules of fastai 2. The tokens of all tokenizers are
compared. "Cold" is the first pass with a new tokenizer, "warm" the fastest of the later passes. Hostile texts are
20,000 characters without white space. "Plain re" searches every pattern in the whole chunk, with chunks of at most 250
characters (docs/decisions/009). The last line of the output is JSON.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import spacy

from bothways.interop.spacy_tables import tables_from_spacy
from bothways.text import word_patterns, word_rules
from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS, FASTAI_V2, clean_before
from bothways.text.word_rules import WordSplitter, WordTables

ROOT = Path(__file__).parents[1]
WARM_RUNS = 3
PLAIN_RE_CHUNK_CHARACTERS = 250
HOSTILE_CHARACTERS = 20_000
HOSTILE_TEXTS = {
    "()": "()" * (HOSTILE_CHARACTERS // 2),
    ".)": ".)" * (HOSTILE_CHARACTERS // 2),
    "'": "'" * HOSTILE_CHARACTERS,
    "x-": "x-" * (HOSTILE_CHARACTERS // 2),
    "letters": "a" * HOSTILE_CHARACTERS,
    "random": "".join(random.Random(0).choices("abcAB12.,-/()':@", k=HOSTILE_CHARACTERS)),  # noqa: S311
}


@dataclass(frozen=True)
class Speed:
    """Tokens per second of each tokenizer on one set of texts."""

    name: str
    texts: int
    tokens: int
    cold: float
    cold_plain_re: float
    cold_spacy: float
    warm: float
    warm_spacy: float


@dataclass(frozen=True)
class HostileTime:
    """Microseconds per character on one hostile text."""

    name: str
    ours: float
    plain_re: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--texts", type=int, default=2000, help="texts per set (default: 2000)")
    max_texts = parser.parse_args().texts

    folder = os.environ.get("BOTHWAYS_DATA")
    if folder:
        sets = [
            ("IMDb reviews", "en", Path(folder) / "imdb" / "test.parquet"),
            ("SMS messages", "en", Path(folder) / "sms_spam" / "sms.csv"),
            ("German tweets", "de", Path(folder) / "germeval2018" / "train.csv"),
        ]
    else:
        sets = [("demo messages", "en", ROOT / "demo" / "messages.csv")]
    speeds = [measure_speed(name, language, read_texts(path, max_texts)) for name, language, path in sets]
    print(
        f"{'million tokens/s':>16}  {'texts':>6} {'tokens':>9}  "
        f"{'cold':>6} {'plain re':>8} {'spaCy':>6}  {'warm':>6} {'spaCy':>6}"
    )
    for s in speeds:
        print(
            f"{s.name:>16}  {s.texts:>6} {s.tokens:>9}  {s.cold / 1e6:6.2f} {s.cold_plain_re / 1e6:8.2f} "
            f"{s.cold_spacy / 1e6:6.2f}  {s.warm / 1e6:6.2f} {s.warm_spacy / 1e6:6.2f}"
        )
    hostile = measure_hostile()
    print(f"{'µs per character':>16}  {'ours':>6} {'plain re':>8}")
    for h in hostile:
        print(f"{h.name:>16}  {h.ours:6.2f} {h.plain_re:8.2f}")
    print(
        json.dumps(
            {
                "spacy": spacy.__version__,
                "sets": [asdict(speed) for speed in speeds],
                "hostile": [asdict(hostile_time) for hostile_time in hostile],
            }
        )
    )


def read_texts(path: Path, max_texts: int) -> list[str]:
    """Return the first texts of a file."""
    if path.suffix == ".parquet":
        from pyarrow import parquet  # noqa: PLC0415  (needed only if there is such a file)

        return list(parquet.read_table(path)["text"].slice(0, max_texts).to_pylist())
    with path.open(newline="", encoding="utf-8") as file:
        return [row["text"] for row in islice(csv.DictReader(file), max_texts)]


def measure_speed(name: str, language: str, texts: list[str]) -> Speed:
    """Return the speed of each tokenizer, after checking that their tokens agree."""
    cleaned = [clean_before(text, FASTAI_V2) for text in texts]
    control_tokens = FASTAI_CONTROL_TOKENS[FASTAI_V2]
    tokenizer = spacy.blank(language).tokenizer
    for token in control_tokens:
        tokenizer.add_special_case(token, [{spacy.symbols.ORTH: token}])
    tables = tables_from_spacy(language, control_tokens)[0]
    splitter = WordSplitter(tables)
    plain_splitter = make_plain_splitter(tables)

    def split_with_spacy(text: str) -> list[str]:
        return [token.text for token in tokenizer(text)]

    gc.collect()
    gc.freeze()  # otherwise the collector walks everything that importing spaCy created, within a measured time
    cold, tokens = timed(splitter.split, cleaned)
    with short_chunks():
        cold_plain_re, plain_tokens = timed(plain_splitter.split, cleaned)
    cold_spacy, spacy_tokens = timed(split_with_spacy, cleaned)
    for text, ours, plain, expected in zip(cleaned, tokens, plain_tokens, spacy_tokens, strict=True):
        if not ours == plain == expected:
            raise SystemExit(f"{name}: {text!r} became {ours} (plain re: {plain}), expected {expected}")
    warm = min(timed(splitter.split, cleaned)[0] for _ in range(WARM_RUNS))
    warm_spacy = min(timed(split_with_spacy, cleaned)[0] for _ in range(WARM_RUNS))
    count = sum(map(len, tokens))
    return Speed(
        name=name,
        texts=len(texts),
        tokens=count,
        cold=round(count / cold),
        cold_plain_re=round(count / cold_plain_re),
        cold_spacy=round(count / cold_spacy),
        warm=round(count / warm),
        warm_spacy=round(count / warm_spacy),
    )


def measure_hostile() -> list[HostileTime]:
    """Return the time per character on each hostile text, with English rules."""
    tables = tables_from_spacy("en", FASTAI_CONTROL_TOKENS[FASTAI_V2])[0]
    splitter, plain_splitter = WordSplitter(tables), make_plain_splitter(tables)
    times = []
    for name, text in HOSTILE_TEXTS.items():
        seconds = timed(splitter.split, [text])[0]
        with short_chunks():
            plain_seconds = timed(plain_splitter.split, [text])[0]
        per_character = 1e6 / len(text)
        times.append(HostileTime(name, round(seconds * per_character, 2), round(plain_seconds * per_character, 2)))
    return times


def make_plain_splitter(tables: WordTables) -> WordSplitter:
    """Return a splitter that analyzes no pattern and searches whole chunks instead."""

    def not_understood(_pattern: str, _flags: int) -> Any:
        raise word_patterns._NotUnderstood

    with (
        mock.patch.object(word_rules, "analyzed", return_value=None),
        mock.patch.object(word_patterns, "_parsed", not_understood),
    ):
        return WordSplitter(tables)


def short_chunks() -> Any:
    """Return a context in which chunks are cut to ``PLAIN_RE_CHUNK_CHARACTERS``."""
    return mock.patch.object(word_rules, "LONGEST_CHUNK", PLAIN_RE_CHUNK_CHARACTERS)


def timed(split: Callable[[str], list[str]], texts: list[str]) -> tuple[float, list[list[str]]]:
    """Return the seconds that splitting these texts takes, and their tokens."""
    started = time.perf_counter()
    tokens = [split(text) for text in texts]
    return time.perf_counter() - started, tokens


if __name__ == "__main__":
    main()
