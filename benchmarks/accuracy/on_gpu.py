"""Predict with a bundle on a GPU, through the trainer's modules: for test splits that a CPU would take long to read.

In: a bundle, texts. Out: probabilities by model, in float32, as the runtime gives them on a CPU; the bundle's proof has
shown that both compute the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from benchmarks.accuracy.measures import Probabilities
from benchmarks.accuracy.outcomes import ENSEMBLE

from bothways.bundle.manifest import Kind
from bothways.bundle.read import read_bundle
from bothways.data.tokenizing import tokenize_all
from bothways.runtime.classifier import with_temperature
from bothways.runtime.cores import available_cores
from bothways.training.building import build_classifier, build_language_model
from bothways.training.classifier import class_probabilities
from bothways.training.objective import MultiLabel, Objective, SingleLabel
from bothways.training.recipe import ClassifierRecipe

_TOKENS_AT_ONCE = 65_536


def probabilities(path: Path, texts: Sequence[str]) -> dict[str, Probabilities]:
    """Give the probabilities of each text's classes by each direction, and by their calibrated mean."""
    bundle = read_bundle(path, Kind.CLASSIFIER)
    manifest = bundle.manifest
    objective: Objective = MultiLabel() if manifest.task == "multi-label" else SingleLabel()
    orders = [(member.direction, member.markers) for member in manifest.members]
    tokens = list(tokenize_all(bundle.tokenizer, texts, orders, available_cores()))
    torch.backends.cudnn.allow_tf32 = False
    found: dict[str, Probabilities] = {}
    for number, member in enumerate(manifest.members):
        assert member.widths_head is not None
        recipe = ClassifierRecipe(batch_tokens=_TOKENS_AT_ONCE, width_head=member.widths_head[0])
        language_model = build_language_model(member.architecture, member.direction, 0)
        model = build_classifier(language_model, member.direction, len(manifest.labels), recipe, 0)
        weights = bundle.weights[member.direction]
        missing, surplus = model.load_state_dict(
            {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}, strict=False
        )
        assert not surplus
        assert all(name.endswith("num_batches_tracked") for name in missing), missing
        ids = [of_text[number] for of_text in tokens]
        found[str(member.direction)] = class_probabilities(model.cuda(), ids, objective, recipe)
    mean = np.mean(list(found.values()), axis=0)
    assert manifest.calibration is not None
    assert manifest.task is not None
    found[ENSEMBLE] = with_temperature(mean, manifest.calibration.temperature, task=manifest.task)
    return found
