"""``bothways.lr_find``: the loss by learning rate, in a few steps of each stage.

In: labeled rows and options of a training. Out: a curve per stage, and a picture of them. It is the learning-rate range
test (Smith 2017, arXiv 1506.01186) that fastai calls ``lr_find``. Torch is imported when it begins.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bothways.arguments import as_flag, as_path, as_text, checked, optional
from bothways.bundle.manifest import EncoderKind
from bothways.data.dialect import Dialect, Quotes, TableFormat
from bothways.data.labeled import labeled_source
from bothways.data.tables import TableSource
from bothways.tasks.registry import new_task
from bothways.tasks.task import TaskName
from bothways.terminal import SafeConsole
from bothways.text.fields import TextColumns
from bothways.text.reading import Direction
from bothways.training.choices import Device, Size
from bothways.training.launch import COMMON_CHECKS, run_settings, started
from bothways.training.range_test import LearningRateCurve, smoothed, steepest
from bothways.training.reports import Report, StageReport, StepReport
from bothways.training.start import AUTO, Pretrained
from bothways.training.summary import data_reports
from bothways.training.training_data import read_training_data


@checked(
    label=optional(as_text),
    task=optional(as_text),
    label_separator=optional(as_text),
    drop_invalid=as_flag,
    pretrained=optional(as_path),
    **{name: check for name, check in COMMON_CHECKS.items() if name not in ("out", "directions")},
)
def lr_find(
    data: TableSource | Sequence[object],
    labels: Sequence[object] | None = None,
    *,
    text: TextColumns | None = None,
    label: str | None = None,
    task: TaskName | None = None,
    label_separator: str | None = None,
    drop_invalid: bool = False,
    unlabeled: TableSource | Sequence[object] | None = None,
    pretrained: Pretrained = AUTO,
    size: Size | None = None,
    encoder: EncoderKind | None = None,
    seed: int = 0,
    config: str | os.PathLike[str] | Mapping[str, object] | None = None,
    device: Device = "cpu",
    progress: bool = True,
    plot: str | os.PathLike[str] | None = None,
    format: TableFormat | None = None,  # noqa: A002  (as the option)
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    encoding: str | None = None,
    header: bool = True,
) -> tuple[LearningRateCurve, ...]:
    """Find the learning rates at which the loss of each stage falls and diverges.

    About 100 steps per stage are taken with a learning rate that rises from 1e-5 to 1, until the loss diverges. One
    direction is trained: the forward one, if the pack has it. Nothing is kept.

    Args:
        data: Labeled rows, as for ``train``.
        labels: Labels of a list of texts, or the names of columns of 0 and 1, as for ``train``.
        text: Text column, or several, as for ``train``.
        label: Label column, or the target for regression.
        task: ``single-label``, ``multi-label`` or ``regression``, as for ``train``.
        label_separator: The string between the labels of a text, for multi-label.
        drop_invalid: Leave rows without a usable text or label out.
        unlabeled: More texts, for the language model only.
        pretrained: The pack to start from, as for ``train``.
        size: ``tiny``, ``small`` or ``base``, for a model trained from scratch.
        encoder: ``lstm`` or ``qrnn``, for a model trained from scratch.
        seed: Random seed, 0..4294967295.
        config: A TOML file of hyperparameters, or a dict with its sections.
        device: ``cpu`` or ``cuda``.
        progress: Show progress on standard error.
        plot: Picture of the curves to draw: a PNG, SVG or PDF file. It needs matplotlib.
        format: Format of all files. Defaults to that of each suffix.
        delimiter: Character between the fields of a text table.
        quotes: ``none`` or ``double``, as for ``train``.
        encoding: Encoding of a text file. Defaults to UTF-8.
        header: Whether a text table begins with column names.

    Returns:
        The curves of the language model and of the classifier.

    Raises:
        ConfigError: An option is invalid.
        DataError: The rows cannot be used, or the picture cannot be written.
        DirectionError: The pack has no model for the direction.
        BundleError: The pack cannot be read.
        DependencyMissing: The libraries for training, or matplotlib, are not installed.
    """
    with tempfile.TemporaryDirectory(prefix="bothways-") as folder:
        out = Path(folder, "lr-find.bundle")
        base, first_start = run_settings(out, "both", seed, pretrained, size, encoder, config, device)
        from bothways.training.curves import draw_sweep, refuse_unusable_plot  # noqa: PLC0415  (needs torch)
        from bothways.training.one_direction import sweep_direction  # noqa: PLC0415  (needs torch)
        from bothways.training.pipeline import prepare_classifiers  # noqa: PLC0415  (needs torch)
        from bothways.training.plan import PlanFolder  # noqa: PLC0415  (needs torch)
        from bothways.training.progress import show  # noqa: PLC0415  (needs torch)

        if plot is not None:
            refuse_unusable_plot(Path(plot))
        source = labeled_source(data, labels, text, label)
        unfitted = new_task(task, label_separator, source.label_columns)
        read = read_training_data(
            source,
            None,
            unlabeled,
            None,
            unfitted,
            may_be_numbers=task is not None or label_separator is not None or bool(source.label_columns),
            fraction=base.hyperparameters.classifier.validation_fraction,
            seed=seed,
            weight=None,
            drop_invalid=drop_invalid,
            dialect=Dialect(format, delimiter, quotes, encoding, header),
        )
        settings, start = started(base, first_start, pretrained, config, [*read.split.train.texts, *read.unlabeled])
        known = settings.directions if settings.pack is None else settings.pack.manifest.directions
        direction = Direction.FORWARD if Direction.FORWARD in known else known[0]
        settings = replace(settings, directions=(direction,), text_columns=source.text, task=unfitted)
        settings.folder.mkdir()
        steps = list[StepReport]()
        reports = itertools.chain(
            data_reports(read.split, len(read.unlabeled)),
            [start],
            prepare_classifiers(PlanFolder(settings.folder), read.split, read.unlabeled, settings),
            _collected(sweep_direction(settings.folder, direction), steps),
        )
        last = show(reports, SafeConsole(file=sys.stderr) if progress else None)
    curves = _curves(steps, last)
    if plot is not None:
        draw_sweep(Path(plot), curves)
    return curves


def _collected(reports: Iterable[Report], steps: list[StepReport]) -> Iterator[Report]:
    """Yield all reports, and append those of steps to a list."""
    for report in reports:
        if isinstance(report, StepReport):
            steps.append(report)
        yield report


def _curves(steps: Iterable[StepReport], last: StageReport) -> tuple[LearningRateCurve, ...]:
    """Return the curve of each stage.

    Args:
        steps: Reports of all steps.
        last: The report with the learning rate of ``train`` by stage.
    """
    found = []
    for stage, current in last.facts.items():
        of_stage = [step for step in steps if step.stage == stage]
        rates, losses = (np.array([getattr(step, name) for step in of_stage]) for name in ("learning_rate", "loss"))
        smooth = smoothed(losses.tolist())
        fastest = steepest(rates, losses) if len(rates) > 1 else None
        assert isinstance(current, float)
        found.append(LearningRateCurve(stage, rates, losses, smooth, fastest, current))
    return tuple(found)
