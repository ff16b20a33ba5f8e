"""Measure training steps with both encoders on random tokens, in float32 and bfloat16.

Run: python benchmarks/training_steps.py [--size small] [--threads 1] [--steps "encoder 128 x 64" ...]
It takes about ten minutes on one core and on all cores, and prints a table. The times are the least of some steps, and
CPU time on one core, so that other work on the machine matters little. A step of an encoder is forward and backward
alone, without loss and optimizer. The last line is JSON with the milliseconds per step.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from bothways.bundle.manifest import Architecture
from bothways.nn.encoder import Dropouts, EncoderNetwork
from bothways.nn.language_model import activation_penalty
from bothways.text.reading import Direction
from bothways.training.directions import KEEP_MEMORY
from bothways.training.hyperparameters import ENCODERS, FROM_PACK, load_hyperparameters
from bothways.training.models import build_classifier, build_language_model
from bothways.training.optimizer import StageOptimizer

VOCABULARY = 10_000
CLASSES = 6
KINDS = (
    "encoder 128 x 64",
    "encoder 64 x 64",
    "language model 128 x 64",
    "language model 32 x 48",
    "classifier 64 x 20",
    "classifier 32 x 20",
)
STEPS = 8


def main() -> None:
    """Measure each combination in its own process, with the environment of a training's worker processes."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--size", default="small")
    options.add_argument("--threads", type=int, nargs="+", default=sorted({1, len(os.sched_getaffinity(0))}))
    options.add_argument("--steps", nargs="+", default=KINDS, choices=KINDS)
    found = options.parse_args()
    results: dict[str, float] = {}
    print(f"| texts x tokens | type | threads | {' | '.join(f'{name}, ms' for name in ENCODERS)} | ratio |")
    print(f"|---|---|--:|{'--:|' * len(ENCODERS)}--:|")
    for kind in found.steps:
        for name in ("float32", "bfloat16"):
            for threads in found.threads:
                each = [_measured(kind, name, threads, encoder, found.size) for encoder in ENCODERS]
                results |= dict(zip((f"{kind}, {name}, {threads}, {e}" for e in ENCODERS), each, strict=True))
                cells = " | ".join(f"{milliseconds:.0f}" for milliseconds in each)
                print(f"| {kind} | {name} | {threads} | {cells} | {each[0] / each[1]:.1f} |", flush=True)
    print(json.dumps(results))


def _measured(kind: str, name: str, threads: int, encoder: str, size: str) -> float:
    environment = {**os.environ, **KEEP_MEMORY, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, MEASURE, kind, name, str(threads), encoder, size]
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


MEASURE = "measure"


def milliseconds_per_step(kind: str, compute_type: torch.dtype, threads: int, encoder: str, size: str) -> float:
    """Return the least time of a step, including dropout, regularization, gradients and optimizer."""
    torch.set_num_threads(threads)
    make = {"encoder": _encoder_step, "language model": _language_model_step, "classifier": _classifier_step}
    sizes = load_hyperparameters(size).encoder
    widths = {"width_embedding": sizes.embedding_size, "width_hidden": sizes.hidden_size, "layers": sizes.layers}
    architecture = Architecture.model_validate({"vocabulary_size": VOCABULARY, **widths, "kind": encoder})
    step = make[kind.rsplit(" ", 3)[0]](*_shape(kind), compute_type, architecture)
    clock = time.process_time if threads == 1 else time.perf_counter
    seconds = []
    for _ in range(2 + STEPS):
        started = clock()
        step()
        seconds.append(clock() - started)
    return min(seconds[2:]) * 1000


def _encoder_step(
    texts: int, tokens: int, compute_type: torch.dtype, architecture: Architecture
) -> Callable[[], object]:
    encoder = EncoderNetwork(architecture, Direction.FORWARD, Dropouts().scaled(0.3)).train()
    encoder.compute_type = compute_type
    state, ids = encoder.zero_state(texts), torch.randint(architecture.vocabulary_size, (texts, tokens))

    def step() -> object:
        encoder.zero_grad(set_to_none=True)
        _, dropped, _ = encoder(ids, state)
        return dropped.float().mean().backward()

    return step


def _language_model_step(
    texts: int, tokens: int, compute_type: torch.dtype, architecture: Architecture
) -> Callable[[], object]:
    config = load_hyperparameters(FROM_PACK).pretraining
    model = build_language_model(architecture, Direction.FORWARD, 0)
    model.encoder.compute_type = compute_type
    model.encoder.dropouts = config.dropouts.scaled(config.dropout_multiplier)
    optimizer = _optimizer([*model.encoder.layers, nn.ModuleList([model.encoder.embedding, model.decoder])])
    state = model.encoder.zero_state(texts)

    def step() -> object:
        ids = torch.randint(architecture.vocabulary_size, (texts, tokens + 1))
        loss, raw, dropped, _ = model(ids[:, :-1], ids[:, 1:], state)
        return optimizer.step(
            loss
            + activation_penalty(
                raw, dropped, config.activation_regularization, config.temporal_activation_regularization
            )
        )

    return step


def _classifier_step(
    texts: int, tokens: int, compute_type: torch.dtype, architecture: Architecture
) -> Callable[[], object]:
    config = load_hyperparameters(FROM_PACK).classifier
    language_model = build_language_model(architecture, Direction.FORWARD, 0)
    model = build_classifier(language_model, Direction.FORWARD, CLASSES, config, 0).train()
    model.encoder.compute_type = compute_type
    model.encoder.dropouts = config.dropouts.scaled(config.dropout_multiplier)
    optimizer = _optimizer([model.encoder.embedding, *model.encoder.layers, model.head])
    lengths = torch.full((texts,), tokens)

    def step() -> object:
        ids = torch.randint(architecture.vocabulary_size, (texts, tokens))
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
    if sys.argv[1:2] == [MEASURE]:
        print(milliseconds_per_step(sys.argv[2], getattr(torch, sys.argv[3]), int(sys.argv[4]), *sys.argv[5:]))
    else:
        main()
