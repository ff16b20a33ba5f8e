"""Resolve the arguments that all evaluation functions share: a model or its path, and labeled rows."""

from __future__ import annotations

import os

from bothways.arguments import as_path
from bothways.bundle.manifest import Manifest
from bothways.data.dialect import Dialect
from bothways.data.labeled import LabeledSource, as_table, labeled_source, read_labeled
from bothways.errors import ConfigError
from bothways.runtime.classifier import Classifier, load
from bothways.tasks.task import LabeledTexts

ModelSource = Classifier | str | os.PathLike[str]
"""A loaded model, or the directory of a bundle."""


def load_model(model: ModelSource) -> Classifier:
    """Return a model, loaded with the default options if it is given as a path.

    Raises:
        ConfigError: It is neither a model nor a path.
        BundleError: There is no bundle at the path, or it cannot be read.
    """
    return model if isinstance(model, Classifier) else load(as_path("model", model))


def choose_column(given: str | None, recorded: str | None, name: str) -> str:
    """Return the column that the user named. Defaults to the one used in training.

    Args:
        given: The column that the user named, if any.
        recorded: The column that the bundle records, if any.
        name: What the column contains, ``text`` or ``label``: the name of the option.

    Raises:
        ConfigError: The user named no column, and the bundle records none.
    """
    column = given or recorded
    if column is None:
        raise ConfigError(f"the bundle does not record its {name} column. Name it with --{name}")
    return column


def read_rows(
    manifest: Manifest,
    data: object,
    text: str | None,
    label: str | None,
    dialect: Dialect,
    *,
    drop_invalid: bool = False,
    keep_unknown: bool = False,
) -> LabeledTexts:
    """Return labeled rows, read as those on which a model was trained.

    Args:
        manifest: The manifest of the model.
        data: A path or a table; or a tuple of texts and their labels.
        text: Text column. Defaults to the one used in training.
        label: Label column. Defaults to that, or to the 0/1 columns, used in training.
        dialect: What the user states about a file.
        drop_invalid: Leave invalid rows out.
        keep_unknown: Keep rows with labels that the model does not know.

    Raises:
        ConfigError: A column is not named, and the bundle does not record it.
        DataError: The rows cannot be read; all invalid rows are named.
    """
    record, task = manifest.training, manifest.decisions
    if isinstance(data, tuple):
        source = labeled_source(data, None, None, None)
    else:
        column = label or record.label_column
        if column is None and not task.label_columns:
            column = choose_column(label, record.label_column, "label")
        source = LabeledSource(as_table(data), choose_column(text, record.text_column, "text"), column)
    return read_labeled(
        source.table,
        source.text,
        source.label,
        task,
        dialect=dialect,
        drop_invalid=drop_invalid,
        keep_unknown=keep_unknown,
    )
