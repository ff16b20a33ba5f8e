"""Begin a run with checked settings: what training, pretraining and distillation share.

In: the options of a call. Out: the settings of a run and its start. Torch is imported only when training begins.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bothways.arguments import Check, as_flag, as_integer, as_names, as_path, as_text, optional
from bothways.bundle.manifest import EncoderKind
from bothways.data.dialect import DIALECT_CHECKS
from bothways.errors import ConfigError, DependencyMissing, quoted
from bothways.files import refuse_unusable
from bothways.text.fields import Text
from bothways.text.reading import Direction
from bothways.training.choices import Size
from bothways.training.reports import Report, StageReport
from bothways.training.start import DEFAULT_SIZE, Pretrained, Start, chosen_start, read_start

if TYPE_CHECKING:
    from bothways.training.follow import Following
    from bothways.training.pipeline import RunSettings

COMMON_CHECKS: dict[str, Check] = {
    "out": as_path,
    "text": optional(as_names),
    "size": optional(as_text),
    "encoder": optional(as_text),
    "directions": as_text,
    "seed": as_integer,
    "device": as_text,
    "progress": as_flag,
    "plot": optional(as_path),
    **DIALECT_CHECKS,
}
"""Checks of the arguments that all functions share."""


def run_settings(
    out: str | os.PathLike[str],
    directions: str,
    seed: int,
    pretrained: Pretrained,
    size: Size | None,
    encoder: EncoderKind | None,
    config: str | os.PathLike[str] | Mapping[str, object] | None,
    device: str,
    *,
    may_replace_layers: bool = False,
) -> tuple[RunSettings, Start]:
    """Return what the settings of all runs share, and the start; all options are checked.

    Raises:
        ConfigError: An option is invalid, options contradict each other, or ``out`` exists.
        BundleError: The pack cannot be read.
        DependencyMissing: The libraries for training are not installed.
    """
    require_torch()
    from bothways.training.hyperparameters import FROM_PACK, load_hyperparameters  # noqa: PLC0415  (needs torch)
    from bothways.training.models import choose_device  # noqa: PLC0415  (needs torch)
    from bothways.training.pipeline import RunSettings  # noqa: PLC0415  (needs torch)

    if directions not in ("both", "forward", "backward"):
        raise ConfigError(f"unknown directions {quoted(directions)}; use both, forward or backward")
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed is {seed}, expected 0 to 4294967295")
    refuse_unusable(Path(out))
    hyperparameters = load_hyperparameters(size or FROM_PACK, config, encoder)
    requested = hyperparameters.requested_encoder
    start = read_start(pretrained, size, requested, may_replace_layers=may_replace_layers)
    if start.size is not None:
        hyperparameters = load_hyperparameters(start.size, config, encoder)
    if start.pack is not None:
        hyperparameters = hyperparameters.with_encoder(start.pack.manifest.members[0].architecture.kind)
    settings = RunSettings(
        out=Path(out),
        directions=tuple(Direction) if directions == "both" else (Direction(directions),),
        seed=seed,
        size=start.size,
        hyperparameters=hyperparameters,
        device=choose_device(device),
        pack=start.pack,
    )
    return settings, start


def started(
    base: RunSettings,
    first: Start,
    pretrained: Pretrained,
    config: str | os.PathLike[str] | Mapping[str, object] | None,
    texts: Sequence[Text],
) -> tuple[RunSettings, StageReport]:
    """Return the settings with the start that suits the texts, and a report that says why."""
    from bothways.training.hyperparameters import load_hyperparameters  # noqa: PLC0415  (needs torch)

    start, report = chosen_start(first, pretrained, texts)
    if start is first:
        return base, report
    hyperparameters = load_hyperparameters(DEFAULT_SIZE, config)
    return replace(base, pack=start.pack, size=start.size, hyperparameters=hyperparameters), report


def run(settings: RunSettings, first: Iterable[Report], rest: Iterable[Report], following: Following) -> None:
    """Go through all reports of a run, recording them and showing them to the user."""
    from bothways.training.follow import follow  # noqa: PLC0415  (needs torch)

    follow(settings.out, settings.fingerprint, itertools.chain(first, rest), following)


def require_torch() -> None:
    """Prepare the environment for torch, and import it.

    Raises:
        DependencyMissing: It is not installed.
    """
    # Read when torch is first imported: a waiting thread then sleeps soon instead of spinning. On a machine that does
    # other work too, spinning makes a training step several times slower (docs/LOG.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # cuBLAS may otherwise compute different bits in each run on a GPU (guarantee 7). The processes that train the
    # directions inherit it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        import torch  # noqa: F401, PLC0415  (an extra)
    except ImportError:
        raise DependencyMissing("training needs torch: pip install 'bothways[train]'") from None
