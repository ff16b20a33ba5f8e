"""``bothways train``: train a model on a file of labeled texts and write it to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import bothways
from bothways.cli.metrics import metrics_table, print_trained
from bothways.cli.options import (
    Config,
    DelimiterOption,
    DeviceOption,
    DropInvalid,
    EncoderOption,
    EncodingOption,
    FormatOption,
    LogTo,
    NoHeaderOption,
    Plot,
    QuotesOption,
    Seed,
    output_console,
)
from bothways.errors import ConfigError, path_text
from bothways.files import refuse_unusable
from bothways.tasks.metrics import metric_texts
from bothways.tasks.task import TaskName
from bothways.terminal import SafeConsole
from bothways.training.choices import Directions, Size
from bothways.training.cross_validation import CrossValidation


def train(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="Labeled rows: CSV, JSON lines, Parquet, Excel and others; see docs/tables.md."
        ),
    ],
    text: Annotated[
        list[str], typer.Option(metavar="COLUMN", help="Text column. Repeat it for several, in the order to read them.")
    ],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Bundle to create. Must not exist yet.")],
    label: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Label column, or the target for regression.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="Columns of 0 and 1, one per label, for multi-label. With --label: names of its multi-hot positions.",
        ),
    ] = None,
    task: Annotated[
        TaskName | None,
        typer.Option(
            help="What to predict. Defaults to multi-label with --label-separator or --labels, single-label otherwise."
        ),
    ] = None,
    label_separator: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Separator of the labels of a text, such as |, for multi-label."),
    ] = None,
    weight: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Weights of rows in the training loss. Defaults to equal weights."),
    ] = None,
    drop_invalid: DropInvalid = False,
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="First cross-validate with N folds, each a training of its own. The results are in BUNDLE.folds.",
        ),
    ] = None,
    valid: Annotated[
        str | None, typer.Option(metavar="FILE", help="Validation rows. Defaults to a tenth of DATA.")
    ] = None,
    unlabeled: Annotated[
        str | None, typer.Option(metavar="FILE", help="More texts, used by the language models only.")
    ] = None,
    soft_labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="More texts with the probabilities of a teacher, one column per label as predict writes, or labels.",
        ),
    ] = None,
    pretrained: Annotated[
        str,
        typer.Option(
            metavar="PACK",
            help="Pack or classifier to start from: auto (en-small for English texts, otherwise none), en-small, "
            "a path, hf://USER/PACK, or none.",
        ),
    ] = "auto",
    size: Annotated[Size | None, typer.Option(help="Size of a model trained from scratch. Defaults to small.")] = None,
    encoder: EncoderOption = None,
    directions: Annotated[Directions, typer.Option(help="Reading directions to train.")] = "both",
    seed: Seed = 0,
    config: Config = None,
    time_budget: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Time for the whole training, such as 10m or 1h30m. Limits epochs, and the size if it is not given.",
        ),
    ] = None,
    device: DeviceOption = "cpu",
    plot: Plot = None,
    log_to: LogTo = None,
    table_format: FormatOption = None,
    delimiter: DelimiterOption = None,
    quotes: QuotesOption = None,
    encoding: EncodingOption = None,
    no_header: NoHeaderOption = False,
    force: Annotated[
        bool, typer.Option("--force", help="Publish a model that is no better than a constant prediction.")
    ] = False,
) -> None:
    """Train a classifier or a regression model.

    The bundle contains one model per direction. It is verified in a fresh process before it is published. A run that
    was killed continues when the same command is run again. A model that is no better than the same prediction for
    every text is not published without --force.

    Invalid rows are reported all at once. With --drop-invalid they are left out and listed in BUNDLE.invalid.jsonl.

    With --time-budget 10m, as many epochs are trained as fit into ten minutes on this machine.

    Several text columns are joined with the field token: --text title --text body

    With --folds 5, five models are trained first, each without a fifth of the rows, which it then predicts. Their
    predictions are in BUNDLE.folds, and the mean and standard deviation of the metrics are printed.

    Example: bothways train reviews.csv --text review --label sentiment --out reviews.bundle
    """
    if folds is not None and valid is not None:
        raise ConfigError("--folds and --valid cannot be combined: folds are validated on rows of DATA")
    if folds is not None and time_budget is not None:
        raise ConfigError(
            "--folds and --time-budget cannot be combined: folds need equal epochs. State epochs in a --config file"
        )
    options: dict[str, Any] = {
        "text": text,
        "task": task,
        "label_separator": label_separator,
        "weight": weight,
        "drop_invalid": drop_invalid,
        "unlabeled": unlabeled,
        "soft_labels": soft_labels,
        "pretrained": pretrained,
        "size": size,
        "encoder": encoder,
        "directions": directions,
        "seed": seed,
        "config": config,
        "device": device,
        "format": table_format,
        "delimiter": delimiter,
        "quotes": quotes,
        "encoding": encoding,
        "header": not no_header,
        "force": force,
    }
    names = [name.strip() for name in labels.split(",")] if labels is not None else None
    console = output_console()
    if folds is not None:
        refuse_unusable(out)
        column = label[0] if label is not None and len(label) == 1 else None
        folder = Path(f"{out}.folds")
        _print_folds(console, bothways.cross_validate(data, names, label=column, folds=folds, out=folder, **options))
    options |= {"valid": valid, "plot": plot, "log_to": log_to, "time_budget": time_budget}
    model = bothways.train(data, names, label=label, out=out, **options)
    print_trained(console, out, model.manifest.training)


def _print_folds(console: SafeConsole, found: CrossValidation) -> None:
    """Print the metrics of each fold, their mean and their standard deviation."""
    moments = {"mean": found.mean, "sd": found.standard_deviation}
    rows = {f"fold {number}": metrics for number, metrics in enumerate(found.folds, start=1)} | moments
    title = f"{len(found.folds)} folds, {len(found.fold_of):,} rows, each predicted by a model that did not see it"
    console.print(metrics_table("", {name: metric_texts(metrics) for name, metrics in rows.items()}, title))
    console.print(f"Out-of-fold predictions: {path_text(found.predictions)}")
