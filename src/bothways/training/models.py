"""Build torch models from an architecture or a pack, and return their weights and their parity records.

In: an architecture, a direction, possibly a pack. Out: modules on a device; arrays by the tensor names of bundles; rows
of parity records. A pack that reads in the other direction is refused here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from bothways.bundle.manifest import Architecture, Member
from bothways.bundle.parity import ENSEMBLE, ParityRow, by_column, parity_texts, parity_texts_with_fields
from bothways.bundle.read import Bundle
from bothways.bundle.weights import matched_rows, member_shapes
from bothways.errors import ConfigError, quoted
from bothways.nn.classifier import ClassifierNetwork, HeadNetwork
from bothways.nn.encoder import Dropouts, EncoderNetwork
from bothways.nn.language_model import LanguageModelNetwork
from bothways.tasks.metrics import Scores
from bothways.tasks.task import Task
from bothways.text.fields import Text
from bothways.text.reading import Direction, SpecialTokenPlacement, read, require_direction
from bothways.text.tokenizer import Tokenizer
from bothways.training.hyperparameters import ClassifierConfig
from bothways.training.language_model import in_float32
from bothways.training.objective import Objective

Arrays = dict[str, NDArray[np.float32]]
_ROWS_ARE_WORDS = ("encoder.embedding.weight", "decoder.bias")


def choose_device(name: str) -> torch.device:
    """Return the device to train on.

    Raises:
        ConfigError: It is neither cpu nor cuda, or there is no GPU.
    """
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"unknown device {quoted(name)}; use cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda was requested, but torch finds no GPU; use --device cpu")
    return torch.device(name)


def pack_with_field_token(pack: Bundle) -> Bundle:
    """Return a pack whose tokenizer joins the fields of a text.

    A field token that is new to the vocabulary gets its last id and starts with the mean of all rows.
    """
    tokenizer = pack.tokenizer.with_field_token()
    known = len(pack.tokenizer)
    return _with_tokenizer(pack, tokenizer, np.array([*range(known), *[-1] * (len(tokenizer) - known)]))


def adapted_pack(pack: Bundle, texts: Iterable[Text]) -> Bundle:
    """Return a pack with the vocabulary of the training texts if its tokens are words; other packs are unchanged.

    Embeddings are matched as in ULMFiT, separately for each direction: known words keep their rows, and new words start
    with the mean of all rows.
    """
    tokenizer = pack.tokenizer.adapted(texts)
    if tokenizer is pack.tokenizer:
        return pack
    old, new = (known.tokens(range(len(known))) for known in (pack.tokenizer, tokenizer))
    number = {word: position for position, word in enumerate(old)}
    return _with_tokenizer(pack, tokenizer, np.array([number.get(word, -1) for word in new]))


def _with_tokenizer(pack: Bundle, tokenizer: Tokenizer, rows: NDArray[np.intp]) -> Bundle:
    """Return a pack with another tokenizer.

    Args:
        pack: The pack.
        tokenizer: Its new tokenizer.
        rows: The former id of each id, (V,), or -1 for a new token, which starts with the mean of all rows.
    """
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


def fast_type(device: torch.device) -> torch.dtype:
    """Return the fastest type for training: bfloat16 on GPUs and on CPUs with AMX or AVX-512 BF16, else float32."""
    multiplies_bfloat16 = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if device.type == "cuda" or multiplies_bfloat16 else torch.float32


def build_language_model(architecture: Architecture, direction: Direction, seed: int) -> LanguageModelNetwork:
    """Return a language model with random weights that reads in a direction."""
    torch.manual_seed(seed)
    return LanguageModelNetwork(EncoderNetwork(architecture, direction, Dropouts()))


def build_classifier(
    language_model: LanguageModelNetwork, direction: Direction, classes: int, config: ClassifierConfig, seed: int
) -> ClassifierNetwork:
    """Return a classifier with a language model's encoder and a random head.

    Raises:
        DirectionError: The language model reads in the other direction.
    """
    require_direction(direction, [language_model.direction], "the language model")
    torch.manual_seed(seed)
    encoder = language_model.encoder
    head = HeadNetwork(3 * encoder.architecture.width_embedding, config.head_size, classes, config.head_dropout)
    return ClassifierNetwork(encoder, head.to(encoder.embedding.weight.device))


def weights_of(model: nn.Module, member: Member, classes: int) -> Arrays:
    """Return a model's weights by their tensor names in a bundle."""
    state = model.state_dict()
    return {name: state[name].detach().cpu().float().numpy() for name in member_shapes(member, classes)}


@torch.no_grad()
def parity_scores(
    model: ClassifierNetwork,
    placement: SpecialTokenPlacement,
    objective: Objective,
    tokenizer: Tokenizer,
    seed: int,
    fields: int = 1,
) -> Scores:
    """Return the scores of a model in memory for the parity texts, (texts, C), each read alone in float32."""
    model.train(False).cpu()
    rows = []
    with in_float32(model.encoder):
        for text in parity_texts_with_fields(tokenizer, seed, fields):
            ids = _read(text, model.direction, placement, tokenizer)
            logits, _, _ = model(ids[None], torch.tensor([len(ids)]))
            rows.append(objective.scores(logits)[0])
    return np.array(rows)


@torch.no_grad()
def parity_losses(
    model: LanguageModelNetwork, placement: SpecialTokenPlacement, tokenizer: Tokenizer, seed: int
) -> NDArray[np.float64]:
    """Return the loss of a model in memory on the parity texts, (texts,), each read alone in float32."""
    model.train(False).cpu()
    losses = []
    with in_float32(model.encoder):
        for text in parity_texts(tokenizer, seed):
            ids = _read(text, model.direction, placement, tokenizer)
            if len(ids) < 2:
                losses.append(0.0)
                continue
            logits, _ = model.logits(ids[None, :-1], model.encoder.zero_state(1))
            losses.append(functional.cross_entropy(logits[0].double(), ids[1:]).item())
    return np.array(losses)


def classifier_parity_record(
    scores: Mapping[str, Scores],
    ensemble: Scores,
    task: Task,
    tokenizer: Tokenizer,
    seed: int,
    columns: Sequence[str] = (),
) -> list[ParityRow]:
    """Return the rows of a parity record from the members' scores for its texts, each (texts, C)."""
    by_name = {**scores, ENSEMBLE: ensemble}
    return [
        ParityRow.of_scores(
            by_column(text, columns),
            tokenizer.tokenize(text).ids.tolist(),
            {name: rows[number] for name, rows in by_name.items()},
            task,
        )
        for number, text in enumerate(parity_texts_with_fields(tokenizer, seed, max(1, len(columns))))
    ]


def language_model_parity_record(
    losses: Mapping[Direction, NDArray[np.float64]], tokenizer: Tokenizer, seed: int
) -> list[ParityRow]:
    """Return the rows of a parity record from the models' losses on its texts, each (texts,)."""
    return [
        ParityRow(
            text=text,
            ids=tokenizer.tokenize(text).ids.tolist(),
            loss={str(direction): float(rows[number]) for direction, rows in losses.items()},
        )
        for number, text in enumerate(parity_texts(tokenizer, seed))
    ]


def _read(text: Text, direction: Direction, placement: SpecialTokenPlacement, tokenizer: Tokenizer) -> Tensor:
    return torch.from_numpy(read(tokenizer.tokenize(text), direction, placement).astype(np.int64))
