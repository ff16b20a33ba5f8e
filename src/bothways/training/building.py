"""Make models in memory from sizes or from a pack, and give their weights and their own numbers back.

In: an architecture, a direction, maybe a pack. Out: modules on a device; arrays by the names that bundles use; proof
rows. A pack that reads the other way is refused here.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from bothways.bundle.manifest import Architecture, Member
from bothways.bundle.proof import ENSEMBLE, ProofRow, proof_texts
from bothways.bundle.read import Bundle
from bothways.bundle.weights import matched_rows, member_shapes
from bothways.errors import ConfigError
from bothways.nn.awd_lstm import Dropouts, Encoder, LanguageModel
from bothways.nn.classifier import Classifier, Head
from bothways.text.reading import Direction, read, require_direction
from bothways.text.tokenizer import Tokenizer
from bothways.training.recipe import ClassifierRecipe

Arrays = dict[str, NDArray[np.float32]]
_ROWS_ARE_WORDS = ("encoder.embedding.weight", "decoder.bias")


def derived_seed(seed: int, *purpose: str) -> int:
    """Give a seed for one purpose, so that the directions and stages of a run don't depend on each other."""
    return zlib.crc32("/".join([str(seed), *purpose]).encode())


def choose_device(name: str) -> torch.device:
    """Give the device to train on.

    Raises:
        ConfigError: It is neither cpu nor cuda, or there is no GPU.
    """
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"the device {name!r} is unknown, expected cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("the device cuda was asked for, but torch finds no GPU: use --device cpu")
    return torch.device(name)


def adapted_pack(pack: Bundle, texts: Iterable[str]) -> Bundle:
    """Give a pack whose words are those of the texts to train on, if its tokens are words; any other as it is.

    Embeddings are matched as in ULMFiT, for each direction its own: words that the pack knows keep their rows, all
    others begin as the mean of its rows.
    """
    tokenizer = pack.tokenizer.adapted(texts)
    if tokenizer is pack.tokenizer:
        return pack
    old, new = (known.tokens(range(len(known))) for known in (pack.tokenizer, tokenizer))
    number = {word: position for position, word in enumerate(old)}
    rows = np.array([number.get(word, -1) for word in new])
    weights = {
        direction: {
            name: matched_rows(array, rows, array.mean(axis=0)) if name in _ROWS_ARE_WORDS else array
            for name, array in arrays.items()
        }
        for direction, arrays in pack.weights.items()
    }
    members = [
        member.model_copy(
            update={"architecture": member.architecture.model_copy(update={"vocabulary_size": len(tokenizer)})}
        )
        for member in pack.manifest.members
    ]
    manifest = pack.manifest.model_copy(update={"members": members})
    return dataclasses.replace(pack, manifest=manifest, tokenizer=tokenizer, weights=weights)


def build_language_model(
    architecture: Architecture, direction: Direction, pack: Bundle | None, seed: int, device: torch.device
) -> LanguageModel:
    """Give a language model that reads in a direction, fresh or from a pack.

    Law 1: a pack's model of the other direction is refused.

    Raises:
        DirectionError: The pack has no model that reads this way.
    """
    torch.manual_seed(seed)
    model = LanguageModel(Encoder(architecture, direction, Dropouts()))
    if pack is not None:
        require_direction(direction, pack.manifest.directions, pack.name)
        model.load_state_dict({name: torch.from_numpy(array) for name, array in pack.weights[direction].items()})
    if device.type == "cuda":
        model.encoder.compute_type = torch.bfloat16
    return model.to(device)


def build_classifier(
    language_model: LanguageModel, direction: Direction, classes: int, recipe: ClassifierRecipe, seed: int
) -> Classifier:
    """Give a classifier on a language model's encoder, with a fresh head.

    Raises:
        DirectionError: The language model reads the other way.
    """
    require_direction(direction, [language_model.direction], "the language model")
    torch.manual_seed(seed)
    encoder = language_model.encoder
    head = Head(3 * encoder.architecture.width_embedding, recipe.width_head, classes, recipe.dropout_head)
    return Classifier(encoder, head.to(encoder.embedding.weight.device))


def weights_of(model: nn.Module, member: Member, classes: int) -> Arrays:
    """Give a model's weights by the names that its bundle's file has."""
    state = model.state_dict()
    return {name: state[name].detach().cpu().float().numpy() for name in member_shapes(member, classes)}


@torch.no_grad()
def prove_classifiers(
    models: Mapping[Direction, Classifier],
    members: Sequence[Member],
    labels: Sequence[str],
    tokenizer: Tokenizer,
    seed: int,
) -> list[ProofRow]:
    """Give what the models in memory say of the proof's texts, each text read alone in float32."""
    rows = []
    placement = {member.direction: member.markers for member in members}
    for model in models.values():
        _prepare_for_proof(model.encoder).train(False)
        model.train(False)
    for text in proof_texts(tokenizer, seed):
        tokens = tokenizer.tokenize(text)
        probabilities = {}
        for direction, model in models.items():
            ids = torch.from_numpy(read(tokens, direction, placement[direction]).astype(np.int64))[None]
            logits, _, _ = model(ids, torch.tensor([len(tokens)]))
            probabilities[str(direction)] = functional.softmax(logits[0].double(), dim=0).numpy()
        probabilities[ENSEMBLE] = np.mean(list(probabilities.values()), axis=0)
        numbers = {name: dict(zip(labels, row.tolist(), strict=True)) for name, row in probabilities.items()}
        rows.append(ProofRow(text=text, ids=tokens.ids.tolist(), probabilities=numbers))
    return rows


@torch.no_grad()
def prove_language_models(
    models: Mapping[Direction, LanguageModel], members: Sequence[Member], tokenizer: Tokenizer, seed: int
) -> list[ProofRow]:
    """Give the loss of the models in memory on the proof's texts, each text read alone in float32."""
    rows = []
    placement = {member.direction: member.markers for member in members}
    for model in models.values():
        _prepare_for_proof(model.encoder)
        model.train(False).cpu()
    for text in proof_texts(tokenizer, seed):
        tokens = tokenizer.tokenize(text)
        loss = {}
        for direction, model in models.items():
            ids = torch.from_numpy(read(tokens, direction, placement[direction]).astype(np.int64))
            if len(ids) < 2:
                loss[str(direction)] = 0.0
                continue
            logits, _, _, _ = model(ids[None, :-1], model.encoder.zero_state(1))
            loss[str(direction)] = functional.cross_entropy(logits[0].double(), ids[1:]).item()
        rows.append(ProofRow(text=text, ids=tokens.ids.tolist(), loss=loss))
    return rows


def _prepare_for_proof(encoder: Encoder) -> Encoder:
    encoder.compute_type = torch.float32
    return encoder
