"""Open a fastai model in any of its forms: an export, saved weights, a folder, an archive, or a published name.

Input: a path or a name. Output: a ``ForeignModel``, with the weights by the names that bundles use and everything that
is needed to tokenize texts. Nothing is executed.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bothways import strict_json
from bothways.bundle.manifest import FastaiPooling, Kind
from bothways.errors import ConfigError, ForeignModelError, path_text, quoted, shown
from bothways.interop.archive import extract_models
from bothways.interop.download import PUBLISHED, fetch_published
from bothways.interop.facts import is_encodable
from bothways.interop.fastai_learner import learner_facts
from bothways.interop.fastai_tasks import default_threshold
from bothways.interop.fastai_tokenizer import tokenizer_of
from bothways.interop.fastai_weights import FoundWeights, find_weights
from bothways.interop.learner_facts import Requested, TaskFacts, labels_of, vocabulary_of
from bothways.interop.torch_file import read_foreign_file
from bothways.tasks.labels import LONGEST_LABEL
from bothways.tasks.registry import imported_task
from bothways.tasks.task import Task
from bothways.text.reading import Direction
from bothways.text.word_tokenizer import WordTokenizerDocument

_V1_POOLING = FastaiPooling(window_tokens=70, tail_tokens=1399, last_skips_padding=False)
_V2_POOLING = FastaiPooling(window_tokens=72, tail_tokens=1440, last_skips_padding=True)
"""fastai's default pooling. Saved weights do not record it."""

_ARCHIVES = (".tgz", ".tar.gz", ".tar")


@dataclass(frozen=True, eq=False)
class ForeignModel:
    """A fastai model, read from its file.

    Attributes:
        name: The file as the caller named it, for messages.
        file_name: Name of the file without its folders.
        sha256: SHA-256 of the file.
        library: The library that saved it, as far as the file shows it.
        kind: A classifier or a language model. An encoder is a language model without a decoder.
        found: The weights.
        pooling: The part of a text that a classifier pools. None for a language model.
        task: What a classifier predicts. None for a language model.
        tokenizer: Rules and vocabulary.
        has_vocabulary: Whether the file itself contains the vocabulary.
        direction: The direction in which it reads, if the file records it.
        text_column: Column from which the learner took its texts, if recorded.
        label_column: Column from which the learner took its labels, if recorded.
        remarks: Notes for the user.
    """

    name: str
    file_name: str
    sha256: str
    library: str
    kind: Kind
    found: FoundWeights
    pooling: FastaiPooling | None
    task: Task | None
    tokenizer: WordTokenizerDocument
    has_vocabulary: bool
    direction: Direction | None
    text_column: str | None
    label_column: str | None
    remarks: list[str]


def open_model(
    source: str,
    *,
    vocabulary: str | None = None,
    requested: Requested | None = None,
    needs_task: bool = True,
) -> ForeignModel:
    """Return the model at a path, or a published model by its name.

    Args:
        source: One of: an export of fastai v1 or v2. Weights that ``save`` or ``save_encoder`` wrote. A folder or
            archive with one ``.pth`` and one ``.pkl`` file, like the published models. Or ``wt103-fwd`` or
            ``wt103-bwd``, which are downloaded once.
        vocabulary: Vocabulary file (pickle or JSON), for saved weights without one.
        requested: What to do where the file leaves a choice.
        needs_task: Whether to refuse a classifier whose labels or task are not known.

    Raises:
        ForeignModelError: The file is not a fastai model, is damaged, or is of a kind that is not supported.
        ConfigError: The vocabulary or the labels are missing or do not fit the model.
        DependencyMissing: The model needs spaCy for its tokenizer, and spaCy is not installed.
    """
    path = Path(source)
    if source in PUBLISHED and not path.exists():
        path = fetch_published(source)
    options = _Options(vocabulary, requested or Requested(), needs_task)
    if os.path.isdir(path):  # noqa: PTH112  (Path.is_dir raises if the path is too long)
        return _from_folder(path, source, options)
    if path.name.endswith(_ARCHIVES):
        with tempfile.TemporaryDirectory() as folder:
            extract_models(path, Path(folder))
            return _from_folder(Path(folder), source, options)
    return _from_file(path, source, path.name, options)


@dataclass(frozen=True)
class _Options:
    """Options of the caller for what a file does not record."""

    vocabulary: str | None
    requested: Requested
    needs_task: bool


def _from_folder(folder: Path, name: str, options: _Options) -> ForeignModel:
    weights, words = (sorted(folder.rglob(f"*{suffix}")) for suffix in (".pth", ".pkl"))
    if len(weights) != 1 or len(words) > 1:
        raise ForeignModelError(
            f"{path_text(name)} contains {len(weights)} .pth and {len(words)} .pkl files, expected one of each: pass "
            "the path of the model file itself"
        )
    vocabulary = options.vocabulary or (str(words[0]) if words else None)
    inside = weights[0].name
    file_name = f"{Path(name).name}/{inside}"
    return _from_file(weights[0], f"{name}/{inside}", file_name, replace(options, vocabulary=vocabulary))


def _from_file(path: Path, name: str, file_name: str, options: _Options) -> ForeignModel:
    model = model_of(
        read_foreign_file(path),
        path_text(name),
        read_vocabulary=lambda: _read_vocabulary(_vocabulary_path(path, name, options.vocabulary)),
        requested=options.requested,
        needs_task=options.needs_task,
    )
    if options.vocabulary is not None and model.has_vocabulary:
        raise ConfigError(f"{model.name} contains its own vocabulary: drop --vocabulary")
    return replace(model, file_name=path_text(file_name), sha256=_sha256(path))


def model_of(
    value: object,
    name: str,
    *,
    read_vocabulary: Callable[[], tuple[list[str], list[str]]],
    requested: Requested | None = None,
    needs_task: bool = True,
) -> ForeignModel:
    """Return the model that an inert value describes.

    Args:
        value: The value of ``torch_file.read_foreign_file``.
        name: Name of the file in error messages.
        read_vocabulary: Returns words and labels, for weights without them. Called only if they are needed.
        requested: See ``open_model``.
        needs_task: See ``open_model``.

    Raises:
        ForeignModelError: The value is not a fastai model, is of a kind that is not supported, or has a field with a
            value that can't be true. The message names the field.
        ConfigError: The vocabulary or the labels are missing or do not fit the model.
        DependencyMissing: The model needs spaCy for its tokenizer, and spaCy is not installed.
    """
    requested = requested or Requested()
    facts = learner_facts(value, name, requested)
    found = find_weights(facts.state, name)
    words, more_labels = facts.vocabulary, list[str]()
    if words is None:
        words, more_labels = read_vocabulary()
    if len(words) != found.architecture.vocabulary_size:
        raise ConfigError(
            f"{name}: the vocabulary has {len(words)} words, but the embedding has "
            f"{found.architecture.vocabulary_size} rows: pass the vocabulary that this model was trained with"
        )
    is_classifier = found.widths_head is not None
    version = found.is_version_1 if is_classifier else None
    pooling = (facts.pooling or (_V1_POOLING if found.is_version_1 else _V2_POOLING)) if is_classifier else None
    tokenizer = tokenizer_of(
        facts,
        words,
        name,
        requested,
        is_version_1=version,
        may_assume_english=not needs_task or _is_published(name),
    )
    task = _task(facts.task, requested, more_labels, found, name) if is_classifier and needs_task else None
    remarks = list(facts.remarks)
    assumed = _assumptions(tokenizer, pooling if facts.pooling is None else None, task, found, requested)
    if facts.vocabulary is None and not _is_published(name) and assumed:
        remarks.append(
            f"{name} records only weights. Assumed: {assumed}. If its learner had others, import an export of it"
        )
    return ForeignModel(
        name=name,
        file_name=name,
        sha256="",
        library=facts.library,
        kind=Kind.CLASSIFIER if is_classifier else Kind.LANGUAGE_MODEL,
        found=found,
        pooling=pooling,
        task=task,
        tokenizer=tokenizer,
        has_vocabulary=facts.vocabulary is not None,
        direction=facts.direction,
        text_column=facts.text_column,
        label_column=facts.task.label_column if facts.task else None,
        remarks=remarks,
    )


def _vocabulary_path(path: Path, name: str, given: str | None) -> Path:
    if given is not None:
        return Path(given)
    candidates = [p for p in sorted(path.parent.glob("*.pkl")) if p != path]
    if len(candidates) != 1:
        raise ConfigError(
            f"{path_text(name)} contains weights without a vocabulary, and its folder has {len(candidates) or 'no'} "
            "other .pkl files, expected one: pass the vocabulary with --vocabulary"
        )
    return candidates[0]


def _read_vocabulary(path: Path) -> tuple[list[str], list[str]]:
    """Return the words of a vocabulary file, and the labels that fastai v2 stores with them, if any."""
    if path.suffix == ".json":
        try:
            value = strict_json.parse(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ForeignModelError(
                f"{path_text(path)} can't be read as a vocabulary, expected a list of words: {shown(str(error))}"
            ) from None
    else:
        value = read_foreign_file(path)
    return vocabulary_of(value, path_text(path)), labels_of(value, path_text(path))


def _task(
    facts: TaskFacts | None, requested: Requested, more_labels: Sequence[str], found: FoundWeights, name: str
) -> Task:
    """Return what a classifier predicts: as its file records it, or as the caller says for saved weights."""
    given = requested.labels
    if facts is None and requested.task is None:
        raise ConfigError(
            f"{name} records only weights, not what they predict: add --task single-label, multi-label or regression"
        )
    if facts is None:
        assert requested.task is not None
        y_range = requested.y_range if isinstance(requested.y_range, tuple) else None
        labels = given or tuple(more_labels)
        facts = TaskFacts(requested.task, labels, default_threshold(found.is_version_1), y_range)
        needs_range = requested.y_range is None and not found.is_version_1
    else:
        needs_range = False
        for option, is_wrong in (
            ("--task", requested.task not in (None, facts.name)),
            ("--y-range", requested.y_range not in (None, facts.value_range or "none")),
            ("--label", bool(given and facts.labels and set(given) != set(facts.labels))),
        ):
            if is_wrong:
                raise ConfigError(f"{name} records another value than {option}: drop {option}")
    labels = facts.labels or given
    if wrong := [label for label in labels if not 0 < len(label) <= LONGEST_LABEL or not is_encodable(label)]:
        raise ConfigError(f"{name} has the label {quoted(wrong[0])}, expected 1 to {LONGEST_LABEL} characters")
    try:
        task = imported_task(
            facts.name,
            labels,
            found.classes,
            threshold=requested.threshold or facts.threshold,
            value_range=facts.value_range,
            separator=facts.separator,
            label_columns=facts.label_columns,
        )
    except ConfigError as error:
        raise ConfigError(f"{name} has {error}") from None
    except ValueError as error:
        raise ForeignModelError(f"{name}: {error}") from None
    if requested.threshold is not None and task.thresholds is None:
        raise ConfigError(f"{name} is a {task.title}, which has no threshold: drop --threshold")
    if not task.labels and needs_range:
        raise ConfigError(
            f"{name} does not record y_range, which limits its numbers: add --y-range LOW,HIGH or --y-range none"
        )
    return task


def _is_published(name: str) -> bool:
    """Return whether a name is that of a published model, or of its archive."""
    return any(part.split(".")[0] in PUBLISHED for part in Path(name).parts)


def _assumptions(
    tokenizer: WordTokenizerDocument,
    pooling: FastaiPooling | None,
    task: Task | None,
    found: FoundWeights,
    requested: Requested,
) -> str:
    """Return what is assumed of saved weights, because their file does not record it."""
    assumed = ["fastai's cleaning rules"] if tokenizer.rules is None else []
    if pooling is not None:
        longest = (pooling.tail_tokens or 0) + (0 if pooling.last_skips_padding else 1)
        assumed.append(f"bptt={pooling.window_tokens}, max_len={longest}")
        if found.is_version_1 and found.architecture.first_window == 2:
            assumed.append("save_prev_x=True (False in fastai 1.0.50 to 1.0.52)")
    if task is not None and task.thresholds is not None and requested.threshold is None:
        assumed.append("the threshold 0.5")
    return ", ".join(assumed)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
