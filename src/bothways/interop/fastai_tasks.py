"""Read what a fastai learner predicts: one label per text, any number of labels, or numbers.

Input: facts of the labels' processors or transforms, of the loss and of the metrics. Output: ``TaskFacts``, and remarks
for the user. Scores and decisions are those of ``learn.predict``, whatever the metrics of the learner measure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from bothways.errors import ForeignModelError
from bothways.interop.facts import Fact
from bothways.interop.fastai_losses import loss_of_v1, loss_of_v2, require_activation
from bothways.interop.fastai_modules import is_name
from bothways.interop.known_objects import Known, called, path_of, require, state_of
from bothways.interop.learner_facts import MOST_LABELS, MOST_PARTS, Requested, TaskFacts, ValueRange
from bothways.interop.pickle_reader import GlobalName, Record
from bothways.tasks.labels import LONGEST_LABEL

_BLOCK: Final = "fastai.data_block"
_TRANSFORMS: Final = "fastai.data.transforms"
_V1_PROCESSORS: Final = {
    f"{_BLOCK}.CategoryProcessor": Known(),
    f"{_BLOCK}.MultiCategoryProcessor": Known(),
    f"{_BLOCK}.PreProcessor": Known(parts=frozenset({"ref_ds"})),
}
_VOCABULARY: Final = frozenset({"vocab", "__signature__", "input_types"})
_CATEGORIES: Final = {f"{_TRANSFORMS}.Categorize": Known(parts=_VOCABULARY)}
_MULTI_CATEGORIES: Final = {
    f"{_TRANSFORMS}.MultiCategorize": Known(parts=_VOCABULARY),
    f"{_TRANSFORMS}.EncodedMultiCategorize": Known(parts=_VOCABULARY),
}
_NUMBERS: Final = {f"{_TRANSFORMS}.RegressionSetup": Known(parts=_VOCABULARY)}
_ONE_HOT: Final = {f"{_TRANSFORMS}.OneHotEncode": Known(parts=_VOCABULARY)}
_READERS: Final = frozenset(f"{_TRANSFORMS}.{name}" for name in ("ColReader", "ItemGetter", "AttrGetter"))
_METRIC_THRESHOLDS: Final = {
    "fastai.metrics.accuracy_multi": 0.5,
    "fastai.metrics.accuracy_thresh": 0.5,
    "fastai.metrics.fbeta": 0.2,
}
"""Default thresholds of metrics that are functions."""
_DEFAULT_THRESHOLD: Final = 0.5
_SAME_THRESHOLD: Final = 1e-6
_LARGEST: Final = 1e30


def task_of_v1(root: Fact, value_range: ValueRange | None, requested: Requested) -> tuple[TaskFacts | None, list[str]]:
    """Return what an export of fastai v1 predicts, and remarks. None for a language model.

    Raises:
        ForeignModelError: The labels, the loss or the head are not those of a kind that is supported.
    """
    source, data, loss = root.work.source, root.part("data"), loss_of_v1(root.part("loss_func"))
    kind = path_of(data.part("y_cls").value)
    if kind == f"{_BLOCK}.FloatList":
        remarks = require_activation(loss, "none", source, requested)
        remarks.append(
            f"{source} does not record whether it was trained with FloatList(log=True). If it was, its numbers are "
            "logarithms, as those of learn.predict"
        )
        return TaskFacts("regression", value_range=value_range), remarks
    if kind not in (f"{_BLOCK}.CategoryList", f"{_BLOCK}.MultiCategoryList"):
        return None, []
    _refuse_range(value_range, source)
    name = "CategoryProcessor" if kind.endswith(".CategoryList") else "MultiCategoryProcessor"
    processors = data.part("y_proc").records(MOST_PARTS)
    for processor in processors:
        require(processor, _V1_PROCESSORS, "a processor of its labels")
    found = [processor for processor in processors if path_of(processor.value) == f"{_BLOCK}.{name}"]
    if len(found) != 1:
        raise ForeignModelError(f"{source} has {len(found)} lists of labels ({name}), expected one")
    labels = tuple(found[0].part("classes").labels(most=MOST_LABELS, longest=LONGEST_LABEL))
    if name == "CategoryProcessor":
        return TaskFacts("single-label", labels), require_activation(loss, "softmax", source, requested)
    remarks = require_activation(loss, "sigmoid", source, requested)
    remarks += _other_thresholds(root.part("metrics"), _DEFAULT_THRESHOLD, requested)
    return TaskFacts("multi-label", labels, threshold=_DEFAULT_THRESHOLD), remarks


def task_of_v2(
    transforms: Sequence[Fact], root: Fact, value_range: ValueRange | None, requested: Requested
) -> tuple[TaskFacts | None, list[str]]:
    """Return what an export of fastai v2 predicts, and remarks. None for a language model.

    Args:
        transforms: The transforms of the labels, in order.
        root: The fact of the whole file.
        value_range: The range of the last layer of the head, if it has one.
        requested: What the caller requests where the file leaves a choice.

    Raises:
        ForeignModelError: The labels, the loss or the head are not those of a kind that is supported.
    """
    place = next((i for i, each in enumerate(transforms) if path_of(each.value) in _KINDS), None)
    if place is None:
        return None, []
    source, kind, loss = root.work.source, transforms[place], root.part("loss_func")
    path = require(kind, _KINDS, "the transform of its labels")
    readers = transforms[:place]
    columns, separator = _columns(readers)
    column = columns[0] if len(columns) == 1 else None
    _refuse_steps(transforms[place + 1 :], _ONE_HOT if path.endswith(".MultiCategorize") else {})
    if path in _NUMBERS:
        _refuse_steps([each for each in readers if path_of(each.value) not in _READERS and not _is_function(each)], {})
        remarks = require_activation(loss_of_v2(loss), "none", source, requested)
        several = tuple(columns) if len(columns) > 1 else ()
        return TaskFacts("regression", several, None, value_range, None, column, several), remarks
    _refuse_range(value_range, source)
    labels = tuple(kind.part("vocab").labels(most=MOST_LABELS, longest=LONGEST_LABEL))
    if path in _CATEGORIES:
        remarks = require_activation(loss_of_v2(loss), "softmax", source, requested)
        return TaskFacts("single-label", labels, label_column=column), remarks
    remarks = require_activation(loss_of_v2(loss), "sigmoid", source, requested)
    threshold = _loss_threshold(loss)
    remarks += _other_thresholds(root.part("_metrics"), threshold, requested)
    flags = tuple(columns) if len(columns) > 1 and set(columns) == set(labels) else ()
    return TaskFacts("multi-label", labels, _above(threshold), None, separator, column, flags), remarks


_KINDS: Final = {**_CATEGORIES, **_MULTI_CATEGORIES, **_NUMBERS}


def default_threshold(is_version_1: bool | None) -> float:
    """Return the threshold of fastai's ``predict`` without other settings, as bundles have it."""
    return _DEFAULT_THRESHOLD if is_version_1 else _above(_DEFAULT_THRESHOLD)


def _above(threshold: float) -> float:
    """Return the threshold of a bundle for one of fastai 2.

    fastai 2 assigns a label if its probability, a float32, is above the threshold, bothways also if it is equal.
    """
    return float(np.nextafter(np.float32(threshold), np.float32(1)))


def _refuse_range(value_range: ValueRange | None, source: str) -> None:
    if value_range is not None:
        raise ForeignModelError(
            f"{source} is a classifier, but its head ends with a SigmoidRange (y_range), which is for numbers: it "
            "can't be imported"
        )


def _refuse_steps(transforms: Sequence[Fact], known: dict[str, Known]) -> None:
    for transform in transforms:
        if path_of(transform.value) not in known:
            raise ForeignModelError(
                f"{transform.work.source} changes its labels with {called(transform.value)}, which may change the "
                "predictions, expected fastai's own transforms only: it can't be imported"
            )
        require(transform, known, "a transform of its labels")


def _is_function(transform: Fact) -> bool:
    """Return whether a transform is a function that reads a label, without another one that decodes predictions."""
    path = path_of(transform.value)
    is_transform = path in ("fasttransform.transform.Transform", "fastcore.transform.Transform")
    return is_transform and not _has_functions(state_of(transform).get("decodes"))


def _has_functions(decodes: object) -> bool:
    if isinstance(decodes, Record) and isinstance(decodes.state, dict):
        return any(bool(decodes.state.get(name)) for name in ("_f", "_pending", "_resolved", "funcs"))
    return decodes is not None


def _columns(readers: Sequence[Fact]) -> tuple[list[str], str | None]:
    """Return the columns that the labels come from, and the separator in a cell. Empty if they are not known."""
    for reader in readers:
        if path_of(reader.value) == f"{_TRANSFORMS}.ColReader":
            columns = reader.part("cols").parts(MOST_PARTS) or [reader.part("cols")]
            names = [column.value for column in columns if isinstance(column.value, str) and is_name(column.value)]
            delimiter = reader.part("label_delim").value
            separator = delimiter if isinstance(delimiter, str) and 0 < len(delimiter) <= LONGEST_LABEL else None
            is_known = len(names) == len(columns) == len(set(names))
            return (names if is_known else []), separator
    return [], None


def _loss_threshold(loss: Fact) -> float:
    """Return the threshold above which the loss of fastai v2 decodes a label."""
    fact = loss.part("thresh") if "thresh" in state_of(loss) else Fact(_DEFAULT_THRESHOLD, "thresh", loss.work)
    threshold = _number(fact.value)
    if threshold is None or not 0 <= threshold < 1:
        raise fact.refusal("a threshold of at least 0 and below 1")
    return threshold


def _number(value: object) -> float | None:
    if isinstance(value, np.generic | np.ndarray) and value.size == 1:
        value = value.item()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and isinstance(value, int | float) and abs(value) < _LARGEST else None


def _other_thresholds(metrics: Fact, threshold: float, requested: Requested) -> list[str]:
    """Return a remark per metric with another threshold than that of the decisions."""
    if requested.threshold is not None:
        return []
    found: dict[float, list[str]] = defaultdict(list)
    for name, other in _thresholds(metrics):
        if abs(other - threshold) > _SAME_THRESHOLD:
            found[other].append(name)
    return [
        f"{metrics.work.source}: learn.predict assigns a label from a probability of {threshold:g} on, and so does the "
        f"bundle. Its metrics use {other:g} ({', '.join(dict.fromkeys(names))}): add --threshold {other:g} to decide so"
        for other, names in found.items()
    ]


def _thresholds(metrics: Fact) -> Iterator[tuple[str, float]]:
    """Yield the names of metrics with a threshold, and the threshold."""
    for metric in metrics.parts(MOST_PARTS):
        value, given = metric.value, None
        for _ in range(4):  # v2's AvgMetric of a partial of a function
            if not isinstance(value, Record):
                break
            state = state_of(Fact(value, "", metrics.work))
            if path_of(value) == "functools.partial":
                options = value.state[2] if isinstance(value.state, tuple) and len(value.state) > 2 else {}
                given = options.get("thresh", given) if isinstance(options, dict) else given
                value = value.arguments[0] if value.arguments else None
            elif given is None and state.get("thresh") is not None:
                given = state["thresh"]
                value = state.get("func", value)
            elif "func" in state:
                value = state["func"]
            else:
                break
        if given is None and isinstance(value, GlobalName):
            given = _METRIC_THRESHOLDS.get(path_of(value))
        if (number := _number(given)) is not None:
            yield called(value), number
