"""Draw the loss curves of a run from its ``metrics.jsonl``.

In: the metrics of a run, complete or not. Out: a picture with a row per stage: the training loss with the validation
loss, and the metric of the validation rows, for each direction. matplotlib is imported when it draws.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bothways import strict_json
from bothways.errors import BothwaysError, ConfigError, DependencyMissing, OutputExists, path_text
from bothways.files import refuse_unusable, replace_file
from bothways.training.reports import CLASSIFIER_STAGE, LANGUAGE_MODEL_STAGE, Report, StageReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bothways.training.range_test import LearningRateCurve

_FORMATS = (".png", ".svg", ".pdf")
_CREATOR = "drawn by bothways --plot"
"""Is in the metadata of each picture. A picture of an earlier run is replaced, other files are not."""
_COLORS = {"forward": "#0072b2", "backward": "#d55e00"}
_GRAY = "0.35"
_POINTS_SMOOTHED = 25
"""Smoothing averages over about one 25th of all points."""


@dataclass
class _Curve:
    """Training losses by step, and validation metrics by step, of one stage in one direction."""

    losses: dict[int, float] = field(default_factory=dict)
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    best: int | None = None


def refuse_unusable_plot(path: Path) -> None:
    """Raise an error if no picture can be drawn at a path, before a run starts.

    Raises:
        ConfigError: The suffix is not that of a picture, or the folder does not exist.
        OutputExists: The file exists and was not drawn by bothways.
        DependencyMissing: matplotlib is not installed.
    """
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"--plot {path_text(path)}: expected a file name that ends in {', '.join(_FORMATS)}")
    if os.path.lexists(path):
        if not _is_ours(path):
            raise OutputExists(f"{path_text(path)} exists: choose another --plot, or remove it first")
    else:
        refuse_unusable(path)
    if importlib.util.find_spec("matplotlib") is None:
        raise DependencyMissing("--plot needs matplotlib: pip install 'bothways[plot]'")


def plotted(reports: Iterable[Report], path: Path, metrics: Path) -> Iterator[Report]:
    """Yield the reports of a run, and draw its curves when it ends, also if it fails or is interrupted.

    Args:
        reports: The reports of a run.
        path: The picture to draw, checked by ``refuse_unusable_plot``.
        metrics: The run's ``metrics.jsonl``. It is read when the run ends.

    Yields:
        The reports. The last one states where the picture is, or warns that it could not be drawn.
    """
    try:
        yield from reports
    except BaseException as error:
        with contextlib.suppress(Exception):  # the picture must not hide why the run failed
            draw(path, metrics, str(error) if isinstance(error, BothwaysError) else type(error).__name__)
        raise
    try:
        draw(path, metrics)
    except Exception as error:  # noqa: BLE001  (the bundle is published: a picture must not make the run fail)
        message = f"{path_text(path)} could not be drawn: {error}"
        yield StageReport("plot", message, is_warning=True)
    else:
        yield StageReport("plot", path_text(path))


def draw(path: Path, metrics: Path, problem: str = "") -> None:
    """Draw the curves of a run.

    Args:
        path: The picture. An existing one is replaced.
        metrics: The run's ``metrics.jsonl``.
        problem: Why the run ended early, shown below its curves.

    Raises:
        DataError: The picture or its folder cannot be written.
    """
    curves = _read(metrics)
    stages = [stage for stage in (LANGUAGE_MODEL_STAGE, CLASSIFIER_STAGE) if any(stage == key[0] for key in curves)]
    title = metrics.parent.name.removesuffix(".run")
    height = 0.9 + 3.0 * max(1, len(stages))
    _save(path, height, lambda figure: _draw(figure, curves, stages, title, problem))


def draw_sweep(path: Path, curves: Sequence[LearningRateCurve]) -> None:
    """Draw the loss by learning rate of each stage.

    Args:
        path: The picture. An existing one is replaced.
        curves: The curves.

    Raises:
        DataError: The picture or its folder cannot be written.
    """
    _save(path, 3.6, lambda figure: _draw_sweep(figure, curves))


def _save(path: Path, height: float, draw_on: Callable[[Figure], None]) -> None:
    """Draw a figure of this height, in inches, and write it."""
    from io import BytesIO  # noqa: PLC0415

    import matplotlib as mpl  # noqa: PLC0415  (an extra)
    from matplotlib.figure import Figure  # noqa: PLC0415  (an extra)

    kind = path.suffix.lower()[1:]
    metadata = {"Software" if kind == "png" else "Creator": _CREATOR, **({"Date": None} if kind == "svg" else {})}
    buffer = BytesIO()
    with warnings.catch_warnings(), mpl.rc_context({"svg.hashsalt": _CREATOR, "font.size": 9}):
        warnings.simplefilter("ignore")  # a name may have characters that no font has
        figure = Figure(figsize=(10, height), layout="constrained")
        draw_on(figure)
        figure.savefig(buffer, format=kind, dpi=120, metadata=metadata)
    replace_file(path, buffer.getvalue())


def _is_ours(path: Path) -> bool:
    try:
        return path.is_file() and _CREATOR.encode() in path.read_bytes()
    except OSError:
        return False


def _read(metrics: Path) -> dict[tuple[str, str], _Curve]:
    """Return the curves by stage and direction. A resumed run repeats steps: the last value of a step counts."""
    curves: dict[tuple[str, str], _Curve] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in metrics.read_bytes().splitlines():
            try:
                values = strict_json.parse(line)
            except ValueError:  # cut short
                continue
            if not isinstance(values, dict) or values.get("report") not in ("StepReport", "EpochReport"):
                continue
            curve = curves.setdefault((str(values["stage"]), str(values["direction"])), _Curve())
            step = int(values["step"])
            if values["report"] == "StepReport":
                curve.losses[step] = float(values["loss"])
            else:
                curve.epochs[step] = values["metrics"]
                if values["is_best"]:
                    curve.best = step
    return curves


def _draw(
    figure: Figure, curves: dict[tuple[str, str], _Curve], stages: Sequence[str], title: str, problem: str
) -> None:
    figure.suptitle(title, x=0.01, ha="left", parse_math=False, fontweight="bold")
    axes = figure.subplots(max(1, len(stages)), 2, squeeze=False)
    for row, stage in zip(axes, stages or ["no step was taken yet"], strict=True):
        for direction, color in _COLORS.items():
            curve = curves.get((stage, direction))
            if curve is not None:
                _draw_losses(row[0], curve, color)
                _draw_metric(row[1], curve, direction, color)
        row[0].set_title(f"{stage}: loss")
        row[0].set_ylabel("loss")
        metric = _metric(curves, stage)
        row[1].set_title(f"{stage}: validation {metric.replace('_', ' ')}")
        row[1].set_ylabel(metric.replace("_", " "))
        for axis in row:
            axis.set_xlabel("step")
            axis.margins(y=0.12)
            axis.set_xlim(left=0)
            axis.grid(visible=True, color="0.9")
            axis.spines[["top", "right"]].set_visible(False)
            _use_logarithm_if_wide(axis)
    if curves:
        _draw_legend(figure, sorted({direction for _, direction in curves}, reverse=True))
    if problem:
        figure.supxlabel(f"stopped: {problem}"[:300], parse_math=False, wrap=True, color="#b00020", fontsize=8)


def _draw_sweep(figure: Figure, curves: Sequence[LearningRateCurve]) -> None:
    for axis, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        axis.plot(curve.learning_rates, curve.losses, color=_GRAY, alpha=0.3, linewidth=0.8, label="training")
        axis.plot(curve.learning_rates, curve.smoothed, color=_COLORS["forward"], label="smoothed")
        if curve.steepest is not None:
            axis.axvline(curve.steepest, color=_COLORS["backward"], label=f"steepest: {curve.steepest:.1g}")
        axis.axvline(curve.current, color=_GRAY, linestyle="--", label=f"of train: {curve.current:.1g}")
        axis.set_xscale("log")
        axis.set_title(curve.stage)
        axis.set_xlabel("learning rate")
        axis.set_ylabel("loss")
        if curve.smoothed.size:
            low, high = float(curve.smoothed.min()), float(curve.smoothed[: 1 + len(curve.smoothed) // 2].max())
            axis.set_ylim(low - 0.15 * (high - low), high + 0.35 * (high - low))
        axis.grid(visible=True, color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, loc="lower left")


def _draw_legend(figure: Figure, directions: list[str]) -> None:
    """Draw one legend for all curves, where it hides none of them."""
    from matplotlib.lines import Line2D  # noqa: PLC0415  (an extra)

    entries = [Line2D([], [], color=_COLORS.get(direction, _GRAY), label=direction) for direction in directions]
    entries.append(Line2D([], [], color=_GRAY, label="training, smoothed"))
    entries.append(Line2D([], [], color=_GRAY, linestyle="--", marker="o", markersize=3, label="validation"))
    entries.append(Line2D([], [], color=_GRAY, linestyle="", marker="*", markersize=9, label="best epoch"))
    figure.legend(handles=entries, loc="outside upper right", ncols=len(entries), frameon=False)


def _draw_losses(axis: Axes, curve: _Curve, color: str) -> None:
    steps = sorted(curve.losses)
    if steps:
        losses = [curve.losses[step] for step in steps]
        axis.plot(steps, losses, color=color, alpha=0.2, linewidth=0.8, zorder=1)
        axis.plot(steps, _smoothed(losses), color=color)
    if curve.epochs:
        at = sorted(curve.epochs)
        losses = [curve.epochs[step]["loss"] for step in at]
        axis.plot(at, losses, color=color, linestyle="--", marker="o", markersize=3)


def _draw_metric(axis: Axes, curve: _Curve, direction: str, color: str) -> None:
    metric = _name_of_metric(curve)
    at = [step for step in sorted(curve.epochs) if metric in curve.epochs[step]]
    if at:
        values = [curve.epochs[step][metric] for step in at]
        axis.plot(at, values, color=color, linestyle="--", marker="o", markersize=3)
    if curve.best in at:
        value = curve.epochs[curve.best][metric]
        axis.plot(curve.best, value, color=color, marker="*", markersize=11)
        below = 8 if direction == "forward" else -14  # so that two values at one place can be read
        axis.annotate(
            f"{value:.4g}", (curve.best, value), (0, below), textcoords="offset points", ha="center", color=color
        )


def _metric(curves: dict[tuple[str, str], _Curve], stage: str) -> str:
    return next((_name_of_metric(curve) for key, curve in curves.items() if key[0] == stage and curve.epochs), "loss")


def _name_of_metric(curve: _Curve) -> str:
    """Return the first metric beside the loss, such as ``accuracy`` or ``perplexity``."""
    names = next(iter(curve.epochs.values()), {})
    return next((name for name in names if name != "loss"), "loss")


def _use_logarithm_if_wide(axis: Axes) -> None:
    values = np.concatenate([np.empty(0), *(np.asarray(line.get_ydata(), dtype=np.float64) for line in axis.lines)])
    if "loss" in axis.get_ylabel() and values.size and values.min() > 0 and values.max() > 20 * values.min():
        axis.set_yscale("log")


def _smoothed(values: list[float]) -> NDArray[np.float64]:
    """Return the mean of each value and its neighbors on both sides."""
    window = np.ones(1 + 2 * (len(values) // (2 * _POINTS_SMOOTHED)))
    total = np.convolve(values, window, mode="same")
    smoothed: NDArray[np.float64] = total / np.convolve(np.ones(len(values)), window, mode="same")
    return smoothed
