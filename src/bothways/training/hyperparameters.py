"""Define every hyperparameter of a training run, and load them from a preset and an optional TOML file or dict.

The docstring of each field is published in docs/hyperparameters.md (``python -m tools.make_hyperparameters_table``).
A TOML file is validated as a whole: one error lists everything that is wrong with it.
"""

from __future__ import annotations

import difflib
import math
import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from bothways.bundle.manifest import EncoderKind
from bothways.errors import ConfigError, path_text, quoted, shown
from bothways.nn.encoder import Dropouts
from bothways.schema import Document, Entries, Fault, Faults, validated
from bothways.tasks.labels import label_text
from bothways.text.reading import SpecialTokenPlacement
from bothways.toml_file import read_toml
from bothways.training.choices import Size
from bothways.training.optimizer import Schedule

SIZES: tuple[str, ...] = get_args(Size)
ENCODERS: tuple[str, ...] = get_args(EncoderKind)

Rate = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
WholeEpochs = Literal["auto"] | Annotated[int, Field(ge=1, le=1000)]
FractionalEpochs = Literal["auto"] | Annotated[float, Field(ge=0, le=1000)]


class _Section(Document):
    model_config = ConfigDict(strict=False, use_attribute_docstrings=True)


def _class_weights(value: object) -> object:
    """Return weights by the text of each label, or refuse them with all that is wrong."""
    if not isinstance(value, Mapping):
        if value in ("none", "balanced"):
            return value
        found = quoted(value)
        message = "expected none, balanced or a table of weights by label, such as { spam = 2.0 }, found {found}"
        raise PydanticCustomError("class_weights", message, {"found": found})
    wrong = [
        f"{quoted(label)} = {quoted(weight)}"
        for label, weight in value.items()
        if not isinstance(label, str | int) or not _is_weight(weight)
    ]
    if wrong:
        message = "expected labels with numbers above 0, found {wrong}"
        raise PydanticCustomError("class_weights", message, {"wrong": ", ".join(wrong)})
    return {label_text(label): float(weight) for label, weight in value.items()}


def _is_weight(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 < float(value) < math.inf


def _needs_qrnn(first_window: int, info: ValidationInfo) -> int:
    if first_window != 1 and info.data.get("kind") != "qrnn":
        raise PydanticCustomError("kind", 'needs kind = "qrnn" beside it')
    return first_window


_DEFAULTS = {"kind": "lstm", "first_window": 1}
"""Defaults of keys that earlier versions did not have."""


class EncoderConfig(_Section):
    """Architecture of the encoder, and how backward text is presented to it."""

    kind: EncoderKind = "lstm"
    """Kind of the layers, which `--encoder` sets: `lstm` (AWD-LSTM) or `qrnn` (quasi-recurrent network). A QRNN reads
    several times faster and trains faster. A pack with another kind is refused."""
    embedding_size: Count
    """Size of the token embedding and of the last layer."""
    hidden_size: Count
    """Size of the other layers."""
    layers: Annotated[int, Field(ge=1, le=8)]
    """Number of layers."""
    first_window: Annotated[Annotated[int, Field(ge=1, le=2)], AfterValidator(_needs_qrnn)] = 1
    """Number of tokens that the gates of the first layer of a QRNN depend on. 2 adds the token before, as in fastai."""
    special_token_placement: SpecialTokenPlacement = SpecialTokenPlacement.READING_ORDER
    """Position of special tokens such as `xxmaj` when text is read backward: `reading-order` (read before their word)
    or `as-written` (read after it, as in fastai)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of activations and matrix products during training. Defaults to `auto`: bfloat16 on GPUs and on CPUs with
    AMX or AVX-512 BF16, float32 elsewhere. Weights and reported metrics are always float32."""

    @model_serializer(mode="wrap")
    def _without_new_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out the defaults of new keys, so that a bundle with them is the same as one of earlier versions."""
        fields: dict[str, object] = serialize(self)
        return {name: value for name, value in fields.items() if _DEFAULTS.get(name) != value}


class TokenizerConfig(_Section):
    """Training of the subword tokenizer."""

    vocabulary_size: Annotated[int, Field(ge=8, le=200_000)]
    """Largest number of subword pieces to learn. A small corpus yields fewer. Special tokens and 256 byte tokens are
    added."""


class _StageConfig(_Section):
    schedule: Schedule = "one-cycle"
    """Learning-rate schedule. `one-cycle` warms up on a cosine for 25 % of the steps, then decays to 1/1000 of the
    peak. `slanted-triangular` rises linearly for 10 % of the steps, then falls linearly to 1/32 of the peak."""
    layer_decay: Annotated[float, Field(ge=1, le=10)]
    """Layer-wise learning-rate decay (discriminative fine-tuning): each layer's learning rate is that of the layer
    above divided by this factor. 1 gives all layers the same rate. ULMFiT uses 2.6."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Decoupled weight decay of AdamW."""
    max_gradient_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradient clipping: gradients with a larger total norm are scaled down to it."""
    dropouts: Dropouts
    """Dropout probabilities: `embedding` (whole words), `input` (embedded tokens), `weight` (hidden-to-hidden weights
    of an LSTM, all weights of a QRNN layer), `hidden` (between layers) and `output` (after the last layer)."""
    dropout_multiplier: Annotated[float, Field(ge=0, le=2)]
    """Factor applied to all five dropout probabilities. Each result is capped at 0.9."""
    activation_regularization: Annotated[float, Field(ge=0)] = 2.0
    """Weight α of activation regularization (AR): the mean square of the outputs after dropout."""
    temporal_activation_regularization: Annotated[float, Field(ge=0)] = 1.0
    """Weight β of temporal activation regularization (TAR): the mean square of the change of the outputs from one token
    to the next."""


class LanguageModelConfig(_StageConfig):
    """Fine-tuning of a language model on the texts of a task."""

    epochs: FractionalEpochs = "auto"
    """Number of epochs, which may be fractional. 0 skips this stage, for a pack that was trained on these texts.
    Defaults to `auto`: enough epochs to read `target_tokens`, at least 2 and at most 20."""
    target_tokens: Count = 500_000
    """Number of tokens to train on when `epochs` is `auto`."""
    learning_rate: Rate = 4e-3
    """Peak learning rate of the top layer group."""
    layer_decay: Annotated[float, Field(ge=1, le=10)] = 1.0
    dropouts: Dropouts = Dropouts()
    dropout_multiplier: Annotated[float, Field(ge=0, le=2)] = 1.0
    batch_size: Count = 32
    """Number of rows of the token stream in a batch."""
    sequence_length: Count = 48
    """Tokens per row and optimizer step (the length of backpropagation through time). The encoder's state is carried
    over to the next step."""
    candidates: Literal["all"] | Count = "all"
    """Number of tokens that compete with the right ones in the loss of a step, drawn at random (sampled softmax), or
    `all` for the whole vocabulary. Reported metrics always use the whole vocabulary."""

    def epochs_for(self, tokens: int) -> float:
        """Return the number of epochs for a corpus of ``tokens`` tokens."""
        return _clamped(self.target_tokens / tokens, 2, 20) if self.epochs == "auto" else self.epochs


class PretrainingConfig(LanguageModelConfig):
    """Training of a language model on a large corpus."""

    epochs: Literal["auto"] | Annotated[float, Field(gt=0, le=1000)] = "auto"
    """Number of epochs, which may be fractional. Defaults to `auto`: enough epochs to read `target_tokens`, at least 1
    and at most 20."""
    target_tokens: Count = 100_000_000
    """Number of tokens to train on when `epochs` is `auto`."""
    dropout_multiplier: Annotated[float, Field(ge=0, le=2)] = 0.3
    batch_size: Count = 128
    """Number of rows of the token stream in a batch."""
    sequence_length: Count = 64
    """Tokens per row and optimizer step (the length of backpropagation through time). The encoder's state is carried
    over to the next step."""

    def epochs_for(self, tokens: int) -> float:
        """Return the number of epochs for a corpus of ``tokens`` tokens."""
        return _clamped(self.target_tokens / tokens, 1, 20) if self.epochs == "auto" else self.epochs


def _needs_best(patience: str | int, info: ValidationInfo) -> str | int:
    if patience != "none" and info.data.get("keep") != "best":
        raise PydanticCustomError("keep", 'needs keep = "best" beside it')
    return patience


_BATCH_SIZES = ((1_000, 16), (4_000, 32))
"""Pairs of a number of training texts and the batch size of smaller data sets."""
_LARGEST_BATCH_SIZE = 64
_TEXTS_PER_LARGE_BATCH = 60
_LARGE_BATCH_LEARNING_RATE, _LEARNING_RATE = 1e-2, 5e-3


class ClassifierConfig(_StageConfig):
    """Training of a classifier on top of the language model's encoder."""

    unfreezing_epochs: Annotated[int, Field(ge=0, le=1000)] = 1
    """Epochs per step of gradual unfreezing, before all layers are trained. 0 trains all layers from the start."""
    epochs: WholeEpochs = "auto"
    """Number of epochs with all layers unfrozen. Defaults to `auto`: enough epochs to read `target_texts`, at least 3
    and at most 40."""
    target_texts: Count = 15_000
    """Number of texts to train on when `epochs` is `auto`."""
    distillation_temperature: Annotated[float, Field(ge=0.1, le=100)] = 1.0
    """Temperature of the loss of texts with soft labels: their probabilities, and those of the model, are taken after
    their logits are divided by it (Hinton et al. 2015)."""
    keep: Literal["last", "best"] = "last"
    """Weights to keep: those after the `last` epoch, or those of the epoch that is `best` on the validation rows. The
    best epoch of a single-label task has the highest accuracy, that of other tasks the lowest loss."""
    patience: Annotated[Literal["none"] | Annotated[int, Field(ge=1, le=1000)], AfterValidator(_needs_best)] = "none"
    """Early stopping: number of epochs with all layers unfrozen that may pass without a new best epoch before training
    stops. Needs `keep = "best"`. The learning rate has then not decayed to its end, because its schedule is that of all
    epochs. Defaults to `none`: all epochs are trained."""
    learning_rate: Literal["auto"] | Rate = "auto"
    """Peak learning rate of the top layer group. Defaults to `auto`: 0.01 if batches hold at least 60 texts on average,
    0.005 otherwise. Batches hold fewer texts if the data set is small or if `max_batch_tokens` limits long texts."""
    layer_decay: Annotated[float, Field(ge=1, le=10)] = 1.0
    dropouts: Dropouts = Dropouts(embedding=0.05, input=0.4, weight=0.5, hidden=0.3, output=0.4)
    dropout_multiplier: Annotated[float, Field(ge=0, le=2)] = 0.3
    batch_size: Literal["auto"] | Annotated[int, Field(ge=2)] = "auto"
    """Largest number of texts in a batch. Defaults to `auto`: 16 for fewer than 1,000 training texts, 32 for fewer than
    4,000, 64 otherwise."""
    max_batch_tokens: Count = 8192
    """Largest number of tokens in a batch, padding included (number of texts × length of the longest)."""
    max_text_tokens: Annotated[int, Field(ge=16)] = 10_000
    """Longer texts are truncated to this many tokens for training. Predictions always read the whole text."""
    head_size: Count = 50
    """Hidden size of the two-layer classification head."""
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """Dropout before the first layer of the head. `dropout_multiplier` does not apply to it."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction of each target that is spread evenly over all classes. Used for single-label tasks only."""
    class_weights: Annotated[
        Literal["none", "balanced"] | Entries[Annotated[float, Field(gt=0)]], BeforeValidator(_class_weights)
    ] = "none"
    """Weights of the classes in the loss: `none`, `balanced` (rare classes weigh more), or a table of weights by label,
    in which missing labels have weight 1. Whole numbers and booleans are written as strings, such as `"1" = 2.0`."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of the rows to hold out for validation, stratified by label, when no `--valid` file is given."""

    def epochs_for(self, texts: int) -> int:
        """Return the number of epochs with all layers unfrozen for ``texts`` training texts."""
        return _clamped(self.target_texts / texts, 3, 40) if self.epochs == "auto" else self.epochs

    def batch_size_for(self, texts: int) -> int:
        """Return the largest number of texts in a batch for ``texts`` training texts."""
        if self.batch_size != "auto":
            return self.batch_size
        return next((size for limit, size in _BATCH_SIZES if texts < limit), _LARGEST_BATCH_SIZE)

    def learning_rate_for(self, texts_per_batch: float) -> float:
        """Return the peak learning rate for batches of ``texts_per_batch`` texts on average."""
        if self.learning_rate != "auto":
            return self.learning_rate
        return _LARGE_BATCH_LEARNING_RATE if texts_per_batch >= _TEXTS_PER_LARGE_BATCH else _LEARNING_RATE


class LinearConfig(_Section):
    """The linear member of a classifier: logistic regression (ridge regression for numbers) on TF-IDF of n-grams."""

    include: Literal["auto", "none"] = "none"
    """Whether to add a linear model of n-grams to the ensemble. `auto` fits one in seconds and chooses its weight by
    the loss on the validation rows. It is left out if the ensemble is better without it."""


class Hyperparameters(_Section):
    """All hyperparameters of a training run, by section."""

    encoder: EncoderConfig
    tokenizer: TokenizerConfig
    pretraining: PretrainingConfig
    language_model: LanguageModelConfig
    classifier: ClassifierConfig
    linear: LinearConfig = LinearConfig()

    @property
    def requested_encoder(self) -> EncoderKind | None:
        """The kind of the encoder that was requested; None if it is the default."""
        return self.encoder.kind if "kind" in self.encoder.model_fields_set else None

    def with_encoder(self, kind: EncoderKind) -> Hyperparameters:
        """Return these hyperparameters with another kind of encoder."""
        return self.model_copy(update={"encoder": self.encoder.model_copy(update={"kind": kind})})

    def with_linear(self) -> Hyperparameters:
        """Return these hyperparameters with a linear member, unless they state whether to add one."""
        is_stated = "include" in self.linear.model_fields_set
        return self if is_stated else self.model_copy(update={"linear": LinearConfig(include="auto")})


FROM_PACK = "pack"
"""The preset for classifiers that start from a pack. The pack fixes the model sizes and the tokenizer."""

_PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    FROM_PACK: {
        "encoder": {"embedding_size": 256, "hidden_size": 512, "layers": 3},
        "tokenizer": {"vocabulary_size": 4000},
        "pretraining": {},
        "language_model": {},
        "classifier": {},
    },
    "tiny": {
        "encoder": {"embedding_size": 128, "hidden_size": 256, "layers": 2},
        "tokenizer": {"vocabulary_size": 2000},
        "pretraining": {},
        "language_model": {"target_tokens": 900_000},
        "classifier": {},
    },
    "small": {
        "encoder": {"embedding_size": 256, "hidden_size": 512, "layers": 3},
        "tokenizer": {"vocabulary_size": 4000},
        "pretraining": {},
        "language_model": {"target_tokens": 2_000_000},
        "classifier": {},
    },
    "base": {
        "encoder": {"embedding_size": 400, "hidden_size": 1152, "layers": 3},
        "tokenizer": {"vocabulary_size": 15_000},
        "pretraining": {},
        "language_model": {"target_tokens": 2_000_000},
        "classifier": {},
    },
}

RENAMED = {
    "width_embedding": "embedding_size",
    "width_hidden": "hidden_size",
    "markers": "special_token_placement",
    "rate_peak": "learning_rate",
    "rate_divisor": "layer_decay",
    "gradient_norm_max": "max_gradient_norm",
    "dropout_factor": "dropout_multiplier",
    "penalty_activation": "activation_regularization",
    "penalty_change": "temporal_activation_regularization",
    "tokens_wanted": "target_tokens",
    "batch_rows": "batch_size",
    "window_tokens": "sequence_length",
    "epochs_frozen": "unfreezing_epochs",
    "texts_wanted": "target_texts",
    "batch_texts": "batch_size",
    "batch_tokens": "max_batch_tokens",
    "longest_text_tokens": "max_text_tokens",
    "width_head": "head_size",
    "dropout_head": "head_dropout",
    "validation_share": "validation_fraction",
}
"""Former keys and their present names. A file with a former key is refused with the name to use."""


def load_hyperparameters(
    size: str,
    config: str | os.PathLike[str] | Mapping[str, object] | None = None,
    encoder: EncoderKind | None = None,
) -> Hyperparameters:
    """Return the preset of a size, with the changes of a TOML file applied.

    Args:
        size: ``tiny``, ``small``, ``base``, or ``FROM_PACK``.
        config: A TOML file, or a dict, with any of the sections and keys of ``Hyperparameters``. None changes nothing.
        encoder: The kind of the encoder; None for that of ``config`` or the default.

    Raises:
        ConfigError: The size or the encoder is unknown, the file can't be read or is not TOML, or the file has unknown
            keys, invalid values or another encoder. The message lists all of them.
    """
    if size not in _PRESETS:
        raise ConfigError(f"unknown size {quoted(size)}: expected one of {', '.join(SIZES)}")
    if encoder is not None and encoder not in ENCODERS:
        raise ConfigError(f"unknown encoder {quoted(encoder)}: expected {' or '.join(ENCODERS)}")
    values = {section: dict(keys) for section, keys in _PRESETS[size].items()}
    if encoder is not None:
        values["encoder"]["kind"] = encoder
    if config is None:
        return Hyperparameters.model_validate(values)
    changes = config if isinstance(config, Mapping) else _read_config(config)
    for section, keys in changes.items():
        if isinstance(keys, Mapping):
            values.setdefault(str(section), {}).update({str(key): value for key, value in keys.items()})
        else:
            values[str(section)] = keys  # type: ignore[assignment]  # refused below
    name = "config" if isinstance(config, Mapping) else path_text(config)
    try:
        found = validated(Hyperparameters, values)
    except Faults as error:
        problems = _problems(error.faults)
        count = f"{len(problems)} error{'s' * (len(problems) > 1)}"
        raise ConfigError(f"{name} has {count}: " + "; ".join(problems)) from None
    if encoder is not None and found.encoder.kind != encoder:
        raise ConfigError(f"{name}: encoder.kind is {found.encoder.kind}, but --encoder is {encoder}. Drop one of them")
    return found


def sections_of(config: str | os.PathLike[str] | Mapping[str, object] | None) -> dict[str, Mapping[str, object]]:
    """Return the keys that a TOML file or a dict of hyperparameters names, by section.

    Raises:
        ConfigError: The file can't be read or is not TOML.
    """
    found = {} if config is None else config if isinstance(config, Mapping) else _read_config(config)
    return {str(section): keys for section, keys in found.items() if isinstance(keys, Mapping)}


def _read_config(path: str | os.PathLike[str]) -> dict[str, object]:
    try:
        return read_toml(Path(path))
    except TypeError:
        raise ConfigError(f"config is {quoted(path)}, expected the path of a TOML file or a dict") from None


def _clamped(value: float, least: int, most: int) -> int:
    return min(most, max(least, round(value)))


def _problems(faults: list[Fault]) -> list[str]:
    """Return one message per key. For a key of a union type, pydantic reports an error per member of the union."""
    errors: dict[tuple[int | str, ...], list[Fault]] = {}
    for fault in faults:
        location = fault.location
        is_within_union = len(location) > 2 and not _known_keys(location[:2])
        errors.setdefault(location[:2] if is_within_union else location, []).append(fault)
    return [
        _problem(location, found[0].kind, " or ".join(fault.message for fault in found), found[0].value)
        for location, found in errors.items()
    ]


def _problem(location: tuple[int | str, ...], kind: str, message: str, value: object) -> str:
    where, key = ".".join(map(shown, location)), str(location[-1]) if location else ""
    if not location:
        return message
    if kind != "extra_forbidden":
        return f"{where}: {message.replace('Input', 'input')}, found {quoted(value)}"
    known = _known_keys(location[:-1])
    if RENAMED.get(key) in known:
        return f"{where} was renamed: use {RENAMED[key]}"
    sections = [name for name in known if key in _known_keys((name,))] if len(location) == 1 else []
    if sections:
        return f"{where} is not a section: move it into [{sections[-1]}]"
    close = difflib.get_close_matches(key[:40], known, n=1)
    return f"{where}: unknown key" + (
        f", did you mean {close[0]}?" if close else f", expected one of {', '.join(known)}"
    )


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the section at ``location``. Return an empty list if it is not a section."""
    model: type[BaseModel] = Hyperparameters
    for part in location:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
