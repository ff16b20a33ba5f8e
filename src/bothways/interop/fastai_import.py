"""Turn one or two models of fastai into a bundle that gives fastai's own single-text predictions.

In: paths. Out: a published bundle, and what was found out about each model. Which way a model reads is recorded in its
file, told from its weights or said by a person; where two of these contradict each other, nothing is written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bothways.bundle.manifest import ImportedFile, ImportRecord, Kind, Member, TrainingRecord
from bothways.bundle.weights import matched_rows
from bothways.bundle.write import write_bundle
from bothways.errors import ConfigError, DirectionError, ForeignModelError
from bothways.files import refuse_existing
from bothways.interop.direction import DirectionVerdict, infer
from bothways.interop.fastai_file import ForeignModel, open_model
from bothways.interop.fastai_weights import Arrays
from bothways.interop.reference import prove_import
from bothways.runtime.verify import verify_in_fresh_process
from bothways.tasks.single_label import SingleLabel
from bothways.text.reading import Direction, SpecialTokenPlacement
from bothways.text.tokenizer import UNKNOWN_ID
from bothways.text.word_tokenizer import WordTokenizer, WordTokenizerDocument
from bothways.version import __version__

KnownBy = Literal["recorded", "inferred", "given"]


@dataclass(frozen=True, eq=False)
class ImportedModel:
    """What was found out about one imported model.

    Attributes:
        name: The file as it was given.
        library: What wrote it.
        direction: The way it reads.
        known_by: Whether its file said so, its weights told, or a person did.
        verdict: What the weights tell.
        remarks: What a person should know.
    """

    name: str
    library: str
    direction: Direction
    known_by: KnownBy
    verdict: DirectionVerdict
    remarks: list[str]


@dataclass(frozen=True, eq=False)
class FastaiImport:
    """What an import made.

    Attributes:
        kind: ``classifier`` or ``language-model``.
        models: In the bundle's order.
    """

    kind: str
    models: list[ImportedModel]


def infer_direction(
    model: str | os.PathLike[str],
    *,
    vocabulary: str | os.PathLike[str] | None = None,
    language: str | None = None,
    texts: Sequence[str] | None = None,
) -> DirectionVerdict:
    """Tell from a model's weights which way it reads; abstains rather than guesses.

    Args:
        model: A file of fastai: an export, saved weights, a folder or archive.
        vocabulary: The file of its words, for weights that lie alone.
        language: spaCy's code of the language, where the file does not say.
        texts: In the model's own language; None to choose from samples that come with bothways.

    Raises:
        ForeignModelError: It is no such model, damaged, or of a kind that is not supported.
        ConfigError: The vocabulary is missing or does not fit.
        DependencyMissing: spaCy is needed for its tokenizer and not installed.
    """
    opened = open_model(os.fspath(model), vocabulary=_path(vocabulary), language=language, needs_labels=False)
    return _verdict(opened, texts)


def import_fastai(
    forward: str | os.PathLike[str],
    backward: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str],
    direction: str | None = None,
    vocabulary: Sequence[str | os.PathLike[str]] = (),
    labels: Sequence[str] = (),
    language: str | None = None,
) -> FastaiImport:
    """Turn one or two models of fastai into a bundle, or into a pack if they are language models or encoders.

    Guarantee 1: the bundle gives fastai's numbers for single texts, shown in a fresh process before it is published.

    Args:
        forward: A model: the one that reads forward if there are two, of either direction if it is the only one.
        backward: The one that reads backward.
        out: Where the bundle appears; nothing may be there.
        direction: forward or backward, for a single model whose file and weights don't tell.
        vocabulary: Files of words, for weights that lie alone: one for both, or one for each.
        labels: In the order of the classes, for weights of a classifier.
        language: spaCy's code of the language, where the file does not say; English otherwise.

    Raises:
        ForeignModelError: A file is no such model, damaged, or of a kind that is not supported.
        DirectionError: Which way a model reads can't be told, or two sources contradict each other.
        ConfigError: An option is missing or does not fit.
        DependencyMissing: spaCy is needed for the tokenizer and not installed.
        TrainingError: The bundle did not prove itself; nothing was published.
    """
    refuse_existing(Path(out))
    sources = [os.fspath(source) for source in (forward, backward) if source is not None]
    words: list[str | None] = [os.fspath(path) for path in vocabulary] or [None]
    if len(words) not in (1, len(sources)):
        raise ConfigError(f"{len(words)} vocabularies for {len(sources)} models: give one for both, or one for each")
    words = words * len(sources) if len(words) == 1 else words
    models = [
        open_model(source, vocabulary=path, labels=labels, language=language)
        for source, path in zip(sources, words, strict=True)
    ]
    said = _said_directions(direction, len(models))
    decided = [decide(model, way, _verdict(model, None)) for model, way in zip(models, said, strict=True)]
    _require_like(models)

    document = models[0].tokenizer.model_copy(update={"vocabulary": joined_vocabulary([m.tokenizer for m in models])})
    tokenizer = WordTokenizer(document)
    names = models[0].labels
    members = [_member(m, i.direction, len(tokenizer)) for m, i in zip(models, decided, strict=True)]
    weights = {i.direction: _rearranged(m, tokenizer, names) for m, i in zip(models, decided, strict=True)}
    write_bundle(
        out,
        task=SingleLabel(tuple(names)) if models[0].kind is Kind.CLASSIFIER else None,
        members=members,
        weights=weights,
        tokenizer=tokenizer,
        parity_record=prove_import(members, weights, names, tokenizer),
        training=_record(models, decided),
        verify=verify_in_fresh_process,
    )
    return FastaiImport(str(models[0].kind), decided)


def decide(model: ForeignModel, said: Direction | None, verdict: DirectionVerdict) -> ImportedModel:
    """Decide which way a model reads, by its file, a person's word and its weights.

    Guarantee 1: a model is never read the wrong way round.

    Args:
        model: As read.
        said: What a person said, if anything.
        verdict: What its weights tell.

    Raises:
        DirectionError: Nothing tells, or two of them contradict each other.
    """
    recorded, told = model.direction, verdict.direction
    if recorded and said and recorded is not said:
        raise DirectionError(
            f"{model.name} was given as the model that reads {said}, but its file records that it reads {recorded}: "
            "give the forward model first and the backward one second"
        )
    way = recorded or said
    if way and told and way is not told:
        how = "its file records" if recorded else "it was given as one"
        raise DirectionError(
            f"{model.name}: {how} that reads {way}, but its weights read {told} ({_surprises(verdict)}). Either the "
            f"files are mixed up, or it was trained on texts that read {way} from a language model that reads {told}: "
            "train it from the right one"
        )
    way = way or told
    if way is None:
        raise DirectionError(
            f"{model.name} does not record which way it reads, and its weights don't tell ({_surprises(verdict)}): say "
            "--direction forward or --direction backward"
        )
    known_by: KnownBy = "recorded" if recorded else "given" if said else "inferred"
    return ImportedModel(model.name, model.library, way, known_by, verdict, model.remarks)


def joined_vocabulary(documents: Sequence[WordTokenizerDocument]) -> list[str]:
    """Return one vocabulary for all members: the first one's words, then those that only others have."""
    words = list(documents[0].vocabulary)
    known = set(words)
    for document in documents[1:]:
        more = [word for word in dict.fromkeys(document.vocabulary) if word not in known]
        known.update(more)
        words += more
    return words


def _path(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)


def _said_directions(direction: str | None, models: int) -> list[Direction | None]:
    if models == 2:
        if direction is not None:
            raise ConfigError("with two models the first reads forward and the second backward: leave --direction away")
        return [Direction.FORWARD, Direction.BACKWARD]
    if direction is None:
        return [None]
    if direction not in tuple(Direction):
        raise ConfigError(f"the direction {direction!r} is unknown, expected forward or backward")
    return [Direction(direction)]


def _verdict(model: ForeignModel, texts: Sequence[str] | None) -> DirectionVerdict:
    return infer(model.found.architecture, model.found.arrays, WordTokenizer(model.tokenizer), texts)


def _surprises(verdict: DirectionVerdict) -> str:
    return (
        f"surprise {verdict.forward_surprise:.3f} read forward, {verdict.backward_surprise:.3f} read backward, a "
        f"difference of {abs(verdict.deviations):.1f} times chance"
    )


def _require_like(models: Sequence[ForeignModel]) -> None:
    """Refuse two models that can't share a tokenization or labels."""
    first, *others = models
    for other in others:
        if other.kind is not first.kind:
            raise ForeignModelError(f"{first.name} is a {first.kind}, but {other.name} a {other.kind}")
        for part in ("cleaning", "marks_field", "ends", "language", "tables"):
            if getattr(first.tokenizer, part) != getattr(other.tokenizer, part):
                raise ForeignModelError(
                    f"{first.name} and {other.name} make words of a text in different ways ({part} of the tokenizer): "
                    "they can't share a bundle; import each into one of its own"
                )
        if set(other.labels) != set(first.labels):
            raise ForeignModelError(
                f"{first.name} has the labels {', '.join(first.labels)}, but {other.name} {', '.join(other.labels)}"
            )


def _member(model: ForeignModel, direction: Direction, vocabulary_size: int) -> Member:
    weights: Any = f"{direction}.safetensors"
    return Member(
        direction=direction,
        special_tokens=SpecialTokenPlacement.AS_WRITTEN,
        weights=weights,
        architecture=model.found.architecture.model_copy(update={"vocabulary_size": vocabulary_size}),
        widths_head=model.found.widths_head,
        pooling=model.pooling,
    )


def _rearranged(model: ForeignModel, tokenizer: WordTokenizer, labels: Sequence[str]) -> Arrays:
    """Return a model's weights with rows for the common vocabulary, and outputs in the order of the common labels.

    A word that the model's own vocabulary lacks is its unknown word. In a language model it is the mean of all words,
    as when ULMFiT matches embeddings, so that fine-tuning begins as it would from the model's own vocabulary.
    """
    arrays = dict(model.found.arrays)
    own = WordTokenizer(model.tokenizer)
    if model.tokenizer.vocabulary != tokenizer.document.vocabulary:
        rows = np.array([i if (i := own.id_of(word)) is not None else -1 for word in tokenizer.document.vocabulary])
        for name in ("encoder.embedding.weight", "decoder.bias"):
            if name in arrays:
                missing = arrays[name][UNKNOWN_ID] if model.kind is Kind.CLASSIFIER else arrays[name].mean(axis=0)
                arrays[name] = matched_rows(arrays[name], rows, missing)
    if model.labels != list(labels):
        last = f"head.layers.{len(model.found.widths_head or [])}"
        order = [model.labels.index(label) for label in labels]
        arrays |= {name: arrays[name][order] for name in (f"{last}.weight", f"{last}.bias")}
    return arrays


def _deviations(imported: ImportedModel) -> float:
    sign = 1 if imported.direction is Direction.FORWARD else -1
    return round(sign * imported.verdict.deviations, 1)


def _record(models: Sequence[ForeignModel], decided: Sequence[ImportedModel]) -> TrainingRecord:
    files = {
        imported.direction: ImportedFile(
            name=model.file_name,
            sha256=model.sha256,
            direction_known_by=imported.known_by,
            direction_deviations=_deviations(imported),
        )
        for model, imported in zip(models, decided, strict=True)
    }
    libraries = sorted({model.library for model in models})
    return TrainingRecord(
        bothways_version=__version__,
        imported=ImportRecord(library=" and ".join(libraries), files=files),
        text_column=models[0].text_column,
        label_column=models[0].label_column,
    )
