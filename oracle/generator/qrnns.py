"""Change the layers of a QRNN encoder as users do who make their own variant. For fastai 1 and 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

MULTIFIT = {"n_layers": 4, "n_hid": 24}
"""The shape of MultiFiT's models, with small widths: window 2 in the first of four layers."""


def encoder_of(learn: Any) -> Any:
    """Return the encoder of a classifier or a language model."""
    return getattr(learn.model[0], "module", learn.model[0])


def remade(**options: Any) -> Callable[[Any], None]:
    """Return a function that makes all QRNNs anew with other options. Windows are a list: one per layer."""
    from fastai.text.models.qrnn import QRNN

    windows = options.pop("windows", [2, 1, 1, 1])

    def change(learn: Any) -> None:
        encoder = encoder_of(learn)
        for number, (old, window) in enumerate(zip(encoder.rnns, windows, strict=False)):
            dropout = old.layers[0].linear
            linear = dropout.module
            sizes = linear.in_features // old.layers[0].window, linear.out_features // 3
            given = {"save_prev_x": True, "window": window, **options}
            encoder.rnns[number] = QRNN(*sizes, given.pop("n_layers", 1), **given)
            for layer in encoder.rnns[number].layers:
                layer.linear = type(dropout)(layer.linear, 0.5, layer_names=["weight"])

    return change


def layers_with(**attributes: Any) -> Callable[[Any], None]:
    """Return a function that sets attributes of the first QRNN layer."""

    def change(learn: Any) -> None:
        for name, value in attributes.items():
            setattr(encoder_of(learn).rnns[0].layers[0], name, value)

    return change


def without_weight_dropout(learn: Any) -> None:
    """Take the weight dropout off the first layer."""
    layer = encoder_of(learn).rnns[0].layers[0]
    linear = layer.linear.module
    raw = layer.linear.weight_raw.data
    if "weight" in vars(linear):
        del linear.weight
    linear._parameters["weight"] = torch.nn.Parameter(raw)
    layer.linear = linear


def after_a_text(learn: Any) -> None:
    """Leave the state of a text in the model: cells and the previous token."""
    with torch.no_grad():
        learn.predict("The parcel came late, and the box was broken. " * 9)
        encoder_of(learn)(torch.tensor([[5, 9, 11]]))  # nothing resets the model after this
    assert encoder_of(learn).rnns[0].layers[0].prevX is not None


def hooked(learn: Any) -> None:
    """Add a hook to a QRNN layer."""
    import own1

    encoder_of(learn).rnns[0].layers[0].register_forward_hook(own1.halving_hook)


def with_old_names(learn: Any, folder: Path) -> dict[str, str]:
    """Rename the saved tensors as fastai up to 1.0.49 does, which has no list of layers."""
    (path,) = folder.glob("*.pth")
    saved = torch.load(path)
    state = saved.get("model", saved)
    renamed = {name.replace("layers.0.linear", "linear"): tensor for name, tensor in state.items()}
    assert renamed.keys() != state.keys()
    torch.save(renamed, path)
    return {}
