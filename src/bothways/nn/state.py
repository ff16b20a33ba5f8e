"""The state that an encoder carries from one window of tokens to the next. It is passed in and returned, never kept.

Shapes: B texts.
"""

from __future__ import annotations

from torch import Tensor

LayerState = dict[str, Tensor]
"""What a layer carries, by name, such as ``cell``. Each tensor is (B, size)."""

State = list[LayerState]
"""What each layer carries, from first to last."""


def detached(state: State) -> State:
    """Return a state through which no gradient flows."""
    return [{name: values.detach() for name, values in layer.items()} for layer in state]
