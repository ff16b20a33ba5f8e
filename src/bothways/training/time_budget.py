"""Choose the epochs of a training by a time budget.

In: hyperparameters, and what the stages of a training take on this machine. Out: hyperparameters with as many epochs as
fit into the budget, and never more than without one. Epochs that the user stated are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bothways.errors import ConfigError
from bothways.training.estimate import ClassifierCost, duration_text
from bothways.training.hyperparameters import Hyperparameters
from bothways.training.reports import Report, StageReport

STAGE = "time budget"
LEAST_SHARE = 0.5
"""A model trained from scratch gets a smaller size rather than a smaller share of its epochs."""
_RESERVED_SHARE, _RESERVED_S = 0.1, 5.0
"""What is left for calibration, verification and errors of the estimate."""


@dataclass(frozen=True)
class Cost:
    """What the training of all directions takes on this machine.

    Attributes:
        language_model_epoch: Seconds of an epoch of the language models.
        tokens: Tokens of such an epoch.
        classifier: What the classifiers take.
    """

    language_model_epoch: float
    tokens: int
    classifier: ClassifierCost

    @classmethod
    def of(cls, reports: Iterable[Report], hyperparameters: Hyperparameters, *, at_once: bool) -> Cost:
        """Return the cost of all directions from the report of each: the longest one, or their sum.

        Args:
            reports: The reports of ``measure_directions``.
            hyperparameters: Those that were measured.
            at_once: Whether the directions are trained at the same time.
        """
        facts: list[Any] = [report.facts for report in reports if isinstance(report, StageReport)]
        together = max if at_once else sum
        tokens, first = int(facts[0]["tokens"]), facts[0]["classifier"]
        classifier = ClassifierCost(
            together(each["classifier"]["of_epoch"] for each in facts),
            together(each["classifier"]["of_validation"] for each in facts),
            first["groups"],
            first["texts"],
        )
        epochs = hyperparameters.language_model.epochs_for(tokens) or 1
        return cls(together(each["language_model"] for each in facts) / epochs, tokens, classifier)

    def seconds(self, hyperparameters: Hyperparameters) -> float:
        """Return the seconds of a training, whose hyperparameters differ from those measured in epochs only."""
        epochs = hyperparameters.language_model.epochs_for(self.tokens)
        return self.language_model_epoch * epochs + self.classifier.seconds(hyperparameters.classifier)


def training_seconds(left: float) -> float:
    """Return the seconds of ``left`` that may be spent on epochs."""
    return left - max(_RESERVED_S, _RESERVED_SHARE * left)


def refuse_stated_epochs(hyperparameters: Hyperparameters) -> None:
    """Refuse hyperparameters that leave a time budget nothing to choose.

    Raises:
        ConfigError: The epochs of both stages are stated.
    """
    if hyperparameters.language_model.epochs != "auto" and hyperparameters.classifier.epochs != "auto":
        raise ConfigError(
            "--time-budget chooses epochs, but language_model.epochs and classifier.epochs are both stated. "
            "Drop one of them, or the budget"
        )


def fitted(hyperparameters: Hyperparameters, cost: Cost, seconds: float) -> tuple[Hyperparameters, float]:
    """Return hyperparameters whose training fits into a time, and the share of the epochs that they have.

    Gradual unfreezing is dropped first, since it costs epochs and is not known to help (docs/LOG.md). Then both stages
    are shortened by the same share. A classifier is trained for one epoch or more, and a language model in the rest.

    Args:
        hyperparameters: Those without a budget.
        cost: What their training takes.
        seconds: The time for all epochs.

    Returns:
        The hyperparameters, and the share, 0..1. It is 0 if not even one epoch fits.
    """
    if cost.seconds(hyperparameters) <= seconds:
        return hyperparameters, 1.0
    if "unfreezing_epochs" not in hyperparameters.classifier.model_fields_set:
        hyperparameters = _with(hyperparameters, "classifier", unfreezing_epochs=0)
    language_model, classifier = hyperparameters.language_model, hyperparameters.classifier
    language_model_s = cost.language_model_epoch * language_model.epochs_for(cost.tokens)
    whole = cost.seconds(hyperparameters)
    epochs = classifier.epochs_for(cost.classifier.texts)
    classifier_s = epochs * (cost.classifier.of_epoch + cost.classifier.of_validation)
    free = (language_model_s if language_model.epochs == "auto" else 0) + (
        classifier_s if classifier.epochs == "auto" else 0
    )
    share = min(1.0, (seconds - whole + free) / free) if free else 0.0
    if share <= 0:
        return hyperparameters, 0.0
    language_model_epochs = share * language_model.epochs_for(cost.tokens)
    if classifier.epochs == "auto":
        hyperparameters = _with(hyperparameters, "classifier", epochs=max(1, math.floor(share * epochs + 1e-9)))
        if share * epochs < 1:
            language_model_epochs = (share * free - classifier_s / epochs) / cost.language_model_epoch
    if language_model_epochs < 0:
        return hyperparameters, 0.0
    if language_model.epochs == "auto":
        hyperparameters = _with(hyperparameters, "language_model", epochs=math.floor(100 * language_model_epochs) / 100)
    return hyperparameters, share


def shortest(hyperparameters: Hyperparameters, cost: Cost) -> float:
    """Return about how many seconds of a budget the shortest training needs."""
    low, high = 0.0, cost.seconds(hyperparameters)
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if fitted(hyperparameters, cost, middle)[1] else (middle, high)
    return max(high + _RESERVED_S, high / (1 - _RESERVED_SHARE))


def too_short(budget: float, needed: float) -> ConfigError:
    """Return the error of a budget into which no training fits."""
    return ConfigError(
        f"the time budget of {duration_text(budget)} is too short: training on these rows takes at least "
        f"{duration_text(needed)} on this machine. Use a longer --time-budget, or fewer rows"
    )


def report(hyperparameters: Hyperparameters, cost: Cost, size: str | None, share: float) -> StageReport:
    """Return a report of what was chosen."""
    language_model = hyperparameters.language_model.epochs_for(cost.tokens)
    classifier = hyperparameters.classifier.epochs_for(cost.classifier.texts)
    unfreezing = hyperparameters.classifier.unfreezing_epochs * (cost.classifier.groups - 1)
    message = f"{language_model:g} epochs of the language models and {classifier + unfreezing} of the classifiers"
    message += ", as without a budget" if share == 1 else f", {share:.0%} of those without a budget"
    if size is not None:
        message += f"; size {size}"
    facts: dict[str, object] = {
        "language_model_epochs": language_model,
        "classifier_epochs": classifier,
        "unfreezing_epochs": hyperparameters.classifier.unfreezing_epochs,
        "size": size,
    }
    return StageReport(STAGE, message, facts=facts)


def _with(hyperparameters: Hyperparameters, section: str, **changes: float) -> Hyperparameters:
    return hyperparameters.model_copy(update={section: getattr(hyperparameters, section).model_copy(update=changes)})
