"""Count how often a promise of abstention holds: python -m benchmarks.resampled_abstention BUNDLE FILE LABEL [RISK].

Reads labeled rows that were not used in training once. Then 100 times, a random half of them calibrates and the other
half tests. Prints in how many of them the share of wrong answers is at most RISK, in how many it is not significantly
larger (exact binomial test at 5 %), and the mean coverage of the label sets. Domain scores are not part of it.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

import bothways
from bothways.bundle.parity import ENSEMBLE
from bothways.data.dialect import Dialect
from bothways.errors import DataError
from bothways.evaluation.abstention import ALPHA, Outcomes, binomial_cdf, calibrate_abstention
from bothways.evaluation.inputs import read_rows
from bothways.tasks.metrics import Scores
from bothways.tasks.task import Task

RESAMPLES = 100


def resampled(task: Task, scores: Scores, targets: NDArray[np.intp], risk: float) -> dict[str, float]:
    """Return the counts and means over the resamplings.

    Args:
        task: Task of the model.
        scores: The ensemble's probabilities, (N, C).
        targets: True class of each text, (N,).
        risk: The share of the answers that may be wrong.
    """
    found: dict[str, list[float]] = {"held": [], "held within sampling error": [], "answered": [], "covered": []}
    refused = 0
    for seed in range(RESAMPLES):
        order = np.random.default_rng(seed).permutation(len(scores))
        fitted, tested = np.array_split(order, 2)
        outcomes = Outcomes.of(
            task, scores[fitted], targets[fitted], np.zeros(len(fitted)), np.arange(len(fitted) // 3)
        )
        try:
            calibrated = calibrate_abstention(outcomes, risk, ALPHA, "the rows")
        except DataError:
            refused += 1  # nothing is promised
            continue
        confidence = task.confidence(scores[tested])
        assert confidence is not None
        answered = tested[confidence >= calibrated.threshold]
        wrong = int(task.row_errors(scores[answered], targets[answered]).sum())
        found["held"].append(wrong <= risk * len(answered))
        found["held within sampling error"].append(1 - binomial_cdf(wrong - 1, len(answered), risk) >= 0.05)
        found["answered"].append(len(answered) / len(tested))
        true = task.true_probabilities(scores[tested], targets[tested])
        if true is not None and calibrated.label_sets is not None:
            is_best = true == scores[tested].max(axis=1)
            found["covered"].append(float(((true >= calibrated.label_sets.threshold) | is_best).mean()))
    means = {f"mean {name}": float(np.mean(found[name])) for name in ("answered", "covered") if found[name]}
    return {"refused": refused, **{name: sum(found[name]) for name in list(found)[:2]}, **means}


def main() -> None:
    """Print the counts."""
    bundle, file, label, *risks = sys.argv[1:]
    model = bothways.load(bundle)
    rows = read_rows(model.manifest, file, None, label, Dialect())
    scores = np.array([prediction.scores[ENSEMBLE] for prediction in model.stream(rows.texts)])
    for risk in map(float, risks or ["0.05"]):
        print(f"risk {risk:g}, {len(rows):,} rows:", resampled(model.task, scores, model.task.targets(rows), risk))


if __name__ == "__main__":
    main()
