"""Measure how fast texts are split into words: ours against spaCy's own tokenizer, cold and warm, in the same run.

Run: .venv/bin/python benchmarks/word_tokenizer.py [--texts 2000]
It takes English reviews and short messages and German tweets from the folder that BOTHWAYS_DATA names, cleaned as
fastai 2 cleans them; without it, the demo's messages. Every text's tokens are compared. Cold is the first time through
with a fresh tokenizer, warm the fastest of the later times. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import spacy

from bothways.interop.spacy_tables import tables_from_spacy
from bothways.text.fastai_cleaning import CONTROL_TOKENS, FASTAI_V2, clean_before
from bothways.text.word_rules import WordSplitter

ROOT = Path(__file__).parents[1]
WARM_RUNS = 3


@dataclass(frozen=True)
class Measurement:
    """Tokens per second of both, on one set of texts."""

    name: str
    texts: int
    tokens: int
    cold: float
    cold_spacy: float
    warm: float
    warm_spacy: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--texts", type=int, default=2000, help="how many of each set")
    most = parser.parse_args().texts

    folder = os.environ.get("BOTHWAYS_DATA")
    if folder:
        sets = [
            ("IMDb reviews", "en", Path(folder) / "imdb" / "test.parquet"),
            ("SMS messages", "en", Path(folder) / "sms_spam" / "sms.csv"),
            ("German tweets", "de", Path(folder) / "germeval2018" / "train.csv"),
        ]
    else:
        sets = [("demo messages", "en", ROOT / "demo" / "messages.csv")]
    measured = [measure(name, language, read_texts(path, most)) for name, language, path in sets]
    print(
        f"{'million tokens/s':>16}  {'texts':>6} {'tokens':>9}  "
        f"{'cold':>6} {'spaCy':>6}         {'warm':>6} {'spaCy':>6}"
    )
    for m in measured:
        cold, warm = (
            f"{ours / 1e6:6.2f} {theirs / 1e6:6.2f} x{ours / theirs:<5.1f}"
            for ours, theirs in ((m.cold, m.cold_spacy), (m.warm, m.warm_spacy))
        )
        print(f"{m.name:>16}  {m.texts:>6} {m.tokens:>9}  {cold}  {warm}")
    print(json.dumps({"spacy": spacy.__version__, "sets": [asdict(m) for m in measured]}))


def read_texts(path: Path, most: int) -> list[str]:
    """Return the first texts of a file."""
    if path.suffix == ".parquet":
        from pyarrow import parquet  # noqa: PLC0415  (only where such a file is there)

        return list(parquet.read_table(path)["text"].slice(0, most).to_pylist())
    with path.open(newline="", encoding="utf-8") as file:
        return [row["text"] for row in islice(csv.DictReader(file), most)]


def measure(name: str, language: str, texts: list[str]) -> Measurement:
    """Return the speeds of both, and make sure that they agree."""
    cleaned = [clean_before(text, FASTAI_V2) for text in texts]
    control_tokens = CONTROL_TOKENS[FASTAI_V2]
    tokenizer = spacy.blank(language).tokenizer
    for token in control_tokens:
        tokenizer.add_special_case(token, [{spacy.symbols.ORTH: token}])
    splitter = WordSplitter(tables_from_spacy(language, control_tokens)[0])

    def theirs(text: str) -> list[str]:
        return [token.text for token in tokenizer(text)]

    gc.collect()
    gc.freeze()  # or the collector goes through all that importing spaCy left behind, in the time of either
    tokens = 0
    cold, our_tokens = timed(splitter.split, cleaned)
    cold_spacy, their_tokens = timed(theirs, cleaned)
    for text, ours, expected in zip(cleaned, our_tokens, their_tokens, strict=True):
        if ours != expected:
            raise SystemExit(f"{name}: {text!r} became {ours}, expected {expected}")
        tokens += len(ours)
    warm = min(timed(splitter.split, cleaned)[0] for _ in range(WARM_RUNS))
    warm_spacy = min(timed(theirs, cleaned)[0] for _ in range(WARM_RUNS))
    return Measurement(
        name=name,
        texts=len(texts),
        tokens=tokens,
        cold=round(tokens / cold),
        cold_spacy=round(tokens / cold_spacy),
        warm=round(tokens / warm),
        warm_spacy=round(tokens / warm_spacy),
    )


def timed(split: Callable[[str], list[str]], texts: list[str]) -> tuple[float, list[list[str]]]:
    """Return the seconds that splitting these texts takes, and their tokens."""
    started = time.perf_counter()
    tokens = [split(text) for text in texts]
    return time.perf_counter() - started, tokens


if __name__ == "__main__":
    main()
