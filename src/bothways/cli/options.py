"""Options that several verbs share."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bothways.bundle.manifest import Manifest
from bothways.data.labeled import LABEL_SEPARATOR
from bothways.errors import ConfigError


class SizeName(StrEnum):
    """The presets of a recipe."""

    TINY = "tiny"
    SMALL = "small"
    BASE = "base"


class DirectionsName(StrEnum):
    """Which models to train."""

    BOTH = "both"
    FORWARD = "forward"
    BACKWARD = "backward"


class DirectionName(StrEnum):
    """The way a single model reads."""

    FORWARD = "forward"
    BACKWARD = "backward"


class DeviceName(StrEnum):
    """Where to train."""

    CPU = "cpu"
    CUDA = "cuda"


class FormatName(StrEnum):
    """Formats of a table, where the suffix does not tell."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class PrecisionName(StrEnum):
    """In which weights are multiplied."""

    FLOAT32 = "float32"
    INT8 = "int8"


BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's directory.")]
TrainedTextColumn = Annotated[
    str | None, typer.Option("--text", metavar="COLUMN", help="The column of the texts; else the one trained on.")
]
TrainedLabelColumn = Annotated[
    str | None, typer.Option("--label", metavar="COLUMN", help="The column of the labels; else the one trained on.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides every random choice.")]
Config = Annotated[
    Path | None, typer.Option(metavar="FILE.toml", help="Changes numbers of the recipe; see docs/recipe.md.")
]
Device = Annotated[DeviceName, typer.Option(help="Where to train.")]
PrecisionOption = Annotated[
    PrecisionName, typer.Option("--precision", help="int8 is faster and near the trainer's numbers only.")
]
Language = Annotated[
    str | None,
    typer.Option(metavar="CODE", help="spaCy's code of the language, where the file does not say; else en."),
]


def output_console() -> Console:
    """Return the console for results: standard output, as wide as it needs to be when it is no terminal.

    It shows labels, columns and paths as they are, also ``[red]`` and ``:smile:``.
    """
    width = None if sys.stdout.isatty() else 160
    return Console(width=width, markup=False, emoji=False, highlight=False, soft_wrap=True)


def choose_column(given: str | None, recorded: str | None, option: str) -> str:
    """Return the column to read: the option's, or the one that the bundle was trained on.

    Raises:
        ConfigError: There is neither.
    """
    column = given or recorded
    if column is None:
        raise ConfigError(f"the bundle does not record which column to read: name it with {option}")
    return column


def label_separator(manifest: Manifest) -> str:
    """Return what stands between the labels of a text: what the bundle was trained on, or the usual bar."""
    return manifest.training.label_separator or LABEL_SEPARATOR
