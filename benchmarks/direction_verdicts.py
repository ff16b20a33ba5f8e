"""Measure how often `bothways direction` is right: on fastai models of known direction, and on random weights.

Run: BOTHWAYS_DATA=... .oracle/bin/python oracle/direction_models.py --out .oracle/direction   (about an hour),
then .venv/bin/python benchmarks/direction_verdicts.py [.oracle/direction]. The last line of the output is JSON.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bothways.bundle.manifest import Architecture
from bothways.bundle.weights import encoder_shapes
from bothways.interop.direction import infer
from bothways.interop.fastai_file import open_model
from bothways.text.word_tokenizer import WordTokenizer

RANDOM_MODELS = 40
KINDS = {
    "language-model": "language models",
    "gentle-classifier": "classifiers, unfrozen layer by layer as published",
    "classifier": "classifiers, all layers at once at one high learning rate",
}


def main() -> None:
    """Infer the direction of every model; print each verdict and the counts."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".oracle/direction")
    models = json.loads((folder / "models.json").read_text())
    table = Table(title="z-score: positive where the weights show the right direction", title_justify="left")
    for name in ("model", "training tokens", "loss difference", "z-score", "verdict"):
        table.add_column(name, justify="left" if name == "model" else "right")
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for model in sorted(models, key=lambda m: (list(KINDS).index(m["kind"]), m["file"])):
        opened = open_model(str(folder / model["file"]), needs_task=False)
        verdict = infer(opened.found.architecture, opened.found.arrays, WordTokenizer(opened.tokenizer))
        outcome = {None: "abstained", model["direction"]: "right"}.get(verdict.direction, "wrong")
        counts[model["kind"]][outcome] += 1
        sign = 1 if model["direction"] == "forward" else -1
        z_score = f"{sign * verdict.z_score:+.1f}"
        table.add_row(model["file"], f"{model['tokens_seen']:,}", f"{verdict.margin:.3f}", z_score, outcome)
    random_counts = Counter(random_verdicts(folder / models[0]["file"]))
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    sums = Table(title="", title_justify="left")
    for name in ("", "models", "right", "abstained", "wrong"):
        sums.add_column(name, justify="left" if not name else "right")
    for kind, outcomes in counts.items():
        row = [str(outcomes[name]) for name in ("right", "abstained", "wrong")]
        sums.add_row(KINDS[kind], str(outcomes.total()), *row)
    wrong = RANDOM_MODELS - random_counts["abstained"]
    sums.add_row(
        "random weights (no direction is right)", str(RANDOM_MODELS), "", str(random_counts["abstained"]), str(wrong)
    )
    console.print(sums)
    print(json.dumps({**{kind: dict(found) for kind, found in counts.items()}, "random": dict(random_counts)}))


def random_verdicts(path: Path) -> list[str]:
    """Return the outcomes for models of random weights, half of them with the embedding of a trained model."""
    opened = open_model(str(path), needs_task=False)
    sizes: Architecture = opened.found.architecture
    tokenizer = WordTokenizer(opened.tokenizer)
    outcomes = []
    for seed in range(RANDOM_MODELS):
        rng = np.random.default_rng(seed)
        weights = {}
        for name, shape in encoder_shapes(sizes).items():
            bound = 0.1 if name == "embedding.weight" else (shape[0] // 4) ** -0.5  # as in torch and fastai
            weights[f"encoder.{name}"] = rng.uniform(-bound, bound, shape).astype(np.float32)
        if seed % 2:
            weights["encoder.embedding.weight"] = opened.found.arrays["encoder.embedding.weight"]
        outcomes.append("wrong" if infer(sizes, weights, tokenizer).direction else "abstained")
    return outcomes


if __name__ == "__main__":
    main()
