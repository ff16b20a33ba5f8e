"""``bothways drift``: compare new texts with those that a model was calibrated on."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways import strict_json
from bothways.cli.options import (
    BundlePath,
    DelimiterOption,
    EncodingOption,
    FormatOption,
    NoHeaderOption,
    QuotesOption,
    TrainedTextColumns,
    output_console,
)
from bothways.evaluation.drift import Compared
from bothways.tasks.labels import label_text
from bothways.terminal import SafeConsole

_LABELS_SHOWN = 5


def drift(
    bundle: BundlePath,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Texts, without labels.")],
    text: TrainedTextColumns = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    table_format: FormatOption = None,
    delimiter: DelimiterOption = None,
    quotes: QuotesOption = None,
    encoding: EncodingOption = None,
    no_header: NoHeaderOption = False,
) -> None:
    """Compare new texts with those of the calibration.

    Reports the share out of domain, the mean confidence and the predicted labels, each beside the rows on which
    `bothways abstention` calibrated the bundle. A p-value is the probability of such a difference between two samples
    of the same texts.

    Example: bothways drift careful.bundle this_week.csv
    """
    with SafeConsole(file=sys.stderr).status("reading the texts"):  # shown on terminals only
        found = bothways.drift(
            bundle,
            data,
            text=text,
            format=table_format,
            delimiter=delimiter,
            quotes=quotes,
            encoding=encoding,
            header=not no_header,
        )
    console = output_console()
    if as_json:
        console.print(strict_json.dump(found.to_dict()))
        return
    table = Table(
        title=f"{found.rows:,} texts compared with {found.reference_rows:,} of the calibration", title_justify="left"
    )
    has_training = found.training_distance is not None
    for column in ("", "texts", "calibration", *(["training"] if has_training else []), "p-value"):
        table.add_column(column, justify="right" if column else "left")

    def add(name: str, value: str, reference: str, trained: str, p_value: str) -> None:
        table.add_row(name, value, reference, *([trained] if has_training else []), p_value)

    rows: dict[str, Compared] = {
        "out of domain": found.out_of_domain,
        "abstained": found.abstained,
        "mean confidence": found.confidence,
    }
    for name, each in rows.items():
        add(name, f"{each.value:.1%}", f"{each.reference:.1%}", "", _p_text(each.p_value))
    distance = found.label_distance
    far = "" if found.training_distance is None else f"{found.training_distance:.3f}"
    add("distance of the labels", "", f"{distance.value:.3f}", far, _p_text(distance.p_value))
    for label in found.labels[:_LABELS_SHOWN]:
        trained = "" if label.training is None else f"{label.training:.1%}"
        add(f"  {label_text(label.label)}", f"{label.value:.1%}", f"{label.reference:.1%}", trained, "")
    console.print(table)
    if found.unreadable:
        console.print(f"The model cannot read {found.unreadable:.1%} of the texts")


def _p_text(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"
