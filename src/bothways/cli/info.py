"""``bothways info``: what a bundle says of itself."""

from __future__ import annotations

import hashlib

from rich.table import Table

from bothways.bundle.card import thresholds_shown
from bothways.bundle.read import read_manifest
from bothways.cli.options import BundlePath, output_console


def info(bundle: BundlePath) -> None:
    """Show what a bundle or pack is: labels, members, training, files. Reads its manifest only.

    Example: bothways info reviews.bundle
    """
    manifest, data = read_manifest(bundle)
    training = manifest.training
    table = Table(title=str(bundle), title_justify="left", show_header=False)
    table.add_row("kind", f"{manifest.kind}, format {manifest.format}")
    table.add_row("digest", hashlib.sha256(data).hexdigest())
    table.add_row("task", manifest.task)
    if manifest.labels:
        table.add_row("labels", ", ".join(manifest.labels))
    if manifest.thresholds is not None:
        table.add_row("thresholds", thresholds_shown(manifest.thresholds))
    if manifest.calibration is not None:
        temperature = manifest.calibration.temperature
        table.add_row("temperature", f"{temperature:.4g}" + (", not calibrated" if temperature == 1 else ""))
    if manifest.early_exit is not None:
        early_exit = manifest.early_exit
        table.add_row(
            "early exit",
            f"{early_exit.first} first, both below {early_exit.threshold:.4g}: {early_exit.read_by_both:.1%} "
            f"of {early_exit.rows} rows, accuracy {early_exit.accuracy:.4g} for {early_exit.accuracy_of_ensemble:.4g}",
        )
    for member in manifest.members:
        sizes = member.architecture
        table.add_row(
            f"reads {member.direction}",
            f"markers {member.special_tokens}, vocabulary {sizes.vocabulary_size}, "
            f"AWD-LSTM {sizes.width_embedding}/{sizes.width_hidden}/{sizes.layers}",
        )
    if training.imported is not None:
        table.add_row("imported", f"bothways {training.bothways_version}, from {training.imported.library}")
        for direction, file in training.imported.files.items():
            table.add_row(f"{direction}, from", f"{file.name}, direction {file.direction_known_by}")
    else:
        size = training.size or "of its pack"
        table.add_row("trained", f"bothways {training.bothways_version}, size {size}, seed {training.seed}")
        table.add_row("rows", ", ".join(f"{count} {name}" for name, count in training.rows.items()))
    if training.text_column:
        label = f", labels {training.label_column!r}" if training.label_column else ""
        separator = f" separated by {training.label_separator!r}" if training.label_separator else ""
        table.add_row("columns", f"texts {training.text_column!r}{label}{separator}")
    if training.pretrained:
        table.add_row("started from", f"pack {training.pretrained}")
    for name, metrics in training.validation.items():
        table.add_row(f"validation, {name}", ", ".join(f"{key} {value:.4g}" for key, value in metrics.items()))
    for name, record in manifest.files.items():
        table.add_row(name, f"{record.size_bytes:,} bytes")
    output_console().print(table)
