"""Measure how fast a bundle predicts on this machine, and how much faster the machine could multiply.

In: a bundle and texts. Out: figures. The limit is the time of the model's matrix products alone, in the shapes that it
has, by the fastest of the libraries at hand; both are measured in the same run.
"""

from __future__ import annotations

import itertools
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from onnx import TensorProto, helper

from bothways.bundle.manifest import Architecture, Kind
from bothways.bundle.parity import ENSEMBLE
from bothways.bundle.read import read_bundle
from bothways.errors import ConfigError
from bothways.evaluation.memory import peak_mib
from bothways.runtime.classifier import Prediction, load
from bothways.runtime.cores import available_cores
from bothways.runtime.graph import PRECISIONS, WINDOW_TOKENS, Precision, session_of
from bothways.runtime.slots import BATCH_SLOTS, Tally
from bothways.text.tokenizer import Tokenizer
from bothways.text.validation import check_texts

_RUNS = 5
_LONGEST_RUNS_S = 60
_SINGLE_TEXTS = 200
_SHORTEST_PRODUCT_S = 0.2
_MOST_CHANGED_LABELS = 0.003


@dataclass(frozen=True)
class Speed:
    """How fast one way is, tokenization included; medians of five runs, or of as many as a minute is enough for.

    Attributes:
        precision: In which weights are multiplied.
        uses_early_exit: Whether the bundle's cascade decides which texts both directions read.
        read_by_both: The share of texts that both did.
        load_s: Seconds until the bundle could predict.
        peak_mib: The most memory that a process holds which does nothing but load the bundle and predict the texts.
        texts_per_s: Texts a second, all directions of the bundle together.
        tokens_per_s: Tokens a second, all directions together.
        executed_share: Tokens executed for each token needed, 1 or more: the rest is padding.
        single_p50_ms: Milliseconds that half of the texts take at most, one at a time.
        single_p99_ms: Milliseconds that 99 of 100 texts take at most, one at a time.
        gflops: Billions of multiplications and additions a second in the model's matrix products.
        largest_difference: Of a probability from float32's.
        changed_labels: How many texts get another label than in float32.
    """

    precision: str
    uses_early_exit: bool
    read_by_both: float
    load_s: float
    peak_mib: float
    texts_per_s: float
    tokens_per_s: float
    executed_share: float
    single_p50_ms: float
    single_p99_ms: float
    gflops: float
    largest_difference: float
    changed_labels: int


@dataclass(frozen=True)
class Bench:
    """What was measured.

    Attributes:
        bundle: Its path.
        digest: Its identity.
        cores: Cores that this process may use.
        texts: How many texts were predicted.
        tokens: Tokens of all of them; each direction reads them once.
        limit_gflops: Billions of multiplications and additions a second of the model's matrix products alone, in
            float32 by the fastest library at hand.
        limit_by: Which that is.
        speeds: Of float32 and int8, and of both with the bundle's cascade if it has one.
    """

    bundle: str
    digest: str
    cores: int
    texts: int
    tokens: int
    limit_gflops: float
    limit_by: str
    speeds: tuple[Speed, ...]

    @property
    def advice(self) -> str:
        """Which precision to use on this machine, and why."""
        exact, quick = self.speeds[:2]
        faster, sooner = quick.texts_per_s / exact.texts_per_s, exact.single_p50_ms / quick.single_p50_ms
        what = f"{faster:.2g} times the texts a second, a single text {sooner:.2g} times as fast"
        if faster <= 1 and sooner <= 1:
            return f"stay with float32: int8 is slower here ({what})"
        if quick.changed_labels > _MOST_CHANGED_LABELS * self.texts:
            return f"stay with float32: int8 changes {quick.changed_labels} of {self.texts} labels"
        return f"int8 gives {what}; it changes {quick.changed_labels} of {self.texts} labels"


def bench(
    path: str | os.PathLike[str],
    texts: Sequence[str] | None = None,
    count: int = 1000,
    tell: Callable[[str], object] = lambda _: None,
) -> Bench:
    """Measure a bundle.

    Args:
        path: The bundle's directory.
        texts: To predict; else texts of the tokenizer's own pieces with lengths as reviews have them.
        count: How many texts at most.
        tell: Called with what is measured next.

    Raises:
        BundleError: There is no classifier at the path, or it can't be read.
        TextError: One of the texts can't be classified.
        ConfigError: There is no text, or int8 is no use on this machine at all.
        BothwaysError: There was not enough memory to measure how much is needed.
    """
    bundle = read_bundle(path, Kind.CLASSIFIER)
    chosen = list(texts)[:count] if texts is not None else composed_texts(bundle.tokenizer, count)
    if not chosen:
        raise ConfigError("there is no text to measure with")
    architectures = [member.architecture for member in bundle.manifest.members]
    speeds: list[Speed] = []
    exact: list[Prediction] = []
    ways = [False, True] if bundle.manifest.early_exit is not None else [False]
    for uses_early_exit, precision in itertools.product(ways, PRECISIONS):
        exact, speed = _speed(path, precision, uses_early_exit, chosen, exact, tell)
        speeds.append(speed)
    tell("matrix products")
    limits = {name: limit_flop_a_second(architectures, library) for name, library in LIBRARIES.items()}
    fastest = max(limits, key=lambda name: limits[name])
    return Bench(
        bundle=os.fspath(path),
        digest=bundle.digest,
        cores=available_cores(),
        texts=len(chosen),
        tokens=sum(len(text) for text in map(bundle.tokenizer.tokenize, chosen)),
        limit_gflops=limits[fastest] / 1e9,
        limit_by=fastest,
        speeds=tuple(speeds),
    )


def _speed(
    path: str | os.PathLike[str],
    precision: Precision,
    uses_early_exit: bool,
    texts: Sequence[str],
    exact: list[Prediction],
    tell: Callable[[str], object],
) -> tuple[list[Prediction], Speed]:
    """Return float32's predictions, and how fast a way is and how far from them."""
    way = f"{precision}, cascade" if uses_early_exit else precision
    tell(f"{way}, loading")
    started = time.perf_counter()
    model = load(path, precision=precision, early_exit=uses_early_exit)
    load_s = time.perf_counter() - started
    tell(f"{way}, first run")
    tally = Tally()
    found = list(model.predictions_of(map(model.tokenizer.tokenize, check_texts(texts)), tally=tally))
    exact = exact or found
    pairs = [[p.probabilities[ENSEMBLE] for p in pair] for pair in zip(found, exact, strict=True)]
    runs: list[float] = []
    while len(runs) < _RUNS and sum(runs) < _LONGEST_RUNS_S:
        tell(f"{way}, all texts, run {len(runs) + 1} of {_RUNS}")
        runs.append(_seconds(partial(model.predict_proba, texts)))
    whole_s = statistics.median(runs)
    tell(f"{way}, one text at a time")
    alone_s = sorted(_seconds(partial(model.predict_proba, [text])) for text in texts[:_SINGLE_TEXTS])
    tell(f"{way}, memory")
    memory_mib = peak_mib(path, texts, precision, early_exit=uses_early_exit)
    mean_flop = statistics.mean(flop_a_token(member.architecture) for member in model.manifest.members)
    return exact, Speed(
        precision=precision,
        uses_early_exit=uses_early_exit,
        read_by_both=sum(prediction.read == "both" for prediction in found) / len(found),
        load_s=load_s,
        peak_mib=memory_mib,
        texts_per_s=len(texts) / whole_s,
        tokens_per_s=tally.needed / whole_s,
        executed_share=tally.executed / tally.needed,
        single_p50_ms=1000 * statistics.median(alone_s),
        single_p99_ms=1000 * alone_s[int(0.99 * (len(alone_s) - 1))],
        gflops=mean_flop * tally.needed / whole_s / 1e9,
        largest_difference=max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs),
        changed_labels=sum(ours.chosen != theirs.chosen for ours, theirs in zip(found, exact, strict=True)),
    )


def composed_texts(tokenizer: Tokenizer, count: int, seed: int = 0) -> list[str]:
    """Return texts of the tokenizer's own pieces: of half of them more than 150 pieces, of few more than 800."""
    rng = random.Random(seed)  # noqa: S311  (no secret)
    ids = range(len(tokenizer))
    lengths = [min(2000, 1 + round(rng.lognormvariate(np.log(150), 0.8))) for _ in range(count)]
    return [tokenizer.decode(rng.choices(ids, k=length)) for length in lengths]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def flop_a_token(architecture: Architecture) -> int:
    """Return the multiplications and additions of one token's matrix products: four gates from input and state."""
    return sum(2 * 4 * width * (below + width) for below, width in architecture.layer_widths)


def limit_flop_a_second(architectures: Sequence[Architecture], library: Callable[..., Callable[[], object]]) -> float:
    """Return how fast a library computes the products of a full batch of full windows."""
    window = WINDOW_TOKENS * BATCH_SLOTS
    products = {
        (rows, depth, 4 * width): 0.0
        for architecture in architectures
        for below, width in architecture.layer_widths
        for rows, depth in ((window, below), (BATCH_SLOTS, width))
    }
    for shape in products:
        multiply = library(*shape)
        multiply()
        runs = [_seconds(multiply)]
        while sum(runs) < _SHORTEST_PRODUCT_S:
            runs.append(_seconds(multiply))
        products[shape] = statistics.median(runs)
    seconds_a_window = sum(
        products[window, below, 4 * width] + WINDOW_TOKENS * products[BATCH_SLOTS, width, 4 * width]
        for architecture in architectures
        for below, width in architecture.layer_widths
    )
    return window * sum(map(flop_a_token, architectures)) / seconds_a_window


def _numpy_product(rows: int, depth: int, columns: int) -> Callable[[], object]:
    left, right = (np.full(shape, 0.5, dtype=np.float32) for shape in ((rows, depth), (depth, columns)))
    out = np.empty((rows, columns), dtype=np.float32)
    return partial(np.matmul, left, right, out=out)


def _onnxruntime_product(rows: int, depth: int, columns: int) -> Callable[[], object]:
    right = np.full((depth, columns), 0.5, dtype=np.float32)
    session = session_of(
        [helper.make_node("MatMul", ["left", "right"], ["product"])],
        [helper.make_tensor_value_info("left", TensorProto.FLOAT, [rows, depth])],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, [rows, columns])],
        {"right": right},
    )
    return partial(session.run, ["product"], {"left": np.full((rows, depth), 0.5, dtype=np.float32)})


LIBRARIES: dict[str, Callable[..., Callable[[], object]]] = {
    "numpy": _numpy_product,
    "onnxruntime": _onnxruntime_product,
}
