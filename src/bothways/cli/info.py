"""``bothways info``: show what a bundle or pack contains."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from bothways.bundle.hub import local_path
from bothways.bundle.manifest import Abstention, EarlyExit, Kind, Manifest, TrainingRecord
from bothways.bundle.read import read_manifest
from bothways.bundle.signature import read_signature
from bothways.cli.options import BundlePath, output_console
from bothways.errors import path_text, quoted
from bothways.tasks.classification import thresholds_text
from bothways.tasks.labels import kind_text
from bothways.tasks.metrics import metric_text, metric_texts


def info(bundle: BundlePath) -> None:
    """Show a bundle's labels, members and training.

    Reads the manifest of the bundle or pack only, so that it is fast for models of any size.

    Example: bothways info reviews.bundle
    """
    folder = local_path(bundle)
    manifest = read_manifest(folder)
    table = Table(title=path_text(bundle), title_justify="left", show_header=False)
    title = manifest.decisions.title if manifest.kind is Kind.CLASSIFIER else "language-model pack"
    table.add_row("kind", f"{title}, format {manifest.format}")
    table.add_row("digest", manifest.digest)
    if (signature := read_signature(folder)) is not None:
        table.add_row("signed", f"with public key {signature.public_key}, not checked here: bothways verify --key")
    for name, value in (*_predictions(manifest), *_members(manifest), *_training(manifest.training)):
        table.add_row(name, value)
    for file, record in manifest.files.items():
        table.add_row(file, f"{record.size_bytes:,} bytes")
    output_console().print(table)


def _predictions(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield what the models predict."""
    yield "task", manifest.task
    if manifest.labels:
        yield "labels", f"{', '.join(manifest.labels)}{kind_text(manifest.label_kind)}"
    if manifest.targets:
        yield "targets", ", ".join(target.name for target in manifest.targets)
    if manifest.value_range is not None:
        low, high = manifest.value_range
        yield "range", f"{low:g} to {high:g}"
    if manifest.target is not None and manifest.training.imported is None:
        yield "target", f"mean {manifest.target.center:.6g}, standard deviation {manifest.target.scale:.6g} in training"
    if manifest.thresholds is not None:
        yield "thresholds", thresholds_text(tuple(manifest.thresholds))
    if manifest.calibration is not None:
        temperature = manifest.calibration.temperature
        yield "temperature", f"{temperature:.4g}" + (", not calibrated" if temperature == 1 else "")
    if manifest.early_exit is not None:
        yield "early exit", _early_exit(manifest.early_exit)
    if manifest.abstention is not None:
        yield "abstention", _abstention(manifest.abstention)


def _abstention(found: Abstention) -> str:
    sets = ""
    if found.label_sets is not None:
        mean_size = found.label_sets.mean_size
        sets = f"; label sets with {1 - found.label_sets.alpha:.1%} coverage, {mean_size:.2f} labels"
    return (
        f"at most {found.risk:.1%} wrong answers, abstains below confidence {found.threshold:.4g}: "
        f"{found.answered:.1%} of {found.rows:,} rows answered, {found.measured_risk:.2%} of them wrong{sets}"
    )


def _early_exit(found: EarlyExit) -> str:
    steps = (
        f"{found.first} first, both directions up to confidence {found.threshold:.4g}: {found.read_by_both:.1%} of "
        f"{found.rows:,} rows"
    )
    if found.linear is not None:
        alone, both = found.linear.read_by_linear, found.read_by_both
        steps = (
            f"linear model alone above confidence {found.linear.threshold:.4g}: {alone:.1%} of {found.rows:,} rows, "
            f"{found.first} alone above {found.threshold:.4g}: {max(0, 1 - alone - both):.1%}, both: {both:.1%}"
        )
    return (
        f"{steps}, accuracy {found.accuracy:.2%} ({found.accuracy_of_ensemble:.2%} with both), "
        f"macro F1 {metric_text('macro_f1', found.macro_f1)} "
        f"({metric_text('macro_f1', found.macro_f1_of_ensemble)} with both)"
    )


def _members(manifest: Manifest) -> Iterator[tuple[str, str]]:
    for member in manifest.members:
        sizes = member.architecture
        yield (
            f"{member.direction} model",
            f"{sizes.title} {sizes.width_embedding}/{sizes.width_hidden}/{sizes.layers}, "
            f"vocabulary {sizes.vocabulary_size:,}, special tokens {member.special_tokens}",
        )
    if manifest.linear is not None:
        words, characters = manifest.linear.words, manifest.linear.characters
        weight = f"weight {manifest.linear.weight:g} in the ensemble"
        yield "linear model", f"{words:,} n-grams of words and {characters:,} of characters, {weight}"


def _training(training: TrainingRecord) -> Iterator[tuple[str, str]]:
    if training.imported is not None:
        yield "imported", f"bothways {training.bothways_version}, from {training.imported.library}"
        for direction, file in training.imported.files.items():
            yield f"{direction} source", f"{file.name}, direction {file.direction_known_by}"
    else:
        size = training.size or "of the pack"
        yield "trained", f"bothways {training.bothways_version}, size {size}, seed {training.seed}"
        if training.rows:
            yield "rows", ", ".join(f"{count:,} {name}" for name, count in training.rows.items())
    if training.text_columns:
        label = f", label {quoted(training.label_column)}" if training.label_column else ""
        if training.label_columns:
            label = f", labels {', '.join(map(quoted, training.label_columns))}"
        separator = f" separated by {quoted(training.label_separator)}" if training.label_separator else ""
        weight = f", weight {quoted(training.weight_column)}" if training.weight_column else ""
        yield "columns", f"text {', '.join(map(quoted, training.text_columns))}{label}{separator}{weight}"
    if training.pretrained:
        name = f"{training.pretrained_name}, " if training.pretrained_name else ""
        yield "pretrained pack", f"{name}digest {training.pretrained}"
    for name, metrics in training.validation.items():
        texts = metric_texts(metrics).items()
        yield f"validation, {name}", ", ".join(f"{metric} {text}" for metric, text in texts)
