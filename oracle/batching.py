"""Count the texts whose predictions in a batch differ from those alone in the real fastai (fastai issue 3379).

Run: .oracle/bin/python oracle/batching.py [--fastai 1|2] [--model EXPORT] [--texts FILE] [--dump FILE] [--help]
Without a model it trains one on the demo's messages. Without texts it joins those messages to texts of log-normal
lengths, which are typical of requests. A batch is k texts in their original order. They are passed as a user does: to
`dls.test_dl` and `get_preds` in fastai 2, to `data.add_test` and `get_preds` in fastai 1. In fastai 1 the padding
changes predictions. Prints a table. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCHES = (2, 4, 8, 16, 32)
TOLERANCE = 1e-3
DIRECTION = "forward"


def main() -> None:
    """Predict every text alone and in batches, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fastai", choices=("1", "2"), default="2")
    parser.add_argument("--model", type=Path, help="an export; trained on the demo's messages by default")
    parser.add_argument("--texts", type=Path, help="CSV or Parquet with a column text")
    parser.add_argument("--count", type=int, default=400, help="number of texts")
    parser.add_argument(
        "--median", type=int, default=60, help="median length in tokens of the texts made of the demo's"
    )
    parser.add_argument(
        "--backwards", action="store_true", help="fastai 1 only: the model reads backward, which its file can't say"
    )
    parser.add_argument(
        "--dump", type=Path, help="file for the texts and their single predictions, one JSON line per text"
    )
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")

    import torch

    torch.set_num_threads(1)
    load = with_fastai1 if arguments.fastai == "1" else with_fastai2
    alone, together, count_tokens, labels = load(arguments.model, arguments.backwards)
    texts = (
        read_texts(arguments.texts, arguments.count)
        if arguments.texts
        else chained_texts(arguments.count, arguments.median)
    )
    single = [alone(text) for text in texts]
    if arguments.dump:
        lines = [json.dumps({"text": text, "probabilities": row}) for text, row in zip(texts, single, strict=True)]
        arguments.dump.write_text("\n".join(lines) + "\n", encoding="utf-8")

    lengths = sorted(count_tokens(text) for text in texts)
    summary = f"{lengths[0]} to {lengths[-1]} tokens, median {lengths[len(lengths) // 2]}"
    version = "1.0.61" if arguments.fastai == "1" else "2.8.12"
    print(f"fastai {version}, {len(texts)} texts of {summary}, {len(labels)} labels")
    print("| texts a batch | differ by more than 0.001 | % | other label | largest difference |")
    print("|---|---|---|---|---|")
    results = {}
    for size in BATCHES:
        rows = [row for start in range(0, len(texts), size) for row in together(texts[start : start + size])]
        result = compared(single, rows)
        results[str(size)] = result
        share = 100 * result["differ"] / len(texts)
        print(f"| {size} | {result['differ']} | {share:.1f} | {result['other_label']} | {result['largest']:.3f} |")
    print(
        json.dumps(
            {
                "fastai": arguments.fastai,
                "texts": len(texts),
                "median_tokens": lengths[len(lengths) // 2],
                "batches": results,
            }
        )
    )


def compared(single: list[list[float]], rows: list[list[float]]) -> dict[str, Any]:
    """Count the texts whose probabilities differ, and those whose predicted label differs."""
    gaps = [
        max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) for ours, theirs in zip(single, rows, strict=True)
    ]
    flips = [ours.index(max(ours)) != theirs.index(max(theirs)) for ours, theirs in zip(single, rows, strict=True)]
    return {"differ": sum(gap > TOLERANCE for gap in gaps), "other_label": sum(flips), "largest": max(gaps)}


def read_texts(file: Path, count: int) -> list[str]:
    """Return the first texts of a file."""
    import pandas as pd

    rows = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file, keep_default_na=False)
    return [str(text) for text in rows["text"].head(count)]


def chained_texts(count: int, median: int) -> list[str]:
    """Return texts of log-normal lengths, composed of the demo's messages."""
    from fixture_texts import training_rows

    draw = random.Random(5)
    messages = training_rows("demo")["text"].tolist()
    texts = []
    for _ in range(count):
        wanted = median / 1.25 * draw.lognormvariate(0, 0.9)  # words; a word is about 1.25 tokens
        words: list[str] = []
        while len(words) < wanted:
            words += draw.choice(messages).split()
        texts.append(" ".join(words[: max(1, round(wanted))]))
    return texts


Predictors = tuple[
    Callable[[str], list[float]], Callable[[list[str]], list[list[float]]], Callable[[str], int], list[str]
]


def with_fastai2(model: Path | None, backwards: bool) -> Predictors:
    """Return fastai 2's prediction of one text and of a batch, its token count, and its labels."""
    del backwards
    from fastai.text.all import load_learner
    from fixture_texts import training_rows
    from fixtures2 import classifier

    learn = load_learner(model) if model else classifier(training_rows("demo"), DIRECTION)

    def alone(text: str) -> list[float]:
        with learn.no_bar(), learn.no_logging():
            return [float(number) for number in learn.predict(text)[2]]

    def together(texts: list[str]) -> list[list[float]]:
        with learn.no_bar(), learn.no_logging():
            loader = learn.dls.test_dl(texts, bs=len(texts), num_workers=0)
            return learn.get_preds(dl=loader)[0].tolist()

    return alone, together, lambda text: len(learn.dls.tokenizer(text)), [str(label) for label in learn.dls.vocab[1]]


def with_fastai1(model: Path | None, backwards: bool) -> Predictors:
    """Return fastai 1's prediction of one text and of a batch, its token count, and its labels."""
    from fixture_texts import training_rows
    from fixtures1 import classifier, fastai_text, quietly, tokens_and_ids

    if model:
        learn = quietly(fastai_text.load_learner, model.parent, model.name, backwards=backwards)
    else:
        learn = classifier(training_rows("demo"), DIRECTION)

    def alone(text: str) -> list[float]:
        return [float(number) for number in learn.predict(text)[2]]

    def together(texts: list[str]) -> list[list[float]]:
        with contextlib.redirect_stdout(io.StringIO()):
            learn.data.add_test(texts)
            assert learn.data.test_dl.batch_size >= len(texts)
            return learn.get_preds(ds_type=fastai_text.DatasetType.Test, ordered=False)[0].tolist()

    return (
        alone,
        together,
        lambda text: len(tokens_and_ids(learn, text)[0]),
        [str(label) for label in learn.data.classes],
    )


if __name__ == "__main__":
    main()
