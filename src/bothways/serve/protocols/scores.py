"""What Text Embeddings Inference and Hugging Face Inference Endpoints share: lists of labels with scores."""

from __future__ import annotations

from bothways.bundle.parity import ENSEMBLE
from bothways.serve.answers import Classified
from bothways.serve.protocols.abstention import abstention_of
from bothways.serve.protocols.choices import ranked
from bothways.tasks.labels import label_text
from bothways.tasks.task import Task


def labels_with_scores(found: Classified, task: Task) -> list[dict[str, object]]:
    """Return all labels as text with their probabilities, most probable first.

    Labels of a multi-label model also state whether they are chosen by the thresholds. A regression model has its
    targets with their values, in the order of the targets, as regression models of Hugging Face do. If abstention was
    calibrated, each label has the reason to abstain as ``abstained``, the same for all, and states whether it is in the
    conformal label set.

    Args:
        found: The prediction for a text.
        task: The task of the model, with the thresholds to use.
    """
    scores = found.prediction.scores[ENSEMBLE]
    pairs = list(zip(task.output_names, scores.tolist(), strict=True))
    if not task.labels:
        return [{"label": name, "score": score} for name, score in pairs]
    rows: list[dict[str, object]] = [{"label": pairs[n][0], "score": pairs[n][1]} for n in ranked(scores)]
    if task.thresholds is not None:
        chosen = set(map(label_text, task.decide(scores).chosen))
        rows = [{**row, "chosen": row["label"] in chosen} for row in rows]
    of_text = abstention_of(found.prediction)
    label_set = found.prediction.label_set
    if label_set is not None:
        texts = set(map(label_text, label_set))
        rows = [{**row, "in_label_set": row["label"] in texts} for row in rows]
    if of_text:
        rows = [{**row, "abstained": of_text["abstained"]} for row in rows]
    return rows
