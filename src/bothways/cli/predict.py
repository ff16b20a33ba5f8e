"""``bothways predict``: add predictions to a file of texts."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Annotated, TypedDict

import typer
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

import bothways
from bothways.bundle.manifest import AbstentionReason
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
from bothways.data.dialect import Quotes, TableFormat
from bothways.data.invalid import invalid_path
from bothways.data.storage import is_pattern, is_url, url_text
from bothways.errors import ConfigError, escaped, path_text
from bothways.files import STANDARD_STREAM
from bothways.runtime.encoder import Precision
from bothways.terminal import SafeConsole
from bothways.text.coverage import Unreadable


class _Options(TypedDict):
    """Options that one file and several have in common."""

    text: list[str] | None
    abstain: bool
    drop_invalid: bool
    format: TableFormat | None
    delimiter: str | None
    quotes: Quotes | None
    encoding: str | None
    header: bool


def predict(
    bundle: BundlePath,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Texts: CSV, JSON lines, Parquet, Excel and others; see docs/tables.md. - is standard input. A "
            "pattern or a URL, such as 's3://bucket/part-*.parquet', names several files.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="File to create, in the format of DATA. Must not exist yet. - is standard output. For several files a "
            "folder or its URL.",
        ),
    ],
    text: TrainedTextColumns = None,
    early_exit: Annotated[
        bool, typer.Option("--early-exit", help="Skip the second direction when the first is confident.")
    ] = False,
    precision: PrecisionOption = "float32",
    abstain: Annotated[
        bool, typer.Option("--abstain", help="Leave the prediction empty where the model abstains.")
    ] = False,
    drop_invalid: DropInvalid = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes for several files, each with one thread. Defaults to the number of cores."),
    ] = None,
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

    If abstention was calibrated (bothways abstention), --abstain also leaves them empty for texts that are out of
    domain and where the confidence is low. It adds predicted_abstained with the reason, and predicted_label_set.

    With --early-exit also predicted_read: the directions that read the text, or linear if none had to.

    The output has the format, delimiter, quotes and encoding of the input. If the command is killed, the same command
    continues. Until it is done, the rows are in FILE.part. Only CSV, TSV and JSON lines continue, others start over.

    Several files are written into a folder, under their names. The same command skips those that are done and
    unchanged, and continues with the others.

    Example: bothways predict reviews.bundle new.csv --out scored.csv

    Example: bothways predict reviews.bundle 's3://bucket/new/*.parquet' --out s3://bucket/scored --workers 8
    """
    options: _Options = {
        "text": text,
        "abstain": abstain,
        "drop_invalid": drop_invalid,
        "format": table_format,
        "delimiter": delimiter,
        "quotes": quotes,
        "encoding": encoding,
        "header": not no_header,
    }
    if is_url(data) or is_pattern(data):
        _predict_files(bundle, data, out, workers, early_exit, precision, options)
        return
    if workers is not None:
        raise ConfigError("--workers is for several files: pass a pattern such as 'data/*.csv', in quotes")
    model = bothways.load(bundle, early_exit=early_exit, precision=precision)
    unreadable: Counter[str] = Counter()
    abstained: Counter[str] = Counter()
    invalid: Counter[str] = Counter()
    with _progress(_RowsColumn(), TimeElapsedColumn()) as progress:
        task = progress.add_task("predict", total=None)
        rows = bothways.score(
            model,
            data,
            out,
            on_progress=lambda rows: progress.update(task, completed=rows),
            on_invalid=lambda row: invalid.update([row.reason]),
            on_unreadable=lambda _, reason: unreadable.update([reason]),
            on_abstained=lambda _, reason: abstained.update([reason]),
            **options,
        )
    if out != STANDARD_STREAM:
        sys.stderr.write(f"{rows} rows written to {path_text(out)}\n")
    listing = path_text(invalid_path(out)) if out != STANDARD_STREAM else None
    _warn(invalid, listing, unreadable, rows, abstain)
    _report_abstained(abstained, rows)


def _predict_files(
    bundle: str,
    data: str,
    out: str,
    workers: int | None,
    early_exit: bool,
    precision: Precision,
    options: _Options,
) -> None:
    """Predict several files, and print how many."""
    with _progress(_FilesColumn(), TimeRemainingColumn(elapsed_when_finished=True)) as progress:
        task = progress.add_task("predict", total=1.0, state=bothways.FilesProgress(0, 0, 0, 0.0))
        found = bothways.score_files(
            bundle,
            data,
            out,
            workers=workers,
            early_exit=early_exit,
            precision=precision,
            on_progress=lambda state: progress.update(task, completed=state.share, state=state),
            **options,
        )
    skipped = f", {found.skipped:,} of them by an earlier call" if found.skipped else ""
    sys.stderr.write(f"{found.rows:,} rows in {found.files:,} files written to {url_text(out)}{skipped}\n")
    _warn(found.invalid, "FILE.invalid.jsonl", found.unreadable, found.rows, options["abstain"])
    _report_abstained(found.abstained, found.rows)


def _warn(invalid: Counter[str], listing: str | None, unreadable: Counter[str], rows: int, abstain: bool) -> None:
    """Print how many rows were left out, and how many texts the model cannot read."""
    if invalid:
        reasons = "; ".join(f"{reason} ({count:,})" for reason, count in invalid.most_common(3))
        place = f", listed in {listing}" if listing else ""
        sys.stderr.write(f"warning: invalid rows left out: {invalid.total():,}{place}. {escaped(reasons)}\n")
    if unreadable:
        sys.stderr.write(f"warning: {escaped(_unreadable_text(unreadable, rows, abstain))}\n")


def _report_abstained(abstained: Counter[str], rows: int) -> None:
    """Print from how many texts a calibrated model abstains that it can read."""
    if abstained:
        count = abstained.total()
        reasons = ", ".join(f"{abstained[reason]:,} {reason}" for reason in AbstentionReason if abstained[reason])
        sys.stderr.write(f"the model abstains from {count:,} of {rows:,} texts ({count / rows:.1%}): {reasons}\n")


def _unreadable_text(unreadable: Counter[str], rows: int, abstain: bool) -> str:
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


class _FilesColumn(ProgressColumn):
    """The files that are done, and their rows."""

    def render(self, task: Task) -> Text:
        state: bothways.FilesProgress = task.fields["state"]
        return Text(f"{state.files:,} of {state.total:,} files, {state.rows:,} rows")


def _progress(*columns: ProgressColumn) -> Progress:
    console = SafeConsole(file=sys.stderr)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
