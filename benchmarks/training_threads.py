"""Measure how OpenMP's spinning threads affect training speed, alone and while two other processes are busy.

Run: .venv/bin/python benchmarks/training_threads.py
It takes about three minutes and prints the table of docs/LOG.md. The last line is JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPIN_COUNTS = (None, "1000", "20000")
SIZES = ("tiny", "small")
STEPS = 10


def main() -> None:
    """Measure each combination in its own process."""
    results: dict[str, dict[str, int]] = {}
    for busy_processes in (0, 2):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy_processes)]
        try:
            for spin_count in SPIN_COUNTS:
                row = results.setdefault(spin_count or "unset", {})
                for size in SIZES:
                    row[f"{size}, {busy_processes} busy"] = measure_in_process(size, spin_count)
        finally:
            for process in busy:
                process.kill()
    for name, row in results.items():
        print(f"| {name} | {' | '.join(f'{value:,}' for value in row.values())} |")
    print(json.dumps(results))


def measure_in_process(size: str, spin_count: str | None) -> int:
    """Return the tokens/s of a new process with this value of GOMP_SPINCOUNT."""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    if spin_count is not None:
        environment["GOMP_SPINCOUNT"] = spin_count
    command = [sys.executable, __file__, size]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def tokens_per_second(size: str) -> int:
    """Return the tokens/s of a language model's training steps."""
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    from bothways.bundle.manifest import Architecture  # noqa: PLC0415
    from bothways.data.token_store import TokenStore  # noqa: PLC0415
    from bothways.nn.encoder import Dropouts, EncoderNetwork  # noqa: PLC0415
    from bothways.nn.language_model import LanguageModelNetwork  # noqa: PLC0415
    from bothways.text.reading import Direction  # noqa: PLC0415
    from bothways.training.checkpoints import Checkpoints, LanguageModelCheckpoint, with_prefix  # noqa: PLC0415
    from bothways.training.hyperparameters import load_hyperparameters  # noqa: PLC0415
    from bothways.training.language_model import StreamTexts, train_language_model  # noqa: PLC0415

    hyperparameters = load_hyperparameters(size)
    sizes = hyperparameters.encoder
    architecture = Architecture(
        vocabulary_size=hyperparameters.tokenizer.vocabulary_size,
        width_embedding=sizes.embedding_size,
        width_hidden=sizes.hidden_size,
        layers=sizes.layers,
    )
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = LanguageModelNetwork(EncoderNetwork(architecture, Direction.FORWARD, Dropouts()))
    lm = hyperparameters.language_model.model_copy(update={"epochs": 1})
    tokens = lm.batch_size * (lm.sequence_length * STEPS + 1)
    ids = np.random.default_rng(0).integers(0, hyperparameters.tokenizer.vocabulary_size, tokens).astype(np.int32)
    texts = StreamTexts(TokenStore.of([ids, ids[:200]]), np.array([0]), np.array([1]))
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), seconds=3600)
        start = LanguageModelCheckpoint(tensors=with_prefix("model", model.state_dict()))
        steps = train_language_model(model, texts, lm, 0, start, checkpoints)
        next(steps)
        next(steps)
        started = time.perf_counter()
        for _ in range(STEPS - 2):
            next(steps)
    return round((STEPS - 2) * lm.batch_size * lm.sequence_length / (time.perf_counter() - started))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(tokens_per_second(sys.argv[1]))
    else:
        main()
