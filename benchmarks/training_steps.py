"""Measure training steps of en-small's size on random tokens, in float32 and bfloat16, on one core and on all cores.

Run: .venv/bin/python benchmarks/training_steps.py
It takes about two minutes and prints a table. The last line is JSON with the milliseconds per step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from bothways.bundle.manifest import Architecture
from bothways.nn.language_model import activation_penalty
from bothways.text.reading import Direction
from bothways.training.directions import KEEP_MEMORY
from bothways.training.hyperparameters import FROM_PACK, load_hyperparameters
from bothways.training.models import build_classifier, build_language_model
from bothways.training.optimizer import StageOptimizer

ARCHITECTURE = Architecture(vocabulary_size=10_000, width_embedding=256, width_hidden=512, layers=3)
CLASSES = 6
KINDS = ("language model 128 x 64", "language model 32 x 48", "classifier 64 x 20", "classifier 32 x 20")
STEPS = 8


def main() -> None:
    """Measure each combination in its own process, with the environment of a training's worker processes."""
    results: dict[str, float] = {}
    print("| texts x tokens | type | threads | ms per step | tokens/s |\n|---|---|--:|--:|--:|")
    for kind in KINDS:
        texts, tokens = _shape(kind)
        for name in ("float32", "bfloat16"):
            for threads in sorted({1, len(os.sched_getaffinity(0))}):
                environment = {**os.environ, **KEEP_MEMORY, "OMP_NUM_THREADS": str(threads)}
                command = [sys.executable, __file__, kind, name, str(threads)]
                output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
                results[f"{kind}, {name}, {threads}"] = milliseconds = float(output)
                speed = texts * tokens / milliseconds * 1000
                print(f"| {kind} | {name} | {threads} | {milliseconds:.0f} | {speed:,.0f} |", flush=True)
    print(json.dumps(results))


def milliseconds_per_step(kind: str, compute_type: torch.dtype, threads: int) -> float:
    """Return the mean time of a step, including dropout, regularization, gradients and optimizer."""
    torch.set_num_threads(threads)
    step = (_language_model_step if kind.startswith("language model") else _classifier_step)(
        *_shape(kind), compute_type
    )
    for _ in range(2):
        step()
    started = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - started) / STEPS * 1000


def _language_model_step(texts: int, tokens: int, compute_type: torch.dtype) -> Callable[[], object]:
    config = load_hyperparameters(FROM_PACK).pretraining
    model = build_language_model(ARCHITECTURE, Direction.FORWARD, 0)
    model.encoder.compute_type = compute_type
    model.encoder.dropouts = config.dropouts.scaled(config.dropout_multiplier)
    optimizer = _optimizer([*model.encoder.layers, nn.ModuleList([model.encoder.embedding, model.decoder])])
    state = model.encoder.zero_state(texts)

    def step() -> object:
        ids = torch.randint(ARCHITECTURE.vocabulary_size, (texts, tokens + 1))
        loss, raw, dropped, _ = model(ids[:, :-1], ids[:, 1:], state)
        return optimizer.step(
            loss
            + activation_penalty(
                raw, dropped, config.activation_regularization, config.temporal_activation_regularization
            )
        )

    return step


def _classifier_step(texts: int, tokens: int, compute_type: torch.dtype) -> Callable[[], object]:
    config = load_hyperparameters(FROM_PACK).classifier
    language_model = build_language_model(ARCHITECTURE, Direction.FORWARD, 0)
    model = build_classifier(language_model, Direction.FORWARD, CLASSES, config, 0).train()
    model.encoder.compute_type = compute_type
    model.encoder.dropouts = config.dropouts.scaled(config.dropout_multiplier)
    optimizer = _optimizer([model.encoder.embedding, *model.encoder.layers, model.head])
    lengths = torch.full((texts,), tokens)

    def step() -> object:
        ids = torch.randint(ARCHITECTURE.vocabulary_size, (texts, tokens))
        logits, raw, dropped = model(ids, lengths)
        loss = nn.functional.cross_entropy(logits, torch.randint(CLASSES, (texts,)))
        penalty = activation_penalty(
            raw, dropped, config.activation_regularization, config.temporal_activation_regularization, lengths
        )
        return optimizer.step(loss + penalty)

    return step


def _optimizer(groups: list[nn.Module]) -> StageOptimizer:
    return StageOptimizer(
        groups,
        unfrozen=len(groups),
        steps=1000,
        schedule="one-cycle",
        learning_rate=1e-3,
        layer_decay=1,
        weight_decay=0.01,
        max_gradient_norm=1,
    )


def _shape(kind: str) -> tuple[int, int]:
    texts, tokens = kind.rsplit(" ", 3)[1::2]
    return int(texts), int(tokens)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(milliseconds_per_step(sys.argv[1], getattr(torch, sys.argv[2]), int(sys.argv[3])))
    else:
        main()
