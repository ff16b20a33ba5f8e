"""What MLflow, SageMaker and KServe's first protocol share: values as predictions, in JSON, JSON lines and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from bothways import strict_json
from bothways.bundle.parity import ENSEMBLE
from bothways.serve.answers import Classified
from bothways.serve.protocols.choices import Choices, ranked
from bothways.serve.protocols.media_types import CSV, JSON, MediaType
from bothways.serve.protocols.protocol import Reply
from bothways.tasks.labels import label_text
from bothways.tasks.task import Task


def prediction_of(found: Classified, task: Task, choices: Choices) -> object:
    """Return the prediction for a text as a JSON value.

    A number for a regression model, or an object with a number per target. For a classifier an object: the ``label``
    and its ``score``, or the chosen ``labels`` of a multi-label model and their ``scores``, possibly none. With
    ``top_k`` it also has that many labels as ``top``.
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
    return result


def predictions_reply(found: Iterable[Classified], task: Task, choices: Choices, media: MediaType) -> Reply:
    """Return the reply with a prediction per text.

    Args:
        found: The predictions.
        task: The task of the model, with the thresholds to use.
        choices: What the request chooses.
        media: The format of the reply. CSV has the columns that ``bothways predict`` adds to a table, and a header if
            the client accepts ``text/csv; header=present``.
    """
    if media.name == CSV:
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\r\n")
        if media.parameters.get("header") == "present":
            writer.writerow(task.columns())
        for each in found:
            writer.writerow(map(_cell, task.cells(each.prediction.scores[ENSEMBLE])))
        return Reply(lines.getvalue().encode("utf-8"), {"content-type": f"{CSV}; charset=utf-8"})
    predictions = [prediction_of(each, task, choices) for each in found]
    if media.name == JSON:
        return Reply({"predictions": predictions})
    rows = "".join(f"{strict_json.dump(prediction)}\n" for prediction in predictions)
    return Reply(rows.encode("utf-8"), {"content-type": media.name})


def _cell(value: object) -> object:
    return label_text(value) if isinstance(value, bool) else value
