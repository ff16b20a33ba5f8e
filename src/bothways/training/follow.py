"""Follow a run: record it, show its progress, draw its curves and send its metrics to other tools.

In: the reports of a run and what the user wants to see. Out: ``metrics.jsonl``, lines or bars, a picture, logs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bothways.errors import path_text
from bothways.terminal import SafeConsole
from bothways.training.curves import plotted, refuse_unusable_plot
from bothways.training.progress import show
from bothways.training.reports import Report
from bothways.training.run_folder import METRICS_FILE, Fingerprint, recorded, run_folder
from bothways.training.run_logs import LogTarget, logged, parse_log_targets


@dataclass(frozen=True)
class Following:
    """What a user wants to see of a run, checked.

    Attributes:
        progress: Whether to show progress on standard error.
        plot: Picture to draw, or None.
        targets: Where to send metrics.
    """

    progress: bool
    plot: Path | None
    targets: tuple[LogTarget, ...]


def check_following(
    progress: bool, plot: str | os.PathLike[str] | None, log_to: str | Sequence[str] | None
) -> Following:
    """Return what a user wants to see of a run, before it starts.

    Raises:
        ConfigError: The picture cannot be drawn there, or a log is of an unknown kind.
        DependencyMissing: A library for it is not installed.
    """
    if plot is not None:
        refuse_unusable_plot(Path(plot))
    return Following(progress, Path(plot) if plot is not None else None, tuple(parse_log_targets(log_to or ())))


def follow(out: Path, fingerprint: Fingerprint, reports: Iterable[Report], following: Following) -> None:
    """Go through all reports of a run, which makes it run.

    Args:
        out: Output of the run.
        fingerprint: Everything that determines its result.
        reports: Its reports.
        following: What to do with them, besides recording them.
    """
    console = SafeConsole(file=sys.stderr) if following.progress else None
    reports = recorded(out, fingerprint, reports)
    if following.targets:
        reports = logged(reports, following.targets, out, fingerprint)
    if following.plot is not None:
        reports = plotted(reports, following.plot, run_folder(out) / METRICS_FILE)
    try:
        show(reports, console)
    except KeyboardInterrupt as error:
        kept = f"interrupted: train again with the same arguments to continue (kept in {path_text(run_folder(out))})"
        error.add_note(kept)
        if console is not None and console.is_jupyter:  # a notebook shows no notes
            console.print(kept, highlight=False, markup=False)
        raise
