"""Keep where a training stands, so that it can be killed at any moment and goes on to the same bytes (guarantee 7).

In: tensors and facts. Out: files that are whole or not there. A checkpoint is one file: a line with the SHA-256 of the
rest, then safetensors with the facts as JSON in its metadata; nothing in it can execute. The newest two are kept: if
the newest is damaged, the one before is used.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from bothways import strict_json
from bothways.files import replace_file

CHECKPOINT_SUFFIX = ".checkpoint"
_KEPT = 2
_DIGEST_CHARACTERS = 64
_FACTS, _STAGE = "facts", "stage"

Facts = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Where one direction's training stands.

    Attributes:
        stage: What is being trained from here.
        facts: Numbers and names, as JSON holds them.
        tensors: By name, on the CPU.
    """

    stage: str
    facts: Facts = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with ``prefix.``, by the rest of their names."""
        start = len(prefix) + 1
        return {name[start:]: tensor for name, tensor in self.tensors.items() if name.startswith(f"{prefix}.")}


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by names that ``Checkpoint.part`` finds."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


class Checkpoints:
    """The checkpoints of one direction's training, in a folder of their own.

    Args:
        folder: There, or made.
        seconds: Between two checkpoints within a stage; a new stage always begins with one.
        writes: Whether this process writes them; of several that train one model, one does.
    """

    def __init__(self, folder: Path, seconds: float, *, writes: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._seconds = seconds
        self._writes = writes
        self._last = time.monotonic()

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """Return the newest checkpoint that is whole, if there is one, and what to tell about those that are not."""
        problems: list[str] = []
        for path in reversed(self._files()):
            found = _read(path)
            if found is not None:
                if problems:
                    problems.append(f"going on from the one before it, {path}")
                return found, problems
            problems.append(f"the checkpoint {path} is damaged and was removed")
            path.unlink()
        return None, problems

    def is_due(self) -> bool:
        """Say whether it is time to save again."""
        return self._writes and time.monotonic() - self._last >= self._seconds

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, all of it or nothing, and remove older ones.

        Raises:
            DataError: The disk is full or can't be written.
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


def _content(checkpoint: Checkpoint) -> bytes:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    facts = strict_json.dump({_STAGE: checkpoint.stage, **checkpoint.facts})
    return bytes(save_tensors(tensors, {_FACTS: facts}))


def _read(path: Path) -> Checkpoint | None:
    """Return the checkpoint in a file; None if it is not what was written."""
    data = path.read_bytes()
    content = data[_DIGEST_CHARACTERS + 1 :]
    if hashlib.sha256(content).hexdigest().encode() != data[:_DIGEST_CHARACTERS]:
        return None
    try:
        header = strict_json.parse(content[8 : 8 + int.from_bytes(content[:8], "little")])
        assert isinstance(header, dict)
        facts = strict_json.parse(header["__metadata__"][_FACTS].encode())
        assert isinstance(facts, dict)
        stage = facts.pop(_STAGE)
        return Checkpoint(str(stage), facts, load_tensors(content))
    except (ValueError, KeyError, TypeError, safetensors.SafetensorError):
        return None
