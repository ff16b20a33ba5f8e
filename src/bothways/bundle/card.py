"""Write the model card of a bundle: what it is, how it reads, what it was measured at.

In: the manifest's parts. Out: Markdown. States only what the trainer recorded.
"""

from __future__ import annotations

from bothways.bundle.manifest import Kind, Member, TrainingRecord


def write_card(kind: Kind, labels: list[str], members: list[Member], training: TrainingRecord) -> str:
    """Give the ``README.md`` of a bundle; the same text for the same model."""
    is_classifier = kind is Kind.CLASSIFIER
    lines = [f"# A bothways {'text classifier' if is_classifier else 'language-model pack'}", ""]
    if is_classifier:
        lines += [f"Labels, in order: {', '.join(f'`{label}`' for label in labels)}", ""]
    lines += ["| reads | markers | vocabulary | embedding | hidden | layers |", "|---|---|---|---|---|---|"]
    for member in members:
        sizes = member.architecture
        lines.append(
            f"| {member.direction} | {member.markers} | {sizes.vocabulary_size} "
            f"| {sizes.width_embedding} | {sizes.width_hidden} | {sizes.layers} |"
        )
    lines += ["", *_made_by(training)]
    if training.pretrained:
        lines.append(f"Pre-trained language models: pack with digest {training.pretrained}.")
    if training.validation:
        lines += ["", "Measured on the validation rows, on which the best epoch was chosen (so a little too good):", ""]
        measures = sorted({measure for row in training.validation.values() for measure in row})
        lines += [f"| | {' | '.join(measures)} |", f"|---|{'---|' * len(measures)}"]
        for name, row in training.validation.items():
            lines.append(f"| {name} | {' | '.join(f'{row[m]:.4f}' if m in row else '' for m in measures)} |")
    verb = "predict" if is_classifier else "train --pretrained"
    lines += [
        "",
        f"Use: `bothways {verb}`; check: `bothways verify`. Only safetensors and JSON: nothing here executes.",
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
        f"Trained with bothways {training.bothways_version}, size {training.size}, seed {training.seed}.",
        f"Rows: {rows}.",
    ]
