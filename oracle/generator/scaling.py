"""Random weights with which differences show: states of size 1, normalized features, spread scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def spread(model: Any, batches: list[Any], scale: float = 1.5) -> None:
    """Scale the random weights of a new classifier so that its scores differ from text to text.

    The batch normalizations get the mean and variance of what they read, as training would give them.

    Args:
        model: The classifier: an encoder and a head.
        batches: Ids of texts, one tensor (1, length) per text.
        scale: Standard deviation of the scores.
    """
    encoder, head = model[0], model[1]
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, nn.Embedding):
                module.weight.mul_(8 / max(module.weight.abs().max().item() * 8, 1))
                break
        for name, parameter in encoder.named_parameters():
            if is_of_inputs(name):
                parameter.mul_(2)
        norms = [module for module in head.modules() if isinstance(module, nn.BatchNorm1d)]
        model.eval()
        for norm in norms:
            rows = inputs_of(norm, model, batches)
            if rows is not None:
                norm.running_mean.copy_(rows.mean(dim=0))
                norm.running_var.copy_(rows.var(dim=0) + 0.02)
                if norm.affine:
                    norm.weight.copy_(1 + torch.randn(norm.weight.shape) / 4)
                    norm.bias.copy_(torch.randn(norm.bias.shape) / 4)
        linears = [module for module in head.modules() if isinstance(module, nn.Linear)]
        if linears:
            rows = inputs_of(linears[-1], model, batches)
            if rows is not None:
                found = (rows @ linears[-1].weight.T).std(dim=0).mean().item()
                linears[-1].weight.mul_(scale / max(found, 1e-6))


def is_of_inputs(name: str) -> bool:
    """Return whether a weight is of a layer's inputs. Those between states would make rounding errors grow."""
    return "weight_ih" in name or "linear.weight_raw" in name


def inputs_of(module: Any, model: Any, batches: list[Any]) -> Any:
    """Return what a module reads, (texts, features), or None if it reads nothing of that shape."""
    seen: list[Any] = []
    hook = module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach()))
    try:
        for batch in batches:
            reset = getattr(model, "reset", None)
            if reset:
                reset()
            model(batch)
    finally:
        hook.remove()
    rows = [row for row in seen if row.dim() == 2]
    return torch.cat(rows).float() if rows else None


def spread_language_model(model: Any) -> None:
    """Scale the random weights of a new language model so that its losses differ from text to text."""
    with torch.no_grad():
        for module in model[0].modules():
            if isinstance(module, nn.Embedding):
                module.weight.mul_(10)
                break
        for name, parameter in model[0].named_parameters():
            if is_of_inputs(name):
                parameter.mul_(2)
