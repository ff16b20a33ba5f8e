"""Verify that a bundle reproduces its parity record on this machine.

Input: a bundle with its parity record: texts with the trainer's numbers. Output: the largest difference from them, by
direction.

Recorded decisions follow exactly from the recorded numbers, which is checked when the bundle is read. Numbers within
the limit of the recorded ones therefore give the recorded decisions, unless a probability is that close to a threshold
or a tie. Verification on another machine never fails because of such a text.

``verify_in_fresh_process`` runs this module, ``python -m bothways.runtime.verify PATH``, in a process that
cannot import torch. Every bundle is verified that way before it is published.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bothways import strict_json
from bothways.arguments import as_path, as_text, checked, optional
from bothways.bundle.hub import local_path
from bothways.bundle.manifest import LINEAR, EarlyExit, Kind, with_linear
from bothways.bundle.parity import (
    ENSEMBLE,
    LARGEST_DIFFERENCE,
    decision_of,
    recorded_first,
    recorded_linear,
    recorded_scores,
)
from bothways.bundle.read import Bundle, read_bundle, read_manifest
from bothways.errors import BothwaysError, ConfigError, ParityFailed
from bothways.processes import module_command, module_environment
from bothways.runtime.classifier import Classifier, early_exit_of
from bothways.runtime.encoder import PRECISIONS, Precision
from bothways.runtime.language_model import LanguageModel
from bothways.runtime.prediction import Prediction
from bothways.tasks.metrics import Scores
from bothways.tasks.task import largest_difference

_EARLY_EXIT = "early_exit"


@dataclass(frozen=True)
class Verification:
    """The result of verifying a bundle against its parity record.

    Attributes:
        kind: ``classifier`` or ``language-model``.
        texts: Number of texts in the parity record.
        differences: Largest absolute difference from the parity record, by direction and for the ensemble: of the
            scores for a classifier, of the loss in nats per token for a language model. ``early_exit`` compares the
            confidences that decide it, in float32 only. Infinite if the model returns NaN.
        different_tokens: Number of texts that are tokenized differently than in training.
        changed_labels: Number of texts that get other labels than recorded.
        limit: Largest difference that passes.
    """

    kind: str
    texts: int
    differences: dict[str, float]
    different_tokens: int
    changed_labels: int = 0
    limit: float = LARGEST_DIFFERENCE

    @property
    def passed(self) -> bool:
        """Whether all tokens are the recorded ones and all differences are within the limit."""
        return self.different_tokens == 0 and all(value <= self.limit for value in self.differences.values())

    @property
    def problem(self) -> str:
        """Why the bundle did not pass. Empty if it passed."""
        if self.different_tokens:
            return f"{self.different_tokens} of {self.texts} texts are tokenized differently than in training"
        worst = max(self.differences, key=lambda name: self.differences[name])
        if not self.passed:
            return (
                f"{worst} differs by {self.differences[worst]:.3g} from the parity record, "
                f"expected at most {self.limit:g}"
            )
        return ""


@checked(path=as_path, precision=as_text, key=optional(as_path))
def verify(
    path: str | os.PathLike[str], *, precision: Precision = "float32", key: str | os.PathLike[str] | None = None
) -> Verification:
    """Verify that a bundle or pack reproduces its parity record on this machine.

    Guarantee 1: predictions are the trainer's (≤ 1e-5) in another process, on another day, on another machine.

    Args:
        path: Directory of the bundle or pack, or a reference to the Hugging Face Hub (docs/hub.md).
        precision: Precision of a classifier's matrix products. In int8, differences up to 0.1 pass.
        key: PEM file with the Ed25519 public key that the bundle must be signed with. Defaults to no such check.

    Returns:
        The differences, and whether they pass.

    Raises:
        BundleUntrusted: The bundle is not signed with the key.
        BundleError: There is no bundle at the path, or it can't be read.
        HubError: The Hugging Face Hub can't be reached, or it refuses the request.
        ConfigError: The precision is unknown, or not float32 for a pack; or the key can't be read.
        DependencyMissing: A key is given, and the library cryptography is not installed.
    """
    path = local_path(path)
    manifest = read_manifest(path)
    is_classifier = manifest.kind is Kind.CLASSIFIER
    supported = PRECISIONS if is_classifier else ("float32",)
    if precision not in supported:
        raise ConfigError(f"a {manifest.kind} can't be verified in {precision}, expected {' or '.join(supported)}")
    bundle = read_bundle(path, manifest.kind, key)
    if is_classifier:
        return _of_classifier(Classifier(bundle, precision=precision), bundle, manifest.early_exit)
    differences = _language_model_differences(bundle)
    return Verification(str(manifest.kind), len(bundle.parity_record), differences, _different_tokens(bundle))


def load_verified(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    early_exit: bool = False,
    precision: Precision = "float32",
    key: str | os.PathLike[str] | None = None,
) -> tuple[Classifier, Verification]:
    """Load the classifier in a bundle and verify this very object.

    Args:
        path: Directory of the bundle.
        threads: Number of threads, 1 or more. Defaults to one per core available to this process.
        early_exit: Whether to use the early exit of the bundle. Predictions without it are verified as well.
        precision: Precision of the matrix products.
        key: PEM file with the Ed25519 public key that the bundle must be signed with. Defaults to no such check.

    Returns:
        The classifier, and the result of verifying it.

    Raises:
        BundleUntrusted: The bundle is not signed with the key.
        BundleError: There is no classifier at the path, or it can't be read.
        ConfigError: The bundle has no early exit, or the key can't be read.
    """
    bundle = read_bundle(path, Kind.CLASSIFIER, key)
    chosen = early_exit_of(bundle) if early_exit else None
    model = Classifier(bundle, threads, chosen, precision, key)
    model.early_exit = None
    verification = _of_classifier(model, bundle, chosen)
    model.early_exit = chosen
    return model, verification


def _of_classifier(model: Classifier, bundle: Bundle, early_exit: EarlyExit | None) -> Verification:
    """Verify a classifier that was made without early exit, and then with ``early_exit`` if it is given."""
    manifest, task, rows = bundle.manifest, model.task, bundle.parity_record
    predictions = list(model.stream(bundle.parity_texts))
    names = [*manifest.scored_by, ENSEMBLE]
    found = {name: np.array([prediction.scores[name] for prediction in predictions]) for name in names}
    differences = {name: task.difference(found[name], recorded_scores(rows, name, task)) for name in names}
    is_changed = [
        decision_of(task.decide(scores)) != row.decision for scores, row in zip(found[ENSEMBLE], rows, strict=True)
    ]
    if early_exit is not None and model.precision == "float32":
        differences[_EARLY_EXIT], is_changed_early = _of_early_exit(model, bundle, early_exit, predictions)
        is_changed = [either or early for either, early in zip(is_changed, is_changed_early, strict=True)]
    return Verification(
        str(manifest.kind),
        len(rows),
        differences,
        _different_tokens(bundle),
        sum(is_changed),
        LARGEST_DIFFERENCE if model.precision == "float32" else task.max_int8_difference,
    )


def _of_early_exit(
    model: Classifier, bundle: Bundle, early_exit: EarlyExit, whole: Sequence[Prediction]
) -> tuple[float, list[bool]]:
    """Predict with early exit.

    Args:
        model: The classifier, without early exit.
        bundle: Its bundle.
        early_exit: That of the bundle.
        whole: The predictions of both directions.

    Returns:
        The largest difference of the probabilities by which the linear member and the first direction decide whether
        they are enough, and for each row whether its labels are not the recorded ones.
    """
    task, rows = model.task, bundle.parity_record
    model.early_exit = early_exit
    predictions = list(model.stream(bundle.parity_texts))
    model.early_exit = None
    first = [
        found.scores[ENSEMBLE]
        if found.read == early_exit.first
        else task.with_temperature(_of_first(both, bundle, early_exit), early_exit.temperature)
        for found, both in zip(predictions, whole, strict=True)
    ]
    difference = task.difference(np.array(first), recorded_first(rows, task))
    if early_exit.linear is not None:
        temperature = early_exit.linear.temperature
        alone = [
            found.scores[ENSEMBLE] if found.read == LINEAR else task.with_temperature(found.scores[LINEAR], temperature)
            for found in predictions
        ]
        difference = max(difference, task.difference(np.array(alone), recorded_linear(rows, task)))
    is_changed = [
        row.early_exit is None or decision_of(task.decide(found.scores[ENSEMBLE])) != row.early_exit.decision
        for found, row in zip(predictions, rows, strict=True)
    ]
    return difference, is_changed


def _of_first(found: Prediction, bundle: Bundle, early_exit: EarlyExit) -> Scores:
    """Return the scores by which early exit decides, before its temperature."""
    manifest = bundle.manifest
    return with_linear(manifest.decisions, manifest.linear, found.scores[early_exit.first], found.scores.get(LINEAR))


def _different_tokens(bundle: Bundle) -> int:
    return sum(
        bundle.tokenizer.tokenize(text).ids.tolist() != row.ids
        for text, row in zip(bundle.parity_texts, bundle.parity_record, strict=True)
    )


def _language_model_differences(bundle: Bundle) -> dict[str, float]:
    model = LanguageModel(bundle)
    found = {d: np.array([model.loss(text, d) for text in bundle.parity_texts]) for d in bundle.manifest.directions}
    expected = {d: np.array([(row.loss or {})[d] for row in bundle.parity_record]) for d in bundle.manifest.directions}
    return {str(d): largest_difference(found[d], expected[d]) for d in bundle.manifest.directions}


def verify_in_fresh_process(path: Path) -> None:
    """Verify a bundle or pack in a new process that cannot import torch.

    Args:
        path: Directory of the bundle or pack.

    Raises:
        ParityFailed: The bundle can't be read, or it does not reproduce its parity record.
    """
    command = module_command("bothways.runtime.verify", str(path))
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env=module_environment())
    try:
        result = json.loads(finished.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        result = {"passed": False, "problem": finished.stderr.strip()[-500:] or f"exit status {finished.returncode}"}
    if finished.returncode != 0 or not result["passed"]:
        raise ParityFailed(
            "the bundle does not reproduce its parity record in a fresh process and was not published: "
            f"{result['problem']}"
        )


def _main(path: str) -> int:
    for name in ("torch", "spacy"):
        sys.modules[name] = None  # type: ignore[assignment]  # importing it raises ImportError from now on
    try:
        result = verify(path)
    except BothwaysError as error:
        sys.stdout.write(strict_json.dump({"passed": False, "problem": str(error)}) + "\n")
        return 1
    report = {**asdict(result), "passed": result.passed, "problem": result.problem}
    report["differences"] = {name: d if math.isfinite(d) else None for name, d in result.differences.items()}
    sys.stdout.write(strict_json.dump(report) + "\n")
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
