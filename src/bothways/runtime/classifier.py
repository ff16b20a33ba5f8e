"""Classify texts with a bundle.

In: texts. Out: labels and probabilities, forward, backward and averaged, in the order of the texts. Every surface
(Python, command line, later the server) goes through ``Classifier.stream``. How logits become probabilities, and which
labels are chosen, is decided here alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bothways.bundle.manifest import EarlyExit, Kind, Manifest, Task
from bothways.bundle.parity import ENSEMBLE, proven_probabilities
from bothways.bundle.read import Bundle, read_bundle
from bothways.bundle.weights import Weights
from bothways.errors import ConfigError
from bothways.runtime.allocator import return_freed_memory
from bothways.runtime.cores import available_cores
from bothways.runtime.graph import PRECISIONS, EncoderSession, Precision
from bothways.runtime.reader import TextReader
from bothways.runtime.slots import SLOTS, First, Pooled, SlotEngine, Slots, Tally
from bothways.text.reading import Direction, TokenizedText
from bothways.text.tokenizer import Tokenizer
from bothways.text.validation import check_texts

Probabilities = NDArray[np.float64]
_NORM_EPS = 1e-5
_SHORT_TOKENS = 64
LARGEST_INT8_DIFFERENCE = 0.1
LARGEST_WITH_ODDS = 1 - 1e-12
"""A probability next to 1 has the odds of this one, or they would hang on its last bit."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model says of one text.

    Attributes:
        label: The most probable label; the first of the labels on a tie.
        probability: The ensemble's probability of that label, 0..1.
        chosen: The labels that the text is given: exactly ``label``; of a multi-label classifier all labels whose
            probability is at least their threshold, in the order of ``labels``, maybe none.
        labels: All labels, in the order of the probabilities.
        probabilities: For ``forward``, ``backward`` (those that read the text) and ``ensemble``, each (C,). They add up
            to 1, but not for a multi-label classifier: each is that of one label to be there. Where one direction of a
            cascade was enough, ``ensemble`` are its probabilities, calibrated.
        read: The directions that read the text: ``both``, or the only one.
    """

    label: str
    probability: float
    chosen: tuple[str, ...]
    labels: tuple[str, ...]
    probabilities: Mapping[str, Probabilities]
    read: str


class Classifier:
    """A text classifier that gives the numbers its trainer saw. Made by ``bothways.load``.

    Holds nothing of torch, and nothing on disk once loaded. Safe to use from several threads. Takes the weights out of
    the bundle that it is made of, which is no use to another classifier.

    Attributes:
        labels: All labels, in the order of every row of probabilities.
        manifest: What the bundle says of itself.
        digest: The bundle's identity, a SHA-256.
        tokenizer: Shared by both directions.
        engine: Reads tokenized texts with every member.
        cascade: When one direction is enough; None: both always read.
        precision: In which weights are multiplied: ``float32`` or ``int8``.
    """

    def __init__(
        self,
        bundle: Bundle,
        threads: int | None = None,
        early_exit: EarlyExit | None = None,
        precision: Precision = "float32",
    ) -> None:
        self.manifest: Manifest = bundle.manifest
        self.precision = precision
        self.early_exit = early_exit
        self.labels: tuple[str, ...] = tuple(bundle.manifest.labels)
        self.digest: str = bundle.digest
        self.tokenizer: Tokenizer = bundle.tokenizer
        members = bundle.manifest.members
        is_int8 = precision == "int8"
        cores = threads or available_cores()
        # In int8 all members' weights fit the caches at once, and cores that share no product wait for none. A cascade
        # begins with one member, and cores that can't be shared out evenly would be idle.
        is_shared_out = is_int8 and early_exit is None and cores % len(members) == 0
        at_once = len(members) if is_shared_out else 1
        sessions, self._heads = [], []
        for member in members:
            weights = bundle.weights.pop(member.direction)  # gone when the next member's are packed
            sessions.append(
                EncoderSession(
                    member.architecture,
                    weights,
                    pools_padding=member.pooling is None,
                    threads=cores // at_once,
                    precision=precision,
                )
            )
            self._heads.append(_Head(weights, len(member.widths_head or []) + 1))
            del weights
            return_freed_memory()  # of a member's weights and of what packing them took
        self.engine = SlotEngine(members, sessions, at_once)

    @property
    def directions(self) -> list[str]:
        """The directions that this model reads, in the bundle's order."""
        return [str(direction) for direction in self.manifest.directions]

    @property
    def is_multi_label(self) -> bool:
        """Whether a text is given any number of labels, not exactly one."""
        return self.manifest.task == "multi-label"

    def predict(self, texts: Iterable[object]) -> NDArray[np.object_]:
        """Return the label of each text, (N,) objects of type str, in the order of the texts.

        Of a multi-label classifier: the chosen labels of each text, (N,) tuples of str, maybe empty.

        Args:
            texts: A list, array, Series or any other iterable of strings.

        Raises:
            TextError: ``texts`` is a lone string, or one of the texts can't be classified.
        """
        found = [p.chosen if self.is_multi_label else p.label for p in self.stream(texts)]
        labels = np.empty(len(found), dtype=object)
        for number, value in enumerate(found):  # one by one, or numpy would take tuples of one length for columns
            labels[number] = value
        return labels

    def predict_proba(self, texts: Iterable[object]) -> Probabilities:
        """Return the ensemble's probabilities of each text, (N, C) float64, columns in the order of ``labels``.

        Rows add up to 1, but not those of a multi-label classifier.

        Guarantee 2: a text's row is bit-identical alone, in any batch and in any order.

        Raises:
            TextError: ``texts`` is a lone string, or one of the texts can't be classified.
        """
        return self.predict_proba_by_direction(texts)[ENSEMBLE]

    def predict_proba_by_direction(self, texts: Iterable[object]) -> dict[str, Probabilities]:
        """Return ``forward``, ``backward`` (those the bundle has) and ``ensemble`` side by side, each (N, C) float64.

        In a cascade, the rows of a direction that did not read a text are not numbers (NaN).

        Raises:
            TextError: ``texts`` is a lone string, or one of the texts can't be classified.
        """
        rows = [prediction.probabilities for prediction in self.stream(texts)]
        names = [*self.directions, ENSEMBLE]
        shape = (len(rows), len(self.labels))
        unread = np.full(len(self.labels), np.nan)
        return {
            name: np.array([row.get(name, unread) for row in rows], dtype=np.float64).reshape(shape) for name in names
        }

    def stream(self, texts: Iterable[object], lookahead: int = SLOTS) -> Iterator[Prediction]:
        """Return a prediction for each text of an iterable that may never end, in its order.

        Guarantees 3, 4 and 6: each text is tokenized once; prediction *i* belongs to text *i*; memory is bounded.

        Args:
            texts: Any iterable of strings.
            lookahead: How many texts are in work at a time, 1 or more: large is fast, 1 answers each text before the
                next is asked for. Behind a long text, shorter ones go on being read and wait for it, 20,000 at most.

        Raises:
            TextError: ``texts`` is a lone string (at once), or one of the texts can't be classified (when it is
                reached; predictions of texts before it that were not given yet are lost).
            ConfigError: ``lookahead`` is below 1.
        """
        if lookahead < 1:
            raise ConfigError(f"lookahead is {lookahead}, expected 1 or more")
        return self.predictions_of(map(self.tokenizer.tokenize, check_texts(texts)), lookahead)

    def open(self) -> TextReader:
        """Return a reader of one text that comes in parts: ``append`` each, then ``close``.

        Raises:
            ConfigError: No model of the bundle reads forward, or its tokens can't be told before a text's end (those of
                a model that was imported from fastai), or it was loaded as a cascade, which decides of whole texts.
        """
        if self.early_exit is not None:
            raise ConfigError("a cascade decides of whole texts: load the bundle without it to read one in parts")
        directions = self.manifest.directions
        if Direction.FORWARD not in directions:
            raise ConfigError("this bundle reads backward only: a text that isn't complete can't be read from its end")
        if self.tokenizer.stable_length("") is None:
            raise ConfigError(
                "this bundle's words are cut by fastai's and spaCy's rules, which look across a whole text: "
                "read complete texts with predict or stream"
            )
        forward = directions.index(Direction.FORWARD)
        return TextReader(
            self.tokenizer,
            self.engine,
            forward,
            partial(self._probabilities, forward),
            self.prediction,
        )

    def predictions_of(
        self, texts: Iterable[TokenizedText], lookahead: int = SLOTS, tally: Tally | None = None
    ) -> Iterator[Prediction]:
        """Return a prediction for each tokenized text, as ``stream`` does; a tally counts the tokens that are read."""
        for pooled in self.engine.run_early_exit(texts, lookahead, self._first(), tally):
            yield self.prediction(pooled)

    def slots(self, most: int, tally: Tally | None = None) -> Slots:
        """Return slots for so many texts at a time, to be driven by the caller; ``prediction`` tells what they pooled.

        A round reads one window of each, so that a text which comes meanwhile waits for no longer.
        """
        return Slots(self.engine, most, self._first(), tally, most_windows=1)

    def _first(self) -> First | None:
        if self.early_exit is None:
            return None
        return First(self.manifest.directions.index(self.early_exit.first), self._is_enough)

    def _is_enough(self, pooled: Pooled) -> bool:
        """Whether the first member of the cascade is sure of a text that it has read."""
        assert self.early_exit is not None
        number = self.manifest.directions.index(self.early_exit.first)
        calibrated = with_temperature(self._probabilities(number, pooled), self.early_exit.temperature)
        return bool(calibrated.max() > self.early_exit.threshold)

    def _probabilities(self, number: int, pooled: Pooled) -> Probabilities:
        """Return what one member says of a text."""
        logits = self._heads[number].logits(pooled)
        return _sigmoid(logits) if self.is_multi_label else _softmax(logits)

    def prediction(self, pooled: Sequence[Pooled | None]) -> Prediction:
        """Return what the members say of a text, by what each of them pooled; None where it did not read the text."""
        combination, calibration = self.manifest.combination, self.manifest.calibration
        assert combination is not None
        assert calibration is not None
        each = {
            direction: self._probabilities(number, vector)
            for number, (direction, vector) in enumerate(zip(self.directions, pooled, strict=True))
            if vector is not None
        }
        if len(each) == len(pooled):
            mean = sum(
                (weight * row for weight, row in zip(combination.weights, each.values(), strict=True)), np.zeros(1)
            )
            temperature = calibration.temperature
        else:
            assert self.early_exit is not None
            mean, temperature = each[self.early_exit.first], self.early_exit.temperature
        ensemble = with_temperature(mean, temperature, task=self.manifest.task)
        best = int(ensemble.argmax())
        chosen, read = self.chosen(ensemble), "both" if len(each) > 1 else next(iter(each))
        by_name = {**each, ENSEMBLE: ensemble}
        return Prediction(self.labels[best], float(ensemble[best]), chosen, self.labels, by_name, read)

    def chosen(self, ensemble: Probabilities) -> tuple[str, ...]:
        """Return the labels of a text with these probabilities, (C,): the most probable, or all at their thresholds."""
        thresholds = self.manifest.thresholds
        if thresholds is None:
            return (self.labels[int(ensemble.argmax())],)
        return tuple(label for label, p, at in zip(self.labels, ensemble, thresholds, strict=True) if p >= at)


def load(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    early_exit: bool = False,
    precision: Precision = "float32",
) -> Classifier:
    """Return the classifier in a bundle.

    Args:
        path: The bundle's directory.
        threads: To compute with, 1 or more; else one for each core that this process may use, a container's quota
            included. It changes how fast results come, and no bit of them. Processes that are forked later share the
            weights; forked with more than 1, they would wait for threads that they don't have.
        early_exit: Whether one direction is enough where it is sure, as ``fit_early_exit`` chose.
        precision: ``float32``, or ``int8``: faster, and near the trainer's numbers only. The bundle keeps float32;
            ``verify`` tells how near, ``bothways bench`` how much faster on this machine.

    Raises:
        ConfigError: ``threads`` is below 1, the precision is unknown, the bundle has no cascade, or int8 is further
            than 0.1 from the bundle's proof on this machine.
        BundleMissing: There is no bundle at the path.
        BundleTooNew: The bundle's format is newer than this version.
        BundleBroken: The bundle is damaged or not a classifier's.
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}, expected 1 or more")
    if precision not in PRECISIONS:
        raise ConfigError(f"the precision {precision!r} is unknown, expected {' or '.join(PRECISIONS)}")
    bundle = read_bundle(path, Kind.CLASSIFIER)
    model = Classifier(bundle, threads, early_exit_of(bundle) if early_exit else None, precision)
    if precision == "int8":
        _refuse_far_from_parity_record(model, bundle)
    return model


def early_exit_of(bundle: Bundle) -> EarlyExit:
    """Return a bundle's cascade.

    Raises:
        ConfigError: It has none.
    """
    if bundle.manifest.early_exit is None:
        raise ConfigError(f"{bundle.name} has no cascade: choose one on labeled rows with bothways early-exit")
    return bundle.manifest.early_exit


def _refuse_far_from_parity_record(model: Classifier, bundle: Bundle) -> None:
    """Refuse a precision that is no use here, by the proof's short texts."""
    rows = [row for row in bundle.parity_record if len(row.ids) <= _SHORT_TOKENS]
    name = model.early_exit.first if model.early_exit is not None else ENSEMBLE
    found = model.predict_proba_by_direction([row.text for row in rows])[name]
    proven = proven_probabilities(rows, name, model.labels)
    difference = float(np.abs(found - proven).max()) if rows else 0.0
    if not difference <= LARGEST_INT8_DIFFERENCE:
        raise ConfigError(
            f"{bundle.name} in int8 gives probabilities that differ by {difference:.2g} from the trainer's on this "
            f"machine, allowed are {LARGEST_INT8_DIFFERENCE:g}: load it in float32"
        )


def with_temperature(probabilities: Probabilities, temperature: float, *, task: Task = "single-label") -> Probabilities:
    """Return calibrated probabilities: the softmax of their logarithms over the temperature (Guo et al., 2017).

    For multi-label: the sigmoid of each one's log odds over the temperature (``LARGEST_WITH_ODDS`` at most).

    Args:
        probabilities: Of one text, (C,), or of several, (N, C).
        temperature: Above 0; 1 changes no bit.
        task: Of the classifier that they come from.
    """
    if temperature == 1:
        return probabilities
    with np.errstate(divide="ignore", over="ignore"):
        if task == "multi-label":
            others = np.log1p(-np.minimum(probabilities, LARGEST_WITH_ODDS))
            return _sigmoid((np.log(probabilities) - others) / temperature)
        logarithms = np.log(probabilities)
        return _softmax((logarithms - logarithms.max(axis=-1, keepdims=True)) / temperature)


class _Head:
    """Batch norm and linear layer, as often as need be with ReLU between; the norms are folded into the linear layers.

    Runs on one text at a time, so that no product's rounding depends on a batch.
    """

    def __init__(self, weights: Weights, layers: int) -> None:
        self._layers = folded_layers(weights, layers)

    def logits(self, pooled: Pooled) -> NDArray[np.float64]:
        """Return one text's logits, (C,) float64, from its pooled vector, (3E,)."""
        (weight, bias), *others = self._layers
        values = weight @ pooled.astype(np.float64) + bias
        for weight, bias in others:
            values = weight @ np.maximum(values, 0) + bias
        return values


def folded_layers(weights: Weights, layers: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return weight and bias of a head's linear layers, with the norm before each folded in; ReLU stands between."""
    return [
        _folded_linear(weights, f"head.layers.{layer}", *_folded_norm(weights, f"head.norms.{layer}"))
        for layer in range(layers)
    ]


def _folded_norm(weights: Weights, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scale and shift of a batch norm in evaluation."""
    part = {
        key: weights[f"{name}.{key}"].astype(np.float64) for key in ("weight", "bias", "running_mean", "running_var")
    }
    scale = part["weight"] / np.sqrt(part["running_var"] + _NORM_EPS)
    return scale, part["bias"] - part["running_mean"] * scale


def _folded_linear(
    weights: Weights, name: str, scale: NDArray[np.float64], shift: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weight = weights[f"{name}.weight"].astype(np.float64)
    return weight * scale, weights[f"{name}.bias"] + weight @ shift


def _softmax(logits: NDArray[np.float64]) -> Probabilities:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), dtype=np.float64)


def _sigmoid(logits: NDArray[np.float64]) -> Probabilities:
    small = np.exp(-np.abs(logits))  # never overflows, also not where a logit is infinite
    return np.asarray(np.where(logits >= 0, 1, small) / (1 + small), dtype=np.float64)
