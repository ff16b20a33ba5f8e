"""What every protocol reports of a model whose abstention was calibrated: the reason to abstain, and the label set."""

from __future__ import annotations

from bothways.runtime.prediction import Prediction


def abstention_of(prediction: Prediction) -> dict[str, object]:
    """Return the reason, None if the model answers, and the label set. Empty if abstention was not calibrated."""
    if prediction.domain_score is None:
        return {}
    found: dict[str, object] = {"abstained": None if prediction.abstained is None else str(prediction.abstained)}
    if prediction.label_set is not None:
        found["label_set"] = list(prediction.label_set)
    return found
