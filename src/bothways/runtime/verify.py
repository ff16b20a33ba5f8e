"""Replay a bundle's proof on this machine: does it give the trainer's numbers?

In: a bundle. Out: the largest difference for each direction. Run as ``python -m bothways.runtime.verify PATH`` it does
so in a process that can't import torch, and prints one line of JSON; that is how a bundle is checked before it is
published.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bothways import strict_json
from bothways.bundle.manifest import Kind
from bothways.bundle.parity import ENSEMBLE, LARGEST_DIFFERENCE, recorded_scores
from bothways.bundle.read import Bundle, read_bundle, read_manifest
from bothways.errors import BothwaysError, ConfigError
from bothways.runtime.classifier import LARGEST_INT8_DIFFERENCE, Classifier, early_exit_of
from bothways.runtime.graph import PRECISIONS, Precision
from bothways.runtime.language_model import LanguageModel
from bothways.tasks.task import largest_difference


@dataclass(frozen=True)
class Verification:
    """The outcome of a replay.

    Attributes:
        kind: ``classifier`` or ``language-model``.
        texts: How many texts were replayed.
        differences: The largest absolute difference against the trainer's numbers, by direction and for the ensemble:
            of probabilities for a classifier, of the loss in nats a token for a language model. Infinite if a model
            gives something that is no number.
        different_tokens: Texts whose tokens are not the trainer's.
        changed_labels: Texts that get other labels than the trainer's probabilities give them.
        limit: The largest difference allowed.
    """

    kind: str
    texts: int
    differences: dict[str, float]
    different_tokens: int
    changed_labels: int = 0
    limit: float = LARGEST_DIFFERENCE

    @property
    def passed(self) -> bool:
        """Whether every number is the trainer's."""
        return self.different_tokens == 0 and all(value <= self.limit for value in self.differences.values())

    @property
    def problem(self) -> str:
        """What is wrong, empty if nothing is."""
        if self.different_tokens:
            return f"{self.different_tokens} of {self.texts} texts become other tokens than in training"
        worst = max(self.differences, key=lambda name: self.differences[name])
        if not self.passed:
            return f"{worst} differs by {self.differences[worst]:.3g} from the trainer, allowed are {self.limit:g}"
        return ""


def verify(path: str | os.PathLike[str], *, precision: Precision = "float32") -> Verification:
    """Replay the proof of a bundle or pack.

    Guarantee 1: probabilities are the trainer's (≤ 1e-5) in another process, on another day, on another machine.

    Args:
        path: Its directory.
        precision: In which a classifier multiplies its weights; with int8, differences up to 0.1 are allowed.

    Raises:
        BundleError: There is no bundle at the path, or it can't be read.
        ConfigError: The precision is unknown, or isn't float32 for a pack.
    """
    manifest, _ = read_manifest(Path(path))
    is_classifier = manifest.kind is Kind.CLASSIFIER
    if precision not in PRECISIONS or (precision != "float32" and not is_classifier):
        raise ConfigError(f"a {manifest.kind} can't be verified in {precision}")
    bundle = read_bundle(path, manifest.kind)
    if is_classifier:
        return _of_classifier(Classifier(bundle, precision=precision), bundle)
    differences = _language_model_differences(bundle)
    return Verification(str(manifest.kind), len(bundle.parity_record), differences, _different_tokens(bundle))


def load_verified(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    early_exit: bool = False,
    precision: Precision = "float32",
) -> tuple[Classifier, Verification]:
    """Return the classifier in a bundle, and what the replay of its proof by this very object found.

    Args:
        path: The bundle's directory.
        threads: To compute with, 1 or more; else one for each core that this process may use.
        early_exit: Whether one direction is enough where it is sure; the proof is replayed by both.
        precision: In which weights are multiplied.

    Raises:
        BundleError: There is no classifier at the path, or it can't be read.
        ConfigError: The bundle has no cascade.
    """
    bundle = read_bundle(path, Kind.CLASSIFIER)
    chosen = early_exit_of(bundle) if early_exit else None
    model = Classifier(bundle, threads, chosen, precision)
    model.early_exit = None
    verification = _of_classifier(model, bundle)
    model.early_exit = chosen
    return model, verification


def _of_classifier(model: Classifier, bundle: Bundle) -> Verification:
    manifest, task = bundle.manifest, model.task
    predictions = list(model.stream(row.text for row in bundle.parity_record))
    names = [*map(str, manifest.directions), ENSEMBLE]
    found = {name: np.array([prediction.scores[name] for prediction in predictions]) for name in names}
    recorded = {name: recorded_scores(bundle.parity_record, name, task) for name in names}
    return Verification(
        str(manifest.kind),
        len(bundle.parity_record),
        {name: task.difference(found[name], recorded[name]) for name in names},
        _different_tokens(bundle),
        sum(
            task.decide(ours).chosen != task.decide(theirs).chosen
            for ours, theirs in zip(found[ENSEMBLE], recorded[ENSEMBLE], strict=True)
        ),
        LARGEST_DIFFERENCE if model.precision == "float32" else LARGEST_INT8_DIFFERENCE,
    )


def _different_tokens(bundle: Bundle) -> int:
    return sum(bundle.tokenizer.tokenize(row.text).ids.tolist() != row.ids for row in bundle.parity_record)


def _language_model_differences(bundle: Bundle) -> dict[str, float]:
    model = LanguageModel(bundle)
    found = {d: np.array([model.loss(row.text, d) for row in bundle.parity_record]) for d in bundle.manifest.directions}
    expected = {d: np.array([(row.loss or {})[d] for row in bundle.parity_record]) for d in bundle.manifest.directions}
    return {str(d): largest_difference(found[d], expected[d]) for d in bundle.manifest.directions}


def _main(path: str) -> int:
    for name in ("torch", "spacy"):
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it fails from here on
    try:
        result = verify(path)
    except BothwaysError as error:
        sys.stdout.write(strict_json.dump({"passed": False, "problem": str(error)}) + "\n")
        return 1
    told = {**asdict(result), "passed": result.passed, "problem": result.problem}
    told["differences"] = {name: d if math.isfinite(d) else None for name, d in result.differences.items()}
    sys.stdout.write(strict_json.dump(told) + "\n")
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
