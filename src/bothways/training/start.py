"""Choose what a training starts from: a pack of language models, or nothing.

In: the option ``pretrained``, a model size and the texts. Out: a pack or None, and one line that says why. Imports no
torch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bothways.bundle.manifest import EncoderKind, Kind
from bothways.bundle.packs import NO_PACK, pack_path
from bothways.bundle.read import Bundle, read_bundle, read_manifest
from bothways.errors import ConfigError, path_text
from bothways.text.coverage import LEAST_KNOWN_SHARE, coverage
from bothways.text.fields import Text
from bothways.training.choices import Size
from bothways.training.reports import StageReport

AUTO = "auto"
"""The value of ``pretrained`` that chooses by the texts."""
DEFAULT_PACK = "en-small"
DEFAULT_SIZE: Size = "small"
_STAGE = "start"

Pretrained = str | os.PathLike[str] | None
"""``auto``, ``none`` or None, the name of a pack, or the path of a pack or classifier, or a reference to the Hub."""


@dataclass(frozen=True)
class Start:
    """What a training starts from.

    Attributes:
        pack: Language models to start from, or None to train from scratch.
        size: Preset of hyperparameters; None where the pack fixes the model size.
        reason: Why ``auto`` trains from scratch, as the end of a sentence. Empty if the texts decide.
    """

    pack: Bundle | None
    size: Size | None
    reason: str = ""

    @property
    def kind(self) -> str:
        """What it is called in a message: a pack, or a classifier of which only the encoders are taken."""
        return "pack" if self.pack is None or self.pack.manifest.kind is Kind.LANGUAGE_MODEL else "classifier"


def read_start(
    pretrained: Pretrained,
    size: Size | None,
    encoder: EncoderKind | None = None,
    *,
    may_replace_layers: bool = False,
) -> Start:
    """Return what a training starts from, as far as it is known before the texts are.

    A classifier's encoders are taken as language models. ``auto`` is the default pack until ``chosen_start`` has seen
    the texts, or nothing if a size or an encoder of another kind is given.

    Args:
        pretrained: The option.
        size: The size that was requested; None for the default.
        encoder: The kind of encoder that was requested; None for that of the pack or the default.
        may_replace_layers: If an encoder of another kind is requested, take tokenizer, embedding and decoder from the
            pack, but not the layers. Otherwise such a request is refused.

    Raises:
        ConfigError: A size, or an encoder of another kind, is given together with a pack.
        BundleError: The pack cannot be read.
    """
    if pretrained is None or pretrained == NO_PACK:
        return Start(None, size or DEFAULT_SIZE)
    if pretrained == AUTO and size is not None:
        return Start(None, size, ", because --size is given and packs fix the model size")
    if size is not None:
        raise ConfigError(
            f"--size cannot be combined with --pretrained {os.fspath(pretrained)}: the pack fixes the model size. "
            "Drop --size, or train from scratch with --pretrained none"
        )
    path = pack_path(DEFAULT_PACK if pretrained == AUTO else pretrained)
    manifest = read_manifest(path)
    kinds = {member.architecture.kind for member in manifest.members}
    other_kind = encoder if encoder is not None and kinds != {encoder} else None
    if other_kind is not None and not may_replace_layers:
        name, theirs = path_text(path.name), " and ".join(sorted(kinds))
        if pretrained == AUTO:
            reason = f", because the encoder {other_kind} is requested and that of the pack {name} is {theirs}"
            return Start(None, DEFAULT_SIZE, reason)
        raise ConfigError(
            f"the encoder {other_kind} is requested, but that of {name} is {theirs}, and a pack fixes its encoder. "
            "Drop --encoder or encoder.kind, or train from scratch"
        )
    found = read_bundle(path, manifest.kind)
    pack = found if manifest.kind is Kind.LANGUAGE_MODEL else _language_models_of(found)
    return Start(pack if other_kind is None else _without_layers(pack, other_kind), None)


def _language_models_of(classifier: Bundle) -> Bundle:
    """Return the encoders of a classifier as language models, which predict tokens by their embeddings alone."""
    manifest = classifier.manifest
    members = [member.model_copy(update={"widths_head": None, "pooling": None}) for member in manifest.members]
    weights = {
        direction: {
            **{name: array for name, array in arrays.items() if name.startswith("encoder.")},
            "decoder.bias": np.zeros(len(classifier.tokenizer), dtype=np.float32),
        }
        for direction, arrays in classifier.weights.items()
    }
    changes = {"members": members, "linear": None}
    return replace(classifier, manifest=manifest.model_copy(update=changes), weights=weights, linear=None)


def _without_layers(pack: Bundle, kind: EncoderKind) -> Bundle:
    """Return a pack with another kind of encoder of the same sizes. The weights of its layers are missing."""
    of_kind = {"kind": kind, "first_window": 1, "output_gate": True}
    members = [
        member.model_copy(update={"architecture": member.architecture.model_copy(update=of_kind)})
        for member in pack.manifest.members
    ]
    weights = {
        direction: {name: array for name, array in arrays.items() if not name.startswith("encoder.layers.")}
        for direction, arrays in pack.weights.items()
    }
    return replace(pack, manifest=pack.manifest.model_copy(update={"members": members}), weights=weights)


def chosen_start(start: Start, pretrained: Pretrained, texts: Sequence[Text]) -> tuple[Start, StageReport]:
    """Return what a training on these texts starts from, and a report that says why.

    Args:
        start: What ``read_start`` returned.
        pretrained: The option. Only ``auto`` depends on the texts; a pack that was named is used with a warning if it
            does not know their language.
        texts: Texts to train on.
    """
    if start.pack is None:
        return start, StageReport(_STAGE, f"from scratch, size {start.size}{start.reason}")
    name = Path(start.pack.name).name
    found = coverage(start.pack.tokenizer, texts)
    facts: dict[str, object] = {"known_letters": found.known, "fragments": found.fragments}
    share = f"{found.known:.0%} of their letters are in words that it knows"
    if pretrained == AUTO and not found.is_sufficient:
        message = (
            f"from scratch, size {DEFAULT_SIZE}, because the texts are not in the language of the pack {name}: "
            f"{share}, at least {LEAST_KNOWN_SHARE:.0%} are needed"
        )
        return Start(None, DEFAULT_SIZE), StageReport(_STAGE, message, facts=facts)
    if pretrained == AUTO or not found.is_doubtful:
        reason = f", because it knows the language of the texts: {share}" if pretrained == AUTO else ""
        return start, StageReport(_STAGE, f"from the {start.kind} {name}{reason}", facts=facts)
    message = (
        f"the texts do not seem to be in the language of the {start.kind} {name}: {share}. "
        "Compare with --pretrained none, or pretrain a pack on such texts"
    )
    return start, StageReport(_STAGE, message, is_warning=True, facts=facts)
