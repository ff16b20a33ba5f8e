"""Measure how fast a bundle predicts: texts/s, tokens/s, and the time of one text alone.

Run: .venv/bin/python benchmarks/predict_throughput.py BUNDLE FILE [--text COLUMN]
Without arguments it takes the demo's bundle (make demo) and its held-out messages. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import bothways
from bothways.data.labelled import read_unlabelled
from bothways.runtime.graph import available_cores

ROOT = Path(__file__).parents[1]
RUNS = 5
SINGLE_TEXTS = 200


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bundle", nargs="?", default=str(ROOT / "demo" / "out" / "messages.bundle"))
    parser.add_argument("data", nargs="?", default=str(ROOT / "demo" / "held_out.csv"))
    parser.add_argument("--text", default="text")
    arguments = parser.parse_args()

    started = time.monotonic()
    model = bothways.load(arguments.bundle)
    load_s = time.monotonic() - started
    texts = read_unlabelled(arguments.data, arguments.text)
    tokens = sum(len(model.tokenizer.tokenize(text)) for text in texts)
    model.predict_proba(texts)
    whole = [timed(model, texts) for _ in range(RUNS)]
    alone = sorted(timed(model, [text]) for text in texts[:SINGLE_TEXTS])
    result = {
        "texts": len(texts),
        "tokens": tokens,
        "directions": model.directions,
        "cores": available_cores(),
        "load_s": round(load_s, 3),
        "texts_per_second": round(len(texts) / statistics.median(whole), 1),
        "tokens_per_second": round(tokens / statistics.median(whole)),
        "one_text_p50_ms": round(1000 * statistics.median(alone), 2),
        "one_text_p99_ms": round(1000 * alone[int(0.99 * (len(alone) - 1))], 2),
    }
    for name, value in result.items():
        print(f"{name:>20}  {value}")
    print(json.dumps(result))


def timed(model: bothways.Classifier, texts: list[str]) -> float:
    """Give the seconds that classifying these texts takes, tokenization included."""
    started = time.perf_counter()
    model.predict_proba(texts)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
