"""``bothways tune``: try hyperparameters within a time budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import bothways
from bothways.cli.options import (
    Config,
    DelimiterOption,
    DeviceOption,
    DropInvalid,
    EncodingOption,
    FormatOption,
    NoHeaderOption,
    QuotesOption,
    Seed,
    output_console,
)
from bothways.errors import path_text
from bothways.tasks.metrics import UNDEFINED, metric_text
from bothways.tasks.task import TaskName
from bothways.training.tune import Tuning

_MOST_TRIALS = 20


def tune(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Labeled rows, as for train.")],
    text: Annotated[list[str], typer.Option(metavar="COLUMN", help="Text column, repeatable.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the best bundle and all trials.")],
    time_budget: Annotated[
        str, typer.Option(metavar="DURATION", help="Time, such as 1h or 90m. The first trial is always trained.")
    ],
    label: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Label column, or the target for regression.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Columns of 0 and 1, one per label, for multi-label.")
    ] = None,
    task: Annotated[TaskName | None, typer.Option(help="What to predict, as for train.")] = None,
    label_separator: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Separator of the labels of a text, for multi-label.")
    ] = None,
    drop_invalid: DropInvalid = False,
    valid: Annotated[
        str | None, typer.Option(metavar="FILE", help="Validation rows. Defaults to a tenth of DATA.")
    ] = None,
    unlabeled: Annotated[
        str | None, typer.Option(metavar="FILE", help="More texts, used by the language models only.")
    ] = None,
    most_trials: Annotated[
        int | None, typer.Option(metavar="N", help="Largest number of trials. Defaults to no limit.")
    ] = None,
    pretrained: Annotated[str, typer.Option(metavar="PACK", help="Pack to start from, as for train.")] = "auto",
    seed: Seed = 0,
    config: Config = None,
    device: DeviceOption = "cpu",
    table_format: FormatOption = None,
    delimiter: DelimiterOption = None,
    quotes: QuotesOption = None,
    encoding: EncodingOption = None,
    no_header: NoHeaderOption = False,
) -> None:
    """Find better hyperparameters in a given time.

    Each trial is a training. The first one has the defaults. FOLDER gets the bundle with the lowest validation loss and
    its hyperparameters as best.toml. Hyperparameters in --config are not searched. The same command continues, and a
    larger --time-budget adds trials.

    Example: bothways tune reviews.csv --text review --label sentiment --time-budget 1h --out tuned
    """
    found = bothways.tune(
        data,
        [name.strip() for name in labels.split(",")] if labels is not None else None,
        out=out,
        time_budget=time_budget,
        most_trials=most_trials,
        text=text,
        label=label,
        task=task,
        label_separator=label_separator,
        drop_invalid=drop_invalid,
        valid=valid,
        unlabeled=unlabeled,
        pretrained=pretrained,
        seed=seed,
        config=config,
        device=device,
        format=table_format,
        delimiter=delimiter,
        quotes=quotes,
        encoding=encoding,
        header=not no_header,
    )
    console = output_console()
    console.print(_table(found))
    console.print(f"Best: trial {found.best.number}, {path_text(found.bundle)} and {path_text(found.config)}")


def _table(found: Tuning) -> Table:
    """Return a table of the best trials."""
    shown = sorted(found.trials, key=lambda trial: trial.loss)[:_MOST_TRIALS]
    names = list(dict.fromkeys(name for trial in shown for name in trial.hyperparameters))
    metrics = list(dict.fromkeys(name for trial in shown for name in trial.metrics))[:2]
    table = Table(title=f"{len(found.trials)} trials, the lowest validation loss first", title_justify="left")
    for column in ("trial", *metrics, *names, "minutes"):
        table.add_column(column.replace("_", " ").replace(".", ": "), justify="right", overflow="fold")
    for trial in shown:
        values = (f"{trial.hyperparameters[name]:g}" if name in trial.hyperparameters else "default" for name in names)
        table.add_row(
            str(trial.number),
            *(metric_text(name, trial.metrics.get(name)) for name in metrics),
            *values,
            f"{trial.seconds / 60:.1f}" if trial.error is None else UNDEFINED,
        )
    return table
