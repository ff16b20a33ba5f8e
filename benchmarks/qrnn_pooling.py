"""Compare ways of pooling the gates of a QRNN layer in training, forward and backward, beside the layer's products.

Run: OMP_NUM_THREADS=1 python -m benchmarks.qrnn_pooling
It takes about a minute and prints a table with the least of some times, so that other work on the machine matters
little.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from bothways.nn.qrnn import pool, pool_in_parallel

TEXTS, TOKENS = 128, 64
REPEATS = 7


def main() -> None:
    """Print a table with milliseconds per width, type and method."""
    torch.set_num_threads(1)
    ways = {"operations of torch": pooled_by_autograd, "in rounds": pool_in_parallel, "token by token": pool}
    print(f"| width | type | products | {' | '.join(ways)} |\n|--:|---|--:|{'--:|' * len(ways)}")
    for width in (512, 1152):
        for dtype in (torch.float32, torch.bfloat16):
            cell = torch.zeros(TEXTS, width)
            gates = torch.randn(TEXTS, TOKENS, 3 * width, dtype=dtype).requires_grad_()
            inputs = torch.randn(TEXTS, TOKENS, width, dtype=dtype).requires_grad_()
            weight = torch.randn(3 * width, width, dtype=dtype).requires_grad_()
            times = [milliseconds(functional.linear, inputs, weight)]
            times += [milliseconds(way, gates, cell) for way in ways.values()]
            cells = " | ".join(f"{each:.0f}" for each in times)
            print(f"| {width} | {str(dtype).removeprefix('torch.')} | {cells} |", flush=True)


def pooled_by_autograd(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Pool one token after another with differentiable operations."""
    candidate, forget, output = torch.split(gates, cell.shape[1], dim=2)
    f, added = forget.sigmoid(), forget.sigmoid() * candidate.tanh()
    cell, cells = cell.to(gates.dtype), []
    for token in range(gates.shape[1]):
        cell = torch.addcmul(added[:, token], 1 - f[:, token], cell)
        cells.append(cell)
    return output.sigmoid() * torch.stack(cells, dim=1), cell


def milliseconds(act: Callable[[Tensor, Tensor], Tensor | tuple[Tensor, Tensor]], *inputs: Tensor) -> float:
    """Return the least CPU time of a forward and backward pass."""
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        found = act(*inputs)
        outputs = found[0] if isinstance(found, tuple) else found
        torch.autograd.backward(outputs, torch.ones_like(outputs))
        times.append(time.process_time() - started)
    return min(times) * 1000


if __name__ == "__main__":
    main()
