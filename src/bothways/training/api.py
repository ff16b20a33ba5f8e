"""``bothways.train`` and ``bothways.pretrain``: from a file of texts to a bundle in one call.

In: paths or tables, and options. Out: a classifier, loaded from the bundle that was published. Torch is imported only
when training begins, so that an installation without it can import this module.
"""

from __future__ import annotations

import collections
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bothways.arguments import (
    as_duration,
    as_flag,
    as_names,
    as_path,
    as_paths,
    as_text,
    checked,
    optional,
    seconds_of,
)
from bothways.bundle.manifest import EncoderKind
from bothways.data.corpus import Corpus
from bothways.data.dialect import Dialect, Quotes, TableFormat
from bothways.data.invalid import write_invalid
from bothways.data.labeled import labeled_source
from bothways.data.tables import TableSource
from bothways.errors import ConfigError, DataError, TrainingDiverged, path_text, quoted
from bothways.runtime.classifier import Classifier, load
from bothways.tasks.registry import new_task
from bothways.tasks.task import TaskName
from bothways.text.fields import TextColumns
from bothways.text.reading import Direction
from bothways.training.choices import Device, Directions, Size
from bothways.training.launch import COMMON_CHECKS, run, run_settings, started
from bothways.training.reports import StageReport
from bothways.training.start import AUTO, Pretrained
from bothways.training.summary import DATA_STAGE, data_reports
from bothways.training.training_data import read_training_data, with_taught

if TYPE_CHECKING:
    from bothways.training.pipeline import RunSettings


@checked(
    **COMMON_CHECKS,
    label=optional(as_names),
    task=optional(as_text),
    label_separator=optional(as_text),
    weight=optional(as_text),
    drop_invalid=as_flag,
    force=as_flag,
    pretrained=optional(as_path),
    time_budget=optional(as_duration),
)
def train(
    data: TableSource | Sequence[object],
    labels: Sequence[object] | None = None,
    *,
    text: TextColumns | None = None,
    label: str | Sequence[str] | None = None,
    task: TaskName | None = None,
    label_separator: str | None = None,
    weight: str | None = None,
    drop_invalid: bool = False,
    out: str | os.PathLike[str],
    valid: TableSource | tuple[Sequence[object], Sequence[object]] | None = None,
    unlabeled: TableSource | Sequence[object] | None = None,
    soft_labels: TableSource | None = None,
    teacher: object = None,
    pretrained: Pretrained = AUTO,
    size: Size | None = None,
    encoder: EncoderKind | None = None,
    directions: Directions | Direction = "both",
    seed: int = 0,
    config: str | os.PathLike[str] | Mapping[str, object] | None = None,
    time_budget: str | None = None,
    device: Device = "cpu",
    force: bool = False,
    progress: bool = True,
    plot: str | os.PathLike[str] | None = None,
    log_to: str | Sequence[str] | None = None,
    format: TableFormat | None = None,  # noqa: A002  (as the option)
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    encoding: str | None = None,
    header: bool = True,
) -> Classifier:
    """Train a text classifier or a regression, publish it as a bundle, and return it ready to predict.

    Guarantee 1: the bundle reproduces the trainer's numbers, verified in a fresh process before it is published. The
    same data, seed and machine give the same bytes. Guarantee 7: a run that was killed continues when the same call is
    repeated.

    Args:
        data: Labeled rows: a table in a file, or in memory (docs/tables.md). Or a
            list of texts, whose labels are ``labels``: ``train(texts, labels, out=...)``.
        labels: With a list of texts: the label of each. With a table, for multi-label: the names of its columns of 0
            and 1, one per label; or, with ``label``, the names of the positions of its lists of 0 and 1.
        text: Text column of a table, or several in the order in which the model reads them. They are joined with the
            field token of the tokenizer.
        label: Label column of a table, a single one; the target for regression.
        task: ``single-label`` (one label per text), ``multi-label`` (any number of labels per text) or ``regression``
            (a number per text). Defaults to multi-label if ``label_separator`` or columns of 0 and 1 are given, and to
            single-label otherwise.
        label_separator: The string between the labels of a text, such as ``|``, for multi-label.
        weight: Column of the weights of texts in the training loss of the classifiers, numbers of at least 0.
        drop_invalid: Leave rows without a usable text, label or weight out. They are counted in the bundle, and listed
            in ``OUT.invalid.jsonl``.
        out: Bundle to create. Must not exist yet.
        valid: Validation rows, as a table like ``data`` or a tuple of texts and labels. Defaults to a tenth of
            ``data``, the same rows for the same seed.
        unlabeled: More texts, for the language models only: a table like ``data`` with the same text columns, or a list
            of texts. With a ``teacher``, the classifiers learn from them too.
        soft_labels: More texts with the predictions of a teacher: a table like ``data`` with a column of probabilities
            per label, called ``probability_LABEL`` or ``LABEL``, or with the teacher's labels in the label column
            (docs/teachers.md).
        teacher: Labels the texts of ``unlabeled``: a ``Classifier``; a fitted model of scikit-learn; or a function that
            takes a list of texts and returns for each a label, a dict of probabilities by label, or a number.
        pretrained: The language-model pack to start from, which fixes tokenizer and model size: ``en-small``, the
            English pack that comes with bothways, the name of a downloaded pack (``list_packs``), the path of another
            one, or a reference to the Hugging Face Hub such as ``hf://user/pack``. Of a classifier, such as one
            imported from fastai, only the encoders are taken. None or ``none`` trains from scratch.
            ``auto`` takes ``en-small`` if it knows the language of the texts, and trains from scratch otherwise or if
            ``size`` or an ``encoder`` of another kind is given.
        size: ``tiny``, ``small`` or ``base``, for a model trained from scratch. Defaults to ``small``.
        encoder: ``lstm`` (AWD-LSTM) or ``qrnn`` (QRNN), for a model trained from scratch. Defaults to that of the pack,
            or to ``lstm``.
        directions: ``both``, ``forward`` or ``backward``.
        seed: Random seed, 0..4294967295.
        config: A TOML file of hyperparameters, or a dict with its sections (docs/hyperparameters.md).
        time_budget: Time for the whole training on this machine, such as ``90s``, ``10m`` or ``1h30m``. If it is too
            short for all epochs, fewer are trained, and a model from scratch whose size is not stated may get size
            ``tiny``. Defaults to no limit.
        device: ``cpu`` or ``cuda``.
        force: Publish the model even if it is no better than a constant prediction.
        progress: Show progress on standard error: bars in a terminal or a notebook, otherwise a line per stage.
        plot: Picture of the loss curves to draw at the end, also if training fails: a PNG, SVG or PDF file. It needs
            matplotlib.
        log_to: ``tensorboard``, ``tensorboard:FOLDER``, ``wandb`` or ``wandb:PROJECT``, or several of them: send the
            metrics to TensorBoard or Weights & Biases, which must be installed (docs/training.md).
        format: Format of all files. Defaults to that of each suffix.
        delimiter: Character between the fields of a text table, such as ``;``. Defaults to a tab for TSV, or a comma.
        quotes: ``none`` if quotation marks are ordinary characters, ``double`` if they enclose fields in any case.
        encoding: Encoding of a text file. Defaults to UTF-8.
        header: Whether a text table begins with column names. Otherwise its columns are named ``1``, ``2`` and so on.

    Raises:
        ConfigError: An option is invalid, ``out`` exists, or the time budget is too short for one epoch.
        DataError: The rows cannot be used; file, row and column are named.
        DirectionError: The pack has no model for one of the directions.
        BundleError: The pack cannot be read.
        DependencyMissing: The libraries for training are not installed.
        NoBetterThanConstant: On the validation rows, the model is no better than the same prediction for every text.
            Nothing was published. The same call with ``force`` publishes it without training again.
        TrainingError: Training diverged (``TrainingDiverged``), or the bundle could not be verified. Nothing was
            published.
    """
    began = time.monotonic()
    base, first_start = run_settings(out, directions, seed, pretrained, size, encoder, config, device)
    from bothways.training.distributed import processes  # noqa: PLC0415  (needs torch)
    from bothways.training.follow import check_following  # noqa: PLC0415  (needs torch)
    from bothways.training.pipeline import digest_of, train_bundle  # noqa: PLC0415  (needs torch)
    from bothways.training.time_budget import refuse_stated_epochs  # noqa: PLC0415  (needs torch)

    if time_budget is not None:
        refuse_stated_epochs(base.hyperparameters)
    following = check_following(progress, plot, log_to)

    if processes().count > 1:
        raise ConfigError("torchrun works with pretrain only: run train without it, a classifier trains in one process")
    column = _single_label_column(label)
    source = labeled_source(data, labels, text, column)
    chosen_task = new_task(task, label_separator, source.label_columns)
    read = read_training_data(
        source,
        None if valid is None else labeled_source(valid, source.label_columns or None, text, column),
        unlabeled,
        soft_labels,
        chosen_task,
        may_be_numbers=task is not None or label_separator is not None or bool(source.label_columns),
        fraction=base.hyperparameters.classifier.validation_fraction,
        seed=seed,
        weight=weight,
        drop_invalid=drop_invalid,
        dialect=Dialect(format, delimiter, quotes, encoding, header),
    )
    if teacher is not None:
        from bothways.training.teacher import labeled_by_teacher  # noqa: PLC0415  (needs torch)

        if not read.unlabeled:
            raise ConfigError("a teacher needs texts to label: pass them as unlabeled")
        known = chosen_task.fitted(read.split.train)
        read = with_taught(read, labeled_by_teacher(teacher, read.unlabeled, known, progress=progress))
    listed_in = write_invalid(out, read.invalid)
    settings, start = started(base, first_start, pretrained, config, [*read.split.train.texts, *read.unlabeled])
    settings = replace(
        settings,
        text_columns=source.text,
        label_column=source.label,
        weight_column=weight,
        task=chosen_task,
        invalid_rows=len(read.invalid),
        data={name: digest_of(parts) for name, parts in read.digested().items()},
        force=force,
    )
    if time_budget is not None:
        settings = _with_budget(settings, began, seconds_of(time_budget), size, config, encoder)
    warnings = [*read.warnings]
    if listed_in is not None:
        warnings.append(f"invalid rows left out: {len(read.invalid):,}, listed in {path_text(listed_in)}")
    first = [
        *data_reports(read.split, len(read.unlabeled)),
        *(StageReport(DATA_STAGE, warning, is_warning=True) for warning in warnings),
        start,
    ]
    run(settings, first, train_bundle(read.split, read.unlabeled, settings), following)
    return load(settings.out)


def _with_budget(
    settings: RunSettings,
    began: float,
    seconds: float,
    size: Size | None,
    config: str | os.PathLike[str] | Mapping[str, object] | None,
    encoder: EncoderKind | None,
) -> RunSettings:
    """Return the settings with a time budget, and with the smaller size that it may choose."""
    from bothways.training.hyperparameters import load_hyperparameters  # noqa: PLC0415  (needs torch)

    may_shrink = settings.pack is None and size is None
    smaller = load_hyperparameters("tiny", config, encoder) if may_shrink else None
    return replace(settings, time_budget=seconds, began=began, smaller=smaller)


def _single_label_column(label: str | Sequence[str] | None) -> str | None:
    """Return the label column.

    Raises:
        ConfigError: Several are named.
    """
    if label is None or isinstance(label, str):
        return label
    if len(label) > 1:
        raise ConfigError(
            f"{len(label)} label columns are named ({', '.join(map(quoted, label))}), expected one. Name columns of 0 "
            "and 1 with --labels, and train one regression model per target"
        )
    return label[0]


@checked(**COMMON_CHECKS, corpus=as_paths, about=optional(as_text), continue_from=optional(as_path))
def pretrain(
    corpus: Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str],
    text: str = "text",
    about: str | None = None,
    continue_from: str | os.PathLike[str] | None = None,
    size: Size | None = None,
    encoder: EncoderKind | None = None,
    directions: Directions | Direction = "both",
    seed: int = 0,
    config: str | os.PathLike[str] | Mapping[str, object] | None = None,
    device: Device = "cpu",
    progress: bool = True,
    plot: str | os.PathLike[str] | None = None,
    log_to: str | Sequence[str] | None = None,
    format: TableFormat | None = None,  # noqa: A002  (as the option)
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    encoding: str | None = None,
    header: bool = True,
) -> None:
    """Train language models on a corpus and publish them as one pack.

    Guarantee 7: a run that was killed continues when the same call is repeated, and ends in the same bytes. In
    processes started by ``torchrun``, all of them train each model together.

    Args:
        corpus: Files of plain text (paragraphs between blank lines) or tables (docs/tables.md), also compressed.
        out: Pack to create. Must not exist yet.
        text: Text column or key, for all formats but plain text.
        about: Description and license of the corpus, for the pack's card.
        continue_from: A pack to continue training from: ``en-small``, a path or ``hf://user/pack``. It fixes tokenizer
            and model size.
        size: ``tiny``, ``small`` or ``base``, for models trained from scratch. Defaults to ``small``.
        encoder: ``lstm`` (AWD-LSTM) or ``qrnn`` (QRNN). Defaults to that of the pack, or to ``lstm``. With a pack of
            another kind, tokenizer, embedding and decoder continue, and the layers are trained from scratch.
        directions: ``both``, ``forward`` or ``backward``.
        seed: Random seed, 0..4294967295.
        config: A TOML file of hyperparameters, or a dict with its sections (docs/hyperparameters.md).
        device: ``cpu`` or ``cuda``.
        progress: Show progress on standard error: bars in a terminal or a notebook, otherwise a line per stage.
        plot: Picture of the loss curves to draw at the end, also if training fails: a PNG, SVG or PDF file. It needs
            matplotlib.
        log_to: ``tensorboard``, ``tensorboard:FOLDER``, ``wandb`` or ``wandb:PROJECT``, or several of them: send the
            metrics to TensorBoard or Weights & Biases, which must be installed (docs/training.md).
        format: Format of all files. Defaults to that of each suffix, and to plain text.
        delimiter: Character between the fields of a text table, such as ``;``. Defaults to a tab for TSV, or a comma.
        quotes: ``none`` if quotation marks are ordinary characters, ``double`` if they enclose fields in any case.
        encoding: Encoding of a text file. Defaults to UTF-8.
        header: Whether a text table begins with column names. Otherwise its columns are named ``1``, ``2`` and so on.

    Raises:
        ConfigError: An option is invalid, ``out`` exists, or an unfinished run has different settings.
        DataError: The corpus cannot be used.
        DirectionError: The pack has no model for one of the directions.
        BundleError: The pack cannot be read.
        DependencyMissing: The libraries for training are not installed.
        TrainingError: Training diverged (``TrainingDiverged``), or the pack could not be verified. Nothing was
            published.
    """
    base, _ = run_settings(out, directions, seed, continue_from, size, encoder, config, device, may_replace_layers=True)
    from bothways.training.distributed import processes  # noqa: PLC0415  (needs torch)
    from bothways.training.follow import check_following  # noqa: PLC0415  (needs torch)
    from bothways.training.pipeline import pretrain_pack  # noqa: PLC0415  (needs torch)

    following = check_following(progress, plot, log_to)

    dialect = Dialect(format, delimiter, quotes, encoding, header)
    texts = Corpus([os.fspath(path) for path in corpus], text, dialect)
    if texts.texts < 2:
        raise DataError(f"the corpus has {texts.texts} texts; at least 2 are needed (one to train on, one to validate)")
    settings = replace(base, text_columns=(text,), about=about, data={"corpus": texts.digest})
    reports = pretrain_pack(texts, settings)
    if processes().rank > 0:  # the first process writes files and reports progress
        try:
            collections.deque(reports, maxlen=0)
        except TrainingDiverged as error:  # in all processes at once, and the first one reports it
            raise SystemExit(error.exit_code) from None
        return
    run(settings, [], reports, following)
