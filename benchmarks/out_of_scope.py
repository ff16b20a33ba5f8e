"""Compare scores of texts out of scope: python -m benchmarks.out_of_scope BUNDLE VALID OOS_VALID [TEST OOS_TEST].

The four files are CSV with a column text: rows like those of the training, and texts out of scope. A third of VALID
fits the densities, as ``bothways.fit_abstention`` does. The rest, with OOS_VALID, compares the scores. Only the best
score and those of the bundle are then computed on TEST and OOS_TEST, with thresholds that were chosen before.

Scores: 1 - the largest probability, the entropy, the energy (arXiv 2010.03759), the density of ``runtime/domain.py``
with several numbers of components, the distance from the nearest class (arXiv 1807.03888), the loss of the tokens under
their frequencies in the first third, the loss of the pack's forward language model per token, and sums of them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import bothways
from bothways.bundle.manifest import Kind
from bothways.bundle.packs import pack_path
from bothways.bundle.parity import ENSEMBLE
from bothways.bundle.read import read_bundle
from bothways.data.labeled import read_unlabeled
from bothways.runtime.classifier import Classifier
from bothways.runtime.domain import DomainModel, fit_domain
from bothways.runtime.language_model import LanguageModel
from bothways.text.fields import Text
from bothways.text.reading import Direction

COMPONENTS = (8, 32, 128)
FALSE_ALARMS = 0.04
DENSITY, WORDS, DOMAIN = "density, 32 components", "token frequencies", "density or token frequencies"
_Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Read:
    """Texts, (N,), with what a model finds in them.

    Attributes:
        texts: The texts.
        scores: The ensemble's probabilities, (N, C).
        energy: Minus the mean over the directions of the log-sum-exp of the logits, (N,).
        states: The pooled states, (N, D).
        ids: The tokens of each text.
    """

    texts: Sequence[Text]
    scores: _Floats
    energy: _Floats
    states: NDArray[np.float32]
    ids: Sequence[NDArray[np.int32]]

    @classmethod
    def of(cls, model: Classifier, texts: Sequence[Text]) -> Read:
        """Read texts in all directions."""
        prepared = [model.prepare(text) for text in texts]
        scores, energy, states = [], [], []
        for found in model.engine.run_early_exit(prepared, 1024, None):
            pooled = [vector for vector in found.pooled if vector is not None]
            logits = np.array([head.logits(vector) for head, vector in zip(model._heads, pooled, strict=True)])
            energy.append(-np.logaddexp.reduce(logits, axis=1).mean())
            scores.append(model.prediction(found).scores[ENSEMBLE])
            states.append(np.concatenate(pooled))
        return cls(texts, np.array(scores), np.array(energy), np.array(states), [each.ids for each in prepared])

    def rows(self, numbers: NDArray[np.intp]) -> Read:
        """Return some of the texts."""
        picked = [self.texts[n] for n in numbers], self.scores[numbers], self.energy[numbers], self.states[numbers]
        return Read(*picked, [self.ids[n] for n in numbers])


Score = Callable[[Read], _Floats]


def density(first: Read, components: int) -> Score:
    """Return the score of the library, with a number of components."""
    model = DomainModel(
        fit_domain(first.states, first.ids, 1 + max(map(max, first.ids)), min(components, len(first.texts) // 4))
    )
    return lambda read: np.array([model.distance([row]) for row in read.states])


def nearest_class(first: Read, components: int) -> Score:
    """Return the Mahalanobis distance from the mean of the nearest predicted class, in some principal components."""
    mean, scale = first.states.mean(axis=0), np.maximum(first.states.std(axis=0), 1e-6)
    standardized = (first.states - mean) / scale
    _, _, directions = np.linalg.svd(standardized, full_matrices=False)
    project = directions[:components].T.astype(np.float64)
    components = project.shape[1]
    points, classes = standardized @ project, first.scores.argmax(axis=1)
    means = np.array([points[classes == each].mean(axis=0) for each in np.unique(classes)])
    within = points - means[np.searchsorted(np.unique(classes), classes)]
    covariance = within.T @ within / len(points)
    covariance = 0.9 * covariance + 0.1 * np.eye(components) * np.trace(covariance) / components  # shrunk
    inverse = np.linalg.inv(covariance)

    def score(read: Read) -> _Floats:
        found = (read.states - mean) / scale @ project
        differences = found[:, None, :] - means[None]
        return np.asarray(np.einsum("ncd,de,nce->nc", differences, inverse, differences).min(axis=1))

    return score


def word_loss(first: Read, vocabulary: int) -> Score:
    """Return the mean negative log-likelihood of the tokens under their frequencies, with one added to each."""
    counts = np.ones(vocabulary)
    for ids in first.ids:
        np.add.at(counts, ids, 1)
    losses = -np.log(counts / counts.sum())
    return lambda read: np.array([losses[ids].mean() for ids in read.ids])


def pack_loss(pack: str) -> Score:
    """Return the loss per token of a pack's forward language model."""
    model = LanguageModel(read_bundle(pack_path(pack), Kind.LANGUAGE_MODEL))
    return lambda read: np.array([model.loss(text, Direction.FORWARD) for text in read.texts])


def auroc(inside: _Floats, outside: _Floats) -> float:
    """Return the probability that a text out of scope has the higher score."""
    ranked = np.sort(inside)
    below, upto = np.searchsorted(ranked, outside, "left"), np.searchsorted(ranked, outside, "right")
    return float(((below + upto) / 2).mean() / len(inside))


def f1(inside: _Floats, outside: _Floats, threshold: float, weight: float = 1.0) -> float:
    """Return the F1 of texts out of scope if those above the threshold are called so.

    Args:
        inside: Scores of texts in scope.
        outside: Scores of texts out of scope.
        threshold: The threshold.
        weight: Weight of a text out of scope.
    """
    found, alarms = weight * (outside > threshold).sum(), (inside > threshold).sum()
    return float(2 * found / (found + alarms + weight * len(outside)))


def standardized(score: Score, part: Read) -> Score:
    """Return a score with mean 0 and standard deviation 1 on some texts, by its logarithm if it is positive."""
    values = score(part)
    scaled = np.log if values.min() > 0 else np.asarray
    center, spread = scaled(values).mean(), scaled(values).std()
    return lambda read: (scaled(np.maximum(score(read), 1e-12) if scaled is np.log else score(read)) - center) / spread


def added(parts: Sequence[Score]) -> Score:
    """Return the sum of scores."""
    return lambda read: np.sum([part(read) for part in parts], axis=0)


def main() -> None:
    """Compare the scores."""
    bundle, *files = sys.argv[1:]
    model = bothways.load(bundle)
    texts = [read_unlabeled(file, ["text"]) for file in files]
    valid, outside = (Read.of(model, each) for each in texts[:2])
    order = np.random.default_rng(0).permutation(len(valid.texts))
    first, second = valid.rows(order[: len(order) // 3]), valid.rows(order[len(order) // 3 :])
    scores: dict[str, Score] = {
        "1 - largest probability": lambda read: 1 - read.scores.max(axis=1),
        "entropy": lambda read: -(read.scores * np.log(np.maximum(read.scores, 1e-12))).sum(axis=1),
        "energy": lambda read: read.energy,
        **{f"density, {k} components": density(first, k) for k in COMPONENTS},
        **{f"nearest class, {k} components": nearest_class(first, k) for k in COMPONENTS},
        WORDS: word_loss(first, len(model.tokenizer)),
        "loss of en-small": pack_loss("en-small"),
    }
    for name in (DENSITY, WORDS, "nearest class, 32 components", "loss of en-small"):
        parts = [standardized(scores[each], second) for each in ("entropy", name)]
        scores[f"entropy + {name}"] = added(parts)
    limited = [(scores[name], np.quantile(scores[name](second), 0.99)) for name in (DENSITY, WORDS)]
    scores[DOMAIN] = lambda read: np.max([score(read) / at for score, at in limited], axis=0)
    found = {name: (score(second), score(outside)) for name, score in scores.items()}
    areas = {name: auroc(*values) for name, values in found.items()}
    print(f"{len(second.texts):,} texts in scope and {len(outside.texts):,} out of scope for the choice\n")
    print("| score | AUROC | recall at 4 % false alarms |\n|---|---|---|")
    for name, (inside_values, outside_values) in found.items():
        limit = np.quantile(inside_values, 1 - FALSE_ALARMS)
        print(f"| {name} | {areas[name]:.3f} | {(outside_values > limit).mean():.1%} |")
    if len(texts) == 4:
        report(model, [Read.of(model, each) for each in texts[2:]], scores, found, areas)


def report(
    model: Classifier,
    tested: Sequence[Read],
    scores: dict[str, Score],
    found: dict[str, tuple[_Floats, _Floats]],
    areas: dict[str, float],
) -> None:
    """Print what the best score and those of the bundle reach on the texts of the test."""
    inside, outside = tested
    weight = len(outside.texts) / len(inside.texts)
    print(f"\n{len(inside.texts):,} texts in scope and {len(outside.texts):,} out of scope of the test\n")
    print("| score | threshold of | AUROC | F1 | recall | false alarms |\n|---|---|---|---|---|---|")
    best = max(areas, key=lambda name: areas[name])
    for name in dict.fromkeys((best, "1 - largest probability", DOMAIN)):
        before, after = found[name], (scores[name](inside), scores[name](outside))
        candidates = np.unique(np.concatenate(before))
        ratio = weight * len(before[0]) / len(before[1])
        limits = {
            "best F1": float(max(candidates, key=lambda at: f1(*before, at, ratio))),
            "4 % false alarms": float(np.quantile(before[0], 1 - FALSE_ALARMS)),
        }
        for title, limit in limits.items():
            print(_row(name, title, auroc(*after), after[0] > limit, after[1] > limit))
    if model.abstention is not None:
        reasons = [[each.abstained for each in model.stream(read.texts)] for read in tested]
        flags = [np.array([reason is not None for reason in each]) for each in reasons]
        print(_row("abstention of the bundle", f"risk {model.abstention.risk:g}", float("nan"), *flags))
        flags = [np.array([reason == "out of domain" for reason in each]) for each in reasons]
        print(_row("out of domain, by the bundle", "2 % of similar texts", float("nan"), *flags))
        counts = [dict(Counter(map(str, each))) for each in reasons]
        print(f"\nReasons in scope: {counts[0]}, out of scope: {counts[1]}")


def _row(name: str, title: str, area: float, inside: NDArray[np.bool_], outside: NDArray[np.bool_]) -> str:
    value = f1(inside.astype(np.float64), outside.astype(np.float64), 0.5)
    shown = "" if np.isnan(area) else f"{area:.3f}"
    return f"| {name} | {title} | {shown} | {value:.1%} | {outside.mean():.1%} | {inside.mean():.1%} |"


if __name__ == "__main__":
    main()
