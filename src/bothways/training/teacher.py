"""Let a teacher label texts: a model of bothways or scikit-learn, or any function.

In: a teacher and texts. Out: a label per text, usually a soft one, as training rows hold it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bothways.errors import ConfigError, DataError, quoted
from bothways.runtime.classifier import Classifier
from bothways.tasks.labels import KNOWN_SHOWN, KnownLabels, listed, parse_label
from bothways.tasks.task import Label, LabeledTexts, Task
from bothways.terminal import SafeConsole
from bothways.text.fields import Text
from bothways.training.progress import show
from bothways.training.reports import ProgressReport, Report, StageReport

STAGE = "teacher"
_TEXTS_AT_ONCE = 500


def labeled_by_teacher(teacher: object, texts: Sequence[Text], task: Task, *, progress: bool) -> LabeledTexts:
    """Return texts with the labels that a teacher gives them.

    Args:
        teacher: A ``Classifier``; an object with ``predict_proba`` and ``classes_``, or with ``predict`` alone, such as
            a fitted pipeline of scikit-learn; or a function. All take a list of texts. A function returns for each
            text a label, a dict of probabilities by label, or for regression a number.
        texts: Texts to label. Those of several columns are tuples.
        task: The task, fitted to the training rows.
        progress: Show progress on standard error.

    Raises:
        ConfigError: ``teacher`` is something else.
        DataError: An answer is missing, or is not a label of the task or its probabilities.
    """
    labels: list[Label] = []

    def labeling() -> Iterator[Report]:
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            labels.extend(_labels(teacher, texts[start : start + _TEXTS_AT_ONCE], task, start))
            yield ProgressReport(STAGE, len(labels), len(texts))
        yield StageReport(STAGE, f"labeled {len(texts):,} texts")

    show(labeling(), SafeConsole(file=sys.stderr) if progress else None)
    return LabeledTexts("the teacher", list(texts), labels)


def _labels(teacher: Any, texts: Sequence[Text], task: Task, before: int) -> list[Label]:
    """Return the label of each text.

    Args:
        teacher: See ``labeled_by_teacher``.
        texts: Some of the texts.
        task: The task.
        before: Number of texts before these, for messages.
    """
    names: list[str] | None = None
    if isinstance(teacher, Classifier):
        names = list(teacher.task.labels) or None
        answers = teacher.predict(texts) if names is None else teacher.predict_proba(texts)
    elif hasattr(teacher, "predict_proba") and hasattr(teacher, "classes_"):
        names, answers = [parse_label(label) for label in teacher.classes_], teacher.predict_proba(list(texts))
    elif hasattr(teacher, "predict"):
        answers = teacher.predict(list(texts))
    elif callable(teacher):
        answers = teacher(list(texts))
    else:
        raise ConfigError(f"teacher is {quoted(teacher)}, expected a function or an object with predict_proba")
    if not hasattr(answers, "__len__") or len(answers) != len(texts):
        count = f"{len(answers):,} answers" if hasattr(answers, "__len__") else f"{quoted(answers, 40)}"
        raise DataError(f"the teacher returned {count} for {len(texts):,} texts, expected a list with one per text")
    found = []
    for number, answer in enumerate(answers, start=before + 1):
        try:
            found.append(_label(answer if names is None else dict(zip(names, answer, strict=True)), task))
        except (DataError, ValueError) as error:
            raise DataError(f"the teacher's answer to text {number:,}: {error}") from None
    return found


def _label(answer: object, task: Task) -> Label:
    """Return what a teacher answers as a label.

    Raises:
        DataError: It is not a label of the task, or not probabilities of its labels.
    """
    if not isinstance(answer, Mapping) or not task.labels:
        label = task.parse(answer)
        _refuse_unknown(task.unknown(label), task)
        return label
    known = KnownLabels(task.labels)
    shares = {known.find(parse_label(name)): share for name, share in answer.items()}
    _refuse_unknown([name for name in shares if name not in known], task)
    return task.parse_soft([shares.get(label, 0.0) for label in task.labels])


def _refuse_unknown(labels: Sequence[str], task: Task) -> None:
    if labels:
        there = listed(task.labels, KNOWN_SHOWN)
        raise DataError(f"unknown label {listed(labels)}; the training rows have {there}")
