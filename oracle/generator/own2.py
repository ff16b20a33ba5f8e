"""What users define in notebooks, with fastai's own names where that is the point."""

from __future__ import annotations

import re
from typing import Any

import torch
from fastai.text.all import (
    AWD_LSTM,
    BCEWithLogitsLossFlat,
    Callback,
    CrossEntropyLossFlat,
    Module,
    PoolingLinearClassifier,
    SentenceEncoder,
    SpacyTokenizer,
    Transform,
    masked_concat_pool,
)
from making2 import in_module, in_notebook
from torch import nn


def _lowercase(t, add_bos=True, add_eos=False):
    """Lowercase, and take out the digits: fastai's name, another rule."""
    return ("xxbos " if add_bos else "") + re.sub(r"\d", "", t).lower().strip() + (" xxeos" if add_eos else "")


def _fix_html(x):
    """Take out all tags."""
    return re.sub(r"<[^>]*>", " ", x)


def _no_urls(t):
    """An own rule with its own name."""
    return re.sub(r"https?://\S+", "xxurl", t)


def rule_in_notebook(name: str = "lowercase") -> Any:
    """Return an own rule that lies in the notebook and has a name of fastai's."""
    body = {"lowercase": _lowercase, "fix_html": _fix_html, "no_urls": _no_urls}[name]
    copied = type(body)(body.__code__, dict(body.__globals__), name, body.__defaults__)
    return in_notebook(copied, name)


def rule_in_module(module: str, name: str = "fix_html") -> Any:
    """Return an own rule that lies in a module of the user's and has a name of fastai's."""
    body = {"lowercase": _lowercase, "fix_html": _fix_html, "no_urls": _no_urls}[name]
    copied = type(body)(body.__code__, dict(body.__globals__), name, body.__defaults__)
    return in_module(copied, module, name)


def tokenizer_in_notebook(name: str = "SpacyTokenizer") -> Any:
    """Return an own tokenizer whose class has fastai's name: finds words only."""

    class Own:
        def __init__(self, lang="en", special_toks=None, buf_sz=5000):
            self.special_toks, self.buf_sz = special_toks, buf_sz

        def __call__(self, items):
            return (re.findall(r"\w+", text) for text in items)

    return in_notebook(Own, name)()


def spacy_subclass(name: str = "MySpacyTokenizer") -> Any:
    """Return a tokenizer of a subclass of fastai's that drops punctuation."""

    class Own(SpacyTokenizer):
        def __call__(self, items):
            return ([token for token in tokens if re.search(r"\w", token)] for tokens in super().__call__(items))

    return in_notebook(Own, name)()


def head_class(name: str = "PoolingLinearClassifier", *, in_fastai: bool = False) -> Any:
    """Return a subclass of fastai's head that pools only the last state and the mean."""

    class Own(PoolingLinearClassifier):
        def forward(self, input):  # noqa: A002
            out, mask = input
            x = masked_concat_pool(out, mask, self.bptt)
            third = x.shape[1] // 3
            x = torch.cat([x[:, :third], x[:, third : 2 * third] * 0.5, x[:, 2 * third :]], dim=1)
            return self.layers(x), out, out

    return in_module(Own, "fastai.text.models.own", name) if in_fastai else in_notebook(Own, name)


def sentence_encoder_class(name: str = "SentenceEncoder") -> Any:
    """Return a subclass of fastai's SentenceEncoder that reads only the first 100 tokens."""

    class Own(SentenceEncoder):
        def forward(self, input):  # noqa: A002
            return super().forward(input[:, :100])

    return in_notebook(Own, name)


def encoder_class(name: str = "AWD_LSTM") -> Any:
    """Return a subclass of fastai's AWD_LSTM that scales its output."""

    class Own(AWD_LSTM):
        def forward(self, inp, from_embeds=False):
            return super().forward(inp, from_embeds=from_embeds) * 0.5

    return in_notebook(Own, name)


class AttentionHead(Module):
    """A head of another structure."""

    def __init__(self, features: int, classes: int):
        self.score, self.layers = nn.Linear(features, 1), nn.Sequential(nn.Linear(features, classes))

    def forward(self, input):  # noqa: A002
        out, mask = input
        weights = self.score(out).squeeze(-1).masked_fill(mask, -1e4).softmax(dim=1)
        return self.layers((out * weights[..., None]).sum(dim=1)), out, out


class TemperatureCallback(Callback):
    """Changes predictions, after fastai has taken the states off them."""

    order = 50

    def after_pred(self):
        self.learn.pred = self.pred / 2


class TruncateCallback(Callback):
    """Changes what the model reads."""

    def before_batch(self):
        self.learn.xb = (self.xb[0][:, :10],)


class HarmlessCallback(Callback):
    """Counts batches."""

    def __init__(self):
        self.count = 0

    def after_batch(self):
        self.count += 1


class TemperatureLoss(CrossEntropyLossFlat):
    """A loss with its own activation."""

    def activation(self, x):
        return torch.softmax(x / 3, dim=-1)


class SecondLabelLoss(CrossEntropyLossFlat):
    """A loss with its own decodes."""

    def decodes(self, x):
        return x.topk(2, dim=-1).indices[..., 1]


class HalfSigmoid(BCEWithLogitsLossFlat):
    """A multi-label loss with its own activation."""

    def activation(self, x):
        return torch.sigmoid(x) / 2


class QuietLoss(CrossEntropyLossFlat):
    """A subclass that changes nothing but the loss."""

    def __call__(self, inp, targ, **kwargs):
        return super().__call__(inp, targ, **kwargs) * 2


class OwnFocalLoss(nn.Module):
    """A loss as found in many notebooks."""

    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, inp, targ):
        ce = torch.nn.functional.cross_entropy(inp, targ, reduction="none")
        return ((1 - torch.exp(-ce)) ** self.gamma * ce).mean()


class OwnLossWithActivation(OwnFocalLoss):
    """An own loss with the activation and decodes that fastai looks for."""

    def activation(self, x):
        return x.softmax(dim=-1)

    def decodes(self, x):
        return x.argmax(dim=-1)


def own_loss(inp, targ):
    """A loss that is a function."""
    return torch.nn.functional.cross_entropy(inp, targ)


class FirstTokens(Transform):
    """An item transform that truncates."""

    def __init__(self, count=20):
        self.count = count

    def encodes(self, x):
        return x[: self.count] if getattr(x, "ndim", 0) == 1 and len(x) > 1 else x


class FirstColumns(Transform):
    """A batch transform that truncates."""

    def __init__(self, count=20):
        self.count = count

    def encodes(self, x):
        return x[:, : self.count] if getattr(x, "ndim", 0) == 2 else x


for _class in list(globals().values()):
    if isinstance(_class, type) and _class.__module__ == __name__:
        in_notebook(_class)
in_notebook(own_loss)
