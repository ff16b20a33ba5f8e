"""Train one classifier per direction with the real fastai on real texts, export it, and write its predictions.

Run by parity.py with the oracle's python, a process for each version of fastai:
python parity_models.py VERSION OUT COUNT. As ULMFiT does: a language model, then a classifier on its encoder, unfrozen
layer by layer. Reviews of IMDb where BOTHWAYS_DATA names the data sets, the demo's messages elsewhere. Writes
OUT/{forward,backward}.pkl and .jsonl, a line a text: text, ids as written, and the probabilities that `learn.predict`
gives it alone.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from direction_models import (
    DEMO,
    Training,
    classifier1,
    classifier2,
    language_model1,
    language_model2,
)

TRAINING = Training("parity", 3500, 1, 2)
TRAINING_ON_MESSAGES = Training("parity", 1330, 12, 2)


def main(version: str, out: Path, count: int) -> None:
    """Train, export and predict in both directions."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    out.mkdir(parents=True, exist_ok=True)
    texts = texts_to_predict(count)
    training = TRAINING if os.environ.get("BOTHWAYS_DATA") else TRAINING_ON_MESSAGES
    language_model, classifier = (language_model1, classifier1) if version == "1" else (language_model2, classifier2)
    for direction in ("forward", "backward"):
        language_model(out, direction, "en", direction, training)
        classifier(out, direction, "en", direction, training, is_gentle=True)
        (out / f"{direction}-gentle-classifier.pkl").rename(out / f"{direction}.pkl")
        print(f"fastai {version}: trained {direction}", file=sys.stderr, flush=True)
        expect = expectations1(out, direction) if version == "1" else expectations2(out, direction)
        with (out / f"{direction}.jsonl").open("w", encoding="ascii") as file:
            for text in texts:
                file.write(json.dumps({"text": text, **expect(direction, text)}) + "\n")
        print(f"fastai {version}: predicted {len(texts)} texts {direction}", file=sys.stderr, flush=True)


def texts_to_predict(count: int) -> list[str]:
    """Return texts that were not trained on: whole reviews, short texts and edge cases."""
    import pandas as pd
    from fixture_texts import nasty_texts

    nasty = nasty_texts()
    if not os.environ.get("BOTHWAYS_DATA"):
        names = ("held_out", "unlabeled", "messages")
        real = [text for name in names for text in pd.read_csv(DEMO / f"{name}.csv")["text"]]
        return [*real[:count], *nasty]
    folder = Path(os.environ["BOTHWAYS_DATA"])
    files = [("imdb/test.parquet", 0.6), ("trec6/test.csv", 0.2), ("sms_spam/sms.csv", 0.2)]
    real = []
    for name, share in files:
        path = folder / name
        rows = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, keep_default_na=False)
        real += [str(text) for text in rows["text"].head(round(count * share))]
    return [*real, *nasty]


def expectations1(out: Path, direction: str) -> Any:
    """Return a function that predicts a text with fastai 1's load_learner and the direction, which its file lacks."""
    from fixtures1 import expected_probabilities, fastai_text, quietly

    learn = quietly(fastai_text.load_learner, out, f"{direction}.pkl", backwards=direction == "backward")
    return lambda way, text: without_tokens(expected_probabilities(learn, way, text))


def expectations2(out: Path, direction: str) -> Any:
    """Return a function that predicts a text with fastai 2's load_learner."""
    from fastai.text.all import load_learner
    from fixtures2 import expected_probabilities

    learn = load_learner(out / f"{direction}.pkl")
    return lambda way, text: without_tokens(expected_probabilities(learn, way, text))


def without_tokens(line: dict[str, Any]) -> dict[str, Any]:
    """Return a prediction without its tokens, which follow from the ids."""
    return {name: value for name, value in line.items() if name != "tokens"}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).resolve(), int(sys.argv[3]))
