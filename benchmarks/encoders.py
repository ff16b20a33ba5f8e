"""Compare encoders at equal training time: perplexity per word on validation articles of a corpus.

Run: OMP_NUM_THREADS=1 python -m benchmarks.encoders CORPUS [--size small] [--seconds 120] [--kinds lstm qrnn ...]
CORPUS is a folder of tables with the column text. All models have the same size and read forward. Before they are
trained, the CPU time of a step of each kind is measured in turns, and a kind is trained for as many steps as fit into
the time. A kind is first trained for a quarter of the time with each learning rate, and then with the better one. SRU
(arXiv 1709.02755) and minGRU (arXiv 2410.01201) exist only here. With --little-text there is so little training text
that the models overfit, which compares regularization. With --pack, the tokenizer is that of a pack, and with
--continued also the embedding and the decoder. With --imitate, a model learns the outputs of the pack's last layer by
their squared error, instead of the next token. With --tokens, all models read as many tokens instead.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.from_scratch import finished
from torch import Tensor, nn
from torch.nn import functional

from bothways.bundle.manifest import Architecture
from bothways.bundle.manifest import Kind as PackKind
from bothways.bundle.packs import pack_path
from bothways.bundle.read import Bundle, read_bundle
from bothways.data.corpus import Corpus
from bothways.data.token_store import TokenStore
from bothways.nn.dropout import weight_dropout
from bothways.nn.encoder import EncoderNetwork
from bothways.nn.language_model import LanguageModelNetwork
from bothways.nn.lstm import LstmLayer
from bothways.nn.next_token import CandidateSampler
from bothways.nn.qrnn import QrnnLayer, pool
from bothways.nn.state import LayerState, State
from bothways.text.reading import Direction
from bothways.text.subwords import train_tokenizer
from bothways.text.tokenizer import Tokenizer
from bothways.training.checkpoints import Checkpoints, LanguageModelCheckpoint
from bothways.training.hyperparameters import EncoderConfig, LanguageModelConfig, load_hyperparameters
from bothways.training.language_model import StreamTexts, train_language_model
from bothways.training.models import build_language_model, fast_type
from bothways.training.reports import Report, StepReport

TEXTS, FEW_TEXTS, VALIDATION_TEXTS = 1500, 60, 16
ZONEOUT = 0.1
LONGEST_SCALE = 64
RATES = (0.004, 0.012)
Maker = Callable[[int], LanguageModelNetwork]
"""Makes a model with a seed."""
BATCH = {"batch_size": 32, "sequence_length": 64}


class ZoneoutLayer(QrnnLayer):
    """A QRNN layer with zoneout instead of weight dropout: in training, some cells keep their value at a token."""

    def forward(self, inputs: Tensor, state: LayerState, probability: float) -> tuple[Tensor, LayerState]:
        """Run the layer as ``QrnnLayer`` does. A forget gate that is closed by zoneout has a large negative value."""
        before = torch.cat([state["input"][:, None], inputs[:, :-1]], dim=1) if self.window > 1 else inputs[:, :0]
        values = torch.cat([before, inputs], dim=2) if self.window > 1 else inputs
        gates = functional.linear(values, self.weight.to(inputs.dtype), self.bias.to(inputs.dtype))
        if self.training:
            size = self.hidden_size
            kept = torch.empty_like(gates[..., :size]).bernoulli_(ZONEOUT)
            gates = torch.cat([gates[..., :size], gates[..., size : 2 * size] - 1e4 * kept, gates[..., 2 * size :]], 2)
        outputs, cell = pool(gates, state["cell"])
        return outputs, {"cell": cell, **({"input": inputs[:, -1].clone()} if self.window > 1 else {})}


class ManyScalesLayer(QrnnLayer):
    """A QRNN layer whose forget gates are initialized to time constants from 1 to 64 tokens (chrono initialization)."""

    def __init__(self, input_size: int, hidden_size: int, window: int = 1, output_gate: bool = True) -> None:
        super().__init__(input_size, hidden_size, window=window, output_gate=output_gate)
        with torch.no_grad():
            self.bias[hidden_size : 2 * hidden_size] = torch.empty(hidden_size).uniform_(1, LONGEST_SCALE).log()


class _OtherLayer(nn.Module):
    """A layer with ``blocks`` matrices of its inputs."""

    def __init__(self, input_size: int, hidden_size: int, blocks: int) -> None:
        super().__init__()
        bound = input_size**-0.5
        self.weight = nn.Parameter(torch.empty(blocks * hidden_size, input_size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(blocks * hidden_size))
        self.hidden_size = hidden_size

    def zero_state(self, texts: int, _: torch.dtype) -> LayerState:
        """Return the state before the first token."""
        return {"cell": self.weight.new_zeros(texts, self.hidden_size)}

    def products(self, inputs: Tensor, probability: float) -> list[Tensor]:
        """Return the products of the inputs and each matrix, (B, T, H) float32."""
        weight = weight_dropout(self.weight.to(inputs.dtype), probability, self.training)
        found = functional.linear(inputs, weight, self.bias.to(inputs.dtype)).float()
        return list(torch.split(found, self.hidden_size, dim=2))


class MinGruLayer(_OtherLayer):
    """A minGRU: gate and candidate depend on the input alone, and the output is the cell."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, 2)

    def forward(self, inputs: Tensor, state: LayerState, probability: float) -> tuple[Tensor, LayerState]:
        """Run the layer over a batch of texts of equal length."""
        candidate, gate = self.products(inputs, probability)
        outputs = _Recurrence.apply(candidate, gate.sigmoid(), state["cell"])  # type: ignore[no-untyped-call]
        return outputs.to(inputs.dtype), {"cell": outputs[:, -1]}


class SruLayer(_OtherLayer):
    """An SRU: gates see the cell through one weight per feature, and the output has a highway from the input."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, 3 if input_size == hidden_size else 4)
        self.peephole = nn.Parameter(torch.empty(2, hidden_size).uniform_(-(hidden_size**-0.5), hidden_size**-0.5))

    def forward(self, inputs: Tensor, state: LayerState, probability: float) -> tuple[Tensor, LayerState]:
        """Run the layer over a batch of texts of equal length."""
        candidate, forget, reset, *highway = self.products(inputs, probability)
        by_highway = highway[0] if highway else inputs.float()
        inputs_of_scan = (candidate, forget, reset, by_highway, self.peephole, state["cell"])
        outputs, cell = _SruScan.apply(*inputs_of_scan)  # type: ignore[no-untyped-call]
        return outputs.to(inputs.dtype), {"cell": cell}


class _Recurrence(torch.autograd.Function):
    """``c_t = (1 - g_t) c_(t-1) + g_t z_t``."""

    @staticmethod
    def forward(ctx: Any, candidate: Tensor, gate: Tensor, cell: Tensor) -> Tensor:
        cells = torch.empty_like(candidate)
        before = cell
        for token in range(candidate.shape[1]):
            torch.lerp(before, candidate[:, token], gate[:, token], out=cells[:, token])
            before = cells[:, token]
        ctx.save_for_backward(candidate, gate, cell, cells)
        return cells

    @staticmethod
    def backward(ctx: Any, by_cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        candidate, gate, cell, cells = ctx.saved_tensors
        by_candidate, by_gate = torch.empty_like(candidate), torch.empty_like(gate)
        by_cell = torch.zeros_like(cell)
        for token in reversed(range(candidate.shape[1])):
            before = cells[:, token - 1] if token else cell
            by_cell = by_cell + by_cells[:, token]
            torch.mul(by_cell, candidate[:, token] - before, out=by_gate[:, token])
            torch.mul(by_cell, gate[:, token], out=by_candidate[:, token])
            by_cell = by_cell - by_candidate[:, token]
        return by_candidate, by_gate, by_cell


class _SruScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, candidate: Tensor, forget: Tensor, reset: Tensor, highway: Tensor, peephole: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor]:
        outputs, forgets, resets, cells = (torch.empty_like(candidate) for _ in range(4))
        before = cell
        for token in range(candidate.shape[1]):
            f = torch.addcmul(forget[:, token], peephole[0], before).sigmoid_()
            r = torch.addcmul(reset[:, token], peephole[1], before).sigmoid_()
            torch.lerp(candidate[:, token], before, f, out=cells[:, token])
            before = cells[:, token]
            torch.lerp(highway[:, token], before, r, out=outputs[:, token])
            forgets[:, token], resets[:, token] = f, r
        ctx.save_for_backward(candidate, highway, peephole, cell, forgets, resets, cells)
        return outputs, before.clone()

    @staticmethod
    def backward(ctx: Any, by_outputs: Tensor, by_cell: Tensor) -> tuple[Tensor, ...]:
        candidate, highway, peephole, cell, forgets, resets, cells = ctx.saved_tensors
        by_candidate, by_forget, by_reset, by_highway = (torch.empty_like(candidate) for _ in range(4))
        for token in reversed(range(candidate.shape[1])):
            before = cells[:, token - 1] if token else cell
            f, r, change = forgets[:, token], resets[:, token], by_outputs[:, token]
            by_reset[:, token] = change * (cells[:, token] - highway[:, token]) * r * (1 - r)
            by_highway[:, token] = change * (1 - r)
            by_cell = torch.addcmul(by_cell, change, r)
            by_candidate[:, token] = by_cell * (1 - f)
            by_forget[:, token] = by_cell * (before - candidate[:, token]) * f * (1 - f)
            by_cell = by_cell * f + by_forget[:, token] * peephole[0] + by_reset[:, token] * peephole[1]
        before = torch.cat([cell[:, None], cells[:, :-1]], dim=1)
        by_peephole = torch.stack([(part * before).sum((0, 1)) for part in (by_forget, by_reset)])
        return by_candidate, by_forget, by_reset, by_highway, by_peephole, by_cell


@dataclass(frozen=True)
class Kind:
    """A kind of layers.

    Attributes:
        layer: Makes a layer of an input and an output size, the first of which may span two tokens.
        window: Number of tokens that an input of the first layer spans.
        weight_dropout: Whether weights are dropped.
        more_layers: Number of layers beyond those of the size.
        widened: Factor of the hidden size.
    """

    layer: Callable[[int, int, int], nn.Module]
    window: int = 1
    weight_dropout: bool = True
    more_layers: int = 0
    widened: float = 1


class ImitatingNetwork(LanguageModelNetwork):
    """A language model that learns the outputs of another model's last layer, by their squared error."""

    def __init__(self, encoder: EncoderNetwork, teacher: EncoderNetwork) -> None:
        super().__init__(encoder)
        self._teacher = [teacher.eval()]  # in a list, so that its weights are not this model's
        self._teacher_state: State = []

    def forward(
        self, ids: Tensor, targets: Tensor, state: State, sampler: CandidateSampler | None = None
    ) -> tuple[Tensor, Tensor, Tensor, State]:
        """Return the loss instead of that of the next tokens. Evaluation is that of a language model."""
        if not self.training:
            return super().forward(ids, targets, state, sampler)
        (teacher,) = self._teacher
        if not any(values.any() for layer in state for values in layer.values()):  # the stream begins
            self._teacher_state = teacher.zero_state(len(ids))
        with torch.no_grad():
            wanted, _, self._teacher_state = teacher(ids, self._teacher_state)
        raw, dropped, next_state = self.encoder(ids, state)
        return (raw - wanted).float().square().sum(dim=2).mean(), raw, dropped, next_state


def _qrnn(layer: type[QrnnLayer], *, output_gate: bool = True) -> Callable[[int, int, int], nn.Module]:
    return lambda below, width, window: layer(below, width, window=window, output_gate=output_gate)


KINDS = {
    "lstm": Kind(lambda below, width, _: LstmLayer(below, width)),
    "qrnn": Kind(_qrnn(QrnnLayer)),
    "qrnn, window 2": Kind(_qrnn(QrnnLayer), window=2),
    "qrnn, window 2, no output gate": Kind(_qrnn(QrnnLayer, output_gate=False), window=2),
    "qrnn, zoneout": Kind(_qrnn(ZoneoutLayer), weight_dropout=False),
    "qrnn, many time scales": Kind(_qrnn(ManyScalesLayer)),
    "qrnn, neither": Kind(_qrnn(QrnnLayer), weight_dropout=False),
    "qrnn, 4 layers, window 2": Kind(_qrnn(QrnnLayer), window=2, more_layers=1),
    "qrnn, wide": Kind(_qrnn(QrnnLayer), widened=2),
    "qrnn, deep and wide": Kind(_qrnn(QrnnLayer), window=2, more_layers=1, widened=1.25),
    "sru": Kind(lambda below, width, _: SruLayer(below, width)),
    "mingru": Kind(lambda below, width, _: MinGruLayer(below, width)),
}


def main() -> None:
    """Print a table with the validation perplexity per word of each kind and seed."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("corpus", type=Path)
    options.add_argument("--size", default="small")
    options.add_argument("--seconds", type=float, default=120)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options.add_argument(
        "--kinds", nargs="+", default=["lstm", "qrnn", "qrnn, window 2", "sru", "mingru"], choices=KINDS
    )
    options.add_argument("--rates", type=float, nargs="+", default=RATES)
    options.add_argument("--dropout-multiplier", type=float, default=0.3)
    options.add_argument("--candidates", default="all", help="number of candidates of a sampled softmax, or all")
    options.add_argument("--tokens", type=int, help="tokens to train on, instead of --seconds")
    options.add_argument("--pack", help="pack whose tokenizer is used")
    options.add_argument("--continued", action="store_true", help="also take the pack's embedding and decoder")
    options.add_argument("--imitate", action="store_true", help="learn the outputs of the pack; needs --continued")
    options.add_argument("--little-text", action="store_true")
    found = options.parse_args()
    torch.set_num_threads(1)
    candidates = found.candidates if found.candidates == "all" else int(found.candidates)
    pretraining = {**BATCH, "dropout_multiplier": found.dropout_multiplier, "candidates": candidates}
    parameters = load_hyperparameters(found.size, {"language_model": BATCH, "pretraining": pretraining})
    sizes, config = parameters.encoder, parameters.language_model if found.little_text else parameters.pretraining
    few = FEW_TEXTS if found.little_text else TEXTS
    pack = read_bundle(pack_path(found.pack), PackKind.LANGUAGE_MODEL) if found.pack else None
    tokenizer = pack.tokenizer if pack else None
    texts, vocabulary = texts_of(found.corpus, few, parameters.tokenizer.vocabulary_size, tokenizer)
    start = pack if found.continued else None
    makers: dict[str, Maker] = {name: partial(model_of, name, sizes, vocabulary, start) for name in found.kinds}
    if found.imitate and start is not None:
        makers = {name: partial(imitator_of, maker, start) for name, maker in makers.items()}
    costs = seconds_per_step(makers, texts, config)
    print(f"vocabulary {vocabulary}, {texts.store.lengths[texts.training].sum():,} tokens to train on", flush=True)
    print("| kind | parameters | ms per step | tokens | learning rate |", *(f"seed {s} |" for s in found.seeds))
    print("|---|--:|--:|--:|--:|" + "--:|" * len(found.seeds), flush=True)
    for name, maker in makers.items():
        steps = round(found.seconds / costs[name])
        if found.tokens:
            steps = found.tokens // (config.batch_size * config.sequence_length)
        dropouts = config.dropouts if KINDS[name].weight_dropout else config.dropouts.model_copy(update={"weight": 0.0})
        settings = config.model_copy(update={"dropouts": dropouts})
        tries = {}
        for rate in found.rates if len(found.rates) > 1 else []:
            slower = settings.model_copy(update={"learning_rate": rate})
            tries[rate] = perplexity(maker, texts, slower, 0, max(1, steps // 4))
        rate = min(tries, key=lambda rate: tries[rate]) if tries else found.rates[0]
        settings = settings.model_copy(update={"learning_rate": rate})
        scores = [perplexity(maker, texts, settings, seed, steps) for seed in found.seeds]
        weights = sum(weight.numel() for weight in maker(0).encoder.layers.parameters())
        tokens = steps * config.batch_size * config.sequence_length
        cells = [name, f"{weights:,}", f"{1000 * costs[name]:.0f}", f"{tokens:,}", f"{rate:g}"]
        print(f"| {' | '.join([*cells, *(f'{score:.0f}' for score in scores)])} |", f"<!-- {tries} -->", flush=True)


def texts_of(folder: Path, count: int, pieces: int, tokenizer: Tokenizer | None) -> tuple[StreamTexts, int]:
    """Return the ids of training and validation articles, and the size of their vocabulary."""
    corpus = Corpus([str(path) for path in sorted(folder.glob("*.parquet"))[:1]], "text")
    training, validation = corpus.split(0)
    kept = np.concatenate([np.random.default_rng(0).permutation(training)[:count], validation[:VALIDATION_TEXTS]])
    every = list(itertools.islice(corpus.read(), int(kept.max()) + 1))
    texts = [every[number] for number in kept]
    tokenizer = tokenizer or train_tokenizer(texts[:count], pieces)
    store = TokenStore.of([tokenizer.tokenize(text).ids for text in texts])
    numbers = np.arange(len(texts))
    words = np.array([len(text.split()) for text in texts[count:]])
    return StreamTexts(store, numbers[:count], numbers[count:], words), len(tokenizer)


def model_of(name: str, sizes: EncoderConfig, vocabulary: int, start: Bundle | None, seed: int) -> LanguageModelNetwork:
    """Return a model with random layers of a kind. Embedding and decoder are those of ``start``, or random, too."""
    kind = KINDS[name]
    architecture = Architecture(
        vocabulary_size=vocabulary,
        width_embedding=sizes.embedding_size,
        width_hidden=round(kind.widened * sizes.hidden_size),
        layers=sizes.layers + kind.more_layers,
    )
    model = build_language_model(architecture, Direction.FORWARD, seed)
    windows = [kind.window, *[1] * (architecture.layers - 1)]
    model.encoder.layers = nn.ModuleList(
        kind.layer(*widths, window) for widths, window in zip(architecture.layer_widths, windows, strict=True)
    )
    model.encoder.compute_type = fast_type(torch.device("cpu"))
    if start is not None:
        weights = start.weights[Direction.FORWARD]
        with torch.no_grad():
            model.encoder.embedding.weight.copy_(torch.from_numpy(weights["encoder.embedding.weight"]))
            model.decoder.bias.copy_(torch.from_numpy(weights["decoder.bias"]))
    return model


def imitator_of(maker: Maker, pack: Bundle, seed: int) -> LanguageModelNetwork:
    """Return a model that learns the outputs of a pack's forward model."""
    teacher = build_language_model(pack.manifest.member(Direction.FORWARD).architecture, Direction.FORWARD, 0)
    weights = pack.weights[Direction.FORWARD]
    teacher.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    teacher.encoder.compute_type = fast_type(torch.device("cpu"))
    model = maker(seed)
    imitator = ImitatingNetwork(model.encoder, teacher.encoder)
    imitator.load_state_dict(model.state_dict())
    return imitator


def _training(
    model: LanguageModelNetwork, texts: StreamTexts, config: LanguageModelConfig, seed: int, steps: int
) -> Generator[Report, None, dict[str, float]]:
    tokens = int(texts.store.lengths[texts.training].sum())
    windows = (tokens // config.batch_size - 1) // config.sequence_length
    changed = config.model_copy(update={"epochs": steps / windows})
    with tempfile.TemporaryDirectory() as folder:
        start, never = LanguageModelCheckpoint(tensors={}), Checkpoints(Path(folder), 0, writes=False)
        return (yield from train_language_model(model, texts, changed, seed, start, never))


def perplexity(maker: Maker, texts: StreamTexts, config: LanguageModelConfig, seed: int, steps: int) -> float:
    """Return the perplexity per word of a model after a number of training steps."""
    return finished(_training(maker(seed), texts, config, seed, steps))["perplexity_per_word"]


def seconds_per_step(
    makers: Mapping[str, Maker], texts: StreamTexts, config: LanguageModelConfig, rounds: int = 12
) -> dict[str, float]:
    """Return the least CPU time of a training step of each kind. All kinds are measured in turns."""
    brief = StreamTexts(texts.store, texts.training, texts.validation[:1])
    runs = {name: _training(maker(0), brief, config, 0, 1000) for name, maker in makers.items()}
    costs: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(rounds):
        for name, reports in runs.items():
            started = time.process_time()
            while not isinstance(next(reports), StepReport):
                pass
            costs[name].append(time.process_time() - started)
    return {name: min(seconds[1:]) for name, seconds in costs.items()}


if __name__ == "__main__":
    main()
