"""Score a file of any size: write it again with the model's predictions as additional columns.

Input: a model and a file of texts. Output: a file of the same format, with all rows and columns in their order. Memory
use does not depend on the number of rows.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bothways.arguments import as_flag, as_function, as_names, as_path, checked, optional
from bothways.data.dialect import DIALECT_CHECKS, Dialect, Quotes, TableFormat
from bothways.data.table import Chunk, Table, TableWriter
from bothways.data.tables import check_output, open_file, open_writer
from bothways.errors import ConfigError
from bothways.evaluation.inputs import ModelSource, choose_text_columns, load_model
from bothways.evaluation.partial_output import OutputSettings, PartialOutput, open_partial_output
from bothways.evaluation.predicted_rows import output_columns, predicted_rows
from bothways.evaluation.valid_texts import invalid_listing, valid_chunks
from bothways.files import STANDARD_STREAM, split_suffix
from bothways.runtime.classifier import Classifier
from bothways.tasks.task import InvalidRow
from bothways.text.coverage import Unreadable
from bothways.text.fields import TextColumns
from bothways.version import __version__

CHECKPOINT_S = 5.0
"""Seconds of work that a killed process loses at most, besides the texts that it was reading."""
_RESUMABLE_FORMATS = ("csv", "tsv", "jsonl")


@checked(
    source=as_path,
    out=as_path,
    text=optional(as_names),
    on_progress=as_function,
    on_unreadable=as_function,
    on_invalid=as_function,
    on_abstained=as_function,
    abstain=as_flag,
    drop_invalid=as_flag,
    **DIALECT_CHECKS,
)
def score(
    model: ModelSource,
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    text: TextColumns | None = None,
    format: TableFormat | None = None,  # noqa: A002  (as the option)
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    encoding: str | None = None,
    header: bool = True,
    abstain: bool = False,
    drop_invalid: bool = False,
    on_progress: Callable[[int], object] = lambda rows: None,
    on_unreadable: Callable[[int, Unreadable], object] = lambda row, reason: None,
    on_invalid: Callable[[InvalidRow], object] = lambda row: None,
    on_abstained: Callable[[int, str], object] = lambda row, reason: None,
) -> int:
    """Write a file of texts again, with the predictions of a model as additional columns.

    The columns are ``predicted_label``, ``predicted_probability`` and one ``probability_LABEL`` per label for
    single-label; ``predicted_labels`` and one ``probability_LABEL`` per label for multi-label; ``predicted_value`` for
    regression, or one ``predicted_TARGET`` per target if it has several. With early exit, ``predicted_read`` reports
    which directions read the text, or ``linear`` if none had to. With ``abstain`` and a bundle whose abstention was
    calibrated, ``predicted_abstained`` has the reason, and ``predicted_label_set`` the labels of the conformal label
    set joined with ``|``, most probable first.

    If the process is killed, the same call continues where it stopped and ends with the same bytes. Until then, the
    content is in ``OUT.part`` with a journal in ``OUT.part.json``. The call starts over if the input, the model or its
    options have changed, for compressed files, and for formats other than CSV, TSV and JSON lines. Standard streams
    cannot be continued.

    Args:
        model: A loaded model, used with its precision and early exit, or the directory of a bundle.
        source: A table in a file (docs/tables.md), also compressed. ``-`` is standard input.
        out: File to create, of the same format. Must not exist yet. ``-`` is standard output.
        text: Text column, or several. Defaults to those used in training.
        format: Format of ``source``. Defaults to that of its suffix, and to CSV for standard input.
        delimiter: Character between the fields of a text table, such as ``;``. Defaults to a tab for TSV, or a comma.
        quotes: ``none`` if quotation marks are ordinary characters, ``double`` if they enclose fields in any case.
        encoding: Encoding of a text file. Defaults to UTF-8.
        header: Whether a text table begins with column names. Otherwise its columns are named ``1``, ``2`` and so on.
        abstain: Leave the label and its probability, or the value, empty for texts that a model cannot read: empty
            ones, those of digits and punctuation only, and those with mostly unknown words. If its abstention was
            calibrated (``fit_abstention``), also for texts out of domain and for those with a low confidence.
        drop_invalid: Leave rows without a usable text out. They are listed in ``OUT.invalid.jsonl``.
        on_progress: Called with the number of rows that are written, after each chunk of rows.
        on_unreadable: Called for each text that a model cannot read, with the number of its row in ``out``, from 1, and
            the reason. Rows that an earlier, killed call wrote are not reported again.
        on_invalid: Called for each row that is left out.
        on_abstained: Called for each text that a model can read but abstains from, as ``on_unreadable``.

    Returns:
        The number of rows.

    Raises:
        BundleError: There is no bundle at the path, or it cannot be read.
        ConfigError: The text columns are not named and the bundle does not record them, the formats are unknown or
            different, ``out`` is the source or its folder does not exist, or another process is writing it.
        DataError: Rows cannot be read or have no usable text, a text column is missing, the table already has one of
            the new columns, or the disk is full. The message names file, row and column.
        OutputExists: ``out`` already exists.
        DependencyMissing: The format or the compression needs pyarrow, which is not installed.
    """
    source, out = os.fspath(source), os.fspath(out)
    if out == source != STANDARD_STREAM:
        raise ConfigError(f"{out} is the input itself: choose another --out")
    classifier = load_model(model)
    dialect = Dialect(format, delimiter, quotes, encoding, header)
    with open_file(source, dialect) as table:
        text_columns = choose_text_columns(text, classifier.text_columns)
        for column in text_columns:
            table.require_column(column, "--text")
        columns = list(output_columns(classifier, abstain=abstain))
        settings: OutputSettings = {"abstain": abstain, "drop_invalid": drop_invalid}
        with (
            invalid_listing(out) if drop_invalid else contextlib.nullcontext() as listing,
            _open_output(classifier, source, table, text_columns, columns, dialect, out, settings) as output,
        ):
            rows = output.rows
            chunks = valid_chunks(
                table,
                text_columns,
                skip=output.rows,
                is_endless=source == STANDARD_STREAM,
                on_invalid=None if listing is None else lambda row: (listing(row), on_invalid(row)),
            )
            for chunk, predicted in predicted_rows(
                classifier,
                chunks,
                abstain=abstain,
                on_unreadable=lambda number, reason: on_unreadable(output.rows + number + 1, reason),
                on_abstained=lambda number, reason: on_abstained(output.rows + number + 1, reason),
            ):
                rows += len(chunk)
                output.write(chunk, dict(zip(columns, zip(*predicted, strict=True), strict=True)), rows)
                on_progress(rows)
    return rows


class _Output:
    """Where scored chunks are written.

    Attributes:
        rows: Number of rows that were written before.
    """

    def __init__(self, writer: TableWriter, partial: PartialOutput | None = None) -> None:
        self._writer = writer
        self._partial = partial
        self._checkpoint = time.monotonic()
        self.rows = partial.complete_rows if partial is not None else 0

    def write(self, chunk: Chunk, added: Mapping[str, Sequence[object]], rows: int) -> None:
        """Write a chunk. Record the number of rows if the last record is some seconds old."""
        self._writer.write(chunk, added)
        if self._partial is not None and time.monotonic() - self._checkpoint >= CHECKPOINT_S:
            self._partial.checkpoint(rows)
            self._checkpoint = time.monotonic()


@contextlib.contextmanager
def _open_output(
    model: Classifier,
    source: str,
    table: Table,
    text_columns: Sequence[str],
    columns: Sequence[str],
    dialect: Dialect,
    out: str,
    more_settings: OutputSettings,
) -> Iterator[_Output]:
    """Open the file to create. It can be continued if input and output are files and the output is plain text."""
    is_plain_text = table.format in _RESUMABLE_FORMATS and not split_suffix(out)[1]
    if out == STANDARD_STREAM or not Path(source).is_file() or not is_plain_text:
        with open_writer(table, out, columns, dialect) as writer:
            yield _Output(writer)
        return
    check_output(table, out, columns, dialect)
    with (
        open_partial_output(
            Path(out), {**_settings(model, source, table, text_columns, dialect), **more_settings}
        ) as partial,
        table.writer(partial.stream, columns) as writer,
    ):
        if partial.complete_rows:  # the writer has written the header over the same header
            partial.skip_complete()
        yield _Output(writer, partial)


def _settings(
    model: Classifier, path: str, table: Table, text_columns: Sequence[str], dialect: Dialect
) -> OutputSettings:
    """Return everything that determines the output, so that only an equal call continues it."""
    source = Path(path).resolve()
    status = source.stat()
    return {
        "bothways": __version__,
        "bundle": model.digest,
        "precision": model.precision,
        "early_exit": model.early_exit is not None,
        "source": str(source),
        "source_bytes": status.st_size,
        "source_mtime_ns": status.st_mtime_ns,
        "format": str(table.format),
        "delimiter": str(dialect.delimiter),
        "quotes": str(dialect.quotes),
        "encoding": str(dialect.encoding),
        "header": dialect.header,
        "text_columns": list(text_columns),
    }
