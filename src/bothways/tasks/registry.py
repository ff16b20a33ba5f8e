"""Find a task by its name.

In: a name, or the record in a file. Out: a task. The only list of all tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from bothways.errors import ConfigError, quoted
from bothways.tasks.labels import KNOWN_SHOWN, listed
from bothways.tasks.multi_label import DEFAULT_THRESHOLD, MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import Target, Task, TaskName, TaskRecord

_TASKS: dict[TaskName, type[Task]] = {task.name: task for task in (SingleLabel, MultiLabel, Regression)}


def new_task(name: str | None = None, separator: str | None = None, label_columns: Sequence[str] = ()) -> Task:
    """Return a task before it is fitted to data.

    Args:
        name: ``single-label``, ``multi-label`` or ``regression``. Defaults to ``multi-label`` if a separator or
            names are given, and to ``single-label`` otherwise.
        separator: The string between the labels of a text, for multi-label only.
        label_columns: The names of 0/1 columns, or of the positions of multi-hot lists, for multi-label only.

    Raises:
        ConfigError: The name is unknown, the separator is empty, a label name is empty or repeated, or separator or
            names do not go with the task or with each other.
    """
    if name is None:
        name = SingleLabel.name if separator is None and not label_columns else MultiLabel.name
    if name == MultiLabel.name:
        if separator is not None and label_columns:
            raise ConfigError("0/1 columns have no label separator; drop the separator or the label names")
        return MultiLabel(separator=separator, label_columns=tuple(label_columns))
    if name not in _TASKS:
        raise ConfigError(f"unknown task {quoted(name)}; use one of {', '.join(get_args(TaskName))}")
    if separator is not None:
        raise ConfigError(f"a label separator needs the task multi-label, not {name}; drop one of the two")
    if label_columns:
        raise ConfigError(f"label names need the task multi-label, not {name}; drop one of the two")
    return next(task for task_name, task in _TASKS.items() if task_name == name)()


def imported_task(
    name: TaskName,
    labels: Sequence[str],
    outputs: int,
    *,
    threshold: float | None = None,
    value_range: tuple[float, float] | None = None,
    separator: str | None = None,
    label_columns: Sequence[str] = (),
) -> Task:
    """Return the task of a model that another library trained.

    Args:
        name: Which task.
        labels: Labels in the order of the outputs. For several targets their names, which default to ``target_1`` and
            so on. Empty for a single target, whose name is always ``value``.
        outputs: The number of outputs of the model.
        threshold: Probability from which on each label is assigned, for multi-label. Defaults to 0.5.
        value_range: The lowest and highest value, for regression.
        separator: The string between two labels in a cell, for multi-label.
        label_columns: The columns with 0 or 1 per label, or with a number per target.

    Raises:
        ConfigError: The labels are missing, or are not as many as the outputs. The message says what the model has.
        ValueError: The parts do not fit together.
    """
    is_regression = name == Regression.name
    if not labels and is_regression:
        labels = [f"target_{number}" for number in range(1, outputs + 1)] if outputs > 1 else [Target().name]
    elif outputs == 1 and is_regression:
        raise ConfigError("1 target, which needs no name: drop --label")
    if not labels:
        raise ConfigError(f"{outputs} classes without labels: pass the labels in class order, one --label each")
    if len(labels) != outputs:
        kind = "targets" if is_regression else "classes"
        raise ConfigError(f"{outputs} {kind}, but {len(labels)} labels: {listed(labels, KNOWN_SHOWN)}")
    columns = tuple(label_columns)
    if is_regression:
        targets = tuple(map(Target, labels))
        return task_of(TaskRecord(name, targets=targets, value_range=value_range, label_columns=columns))
    thresholds = (threshold or DEFAULT_THRESHOLD,) * outputs if name == MultiLabel.name else None
    return task_of(TaskRecord(name, tuple(labels), 1.0, thresholds, separator=separator, label_columns=columns))


def task_of(record: TaskRecord) -> Task:
    """Return the task that a file stores.

    Raises:
        ValueError: The parts of the record do not fit together.
    """
    return _TASKS[record.name].from_record(record)
