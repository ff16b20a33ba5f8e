"""Convert one or two fastai models to a bundle that makes fastai's own single-text predictions.

Input: paths. Output: a published bundle, and a description of each imported model. The direction of a model is recorded
in its file, inferred from its weights, or given by the caller. If two of these contradict each other, nothing is
written.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from bothways.arguments import as_number, as_path, as_paths, as_text, checked, optional
from bothways.bundle.manifest import ImportedFile, ImportRecord, Kind, Member, TrainingRecord
from bothways.bundle.weights import matched_rows
from bothways.bundle.write import write_bundle
from bothways.errors import ConfigError, DirectionError, ForeignModelError, quoted
from bothways.files import refuse_existing
from bothways.interop.direction import DirectionVerdict, infer
from bothways.interop.fastai_file import ForeignModel, open_model
from bothways.interop.fastai_weights import Arrays
from bothways.interop.import_options import requested_of
from bothways.interop.output_scales import with_scaled_outputs
from bothways.interop.reference import reference_record
from bothways.runtime.verify import verify_in_fresh_process
from bothways.tasks.labels import KNOWN_SHOWN, listed
from bothways.tasks.task import Task, TaskRecord
from bothways.text.reading import Direction, SpecialTokenPlacement
from bothways.text.tokenizer import UNKNOWN_ID
from bothways.text.word_tokenizer import WordTokenizer, WordTokenizerDocument
from bothways.version import __version__

_SHARED = (
    "words",
    "cleaning",
    "rules",
    "post_rules",
    "begins",
    "marks_field",
    "ends",
    "language",
    "tables",
    "separator",
    "sentencepiece",
)
"""What two models of a bundle must have in common, of the fields of their tokenizers' documents."""

_SAME_THRESHOLD = 1e-6
_Name = TypeVar("_Name", bound=str)

KnownBy = Literal["recorded", "inferred", "given"]


@dataclass(frozen=True, eq=False)
class ImportedModel:
    """One imported model.

    Attributes:
        name: The file as the caller named it.
        library: The library that saved it.
        direction: The direction in which it reads.
        known_by: Source of the direction: ``recorded`` in the file, ``inferred`` from the weights, or ``given`` by the
            caller.
        verdict: The direction that the weights show.
        remarks: Notes for the user.
    """

    name: str
    library: str
    direction: Direction
    known_by: KnownBy
    verdict: DirectionVerdict
    remarks: list[str]


@dataclass(frozen=True, eq=False)
class FastaiImport:
    """The result of an import.

    Attributes:
        kind: ``classifier`` or ``language-model``.
        models: The imported models, in the bundle's order.
    """

    kind: str
    models: list[ImportedModel]


@checked(
    model=as_path,
    vocabulary=optional(as_path),
    tokenizer=optional(as_text),
    language=optional(as_text),
    sentencepiece=optional(as_path),
)
def infer_direction(
    model: str | os.PathLike[str],
    *,
    vocabulary: str | os.PathLike[str] | None = None,
    tokenizer: str | None = None,
    language: str | None = None,
    sentencepiece: str | os.PathLike[str] | None = None,
    texts: Sequence[str] | None = None,
) -> DirectionVerdict:
    """Infer from a model's weights which way it reads. Abstains rather than guesses.

    Args:
        model: A file of fastai: an export, saved weights, a folder or an archive.
        vocabulary: Vocabulary file, for saved weights without one.
        tokenizer: See ``import_fastai``. Defaults to ``spacy``.
        language: spaCy's code of the language, for files that do not record it. Defaults to English.
        sentencepiece: SentencePiece model file of a model that was trained with one and does not contain it.
        texts: Texts in the model's language. Defaults to built-in samples.

    Raises:
        ForeignModelError: The file is not a fastai model, is damaged, or is of a kind that is not supported.
        ConfigError: The vocabulary is missing or does not fit the model.
        DependencyMissing: The model needs spaCy for its tokenizer, and spaCy is not installed.
    """
    opened = open_model(
        os.fspath(model),
        vocabulary=_path(vocabulary),
        requested=requested_of(tokenizer=tokenizer, language=language, sentencepiece=sentencepiece),
        needs_task=False,
    )
    return _verdict(opened, texts)


@checked(
    forward=as_path,
    backward=optional(as_path),
    out=as_path,
    direction=optional(as_text),
    vocabulary=as_paths,
    tokenizer=optional(as_text),
    language=optional(as_text),
    probabilities=optional(as_text),
    task=optional(as_text),
    threshold=optional(as_number),
    sentencepiece=optional(as_path),
)
def import_fastai(
    forward: str | os.PathLike[str],
    backward: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str],
    direction: str | None = None,
    vocabulary: Sequence[str | os.PathLike[str]] = (),
    labels: Sequence[str] = (),
    tokenizer: str | None = None,
    language: str | None = None,
    probabilities: str | None = None,
    rules: Sequence[str] | None = None,
    task: str | None = None,
    threshold: float | None = None,
    y_range: str | tuple[float, float] | None = None,
    sentencepiece: str | os.PathLike[str] | None = None,
) -> FastaiImport:
    """Convert one or two fastai models to a bundle, or to a pack if they are language models or encoders.

    Guarantee 1: the bundle makes fastai's predictions for single texts, verified in a fresh process before it is
    published.

    Args:
        forward: The model that reads forward. A single model may read in either direction.
        backward: The model that reads backward.
        out: Bundle to create. Must not exist yet.
        direction: ``forward`` or ``backward``, for a single model whose file and weights do not show its direction.
        vocabulary: Vocabulary files, for saved weights without them: one for all models, or one per model.
        labels: Labels in the order of the classes, for the saved weights of a classifier. For a model that predicts
            several numbers, the names of its targets.
        tokenizer: What split texts into words, for saved weights, which do not record it: ``spacy`` (needs
            ``language``), ``sentencepiece`` (needs ``sentencepiece``) or ``split`` (fastai's BaseTokenizer, at spaces).
            Defaults to the one whose option is passed.
        language: spaCy's code of the language, such as ``en``.
        probabilities: ``softmax`` to import a classifier with a softmax although ``learn.predict`` does not apply one,
            because of the learner's loss. ``sigmoid`` for a multi-label classifier.
        rules: Names of fastai's cleaning rules in order. For saved weights, whose files do not record them. For an
            export that first calls functions of its own: the rules after those, which you then call yourself. Defaults
            to all rules of the version.
        task: ``single-label``, ``multi-label`` or ``regression``, for the saved weights of a classifier, which do not
            record it.
        threshold: Probability from which on a multi-label classifier assigns a label. Defaults to that of
            ``learn.predict``.
        y_range: The lowest and highest number of a regression, for saved weights, which do not record it; ``none`` if
            the learner was made without ``y_range``.
        sentencepiece: SentencePiece model file of a model that was trained with one. An export of v1 contains only its
            path, and saved weights not even that.

    Raises:
        ForeignModelError: A file is not a fastai model, is damaged, or is of a kind that is not supported.
        DirectionError: The direction of a model is unknown, or two sources contradict each other.
        ConfigError: An option is missing or does not fit the model.
        DependencyMissing: A model needs spaCy for its tokenizer, and spaCy is not installed.
        TrainingError: The bundle did not pass its verification. Nothing was published.
    """
    refuse_existing(Path(out))
    sources = [os.fspath(source) for source in (forward, backward) if source is not None]
    requested = requested_of(probabilities, rules, sentencepiece, task, labels, threshold, y_range, tokenizer, language)
    words: list[str | None] = [os.fspath(path) for path in vocabulary] or [None]
    if len(words) not in (1, len(sources)):
        raise ConfigError(f"{len(words)} vocabularies for {len(sources)} models, expected one for all or one per model")
    words = words * len(sources) if len(words) == 1 else words
    models = [
        open_model(source, vocabulary=path, requested=requested) for source, path in zip(sources, words, strict=True)
    ]
    given = _given_directions(direction, len(models))
    verdicts = [_verdict(model, None) for model in models]
    imported = [resolve_direction(*each) for each in zip(models, given, verdicts, strict=True)]
    _require_compatible(models)
    if models[0].task is None and (requested.task or requested.labels or requested.threshold or requested.y_range):
        raise ConfigError(
            f"{models[0].name} is a language model without labels: drop --task, --label, --threshold and --y-range"
        )

    document = models[0].tokenizer.model_copy(update={"vocabulary": merged_vocabulary([m.tokenizer for m in models])})
    shared = WordTokenizer(document)
    members = [_member(m, i.direction, len(shared)) for m, i in zip(models, imported, strict=True)]
    rearranged = {i.direction: _rearranged(m, shared, models[0].task) for m, i in zip(models, imported, strict=True)}
    record = reference_record(members, rearranged, models[0].task, shared)
    decisions, weights = with_scaled_outputs(models[0].task, members, rearranged, record)
    write_bundle(
        out,
        task=decisions,
        members=members,
        weights=weights,
        tokenizer=shared,
        parity_record=record,
        training=_record(models, imported),
        verify=verify_in_fresh_process,
    )
    return FastaiImport(str(models[0].kind), imported)


def resolve_direction(model: ForeignModel, given: Direction | None, verdict: DirectionVerdict) -> ImportedModel:
    """Determine the direction of a model from its file, from the caller and from its weights.

    Guarantee 1: a model is never read in the wrong direction.

    Args:
        model: The model as read from its file.
        given: The direction that the caller gave, if any.
        verdict: The direction that the weights show.

    Raises:
        DirectionError: The direction is unknown, or two sources contradict each other.
    """
    recorded, inferred = model.direction, verdict.direction
    if recorded and given and recorded is not given:
        raise DirectionError(
            f"{model.name} was given as the {given} model, but its file records that it reads {recorded}: give the "
            "forward model first and the backward one second"
        )
    direction = recorded or given
    if direction and inferred and direction is not inferred:
        how = f"its file records that it reads {direction}" if recorded else f"it was given as the {direction} model"
        raise DirectionError(
            f"{model.name}: {how}, but its weights read {inferred} ({_losses(verdict)}). Either the files are mixed "
            f"up, or the model was trained on {direction} texts from a {inferred} language model: train it from a "
            f"{direction} one"
        )
    direction = direction or inferred
    if direction is None:
        raise DirectionError(
            f"{model.name} does not record which way it reads, and its weights do not show it ({_losses(verdict)}): "
            "add --direction forward or --direction backward"
        )
    known_by: KnownBy = "recorded" if recorded else "given" if given else "inferred"
    return ImportedModel(model.name, model.library, direction, known_by, verdict, model.remarks)


def merged_vocabulary(documents: Sequence[WordTokenizerDocument]) -> list[str]:
    """Return one vocabulary for all members: the words of the first one, then those that only the others have."""
    words = list(documents[0].vocabulary)
    known = set(words)
    for document in documents[1:]:
        more = [word for word in dict.fromkeys(document.vocabulary) if word not in known]
        known.update(more)
        words += more
    return words


def _path(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)


def _given_directions(direction: str | None, models: int) -> list[Direction | None]:
    if models == 2:
        if direction is not None:
            raise ConfigError(
                "--direction is for a single model: with two, the first reads forward and the second backward. Drop it"
            )
        return [Direction.FORWARD, Direction.BACKWARD]
    if direction is None:
        return [None]
    if direction not in tuple(Direction):
        raise ConfigError(f"unknown direction {quoted(direction)}, expected forward or backward")
    return [Direction(direction)]


def _verdict(model: ForeignModel, texts: Sequence[str] | None) -> DirectionVerdict:
    with np.errstate(all="ignore"):  # weights that overflow show no direction
        return infer(model.found.architecture, model.found.arrays, WordTokenizer(model.tokenizer), texts)


def _losses(verdict: DirectionVerdict) -> str:
    return (
        f"loss {verdict.forward_loss:.3f} read forward, {verdict.backward_loss:.3f} read backward, "
        f"|z| = {abs(verdict.z_score):.1f}"
    )


def _require_compatible(models: Sequence[ForeignModel]) -> None:
    """Refuse two models that can't share a tokenization or labels."""
    first, *others = models
    for other in others:
        if other.kind is not first.kind:
            raise ForeignModelError(
                f"{first.name} is a {first.kind}, but {other.name} is a {other.kind}: expected two models of one kind"
            )
        for part in _SHARED:
            if getattr(first.tokenizer, part) != getattr(other.tokenizer, part):
                raise ForeignModelError(
                    f"{first.name} and {other.name} split texts into words in different ways ({part} of the tokenizer) "
                    "and can't share a bundle: import each of them to its own bundle"
                )
        _require_same_task(first, other)


def _require_same_task(first: ForeignModel, other: ForeignModel) -> None:
    """Refuse two classifiers that predict different things. Their outputs can have another order."""
    if first.task is None or other.task is None:
        return
    of_first, of_other = first.task.record(), other.task.record()
    if of_first.name != of_other.name:
        raise ForeignModelError(
            f"{first.name} is a {first.task.title}, but {other.name} is a {other.task.title}: expected two of one kind"
        )
    names, other_names = first.task.output_names, other.task.output_names
    if set(names) != set(other_names):
        kind = "labels" if first.task.labels else "targets"
        raise ForeignModelError(
            f"{first.name} has the {kind} {listed(names, KNOWN_SHOWN)}, but {other.name} has "
            f"{listed(other_names, KNOWN_SHOWN)}: expected the same {kind} in both"
        )
    if of_first.value_range != of_other.value_range:
        raise ForeignModelError(
            f"{first.name} has the y_range {_range_text(of_first)}, but {other.name} has {_range_text(of_other)}: "
            "expected the same range in both"
        )
    thresholds, others = of_first.thresholds or (0.5,), of_other.thresholds or (0.5,)
    if abs(thresholds[0] - others[0]) > _SAME_THRESHOLD:  # one threshold for all labels
        raise ForeignModelError(
            f"{first.name} assigns labels from a probability of {thresholds[0]:.4g} on, but {other.name} from "
            f"{others[0]:.4g} on: choose one with --threshold"
        )


def _range_text(record: TaskRecord) -> str:
    return "none" if record.value_range is None else "{:g},{:g}".format(*record.value_range)


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


def _rearranged(model: ForeignModel, tokenizer: WordTokenizer, task: Task | None) -> Arrays:
    """Return a model's weights with rows for the common vocabulary, and outputs in the order of the common task.

    A word that is not in a classifier's own vocabulary gets the row of the unknown word. In a language model it gets
    the mean of all rows, as when ULMFiT matches embeddings, so that fine-tuning starts as it would from the model's own
    vocabulary.
    """
    arrays = dict(model.found.arrays)
    own = WordTokenizer(model.tokenizer)
    if model.tokenizer.vocabulary != tokenizer.document.vocabulary:
        rows = np.array([i if (i := own.id_of(word)) is not None else -1 for word in tokenizer.document.vocabulary])
        for name in ("encoder.embedding.weight", "decoder.bias"):
            if name in arrays:
                missing = arrays[name][UNKNOWN_ID] if model.kind is Kind.CLASSIFIER else arrays[name].mean(axis=0)
                arrays[name] = matched_rows(arrays[name], rows, missing)
    if task is not None and model.task is not None and model.task.output_names != task.output_names:
        last = f"head.layers.{len(model.found.widths_head or [])}"
        order = [model.task.output_names.index(name) for name in task.output_names]
        arrays |= {name: arrays[name][order] for name in (f"{last}.weight", f"{last}.bias")}
    return arrays


def _z_score(imported: ImportedModel) -> float:
    """Return the z-score in favor of the model's direction. Negative if the weights favor the other one."""
    if not math.isfinite(imported.verdict.z_score):
        return 0.0
    sign = 1 if imported.direction is Direction.FORWARD else -1
    return round(sign * imported.verdict.z_score, 1)


def _record(models: Sequence[ForeignModel], imports: Sequence[ImportedModel]) -> TrainingRecord:
    files = {
        imported.direction: ImportedFile(
            name=model.file_name,
            sha256=model.sha256,
            direction_known_by=imported.known_by,
            direction_deviations=_z_score(imported),
        )
        for model, imported in zip(models, imports, strict=True)
    }
    libraries = sorted({model.library for model in models})
    return TrainingRecord(
        bothways_version=__version__,
        imported=ImportRecord(library=" and ".join(libraries), files=files),
        text_columns=[] if models[0].text_column is None else [models[0].text_column],
        label_column=models[0].label_column,
        label_columns=list(models[0].task.label_columns) if models[0].task else [],
        label_separator=models[0].task.record().separator if models[0].task else None,
    )
