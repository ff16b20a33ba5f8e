"""Write the model card of a bundle: what it predicts, how it reads, and its validation metrics.

In: the parts of the manifest. Out: Markdown. States only what was recorded in training.
"""

from __future__ import annotations

from bothways.bundle.manifest import LinearMember, Member, TrainingRecord
from bothways.tasks.task import Task
from bothways.text.fields import FIELD


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
    lines += ["| direction | special tokens | vocabulary | embedding | hidden | layers |", "|---|---|---|---|---|---|"]
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
    lines += ["", *_made_by(training)]
    if training.pretrained:
        lines.append(f"Started from the pack {training.pretrained_name or ''} with digest {training.pretrained}.")
    if len(training.text_columns) > 1:
        columns = ", ".join(f"`{column}`" for column in training.text_columns)
        lines.append(f"A text has the columns {columns}, in this order, joined with the field token `{FIELD}`.")
    if training.about:
        lines += ["", training.about]
    if training.validation:
        note = task.selection_note if task else "the best weights were chosen on them, so they are slightly optimistic"
        lines += ["", f"Metrics on the validation rows{f' ({note})' if note else ''}:", ""]
        metrics = sorted({metric for row in training.validation.values() for metric in row})
        lines += [f"| | {' | '.join(metrics)} |", f"|---|{'---|' * len(metrics)}"]
        for name, row in training.validation.items():
            lines.append(f"| {name} | {' | '.join(f'{row[m]:.4f}' if m in row else '' for m in metrics)} |")
    command = "predict" if task else "train --pretrained"
    lines += [
        "",
        f"Use it with `bothways {command}` and check it with `bothways verify`. "
        "It consists of safetensors and JSON only: nothing in it can execute.",
        "",
    ]
    return "\n".join(lines)


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
