"""Write the model card of a bundle: what it is, how it reads, what it was measured at.

In: the manifest's parts. Out: Markdown. States only what the trainer recorded.
"""

from __future__ import annotations

from bothways.bundle.manifest import Calibration, Member, Task, TrainingRecord

_TITLES: dict[Task, str] = {
    "single-label": "text classifier",
    "multi-label": "multi-label text classifier",
    "next-token": "language-model pack",
}

_CHOSEN_ON_THEM: dict[Task, str] = {
    "single-label": ", on which the ensemble's temperature was chosen, too (so its loss is a little too good)",
    "multi-label": ", on which temperature and thresholds were chosen, too (so the ensemble is a little too good)",
    "next-token": ", on which the best weights were chosen, too (so a little too good)",
}


def write_card(
    task: Task,
    labels: list[str],
    members: list[Member],
    calibration: Calibration | None,
    thresholds: list[float] | None,
    training: TrainingRecord,
) -> str:
    """Return the ``README.md`` of a bundle; the same text for the same model."""
    lines = [f"# A bothways {_TITLES[task]}", ""]
    if task != "next-token":
        lines += [f"Labels, in order: {', '.join(f'`{label}`' for label in labels)}", ""]
    if thresholds is not None:
        lines += ["A text has any number of them: each whose probability reaches its threshold.", ""]
        lines += [f"Thresholds: {thresholds_shown(thresholds)}.", ""]
    if calibration is not None and calibration.temperature != 1:
        lines += [f"The ensemble's probabilities are calibrated with temperature {calibration.temperature:.4g}.", ""]
    lines += ["| reads | markers | vocabulary | embedding | hidden | layers |", "|---|---|---|---|---|---|"]
    for member in members:
        sizes = member.architecture
        lines.append(
            f"| {member.direction} | {member.special_tokens} | {sizes.vocabulary_size} "
            f"| {sizes.width_embedding} | {sizes.width_hidden} | {sizes.layers} |"
        )
    lines += ["", *_made_by(training)]
    if training.pretrained:
        lines.append(f"Started from the pack {training.pretrained_name or ''} with digest {training.pretrained}.")
    if training.about:
        lines += ["", training.about]
    if training.validation:
        lines += ["", f"Measured on the validation rows{_CHOSEN_ON_THEM[task]}:", ""]
        metrics = sorted({measure for row in training.validation.values() for measure in row})
        lines += [f"| | {' | '.join(metrics)} |", f"|---|{'---|' * len(metrics)}"]
        for name, row in training.validation.items():
            lines.append(f"| {name} | {' | '.join(f'{row[m]:.4f}' if m in row else '' for m in metrics)} |")
    verb = "train --pretrained" if task == "next-token" else "predict"
    lines += [
        "",
        f"Use: `bothways {verb}`; check: `bothways verify`. Only safetensors and JSON: nothing here executes.",
        "",
    ]
    return "\n".join(lines)


def thresholds_shown(thresholds: list[float]) -> str:
    """Return the thresholds in a few words."""
    lowest, highest = min(thresholds), max(thresholds)
    return f"{lowest:.4g}" if lowest == highest else f"{lowest:.4g} to {highest:.4g}, by label"


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
