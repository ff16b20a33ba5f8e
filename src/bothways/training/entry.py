"""``bothways.train`` and ``bothways.pretrain``: everything from a file of texts to a bundle, in one call.

In: paths or tables, and options. Out: a classifier, loaded from the bundle that was published. Torch is imported only
when training begins, so that the runtime tier can import this module.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from bothways.bundle.manifest import Kind
from bothways.bundle.read import Bundle, read_bundle
from bothways.data.corpus import read_corpus, split_corpus
from bothways.data.files import refuse_existing
from bothways.data.labelled import (
    TableSource,
    check_labels,
    read_labelled,
    read_unlabelled,
    split_by_label,
    split_with_file,
)
from bothways.errors import ConfigError, DataError, DependencyMissing
from bothways.runtime.classifier import Classifier, load
from bothways.text.reading import Direction
from bothways.training.reports import StageReport

if TYPE_CHECKING:
    from bothways.training.run import RunSettings

Directions = Literal["both", "forward", "backward"]
_PACK_VALIDATION_SHARE = 0.02


def train(
    data: TableSource,
    *,
    text: str,
    label: str,
    out: str | os.PathLike[str],
    valid: TableSource | None = None,
    unlabelled: TableSource | None = None,
    pretrained: str | os.PathLike[str] | None = None,
    size: str = "small",
    directions: str = "both",
    seed: int = 0,
    config: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Classifier:
    """Train a text classifier, publish it as a bundle, and give it ready to predict.

    Law 1: the bundle gives the trainer's numbers, shown in a fresh process before it is published. Same data, seed and
    machine: same bytes.

    Args:
        data: Labelled rows: a CSV, TSV, JSONL or Parquet file, or a table in memory (a dict of lists, a DataFrame).
        text: The column of the texts.
        label: The column of the labels.
        out: Where the bundle appears; nothing may be there.
        valid: Rows to validate on; without them a tenth of ``data`` is set aside, the same for the same seed.
        unlabelled: More texts, for the language models only.
        pretrained: A language-model pack to start from; it decides tokenizer and sizes.
        size: tiny, small or base.
        directions: both, forward or backward.
        seed: Decides every random choice.
        config: A TOML file that changes numbers of the recipe.
        device: cpu or cuda.
        progress: Whether to show bars and epochs on standard error.

    Raises:
        ConfigError: An option can't be meant, or ``out`` exists.
        DataError: The rows can't be used; file, row and column are named.
        DirectionError: The pack has no model for a direction that is asked for.
        BundleError: The pack can't be read.
        DependencyMissing: The training tier is not installed.
        TrainingError: Training diverged, or the bundle did not prove itself; nothing was published.
    """
    settings = _settings(out, directions, seed, size, config, device, pretrained, text=text, label=label)
    labelled = read_labelled(data, text, label)
    warnings = check_labels(labelled)
    if valid is None:
        split = split_by_label(labelled, settings.recipe.classifier.validation_share, seed)
    else:
        split = split_with_file(labelled, read_labelled(valid, text, label))
    more_texts = read_unlabelled(unlabelled, text) if unlabelled is not None else []

    from bothways.training.run import train_bundle  # noqa: PLC0415  (needs torch)

    warnings += split.warnings
    _go(
        settings,
        [StageReport("data", w, is_warning=True) for w in warnings],
        train_bundle(split, more_texts, settings),
        progress,
    )
    return load(settings.out)


def pretrain(
    corpus: Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str],
    text: str = "text",
    size: str = "small",
    directions: str = "both",
    seed: int = 0,
    config: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> None:
    """Train language models on a corpus and publish them as one pack.

    Args:
        corpus: Plain text (paragraphs between blank lines), JSONL, Parquet, CSV or TSV files, also compressed.
        out: Where the pack appears; nothing may be there.
        text: The column or key of the texts, for all but plain text.
        size: tiny, small or base.
        directions: both, forward or backward.
        seed: Decides every random choice.
        config: A TOML file that changes numbers of the recipe.
        device: cpu or cuda.
        progress: Whether to show bars and epochs on standard error.

    Raises:
        ConfigError: An option can't be meant, or ``out`` exists.
        DataError: The corpus can't be used.
        DependencyMissing: The training tier is not installed.
        TrainingError: Training diverged, or the pack did not prove itself; nothing was published.
    """
    settings = _settings(out, directions, seed, size, config, device, None, text=text, label=None)
    texts = read_corpus([os.fspath(path) for path in corpus], text)
    if len(texts) < 2:
        raise DataError(f"the corpus holds {len(texts)} texts, expected at least 2 (one to train on, one to validate)")
    training, validation = split_corpus(texts, _PACK_VALIDATION_SHARE, seed)

    from bothways.training.run import pretrain_pack  # noqa: PLC0415  (needs torch)

    _go(settings, [], pretrain_pack(training, validation, settings), progress)


def _settings(
    out: str | os.PathLike[str],
    directions: str,
    seed: int,
    size: str,
    config: str | os.PathLike[str] | None,
    device: str,
    pretrained: str | os.PathLike[str] | None,
    *,
    text: str,
    label: str | None,
) -> RunSettings:
    _require_torch()
    from bothways.training.building import choose_device  # noqa: PLC0415  (needs torch)
    from bothways.training.recipe import load_recipe  # noqa: PLC0415  (needs torch)
    from bothways.training.run import BOTH, RunSettings  # noqa: PLC0415  (needs torch)

    if directions not in ("both", "forward", "backward"):
        raise ConfigError(f"the directions {directions!r} are unknown, expected both, forward or backward")
    if not 0 <= seed < 2**32:
        raise ConfigError(f"the seed is {seed}, expected a number from 0 to 4294967295")
    target = Path(out)
    refuse_existing(target)
    if not target.parent.is_dir():
        raise ConfigError(f"the folder {target.parent} does not exist: create it first")
    pack: Bundle | None = read_bundle(pretrained, Kind.LANGUAGE_MODEL) if pretrained is not None else None
    return RunSettings(
        out=target,
        directions=BOTH if directions == "both" else (Direction(directions),),
        seed=seed,
        size=size,
        recipe=load_recipe(size, os.fspath(config) if config is not None else None),
        device=choose_device(device),
        pack=pack,
        text_column=text,
        label_column=label,
    )


def _go(settings: RunSettings, first: list[StageReport], rest: object, progress: bool) -> None:
    from bothways.training.progress import show  # noqa: PLC0415
    from bothways.training.run_folder import recorded  # noqa: PLC0415

    def reports() -> object:
        yield from first
        yield from rest  # type: ignore[misc]

    console = Console(file=sys.stderr) if progress else None
    show(recorded(settings.out, reports()), console)  # type: ignore[arg-type]


def _require_torch() -> None:
    # Read when torch is first imported: a thread that waits for others soon sleeps instead of spinning on. On a machine
    # that does other work too, spinning makes a training step several times slower (docs/LOG.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        import torch  # noqa: F401, PLC0415  (training tier)
    except ImportError:
        raise DependencyMissing("training needs torch: pip install 'bothways[train]'") from None
