"""Report the data before a training, and what the trained models are worth after it.

In: the rows, their lengths, and the scores of the validation rows. Out: reports to show and to record.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from bothways.data.token_store import Numbers
from bothways.errors import quoted
from bothways.tasks.labels import LabelValue, in_order, kind_of, label_value
from bothways.tasks.metrics import SHARES, ClassMetrics, Scores, few_rows_warning
from bothways.tasks.task import LabeledTexts, Split, Targets, Task
from bothways.training.reports import StageReport

DATA_STAGE = "data"
RESULT_STAGE = "result"
_MOST_IN_TABLE = 20
_MOST_NAMED = 5
_LONGEST_LABEL = 40
_UNDEFINED = "–"


def data_reports(split: Split, unlabeled: int) -> Iterator[StageReport]:
    """Yield reports of the rows of a training and of their labels or targets, and warnings about them.

    Args:
        split: Training and validation rows.
        unlabeled: Number of texts for the language models only.
    """
    rows = {"training": len(split.train), "validation": len(split.valid), "unlabeled": unlabeled}
    message = ", ".join(f"{count:,} {name}" for name, count in rows.items() if count or name != "unlabeled")
    if split.taught:
        rows["labeled by a teacher"] = split.taught
        message = f"{message} rows, {split.taught:,} of the training rows labeled by a teacher"
    else:
        message += " rows"
    train, valid = (label_counts(part) for part in (split.train, split.valid))
    if not train:
        values = split.train.values
        low, middle, high = np.quantile(values, [0, 0.5, 1]).tolist()
        facts: dict[str, object] = {"rows": rows, "smallest": low, "median": middle, "largest": high}
        yield StageReport(DATA_STAGE, f"{message}; targets {low:g} to {high:g}, median {middle:g}", facts=facts)
        return
    classes = {label: {"training": count, "validation": valid[label]} for label, count in train.items()}
    rarest = min(train, key=lambda label: (train[label], label))
    largest = max(train, key=lambda label: (train[label], label))
    kind = kind_of(train)
    names = {label: _short(label_value(label, kind)) for label in train}
    message += f"; {len(train):,} classes; rarest {names[rarest]} with {_rows(train[rarest])}"
    if len(train) <= _MOST_IN_TABLE:
        table = [("class", "training", "validation")]
        table += [(names[label], f"{train[label]:,}", f"{valid[label]:,}") for label in classes]
        message += "".join(f"\n  {line}" for line in _aligned(table))
    else:
        message += f", largest {names[largest]} with {train[largest]:,}"
    yield StageReport(DATA_STAGE, message, facts={"rows": rows, "classes": classes})
    if missing := [label_value(label, kind) for label in classes if not valid[label]]:
        yield StageReport(DATA_STAGE, f"{_named(missing)} without validation rows: not validated", is_warning=True)


def length_report(lengths: Numbers) -> StageReport:
    """Return a report of the lengths of the labeled texts, in tokens."""
    middle, high = np.quantile(lengths, [0.5, 0.99]).tolist()
    longest = int(lengths.max())
    facts: dict[str, object] = {"median": middle, "p99": high, "longest": longest}
    message = f"{middle:,.0f} tokens per text (median), {high:,.0f} (p99), {longest:,} (longest)"
    return StageReport("lengths", message, facts=facts)


def result_reports(task: Task, scores: Mapping[str, Scores], targets: Targets) -> Iterator[StageReport]:
    """Yield reports of the metrics on the validation rows, and warnings about what they do not show.

    Args:
        task: The calibrated task.
        scores: Scores of each direction and, last, of the calibrated ensemble, each (N, C).
        targets: Targets of the rows.
    """
    found = {name: task.metrics(rows, targets) for name, rows in scores.items()}
    *_, ensemble = found.values()
    facts: dict[str, object] = {
        "rows": len(targets),
        "metrics": {name: metrics.summary for name, metrics in found.items()},
        "classes": [dataclasses.asdict(each) for each in ensemble.classes],
    }
    names = [name for name in task.headline if name in ensemble.summary]
    table = [("", *map(_title, names))]
    table += [
        (name, *(_metric(metric, metrics.summary.get(metric)) for metric in names)) for name, metrics in found.items()
    ]
    lines = _aligned(table)
    if ensemble.classes:
        lines += ["", *_aligned(_class_table(ensemble.classes))]
    message = f"on {len(targets):,} validation rows" + "".join("\n" + f"  {line}".rstrip() for line in lines)
    yield StageReport(RESULT_STAGE, message, facts=facts)
    yield from _warnings(ensemble.classes, ensemble.summary, len(targets))


def _warnings(classes: Sequence[ClassMetrics], summary: Mapping[str, float], rows: int) -> Iterator[StageReport]:
    if unpredicted := [each.label for each in classes if each.support and not each.predicted]:
        message = f"{_named(unpredicted)} never predicted on the validation rows"
        yield StageReport(RESULT_STAGE, message, is_warning=True)
    if uncertain := few_rows_warning(summary, rows, "validation rows"):
        yield StageReport(RESULT_STAGE, uncertain, is_warning=True)


def _class_table(classes: Sequence[ClassMetrics]) -> list[tuple[str, ...]]:
    """Return the lines of a table of all classes, or of those with the lowest recall if there are many."""
    shown = [*classes]
    if len(classes) > _MOST_IN_TABLE:
        shown = sorted((each for each in classes if each.support), key=lambda each: each.recall)[:_MOST_IN_TABLE]
    title = "class" if len(shown) == len(classes) else f"{len(shown)} of {len(classes):,} classes, lowest recall"
    lines: list[tuple[str, ...]] = [(title, "recall", "precision", "rows", "predicted")]
    for each in shown:
        recall = f"{each.recall:.1%}" if each.support else _UNDEFINED
        precision = f"{each.precision:.1%}" if each.predicted else _UNDEFINED
        lines.append((_short(each.label), recall, precision, f"{each.support:,}", f"{each.predicted:,}"))
    return lines


def label_counts(rows: LabeledTexts) -> Counter[str]:
    """Return the number of rows of each label, in the order of the labels."""
    counts = Counter(label for labels in rows.label_sets for label in labels)
    return Counter({label: counts[label] for label in in_order(counts)})


def _rows(count: int) -> str:
    return f"{count:,} training row{'s' * (count != 1)}"


def _title(metric: str) -> str:
    return metric.replace("_", " ").replace(" f1", " F1")


def _metric(name: str, value: float | None) -> str:
    if value is None:
        return _UNDEFINED
    return f"{value:.1%}" if name in SHARES else f"{value:.3f}"


def _named(labels: Sequence[LabelValue]) -> str:
    more = f" and {len(labels) - _MOST_NAMED:,} more" if len(labels) > _MOST_NAMED else ""
    return f"class{'es' * (len(labels) > 1)} {', '.join(map(_short, labels[:_MOST_NAMED]))}{more}"


def _short(label: LabelValue) -> str:
    return quoted(label, _LONGEST_LABEL)


def _aligned(table: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table with the first column on the left and all others on the right."""
    lines = [*table]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
