"""``bothways.audit``: find what is probably wrong with labeled rows before a model is trained on them.

In: labeled rows, and those of a test set. Out: an ``Audit``: findings with row numbers, which contains plain Python
data only. Needs scikit-learn, and no torch.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from bothways.arguments import as_flag, as_integer, as_names, as_text, checked, optional
from bothways.data.dialect import DIALECT_CHECKS, Dialect, Quotes, TableFormat
from bothways.data.labeled import LabeledSource, labeled_source, read_labeled, read_valid_texts
from bothways.data.tables import TableSource
from bothways.errors import ConfigError, DataError, DependencyMissing
from bothways.tasks.label_errors import FEWEST_TEXTS
from bothways.tasks.registry import new_task
from bothways.tasks.task import InvalidRow, Label, LabeledTexts, Numbers, Task, TaskName
from bothways.terminal import OnProgress, SafeConsole, reported
from bothways.text.fields import Text, TextColumns, fields_of
from bothways.text.oddities import unusual_texts
from bothways.text.similarity import key_of, near_duplicates
from bothways.training.progress import stages

if TYPE_CHECKING:
    import pandas

Kind = Literal[
    "label-error",
    "conflicting-labels",
    "test-leak",
    "duplicate",
    "near-duplicate",
    "unusual-text",
    "invalid-row",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
FOLDS = 5


@dataclass(frozen=True)
class Finding:
    """What is probably wrong with a row.

    Attributes:
        kind: Kind of the finding, one of ``KINDS``.
        row: Number of the row, from 1 on. A header is not counted.
        score: 0..1. For a label error the probability of the suggestion, where only it and the given label are
            possible. For near-duplicates the share of shingles that both texts have in common.
        text: The text, or a tuple with one string per text column. Empty for an invalid row.
        label: The label of the row as text. Empty for an invalid row.
        suggestion: What the label should probably be. Empty unless it is a label error.
        other_row: The row with the equal or similar text: of the test rows for ``test-leak``. None if there is none.
        reason: Explanation.
    """

    kind: Kind
    row: int
    score: float
    text: Text
    label: str
    suggestion: str = ""
    other_row: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Confusion:
    """A class that is often predicted for the rows of another one.

    Attributes:
        label: The given label.
        predicted: The label that is predicted out of fold.
        rows: Number of such rows.
        share: Share of the rows with the given label.
    """

    label: str
    predicted: str
    rows: int
    share: float


@dataclass(frozen=True, repr=False)
class Audit:
    """What is probably wrong with labeled rows.

    Attributes:
        data: Name of the file, or ``the table`` for a table in memory.
        rows: Number of valid rows.
        task: What a label is.
        labels: All labels as text, in order. Empty for regression.
        findings: All findings, by kind in the order of ``KINDS``, the highest score first.
        confusions: Pairs of classes, the most rows first. Empty unless every text has exactly one label.
        test_rows: Number of test rows that were compared. None if there are none.
        confusion: Number of rows by given class (outer list) and class that is predicted out of fold (inner list).
            None unless every text has exactly one label.
        notes: What could not be judged, and why.
    """

    data: str
    rows: int
    task: TaskName
    labels: tuple[str, ...]
    findings: tuple[Finding, ...]
    confusions: tuple[Confusion, ...] = ()
    confusion: list[list[int]] | None = None
    test_rows: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[Kind, int]:
        """Number of findings of each kind that was looked for. Without test rows that is not ``test-leak``."""
        found = Counter(each.kind for each in self.findings)
        return {kind: found[kind] for kind in KINDS if not (kind == "test-leak" and self.test_rows is None)}

    def of_kind(self, kind: Kind) -> list[Finding]:
        """Return the findings of a kind, the highest score first."""
        return [each for each in self.findings if each.kind == kind]

    def __repr__(self) -> str:
        found = ", ".join(f"{kind}={count}" for kind, count in self.counts.items() if count)
        return f"Audit(data={self.data!r}, rows={self.rows}{', ' if found else ''}{found})"

    def to_dict(self) -> dict[str, object]:
        """Return all fields as lists, dicts, strings and finite numbers, ready for ``json.dumps``."""
        return {
            "data": self.data,
            "rows": self.rows,
            "task": self.task,
            "labels": list(self.labels),
            "counts": dict(self.counts),
            "findings": [{**asdict(each), "text": "\n".join(fields_of(each.text))} for each in self.findings],
            "confusions": [asdict(each) for each in self.confusions],
            "confusion": self.confusion,
            "test_rows": self.test_rows,
            "notes": list(self.notes),
        }

    def to_frame(self) -> pandas.DataFrame:
        """Return a pandas DataFrame with one row per finding.

        Raises:
            DependencyMissing: pandas is not installed.
        """
        try:
            import pandas  # noqa: PLC0415  (an optional library)
        except ImportError:
            raise DependencyMissing("to_frame needs pandas: pip install pandas. to_dict needs nothing") from None
        columns = list(Finding.__dataclass_fields__)
        return pandas.DataFrame([[getattr(each, name) for name in columns] for each in self.findings], columns=columns)


@checked(
    text=optional(as_names),
    label=optional(as_text),
    task=optional(as_text),
    label_separator=optional(as_text),
    seed=as_integer,
    progress=as_flag,
    **DIALECT_CHECKS,
)
def audit(
    data: TableSource | tuple[Sequence[object], Sequence[object]],
    labels: Sequence[object] | None = None,
    *,
    text: TextColumns | None = None,
    label: str | None = None,
    test: TableSource | Sequence[object] | None = None,
    task: TaskName | None = None,
    label_separator: str | None = None,
    seed: int = 0,
    format: TableFormat | None = None,  # noqa: A002  (as the option)
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    encoding: str | None = None,
    header: bool = True,
    progress: bool = True,
) -> Audit:
    """Find label errors, duplicates, test leaks, conflicting labels, unusual texts and confused classes.

    Label errors are found by probabilities out of fold: of a linear model (TF-IDF of words and characters) that was
    fitted to four fifths of the rows and has not seen the row. Their number is estimated as in confident learning
    (Northcutt et al., arXiv 1911.00068).

    Args:
        data: Labeled rows: a table in a file, or in memory (docs/tables.md). Or a tuple of texts and their labels.
        labels: The labels, if ``data`` is a list of texts. If it is a table, the names of 0/1 columns for multi-label.
        text: Text column, or several.
        label: Label column.
        test: Test rows, as a table with the same text columns, or as a list of texts. Its labels are not read.
        task: ``single-label``, ``multi-label`` or ``regression``, as for ``train``.
        label_separator: The string between the labels of a text, for multi-label.
        seed: Random seed of the folds, 0..4294967295.
        format: Format of all files. Defaults to that of each suffix.
        delimiter: Character between the fields of a text table.
        quotes: ``none`` or ``double``, as for ``train``.
        encoding: Encoding of a text file. Defaults to UTF-8.
        header: Whether a text table begins with column names.
        progress: Show progress on standard error: a bar in a terminal or a notebook, otherwise a line now and then.

    Returns:
        Findings with row numbers. Invalid rows are findings, too.

    Raises:
        ConfigError: A column is not named, or an option is invalid.
        DataError: The rows cannot be read, or have fewer than two labels.
        DependencyMissing: scikit-learn is not installed.
    """
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed is {seed}, expected 0 to 4294967295")
    source, dialect = labeled_source(data, labels, text, label), Dialect(format, delimiter, quotes, encoding, header)
    empty = new_task(task, label_separator, source.label_columns)
    with stages(SafeConsole(file=sys.stderr) if progress else None) as on_progress:
        return _audit(source, test, empty, dialect, seed, on_progress)


def _audit(
    source: LabeledSource,
    test: TableSource | Sequence[object] | None,
    empty: Task,
    dialect: Dialect,
    seed: int,
    on_progress: OnProgress,
) -> Audit:
    """Return what is probably wrong with labeled rows. The task is not fitted yet."""
    on_progress("loading scikit-learn", 0, 1)
    _require_sklearn()
    rows = read_labeled(source.table, source.text, source.label, empty, dialect=dialect, drop_invalid=True)
    notes = empty.check(rows)
    keys = _keys(rows.texts, "cleaning texts", on_progress)
    found = _Rows(rows, _row_numbers(len(rows), rows.invalid), keys, on_progress)
    findings = [*found.conflicts(), *found.duplicates(), *found.near_duplicates(), *found.unusual(), *found.invalid()]
    test_rows = None
    if test is not None:
        texts, invalid = read_valid_texts(test, source.text, dialect=dialect, drop_invalid=True)
        test_rows = len(texts)
        findings += found.leaks(_keys(texts, "cleaning test texts", on_progress), _row_numbers(len(texts), invalid))
    fitted = empty.fitted(rows)
    confusion = None
    if fitted.no_label_errors:
        notes.append(fitted.no_label_errors)
    else:
        errors, confusion, more = _label_errors(found, fitted, seed)
        findings += errors
        notes += more
    findings.sort(key=lambda each: (KINDS.index(each.kind), -each.score, each.row))
    return Audit(
        data=rows.name,
        rows=len(rows),
        task=fitted.name,
        labels=fitted.labels,
        findings=tuple(findings),
        confusions=tuple(_confusions(fitted.labels, confusion or [])),
        confusion=confusion,
        test_rows=test_rows,
        notes=tuple(notes),
    )


def _require_sklearn() -> None:
    try:
        import sklearn  # noqa: F401, PLC0415  (not part of the runtime tier)
    except ImportError:
        raise DependencyMissing("an audit needs scikit-learn: pip install 'bothways[train]'") from None


def _keys(texts: Sequence[Text], stage: str, on_progress: OnProgress) -> list[str]:
    return [key_of(text) for text in reported(texts, stage, len(texts), on_progress)]


def _row_numbers(valid: int, invalid: Sequence[InvalidRow]) -> list[int]:
    """Return the number of each valid row among all rows of its source."""
    left_out = {row.number for row in invalid}
    return [number for number in range(1, valid + len(invalid) + 1) if number not in left_out]


def _label_text(label: Label) -> str:
    """Return a label as text."""
    if isinstance(label, tuple):
        return ", ".join(label)
    return ", ".join(f"{value:g}" for value in label.values) if isinstance(label, Numbers) else str(label)


@dataclass(frozen=True)
class _Rows:
    """The rows of an audit.

    Attributes:
        rows: Texts and labels.
        numbers: The number of each row in its source.
        keys: What equal texts have in common, per row. Empty for empty texts.
        on_progress: Called with a stage, and how much of it is done and in total.
    """

    rows: LabeledTexts
    numbers: list[int]
    keys: list[str]
    on_progress: OnProgress

    def finding(
        self, kind: Kind, place: int, score: float, *, suggestion: str = "", other: int | None = None, reason: str = ""
    ) -> Finding:
        """Return a finding in the row at a place."""
        label = _label_text(self.rows.labels[place])
        return Finding(kind, self.numbers[place], score, self.rows.texts[place], label, suggestion, other, reason)

    def first_places(self) -> dict[str, int]:
        """Return the first place of each key that is not empty, in order."""
        found: dict[str, int] = {}
        for place, key in enumerate(self.keys):
            if key:
                found.setdefault(key, place)
        return found

    def conflicts(self) -> Iterator[Finding]:
        """Yield the rows whose text has several labels."""
        places: Mapping[str, list[int]] = defaultdict(list)
        for place, key in enumerate(self.keys):
            if key:
                places[key].append(place)
        for same in places.values():
            counts = Counter(_label_text(self.rows.labels[place]) for place in same)
            if len(counts) > 1:
                described = ", ".join(f"{label} ({count})" for label, count in counts.most_common())
                for place in same:
                    other = next(each for each in same if each != place)
                    share = 1 - counts[_label_text(self.rows.labels[place])] / len(same)
                    yield self.finding(
                        "conflicting-labels", place, share, other=self.numbers[other], reason=f"labels: {described}"
                    )

    def duplicates(self) -> Iterator[Finding]:
        """Yield the rows whose text an earlier row has."""
        first = self.first_places()
        for place, key in enumerate(self.keys):
            if key and first[key] != place:
                yield self.finding("duplicate", place, 1.0, other=self.numbers[first[key]])

    def near_duplicates(self) -> Iterator[Finding]:
        """Yield the rows whose text is nearly that of an earlier row."""
        places = list(self.first_places().values())
        for each in near_duplicates([self.keys[place] for place in places], on_progress=self.on_progress):
            place, other = places[each.place], places[each.other]
            labels = [_label_text(self.rows.labels[row]) for row in (place, other)]
            reason = "" if labels[0] == labels[1] else f"the other row has the label {labels[1]}"
            yield self.finding("near-duplicate", place, each.similarity, other=self.numbers[other], reason=reason)

    def leaks(self, test_keys: Sequence[str], test_numbers: Sequence[int]) -> Iterator[Finding]:
        """Yield the rows whose text is that of a test row, or nearly."""
        in_test: dict[str, int] = {}
        for key, number in zip(test_keys, test_numbers, strict=True):
            if key:
                in_test.setdefault(key, number)
        for place, key in enumerate(self.keys):
            if key in in_test:
                yield self.finding("test-leak", place, 1.0, other=in_test[key], reason="the same text")
        others = [(key, place) for key, place in self.first_places().items() if key not in in_test]
        keys = list(in_test)
        for each in near_duplicates([key for key, _ in others], keys, self.on_progress):
            other = in_test[keys[each.other]]
            yield self.finding(
                "test-leak", others[each.place][1], each.similarity, other=other, reason="nearly the same text"
            )

    def unusual(self) -> Iterator[Finding]:
        """Yield the rows with unusual texts."""
        for each in unusual_texts(self.rows.texts, self.keys, self.on_progress):
            yield self.finding("unusual-text", each.place, each.score, reason=each.reason)

    def invalid(self) -> Iterator[Finding]:
        """Yield the invalid rows."""
        for row in self.rows.invalid:
            column = f"column {row.column}: " if row.column else ""
            yield Finding("invalid-row", row.number, 1.0, "", "", reason=f"{row.place}, {column}{row.reason}")


def _label_errors(found: _Rows, task: Task, seed: int) -> tuple[list[Finding], list[list[int]] | None, list[str]]:
    """Return label errors, the confusion out of fold, and what could not be judged."""
    from bothways.training.linear import out_of_fold_scores  # noqa: PLC0415  (takes a second to import)

    groups = [key or f"\n{place}" for place, key in enumerate(found.keys)]
    if len(set(groups)) < FOLDS:
        raise DataError(
            f"{found.rows.name} has {len(set(groups))} different texts, expected at least {FOLDS} for an audit"
        )
    targets = task.targets(found.rows)
    scores = out_of_fold_scores(found.rows.texts, targets, groups, task, FOLDS, seed, found.on_progress)
    findings = [
        found.finding("label-error", each.place, each.score, suggestion=each.suggestion)
        for each in task.label_errors(scores, targets)
        if found.keys[each.place]
    ]
    counts = np.asarray(task.one_vs_rest_targets(targets)).sum(axis=0)
    few = [label for label, count in zip(task.labels, counts, strict=True) if count < FEWEST_TEXTS]
    notes = [f"labels with fewer than {FEWEST_TEXTS} rows are not judged: {len(few):,} labels"] if few else []
    confusion = task.metrics(scores, targets).confusion
    return findings, None if confusion is None else confusion.tolist(), notes


def _confusions(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[Confusion]:
    """Return the pairs of classes that are confused, the most rows first."""
    found = [
        Confusion(labels[given], labels[predicted], count, count / sum(counts))
        for given, counts in enumerate(confusion)
        for predicted, count in enumerate(counts)
        if count and given != predicted
    ]
    return sorted(found, key=lambda each: (-each.rows, -each.share, each.label, each.predicted))
