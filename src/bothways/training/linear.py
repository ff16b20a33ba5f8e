"""Fit the linear member of a classifier, and choose its weight in the ensemble. Or score every text out of fold.

In: training and validation texts with their targets, and the directions' scores of the validation texts. Out: the
member with its arrays. Scores out of fold need labeled texts and their groups only. Fitting is scikit-learn's. All
values are computed by the functions that compute them at run time.

Letters: N texts, F n-grams, C outputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways.bundle.manifest import LINEAR_FILE, LinearMember
from bothways.bundle.weights import CHARACTERS, LINEAR_BIAS, LINEAR_IDF, LINEAR_WEIGHT, WORDS, LinearWeights
from bothways.runtime.linear import KnownNgrams, LinearModel
from bothways.tasks.metrics import Scores
from bothways.tasks.task import Targets, Task
from bothways.terminal import OnProgress, ignore_progress, reported
from bothways.text.fields import Text
from bothways.text.ngrams import Hashes, Ngrams, ngrams_of

_STRENGTHS = (4.0, 16.0, 64.0)
"""Values of C, the inverse of the strength of regularization, from strong to weak."""
_WEIGHTS = tuple(number / 10 for number in range(11))
"""Weights of the linear member that are compared."""
_EQUAL = 0.5
_PRIOR_NATS = 1.0
"""How much a weight of 0 or 1 must reduce the loss of all validation texts together, compared with equal weights."""
_MANY_TEXTS = 1_000
"""From this number of texts on, n-grams that only one of them has are left out."""
_TOLERANCE, _TOLERANCE_OUT_OF_FOLD = 1e-4, 1e-2
"""Of liblinear. The larger one halves the time of a fit, and changes probabilities by less than 0.001."""
_LEAST_SHARE = 1e-3
"""Smaller probabilities of soft labels, or of their complement, are left out."""
_MOST_WEIGHTS = 8_000_000
_MOST_NGRAMS = 300_000
"""Largest number of n-grams, or fewer where there are many outputs: the most frequent ones are kept."""
_MOST_VALUES = 40_000_000
"""Largest number of values of all texts together. If there are more, only some of the texts are fitted to."""


@dataclass(frozen=True, eq=False)
class TrainedLinear:
    """A linear member.

    Attributes:
        member: Its entry in the manifest.
        arrays: Its arrays.
        model: The same in memory.
        validation: Its scores of the validation texts, (N, C).
    """

    member: LinearMember
    arrays: LinearWeights
    model: LinearModel
    validation: Scores


def fit_linear(
    texts: Sequence[Text],
    targets: Targets,
    weights: NDArray[np.float64] | None,
    class_weights: Sequence[float] | None,
    valid_texts: Sequence[Text],
    valid_targets: Targets,
    directions: Scores,
    task: Task,
    seed: int,
) -> TrainedLinear | None:
    """Return the linear member with the lowest loss of the ensemble on the validation texts.

    Guarantee 9: the loss of the calibrated ensemble on all validation rows together is at most one nat above that of
    the member alone, and at most one nat above that of the directions alone.

    Regularization and weight are chosen together. The loss has a small penalty for weights far from equal ones, which
    only matters for few validation texts.

    Args:
        texts: Training texts.
        targets: Their targets.
        weights: The weight of each of them, (N,), or None.
        class_weights: Weight of each label in the loss, (C,), or None.
        valid_texts: Validation texts.
        valid_targets: Their targets.
        directions: The mean of the directions' scores of the validation texts, (N, C).
        task: The task, fitted to the training rows.
        seed: Random seed of the solver.

    Returns:
        The member; None if the ensemble is better without it.
    """
    features, read = _features(texts, task.outputs, seed)
    if not len(features.idf):
        return None
    kept = np.array(sorted(read))
    matrix = _matrix(features, (read.pop(number) for number in kept))
    wanted, importance = task.one_vs_rest_targets(targets)[kept], np.ones((len(kept), task.outputs))
    if class_weights is not None:
        importance *= task.one_vs_rest_weights(targets, class_weights)[kept]
    if weights is not None:
        importance *= weights[kept, None]
    valid = [ngrams_of(text) for text in valid_texts]
    least, weight, best = np.inf, 0.0, None
    for strength in _STRENGTHS:
        arrays = _fitted(matrix, wanted, importance, features, strength, seed, task.learns_probabilities)
        model = LinearModel(arrays, task)
        scores = np.array([model.scores_of(ngrams) for ngrams in valid])
        for tried in _WEIGHTS:
            loss = _loss(task, directions, scores, tried, valid_targets)
            if loss < least:
                least, weight, best = loss, tried, (arrays, model, scores)
    if best is None or not weight:
        return None
    words, characters = len(features.words), len(features.characters)
    return TrainedLinear(LinearMember(weights=LINEAR_FILE, words=words, characters=characters, weight=weight), *best)


def out_of_fold_scores(
    texts: Sequence[Text],
    targets: Targets,
    groups: Sequence[str],
    task: Task,
    folds: int,
    seed: int,
    on_progress: OnProgress = ignore_progress,
) -> Scores:
    """Return scores of each text by a linear member that is fitted to the other folds, (N, C).

    Args:
        texts: Labeled texts.
        targets: Their targets.
        groups: The group of each text. Texts of a group are in the same fold.
        task: The task, fitted to the texts.
        folds: Number of folds, at least 2.
        seed: Random seed of the folds and of the solver.
        on_progress: Called with a stage, and how much of it is done and in total.
    """
    features, read = _features(texts, task.outputs, seed, on_progress)
    scores = np.zeros((len(texts), task.outputs))
    if not len(features.idf):
        return np.full_like(scores, 1 / task.outputs)
    is_kept, wanted = np.zeros(len(texts), dtype=np.bool_), task.one_vs_rest_targets(targets)
    is_kept[[*read]] = True
    every = (read.pop(number) if is_kept[number] else ngrams_of(text) for number, text in enumerate(texts))
    matrix = _matrix(features, reported(every, "weighting n-grams", len(texts), on_progress))
    fold = _folds(wanted, groups, folds, seed)
    for number in range(folds):
        rows, held = np.flatnonzero((fold != number) & is_kept), np.flatnonzero(fold == number)
        equal = np.ones((len(rows), task.outputs))

        def on_output(done: int, before: int = number * task.outputs) -> None:
            on_progress("fitting linear models", before + done, folds * task.outputs)

        arrays = _fitted(
            matrix[rows],
            wanted[rows],
            equal,
            features,
            _STRENGTHS[0],
            seed,
            task.learns_probabilities,
            _TOLERANCE_OUT_OF_FOLD,
            on_output,
        )
        outputs = matrix[held] @ arrays[LINEAR_WEIGHT].astype(np.float64) + arrays[LINEAR_BIAS].astype(np.float64)
        scores[held] = task.activation(task.one_vs_rest_logits(outputs))
    return scores


def _folds(
    wanted: NDArray[np.bool_] | NDArray[np.float64], groups: Sequence[str], folds: int, seed: int
) -> NDArray[np.intp]:
    """Return the fold of each text, (N,). Groups with the same labels are dealt out evenly."""
    _, first, group = np.unique(np.array(groups, dtype=object), return_index=True, return_inverse=True)
    _, labels = np.unique(wanted[first], axis=0, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(first))
    in_order = shuffled[np.argsort(labels.ravel()[shuffled], kind="stable")]
    fold = np.empty(len(first), dtype=np.intp)
    fold[in_order] = np.arange(len(first)) % folds
    return fold[group.ravel()]


def _loss(task: Task, directions: Scores, linear: Scores, weight: float, targets: Targets) -> float:
    """Return the loss of all validation texts with a weight, plus the penalty of that weight."""
    mixed = task.mixed(directions, linear, weight)
    calibrated = task.with_temperature(mixed, task.calibrated(mixed, targets).temperature)
    loss = task.epoch_metrics(calibrated, targets)["loss"]
    return len(targets) * loss + _PRIOR_NATS * ((weight - _EQUAL) / _EQUAL) ** 2


def _features(
    texts: Sequence[Text], outputs: int, seed: int, on_progress: OnProgress = ignore_progress
) -> tuple[KnownNgrams, dict[int, Ngrams]]:
    """Return the n-grams to know, and the n-grams of the texts to fit to by their numbers."""
    order = np.random.default_rng(seed).permutation(len(texts)).tolist()
    read, values = dict[int, Ngrams](), 0
    for number in reported(order, "reading n-grams", len(order), on_progress):
        read[number] = ngrams = ngrams_of(texts[number])
        values += len(ngrams.words.hashes) + len(ngrams.characters.hashes)
        if values > _MOST_VALUES:
            break
    kept, least = len(read), 2 if len(read) >= _MANY_TEXTS else 1
    word_hashes, word_counts = _frequent((ngrams.words.hashes for ngrams in read.values()), least)
    character_hashes, character_counts = _frequent((ngrams.characters.hashes for ngrams in read.values()), least)
    counts = np.concatenate([word_counts, character_counts])
    most = min(_MOST_NGRAMS, _MOST_WEIGHTS // outputs)
    if len(counts) > most:
        is_kept = np.zeros(len(counts), dtype=np.bool_)
        is_kept[np.argsort(-counts, kind="stable")[:most]] = True
        of_words, of_characters = np.split(is_kept, [len(word_hashes)])
        word_hashes, character_hashes, counts = word_hashes[of_words], character_hashes[of_characters], counts[is_kept]
    idf = (np.log((1 + kept) / (1 + counts)) + 1).astype(np.float16)
    return KnownNgrams(word_hashes, character_hashes, idf), read


def _frequent(of_texts: Iterable[Hashes], least: int) -> tuple[Hashes, NDArray[np.int64]]:
    """Return the hashes that at least this many texts have, in rising order, and the number of texts that have each."""
    hashes, counts = np.unique(np.concatenate([np.zeros(0, np.uint32), *of_texts]), return_counts=True)
    return hashes[counts >= least], counts[counts >= least].astype(np.int64)


def _matrix(features: KnownNgrams, texts: Iterable[Ngrams]) -> Any:
    """Return the values of texts with these n-grams as a sparse matrix, (N, F)."""
    from scipy import sparse  # noqa: PLC0415  (takes a second to import)

    places, values, ends = [np.zeros(0, np.int32)], [np.zeros(0)], [0]
    for ngrams in texts:
        at, of_text = features.row(ngrams)
        places.append(at.astype(np.int32))
        values.append(of_text)
        ends.append(ends[-1] + len(at))
    shape = (len(ends) - 1, len(features.idf))
    return sparse.csr_matrix((np.concatenate(values), np.concatenate(places), np.array(ends)), shape=shape)


def _fitted(
    matrix: Any,
    wanted: NDArray[np.bool_] | NDArray[np.float64],
    importance: NDArray[np.float64],
    features: KnownNgrams,
    strength: float,
    seed: int,
    learns_probabilities: bool,
    tolerance: float = _TOLERANCE,
    on_output: Callable[[int], object] = lambda done: None,
) -> LinearWeights:
    """Return the arrays of a member that is fitted to each output on its own, with a weight per text and output."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415  (takes a second to import)
    from sklearn.linear_model import LogisticRegression, Ridge  # noqa: PLC0415

    weight, bias = np.zeros((len(features.idf), wanted.shape[1])), np.zeros(wanted.shape[1])
    for output, of_output in enumerate(wanted.T):
        on_output(output)
        if learns_probabilities and wanted.shape[1] == 2 and output == 1 and np.allclose(wanted.sum(axis=1), 1):
            weight[:, 1], bias[1] = -weight[:, 0], -bias[0]
            continue
        if learns_probabilities and of_output.min() == of_output.max():  # a label that no text has, or all
            bias[output] = np.log((of_output.sum() + 0.5) / (len(of_output) - of_output.sum() + 0.5))
            continue
        rows, learned, of_rows = matrix, of_output, importance[:, output]
        if learns_probabilities:
            if wanted.dtype != np.bool_:
                rows, learned, of_rows = _with_both_answers(matrix, of_output, of_rows)
            model = LogisticRegression(
                C=strength, solver="liblinear", dual=True, tol=tolerance, max_iter=1000, random_state=seed
            )
        else:
            model = Ridge(alpha=1 / strength, solver="lsqr")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(rows, learned, sample_weight=of_rows)
        weight[:, output], bias[output] = model.coef_.ravel(), np.ravel(model.intercept_)[0]
    return {
        WORDS: features.words,
        CHARACTERS: features.characters,
        LINEAR_IDF: features.idf,
        LINEAR_WEIGHT: weight.astype(np.float16),
        LINEAR_BIAS: bias.astype(np.float32),
    }


def _with_both_answers(
    matrix: Any, shares: NDArray[np.float64], importance: NDArray[np.float64]
) -> tuple[Any, NDArray[np.bool_], NDArray[np.float64]]:
    """Return rows, answers and weights so that the loss is the cross-entropy to probabilities.

    A text with a probability between 0 and 1 becomes two rows: one that has the label and one that does not.

    Args:
        matrix: Values of texts, (N, F).
        shares: Probability of the label, (N,).
        importance: Weight of each text, (N,).
    """
    from scipy import sparse  # noqa: PLC0415  (takes a second to import)

    present, absent = (np.flatnonzero(of > _LEAST_SHARE) for of in (shares, 1 - shares))
    answers = np.arange(len(present) + len(absent)) < len(present)
    weights = np.concatenate([(importance * shares)[present], (importance * (1 - shares))[absent]])
    return sparse.vstack([matrix[present], matrix[absent]], format="csr"), answers, weights
