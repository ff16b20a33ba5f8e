"""The demo: train on a shop's messages, verify the bundle, evaluate on a held-out set and classify new texts."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

import bothways

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
BUNDLE = OUT / "messages.bundle"
BASELINE_STRENGTH = 64.0
"""C of the linear baselines: the best of 0.25, 1, 4, 16 and 64 in 5-fold cross-validation on the training set."""
NEW_TEXTS = [
    "It came yesterday, lovely box, but whatever I press, nothing happens.",
    "Could you hold next month's coffee? We are away.",
    "I sent the lamp back three weeks ago and my card still shows nothing.",
]


def main() -> None:
    """Run the demo from start to end."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    console.rule(
        "1. Train a forward and a backward classifier on 780 labeled messages in 6 classes and 550 unlabeled ones"
    )
    started = time.monotonic()
    bothways.train(
        HERE / "messages.csv",
        text="text",
        label="label",
        unlabeled=HERE / "unlabeled.csv",
        out=BUNDLE,
    )
    minutes = (time.monotonic() - started) / 60

    console.rule("2. Verify the bundle: recompute the probabilities of the training process")
    run_bothways("verify", shown(BUNDLE))

    console.rule("3. Evaluate on 240 held-out messages")
    console.print(comparison(minutes))
    console.print("Training started from en-small, a small pre-trained English pack that ships with bothways.\n")

    console.rule("4. Classify new texts from the command line")
    new, scored = OUT / "new.csv", OUT / "scored.csv"
    with new.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([["text"], *([text] for text in NEW_TEXTS)])
    run_bothways("predict", shown(BUNDLE), shown(new), "--out", shown(scored))
    with scored.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            console.print(f"  {row['predicted_label']:<9}{float(row['predicted_probability']):>5.0%}  {row['text']}")

    console.rule("Done")
    console.print(f"The bundle: {shown(BUNDLE)}\nTry next:", highlight=False)
    for command in (
        f"evaluate {shown(BUNDLE)} demo/held_out.csv",
        f"predict {shown(BUNDLE)} demo/unlabeled.csv --out demo/out/unlabeled_scored.csv",
        f"info {shown(BUNDLE)}",
    ):
        console.print(f"  .venv/bin/bothways {command}", highlight=False, soft_wrap=True)


def comparison(minutes: float) -> Table:
    """Return a table with the accuracy of each model on the held-out messages."""
    train, held_out = read_rows("messages.csv"), read_rows("held_out.csv")
    texts, labels = [text for text, _ in held_out], np.array([label for _, label in held_out])
    model = bothways.load(BUNDLE)
    started = time.monotonic()
    probabilities = model.predict_proba_by_direction(texts)
    speed = len(texts) / (time.monotonic() - started)
    predicted = {name: np.array(model.labels)[rows.argmax(axis=1)] for name, rows in probabilities.items()}

    words, characters = TfidfVectorizer(ngram_range=(1, 2)), TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5))
    for name, features in (("words", TfidfVectorizer()), ("words and characters", make_union(words, characters))):
        baseline = make_pipeline(features, LogisticRegression(C=BASELINE_STRENGTH, max_iter=1000))
        baseline.fit([text for text, _ in train], [label for _, label in train])
        predicted[f"TF-IDF of {name} + logistic regression"] = baseline.predict(texts)

    table = Table(caption=f"Training: {minutes:.1f} minutes. Prediction in both directions: {speed:,.0f} texts/s.")
    table.add_column("model")
    table.add_column("accuracy", justify="right")
    table.add_column("errors", justify="right")
    for name, found in predicted.items():
        table.add_row(name, f"{(found == labels).mean():.1%}", f"{(found != labels).sum()} of {len(labels)}")
    return table


def read_rows(name: str) -> list[tuple[str, str]]:
    """Return the text and label of each row in one of the demo's files."""
    with (HERE / name).open(newline="", encoding="utf-8") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


def run_bothways(*arguments: str) -> None:
    """Print a command and run it in its own process."""
    print(f"$ bothways {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "bothways", *arguments], check=True)


def shown(path: Path) -> str:
    """Return a path relative to the current folder if it is inside."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    main()
