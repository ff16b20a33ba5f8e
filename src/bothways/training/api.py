"""``bothways.train`` and ``bothways.pretrain``: everything from a file of texts to a bundle, in one call.

In: paths or tables, and options. Out: a classifier, loaded from the bundle that was published. Torch is imported only
when training begins, so that the runtime tier can import this module.
"""

from __future__ import annotations

import collections
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from bothways.bundle.manifest import Kind
from bothways.bundle.read import Bundle, read_bundle
from bothways.bundle.shipped import NO_PACK, pack_path
from bothways.data.corpus import Corpus
from bothways.data.labeled import TableSource, read_labeled, read_unlabeled
from bothways.errors import ConfigError, DataError, DependencyMissing
from bothways.files import refuse_unusable
from bothways.runtime.classifier import Classifier, load
from bothways.tasks.registry import new_task
from bothways.tasks.task import Split, TaskName
from bothways.text.reading import Direction
from bothways.training.reports import StageReport

if TYPE_CHECKING:
    from bothways.training.pipeline import RunSettings

Directions = Literal["both", "forward", "backward"]
DEFAULT_PACK = "en-small"
_DEFAULT_SIZE = "small"


def train(
    data: TableSource,
    *,
    text: str,
    label: str,
    task: TaskName | None = None,
    label_separator: str | None = None,
    out: str | os.PathLike[str],
    valid: TableSource | None = None,
    unlabeled: TableSource | None = None,
    pretrained: str | os.PathLike[str] | None = DEFAULT_PACK,
    size: str | None = None,
    directions: str = "both",
    seed: int = 0,
    config: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Classifier:
    """Train a text classifier, publish it as a bundle, and give it ready to predict.

    Guarantee 1: the bundle gives the trainer's numbers, shown in a fresh process before it is published. Same data,
    seed and machine: same bytes. Guarantee 7: a run that was killed goes on when the same is asked for again.

    Args:
        data: Labelled rows: a CSV, TSV, JSONL or Parquet file, or a table in memory (a dict of lists, a DataFrame).
        text: The column of the texts.
        label: The column of the labels.
        task: ``single-label`` (one label per text), ``multi-label`` (any number of labels per text) or ``regression``
            (a number per text). Defaults to multi-label if ``label_separator`` is given, and to single-label otherwise.
        label_separator: The string between the labels of a text, such as ``|``, for multi-label.
        out: Where the bundle appears; nothing may be there.
        valid: Rows to validate on; without them a tenth of ``data`` is set aside, the same for the same seed.
        unlabeled: More texts, for the language models only.
        pretrained: The language-model pack to start from, which decides tokenizer and sizes: ``en-small``, the English
            one that comes with bothways, or the path of another; None or ``none`` starts from nothing.
        size: tiny, small (the default) or base, for a model that starts from nothing.
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
    settings = _settings(out, directions, seed, size, config, device, pretrained, text=text)
    settings = replace(settings, label_column=label, task=new_task(task, label_separator))
    warnings, split = _split(data, valid, settings)
    more_texts = read_unlabeled(unlabeled, text) if unlabeled is not None else []

    from bothways.training.distributed import processes  # noqa: PLC0415  (needs torch)
    from bothways.training.pipeline import digest_of, train_bundle  # noqa: PLC0415  (needs torch)

    if processes().count > 1:
        raise ConfigError("torchrun is for pretrain: a classifier is trained in one process, run it without torchrun")
    warnings += split.warnings
    data_digests = {
        "training": digest_of([*split.train.texts, *map(str, split.train.labels)]),
        "validation": digest_of([*split.valid.texts, *map(str, split.valid.labels)]),
        "unlabeled": digest_of(more_texts),
    }
    settings = replace(settings, data=data_digests)
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
    about: str | None = None,
    continue_from: str | os.PathLike[str] | None = None,
    size: str | None = None,
    directions: str = "both",
    seed: int = 0,
    config: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> None:
    """Train language models on a corpus and publish them as one pack.

    Guarantee 7: a killed run goes on when the same is asked for again, and ends in the same bytes. In processes
    started by ``torchrun``, all of them train each model together.

    Args:
        corpus: Plain text (paragraphs between blank lines), JSONL, Parquet, CSV or TSV files, also compressed.
        out: Where the pack appears; nothing may be there.
        text: The column or key of the texts, for all but plain text.
        about: What the corpus is and under which license it stands, for the pack's card.
        continue_from: A pack to go on from, by its path or ``en-small``; it decides tokenizer and sizes.
        size: tiny, small (the default) or base, for models that start from nothing.
        directions: both, forward or backward.
        seed: Decides every random choice.
        config: A TOML file that changes numbers of the recipe.
        device: cpu or cuda.
        progress: Whether to show bars and epochs on standard error.

    Raises:
        ConfigError: An option can't be meant, ``out`` exists, or an unfinished run was asked for otherwise.
        DataError: The corpus can't be used.
        DirectionError: The pack has no model for a direction that is asked for.
        BundleError: The pack can't be read.
        DependencyMissing: The training tier is not installed.
        TrainingError: Training diverged, or the pack did not prove itself; nothing was published.
    """
    settings = _settings(out, directions, seed, size, config, device, continue_from, text=text)
    texts = Corpus([os.fspath(path) for path in corpus], text)
    if texts.texts < 2:
        raise DataError(f"the corpus holds {texts.texts} texts, expected at least 2 (one to train on, one to validate)")

    from bothways.training.distributed import processes  # noqa: PLC0415  (needs torch)
    from bothways.training.pipeline import pretrain_pack  # noqa: PLC0415  (needs torch)

    settings = replace(settings, data={"corpus": texts.digest}, about=about)
    reports = pretrain_pack(texts, settings)
    if processes().rank > 0:  # the first process writes and tells
        collections.deque(reports, maxlen=0)
        return
    _go(settings, [], reports, progress)


def _split(data: TableSource, valid: TableSource | None, settings: RunSettings) -> tuple[list[str], Split]:
    """Return training and validation rows, and warnings about their labels."""
    text, label, task = settings.text_column, settings.label_column, settings.task
    assert text is not None
    assert label is not None
    assert task is not None
    rows = read_labeled(data, text, label, task)
    warnings = task.check(rows)
    if valid is not None:
        return warnings, task.split_with(rows, read_labeled(valid, text, label, task))
    return warnings, task.split(rows, settings.hyperparameters.classifier.validation_fraction, settings.seed)


def _settings(
    out: str | os.PathLike[str],
    directions: str,
    seed: int,
    size: str | None,
    config: str | os.PathLike[str] | None,
    device: str,
    pretrained: str | os.PathLike[str] | None,
    *,
    text: str,
) -> RunSettings:
    _require_torch()
    from bothways.training.hyperparameters import FROM_PACK, load_hyperparameters  # noqa: PLC0415  (needs torch)
    from bothways.training.models import choose_device  # noqa: PLC0415  (needs torch)
    from bothways.training.pipeline import BOTH, RunSettings  # noqa: PLC0415  (needs torch)

    if directions not in ("both", "forward", "backward"):
        raise ConfigError(f"the directions {directions!r} are unknown, expected both, forward or backward")
    if not 0 <= seed < 2**32:
        raise ConfigError(f"the seed is {seed}, expected a number from 0 to 4294967295")
    target = Path(out)
    refuse_unusable(target)
    pack: Bundle | None = None
    if pretrained not in (None, NO_PACK):
        assert pretrained is not None
        if size is not None:
            raise ConfigError(
                f"the size {size} was asked for, but the pack {os.fspath(pretrained)} decides the sizes: "
                "leave --size out, or start from nothing with --pretrained none"
            )
        pack = read_bundle(pack_path(pretrained), Kind.LANGUAGE_MODEL)
    preset = FROM_PACK if pack is not None else size or _DEFAULT_SIZE
    return RunSettings(
        out=target,
        directions=BOTH if directions == "both" else (Direction(directions),),
        seed=seed,
        size=None if pack is not None else preset,
        hyperparameters=load_hyperparameters(preset, os.fspath(config) if config is not None else None),
        device=choose_device(device),
        pack=pack,
        text_column=text,
    )


def _go(settings: RunSettings, first: list[StageReport], rest: object, progress: bool) -> None:
    from bothways.training.progress import show  # noqa: PLC0415
    from bothways.training.run_folder import recorded  # noqa: PLC0415

    def reports() -> object:
        yield from first
        yield from rest  # type: ignore[misc]

    console = Console(file=sys.stderr) if progress else None
    show(recorded(settings.out, settings.fingerprint, reports()), console)  # type: ignore[arg-type]


def _require_torch() -> None:
    # Read when torch is first imported: a thread that waits for others soon sleeps instead of spinning on. On a machine
    # that does other work too, spinning makes a training step several times slower (docs/LOG.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Else cuBLAS may compute other bits at every run on a GPU (guarantee 7). Both directions' processes inherit it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        import torch  # noqa: F401, PLC0415  (training tier)
    except ImportError:
        raise DependencyMissing("training needs torch: pip install 'bothways[train]'") from None
