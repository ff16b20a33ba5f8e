"""Print metrics: their titles and the digits that are worth reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from bothways.bundle.manifest import TrainingRecord
from bothways.data.invalid import summary
from bothways.errors import path_text
from bothways.tasks.metrics import metric_texts, metric_title
from bothways.tasks.task import InvalidRow
from bothways.terminal import SafeConsole


def metrics_table(first: str, rows: Mapping[str, Mapping[str, str]], title: str | None = None) -> Table:
    """Return a table of metrics.

    Args:
        first: Title of the column of row names.
        rows: Texts by metric, by the name of the row. There is a column for each metric that any row has.
        title: Title of the table.
    """
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    names = list(dict.fromkeys(name for texts in rows.values() for name in texts))
    for name in names:
        table.add_column(metric_title(name), justify="right")
    for row, texts in rows.items():
        table.add_row(row, *(texts.get(name, "") for name in names))
    return table


def print_trained(console: SafeConsole, out: Path, training: TrainingRecord, what: str = "metrics") -> None:
    """Print what a new bundle is worth on the validation rows, and what to do next.

    Args:
        console: Where to print.
        out: The bundle.
        training: Its record of the training.
        what: What the metrics are.
    """
    name, rows = path_text(out), training.rows.get("validation", 0)
    validation = {member: metric_texts(metrics) for member, metrics in training.validation.items()}
    console.print(metrics_table("direction", validation, f"{name}: {what} on {rows:,} validation rows"))
    console.print(
        f"Next: bothways evaluate {name} FILE · bothways predict {name} FILE --out FILE · bothways verify {name}"
    )


def invalid_text(invalid: Sequence[InvalidRow]) -> str:
    """Return how many invalid rows were left out, and why."""
    return f"Invalid rows left out: {len(invalid):,}. {summary(invalid)}"
