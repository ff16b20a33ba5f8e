"""Resolve the arguments that all evaluation functions share: a model or its path, and the columns of a table."""

from __future__ import annotations

import os

from bothways.errors import ConfigError
from bothways.runtime.classifier import Classifier, load

ModelSource = Classifier | str | os.PathLike[str]
"""A loaded model, or the directory of a bundle."""


def load_model(model: ModelSource) -> Classifier:
    """Return a model, loaded with the default options if it is given as a path.

    Raises:
        BundleError: There is no bundle at the path, or it cannot be read.
    """
    return model if isinstance(model, Classifier) else load(model)


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
