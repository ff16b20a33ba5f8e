"""``bothways.update``: train a classifier further, with new rows, new labels or without some of its labels.

In: a bundle and labeled rows. Out: a new bundle, and how its predictions changed. Training starts from the encoders and
heads of the bundle. It does not forget the rows that it was trained on where they are passed again: their labels are
then mixed with the old predictions (dark experience replay, arXiv 2004.07211).

Letters: N texts, C outputs.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bothways.arguments import as_flag, as_names, as_number, as_path, checked, optional
from bothways.bundle.manifest import Kind
from bothways.bundle.parity import ENSEMBLE
from bothways.bundle.read import Bundle, read_bundle
from bothways.data.dialect import Dialect, Quotes, TableFormat
from bothways.data.labeled import read_valid_texts
from bothways.data.tables import TableSource
from bothways.errors import ConfigError, DataError, WorseThanBefore, quoted
from bothways.evaluation.inputs import choose_text_columns, read_rows
from bothways.evaluation.scored_rows import scored_rows
from bothways.runtime.classifier import Classifier, load
from bothways.tasks.labels import KNOWN_SHOWN, LabelValue, in_order, listed, parse_label
from bothways.tasks.metrics import Metrics, Scores
from bothways.tasks.task import LabeledTexts, SoftLabel, Split, Task, joined, selected
from bothways.text.fields import Text, TextColumns, columns_of
from bothways.training.choices import Device
from bothways.training.launch import COMMON_CHECKS, run, run_settings, started
from bothways.training.reports import Report, StageReport
from bothways.training.summary import DATA_STAGE, data_reports
from bothways.training.training_data import TrainingData, with_taught

MAX_DROP = 0.05
"""Largest loss of F1 of a label that is published by default."""
_GOLD_SHARE = 0.5
"""Share of a row's own label in what the row teaches. The rest is the old prediction."""
_STAGE = "update"
_MOST_NAMED = 5

LabeledData = TableSource | tuple[Sequence[object], Sequence[object]]
"""A table of labeled rows, or a tuple of texts and their labels."""


@dataclass(frozen=True)
class BeforeAfter:
    """Metrics before and after an update on the same validation rows.

    Attributes:
        rows: Number of rows.
        before: Metrics of the ensemble of the old bundle, by name. It never predicts a new label.
        after: Metrics of the new one.
    """

    rows: int
    before: dict[str, float]
    after: dict[str, float]


@dataclass(frozen=True)
class LabelChange:
    """How well a label is predicted before and after an update.

    Attributes:
        label: The label.
        rows: Number of validation rows that have it.
        before: F1 of the old bundle, 0..1; None for a new label.
        after: F1 of the new bundle, 0..1; None for a removed label.
    """

    label: LabelValue
    rows: int
    before: float | None
    after: float | None


@dataclass(frozen=True, eq=False)
class Update:
    """What an update changed.

    Attributes:
        model: The new model, loaded from its bundle.
        added: Labels that the old bundle does not have.
        removed: Labels that the new bundle does not have.
        new: Metrics on the validation rows of the new data.
        old: Metrics on those of the old data; None if no old rows were passed.
        labels: How each label changed, on all validation rows. Empty for regression.
    """

    model: Classifier
    added: tuple[LabelValue, ...]
    removed: tuple[LabelValue, ...]
    new: BeforeAfter
    old: BeforeAfter | None
    labels: tuple[LabelChange, ...]

    def to_dict(self) -> dict[str, object]:
        """Return all fields but the model as lists, dicts, strings and numbers, ready for ``json.dumps``."""
        return {
            "digest": self.model.digest,
            "added": list(self.added),
            "removed": list(self.removed),
            "new": asdict(self.new),
            "old": None if self.old is None else asdict(self.old),
            "labels": [asdict(each) for each in self.labels],
        }


@checked(
    bundle=as_path,
    label=optional(as_names),
    remove=optional(as_names),
    max_drop=as_number,
    force=as_flag,
    **{name: check for name, check in COMMON_CHECKS.items() if name not in ("size", "encoder", "directions")},
)
def update(
    bundle: str | os.PathLike[str],
    data: LabeledData,
    *,
    out: str | os.PathLike[str],
    old: LabeledData | None = None,
    unlabeled: TableSource | Sequence[object] | None = None,
    remove: str | Sequence[str] | None = None,
    max_drop: float = MAX_DROP,
    text: TextColumns | None = None,
    label: str | None = None,
    seed: int = 0,
    config: str | os.PathLike[str] | Mapping[str, object] | None = None,
    device: Device = "cpu",
    force: bool = False,
    progress: bool = True,
    plot: str | os.PathLike[str] | None = None,
    log_to: str | Sequence[str] | None = None,
    format: TableFormat | None = None,  # noqa: A002  (as the option)
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    encoding: str | None = None,
    header: bool = True,
) -> Update:
    """Train a classifier further on new rows, and publish it as a new bundle.

    Training starts from the weights of the old bundle. Labels that it does not know become new labels. A tenth of the
    new rows, and of the old ones, is set aside to validate. Guarantee 7: a run that was killed continues when the same
    call is repeated.

    Args:
        bundle: Directory of the bundle to update. It stays as it is.
        data: New labeled rows, as a table (docs/tables.md) or a tuple of texts and labels.
        out: Bundle to create. Must not exist yet.
        old: Labeled rows that the bundle was trained on, or some of them, so that it does not forget them.
        unlabeled: Texts without labels, which keep the predictions of the old bundle: a table or a list of texts.
        remove: Labels that the new model no longer has. Old rows with one of them are left out.
        max_drop: Largest loss of F1 of a label that the old bundle has, 0..1. A model with a larger one is not
            published. It is measured on the old validation rows, or on all if there are none.
        text: Text column, or several, of all tables. Defaults to those of the bundle.
        label: Label column of all tables. Defaults to that of the bundle.
        seed: Random seed, 0..4294967295.
        config: A TOML file of hyperparameters, or a dict with its sections (docs/hyperparameters.md).
        device: ``cpu`` or ``cuda``.
        force: Publish the model even if it is no better than a constant prediction.
        progress: Show progress on standard error: bars in a terminal or a notebook, otherwise a line per stage.
        plot: Picture of the loss curves, as for ``train``.
        log_to: TensorBoard or Weights & Biases, as for ``train``.
        format: Format of all files. Defaults to that of each suffix.
        delimiter: Character between the fields of a text table.
        quotes: ``none`` or ``double``, as for ``train``.
        encoding: Encoding of a text file. Defaults to UTF-8.
        header: Whether a text table begins with column names.

    Returns:
        The new model, with its metrics before and after.

    Raises:
        BundleError: The bundle cannot be read.
        ConfigError: An option is invalid, ``out`` exists, or the bundle has a head that cannot be trained further.
        DataError: The rows cannot be used, or a label that remains has no rows.
        DependencyMissing: The libraries for training are not installed.
        WorseThanBefore: A label loses more than ``max_drop``. Nothing was published. The same call with a larger
            ``max_drop`` publishes the model without training again.
        TrainingError: Training diverged, the model is no better than a constant prediction, or the bundle could not be
            verified. Nothing was published.
    """
    if not 0 <= max_drop <= 1:
        raise ConfigError(f"max_drop is {max_drop:g}, expected a number from 0 to 1")
    base, first_start = run_settings(out, _directions(bundle), seed, bundle, None, None, config, device)
    from bothways.training.follow import check_following  # noqa: PLC0415  (needs torch)
    from bothways.training.pipeline import digest_of, train_bundle  # noqa: PLC0415  (needs torch)

    following = check_following(progress, plot, log_to)
    whole = read_bundle(bundle, Kind.CLASSIFIER)
    head_size = _head_size(whole)
    model = load(bundle)
    if model.task.target_names:
        raise ConfigError("the bundle predicts several numbers, and a model is trained for one number only")
    rows = _Rows.read(
        model, data, old, unlabeled, remove, text, label, Dialect(format, delimiter, quotes, encoding, header)
    )
    classifier = base.hyperparameters.classifier
    read, old_valid = rows.split(model, classifier.validation_fraction, seed)
    hyperparameters = base.hyperparameters.model_copy(
        update={"classifier": classifier.model_copy(update={"head_size": head_size})}
    )
    if whole.linear is not None:
        hyperparameters = hyperparameters.with_linear()
    settings, start = started(
        replace(base, hyperparameters=hyperparameters), first_start, bundle, config, read.split.train.texts
    )
    settings = replace(
        settings,
        updates=whole,
        text_columns=tuple(rows.columns),
        label_column=label or model.manifest.training.label_column,
        task=rows.task,
        data={name: digest_of(parts) for name, parts in read.digested().items()},
        force=force,
    )
    judge = _Judge(model, rows.task, read.split.valid, old_valid, max_drop)
    reports = [
        *data_reports(read.split, 0),
        *(StageReport(DATA_STAGE, warning, is_warning=True) for warning in [*read.warnings, *judge.warnings()]),
        *rows.reports(),
        start,
    ]
    run(settings, reports, train_bundle(read.split, [], settings, judge), following)
    return judge.update(load(settings.out), rows.added, rows.removed)


def _directions(bundle: str | os.PathLike[str]) -> str:
    """Return the directions of a bundle, as the option is written."""
    found = read_bundle(bundle, Kind.CLASSIFIER).manifest.directions
    return "both" if len(found) > 1 else str(found[0])


def _head_size(bundle: Bundle) -> int:
    """Return the size of the hidden layer of a bundle's heads.

    Raises:
        ConfigError: The heads have another number of layers, or pool in another way, as some imported ones do.
    """
    for member in bundle.manifest.members:
        if member.pooling is not None or member.widths_head is None or len(member.widths_head) != 1:
            raise ConfigError(
                f"{bundle.name}: its head cannot be trained further, because its layers or its pooling are others than "
                "those that bothways trains. Train on old and new rows together with --pretrained BUNDLE"
            )
    widths = {member.widths_head[0] for member in bundle.manifest.members if member.widths_head}
    if len(widths) > 1:
        raise ConfigError(f"{bundle.name}: its heads have different sizes and cannot be trained further")
    return widths.pop()


@dataclass(frozen=True, eq=False)
class _Rows:
    """What an update is trained on.

    Attributes:
        columns: Text columns.
        task: The task of the new model.
        new: New rows.
        old: Old rows without those of removed labels; None if there are none.
        unlabeled: Texts that keep the old predictions.
        added: Labels that are new.
        removed: Labels that are not in the new model.
        left_out: Number of old rows with removed labels.
    """

    columns: list[str]
    task: Task
    new: LabeledTexts
    old: LabeledTexts | None
    unlabeled: list[Text]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    left_out: int

    @classmethod
    def read(
        cls,
        model: Classifier,
        data: object,
        old: object,
        unlabeled: object,
        remove: str | Sequence[str] | None,
        text: TextColumns | None,
        label: str | None,
        dialect: Dialect,
    ) -> _Rows:
        """Read and check all rows.

        Raises:
            ConfigError: A label to remove is unknown.
            DataError: The rows cannot be read, or they cannot teach what the new model has to predict.
        """
        columns = choose_text_columns(text, model.text_columns)
        new = read_rows(model.manifest, data, columns, label, dialect, keep_unknown=True)
        unknown = {each for row in new.labels for each in model.task.unknown(row)}
        added, removed = in_order(unknown), tuple(map(parse_label, columns_of(remove) if remove else ()))
        task = model.task.extended(added).without(removed)
        if present := sorted(set(removed) & new.distinct_labels):
            raise DataError(f"{new.name} has rows with the removed labels {listed(present)}: drop the rows or --remove")
        kept, left_out = None, 0
        if old is not None:
            rows = read_rows(model.manifest, old, columns, label, dialect)
            has_removed = [not set(removed).isdisjoint(_labels_of(each)) for each in rows.labels]
            kept, left_out = selected(rows, [not has for has in has_removed]), sum(has_removed)
            if not len(kept):
                raise DataError(f"all {len(rows):,} rows of {rows.name} have removed labels")
        more: list[Text] = []
        if unlabeled is not None:
            more, _ = read_valid_texts(unlabeled, columns, dialect=dialect, drop_invalid=False)
        found = cls(columns, task, new, kept, more, added, removed, left_out)
        found.refuse_forgotten()
        return found

    def refuse_forgotten(self) -> None:
        """Refuse rows without which the model would forget a label.

        Raises:
            DataError: A label that remains has no rows, and no text keeps the old predictions.
        """
        present = self.new.distinct_labels | (set() if self.old is None else self.old.distinct_labels)
        forgotten = [label for label in self.task.labels if label not in present]
        if forgotten and not self.unlabeled:
            raise DataError(
                f"no row has the labels {listed(forgotten, KNOWN_SHOWN)}, so the model would forget them. Add old rows "
                "with --old, texts without labels with --unlabeled, or remove the labels with --remove"
            )

    def split(self, model: Classifier, fraction: float, seed: int) -> tuple[TrainingData, int]:
        """Return training and validation rows, and the number of the last validation rows that are old ones.

        Args:
            model: The old model.
            fraction: Share of the texts to set aside to validate.
            seed: Random seed.
        """
        warnings = [*self.task.check(self.new if self.old is None else joined(self.new, self.old))]
        of_new = self.task.split(self.new, fraction, seed)
        train, valid, old_valid = of_new.train, of_new.valid, 0
        warnings += of_new.warnings
        if self.old is not None:
            of_old = self.task.split(self.old, fraction, seed)
            corrected = set(self.new.texts)  # new rows replace old ones with the same text
            held, kept = (
                selected(part, [text not in corrected for text in part.texts]) for part in (of_old.valid, of_old.train)
            )
            rehearsed = _rehearsed(model, kept, self.task)
            train, valid, old_valid = joined(train, rehearsed), joined(valid, held), len(held)
        read = TrainingData(Split(train, valid, warnings), [], warnings, [])
        if self.unlabeled:
            read = with_taught(read, _predicted(model, self.unlabeled, self.task))
        return read, old_valid

    def reports(self) -> Iterator[StageReport]:
        """Yield what changes."""
        if self.added:
            yield StageReport(_STAGE, f"new labels: {listed(self.added, KNOWN_SHOWN)}")
        if self.removed:
            yield StageReport(_STAGE, f"removed labels: {listed(self.removed)}, {self.left_out:,} old rows left out")


def _labels_of(label: object) -> Collection[str]:
    return label if isinstance(label, tuple) else ()


def _rehearsed(model: Classifier, rows: LabeledTexts, task: Task) -> LabeledTexts:
    """Return old rows whose labels are mixed with the predictions of the old model. Numbers stay as they are."""
    if not task.labels:
        return rows
    gold = task.one_vs_rest_targets(task.targets(rows)).astype(np.float64)
    predicted = _renormalized(_in_outputs_of(task, model, rows.texts), task)
    mixed = _GOLD_SHARE * gold + (1 - _GOLD_SHARE) * predicted
    return replace(rows, labels=[task.parse_soft(row.tolist()) for row in mixed])


def _predicted(model: Classifier, texts: Sequence[Text], task: Task) -> LabeledTexts:
    """Return texts with the predictions of the old model as labels."""
    if not task.labels:
        values = [float(value) for value in model.predict(texts)]
        return LabeledTexts("the texts", list(texts), [task.parse_soft([value]) for value in values])
    rows = _in_outputs_of(task, model, texts)
    is_empty = rows.sum(axis=1) == 0  # only removed labels are probable
    labels = [task.parse_soft(row.tolist()) for row in rows[~is_empty]]
    return LabeledTexts("the texts", [text for text, empty in zip(texts, is_empty, strict=True) if not empty], labels)


def _renormalized(rows: Scores, task: Task) -> Scores:
    """Return the probabilities of the labels that remain, as the task reads a teacher's, (N, C)."""
    found = []
    for row in rows:
        label = task.parse_soft(row.tolist()) if row.sum() else None
        found.append(label.probabilities if isinstance(label, SoftLabel) else [0.0] * len(row))
    return np.array(found, dtype=np.float64).reshape(rows.shape)


def _in_outputs_of(task: Task, model: Classifier, texts: Sequence[Text]) -> Scores:
    """Return the old probabilities of the labels of a new task, (N, C). Those of new labels are 0."""
    scores = model.scores_by_direction(texts)[ENSEMBLE]
    positions = {name: number for number, name in enumerate(model.task.output_names)}
    found = np.zeros((len(scores), task.outputs))
    for number, name in enumerate(task.output_names):
        if name in positions:
            found[:, number] = scores[:, positions[name]]
    return found


class _Judge:
    """Compares the new ensemble with the old one on the validation rows, before it is published."""

    def __init__(self, model: Classifier, task: Task, valid: LabeledTexts, old_rows: int, max_drop: float) -> None:
        """Prepare the comparison.

        Args:
            model: The old model.
            task: The task of the new one.
            valid: Validation rows, of which the last ``old_rows`` are old ones.
            old_rows: Number of old rows.
            max_drop: Largest loss of F1 of a label.
        """
        self._known = set(model.task.output_names)
        self._before = scored_rows(model, valid)
        self._task, self._valid, self._max_drop = task, valid, max_drop
        self._new = np.arange(len(valid)) < len(valid) - old_rows
        self._found: tuple[BeforeAfter, BeforeAfter | None, tuple[LabelChange, ...]] | None = None

    def warnings(self) -> Iterator[str]:
        """Yield a warning about old labels that cannot be compared."""
        judged = self._valid.distinct_labels if self._new.all() else self._of(~self._new).distinct_labels
        if missing := [label for label in self._task.labels if label in self._known and label not in judged]:
            yield f"no validation row has the labels {listed(missing, _MOST_NAMED)}: what they lose is not measured"

    def __call__(self, task: Task, scores: Scores) -> Iterator[Report]:
        """Yield a report of what changed.

        Raises:
            WorseThanBefore: A label loses too much.
        """
        is_new, is_old = self._new, ~self._new
        new = self._comparison(task, scores, is_new)
        old = self._comparison(task, scores, is_old) if is_old.any() else None
        self._found = new, old, self._changes(task, scores, np.ones_like(is_new))
        for name, found in (("new", new), ("old", old)):
            if found is not None:
                yield StageReport(_STAGE, _sentence(name, found, task), facts={name: asdict(found)})
        judged = self._changes(task, scores, is_old if is_old.any() else is_new)
        lost = sorted(
            (each for each in judged if each.before is not None and each.after is not None and each.rows),
            key=_drop,
            reverse=True,
        )
        if lost and _drop(lost[0]) > self._max_drop:
            worse = [each for each in lost if _drop(each) > self._max_drop]
            named = ", ".join(_change_text(each) for each in worse[:_MOST_NAMED])
            raise WorseThanBefore(
                f"{len(worse)} labels lose more than {100 * self._max_drop:g} points of F1: {named}. The model is not "
                "published. Pass more old rows, or repeat the command with a larger --max-drop to publish it as it is"
            )

    def update(self, model: Classifier, added: Sequence[str], removed: Sequence[str]) -> Update:
        """Return what the update changed."""
        assert self._found is not None
        new, old, changes = self._found
        values = dict(zip(model.task.output_names, model.task.label_values, strict=False))
        return Update(model, tuple(values.get(each, each) for each in added), tuple(removed), new, old, changes)

    def _of(self, is_chosen: NDArray[np.bool_]) -> LabeledTexts:
        return selected(self._valid, is_chosen.tolist())

    def _metrics(self, task: Task, scores: Scores, is_chosen: NDArray[np.bool_]) -> tuple[Metrics, Metrics]:
        """Return the metrics before and after on some of the validation rows."""
        found = self._before
        before = found.task.metrics(found.scores[ENSEMBLE][is_chosen], found.targets[is_chosen])
        return before, task.metrics(scores[is_chosen], task.targets(self._of(is_chosen)))

    def _comparison(self, task: Task, scores: Scores, is_chosen: NDArray[np.bool_]) -> BeforeAfter:
        before, after = self._metrics(task, scores, is_chosen)
        return BeforeAfter(int(is_chosen.sum()), dict(before.summary), dict(after.summary))

    def _changes(self, task: Task, scores: Scores, is_chosen: NDArray[np.bool_]) -> tuple[LabelChange, ...]:
        before, after = self._metrics(task, scores, is_chosen)
        old = dict(zip(self._before.task.labels, before.classes, strict=True))
        new = dict(zip(task.labels, after.classes, strict=True))
        return tuple(
            LabelChange(
                label=(new.get(label) or old[label]).label,
                rows=(new.get(label) or old[label]).support,
                before=old[label].f1 if label in old and label in self._known else None,
                after=new[label].f1 if label in new else None,
            )
            for label in dict.fromkeys([*old, *new])
        )


def _drop(change: LabelChange) -> float:
    assert change.before is not None
    assert change.after is not None
    return change.before - change.after


def _change_text(change: LabelChange) -> str:
    assert change.before is not None
    assert change.after is not None
    return f"{quoted(change.label, 40)} {change.before:.3f} to {change.after:.3f} ({change.rows} rows)"


def _sentence(name: str, found: BeforeAfter, task: Task) -> str:
    parts = [
        f"{metric} {found.before[metric]:.4g} before, {found.after[metric]:.4g} after"
        for metric in task.headline
        if metric in found.before and metric in found.after
    ]
    return f"on {found.rows:,} {name} validation rows: {'; '.join(parts)}"
