"""``bothways evaluate``: metrics of a bundle on labeled rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways import strict_json
from bothways.bundle.parity import ENSEMBLE
from bothways.cli.metrics import invalid_text, metrics_table
from bothways.cli.options import (
    BundlePath,
    DelimiterOption,
    DropInvalid,
    EncodingOption,
    FormatOption,
    NoHeaderOption,
    QuotesOption,
    TrainedLabelColumn,
    TrainedTextColumns,
    output_console,
)
from bothways.evaluation.evaluate import UnknownLabels
from bothways.files import open_for_writing, refuse_unusable
from bothways.tasks.labels import label_text
from bothways.tasks.metrics import UNDEFINED, few_rows_warning, metric_text, metric_texts


def evaluate(
    bundle: BundlePath,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="Labeled rows: CSV, JSON lines, Parquet, Excel and others; see docs/tables.md."
        ),
    ],
    text: TrainedTextColumns = None,
    label: TrainedLabelColumn = None,
    unknown_labels: Annotated[
        UnknownLabels,
        typer.Option(help="Labels that the model does not know: refuse them, or count their rows as errors."),
    ] = "error",
    drop_invalid: DropInvalid = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="JSON file to create. Must not exist yet.")
    ] = None,
    table_format: FormatOption = None,
    delimiter: DelimiterOption = None,
    quotes: QuotesOption = None,
    encoding: EncodingOption = None,
    no_header: NoHeaderOption = False,
) -> None:
    """Evaluate a bundle on labeled rows.

    Prints the metrics of each direction and of the ensemble, with 95 % confidence intervals of the ensemble (bootstrap
    over rows), and precision, recall and F1 per class. ECE is the expected calibration error: how far probabilities are
    from observed frequencies. For multi-label, the thresholds of the ensemble are also applied to single directions.
    For a regression with several targets, prints the mean of each metric over the targets, and the metrics per target.
    Repeat --label for several targets, in their order.

    Example: bothways evaluate reviews.bundle test.csv
    """
    if out is not None:
        refuse_unusable(out)
    evaluation = bothways.evaluate(
        bundle,
        data,
        text=text,
        label=label,
        unknown_labels=unknown_labels,
        drop_invalid=drop_invalid,
        format=table_format,
        delimiter=delimiter,
        quotes=quotes,
        encoding=encoding,
        header=not no_header,
    )
    document = strict_json.dump(evaluation.to_dict())
    if out is not None:
        with open_for_writing(str(out)) as file:
            file.write(f"{document}\n".encode())
    console = output_console()
    if as_json:
        console.print(document)
        return
    console.print(f"{evaluation.rows:,} rows of {evaluation.data}")
    if evaluation.unknown:
        console.print(f"Rows with labels that the model does not know, counted as errors: {evaluation.unknown:,}")
    if evaluation.invalid:
        console.print(invalid_text(evaluation.invalid))
    console.print(_summary(evaluation))
    if uncertain := few_rows_warning(evaluation.summary[ENSEMBLE], evaluation.rows, "rows"):
        console.print(f"warning: {uncertain}")
    if evaluation.targets:
        each = {name: metric_texts(metrics) for name, metrics in evaluation.targets.items()}
        console.print(metrics_table("target", each, "ensemble, per target"))
    if evaluation.classes:
        console.print(_classes(evaluation))


def _summary(evaluation: bothways.Evaluation) -> Table:
    """Return the metrics of each direction and of the ensemble, whose confidence intervals come last."""
    rows = {name: metric_texts(metrics) for name, metrics in evaluation.summary.items()}
    intervals = {
        name: " to ".join(metric_text(name, bound) for bound in bounds) for name, bounds in evaluation.intervals.items()
    }
    return metrics_table("direction", {**rows, "95 % interval": intervals})


def _classes(evaluation: bothways.Evaluation) -> Table:
    """Return the metrics of the ensemble per class, with the class that is predicted most often by mistake."""
    table = Table(title="ensemble, per class", title_justify="left")
    table.add_column("label")
    confused = _most_frequent_confusions(evaluation)
    for title in (
        "precision",
        "recall",
        "F1",
        "rows",
        "predicted",
        *(["most often confused with"] if confused else []),
    ):
        table.add_column(title, justify="right")
    for position, each in enumerate(evaluation.classes):
        shares = [
            f"{each.precision:.1%}" if each.predicted else UNDEFINED,
            f"{each.recall:.1%}" if each.support else UNDEFINED,
            f"{each.f1:.3f}" if each.support or each.predicted else UNDEFINED,
        ]
        table.add_row(
            label_text(each.label), *shares, str(each.support), str(each.predicted), *confused[position : position + 1]
        )
    return table


def _most_frequent_confusions(evaluation: bothways.Evaluation) -> list[str]:
    """Return for each class the class as which its rows are most often mispredicted, with the number of these rows."""
    found = []
    for true, row in enumerate(evaluation.confusion or []):
        wrong = [0 if predicted == true else count for predicted, count in enumerate(row)]
        found.append(f"{label_text(evaluation.labels[wrong.index(max(wrong))])} ({max(wrong)})" if max(wrong) else "")
    return found
