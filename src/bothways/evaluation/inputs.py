"""Resolve the arguments that all evaluation functions share: a model or its path, and the columns of a table."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bothways.errors import ConfigError
from bothways.runtime.classifier import Classifier, load
from bothways.text.fields import TextColumns, columns_of, columns_text

ModelSource = Classifier | str | os.PathLike[str]
"""A loaded model, or the directory of a bundle."""


def load_model(model: ModelSource) -> Classifier:
    """Return a model, loaded with the default options if it is given as a path.

    Raises:
        BundleError: There is no bundle at the path, or it cannot be read.
    """
    return model if isinstance(model, Classifier) else load(model)


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
        raise ConfigError(
            f"the model reads {columns_text(recorded)} in this order. Name them in this order with --text"
        )
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
