"""Save the state of a training run, so that a killed run continues to the same bytes (guarantee 7).

A checkpoint is one file: a line with the SHA-256 of the rest, then a safetensors file whose metadata holds all other
fields as JSON. Nothing in it can execute. A file is written completely or not at all. The two newest checkpoints are
kept: if the newest is damaged, training continues from the one before.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import safetensors
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from bothways import strict_json
from bothways.files import replace_file
from bothways.training.reports import CLASSIFIER_STAGE, LANGUAGE_MODEL_STAGE

CHECKPOINT_SUFFIX = ".checkpoint"
_KEPT = 2
_DIGEST_CHARACTERS = 64
_FIELDS = "checkpoint"


class Checkpoint(BaseModel):
    """State of the training of one direction.

    Attributes:
        tensors: Tensors by name. They are on the CPU when the checkpoint was read from a file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    tensors: dict[str, Tensor] = Field(default_factory=dict, exclude=True, repr=False)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with ``prefix.``, by the rest of their names."""
        start = len(prefix) + 1
        return {name[start:]: tensor for name, tensor in self.tensors.items() if name.startswith(f"{prefix}.")}


class LanguageModelCheckpoint(Checkpoint):
    """State within the language-model stage.

    Attributes:
        step: Number of optimizer steps taken.
        best: Validation metrics of the best weights so far. Empty before the first step.
        best_step: Number of steps after which they were reached.
    """

    stage: Literal["language model"] = LANGUAGE_MODEL_STAGE
    step: Annotated[int, Field(ge=0)] = 0
    best: dict[str, float] = {}
    best_step: Annotated[int, Field(ge=0)] = 0


class ClassifierCheckpoint(Checkpoint):
    """State within the classifier stage.

    Attributes:
        perplexity: Validation perplexity of the direction's language model; None if none was trained.
        epoch: Index of the current epoch, from 0, over all steps of gradual unfreezing.
        batch: Number of batches of that epoch trained on.
        step: Number of optimizer steps taken in all epochs.
        optimizer_steps: Number of optimizer steps taken since the last layer group was unfrozen.
        best: Validation metrics of the best epoch so far. Empty before the end of the first epoch.
        best_epoch: Index of that epoch, or -1. Its weights are the tensors ``best``, if the best epoch is to be kept.
    """

    stage: Literal["classifier"] = CLASSIFIER_STAGE
    perplexity: float | None
    epoch: Annotated[int, Field(ge=0)] = 0
    batch: Annotated[int, Field(ge=0)] = 0
    step: Annotated[int, Field(ge=0)] = 0
    optimizer_steps: Annotated[int, Field(ge=0)] = 0
    best: dict[str, float] = {}
    best_epoch: Annotated[int, Field(ge=-1)] = -1


class FinalCheckpoint(Checkpoint):
    """Result of a direction's training.

    Attributes:
        metrics: Validation metrics of the model.
    """

    stage: Literal["done"] = "done"
    metrics: dict[str, float]


AnyCheckpoint = LanguageModelCheckpoint | ClassifierCheckpoint | FinalCheckpoint
_CHECKPOINT: TypeAdapter[AnyCheckpoint] = TypeAdapter(Annotated[AnyCheckpoint, Field(discriminator="stage")])


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors named so that ``Checkpoint.part(prefix)`` finds them."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


class Checkpoints:
    """The checkpoints of one direction's training, in a folder of their own.

    Args:
        folder: The folder. It is created if it does not exist.
        seconds: Time between two checkpoints within a stage. Each stage also begins with a checkpoint.
        writes: Whether this process writes checkpoints. If several processes train one model, one of them does.
    """

    def __init__(self, folder: Path, seconds: float, *, writes: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._seconds = seconds
        self._writes = writes
        self._last = time.monotonic()

    def newest(self) -> tuple[AnyCheckpoint | None, list[str]]:
        """Return the newest intact checkpoint and a warning about each damaged one. Damaged files are removed.

        Returns:
            The checkpoint, or None if no file is intact, and the warnings.
        """
        warnings: list[str] = []
        for path in reversed(self._files()):
            found = _read(path)
            if found is not None:
                if warnings:
                    warnings.append(f"continuing from the previous checkpoint, {path}")
                return found, warnings
            warnings.append(f"the checkpoint {path} is damaged and was removed")
            path.unlink()
        return None, warnings

    def is_due(self) -> bool:
        """Return whether it is time for the next checkpoint."""
        return self._writes and time.monotonic() - self._last >= self._seconds

    def save(self, checkpoint: AnyCheckpoint) -> None:
        """Write a checkpoint, completely or not at all, and remove old ones.

        Raises:
            DataError: The file can't be written, for example because the disk is full.
        """
        if not self._writes:
            return
        files = self._files()
        number = int(files[-1].stem) + 1 if files else 1
        path = self._folder / f"{number:08}{CHECKPOINT_SUFFIX}"
        content = _content(checkpoint)
        replace_file(path, hashlib.sha256(content).hexdigest().encode() + b"\n", content)
        for old in [*files, path][:-_KEPT]:
            old.unlink()
        self._last = time.monotonic()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{CHECKPOINT_SUFFIX}"))


def _content(checkpoint: AnyCheckpoint) -> bytes:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    return bytes(save_tensors(tensors, {_FIELDS: strict_json.dump(checkpoint.model_dump())}))


def _read(path: Path) -> AnyCheckpoint | None:
    """Return the checkpoint in a file, or None if the file is not exactly what was written."""
    data = path.read_bytes()
    content = data[_DIGEST_CHARACTERS + 1 :]
    if hashlib.sha256(content).hexdigest().encode() != data[:_DIGEST_CHARACTERS]:
        return None
    try:
        header = strict_json.parse(content[8 : 8 + int.from_bytes(content[:8], "little")])
        assert isinstance(header, dict)
        fields = strict_json.parse(header["__metadata__"][_FIELDS].encode())
        assert isinstance(fields, dict)
        return _CHECKPOINT.validate_python({**fields, "tensors": load_tensors(content)})
    except (ValueError, KeyError, TypeError, safetensors.SafetensorError):
        return None
