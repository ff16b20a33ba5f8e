"""``bothways verify``: does a bundle give its trainer's numbers on this machine?"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways.cli.options import (
    BundlePath,
    PrecisionName,
    PrecisionOption,
    TrainedLabelColumn,
    TrainedTextColumn,
    choose_column,
    label_separator,
    output_console,
)
from bothways.data.labeled import label_numbers, read_labeled, read_multi_labeled
from bothways.errors import ConfigError


def verify(
    bundle: BundlePath,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="Labelled rows, to see what a precision costs in accuracy.")
    ] = None,
    text: TrainedTextColumn = None,
    label: TrainedLabelColumn = None,
    precision: PrecisionOption = PrecisionName.FLOAT32,
) -> None:
    """Replay a bundle's proof on this machine and show the largest difference in each direction.

    With --precision int8 also how many labels change, and on labeled rows how the accuracy does. Exits with 1 if the
    numbers are not the trainer's.

    Example: bothways verify reviews.bundle · bothways verify reviews.bundle held_out.csv --precision int8
    """
    if data is not None and precision is PrecisionName.FLOAT32:
        raise ConfigError("labeled rows show what a precision costs: add --precision int8, or use bothways evaluate")
    result = bothways.verify(bundle, precision=precision.value)
    what = "probability" if result.kind == "classifier" else "loss (nats a token)"
    table = Table(title=f"{bundle}: {result.texts} texts replayed in {precision}", title_justify="left")
    table.add_column("reads")
    table.add_column(f"largest difference of a {what}", justify="right")
    table.add_column("allowed", justify="right")
    for name, difference in result.differences.items():
        table.add_row(name, f"{difference:.2e}", f"{result.limit:.0e}")
    console = output_console()
    console.print(table)
    if precision is not PrecisionName.FLOAT32:
        console.print(f"Of the {result.texts} texts {result.changed_labels} get other labels.")
    if data is not None:
        console.print(_compared(str(bundle), data, text, label, precision))
    if not result.passed:
        console.print(f"FAILED: {result.problem}")
        raise typer.Exit(1)
    if precision is PrecisionName.FLOAT32:
        console.print("Passed: the same tokens and the trainer's numbers.")
    else:
        console.print("Passed: the same tokens, and near the trainer's numbers.")


def _compared(bundle: str, data: str, text: str | None, label: str | None, precision: PrecisionName) -> str:
    """Tell how many rows get all their labels, and no others, in float32 and in another precision."""
    exact, near = bothways.load(bundle), bothways.load(bundle, precision=precision.value)
    record = exact.manifest.training
    columns = choose_column(text, record.text_column, "--text"), choose_column(label, record.label_column, "--label")
    if exact.is_multi_label:
        many = read_multi_labeled(data, *columns, label_separator(exact.manifest))
        texts, true = many.texts, [set(names) for names in many.labels]
    else:
        one = read_labeled(data, *columns)
        texts, true = one.texts, [{name} for name in one.labels]
    label_numbers(exact.labels, (name for names in true for name in names), data)
    chosen = {model.precision: [set(p.chosen) for p in model.stream(texts)] for model in (exact, near)}
    right = {
        name: sum(ours == theirs for ours, theirs in zip(found, true, strict=True)) for name, found in chosen.items()
    }
    changed = sum(ours != theirs for ours, theirs in zip(chosen["float32"], chosen[near.precision], strict=True))
    shares = ", ".join(f"{count / len(true):.2%} right in {name}" for name, count in right.items())
    return f"Of {len(true)} rows of {data}: {shares}; {changed} get other labels."
