"""What MLflow, SageMaker and KServe's first protocol share: values as predictions, in JSON, JSON lines and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from bothways import strict_json
from bothways.bundle.parity import ENSEMBLE
from bothways.evaluation.predicted_rows import abstention_cells, abstention_columns
from bothways.runtime.classifier import Classifier
from bothways.serve.answers import Classified
from bothways.serve.protocols.abstention import abstention_of
from bothways.serve.protocols.choices import Choices, ranked
from bothways.serve.protocols.media_types import CSV, JSON, MediaType
from bothways.serve.protocols.protocol import Reply
from bothways.tasks.labels import label_text
from bothways.tasks.task import Task


def prediction_of(found: Classified, task: Task, choices: Choices) -> object:
    """Return the prediction for a text as a JSON value.

    A number for a regression model, or an object with a number per target. For a classifier an object: the ``label``
    and its ``score``, or the chosen ``labels`` of a multi-label model and their ``scores``, possibly none. With
    ``top_k`` it also has that many labels as ``top``. If abstention was calibrated, it also has the reason to
    abstain as ``abstained`` and the conformal ``label_set``.
    """
    prediction, scores = found.prediction, found.prediction.scores[ENSEMBLE]
    if prediction.value is not None:
        return prediction.value
    by_label = dict(zip(task.label_values, scores.tolist(), strict=True))
    result: dict[str, object]
    if task.thresholds is None:
        result = {"label": prediction.label, "score": prediction.probability}
    else:
        chosen = task.decide(scores).chosen
        result = {"labels": list(chosen), "scores": [by_label[label] for label in chosen]}
    if choices.top_k is not None:
        pairs = list(by_label.items())
        result["top"] = [{"label": pairs[n][0], "score": pairs[n][1]} for n in ranked(scores)[: choices.top_k]]
    return result | abstention_of(prediction)


def predictions_reply(
    found: Iterable[Classified], model: Classifier, task: Task, choices: Choices, media: MediaType
) -> Reply:
    """Return the reply with a prediction per text.

    Args:
        found: The predictions.
        model: The model.
        task: The task of the model, with the thresholds to use.
        choices: What the request chooses.
        media: The format of the reply. CSV has the columns that ``bothways predict`` adds to a table, and a header if
            the client accepts ``text/csv; header=present``.
    """
    if media.name == CSV:
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\r\n")
        if media.parameters.get("header") == "present":
            writer.writerow(_with_abstention(task.columns(), abstention_columns(model), task))
        for each in found:
            cells = task.cells(each.prediction.scores[ENSEMBLE])
            more = [] if model.abstention is None else abstention_cells(each.prediction)
            writer.writerow(map(_cell, _with_abstention(cells, more, task)))
        return Reply(lines.getvalue().encode("utf-8"), {"content-type": f"{CSV}; charset=utf-8"})
    predictions = [prediction_of(each, task, choices) for each in found]
    if media.name == JSON:
        return Reply({"predictions": predictions})
    rows = "".join(f"{strict_json.dump(prediction)}\n" for prediction in predictions)
    return Reply(rows.encode("utf-8"), {"content-type": media.name})


def _with_abstention(cells: Sequence[object], more: Sequence[object], task: Task) -> list[object]:
    """Return the cells of a row with those of abstention, before those of the probabilities."""
    position = len(cells) - len(task.labels)
    return [*cells[:position], *more, *cells[position:]]


def _cell(value: object) -> object:
    return label_text(value) if isinstance(value, bool) else value
