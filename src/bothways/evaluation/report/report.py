"""Report how good a model is: the numbers of an evaluation and everything that explains them, as one HTML page.

Input: a model, labeled rows, and optionally another model and the training rows. Output: a ``Report``, and a page.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bothways.arguments import as_flag, as_names, as_path, checked, one_of, optional
from bothways.data.dialect import DIALECT_CHECKS, Dialect, Quotes, TableFormat
from bothways.data.tables import TableSource
from bothways.errors import ConfigError, path_text
from bothways.evaluation.evaluate import Evaluation, UnknownLabels, evaluation_of
from bothways.evaluation.inputs import LabelColumns, ModelSource, load_model, read_rows
from bothways.evaluation.report import sections
from bothways.evaluation.report.learning_curve import LearningPoint, learning_curve
from bothways.evaluation.report.numbers import BundleComparison, Report, Section
from bothways.evaluation.report.page import page
from bothways.evaluation.scored_rows import ScoredRows, scored_rows
from bothways.files import open_for_writing, refuse_unusable
from bothways.runtime.classifier import Classifier
from bothways.tasks.labels import in_order
from bothways.tasks.task import LabeledTexts
from bothways.text.fields import TextColumns

Rows = TableSource | tuple[Sequence[object], Sequence[object]]


@checked(
    out=as_path,
    with_texts=as_flag,
    text=optional(as_names),
    label=optional(as_names),
    unknown_labels=one_of("error", "count"),
    drop_invalid=as_flag,
    **DIALECT_CHECKS,
)
def report(
    model: ModelSource,
    data: Rows,
    *,
    out: str | os.PathLike[str],
    against: ModelSource | None = None,
    train: Rows | None = None,
    with_texts: bool = False,
    text: TextColumns | None = None,
    label: LabelColumns | None = None,
    unknown_labels: UnknownLabels = "error",
    drop_invalid: bool = False,
    format: TableFormat | None = None,  # noqa: A002  (as the option)
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    encoding: str | None = None,
    header: bool = True,
) -> Report:
    """Evaluate a model on labeled rows and write a report as one HTML page.

    The metrics and their intervals are those of ``evaluate``. Each text is read once. The page loads nothing, runs no
    script, and is readable in light, dark and print.

    Args:
        model: A loaded model, evaluated with its precision and early exit, or the directory of a bundle.
        data: Labeled rows: a table in a file, or in memory (docs/tables.md). Or a tuple of texts and their labels.
        out: HTML file to create. Must not exist yet.
        against: Another model, or the directory of its bundle, to compare with row by row. Its texts are those of
            ``data``, in the columns that ``model`` reads.
        train: The training rows, for an estimated learning curve. Read with the same columns and format as ``data``.
        with_texts: Show the beginning of the texts of rows that are listed. Defaults to their numbers only.
        text: Text column, or several. Defaults to those used in training.
        label: Label column; for regression the column of the target, or one per target in their order. Defaults to the
            one used in training.
        unknown_labels: ``error`` refuses labels that the model does not know. ``count`` counts their rows as errors.
        drop_invalid: Leave rows without a usable text or label out.
        format: Format of a file. Defaults to that of its suffix.
        delimiter: Character between the fields of a text table, such as ``;``. Defaults to a tab for TSV, or a comma.
        quotes: ``none`` if quotation marks are ordinary characters, ``double`` if they enclose fields in any case.
        encoding: Encoding of a text file. Defaults to UTF-8.
        header: Whether a text table begins with column names. Otherwise its columns are named ``1``, ``2`` and so on.

    Returns:
        The numbers of the page.

    Raises:
        BundleError: There is no bundle at a path, or it cannot be read.
        ConfigError: A column is not named, and the bundle does not record it. Or the other model has another task.
        DataError: The rows cannot be read, or have labels that the model does not know. All such rows are named.
        DependencyMissing: Training rows are given, and scikit-learn is not installed.
        OutputExists: ``out`` already exists.
    """
    refuse_unusable(Path(out))
    classifier = load_model(model)
    other = None if against is None else load_model(against)
    if other is not None:
        _refuse_other_task(classifier, other)
    dialect = Dialect(format, delimiter, quotes, encoding, header)

    def rows_of(source: Rows, keep_unknown: bool) -> LabeledTexts:
        return read_rows(
            classifier.manifest,
            source,
            text,
            label,
            dialect,
            drop_invalid=drop_invalid,
            keep_unknown=keep_unknown,
            unknown_advice="; --unknown-labels count counts such rows as errors",
        )

    rows = rows_of(data, unknown_labels == "count")
    training = None if train is None else rows_of(train, True)
    scored = scored_rows(classifier, rows)
    evaluation = evaluation_of(scored)
    curve = () if training is None else _learning_curve(classifier, training, rows)
    comparison = (
        None
        if other is None
        else sections.bundle_comparison(scored_rows(other, rows), scored, _name(against, "the other model"), with_texts)
    )
    learning = None
    if training is not None and curve:
        shared = len(set(training.texts) & set(rows.texts))
        learning = sections.learning_section(curve, evaluation, training.name, shared)
    found = _report(scored, evaluation, curve, learning, comparison, with_texts)
    with open_for_writing(str(out)) as file:
        file.write(page(found, _name(model, "the model")))
    return found


def _report(
    scored: ScoredRows,
    evaluation: Evaluation,
    curve: tuple[LearningPoint, ...],
    learning: Section | None,
    comparison: BundleComparison | None,
    with_texts: bool,
) -> Report:
    members = sections.member_comparisons(scored)
    mistakes = sections.mistakes(scored, with_texts)
    found: list[Section] = [
        sections.members_section(evaluation, members),
        sections.answers_section(scored),
        sections.texts_section(scored),
        *([] if learning is None else [learning]),
        sections.mistakes_section(scored, mistakes, with_texts),
        *([] if comparison is None else [sections.against_section(comparison)]),
    ]
    return Report(evaluation, members, mistakes, curve, comparison, tuple(found))


def _learning_curve(classifier: Classifier, train: LabeledTexts, rows: LabeledTexts) -> tuple[LearningPoint, ...]:
    """Return the learning curve of a linear model, which also learns labels that the bundle does not know."""
    unknown = (label for each in (*train.labels, *rows.labels) for label in classifier.task.unknown(each))
    task = classifier.task.extended(in_order(unknown))
    return learning_curve(train, task.targets(train), rows.texts, task.targets(rows), task)


def _refuse_other_task(model: Classifier, other: Classifier) -> None:
    """Refuse to compare models whose answers cannot be compared.

    Raises:
        ConfigError: They have different tasks, or a different number of targets or text columns.
    """
    for what, ours, theirs in (
        ("task", model.task.name, other.task.name),
        ("number of targets", len(model.task.target_names), len(other.task.target_names)),
        ("number of text columns", max(1, len(model.text_columns)), max(1, len(other.text_columns))),
    ):
        if ours != theirs:
            raise ConfigError(
                f"--against has another {what}: {theirs}, but the model has {ours}. Compare bundles of the same kind"
            )


def _name(model: ModelSource | None, default: str) -> str:
    """Return the name of a bundle, without folders."""
    return path_text(Path(model).name) if isinstance(model, str | os.PathLike) else default
