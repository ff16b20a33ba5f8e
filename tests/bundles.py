"""Create tiny bundles and packs with two directions without training, and modify their content.

The models are random, but everything else is real: they are torch modules with a parity record, and ``write_bundle``
publishes them after it has verified the record in a separate process.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

import bothways
from bothways.bundle.manifest import (
    DOMAIN_FILE,
    LINEAR,
    MANIFEST_FILE,
    PARITY_FILE,
    Abstention,
    Architecture,
    Domain,
    EarlyExit,
    Kind,
    LabelSets,
    LinearExit,
    LinearMember,
    Manifest,
    Member,
    Reference,
    TrainingRecord,
    digest_of,
)
from bothways.bundle.parity import (
    ENSEMBLE,
    ParityRow,
    dump_parity_record,
    parity_texts_with_fields,
    with_decisions,
)
from bothways.bundle.read import read_bundle
from bothways.bundle.weights import LinearWeights, read_weights, write_weights
from bothways.bundle.write import write_bundle
from bothways.nn.classifier import ClassifierNetwork
from bothways.nn.language_model import LanguageModelNetwork
from bothways.runtime.domain import DomainModel, fit_domain
from bothways.runtime.verify import verify_in_fresh_process
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import Task
from bothways.text.fields import Text, fields_of
from bothways.text.reading import Direction, SpecialTokenPlacement, read
from bothways.text.tokenizer import Tokenizer
from bothways.training.hyperparameters import load_hyperparameters
from bothways.training.models import (
    build_classifier,
    build_language_model,
    classifier_parity_record,
    language_model_parity_record,
    parity_losses,
    parity_scores,
    weights_of,
)
from bothways.training.objective import objective_of
from bothways.training.seeds import derived_seed

LABELS = ["bad", "good", "so-so"]
TOPICS = ["acting", "music", "plot", "price"]
"""Labels of the tiny multi-label bundle."""
THRESHOLDS = [0.52, 0.53, 0.51, 0.42]
TEMPERATURE = 1.7
WIDTH_EMBEDDING, WIDTH_HIDDEN, LAYERS, WIDTH_HEAD = 16, 24, 2, 8
SEED = 5
QRNNS: dict[Direction, dict[str, Any]] = {
    Direction.FORWARD: {"kind": "qrnn", "first_window": 2},
    Direction.BACKWARD: {"kind": "qrnn", "output_gate": False},
}
"""Architectures of the tiny bundle with QRNNs: each direction is another variant."""
RECORD = TrainingRecord(bothways_version=bothways.__version__, seed=SEED, size="tiny", text_columns=["text"])
MULTI_LABEL_RECORD = RECORD.model_copy(update={"label_column": "topics", "label_separator": ";"})
FILES = [MANIFEST_FILE, "README.md", "backward.safetensors", "forward.safetensors", "parity.jsonl", "tokenizer.json"]

Probabilities = NDArray[np.float64]
Change = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class TinyClassifiers:
    """One torch classifier per direction, with its metadata. With thresholds they are multi-label."""

    models: dict[Direction, ClassifierNetwork]
    members: list[Member]
    tokenizer: Tokenizer
    task: Task = field(default_factory=lambda: SingleLabel(tuple(LABELS)))
    columns: tuple[str, ...] = ("text",)
    linear: tuple[LinearMember, LinearWeights] | None = None

    @property
    def labels(self) -> list[str]:
        return list(self.task.labels)

    @functools.cached_property
    def parity_record(self) -> list[ParityRow]:
        """The rows of the parity record, computed once."""
        torch.set_num_threads(1)
        objective = objective_of(self.task)
        said = {
            str(member.direction): parity_scores(
                self.models[member.direction],
                member.special_tokens,
                objective,
                self.tokenizer,
                SEED,
                len(self.columns),
            )
            for member in self.members
        }
        ensemble = self._ensemble(list(said.values()))
        if self.linear is not None:
            fields = max(1, len(self.columns))
            said[LINEAR] = self._linear_scores(parity_texts_with_fields(self.tokenizer, SEED, fields))
            ensemble = self._ensemble(list(said.values())[:-1], said[LINEAR])
        return classifier_parity_record(said, ensemble, self.task, self.tokenizer, SEED, self.columns)

    @torch.no_grad()
    def probabilities(self, texts: Sequence[Text], *, swapped: bool = False) -> dict[str, Probabilities]:
        """Return torch's results, (N, C) each. Each text is read alone and whole. ``swapped`` reads the other way."""
        torch.set_num_threads(1)  # with models this small, several threads mostly wait for each other
        result: dict[str, Probabilities] = {}
        for member in self.members:
            rows = []
            for text in texts:
                way = _other(member.direction) if swapped else member.direction
                ids = torch.from_numpy(read(self.tokenizer.tokenize(text), way, member.special_tokens).astype(np.int64))
                logits, _, _ = self.models[member.direction](ids[None], torch.tensor([len(ids)]))
                rows.append(self._scores(logits[0].double()).numpy())
            result[str(member.direction)] = np.array(rows)
        each = [result[str(member.direction)] for member in self.members]
        linear = None if self.linear is None else self._linear_scores(texts)
        result[ENSEMBLE] = self._ensemble(each, linear)
        return result if linear is None else {**result, LINEAR: linear}

    def _linear_scores(self, texts: Sequence[Text]) -> Probabilities:
        """Return the scores of the linear member, computed n-gram by n-gram from its definition."""
        assert self.linear is not None
        arrays = self.linear[1]
        row_of = {
            kind: {int(value): first + row for row, value in enumerate(arrays[kind])}
            for kind, first in (("words", 0), ("characters", len(arrays["words"])))
        }
        rows = []
        for text in texts:
            outputs = arrays["bias"].astype(np.float64)
            for kind, found in all_ngrams(text).items():
                counts = Counter(zlib.crc32(ngram.encode()) for ngram in found)
                known = {row_of[kind][key]: count for key, count in counts.items() if key in row_of[kind]}
                values = {row: (1 + math.log(count)) * float(arrays["idf"][row]) for row, count in known.items()}
                norm = math.sqrt(sum(value * value for value in values.values())) or 1.0
                for row, value in values.items():
                    outputs = outputs + arrays["weight"][row].astype(np.float64) * value / norm
            rows.append(outputs)
        return self._of_outputs(torch.from_numpy(np.array(rows).reshape(len(texts), self.task.outputs)))

    def _of_outputs(self, outputs: torch.Tensor) -> Probabilities:
        """Return scores from outputs that were fitted one by one: of single-label, sigmoids that are normalized."""
        if not isinstance(self.task, SingleLabel):
            return np.asarray(self._scores(outputs).numpy())
        each = torch.sigmoid(outputs)
        return np.asarray((each / each.sum(dim=-1, keepdim=True)).numpy())

    def _ensemble(self, each: list[Probabilities], linear: Probabilities | None = None) -> Probabilities:
        """Return the calibrated mean, computed in torch. A linear member is mixed in by log probabilities or odds."""
        mean = torch.from_numpy(np.array(each)).mean(dim=0)
        weight = self.linear[0].weight if self.linear is not None else 0.0
        if isinstance(self.task, Regression):
            return np.asarray((mean if linear is None else mean.lerp(torch.from_numpy(linear), weight)).numpy())
        to_logits = torch.logit if isinstance(self.task, MultiLabel) else torch.log
        logits = to_logits(mean)
        if linear is not None:
            logits = logits.lerp(to_logits(torch.from_numpy(linear)), weight)
        return np.asarray(self._scores(logits / self.task.temperature).numpy())

    def _scores(self, logits: torch.Tensor) -> torch.Tensor:
        if isinstance(self.task, Regression):
            values = logits * torch.from_numpy(self.task.scales) + torch.from_numpy(self.task.centers)
            low, high = self.task.value_range or (0.0, 0.0)
            return torch.sigmoid(values) * (high - low) + low if self.task.value_range else values
        return torch.sigmoid(logits) if isinstance(self.task, MultiLabel) else functional.softmax(logits, dim=-1)


@dataclass(frozen=True)
class TinyLanguageModels:
    """One torch language model per direction, with its metadata."""

    models: dict[Direction, LanguageModelNetwork]
    members: list[Member]
    tokenizer: Tokenizer

    @functools.cached_property
    def parity_record(self) -> list[ParityRow]:
        """The rows of the parity record, computed once."""
        torch.set_num_threads(1)
        losses = {
            member.direction: parity_losses(self.models[member.direction], member.special_tokens, self.tokenizer, SEED)
            for member in self.members
        }
        return language_model_parity_record(losses, self.tokenizer, SEED)


def make_classifiers(
    tokenizer: Tokenizer,
    placements: Mapping[Direction, SpecialTokenPlacement],
    labels: list[str] | None = None,
    temperature: float = 1.0,
    thresholds: list[float] | None = None,
    task: Task | None = None,
    columns: tuple[str, ...] = ("text",),
    encoders: Mapping[Direction, Mapping[str, Any]] | None = None,
    linear_of: Sequence[Text] | None = None,
) -> TinyClassifiers:
    """Return random classifiers whose results depend on each token and on the order of tokens."""
    if task is None:
        names = tuple(labels or LABELS)
        task = SingleLabel(names, temperature)
        if thresholds is not None:
            task = MultiLabel(names, temperature, tuple(thresholds), MULTI_LABEL_RECORD.label_separator)
    torch.set_num_threads(1)
    config = load_hyperparameters("tiny").classifier.model_copy(update={"head_size": WIDTH_HEAD})
    members = [
        make_member(direction, tokenizer, placement, [WIDTH_HEAD], encoders)
        for direction, placement in placements.items()
    ]
    models = {}
    for member in members:
        model = build_classifier(_language_model(member), member.direction, task.outputs, config, SEED)
        _randomize(model, derived_seed(SEED, member.direction))
        _settle_norms(model)
        models[member.direction] = model.eval()
    linear = None if linear_of is None else make_linear(task.outputs, linear_of)
    return TinyClassifiers(models, members, tokenizer, task, columns, linear)


def all_ngrams(text: Text) -> dict[str, list[str]]:
    """Return the n-grams of words and of characters of a text, as their definition says."""
    words: list[str] = []
    characters: list[str] = []
    for field_ in fields_of(text):
        parts = [
            string[at : at + 100].lower() for string in re.split(r"\s", field_) for at in range(0, len(string), 100)
        ]
        of_field = [word for part in parts for word in re.findall(r"\w+|[^\w\s]", part)]
        words += [*of_field, *map(" ".join, itertools.pairwise(of_field))]
        for part in parts:
            padded = f" {part} "
            characters += [padded[at : at + n] for n in range(2, 6) for at in range(len(padded) - n + 1)]
    return {"words": words, "characters": characters}


def make_linear(outputs: int, texts: Sequence[Text], weight: float = 0.4) -> tuple[LinearMember, LinearWeights]:
    """Return a linear member with random weights that knows about half of the n-grams of some texts."""
    rng = np.random.default_rng(SEED)
    found = [all_ngrams(text) for text in texts]
    known = {
        kind: np.unique([zlib.crc32(ngram.encode()) for ngrams in found for ngram in ngrams[kind]])[::2]
        for kind in ("words", "characters")
    }
    count = sum(map(len, known.values()))
    arrays: dict[str, NDArray[np.generic]] = {
        **{kind: hashes.astype(np.uint32) for kind, hashes in known.items()},
        "idf": rng.uniform(1, 5, count).astype(np.float16),
        "weight": rng.normal(0, 2, (count, outputs)).astype(np.float16),
        "bias": rng.normal(0, 1, outputs).astype(np.float32),
    }
    member = LinearMember(
        weights="linear.safetensors", words=len(known["words"]), characters=len(known["characters"]), weight=weight
    )
    return member, arrays


def make_language_models(
    tokenizer: Tokenizer,
    placements: Mapping[Direction, SpecialTokenPlacement],
    encoders: Mapping[Direction, Mapping[str, Any]] | None = None,
) -> TinyLanguageModels:
    members = [
        make_member(direction, tokenizer, placement, None, encoders) for direction, placement in placements.items()
    ]
    models = {}
    for member in members:
        models[member.direction] = _language_model(member)
        _randomize(models[member.direction], derived_seed(SEED, member.direction))
    return TinyLanguageModels(models, members, tokenizer)


def make_member(
    direction: Direction,
    tokenizer: Tokenizer,
    placement: SpecialTokenPlacement,
    widths_head: list[int] | None,
    encoders: Mapping[Direction, Mapping[str, Any]] | None = None,
) -> Member:
    """Return a member of the tiny sizes, an LSTM unless its direction has another encoder."""
    architecture = Architecture(
        vocabulary_size=len(tokenizer),
        width_embedding=WIDTH_EMBEDDING,
        width_hidden=WIDTH_HIDDEN,
        layers=LAYERS,
        **(encoders or {}).get(direction, {}),
    )
    weights: Any = f"{direction}.safetensors"
    return Member(
        direction=direction,
        special_tokens=placement,
        weights=weights,
        architecture=architecture,
        widths_head=widths_head,
    )


def record_of(tiny: TinyClassifiers) -> TrainingRecord:
    """Return the record of how classifiers would have been trained."""
    record = MULTI_LABEL_RECORD if isinstance(tiny.task, MultiLabel) else RECORD
    return record.model_copy(
        update={
            "text_columns": list(tiny.columns),
            "label_columns": list(tiny.task.label_columns),
            "rows": {"training": 40},
            "label_rows": {label: 10 + number for number, label in enumerate(tiny.task.labels)},
        }
    )


def write_classifiers(path: Path, tiny: TinyClassifiers, **options: Any) -> None:
    parts = {
        "task": tiny.task,
        "members": tiny.members,
        "weights": {m.direction: weights_of(tiny.models[m.direction], m, tiny.task.outputs) for m in tiny.members},
        "tokenizer": tiny.tokenizer,
        "parity_record": tiny.parity_record,
        "linear": tiny.linear,
        "training": record_of(tiny),
        "verify": verify_in_fresh_process,
    }
    write_bundle(path, **{**parts, **options})


def write_pack(path: Path, tiny: TinyLanguageModels) -> None:
    write_bundle(
        path,
        task=None,
        members=tiny.members,
        weights={m.direction: weights_of(tiny.models[m.direction], m, 0) for m in tiny.members},
        tokenizer=tiny.tokenizer,
        parity_record=tiny.parity_record,
        training=RECORD,
        verify=verify_in_fresh_process,
    )


def write_with_early_exit(
    bundle: Path, out: Path, first: Direction, texts: Sequence[Text], *, starts_with_linear: bool = False
) -> Path:
    """Copy a bundle, and add an early exit that is confident for half of the texts.

    If it starts with the linear member, that one is confident for half of the texts, and the direction for half of the
    others.
    """
    model = bothways.load(bundle)
    scores = model.predict_proba_by_direction(texts)
    found, linear = scores[first], model.manifest.linear
    if linear is not None:
        found = model.task.mixed(found, scores[LINEAR], linear.weight)
    confidence, is_read = SingleLabel().with_temperature(found, 1.5).max(axis=1), np.ones(len(found), np.bool_)
    linear_exit = None
    if starts_with_linear:
        of_linear = SingleLabel().with_temperature(scores[LINEAR], 1.25).max(axis=1)
        linear_exit = LinearExit(temperature=1.25, threshold=float(np.median(of_linear)), read_by_linear=0.5)
        is_read = of_linear <= linear_exit.threshold
    early_exit = EarlyExit(
        first=first,
        temperature=1.5,
        threshold=float(np.median(confidence[is_read])),
        largest_loss=0.5,
        rows=1,
        read_by_both=0.5,
        accuracy=1,
        accuracy_of_ensemble=1,
        curve=[],
        linear=linear_exit,
    )
    shutil.copytree(bundle, out)
    edit_manifest(out, lambda fields: fields.update(early_exit=early_exit.model_dump(mode="json")))
    record_decisions(out)
    return out


def write_with_abstention(bundle: Path, out: Path, texts: Sequence[Text], risk: float = 0.5) -> Path:
    """Copy a bundle with an abstention that answers about half of the texts, and label sets of one or more labels."""
    model = bothways.load(bundle)
    found = list(model.stream(texts))
    confidence = model.task.confidence(np.array([each.scores[ENSEMBLE] for each in found]))
    assert confidence is not None
    prepared = [model.prepare(text) for text in texts]
    states = np.array([np.concatenate(pooled) for pooled in model.engine.run(prepared)])
    arrays = fit_domain(states, [text.ids for text in prepared], len(model.tokenizer), 2)
    domain = DomainModel(arrays)
    scores = [domain.score([row], domain.token_loss(text.ids)) for row, text in zip(states, prepared, strict=True)]
    is_single = model.task.thresholds is None
    abstention = Abstention(
        risk=risk,
        threshold=float(np.median(confidence)),
        rows=1,
        answered=0.5,
        measured_risk=0,
        risk_of_all=0,
        domain=Domain(weights=DOMAIN_FILE, components=2, threshold=2 * max(scores), flagged=0),
        label_sets=LabelSets(alpha=0.1, threshold=0.3, covered=1, mean_size=1) if is_single else None,
        reference=Reference(
            rows=2, label_shares=[1 / len(model.labels)] * len(model.labels), confidence=0.5, confidence_deviation=0.1
        ),
        curve=[],
    )
    whole = read_bundle(bundle, Kind.CLASSIFIER)
    write_bundle(
        out,
        task=whole.manifest.decisions,
        members=whole.manifest.members,
        weights=whole.weights,
        tokenizer=whole.tokenizer,
        parity_record=whole.parity_record,
        training=whole.manifest.training,
        linear=whole.linear,
        abstention=(abstention, arrays),
        verify=lambda _: None,
    )
    return out


def edit_manifest(bundle: Path, change: Change) -> None:
    """Change the fields of the manifest and correct its digest, as someone who knows the format could."""
    path = bundle / MANIFEST_FILE
    fields = json.loads(path.read_bytes())
    change(fields)
    path.write_text(json.dumps({**fields, "digest": digest_of(fields)}))


def record_decisions(bundle: Path) -> None:
    """Record the decisions that follow from the manifest, as someone who knows the format could."""
    fields = json.loads((bundle / MANIFEST_FILE).read_bytes())
    manifest = Manifest.model_validate_json(json.dumps(fields), strict=True)
    rows = [ParityRow.model_validate_json(line) for line in (bundle / PARITY_FILE).read_bytes().splitlines()]
    replace_file(
        bundle,
        PARITY_FILE,
        dump_parity_record(with_decisions(rows, manifest.decisions, manifest.early_exit, manifest.linear)),
    )


def replace_file(bundle: Path, name: str, data: bytes) -> None:
    """Replace a file and record its new size and digest, so that only its content can reveal the change."""
    (bundle / name).write_bytes(data)
    record = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(bundle, lambda fields: fields["files"].update({name: record}))


def edit_json(bundle: Path, name: str, change: Change) -> None:
    """Change a JSON file and record its new digest."""
    fields = json.loads((bundle / name).read_bytes())
    change(fields)
    replace_file(bundle, name, json.dumps(fields).encode())


def edit_weights(bundle: Path, name: str, change: Callable[[dict[str, NDArray[np.float32]]], object]) -> None:
    """Change the arrays of a member in place and record the file's new digest."""
    arrays = tensors(bundle / name)
    change(arrays)
    replace_file(bundle, name, write_weights(arrays))


def tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return all arrays of a safetensors file."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    shapes = {name: tuple(entry["shape"]) for name, entry in json.loads(data[8 : 8 + size]).items()}
    return read_weights(data, shapes, str(path))


def run_python(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run code in a new Python process that can import this package."""
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
    """Return an environment in which a new Python process can import this package."""
    source = str(Path(bothways.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": source}


def _language_model(member: Member) -> LanguageModelNetwork:
    seed = derived_seed(SEED, member.direction, "build")
    return build_language_model(member.architecture, member.direction, seed)


@torch.no_grad()
def _randomize(model: nn.Module, seed: int) -> None:
    """Set every parameter to a random value large enough to affect the results."""
    rng = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(model.named_parameters(), key=lambda named: _place(named[0])):
        parameter.normal_(0, 0.4, generator=rng)


def _place(parameter: str) -> tuple[int, str]:
    """Return a parameter's position in the order of random draws. In another order too few texts differ in class."""
    head = ["head.layers.0", "head.norms.1", "head.norms.0", "head.layers.1"]
    return next((place for place, part in enumerate(head, start=1) if parameter.startswith(part)), 0), parameter


@torch.no_grad()
def _settle_norms(model: ClassifierNetwork) -> None:
    """Set the statistics of the batch norms from random texts, so that texts differ in their classes."""
    norms = [norm for norm in model.head.norms if isinstance(norm, nn.BatchNorm1d)]
    lengths = torch.arange(1, 65)
    ids = torch.randint(model.encoder.architecture.vocabulary_size, (64, 64))
    model.eval()  # no dropout, so that these models do not depend on its implementation
    for norm in norms:
        norm.train().momentum = 1.0
    model(ids, lengths)
    for norm in norms:
        norm.momentum = 0.1


def _other(direction: Direction) -> Direction:
    return Direction.BACKWARD if direction is Direction.FORWARD else Direction.FORWARD
