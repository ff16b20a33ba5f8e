"""Train one model in several processes started by ``torchrun`` (data parallelism).

Each process reads its own rows of a batch, and gradients are averaged over all processes. With a single process, all
functions return their input unchanged.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

_LONGEST_WAIT = datetime.timedelta(days=2)
"""The first process tokenizes a whole corpus while the others wait."""


@dataclass(frozen=True)
class Processes:
    """The rank of this process and the number of processes.

    Attributes:
        rank: Rank of this process, from 0. The process of rank 0 writes files and reports progress.
        count: Number of processes.
    """

    rank: int = 0
    count: int = 1

    def rows(self, rows: int) -> slice:
        """Return the range of this process's rows in a batch of ``rows`` rows."""
        return slice(self.rank * rows // self.count, (self.rank + 1) * rows // self.count)


def processes() -> Processes:
    """Return the rank and number of processes from the environment variables that ``torchrun`` sets."""
    return Processes(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Join the process group within the block, if there are several processes. Each of them uses a GPU of its own."""
    if processes().count == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_LONGEST_WAIT)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def wait_for_all() -> None:
    """Block until all processes have called this function."""
    if distributed.is_initialized():
        distributed.barrier()


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes."""
    if not distributed.is_initialized():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])  # one message is faster than many
    distributed.all_reduce(together)
    together /= distributed.get_world_size()
    start = 0
    for gradient in gradients:
        gradient.copy_(together[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


def mean_over_processes(values: list[float], device: torch.device) -> list[float]:
    """Return the mean of each value over all processes."""
    if not distributed.is_initialized():
        return values
    numbers = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(numbers)
    means: list[float] = (numbers / distributed.get_world_size()).tolist()
    return means


def gather_rows(values: Tensor) -> Tensor:
    """Return the rows of all processes, concatenated by rank. Each must have the same number of rows."""
    if not distributed.is_initialized():
        return values
    parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, values.contiguous())
    return torch.cat(parts)
