"""Make tiny two-direction bundles and packs without training, and change what they hold.

The models are random, but everything else is real: they live in torch, prove themselves, and are published by
``write_bundle``, which replays the proof in a process of its own.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

import bothways
from bothways.bundle.manifest import MANIFEST_FILE, Architecture, Kind, Member, TrainingRecord
from bothways.bundle.proof import ENSEMBLE, ProofRow
from bothways.bundle.weights import read_weights, write_weights
from bothways.bundle.write import write_bundle
from bothways.nn.awd_lstm import LanguageModel
from bothways.nn.classifier import Classifier
from bothways.text.reading import Direction, MarkerPlacement, read
from bothways.text.tokenizer import Tokenizer
from bothways.training.building import (
    build_classifier,
    build_language_model,
    derived_seed,
    prove_classifiers,
    prove_language_models,
    weights_of,
)
from bothways.training.recipe import load_recipe

LABELS = ["bad", "good", "so-so"]
WIDTH_EMBEDDING, WIDTH_HIDDEN, LAYERS, WIDTH_HEAD = 16, 24, 2, 8
SEED = 5
RECORD = TrainingRecord(bothways_version=bothways.__version__, seed=SEED, size="tiny", text_column="text")
FILES = [MANIFEST_FILE, "README.md", "backward.safetensors", "forward.safetensors", "proof.jsonl", "tokenizer.json"]

Probabilities = NDArray[np.float64]
Change = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class TinyClassifiers:
    """A classifier a direction in torch's memory, and what belongs to them."""

    models: dict[Direction, Classifier]
    members: list[Member]
    tokenizer: Tokenizer

    @functools.cached_property
    def proof(self) -> list[ProofRow]:
        """The proof's rows, made once."""
        torch.set_num_threads(1)
        return prove_classifiers(self.models, self.members, LABELS, self.tokenizer, SEED)

    @torch.no_grad()
    def probabilities(self, texts: list[str], *, swapped: bool = False) -> dict[str, Probabilities]:
        """Give torch's numbers, (N, C) each: every text read at once and alone; swapped reads it the wrong way."""
        torch.set_num_threads(1)  # several wait for each other most of the time with models as small as these
        result: dict[str, Probabilities] = {}
        for member in self.members:
            rows = []
            for text in texts:
                way = _other(member.direction) if swapped else member.direction
                ids = torch.from_numpy(read(self.tokenizer.tokenize(text), way, member.markers).astype(np.int64))
                logits, _, _ = self.models[member.direction](ids[None], torch.tensor([len(ids)]))
                rows.append(functional.softmax(logits[0].double(), dim=0).numpy())
            result[str(member.direction)] = np.array(rows)
        result[ENSEMBLE] = np.mean([result[str(member.direction)] for member in self.members], axis=0)
        return result


@dataclass(frozen=True)
class TinyLanguageModels:
    """A language model a direction in torch's memory, and what belongs to them."""

    models: dict[Direction, LanguageModel]
    members: list[Member]
    tokenizer: Tokenizer

    @functools.cached_property
    def proof(self) -> list[ProofRow]:
        """The proof's rows, made once."""
        torch.set_num_threads(1)
        return prove_language_models(self.models, self.members, self.tokenizer, SEED)


def make_classifiers(
    tokenizer: Tokenizer, placements: Mapping[Direction, MarkerPlacement], labels: int = len(LABELS)
) -> TinyClassifiers:
    """Give random classifiers whose numbers depend on every token and on the order of tokens."""
    torch.set_num_threads(1)
    recipe = load_recipe("tiny").classifier.model_copy(update={"width_head": WIDTH_HEAD})
    members = [
        make_member(direction, tokenizer, placement, [WIDTH_HEAD]) for direction, placement in placements.items()
    ]
    models = {}
    for member in members:
        model = build_classifier(_language_model(member), member.direction, labels, recipe, SEED)
        _randomise(model, derived_seed(SEED, member.direction))
        _settle_norms(model)
        models[member.direction] = model.eval()
    return TinyClassifiers(models, members, tokenizer)


def make_language_models(tokenizer: Tokenizer, placements: Mapping[Direction, MarkerPlacement]) -> TinyLanguageModels:
    members = [make_member(direction, tokenizer, placement, None) for direction, placement in placements.items()]
    models = {}
    for member in members:
        models[member.direction] = _language_model(member)
        _randomise(models[member.direction], derived_seed(SEED, member.direction))
    return TinyLanguageModels(models, members, tokenizer)


def make_member(
    direction: Direction, tokenizer: Tokenizer, placement: MarkerPlacement, widths_head: list[int] | None
) -> Member:
    architecture = Architecture(
        vocabulary_size=len(tokenizer),
        width_embedding=WIDTH_EMBEDDING,
        width_hidden=WIDTH_HIDDEN,
        layers=LAYERS,
    )
    weights: Any = f"{direction}.safetensors"
    return Member(
        direction=direction, markers=placement, weights=weights, architecture=architecture, widths_head=widths_head
    )


def write_classifiers(path: Path, tiny: TinyClassifiers, labels: list[str] | None = None) -> None:
    labels = labels or LABELS
    write_bundle(
        path,
        kind=Kind.CLASSIFIER,
        labels=labels,
        members=tiny.members,
        weights={m.direction: weights_of(tiny.models[m.direction], m, len(labels)) for m in tiny.members},
        tokenizer=tiny.tokenizer,
        proof=tiny.proof,
        training=RECORD,
    )


def write_pack(path: Path, tiny: TinyLanguageModels) -> None:
    write_bundle(
        path,
        kind=Kind.LANGUAGE_MODEL,
        labels=[],
        members=tiny.members,
        weights={m.direction: weights_of(tiny.models[m.direction], m, 0) for m in tiny.members},
        tokenizer=tiny.tokenizer,
        proof=tiny.proof,
        training=RECORD,
    )


def edit_manifest(bundle: Path, change: Change) -> None:
    """Change what the manifest says, as one who knows the format would."""
    path = bundle / MANIFEST_FILE
    fields = json.loads(path.read_bytes())
    change(fields)
    path.write_text(json.dumps(fields))


def replace_file(bundle: Path, name: str, data: bytes) -> None:
    """Put other bytes under a name and record their size and digest, so that only their content can give them away."""
    (bundle / name).write_bytes(data)
    record = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(bundle, lambda fields: fields["files"].update({name: record}))


def edit_json(bundle: Path, name: str, change: Change) -> None:
    """Change a JSON document and record its new digest."""
    fields = json.loads((bundle / name).read_bytes())
    change(fields)
    replace_file(bundle, name, json.dumps(fields).encode())


def edit_weights(bundle: Path, name: str, change: Callable[[dict[str, NDArray[np.float32]]], object]) -> None:
    """Change a member's arrays in place and record the file's new digest."""
    arrays = tensors(bundle / name)
    change(arrays)
    replace_file(bundle, name, write_weights(arrays))


def tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Give all arrays of a safetensors file."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    shapes = {name: tuple(entry["shape"]) for name, entry in json.loads(data[8 : 8 + size]).items()}
    return read_weights(data, shapes, str(path))


def run_python(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh Python that finds this package."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=python_environment(),
        **options,
    )


def python_environment() -> dict[str, str]:
    """Give an environment in which a fresh Python finds this package."""
    source = str(Path(bothways.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": source}


def _language_model(member: Member) -> LanguageModel:
    seed = derived_seed(SEED, member.direction, "build")
    return build_language_model(member.architecture, member.direction, None, seed, torch.device("cpu"))


@torch.no_grad()
def _randomise(model: nn.Module, seed: int) -> None:
    """Give every parameter a value large enough to show in the numbers."""
    chance = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(model.named_parameters(), key=lambda named: _place(named[0])):
        parameter.normal_(0, 0.4, generator=chance)


def _place(parameter: str) -> tuple[int, str]:
    """Give the place at which a parameter gets its values; with others, the classes would differ in too few texts."""
    head = ["head.layers.0", "head.norms.1", "head.norms.0", "head.layers.1"]
    return next((place for place, part in enumerate(head, start=1) if parameter.startswith(part)), 0), parameter


@torch.no_grad()
def _settle_norms(model: Classifier) -> None:
    """Give the batch norms the statistics of random texts, so that texts differ in their classes."""
    norms = [norm for norm in model.head.norms if isinstance(norm, nn.BatchNorm1d)]
    lengths = torch.arange(1, 65)
    ids = torch.randint(model.encoder.architecture.vocabulary_size, (64, 64))
    for norm in norms:
        norm.momentum = 1.0
    model.train()(ids, lengths)
    for norm in norms:
        norm.momentum = 0.1


def _other(direction: Direction) -> Direction:
    return Direction.BACKWARD if direction is Direction.FORWARD else Direction.FORWARD
