"""``bothways.distill``: train a smaller model to predict what a larger one predicts.

In: a bundle as the teacher, and texts without labels. Out: a classifier, loaded from the bundle that was published.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bothways.arguments import as_names, as_path, checked, optional
from bothways.bundle.manifest import EncoderKind
from bothways.bundle.packs import NO_PACK
from bothways.data.dialect import Dialect, Quotes, TableFormat
from bothways.data.labeled import read_valid_texts
from bothways.data.tables import TableSource
from bothways.errors import ConfigError
from bothways.evaluation.inputs import ModelSource, choose_text_columns, load_model, read_rows
from bothways.runtime.classifier import Classifier, load
from bothways.tasks.registry import new_task
from bothways.tasks.task import LabeledTexts, Split
from bothways.text.fields import TextColumns
from bothways.text.reading import Direction
from bothways.training.choices import Device, Directions, Size
from bothways.training.launch import COMMON_CHECKS, run, run_settings, started
from bothways.training.reports import StageReport
from bothways.training.start import Pretrained
from bothways.training.summary import DATA_STAGE, data_reports
from bothways.training.training_data import TrainingData, with_taught

DISTILLED_SIZE: Size = "tiny"


@checked(**COMMON_CHECKS, label=optional(as_names), pretrained=optional(as_path))
def distill(
    teacher: ModelSource,
    data: TableSource | Sequence[object],
    *,
    out: str | os.PathLike[str],
    text: TextColumns | None = None,
    valid: TableSource | tuple[Sequence[object], Sequence[object]] | None = None,
    label: str | None = None,
    pretrained: Pretrained = None,
    size: Size | None = None,
    encoder: EncoderKind | None = None,
    directions: Directions | Direction = "both",
    seed: int = 0,
    config: str | os.PathLike[str] | Mapping[str, object] | None = None,
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
    """Train a model on the predictions of another one for texts without labels, and publish it as a bundle.

    It learns the teacher's probabilities, or its values for a regression (knowledge distillation, Hinton et al., arXiv
    1503.02531). Guarantees 1 and 7 hold as for ``train``.

    Args:
        teacher: A bundle, or a loaded model.
        data: Texts without labels, thousands of them: a table (docs/tables.md), whose other columns are ignored, or a
            list of texts.
        out: Bundle to create. Must not exist yet.
        text: Text column, or several. Defaults to those of the teacher.
        valid: Labeled rows to validate on, as a table or a tuple of texts and labels. By default a tenth of ``data``
            with the labels of the teacher, so that metrics measure the agreement with it.
        label: Label column of ``valid``. Defaults to that of the teacher.
        pretrained: The language-model pack to start from, as for ``train``. None or ``none`` trains from scratch.
        size: ``tiny``, ``small`` or ``base``, for a model trained from scratch. Defaults to ``tiny``.
        encoder: ``lstm`` or ``qrnn``, as for ``train``.
        directions: ``both``, ``forward`` or ``backward``.
        seed: Random seed, 0..4294967295.
        config: A TOML file of hyperparameters, or a dict with its sections (docs/hyperparameters.md).
        device: ``cpu`` or ``cuda``.
        force: Publish the model even if it is no better than a constant prediction.
        progress: Show progress on standard error: bars in a terminal or a notebook, otherwise a line per stage.
        plot: Picture of the loss curves, as for ``train``.
        log_to: TensorBoard or Weights & Biases, as for ``train``.
        format: Format of all files. Defaults to that of each suffix.
        delimiter: Character between the fields of a text table.
        quotes: ``none`` or ``double``, as for ``train``.
        encoding: Encoding of a text file. Defaults to UTF-8.
        header: Whether a text table begins with column names.

    Raises:
        ConfigError: An option is invalid, ``out`` exists, or the teacher predicts several numbers.
        DataError: The texts cannot be used, or the teacher gives all of them the same label.
        BundleError: The teacher or the pack cannot be read.
        DependencyMissing: The libraries for training are not installed.
        NoBetterThanConstant: The model is no better than the same prediction for every text.
        TrainingError: Training diverged, or the bundle could not be verified. Nothing was published.
    """
    if size is None and pretrained in (None, NO_PACK):
        size = DISTILLED_SIZE
    base, first_start = run_settings(out, directions, seed, pretrained, size, encoder, config, device)
    from bothways.training.follow import check_following  # noqa: PLC0415  (needs torch)
    from bothways.training.pipeline import digest_of, train_bundle  # noqa: PLC0415  (needs torch)
    from bothways.training.teacher import labeled_by_teacher  # noqa: PLC0415  (needs torch)

    following = check_following(progress, plot, log_to)
    model, dialect = load_model(teacher), Dialect(format, delimiter, quotes, encoding, header)
    if model.task.target_names:
        raise ConfigError("the teacher predicts several numbers, and a model is trained for one number only")
    columns = choose_text_columns(text, model.text_columns)
    texts, _ = read_valid_texts(data, columns, dialect=dialect, drop_invalid=False, can_drop=False)
    taught = replace(labeled_by_teacher(model, texts, model.task, progress=progress), name="the texts")
    model.task.check(taught)
    if valid is None:
        split = model.task.split(taught, base.hyperparameters.classifier.validation_fraction, seed)
        read = TrainingData(replace(split, taught=len(split.train)), [], [], [])
        validated = "metrics on validation rows are the agreement with the teacher; with --valid those of labeled rows"
    else:
        rows = read_rows(model.manifest, valid, columns, label, dialect)
        none = LabeledTexts(taught.name, [], [])
        read = with_taught(TrainingData(Split(none, rows), [], [], []), taught)
        validated = f"metrics on validation rows are those of the labels in {rows.name}"
    record = model.task.record()
    settings, start = started(base, first_start, pretrained, config, read.split.train.texts)
    settings = replace(
        settings,
        text_columns=tuple(columns),
        label_column=model.manifest.training.label_column,
        task=new_task(record.name, record.separator, record.label_columns),
        data={"teacher": model.digest, **{name: digest_of(parts) for name, parts in read.digested().items()}},
        force=force,
    )
    reports = [
        *data_reports(read.split, 0),
        *(StageReport(DATA_STAGE, warning, is_warning=True) for warning in read.warnings),
        StageReport(DATA_STAGE, validated),
        start,
    ]
    run(settings, reports, train_bundle(read.split, [], settings), following)
    return load(settings.out)
