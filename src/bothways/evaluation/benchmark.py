"""Measure how fast a bundle predicts on this machine, and how close that is to the machine's limit.

Input: a bundle and texts. Output: a ``Benchmark`` with throughput, latency and memory per precision. The limit is the
time of the model's matrix products alone, in the shapes that the model uses, by the fastest library available. Both are
measured in the same run.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from bothways.arguments import as_function, as_integer, as_path, checked
from bothways.bundle.hub import local_path
from bothways.bundle.manifest import LINEAR, Architecture, Kind
from bothways.bundle.parity import ENSEMBLE
from bothways.bundle.read import read_bundle
from bothways.errors import BothwaysError, ConfigError
from bothways.processes import module_command, module_environment
from bothways.runtime.classifier import load
from bothways.runtime.cores import available_cores
from bothways.runtime.encoder import PRECISIONS, Precision
from bothways.runtime.graph_builder import GraphBuilder
from bothways.runtime.prediction import Prediction
from bothways.runtime.sessions import WINDOW_TOKENS, encoder_of
from bothways.runtime.slots import BATCH_SLOTS, TokenCounts
from bothways.text.fields import Text
from bothways.text.tokenizer import Tokenizer
from bothways.text.validation import check_texts

_RUNS = 5
_MAX_RUNS_S = 60
_SINGLE_TEXTS = 200
_MIN_PRODUCT_S = 0.2
_MAX_ERROR_CHARACTERS = 500
_MAX_CHANGED_LABELS = 0.003
"""Share of the labels that int8 may change and still be recommended."""


@dataclass(frozen=True)
class SpeedResult:
    """Speed and memory of one configuration. Times are medians of five runs, or of fewer if these take over a minute.

    Tokenization is included in all times.

    Attributes:
        precision: Precision of the matrix products, ``float32`` or ``int8``.
        uses_early_exit: Whether the bundle's early exit was on.
        read_by_both: Share of the texts that both directions read, 0 to 1.
        read_by_linear: Share of the texts that no direction read, because the linear member was confident, 0 to 1.
        load_s: Seconds to load the bundle.
        peak_mib: Peak memory in MiB of a process that only loads the bundle and predicts the texts.
        texts_per_s: Texts per second, all directions of the bundle included.
        tokens_per_s: Tokens per second, summed over the directions.
        padding_overhead: Tokens executed per token needed, at least 1. It is 1 if no direction reads any text.
        single_p50_ms: Median (p50) latency of a single text, in milliseconds.
        single_p99_ms: p99 latency of a single text, in milliseconds.
        gflops: GFLOP/s of the model's matrix products.
        largest_difference: Largest absolute difference of a probability (for regression: of a value) from float32
            without early exit.
        changed_labels: Number of texts with other labels than in float32 without early exit. None for regression.
    """

    precision: str
    uses_early_exit: bool
    read_by_both: float
    read_by_linear: float
    load_s: float
    peak_mib: float
    texts_per_s: float
    tokens_per_s: float
    padding_overhead: float
    single_p50_ms: float
    single_p99_ms: float
    gflops: float
    largest_difference: float
    changed_labels: int | None


@dataclass(frozen=True)
class Benchmark:
    """Result of ``bothways.benchmark``.

    Attributes:
        bundle: Path of the bundle.
        digest: Digest of the bundle.
        cores: Number of cores that this process may use.
        texts: Number of texts predicted.
        tokens: Number of tokens in all texts. Each direction reads them once.
        limit_gflops: GFLOP/s of the model's matrix products alone, in float32 by the fastest library.
        limit_library: Name of that library.
        speeds: Results of float32 and int8, then of both with early exit if the bundle has one.
    """

    bundle: str
    digest: str
    cores: int
    texts: int
    tokens: int
    limit_gflops: float
    limit_library: str
    speeds: tuple[SpeedResult, ...]

    @property
    def advice(self) -> str:
        """Which precision to use on this machine, and why."""
        float32, int8 = self.speeds[:2]
        throughput, single = int8.texts_per_s / float32.texts_per_s, float32.single_p50_ms / int8.single_p50_ms
        compared = f"int8 has {throughput:.2g}x the throughput and {single:.2g}x the single-text speed of float32"
        if throughput <= 1 and single <= 1:
            return f"stay with float32: {compared}"
        if int8.changed_labels is None:
            return compared
        if int8.changed_labels > _MAX_CHANGED_LABELS * self.texts:
            return f"stay with float32: int8 changes {int8.changed_labels} of {self.texts} labels"
        return f"{compared}, changes {int8.changed_labels} of {self.texts} labels"


@checked(path=as_path, max_texts=as_integer, on_progress=as_function)
def benchmark(
    path: str | os.PathLike[str],
    texts: Sequence[Text] | None = None,
    *,
    max_texts: int = 1000,
    on_progress: Callable[[str], object] = lambda _: None,
) -> Benchmark:
    """Measure the speed and memory of a bundle in float32 and int8, with and without its early exit.

    Every text is predicted at least seven times per configuration. Run it on the machine that will serve the bundle,
    with nothing else running.

    Args:
        path: Directory of a classifier's bundle.
        texts: Texts to predict. Defaults to synthetic texts made of the tokenizer's own pieces, with lengths like those
            of reviews.
        max_texts: Maximum number of texts to use.
        on_progress: Called with a short description before each measurement.

    Returns:
        The results of each configuration and the limit of this machine.

    Raises:
        BundleError: The bundle does not exist, cannot be read or is not a classifier.
        TextError: A text cannot be classified.
        ConfigError: There are no texts, or this machine does not support int8 at all.
        BothwaysError: The process that measures memory failed.
    """
    folder = local_path(path)
    bundle = read_bundle(folder, Kind.CLASSIFIER)
    columns = bundle.manifest.training.text_columns
    if texts is None:
        chosen = _synthetic_fields(bundle.tokenizer, max_texts, columns)
    else:
        chosen = list(check_texts(texts, columns))[:max_texts]
    if not chosen:
        raise ConfigError("no texts to measure with: expected at least 1")
    architectures = [member.architecture for member in bundle.manifest.members]
    speeds: list[SpeedResult] = []
    reference: list[Prediction] = []
    early_exits = [False, True] if bundle.manifest.early_exit is not None else [False]
    for uses_early_exit, precision in itertools.product(early_exits, PRECISIONS):
        reference, speed = _measure_speed(folder, precision, uses_early_exit, chosen, reference, on_progress)
        speeds.append(speed)
    on_progress("matrix products")
    limits = {name: matmul_flops_per_second(architectures, library) for name, library in LIBRARIES.items()}
    fastest = max(limits, key=lambda name: limits[name])
    return Benchmark(
        bundle=os.fspath(path),
        digest=bundle.digest,
        cores=available_cores(),
        texts=len(chosen),
        tokens=sum(len(text) for text in map(bundle.tokenizer.tokenize, chosen)),
        limit_gflops=limits[fastest] / 1e9,
        limit_library=fastest,
        speeds=tuple(speeds),
    )


def _measure_speed(
    path: str | os.PathLike[str],
    precision: Precision,
    uses_early_exit: bool,
    texts: Sequence[Text],
    reference: list[Prediction],
    on_progress: Callable[[str], object],
) -> tuple[list[Prediction], SpeedResult]:
    """Measure one configuration.

    Args:
        path: Directory of the bundle.
        precision: Precision of the matrix products.
        uses_early_exit: Whether to use the bundle's early exit.
        texts: Texts to predict.
        reference: Predictions to compare with. If empty, those of this configuration are the reference.
        on_progress: Called with a short description before each measurement.

    Returns:
        The reference predictions and the result.
    """
    name = f"{precision}, early exit" if uses_early_exit else precision
    on_progress(f"{name}, loading")
    started = time.perf_counter()
    model = load(path, precision=precision, early_exit=uses_early_exit)
    load_s = time.perf_counter() - started
    on_progress(f"{name}, first run")
    counts = TokenCounts()
    prepared = map(model.prepare, check_texts(texts, model.text_columns))
    predictions = list(model.predictions_of(prepared, counts=counts))
    reference = reference or predictions
    pairs = list(zip(predictions, reference, strict=True))
    run_seconds: list[float] = []
    while len(run_seconds) < _RUNS and sum(run_seconds) < _MAX_RUNS_S:
        on_progress(f"{name}, all texts, run {len(run_seconds) + 1} of {_RUNS}")
        run_seconds.append(_seconds(partial(model.scores_by_direction, texts)))
    total_s = statistics.median(run_seconds)
    on_progress(f"{name}, single texts")
    single_s = sorted(_seconds(partial(model.scores_by_direction, [text])) for text in texts[:_SINGLE_TEXTS])
    on_progress(f"{name}, memory")
    memory_mib = peak_mib(path, texts, precision, early_exit=uses_early_exit)
    mean_flops = statistics.mean(flops_per_token(member.architecture) for member in model.manifest.members)
    return reference, SpeedResult(
        precision=precision,
        uses_early_exit=uses_early_exit,
        read_by_both=sum(prediction.read == "both" for prediction in predictions) / len(predictions),
        read_by_linear=sum(prediction.read == LINEAR for prediction in predictions) / len(predictions),
        load_s=load_s,
        peak_mib=memory_mib,
        texts_per_s=len(texts) / total_s,
        tokens_per_s=counts.real / total_s,
        padding_overhead=counts.computed / counts.real if counts.real else 1.0,
        single_p50_ms=1000 * statistics.median(single_s),
        single_p99_ms=1000 * single_s[int(0.99 * (len(single_s) - 1))],
        gflops=mean_flops * counts.real / total_s / 1e9,
        largest_difference=max(
            float(np.abs(ours.scores[ENSEMBLE] - theirs.scores[ENSEMBLE]).max()) for ours, theirs in pairs
        ),
        changed_labels=sum(ours.chosen != theirs.chosen for ours, theirs in pairs) if model.labels else None,
    )


def peak_mib(path: str | os.PathLike[str], texts: Sequence[Text], precision: Precision, *, early_exit: bool) -> float:
    """Return the peak memory of a process that loads a bundle and predicts texts, in MiB, including Python itself.

    Args:
        path: Directory of the bundle.
        texts: Texts to predict, all in one call.
        precision: As in ``load``.
        early_exit: As in ``load``.

    Raises:
        BothwaysError: The process failed, for example because it ran out of memory.
    """
    finished = subprocess.run(
        module_command("bothways.evaluation.memory"),
        input=json.dumps({"path": os.fspath(path), "texts": texts, "precision": precision, "early_exit": early_exit}),
        env=module_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        reason = finished.stderr.strip()[-_MAX_ERROR_CHARACTERS:]
        raise BothwaysError(f"the process that measures memory failed with exit status {finished.returncode}: {reason}")
    return float(finished.stdout)


def synthetic_texts(tokenizer: Tokenizer, count: int, seed: int = 0) -> list[str]:
    """Return texts made of random pieces of the tokenizer: half have more than 150 pieces, a few more than 800."""
    rng = random.Random(seed)  # noqa: S311  (not for cryptography)
    ids = [i for i in range(len(tokenizer)) if i not in tokenizer.byte_ids]
    lengths = [min(2000, 1 + round(rng.lognormvariate(np.log(150), 0.8))) for _ in range(count)]
    return [tokenizer.decode(rng.choices(ids, k=length)) for length in lengths]


def _synthetic_fields(tokenizer: Tokenizer, count: int, columns: Sequence[str]) -> list[Text]:
    """Return synthetic texts for these text columns. The words of each are divided evenly among them."""
    texts = synthetic_texts(tokenizer, count)
    if len(columns) < 2:
        return [*texts]
    return [tuple(" ".join(part) for part in np.array_split(text.split(), len(columns))) for text in texts]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def flops_per_token(architecture: Architecture) -> int:
    """Return the multiplications and additions per token in the matrix products of an encoder."""
    return sum(2 * depth * columns for _, depth, columns in _products(architecture))


def _products(architecture: Architecture) -> list[tuple[int, int, int]]:
    """Return the matrix products in a full batch of full windows, as rows, depth and columns.

    The gates depend on the layer's input, of all tokens at once. In an LSTM they also depend on the state, token by
    token: such a product is computed once for each token of a window.
    """
    texts = encoder_of(architecture).batch_texts
    window, products = WINDOW_TOKENS * texts, []
    is_lstm = architecture.kind == "lstm"
    gates = 4 if is_lstm else architecture.qrnn_gates
    for tokens, (below, width) in zip(architecture.layer_windows, architecture.layer_widths, strict=True):
        products.append((window, tokens * below, gates * width))
        if is_lstm:
            products.append((texts, width, gates * width))
    return products


def matmul_flops_per_second(
    architectures: Sequence[Architecture], library: Callable[..., Callable[[], object]]
) -> float:
    """Return how many FLOP/s a library reaches in the matrix products of a full batch of full windows.

    Args:
        architectures: Architectures of the bundle's members.
        library: Takes rows, depth and columns of a product, and returns a function that computes it.
    """
    window = WINDOW_TOKENS * BATCH_SLOTS
    products = [product for architecture in architectures for product in _products(architecture)]
    product_s = dict.fromkeys(products, 0.0)
    for shape in product_s:
        multiply = library(*shape)
        multiply()
        runs = [_seconds(multiply)]
        total_s = runs[0]
        while total_s < _MIN_PRODUCT_S:  # 100,000 runs of a small product
            runs.append(_seconds(multiply))
            total_s += runs[-1]
        product_s[shape] = statistics.median(runs)
    seconds_per_window = sum(window / rows * product_s[rows, depth, columns] for rows, depth, columns in products)
    return window * sum(map(flops_per_token, architectures)) / seconds_per_window


def _numpy_product(rows: int, depth: int, columns: int) -> Callable[[], object]:
    left, right = (np.full(shape, 0.5, dtype=np.float32) for shape in ((rows, depth), (depth, columns)))
    out = np.empty((rows, columns), dtype=np.float32)
    return partial(np.matmul, left, right, out=out)


def _onnxruntime_product(rows: int, depth: int, columns: int) -> Callable[[], object]:
    right = np.full((depth, columns), 0.5, dtype=np.float32)
    graph = GraphBuilder("product")
    graph.output(graph.add("MatMul", graph.input("left", [rows, depth]), graph.constant(right)), [rows, columns])
    return partial(graph.session().run, None, {"left": np.full((rows, depth), 0.5, dtype=np.float32)})


LIBRARIES: dict[str, Callable[..., Callable[[], object]]] = {
    "numpy": _numpy_product,
    "onnxruntime": _onnxruntime_product,
}
