"""What users of fastai 1 define in notebooks, with fastai's own names where that is the point."""

from __future__ import annotations

import re
from typing import Any

import torch
from making1 import fastai_text, in_notebook, placed
from torch import nn


def _fix_html(x):
    """Take out all tags: fastai's name, another rule."""
    return re.sub(r"<[^>]*>", " ", x)


def _replace_rep(t):
    """Shorten repetitions."""
    return re.sub(r"(\S)(\1{3,})", r"\1\1", t)


def _deal_caps(x):
    """Lowercase without marks."""
    return [t.lower() for t in x]


def _no_urls(t):
    """An own rule with its own name."""
    return re.sub(r"https?://\S+", "xxurl", t)


def _drop_short(tokens):
    """Drop short tokens."""
    return [token for token in tokens if len(token) > 2]


BODIES = {
    "fix_html": _fix_html,
    "replace_rep": _replace_rep,
    "deal_caps": _deal_caps,
    "no_urls": _no_urls,
    "drop_short": _drop_short,
}


def rule(name: str, module: str = "__main__") -> Any:
    """Return an own rule, with the name of one of fastai's or its own, in a module."""
    body = BODIES[name]
    copied = type(body)(body.__code__, dict(body.__globals__), name, body.__defaults__)
    return placed(copied, module, name)


def tokenizer_class(name: str, module: str = "__main__") -> Any:
    """Return a subclass of fastai's spaCy tokenizer that drops punctuation."""

    class Own(fastai_text.SpacyTokenizer):
        def tokenizer(self, t):
            return [token for token in super().tokenizer(t) if re.search(r"\w", token)]

    return placed(Own, module, name)


def head_class(name: str = "PoolingLinearClassifier", module: str = "__main__") -> Any:
    """Return a subclass of fastai's head that halves its scores."""
    from fastai.text.learner import PoolingLinearClassifier

    class Own(PoolingLinearClassifier):
        def forward(self, input):  # noqa: A002
            x, *rest = super().forward(input)
            return (x / 2, *rest)

    return placed(Own, module, name)


def sentence_encoder_class(name: str = "MultiBatchEncoder", module: str = "__main__") -> Any:
    """Return a subclass of fastai's encoder wrapper that reads only the first 100 tokens."""
    from fastai.text.learner import MultiBatchEncoder

    class Own(MultiBatchEncoder):
        def forward(self, input):  # noqa: A002
            return super().forward(input[:, :100])

    return placed(Own, module, name)


def encoder_class(name: str = "AWD_LSTM", module: str = "__main__") -> Any:
    """Return a subclass of fastai's AWD_LSTM that halves its states."""

    class Own(fastai_text.AWD_LSTM):
        def forward(self, input, from_embeddings=False):  # noqa: A002
            raw, outputs = super().forward(input, from_embeddings)
            return raw, [output / 2 for output in outputs]

    return placed(Own, module, name)


class FocalLoss(nn.Module):
    """A loss as found in many notebooks."""

    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, inp, targ):
        ce = torch.nn.functional.cross_entropy(inp, targ, reduction="none")
        return ((1 - torch.exp(-ce)) ** self.gamma * ce).mean()


class CrossEntropyLoss(FocalLoss):
    """An own loss with torch's name: fastai 1 goes by the name."""


def flattened(loss):
    """Return fastai 1's FlattenedLoss of a loss, without the annotations of today's torch, which can't be pickled."""
    made = fastai_text.FlattenedLoss(loss)
    made.__annotations__ = {}
    return made


class TextListOfMine(fastai_text.TextList):
    """A subclass of the list that reads only the first 20 tokens."""

    def get(self, i):
        text = super().get(i)
        if hasattr(text, "data"):
            text.data = text.data[:20]
        return text


class QuietTextList(fastai_text.TextList):
    """A subclass of the list that changes nothing."""


class TruncateProcessor(fastai_text.PreProcessor):
    """A processor that truncates."""

    def __init__(self, ds=None):
        self.count = 20

    def process_one(self, item):
        return item[: self.count]

    def process(self, ds):
        ds.items = [self.process_one(item) for item in ds.items]


class OwnTokenizeProcessor(fastai_text.TokenizeProcessor):
    """A subclass of fastai's processor that lowercases first."""

    def process_one(self, item):
        return super().process_one(item.lower())


class OwnLearner(fastai_text.RNNLearner):
    """A learner with its own predict."""

    def predict(self, item, **kwargs):
        label, number, scores = super().predict(item, **kwargs)
        return label, number, scores**0.5 / (scores**0.5).sum()


class TemperatureCallback(fastai_text.Callback):
    """Changes predictions."""

    def __init__(self, by=2):
        self.by = by

    def on_loss_begin(self, last_output, **kwargs):
        if isinstance(last_output, tuple):  # before fastai has taken the states off the scores
            return {"last_output": (last_output[0] / self.by, *last_output[1:])}
        return {"last_output": last_output / self.by}


class HarmlessCallback(fastai_text.Callback):
    """Does nothing."""

    def __init__(self, note=""):
        self.note = note


def own_loss(inp, targ):
    """A loss that is a function."""
    return torch.nn.functional.cross_entropy(inp, targ)


def halving_hook(module: Any, arguments: Any, output: Any) -> Any:
    """Halve the scores of a head."""
    return (output[0] / 2, *output[1:])


def multifit_classes(name: str = "SPProcessor2") -> tuple[Any, Any]:
    """Return classes that stand for MultiFiT's: its processor, and its cleaning function, which changes nothing here.

    The real function splits texts with Moses.
    """
    from fastai.text import SPProcessor

    class Own(SPProcessor):
        pass

    class Moses:
        def __call__(self, t):
            return t

    module = "fastai_contrib.text_data"
    return placed(Own, module, name), placed(Moses, module, "MosesPreprocessingFunc")


def with_own_qrnn(learn: Any) -> None:
    """Make the first QRNN layer one of a notebook's class, which has fastai's name and halves its outputs."""
    from fastai.text.models.qrnn import QRNNLayer

    class Own(QRNNLayer):
        def forward(self, inp, hid=None):
            output, last = super().forward(inp, hid)
            return output / 2, last

    layer = learn.model[0].module.rnns[0].layers[0]
    layer.__class__ = placed(Own, "__main__", "QRNNLayer")


for _thing in list(globals().values()):
    if isinstance(_thing, type) and _thing.__module__ == __name__:
        in_notebook(_thing)
in_notebook(own_loss)
in_notebook(halving_hook)
