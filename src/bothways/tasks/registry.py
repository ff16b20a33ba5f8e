"""Find a task by its name.

In: a name, or the record in a file. Out: a task. The only list of all tasks.
"""

from __future__ import annotations

from typing import get_args

from bothways.errors import ConfigError
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import Task, TaskName, TaskRecord

_TASKS: dict[TaskName, type[Task]] = {task.name: task for task in (SingleLabel, MultiLabel, Regression)}


def new_task(name: str | None = None, separator: str | None = None) -> Task:
    """Return a task before it is fitted to data.

    Args:
        name: ``single-label``, ``multi-label`` or ``regression``. Defaults to ``multi-label`` if a separator is given,
            and to ``single-label`` otherwise.
        separator: The string between the labels of a text, for multi-label only.

    Raises:
        ConfigError: The name is unknown, or the separator is empty or does not go with the task.
    """
    if name is None:
        name = SingleLabel.name if separator is None else MultiLabel.name
    if name == MultiLabel.name:
        return MultiLabel(separator=separator)
    if name not in _TASKS:
        raise ConfigError(f"unknown task {name!r}; use one of {', '.join(get_args(TaskName))}")
    if separator is not None:
        raise ConfigError(f"a label separator needs the task multi-label, not {name}; drop one of the two")
    return next(task for task_name, task in _TASKS.items() if task_name == name)()


def task_of(record: TaskRecord) -> Task:
    """Return the task that a file stores.

    Raises:
        ValueError: The parts of the record do not fit together.
    """
    return _TASKS[record.name].from_record(record)
