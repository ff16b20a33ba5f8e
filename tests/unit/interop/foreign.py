"""Files in fastai's formats, made with torch and without fastai. Parity is tested with files of the real fastai."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bothways.nn.classifier import ClassifierNetwork
from bothways.nn.language_model import LanguageModelNetwork
from tests.unit.interop.exports import State


def fastai_state(model: LanguageModelNetwork | ClassifierNetwork, version: int = 2) -> State:
    """Return a model's weights by fastai's names."""
    ours = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    before = "0." if isinstance(model, LanguageModelNetwork) else "0.module."
    state: State = {}
    for copy in ("encoder.weight", "encoder_dp.emb.weight"):
        state[before + copy] = ours["encoder.embedding.weight"]
    sizes = model.encoder.architecture
    for layer in range(sizes.layers):
        rnn, part = f"{before}rnns.{layer}.", f"encoder.layers.{layer}."
        if sizes.kind == "qrnn":
            linear, weight = f"{rnn}layers.0.linear.", ours[f"{part}weight"]
            if sizes.layer_windows[layer] == 2:  # ours reads the token before first
                weight = np.hstack(np.split(weight, 2, axis=1)[::-1])
            dropped = f"{linear}weight_raw", f"{linear}module.weight", weight
            state[f"{linear}module.bias"] = ours[f"{part}bias"]
        else:
            dropped = f"{rnn}weight_hh_l0_raw", f"{rnn}module.weight_hh_l0", ours[f"{part}weight_hh"]
            for name in ("weight_ih", "bias_ih", "bias_hh"):
                state[f"{rnn}module.{name}_l0"] = ours[f"{part}{name}"]
        state[dropped[0]] = dropped[2]
        if version == 1:
            state[dropped[1]] = dropped[2] * 2  # what a dropout left of it
    if isinstance(model, LanguageModelNetwork):
        return state | {"1.decoder.weight": ours["encoder.embedding.weight"], "1.decoder.bias": ours["decoder.bias"]}
    for layer in range(2):
        norm, linear = (f"{4 * layer}", f"{4 * layer + 2}") if version == 1 else (f"{layer}.0", f"{layer}.2")
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            state[f"1.layers.{norm}.{name}"] = ours[f"head.norms.{layer}.{name}"]
        for name in ("weight", "bias") if version == 1 else ("weight",):
            state[f"1.layers.{linear}.{name}"] = ours[f"head.layers.{layer}.{name}"]
    return state


def without_biases(model: ClassifierNetwork) -> ClassifierNetwork:
    """Set the biases of the head's linear layers to zero, because fastai v2 has none."""
    for layer in model.head.layers:
        assert isinstance(layer, nn.Linear)
        nn.init.zeros_(layer.bias)
    return model


def save_weights(path: Path, state: State, *, with_optimizer: bool = False, is_legacy: bool = False) -> Path:
    tensors: dict[str, Any] = {name: torch.from_numpy(array.copy()) for name, array in state.items()}
    value = {"model": tensors, "opt": {"state": [1, 2]}} if with_optimizer else tensors
    torch.save(value, path, _use_new_zipfile_serialization=not is_legacy)
    return path


def save_vocabulary(path: Path, words: Sequence[str]) -> Path:
    path.write_bytes(pickle.dumps(list(words), protocol=2))
    return path
