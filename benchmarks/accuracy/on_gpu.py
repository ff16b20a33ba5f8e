"""Predict with a bundle on a GPU, with the training modules, for test splits that take long on a CPU.

Input: a bundle and texts. Output: probabilities per model, in float32. They match those of the runtime on a CPU, as
verified with the bundle's parity record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from benchmarks.accuracy.metrics import Probabilities
from benchmarks.accuracy.outcomes import ENSEMBLE

from bothways.bundle.manifest import Kind, Member
from bothways.bundle.read import Bundle, read_bundle
from bothways.data.tokenization import tokenize_all
from bothways.nn.classifier import ClassifierNetwork
from bothways.runtime.cores import available_cores
from bothways.training.classifier import class_scores
from bothways.training.hyperparameters import ClassifierConfig
from bothways.training.models import build_classifier, build_language_model
from bothways.training.objective import objective_of

_CONFIG = ClassifierConfig(max_batch_tokens=65_536)
"""Prediction uses only the batch size."""


def gpu_predictor(path: Path) -> Callable[[Sequence[str]], dict[str, Probabilities]]:
    """Return a function that predicts with a bundle: probabilities of each direction, and of their calibrated mean."""
    bundle = read_bundle(path, Kind.CLASSIFIER)
    manifest = bundle.manifest
    task = manifest.decisions
    objective = objective_of(task)
    orders = [(member.direction, member.special_tokens) for member in manifest.members]
    models = {member.direction: _model(bundle, member).cuda() for member in manifest.members}
    torch.backends.cudnn.allow_tf32 = False

    def predict(texts: Sequence[str]) -> dict[str, Probabilities]:
        tokens = list(tokenize_all(bundle.tokenizer, texts, orders, available_cores()))
        found = {
            str(direction): class_scores(model, [of_text[number] for of_text in tokens], objective, _CONFIG)
            for number, (direction, model) in enumerate(models.items())
        }
        mean = np.mean(list(found.values()), axis=0)
        return {**found, ENSEMBLE: task.with_temperature(mean, task.temperature)}

    return predict


def _model(bundle: Bundle, member: Member) -> ClassifierNetwork:
    """Return a member as a training module. A bundle lacks only the batch counts, which prediction does not use."""
    assert member.widths_head is not None
    config = ClassifierConfig(head_size=member.widths_head[0])
    language_model = build_language_model(member.architecture, member.direction, 0)
    model = build_classifier(language_model, member.direction, bundle.manifest.outputs, config, 0)
    arrays = bundle.weights[member.direction]
    counts = {name: count for name, count in model.state_dict().items() if name.endswith("num_batches_tracked")}
    model.load_state_dict({**counts, **{name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}})
    return model
