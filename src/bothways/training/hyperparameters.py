"""Every number of a training run, with its limits; read from presets and TOML.

In: a size and, if given, a TOML file. Out: a ``Hyperparameters``. All faults of a file are reported at once.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from bothways.errors import ConfigError
from bothways.nn.awd_lstm import Dropouts
from bothways.text.reading import SpecialTokenPlacement

Size = Literal["tiny", "small", "base"]
SIZES: tuple[str, ...] = get_args(Size)

Rate = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Epochs = Literal["auto"] | Annotated[int, Field(ge=1, le=1000)]
PartsOfEpochs = Literal["auto"] | Annotated[float, Field(ge=0, le=1000)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class EncoderConfig(_Section):
    """Sizes of the AWD-LSTM, and where markers stand in backward reading."""

    embedding_size: Count
    """Width of the embedding and of the last layer, E."""
    hidden_size: Count
    """Width of the layers between, H."""
    layers: Annotated[int, Field(ge=1, le=8)]
    """LSTM layers, L."""
    special_tokens: SpecialTokenPlacement = SpecialTokenPlacement.READING_ORDER
    """Where markers stand in backward reading: `reading-order` (before their word) or `as-written` (behind it)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of products while training: `auto` is bfloat16 where a machine is fast at it (GPUs, CPUs with AMX or AVX-512
    BF16). Weights, and numbers that are told, are float32."""


class TokenizerConfig(_Section):
    """How many subword pieces are learnt."""

    vocabulary_size: Annotated[int, Field(ge=8, le=200_000)]
    """Pieces wanted; fewer come of a small corpus."""


class _StageConfig(_Section):
    schedule: Literal["one-cycle", "slanted-triangular"] = "one-cycle"
    """How the learning rate goes up and down in a stage: `one-cycle` or `slanted-triangular`."""
    layer_decay: Annotated[float, Field(ge=1, le=10)]
    """Each layer learns by this factor more slowly than the one above it (discriminative rates; ULMFiT has 2.6)."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Of AdamW."""
    max_gradient_norm: Annotated[float, Field(gt=0)] = 1.0
    """Longer gradients are scaled down to this norm."""
    dropouts: Dropouts
    """Probabilities of the five dropouts."""
    dropout_multiplier: Annotated[float, Field(ge=0, le=2)]
    """All of them are multiplied by this."""
    activation_regularization: Annotated[float, Field(ge=0)] = 2.0
    """Weight of activation regularization (AR)."""
    temporal_activation_regularization: Annotated[float, Field(ge=0)] = 1.0
    """Weight of temporal activation regularization (TAR)."""


class LanguageModelConfig(_StageConfig):
    """How a language model is trained or fine-tuned on a task's texts."""

    epochs: PartsOfEpochs = "auto"
    """`auto`, or a number, which may be a part; 0 leaves the model as it is, for a pack that has read the texts."""
    target_tokens: Count = 500_000
    """With `epochs = "auto"`: as many epochs as read so many tokens, 2 to 20."""
    learning_rate: Rate = 4e-3
    """Highest learning rate of the top layers."""
    layer_decay: Annotated[float, Field(ge=1, le=10)] = 1.0
    dropouts: Dropouts = Dropouts()
    dropout_multiplier: Annotated[float, Field(ge=0, le=2)] = 1.0
    batch_size: Count = 32
    """Rows of the stream that are read side by side."""
    sequence_length: Count = 48
    """Tokens of a row between two gradient steps; the state is carried on."""

    def epochs_for(self, tokens: int) -> float:
        """Return the epochs for a corpus of so many tokens."""
        return _clamped(self.target_tokens / tokens, 2, 20) if self.epochs == "auto" else self.epochs


class PretrainingConfig(LanguageModelConfig):
    """How a language model is pre-trained on a corpus."""

    epochs: Literal["auto"] | Annotated[float, Field(gt=0, le=1000)] = "auto"
    """`auto`, or a number, which may be a part."""

    target_tokens: Count = 100_000_000
    """With `epochs = "auto"`: as many epochs as read so many tokens, 1 to 20."""
    dropout_multiplier: Annotated[float, Field(ge=0, le=2)] = 0.3
    batch_size: Count = 128
    """Rows of the stream that are read side by side."""
    sequence_length: Count = 64
    """Tokens of a row between two gradient steps; the state is carried on."""

    def epochs_for(self, tokens: int) -> float:
        """Return the epochs for a corpus of so many tokens."""
        return _clamped(self.target_tokens / tokens, 1, 20) if self.epochs == "auto" else self.epochs


_BATCHES_BY_ROWS = ((1_000, 16), (4_000, 32))
_LARGEST_BATCH = 64
_LARGE_BATCH = 60
_RATE_OF_LARGE_BATCHES, _RATE = 1e-2, 5e-3


class ClassifierConfig(_StageConfig):
    """How a classifier is trained on top of a language model."""

    unfreezing_epochs: Annotated[int, Field(ge=0, le=1000)] = 1
    """Epochs of each step of gradual unfreezing, before the whole model is trained; 0 trains all from the start."""
    epochs: Epochs = "auto"
    """Of the whole model: `auto`, or a number. The model after the last one is kept."""
    target_texts: Count = 15_000
    """With `epochs = "auto"`: as many epochs as read so many texts, 3 to 40."""
    learning_rate: Literal["auto"] | Rate = "auto"
    """Highest learning rate of the top layers: a number, or `auto`: 0.01 where batches hold 60 texts on average, else
    0.005. They hold fewer of a small set, and of long texts by `max_batch_tokens`."""
    layer_decay: Annotated[float, Field(ge=1, le=10)] = 1.0
    dropouts: Dropouts = Dropouts(embedding=0.05, input=0.4, weight=0.5, hidden=0.3, output=0.4)
    dropout_multiplier: Annotated[float, Field(ge=0, le=2)] = 0.3
    batch_size: Literal["auto"] | Annotated[int, Field(ge=2)] = "auto"
    """Texts between two gradient steps, at most: a number, or `auto`: 16 below 1,000 rows, 32 below 4,000, else 64."""
    max_batch_tokens: Count = 8192
    """Tokens (texts x longest) between two gradient steps, at most."""
    max_text_tokens: Annotated[int, Field(ge=16)] = 10_000
    """Training looks at so many tokens of a text, predicting at all of them."""
    head_size: Count = 50
    """Hidden width of the two-layer head."""
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """Before the head's first layer."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of each target that is spread evenly over all classes; not for multi-label."""
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(gt=0)]] = "none"
    """`none`, `balanced` (rare classes weigh more), or a table of weights by label."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of each class that is set aside if there is no `--valid` file."""

    def epochs_for(self, texts: int) -> int:
        """Return the epochs of the whole model for so many training texts."""
        return _clamped(self.target_texts / texts, 3, 40) if self.epochs == "auto" else self.epochs

    def batch_size_for(self, texts: int) -> int:
        """Return the size of batches for so many training texts."""
        if self.batch_size != "auto":
            return self.batch_size
        return next((size for below, size in _BATCHES_BY_ROWS if texts < below), _LARGEST_BATCH)

    def learning_rate_for(self, texts_a_batch: float) -> float:
        """Return the highest learning rate for batches that hold so many texts on average."""
        if self.learning_rate != "auto":
            return self.learning_rate
        return _RATE_OF_LARGE_BATCHES if texts_a_batch >= _LARGE_BATCH else _RATE


class Hyperparameters(_Section):
    """A whole training run."""

    encoder: EncoderConfig
    tokenizer: TokenizerConfig
    pretraining: PretrainingConfig
    language_model: LanguageModelConfig
    classifier: ClassifierConfig


FROM_PACK = "pack"
"""The preset for classifiers that start from a pack, which decides sizes and tokenizer."""

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


def load_hyperparameters(size: str, config: str | Path | None = None) -> Hyperparameters:
    """Return the recipe of a size, with what a TOML file changes.

    Args:
        size: tiny, small, base, or ``FROM_PACK``.
        config: A TOML file with any of the sections and keys of ``Hyperparameters``.

    Raises:
        ConfigError: The size is unknown, or the file is missing, not TOML, or has faults; all of them are listed.
    """
    if size not in _PRESETS:
        raise ConfigError(f"the size {size!r} is unknown, expected one of {', '.join(SIZES)}")
    values = {section: dict(keys) for section, keys in _PRESETS[size].items()}
    if config is None:
        return Hyperparameters.model_validate(values)
    path = Path(config)
    try:
        given = tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    for section, keys in given.items():
        if isinstance(keys, dict):
            values.setdefault(section, {}).update(keys)
        else:
            values[section] = keys
    try:
        return Hyperparameters.model_validate(values)
    except ValidationError as error:
        faults = _faults(error)
        raise ConfigError(f"{path} has {len(faults)} fault{'s' * (len(faults) > 1)}: " + "; ".join(faults)) from None


def _clamped(value: float, least: int, most: int) -> int:
    return min(most, max(least, round(value)))


def _faults(error: ValidationError) -> list[str]:
    """Return one line a key; where a key takes one kind of value or another, pydantic has a complaint of each kind."""
    complaints: dict[tuple[int | str, ...], list[ErrorDetails]] = {}
    for complaint in error.errors():
        place = complaint["loc"]
        is_of_a_kind = len(place) > 2 and not _known_keys(place[:2])
        complaints.setdefault(place[:2] if is_of_a_kind else place, []).append(complaint)
    return [
        _fault(place, found[0]["type"], " or ".join(complaint["msg"] for complaint in found), found[0].get("input"))
        for place, found in complaints.items()
    ]


def _fault(place: tuple[int | str, ...], kind: str, message: str, value: object) -> str:
    where = ".".join(map(str, place))
    if kind != "extra_forbidden":
        return f"{where}: {message.replace('Input', 'input')}, found {value!r}"
    known = _known_keys(place[:-1])
    close = difflib.get_close_matches(str(place[-1]), known, n=1)
    return f"{where}: unknown key" + (
        f", did you mean {close[0]}?" if close else f", expected one of {', '.join(known)}"
    )


def _known_keys(place: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Hyperparameters
    for part in place:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
