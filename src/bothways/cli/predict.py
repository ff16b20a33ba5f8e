"""``bothways predict``: add predictions to a file of texts."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

import bothways
from bothways.cli.options import (
    BundlePath,
    DelimiterOption,
    DropInvalid,
    EncodingOption,
    FormatOption,
    NoHeaderOption,
    PrecisionOption,
    QuotesOption,
    TrainedTextColumns,
)
from bothways.data.invalid import invalid_path
from bothways.errors import escaped, path_text
from bothways.files import STANDARD_STREAM
from bothways.terminal import SafeConsole
from bothways.text.coverage import Unreadable


def predict(
    bundle: BundlePath,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Texts: CSV, JSON lines, Parquet, Excel and others; see docs/tables.md. - is standard input.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="File to create, in the format of DATA. Must not exist yet. - is standard output."
        ),
    ],
    text: TrainedTextColumns = None,
    early_exit: Annotated[
        bool, typer.Option("--early-exit", help="Skip the second direction when the first is confident.")
    ] = False,
    precision: PrecisionOption = "float32",
    abstain: Annotated[
        bool, typer.Option("--abstain", help="Leave the prediction empty for texts that the model cannot read.")
    ] = False,
    drop_invalid: DropInvalid = False,
    table_format: FormatOption = None,
    delimiter: DelimiterOption = None,
    quotes: QuotesOption = None,
    encoding: EncodingOption = None,
    no_header: NoHeaderOption = False,
) -> None:
    """Add predictions to a file of texts.

    All rows and columns are kept in their order, and the file can have any size. These columns are added:

    Single-label: predicted_label, predicted_probability and one probability_LABEL per label.

    Multi-label: predicted_labels, joined with the separator used in training (or |), and one probability_LABEL per
    label.

    Regression: predicted_value. For several targets one predicted_TARGET per target.

    The last line states how many texts the model cannot read: empty ones, those of digits and punctuation only, and
    those with mostly unknown words. With --abstain their label and its probability, or their value, are left empty.

    With --early-exit also predicted_read: the directions that read the text, or linear if none had to.

    The output has the format, delimiter, quotes and encoding of the input. If the command is killed, the same command
    continues. Until it is done, the rows are in FILE.part. Only CSV, TSV and JSON lines continue, others start over.

    Example: bothways predict reviews.bundle new.csv --out scored.csv
    """
    model = bothways.load(bundle, early_exit=early_exit, precision=precision)
    unreadable: Counter[Unreadable] = Counter()
    invalid: Counter[str] = Counter()
    with _progress() as progress:
        task = progress.add_task("predict", total=None)
        rows = bothways.score(
            model,
            data,
            out,
            text=text,
            format=table_format,
            delimiter=delimiter,
            quotes=quotes,
            encoding=encoding,
            header=not no_header,
            abstain=abstain,
            drop_invalid=drop_invalid,
            on_progress=lambda rows: progress.update(task, completed=rows),
            on_invalid=lambda row: invalid.update([row.reason]),
            on_unreadable=lambda _, reason: unreadable.update([reason]),
        )
    if out != STANDARD_STREAM:
        sys.stderr.write(f"{rows} rows written to {path_text(out)}\n")
    if invalid:
        reasons = "; ".join(f"{reason} ({count:,})" for reason, count in invalid.most_common(3))
        place = f", listed in {path_text(invalid_path(out))}" if out != STANDARD_STREAM else ""
        sys.stderr.write(f"warning: invalid rows left out: {invalid.total():,}{place}. {escaped(reasons)}\n")
    if unreadable:
        sys.stderr.write(f"warning: {escaped(_unreadable_text(unreadable, rows, abstain))}\n")


def _unreadable_text(unreadable: Counter[Unreadable], rows: int, abstain: bool) -> str:
    count = unreadable.total()
    reasons = ", ".join(f"{unreadable[reason]:,} {reason}" for reason in Unreadable if unreadable[reason])
    result = "were left empty" if abstain else "mean little"
    return (
        f"the model cannot read {count:,} of {rows:,} texts ({count / rows:.1%}): {reasons}. Their predictions {result}"
    )


class _RowsColumn(ProgressColumn):
    """The rows that are written, and how many per second."""

    def render(self, task: Task) -> Text:
        speed = f", {task.speed:,.0f} rows/s" if task.speed else ""
        return Text(f"{task.completed:,.0f} rows{speed}")


def _progress() -> Progress:
    console = SafeConsole(file=sys.stderr)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        _RowsColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
