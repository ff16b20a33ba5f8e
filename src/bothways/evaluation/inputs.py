"""Resolve the arguments that all evaluation functions share: a model or its path, and labeled rows."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bothways.arguments import as_path
from bothways.bundle.manifest import Manifest
from bothways.data.dialect import Dialect
from bothways.data.labeled import LabeledSource, as_table, labeled_source, read_labeled
from bothways.errors import ConfigError
from bothways.runtime.classifier import Classifier, load
from bothways.tasks.task import LabeledTexts
from bothways.text.fields import TextColumns, columns_of, columns_text

LabelColumns = str | Sequence[str]
"""The label column, or one per target of a regression in their order."""

ModelSource = Classifier | str | os.PathLike[str]
"""A loaded model, or the directory of a bundle."""


def load_model(model: ModelSource) -> Classifier:
    """Return a model, loaded with the default options if it is given as a path.

    Raises:
        ConfigError: It is neither a model nor a path.
        BundleError: There is no bundle at the path, or it cannot be read.
    """
    return model if isinstance(model, Classifier) else load(as_path("model", model))


def choose_text_columns(given: TextColumns | None, recorded: Sequence[str]) -> list[str]:
    """Return the text columns that the user named, in the order in which the model reads them.

    Args:
        given: The columns that the user named. Defaults to those used in training.
        recorded: The columns that the bundle records, if any.

    Raises:
        ConfigError: The user named no column, and the bundle records none; or the model reads another number of
            columns, or these columns in another order.
    """
    columns = columns_of(given) if given else list(recorded)
    if not columns:
        raise ConfigError("the bundle does not record its text column. Name it with --text")
    if len(columns) != max(1, len(recorded)):
        expected = columns_text(recorded) if recorded else "one text column"
        named = f"{len(columns)} text columns are" if len(columns) > 1 else "1 text column is"
        raise ConfigError(f"{named} named, but the model reads {expected}. Repeat --text for each, in this order")
    if columns != list(recorded) and sorted(columns) == sorted(recorded):
        raise ConfigError(f"the model reads {columns_text(recorded)}. Name them with --text in this order")
    return columns


def choose_label_column(given: str | None, recorded: str | None) -> str:
    """Return the label column that the user named. Defaults to the one used in training.

    Args:
        given: The column that the user named, if any.
        recorded: The column that the bundle records, if any.

    Raises:
        ConfigError: The user named no column, and the bundle records none.
    """
    column = given or recorded
    if column is None:
        raise ConfigError("the bundle does not record its label column. Name it with --label")
    return column


def read_rows(
    manifest: Manifest,
    data: object,
    text: TextColumns | None,
    label: LabelColumns | None,
    dialect: Dialect,
    *,
    drop_invalid: bool = False,
    keep_unknown: bool = False,
    unknown_advice: str = "",
) -> LabeledTexts:
    """Return labeled rows, read as those on which a model was trained.

    Args:
        manifest: The manifest of the model.
        data: A path or a table; or a tuple of texts and their labels.
        text: Text column, or several. Defaults to those used in training.
        label: Label column, or one per target. Defaults to that, or to the 0/1 columns, used in training.
        dialect: What the user states about a file.
        drop_invalid: Leave invalid rows out.
        keep_unknown: Keep rows with labels that the model does not know.
        unknown_advice: What a user can do about such rows, for the error.

    Raises:
        ConfigError: A column is not named, and the bundle does not record it; or the label columns are not those of the
            model's targets.
        DataError: The rows cannot be read; all invalid rows are named.
    """
    record, task = manifest.training, manifest.decisions
    if isinstance(data, tuple):
        source = labeled_source(data, None, record.text_columns or None, None)
    else:
        given = [label] if isinstance(label, str) else list(label or [])
        column = given[0] if len(given) == 1 else None
        if len(given) > 1:
            task = task.labeled_by(given)
        elif column is None and not task.label_columns:
            column = choose_label_column(None, record.label_column)
        elif column is None:
            column = record.label_column
        columns = choose_text_columns(text, record.text_columns)
        source = LabeledSource(as_table(data), tuple(columns), column)
    return read_labeled(
        source.table,
        source.text,
        source.label,
        task,
        dialect=dialect,
        drop_invalid=drop_invalid,
        keep_unknown=keep_unknown,
        unknown_advice=unknown_advice,
    )
