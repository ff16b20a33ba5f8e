"""Write the model card of a bundle: what it predicts, for what, from which data, how well, and its limits.

In: the parts of the manifest. Out: Markdown. States only what was recorded in training. It has no date and no duration,
so that the same seed gives the same bytes.
"""

from __future__ import annotations

from bothways.bundle.manifest import LinearMember, Member, TrainingRecord
from bothways.bundle.parity import ENSEMBLE
from bothways.tasks.metrics import metric_text, metric_title
from bothways.tasks.task import Task
from bothways.text.fields import FIELD

_MOST_LABELS = 20


def write_card(
    task: Task | None, members: list[Member], training: TrainingRecord, linear: LinearMember | None = None
) -> str:
    """Return the ``README.md`` of a bundle, the same text for the same model.

    Args:
        task: What the models predict, fitted and calibrated; None for language models.
        members: The bundle's members.
        training: What the models were trained on and how.
        linear: The linear member, if the bundle has one.
    """
    lines = [f"# A bothways {task.title if task else 'language-model pack'}", "", *(task.card() if task else [])]
    if headline := headline_text(training):
        lines += [f"{headline}.", ""]
    lines += _members(members, linear)
    command = "predict" if task else "train --pretrained"
    lines += [
        "",
        f"Use it with `bothways {command}` and check it with `bothways verify`. "
        "It consists of safetensors and JSON only: nothing in it can execute.",
    ]
    if task:
        lines += [
            "",
            "## Intended use",
            "",
            "For texts like those it was trained on: the same kind, language and time, with the same meaning of "
            f"{'the labels' if task.labels else 'the target'}. Evaluate it on labeled rows of your own first: "
            "`bothways evaluate` prints the metrics, and `bothways report` writes a page.",
        ]
    lines += ["", "## Training", "", *_made_by(training), *_training_data(training)]
    lines += _validation(task, training)
    lines += ["", "## Limitations", "", *_limitations(task, training), ""]
    return "\n".join(lines)


def headline_text(training: TrainingRecord) -> str:
    """Return the ensemble's headline metrics on the validation rows with their intervals; empty if not recorded."""
    found = training.validation.get(ENSEMBLE, {})
    parts = [
        f"{metric_title(name)} {metric_text(name, found[name])} "
        f"(95 % interval {' to '.join(metric_text(name, bound) for bound in bounds)})"
        for name, bounds in training.validation_intervals.items()
        if name in found
    ]
    return f"On {training.rows.get('validation', 0):,} validation rows: {', '.join(parts)}" if parts else ""


def _members(members: list[Member], linear: LinearMember | None) -> list[str]:
    lines = ["| direction | special tokens | vocabulary | embedding | hidden | layers |", "|---|---|---|---|---|---|"]
    for member in members:
        sizes = member.architecture
        lines.append(
            f"| {member.direction} | {member.special_tokens} | {sizes.vocabulary_size} "
            f"| {sizes.width_embedding} | {sizes.width_hidden} | {sizes.layers} |"
        )
    for member in members:
        if member.architecture.kind != "lstm":
            lines += ["", f"The {member.direction} encoder is a {member.architecture.title}."]
    if linear is not None:
        lines += [
            "",
            f"A linear model of {linear.words:,} n-grams of words and {linear.characters:,} of characters has the "
            f"weight {linear.weight:.2g} in the ensemble.",
        ]
    return lines


def _training_data(training: TrainingRecord) -> list[str]:
    lines = _label_rows(training)
    if training.pretrained:
        lines.append(f"Started from the pack {training.pretrained_name or ''} with digest {training.pretrained}.")
    if len(training.text_columns) > 1:
        columns = ", ".join(f"`{column}`" for column in training.text_columns)
        lines.append(f"A text has the columns {columns}, in this order, joined with the field token `{FIELD}`.")
    if training.about:
        lines += ["", training.about]
    if training.imported is None:
        lines += [
            "",
            "Time, hardware and energy are not part of a bundle, so that the same seed gives the same bytes. "
            "The run's `metrics.jsonl` has the time. Energy was not measured.",
        ]
    return lines


def _label_rows(training: TrainingRecord) -> list[str]:
    """Return how many training rows have each label: all labels, or the most frequent ones."""
    counts = sorted(training.label_rows.items(), key=lambda item: -item[1])[:_MOST_LABELS]
    if not counts:
        return []
    more = len(training.label_rows) - len(counts)
    title = f"most frequent of {len(training.label_rows):,} labels" if more else "label"
    lines = []
    for label, count in counts:
        cell = label.replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`")
        lines.append(f"| {' '.join(cell.split())} | {count:,} |")
    return ["", f"| {title} | training rows |", "|---|--:|", *lines, ""]


def _validation(task: Task | None, training: TrainingRecord) -> list[str]:
    """Return the metrics on the validation rows, with the intervals of the ensemble."""
    if not training.validation:
        return []
    note = task.selection_note if task else "the best weights were chosen on them, so they are slightly optimistic"
    metrics = sorted({metric for row in training.validation.values() for metric in row})
    lines = ["", "## Metrics", "", f"Metrics on the validation rows{f' ({note})' if note else ''}:", ""]
    lines += [f"| | {' | '.join(metrics)} |", f"|---|{'---|' * len(metrics)}"]
    for name, row in training.validation.items():
        lines.append(f"| {name} | {' | '.join(f'{row[m]:.4f}' if m in row else '' for m in metrics)} |")
    if intervals := training.validation_intervals:
        cells = [" to ".join(f"{bound:.4f}" for bound in intervals.get(metric, [])) for metric in metrics]
        lines.append(f"| {ENSEMBLE}, 95 % interval | {' | '.join(cells)} |")
    return lines


def _limitations(task: Task | None, training: TrainingRecord) -> list[str]:
    lines = []
    if training.validation:
        lines.append("- The metrics hold for rows like the validation rows. Other texts can have more errors.")
    if task and not task.no_probabilities:
        lines.append(
            "- Every text gets an answer, also one that no label fits. The probabilities assume texts as above."
        )
    lines += [
        "- It was not examined whether errors differ between groups of people. Do that before you use it for decisions "
        "about people.",
        "- It contains no texts of the training data. Its vocabulary consists of frequent words and pieces of them.",
    ]
    return lines


def _made_by(training: TrainingRecord) -> list[str]:
    if training.imported is not None:
        lines = [f"Imported with bothways {training.bothways_version} from {training.imported.library}:", ""]
        for direction, file in training.imported.files.items():
            lines.append(f"- `{file.name}` (SHA-256 `{file.sha256}`) reads {direction}: {file.direction_known_by}.")
        return lines
    rows = ", ".join(f"{count} {name}" for name, count in training.rows.items()) or "not recorded"
    return [
        f"Trained with bothways {training.bothways_version}, size {training.size or 'of its pack'}, "
        f"seed {training.seed}.",
        f"Rows: {rows}.",
    ]
