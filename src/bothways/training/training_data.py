"""Read the data of a training run: training and validation rows, unlabeled texts, and what a user should know of them.

In: paths, tables or lists in memory. Out: checked rows, split in two. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bothways.data.dialect import Dialect
from bothways.data.labeled import LabeledSource, read_labeled, read_soft_labels, read_valid_texts
from bothways.data.tables import TableSource
from bothways.errors import DataError
from bothways.tasks.labels import are_decimal_numbers, listed
from bothways.tasks.task import InvalidRow, LabeledTexts, Split, Task, joined, selected
from bothways.text.fields import Text


@dataclass(frozen=True)
class TrainingData:
    """Everything that a classifier is trained and validated on.

    Attributes:
        split: Training and validation rows.
        unlabeled: Texts for the language models only.
        warnings: What a user should know about the rows.
        invalid: The rows that were left out.
    """

    split: Split
    unlabeled: list[Text]
    warnings: list[str]
    invalid: list[InvalidRow]

    def digested(self) -> dict[str, list[Text]]:
        """Return everything that determines the result of a run, as text, by split."""
        train, valid = self.split.train, self.split.valid
        return {
            "training": [*train.texts, *map(str, train.labels), *map(str, train.weights or ())],
            "validation": [*valid.texts, *map(str, valid.labels)],
            "unlabeled": self.unlabeled,
        }


def read_training_data(
    source: LabeledSource,
    valid: LabeledSource | None,
    unlabeled: object,
    soft_labels: TableSource | None,
    task: Task,
    *,
    may_be_numbers: bool,
    fraction: float,
    seed: int,
    weight: str | None,
    drop_invalid: bool,
    dialect: Dialect,
) -> TrainingData:
    """Read and check all data of a run.

    Args:
        source: Labeled rows.
        valid: Validation rows. Defaults to a fraction of ``source``.
        unlabeled: More texts, for the language models only.
        soft_labels: More texts with a teacher's predictions.
        task: Parses the labels, not fitted yet.
        may_be_numbers: Whether labels such as 3.5 are accepted, because the user named the task.
        fraction: Share of the texts to set aside if there are no validation rows.
        seed: Random seed of the split.
        weight: Column of the weights of the training rows.
        drop_invalid: Leave invalid rows out instead of refusing them.
        dialect: What the user states about files.

    Raises:
        DataError: The rows cannot be used; all invalid rows are named.
    """
    rows = read_labeled(
        source.table, source.text, source.label, task, weight=weight, drop_invalid=drop_invalid, dialect=dialect
    )
    if not may_be_numbers:
        _refuse_numbers(rows)
    warnings = task.check(rows)
    invalid = [*rows.invalid]
    if valid is not None:
        known = task.fitted(rows)
        valid_rows = read_labeled(
            valid.table,
            valid.text,
            valid.label,
            known,
            drop_invalid=drop_invalid,
            dialect=dialect,
            known_in="the training rows have",
        )
        invalid += valid_rows.invalid
        split = task.split_with(rows, valid_rows)
    else:
        split = task.split(rows, fraction, seed)
    if split.train.weights is not None and sum(each > 0 for each in split.train.weights) < 2:
        raise DataError(f"{rows.name}: fewer than 2 training rows have a weight above 0; at least 2 are needed")
    more: list[Text] = []
    if unlabeled is not None:
        more, invalid_texts = read_valid_texts(unlabeled, source.text, dialect=dialect, drop_invalid=drop_invalid)
        invalid += invalid_texts
    data = TrainingData(split, more, [*warnings, *split.warnings], invalid)
    if soft_labels is None:
        return data
    known = task.fitted(split.train)
    taught = read_soft_labels(
        soft_labels, source.text, source.label, known, dialect=dialect, weight=weight, drop_invalid=drop_invalid
    )
    return with_taught(data, taught)


def with_taught(data: TrainingData, taught: LabeledTexts) -> TrainingData:
    """Return data whose training rows also hold those that a teacher labeled, except the texts of validation rows.

    The language models read a text that is also an unlabeled one once.
    """
    split, held = data.split, set(data.split.valid.texts)
    kept = selected(taught, [text not in held for text in taught.texts])
    warnings = [*data.warnings]
    if left_out := len(taught) - len(kept):
        warnings.append(f"{taught.name}: {left_out:,} of {len(taught):,} texts are validation rows and are left out")
    train = joined(split.train, kept)
    texts = set(train.texts)
    unlabeled = [text for text in data.unlabeled if text not in texts]
    split = replace(split, train=train, taught=split.taught + len(kept))
    return TrainingData(split, unlabeled, warnings, [*data.invalid, *taught.invalid])


def _refuse_numbers(rows: LabeledTexts) -> None:
    """Refuse labels that are numbers with decimals, which are rarely classes."""
    labels = sorted({label for labels in rows.label_sets for label in labels})
    if labels and are_decimal_numbers(labels):
        raise DataError(
            f"{rows.name}: the labels are numbers such as {listed(labels)}; add --task regression to predict numbers, "
            "or --task single-label to treat each number as a class"
        )
