"""The flow of a training run: texts, tokens, language models, classifiers, a proven bundle.

In: labelled texts in memory. Out: reports while it goes on, and a bundle on disk. Each direction is trained on its own:
it would come out the same without the other one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import bothways
from bothways.bundle.manifest import Architecture, Kind, Member, TrainingRecord
from bothways.bundle.proof import ENSEMBLE
from bothways.bundle.read import Bundle
from bothways.bundle.write import write_bundle
from bothways.data.labelled import LabelledTexts, Split
from bothways.errors import ConfigError, TrainingError
from bothways.nn.classifier import Classifier
from bothways.runtime.graph import available_cores
from bothways.text.reading import Direction, TokenizedText, read, require_direction
from bothways.text.subwords import train_tokenizer
from bothways.text.tokenizer import Tokenizer
from bothways.training.building import (
    Arrays,
    adapted_pack,
    build_classifier,
    build_language_model,
    derived_seed,
    prove_classifiers,
    prove_language_models,
    weights_of,
)
from bothways.training.classifier import ClassRows, class_probabilities, measures_of, train_classifier
from bothways.training.language_model import train_language_model
from bothways.training.recipe import Recipe
from bothways.training.reports import Report, StageReport

BOTH = (Direction.FORWARD, Direction.BACKWARD)


@dataclass(frozen=True)
class RunSettings:
    """What a run is, beside its texts.

    Attributes:
        out: Where the bundle appears.
        directions: Which models are trained, in the bundle's order.
        seed: Decides every random choice.
        size: Name of the recipe's preset, for the record.
        recipe: All numbers.
        device: To train on.
        pack: Language models to start from, or None.
        text_column: For the record.
        label_column: For the record.
    """

    out: Path
    directions: tuple[Direction, ...]
    seed: int
    size: str
    recipe: Recipe
    device: torch.device
    pack: Bundle | None = None
    text_column: str | None = None
    label_column: str | None = None


def train_bundle(split: Split, unlabelled: list[str], settings: RunSettings) -> Generator[Report, None, None]:
    """Train a classifier in each direction and publish the bundle.

    Same seed on the same machine: same bytes.

    Args:
        split: Training and validation rows, checked.
        unlabelled: Texts for the language models only.
        settings: All else.

    Raises:
        DirectionError: The pack has no model for one of the directions; before anything is trained.
        ConfigError: Class weights name a label that does not occur.
        TrainingError: A loss became infinite or no number, or the bundle did not prove itself.
    """
    _refuse_missing_directions(settings)
    labels = sorted(set(split.train.labels))
    class_weights = _class_weights(settings.recipe, split.train.labels, labels)
    _prepare_torch()
    yield StageReport("tokenizer")
    if settings.pack is not None:
        settings = replace(settings, pack=adapted_pack(settings.pack, [*split.train.texts, *unlabelled]))
    tokenizer = _tokenizer([*split.train.texts, *unlabelled], settings)
    tokens = {name: _tokenize(tokenizer, texts) for name, texts in _texts_by_name(split, unlabelled).items()}
    yield from _token_warnings(tokens, settings)

    members: list[Member] = []
    models: dict[Direction, Classifier] = {}
    validation: dict[str, dict[str, float]] = {}
    probabilities = []
    valid_classes = _class_numbers(split.valid, labels)
    for direction in settings.directions:
        member = _member(direction, tokenizer, settings, [settings.recipe.classifier.width_head])
        ids = {name: [read(text, direction, member.markers) for text in texts] for name, texts in tokens.items()}
        seeds = {
            stage: derived_seed(settings.seed, direction, stage) for stage in ("build", "lm", "head", "classifier")
        }
        language_model = build_language_model(
            member.architecture, direction, settings.pack, seeds["build"], settings.device
        )
        lm_texts = [*ids["training"], *ids["unlabelled"]]
        reports = train_language_model(
            language_model, lm_texts, ids["validation"], settings.recipe.language_model, seeds["lm"]
        )
        measures = yield from _finite(reports)
        recipe = settings.recipe.classifier
        model = build_classifier(language_model, direction, len(labels), recipe, seeds["head"])
        longest = recipe.longest_text_tokens
        train_rows = ClassRows([text[:longest] for text in ids["training"]], _class_numbers(split.train, labels))
        valid_rows = ClassRows([text[:longest] for text in ids["validation"]], valid_classes)
        yield from _finite(train_classifier(model, train_rows, valid_rows, class_weights, recipe, seeds["classifier"]))
        probabilities.append(class_probabilities(model, valid_rows.ids, recipe))
        validation[str(direction)] = {
            **measures_of(probabilities[-1], valid_classes),
            "perplexity": measures["perplexity"],
        }
        models[direction] = model.cpu()
        members.append(member)
    validation[ENSEMBLE] = measures_of(np.mean(probabilities, axis=0), valid_classes)

    yield StageReport("bundle", "proving that a fresh process without torch gives these numbers")
    record = _record(settings, {name: len(texts) for name, texts in tokens.items()}, validation)
    write_bundle(
        settings.out,
        kind=Kind.CLASSIFIER,
        labels=labels,
        members=members,
        weights={m.direction: weights_of(models[m.direction], m, len(labels)) for m in members},
        tokenizer=tokenizer,
        proof=prove_classifiers(models, members, labels, tokenizer, settings.seed),
        training=record,
    )
    yield StageReport("done", str(settings.out), facts={"validation": validation})


def pretrain_pack(train: list[str], valid: list[str], settings: RunSettings) -> Generator[Report, None, None]:
    """Train a language model in each direction and publish them as one pack.

    Args:
        train: Texts to learn from.
        valid: Texts to choose the best epoch on.
        settings: All else; its recipe's classifier section is not looked at.

    Raises:
        TrainingError: A loss became infinite or no number, or the pack did not prove itself.
    """
    _refuse_missing_directions(settings)
    _prepare_torch()
    yield StageReport("tokenizer")
    tokenizer = _tokenizer(train, settings)
    tokens = {"training": _tokenize(tokenizer, train), "validation": _tokenize(tokenizer, valid)}
    members: list[Member] = []
    models = {}
    validation: dict[str, dict[str, float]] = {}
    for direction in settings.directions:
        member = _member(direction, tokenizer, settings, None)
        ids = {name: [read(text, direction, member.markers) for text in texts] for name, texts in tokens.items()}
        seeds = {stage: derived_seed(settings.seed, direction, stage) for stage in ("build", "lm")}
        model = build_language_model(member.architecture, direction, settings.pack, seeds["build"], settings.device)
        recipe = settings.recipe.language_model
        reports = train_language_model(model, ids["training"], ids["validation"], recipe, seeds["lm"])
        validation[str(direction)] = yield from _finite(reports)
        models[direction] = model.cpu()
        members.append(member)
    yield StageReport("pack", "proving that a fresh process without torch gives these numbers")
    weights: dict[Direction, Arrays] = {m.direction: weights_of(models[m.direction], m, 0) for m in members}
    write_bundle(
        settings.out,
        kind=Kind.LANGUAGE_MODEL,
        labels=[],
        members=members,
        weights=weights,
        tokenizer=tokenizer,
        proof=prove_language_models(models, members, tokenizer, settings.seed),
        training=_record(settings, {name: len(texts) for name, texts in tokens.items()}, validation),
    )
    yield StageReport("done", str(settings.out), facts={"validation": validation})


def _prepare_torch() -> None:
    """Use the cores there are, and only routines that give the same bytes again."""
    torch.set_num_threads(available_cores())
    torch.use_deterministic_algorithms(True, warn_only=True)


def _refuse_missing_directions(settings: RunSettings) -> None:
    if settings.pack is not None:
        for direction in settings.directions:
            require_direction(direction, settings.pack.manifest.directions, settings.pack.name)


def _texts_by_name(split: Split, unlabelled: list[str]) -> dict[str, list[str]]:
    return {"training": split.train.texts, "validation": split.valid.texts, "unlabelled": unlabelled}


def _tokenizer(texts: list[str], settings: RunSettings) -> Tokenizer:
    if settings.pack is not None:
        return settings.pack.tokenizer
    return train_tokenizer(texts, settings.recipe.tokenizer.vocabulary_size)


def _tokenize(tokenizer: Tokenizer, texts: Iterable[str]) -> list[TokenizedText]:
    return [tokenizer.tokenize(text) for text in texts]


def _token_warnings(tokens: dict[str, list[TokenizedText]], settings: RunSettings) -> Generator[Report, None, None]:
    longest = settings.recipe.classifier.longest_text_tokens
    too_long = sum(len(text) > longest for name in ("training", "validation") for text in tokens[name])
    if too_long:
        message = f"{too_long} texts have more than {longest} tokens; training looks at that many, predicting at all"
        yield StageReport("tokenizer", message, is_warning=True)


def _member(direction: Direction, tokenizer: Tokenizer, settings: RunSettings, widths_head: list[int] | None) -> Member:
    if settings.pack is not None:
        known = settings.pack.manifest.member(direction)
        return known.model_copy(update={"widths_head": widths_head})
    sizes = settings.recipe.encoder
    architecture = Architecture(
        vocabulary_size=len(tokenizer),
        width_embedding=sizes.width_embedding,
        width_hidden=sizes.width_hidden,
        layers=sizes.layers,
    )
    weights = "forward.safetensors" if direction is Direction.FORWARD else "backward.safetensors"
    return Member(
        direction=direction, markers=sizes.markers, weights=weights, architecture=architecture, widths_head=widths_head
    )


def _class_numbers(rows: LabelledTexts, labels: list[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    number = {label: position for position, label in enumerate(labels)}
    return np.array([number[label] for label in rows.labels], dtype=np.int64)


def _class_weights(recipe: Recipe, row_labels: list[str], labels: list[str]) -> torch.Tensor | None:
    wanted = recipe.classifier.class_weights
    if wanted == "none":
        return None
    if wanted == "balanced":
        counts = Counter(row_labels)
        return torch.tensor([len(row_labels) / (len(labels) * counts[label]) for label in labels])
    assert isinstance(wanted, dict)
    if unknown := sorted(set(wanted) - set(labels)):
        raise ConfigError(f"class_weights names {unknown[0]!r}, which is none of the labels {', '.join(labels)}")
    return torch.tensor([wanted.get(label, 1.0) for label in labels])


def _finite(reports: Generator[Report, None, dict[str, float]]) -> Generator[Report, None, dict[str, float]]:
    """Pass reports on, and stop as soon as a loss is not a finite number."""
    while True:
        try:
            report = next(reports)
        except StopIteration as finished:
            measures: dict[str, float] = finished.value
            return measures
        loss = getattr(report, "loss", 0.0)
        if not np.isfinite(loss):
            raise TrainingError(
                f"the {getattr(report, 'direction', '')} {report.stage} diverged (loss {loss}): "
                "lower its rate_peak in --config"
            )
        yield report


def _record(settings: RunSettings, rows: dict[str, int], validation: dict[str, dict[str, float]]) -> TrainingRecord:
    return TrainingRecord(
        bothways_version=bothways.__version__,
        seed=settings.seed,
        size=settings.size,
        text_column=settings.text_column,
        label_column=settings.label_column,
        rows=rows,
        validation=validation,
        pretrained=settings.pack.digest if settings.pack else None,
        recipe=settings.recipe.model_dump(mode="json"),
    )
