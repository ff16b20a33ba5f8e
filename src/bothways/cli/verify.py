"""``bothways verify``: compare a bundle's predictions on this machine with those of its trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways.bundle.hub import local_path
from bothways.bundle.manifest import Manifest
from bothways.bundle.read import read_manifest
from bothways.cli.metrics import invalid_text, metrics_table
from bothways.cli.options import (
    BundlePath,
    DelimiterOption,
    DropInvalid,
    EncodingOption,
    FormatOption,
    NoHeaderOption,
    PrecisionOption,
    QuotesOption,
    TrainedLabelColumn,
    TrainedTextColumns,
    output_console,
)
from bothways.errors import ConfigError, path_text
from bothways.tasks.metrics import metric_texts

_UNITS = {"probabilities": "a probability", "values": "a value (relative to the scale of its target)"}


def verify(
    bundle: BundlePath,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="Labeled rows to compare the precisions on, with int8 only.")
    ] = None,
    text: TrainedTextColumns = None,
    label: TrainedLabelColumn = None,
    precision: PrecisionOption = "float32",
    drop_invalid: DropInvalid = False,
    table_format: FormatOption = None,
    delimiter: DelimiterOption = None,
    quotes: QuotesOption = None,
    encoding: EncodingOption = None,
    no_header: NoHeaderOption = False,
    key: Annotated[
        Path | None,
        typer.Option(metavar="PUBLIC.pem", help="Ed25519 public key that the bundle must be signed with."),
    ] = None,
) -> None:
    """Verify a bundle or pack on this machine.

    Predicts the texts of the bundle's parity record and prints the largest difference from the trainer's numbers. Exits
    with status 1 if it is too large, or if the bundle is damaged or was changed. With --key, also checks who signed it.
    With --precision int8, also prints how many labels change, and with labeled rows how the metrics change.

    Example: bothways verify reviews.bundle --key public.pem · bothways verify reviews.bundle test.csv --precision int8
    """
    if data is not None and precision == "float32":
        raise ConfigError("labeled rows compare int8 with float32. Add --precision int8, or use bothways evaluate")
    folder = local_path(bundle)
    result = bothways.verify(folder, precision=precision, key=key)
    manifest = read_manifest(folder)
    table = Table(
        title=f"{path_text(bundle)}: {result.texts} texts of the parity record, {precision}", title_justify="left"
    )
    table.add_column("direction")
    table.add_column(f"largest difference of {_unit(manifest)}", justify="right")
    table.add_column("allowed", justify="right")
    for name, difference in result.differences.items():
        table.add_row(name, f"{difference:.2e}", f"{result.limit:.0e}")
    console = output_console()
    console.print(table)
    if manifest.labels and (precision != "float32" or result.changed_labels):
        console.print(f"{result.changed_labels} of {result.texts} texts get other labels.")
    if data is not None:
        comparison = bothways.compare_precision(
            folder,
            data,
            text=text,
            label=label,
            drop_invalid=drop_invalid,
            format=table_format,
            delimiter=delimiter,
            quotes=quotes,
            encoding=encoding,
            header=not no_header,
        )
        if comparison.invalid:
            console.print(invalid_text(comparison.invalid))
        metrics = {name: metric_texts(found) for name, found in comparison.metrics.items()}
        console.print(metrics_table("precision", metrics, f"{comparison.rows:,} rows of {comparison.data}"))
        if manifest.labels:
            console.print(f"{comparison.changed_labels} of {comparison.rows} rows get other labels in int8.")
    if not result.passed:
        console.print(f"FAILED: {result.problem}")
        raise typer.Exit(1)
    if key is not None:
        console.print(f"Signed with the private key of {path_text(key)}.")
    if precision == "float32":
        console.print("Passed: the tokens and the numbers are those of the trainer.")
    else:
        console.print("Passed: the tokens are those of the trainer, and the numbers are close.")


def _unit(manifest: Manifest) -> str:
    if manifest.task == "next-token":
        return "the loss (nats per token)"
    return _UNITS[manifest.decisions.score_kind]
