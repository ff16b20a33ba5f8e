"""Store the plan of a run and its tokens in the run's folder, from which each direction is trained.

In: model sizes, hyperparameters and token ids. Out: files in the run's folder. The process that reads texts passes
nothing else to the processes that train.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from bothways.bundle.manifest import Member
from bothways.data.token_store import Numbers, TokenFiles
from bothways.files import replace_file
from bothways.tasks.registry import task_of
from bothways.tasks.task import Targets, Task, TaskRecord
from bothways.text.reading import Direction
from bothways.text.tokenizer import Tokenizer
from bothways.text.tokenizer_document import parse_tokenizer
from bothways.training.checkpoints import CHECKPOINT_SUFFIX
from bothways.training.choices import Size
from bothways.training.hyperparameters import Hyperparameters
from bothways.training.objective import Objective, objective_of

DIRECTION_LOCK = "lock"
"""A file in the folder of a direction's checkpoints, locked by the process that trains it."""
_PLAN_FILE = "plan.json"
_TOKENIZER_FILE = "tokenizer.json"


class SplitName(StrEnum):
    """The part of the data that a text belongs to."""

    TRAINING = "training"
    VALIDATION = "validation"
    UNLABELED = "unlabeled"


class Plan(BaseModel):
    """What a run trains.

    Attributes:
        fingerprint: Everything that determines the result; a run only continues with the same one.
        fields: The number of text columns.
        members: The models, in the bundle's order.
        task_record: The classifiers' task, fitted to the training rows; None for language models only.
        class_weights: Weight of each label in the loss, or None.
        seed: Random seed.
        hyperparameters: All hyperparameters.
        size: Name of their preset; None where a pack fixes the model size.
        is_provisional: Whether epochs and size remain to be chosen by a time budget.
        device: Device to train on.
        precision: Precision of matrix products in training.
        threads: Compute threads per direction.
        at_once: Whether all directions are trained at the same time, each in a process of its own.
        seconds_between_checkpoints: Interval of checkpoints within a stage.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fingerprint: dict[str, Any]
    fields: int
    members: list[Member]
    task_record: TaskRecord | None
    class_weights: list[float] | None
    seed: int
    hyperparameters: Hyperparameters
    size: Size | None = None
    is_provisional: bool = False
    device: str
    precision: Literal["float32", "bfloat16"]
    threads: int
    at_once: bool
    seconds_between_checkpoints: float

    def member(self, direction: Direction) -> Member:
        """Return the member that reads in this direction."""
        return next(member for member in self.members if member.direction is direction)

    @property
    def compute_type(self) -> torch.dtype:
        """The type of matrix products in training."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    @property
    def is_pretraining(self) -> bool:
        """Whether only language models are trained."""
        return self.task_record is None

    @property
    def task(self) -> Task:
        """The classifiers' task, fitted to the training rows."""
        assert self.task_record is not None
        return task_of(self.task_record)

    @property
    def objective(self) -> Objective:
        """What the classifiers are trained to minimize."""
        return objective_of(self.task, self.class_weights, self.hyperparameters.classifier.label_smoothing)


class PlanFolder:
    """The files of a plan and its texts. They are complete once the plan exists."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.tokens = TokenFiles(folder)

    def checkpoints(self, direction: Direction) -> Path:
        """Return the folder of a direction's checkpoints."""
        return self._folder / str(direction)

    @property
    def is_complete(self) -> bool:
        """Whether all files that the training of each direction needs exist."""
        return (self._folder / _PLAN_FILE).exists()

    def read_plan(self) -> Plan:
        """Return the plan."""
        return Plan.model_validate_json((self._folder / _PLAN_FILE).read_bytes())

    def complete(self, plan: Plan) -> None:
        """Write the plan, which must be the last file."""
        replace_file(self._folder / _PLAN_FILE, plan.model_dump_json().encode())

    def remove(self) -> None:
        """Remove everything that a plan and its training made, and nothing else; the plan first."""
        for pattern in (_PLAN_FILE, _TOKENIZER_FILE, "*.npy", "*.ids", "*.tmp"):
            for path in self._folder.glob(pattern):
                path.unlink(missing_ok=True)
        for direction in Direction:
            folder = self.checkpoints(direction)
            if folder.is_symlink() or not folder.is_dir():
                continue
            for pattern in (f"*{CHECKPOINT_SUFFIX}", "*.tmp", DIRECTION_LOCK):
                for path in folder.glob(pattern):
                    path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # something of a user's is in it
                folder.rmdir()

    def write_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Store the models' common tokenizer."""
        replace_file(self._folder / _TOKENIZER_FILE, tokenizer.to_bytes())

    def read_tokenizer(self) -> Tokenizer:
        """Return the models' common tokenizer."""
        return parse_tokenizer((self._folder / _TOKENIZER_FILE).read_bytes(), str(self._folder / _TOKENIZER_FILE))

    def write_split(
        self,
        split_name: SplitName,
        numbers: Numbers,
        targets: Targets | None = None,
        weights: Sequence[float] | None = None,
        has_soft_label: NDArray[np.bool_] | None = None,
    ) -> None:
        """Store which texts belong to a split, and their targets and weights if they have any.

        Args:
            split_name: The split.
            numbers: Numbers of its texts.
            targets: Of each text.
            weights: Of each text.
            has_soft_label: Whether the targets of each text are those of a teacher, (N,); None if none are.
        """
        replace_file(self._folder / f"{split_name}.npy", _npy(numbers))
        if weights is not None:
            replace_file(self._folder / f"{split_name}-weights.npy", _npy(np.array(weights, dtype=np.float64)))
        if has_soft_label is not None:
            replace_file(self._folder / f"{split_name}-soft.npy", _npy(has_soft_label))
        if targets is not None:
            replace_file(self._folder / f"{split_name}-targets.npy", _npy(targets))

    def numbers(self, split_name: SplitName) -> Numbers:
        """Return the numbers of the texts of a split."""
        found: Numbers = np.load(self._folder / f"{split_name}.npy", allow_pickle=False)
        return found

    def weights(self, split_name: SplitName) -> NDArray[np.float64] | None:
        """Return the weight of each text of a split, (N,), or None for equal weights."""
        path = self._folder / f"{split_name}-weights.npy"
        return np.load(path, allow_pickle=False) if path.exists() else None

    def has_soft_label(self, split_name: SplitName) -> NDArray[np.bool_] | None:
        """Return whether the targets of each text of a split are those of a teacher, (N,), or None if none are."""
        path = self._folder / f"{split_name}-soft.npy"
        return np.load(path, allow_pickle=False) if path.exists() else None

    @property
    def splits(self) -> list[SplitName]:
        """The splits that exist."""
        return [split_name for split_name in SplitName if (self._folder / f"{split_name}.npy").exists()]

    def targets(self, split_name: SplitName) -> Targets:
        """Return the targets of a split."""
        found: Targets = np.load(self._folder / f"{split_name}-targets.npy", allow_pickle=False)
        return found


def _npy(array: Targets) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
