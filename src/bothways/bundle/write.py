"""Write a bundle to disk, completely or not at all, and only after it was verified.

In: the parts of a manifest, a tokenizer, weights and a parity record. Out: a directory that appears by one rename.
Before that, the given check verifies it. A bundle that does not reproduce the trainer's numbers is never published.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypedDict, get_args

from bothways.bundle.card import write_card
from bothways.bundle.manifest import (
    CARD_FILE,
    DOMAIN_FILE,
    FORMAT,
    MANIFEST_FILE,
    PARITY_FILE,
    TOKENIZER_FILE,
    Abstention,
    Calibration,
    Combination,
    EarlyExit,
    FileName,
    FileRecord,
    Kind,
    LinearMember,
    Manifest,
    Member,
    NamedTarget,
    Target,
    TrainingRecord,
    digest_of,
)
from bothways.bundle.parity import ParityRow, dump_parity_record, with_decisions
from bothways.bundle.weights import DomainWeights, LinearWeights, Weights, write_arrays, write_weights
from bothways.files import current_umask, refuse_existing, writing_failed
from bothways.tasks.task import Task, TaskRecord
from bothways.text.reading import Direction
from bothways.text.tokenizer import Tokenizer


class _Targets(TypedDict):
    target: Target | None
    targets: list[NamedTarget] | None
    value_range: list[float] | None


_UNFINISHED_SUFFIX = ".unfinished"
_RANDOM_PART = "[a-z0-9_]{8}"
"""The part of a name that ``tempfile.mkdtemp`` chooses."""


def write_bundle(
    path: str | os.PathLike[str],
    *,
    task: Task | None,
    members: list[Member],
    weights: Mapping[Direction, Weights],
    tokenizer: Tokenizer,
    parity_record: list[ParityRow],
    training: TrainingRecord,
    verify: Callable[[Path], None],
    early_exit: EarlyExit | None = None,
    linear: tuple[LinearMember, LinearWeights] | None = None,
    abstention: tuple[Abstention, DomainWeights] | None = None,
    half_precision: bool = False,
) -> None:
    """Publish a bundle at ``path``.

    Guarantee 1: what is published gave the trainer's numbers in a process of its own.

    Args:
        path: The directory to create. Must not exist yet.
        task: What the models predict, fitted and calibrated; None for language models.
        members: One per direction, all with the same vocabulary.
        weights: Arrays by tensor name, for each member's direction.
        tokenizer: The members' common tokenizer.
        parity_record: The numbers of the models in memory. The decisions that follow from them are added.
        training: What the models were trained on and how.
        verify: Called with the complete directory before it is published, usually ``verify_in_fresh_process``. The
            bundle is published only if it returns.
        early_exit: When one member of a classifier is enough, if that was calibrated.
        linear: The linear member of a classifier and its arrays, if it has one.
        abstention: When a classifier abstains, if that was calibrated, and the density of its pooled states.
        half_precision: Store weights in 2 bytes each instead of 4. The parity record must then be made with weights
            that were rounded before (``rounded_to_half``).

    Raises:
        OutputExists: Something is at ``path``.
        DataError: The disk is full or cannot be written; nothing is left behind.
        ParityFailed: The bundle did not reproduce the trainer's numbers.
        TrainingError: A weight is too large for half precision.
    """
    contents: dict[FileName, bytes] = {
        TOKENIZER_FILE: tokenizer.to_bytes(),
        PARITY_FILE: dump_parity_record(
            parity_record
            if task is None
            else with_decisions(parity_record, task, early_exit, linear[0] if linear else None)
        ),
        **{
            member.weights: write_weights(weights[member.direction], half_precision=half_precision)
            for member in members
        },
    }
    if linear is not None:
        contents[linear[0].weights] = write_arrays(linear[1])
    if abstention is not None:
        contents[DOMAIN_FILE] = write_arrays(abstention[1])
    contents[CARD_FILE] = write_card(task, members, training, linear[0] if linear else None).encode()
    files = {
        name: FileRecord(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        for name, data in sorted(contents.items())
    }
    manifest = _manifest(
        task,
        members,
        training,
        early_exit,
        linear[0] if linear else None,
        abstention[0] if abstention else None,
        files,
    )
    with _published_directory(Path(path)) as folder:
        for name, data in contents.items():
            _write_durably(folder / name, data)
        _write_durably(folder / MANIFEST_FILE, f"{manifest.model_dump_json(indent=1)}\n".encode())
        verify(folder)


def write_copy(path: str | os.PathLike[str], files: Mapping[str, bytes]) -> None:
    """Write the files of a bundle that exists elsewhere, completely or not at all.

    Args:
        path: The directory to create. Must not exist yet.
        files: The content of each file, with the manifest, by its name.

    Raises:
        OutputExists: Something is at ``path``.
        ConfigError: The folder of ``path`` does not exist.
        DataError: The disk is full or cannot be written; nothing is left behind.
    """
    with _published_directory(Path(path)) as folder:
        for name, data in files.items():
            _write_durably(folder / name, data)


def _manifest(
    task: Task | None,
    members: list[Member],
    training: TrainingRecord,
    early_exit: EarlyExit | None,
    linear: LinearMember | None,
    abstention: Abstention | None,
    files: dict[FileName, FileRecord],
) -> Manifest:
    """Return the manifest, with its digest."""
    record = task.record() if task is not None else None
    manifest = Manifest(
        format=FORMAT,
        digest="0" * 64,
        kind=Kind.LANGUAGE_MODEL if record is None else Kind.CLASSIFIER,
        task="next-token" if record is None else record.name,
        labels=list(record.labels) if record else [],
        label_kind=record.label_kind if record else "text",
        members=members,
        combination=Combination(method="mean", weights=[1 / len(members)] * len(members)) if record else None,
        linear=linear,
        calibration=Calibration(temperature=record.temperature) if record and record.temperature is not None else None,
        thresholds=list(record.thresholds) if record and record.thresholds is not None else None,
        **_targets(record),
        early_exit=early_exit,
        abstention=abstention,
        training=training,
        files=files,
    )
    return manifest.model_copy(update={"digest": digest_of(json.loads(manifest.model_dump_json()))})


def _targets(record: TaskRecord | None) -> _Targets:
    """Return the fields of a manifest about the targets of a regression."""
    found: _Targets = {"target": None, "targets": None, "value_range": None}
    if record is None:
        return found
    match record.targets:
        case [target]:
            found["target"] = Target(center=target.center, scale=target.scale)
        case [_, *_]:
            found["targets"] = [NamedTarget(name=t.name, center=t.center, scale=t.scale) for t in record.targets]
    found["value_range"] = None if record.value_range is None else list(record.value_range)
    return found


@contextlib.contextmanager
def _published_directory(target: Path) -> Iterator[Path]:
    """Return a temporary directory beside ``target`` that becomes it when the block ends well."""
    refuse_existing(target)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_UNFINISHED_SUFFIX, dir=target.parent))
    except OSError as error:
        raise writing_failed(target, error) from None
    try:
        with _locked(temporary):  # so that no other process takes it for an unfinished one
            yield temporary
        temporary.chmod(0o777 & ~current_umask())
        _flush_directory(temporary)
        refuse_existing(target)
        temporary.rename(target)
        _flush_directory(target.parent)
    except OSError as error:
        raise writing_failed(target, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_unfinished(target: Path) -> None:
    """Remove the unfinished bundles that killed processes left beside ``target``, and nothing else.

    Removes only directories whose name ``write_bundle`` chose for this target, that belong to this user and that no
    process is writing; and in them only the files of a bundle.
    """
    name = re.compile(rf"\.{re.escape(target.name)}\.{_RANDOM_PART}{re.escape(_UNFINISHED_SUFFIX)}")
    for path in sorted(target.parent.iterdir()):
        if not name.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
            continue
        with contextlib.suppress(OSError):  # locked, owned by another user, or not empty: keep it
            if path.stat().st_uid != os.geteuid():
                continue
            with _locked(path):
                for file in (MANIFEST_FILE, *get_args(FileName)):
                    (path / file).unlink(missing_ok=True)
                path.rmdir()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a directory. It is released when this process ends at the latest.

    Raises:
        OSError: Another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
