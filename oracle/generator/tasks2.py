"""Kinds of learners of fastai 2: losses and tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import own2
import torch
from fastai.text.all import (
    BaseLoss,
    BCEWithLogitsLossFlat,
    CategoryBlock,
    CrossEntropyLossFlat,
    F1ScoreMulti,
    FocalLossFlat,
    L1LossFlat,
    LabelSmoothingCrossEntropy,
    LabelSmoothingCrossEntropyFlat,
    MSELossFlat,
    MultiCategoryBlock,
    RegressionBlock,
    SentencePieceTokenizer,
    SigmoidRange,
    TextDataLoaders,
    accuracy_multi,
    mae,
    rmse,
    set_seed,
)
from making2 import in_notebook, loaders, scratch
from rows2 import BOTH, SOFTMAX, row
from table import EXACT, Import, Learner, either, refused
from texts import training_rows
from torch import nn


def losses() -> Iterator[Learner]:
    """Yield losses of single-label classifiers."""
    weight = torch.tensor([1.0, 2.0, 0.5])
    exact: dict[str, Callable[[], Any]] = {
        "cross-entropy-flat": CrossEntropyLossFlat,
        "cross-entropy-weight": lambda: CrossEntropyLossFlat(weight=weight),
        "cross-entropy-smoothing": lambda: CrossEntropyLossFlat(label_smoothing=0.1),
        "cross-entropy-axis-1": lambda: CrossEntropyLossFlat(axis=1),
        "label-smoothing-flat": LabelSmoothingCrossEntropyFlat,
        "label-smoothing": LabelSmoothingCrossEntropy,
        "focal-flat": FocalLossFlat,
        "focal-gamma": lambda: FocalLossFlat(gamma=3.0, weight=weight),
    }
    for name, made in exact.items():
        yield from row(
            "losses", name, "E3", "A loss of fastai with a softmax.", loss_func=made(), in_sample=name == "focal-flat"
        )
    yield from row(
        "losses",
        "cross-entropy-axis-0",
        "E3",
        "axis=0: the softmax goes over the texts.",
        refused("axis"),
        loss_func=CrossEntropyLossFlat(axis=0),
    )
    raw: dict[str, Callable[[], Any]] = {
        "torch-cross-entropy": nn.CrossEntropyLoss,
        "torch-cross-entropy-weight": lambda: nn.CrossEntropyLoss(weight=weight),
        "functional": lambda: torch.nn.functional.cross_entropy,
        "own-function": lambda: own2.own_loss,
        "own-focal": own2.OwnFocalLoss,
        "base-loss": lambda: BaseLoss(nn.CrossEntropyLoss),
        "partial": lambda: partial(torch.nn.functional.cross_entropy, label_smoothing=0.1),
    }
    for name, made in raw.items():
        yield from row(
            "losses",
            name,
            "E3",
            "A loss without fastai's activation: predict returns raw scores.",
            SOFTMAX,
            loss_func=made(),
            in_sample=name == "torch-cross-entropy",
        )


def own_losses() -> Iterator[Learner]:
    """Yield losses with activations and decisions of the user's."""
    yield from row(
        "losses",
        "temperature",
        "E3",
        "A subclass with its own activation.",
        refused("TemperatureLoss"),
        loss_func=own2.TemperatureLoss(),
    )
    yield from row(
        "losses",
        "own-decodes",
        "E3",
        "A subclass with its own decodes.",
        refused("SecondLabelLoss"),
        loss_func=own2.SecondLabelLoss(),
    )
    yield from row(
        "losses",
        "quiet-subclass",
        "E3",
        "A subclass that changes only the loss.",
        either("QuietLoss"),
        loss_func=own2.QuietLoss(),
    )
    yield from row(
        "losses",
        "own-with-activation",
        "E3",
        "An own loss with activation and decodes.",
        refused("OwnLossWithActivation"),
        loss_func=own2.OwnLossWithActivation(),
    )

    def own_activation(learn: Any) -> None:
        learn.loss_func.activation = in_notebook(own_sigmoid)

    yield from row(
        "losses",
        "instance-activation",
        "E3",
        "`activation` replaced on the loss's instance.",
        refused("activation"),
        loss_func=CrossEntropyLossFlat(),
        before=own_activation,
    )

    def own_decodes(learn: Any) -> None:
        learn.loss_func.decodes = in_notebook(own_argmin)

    yield from row(
        "losses",
        "instance-decodes",
        "E3",
        "`decodes` replaced on the loss's instance.",
        refused("decodes"),
        loss_func=CrossEntropyLossFlat(),
        before=own_decodes,
    )

    def axis_after(learn: Any) -> None:
        learn.loss_func.axis = 0

    yield from row(
        "losses",
        "axis-after",
        "E3",
        "axis changed on the loss.",
        refused("axis"),
        loss_func=CrossEntropyLossFlat(),
        before=axis_after,
    )


def own_sigmoid(scores: Any) -> Any:
    """Return scores that do not add up to 1."""
    return scores.sigmoid()


def own_argmin(scores: Any) -> Any:
    """Decide for the least likely label."""
    return scores.argmin(dim=-1)


def labels() -> Iterator[Learner]:
    """Yield labels of every type, and options of the block of categories."""
    rows = training_rows()
    codes = rows["label"].astype("category").cat.codes
    values = {
        "ints": codes.astype("int64"),
        "ints-7": codes.astype("int64") * 7 - 5,
        "int8": codes.astype("int8"),
        "strings-of-ints": codes.astype(str),
        "bools": rows["is_question"],
        "floats": codes.astype("float64") + 0.5,
        "whole-floats": codes.astype("float64"),
        "letters": rows["label"].str[0].str.upper() + ' ü, "x"; <b>',
        "categories": rows["label"].astype("category"),
        "spaces": " " + rows["label"] + " ",
        "mixed-case": rows["label"].str.title(),
    }
    for name, column in values.items():
        yield from row("labels", name, "plain", f"Labels that are {name}.", loading={"rows": rows.assign(label=column)})
    blocks = {
        "vocab-order": CategoryBlock(vocab=["fault", "account", "billing"], sort=False),
        "vocab-sorted": CategoryBlock(vocab=["fault", "account", "billing"]),
        "vocab-more": CategoryBlock(vocab=["account", "billing", "fault", "never"]),
        "add-na": CategoryBlock(add_na=True),
    }
    for name, block in blocks.items():
        yield from row("labels", name, "plain", "Options of CategoryBlock.", loading={"block": block})
    yield from row(
        "labels", "one-class", "plain", "A single label.", either("label"), loading={"rows": rows.assign(label="only")}
    )
    yield from row("labels", "get-y", "plain", "Labels by a lambda.", loading={"get_y": lambda row: row["label"][:1]})


FLAGS = ["is_long", "is_question"]
MULTI = {"block": MultiCategoryBlock, "label": "tags", "label_delim": ";"}


def several(name: str, what: str, imports: Any = EXACT, finding: str = "E6", **more: Any) -> Iterator[Learner]:
    """Yield classifiers with several labels per text."""
    more.setdefault("loading", MULTI)
    return row("multi-label", name, finding, what, imports, task="multi-label", **more)


def multi_label() -> Iterator[Learner]:
    """Yield classifiers with several labels per text."""
    yield from several("plain", "MultiCategoryBlock, label_delim.", ways=BOTH, in_sample=True)
    yield from several(
        "add-na", "MultiCategoryBlock(add_na=True).", loading={**MULTI, "block": MultiCategoryBlock(add_na=True)}
    )
    given = MultiCategoryBlock(vocab=["question", "long", "fault", "billing", "account"])
    yield from several("vocab", "MultiCategoryBlock(vocab=…).", loading={**MULTI, "block": given})
    encoded = {"block": MultiCategoryBlock(encoded=True, vocab=FLAGS), "label": FLAGS}
    yield from several("encoded", "Columns that are one-hot encoded.", ways=BOTH, loading=encoded, in_sample=True)
    for thresh in (0.2, 0.5, 0.8, 0.0, 1.0):
        yield from several(
            f"thresh-{thresh}",
            f"BCEWithLogitsLossFlat(thresh={thresh}).",
            EXACT if thresh < 1 else either("thresh"),
            loss_func=BCEWithLogitsLossFlat(thresh=thresh),
        )
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0])
    yield from several(
        "pos-weight", "BCEWithLogitsLossFlat(pos_weight=…).", loss_func=BCEWithLogitsLossFlat(pos_weight=weight)
    )
    yield from several(
        "metrics",
        "A metric with another threshold than the loss.",
        metrics=[partial(accuracy_multi, thresh=0.3), F1ScoreMulti(thresh=0.7)],
    )


def losses_of_several() -> Iterator[Learner]:
    """Yield other losses of classifiers with several labels."""
    raw = (
        Import("refused", "raw scores|sigmoid|softmax|loss"),
        Import("either", "sigmoid|softmax|probabilities", options={"probabilities": "sigmoid"}, scores="sigmoid"),
    )
    yield from several("torch-bce", "nn.BCEWithLogitsLoss: raw scores.", raw, "E3", loss_func=nn.BCEWithLogitsLoss())
    yield from several(
        "base-loss",
        "BaseLoss(nn.BCEWithLogitsLoss): raw scores.",
        raw,
        "E3",
        loss_func=BaseLoss(nn.BCEWithLogitsLoss, floatify=True, is_2d=False),
    )
    yield from several(
        "mse", "MSELossFlat in a multi-label classifier.", refused("MSE|loss"), "E3", loss_func=MSELossFlat()
    )
    yield from several(
        "y-range", "y_range in a multi-label classifier.", refused("y_range|SigmoidRange"), "E1", y_range=(0, 1)
    )

    def thresh_after(learn: Any) -> None:
        learn.loss_func.thresh = 0.9

    yield from several(
        "thresh-after", "thresh changed after training.", loss_func=BCEWithLogitsLossFlat(), before=thresh_after
    )
    yield from several(
        "own-loss",
        "A subclass of the loss with its own activation.",
        refused("HalfSigmoid"),
        "E3",
        loss_func=own2.HalfSigmoid(),
    )


def kinds_of_several() -> Iterator[Learner]:
    """Yield other labels, tokenizers and factory methods of classifiers with several labels."""
    yield from several(
        "label-smoothing",
        "Labels that are floats.",
        loading={**MULTI, "get_y": lambda row: [float(len(tag)) for tag in row["tags"].split(";")]},
    )
    yield from several(
        "ints",
        "Labels that are whole numbers.",
        loading={**MULTI, "get_y": lambda row: [len(tag) for tag in row["tags"].split(";")]},
    )
    yield from several("sentencepiece", "With sentencepiece.", data=multi_of_sentencepiece, ways=BOTH)

    def factory(**options: Any) -> Callable[[str], Any]:
        def data(direction: str) -> Any:
            set_seed(7, reproducible=True)
            given = {"text_col": "text", "backwards": direction == "backward", "bs": 16, "num_workers": 0, "seed": 3}
            return TextDataLoaders.from_df(training_rows(), **{**given, **options})

        return data

    yield from several(
        "factory-delim",
        "from_df(label_delim=…, y_block=MultiCategoryBlock).",
        data=factory(label_col="tags", label_delim=";", y_block=MultiCategoryBlock),
    )
    block = MultiCategoryBlock(encoded=True, vocab=FLAGS)
    yield from several(
        "factory-columns", "from_df(label_col=[…], y_block=…).", data=factory(label_col=FLAGS, y_block=block)
    )


def multi_of_sentencepiece(direction: str) -> Any:
    """Return data with several labels, tokenized by sentencepiece."""
    tokenizer = SentencePieceTokenizer(vocab_sz=300, cache_dir=str(scratch()))
    return loaders(text={"tok": tokenizer, "min_freq": 1, "backwards": direction == "backward"}, **MULTI)


def regression() -> Iterator[Learner]:
    """Yield regressions with one and several targets."""
    one_target, two = (
        {"block": RegressionBlock, "label": "length"},
        {"block": RegressionBlock, "label": ["length", "words"]},
    )

    def one(name: str, what: str, imports: Any = EXACT, finding: str = "E6", **more: Any) -> Iterator[Learner]:
        more.setdefault("loading", one_target)
        return row("regression", name, finding, what, imports, task="regression", **more)

    yield from one("plain", "RegressionBlock, one target.", ways=BOTH, n_out=1, in_sample=True)
    yield from one("y-range", "y_range=(0, 9).", ways=BOTH, n_out=1, y_range=(0, 9))
    yield from one("y-range-negative", "y_range=(-1.5, 200).", n_out=1, y_range=(-1.5, 200))
    yield from one("two", "Two targets.", ways=BOTH, loading=two, in_sample=True)
    yield from one("two-y-range", "Two targets and y_range.", loading=two, y_range=(0, 300))
    yield from one("n-out", "RegressionBlock(n_out=2).", loading={**two, "block": RegressionBlock(n_out=2)})
    losses = {
        "mse": MSELossFlat(),
        "l1": L1LossFlat(),
        "huber": nn.HuberLoss(),
        "smooth-l1": BaseLoss(nn.SmoothL1Loss, floatify=True, is_2d=False),
        "torch-mse": nn.MSELoss(),
        "functional": torch.nn.functional.mse_loss,
    }
    for name, loss in losses.items():
        expected = EXACT if name in ("mse", "l1") else either("loss|Huber|mse")
        yield from one(f"loss-{name}", f"The loss {name}.", expected, "E3", n_out=1, loss_func=loss)
    yield from one(
        "cross-entropy",
        "A softmax in a regression.",
        refused("CrossEntropy|loss|softmax"),
        "E3",
        loading=two,
        loss_func=CrossEntropyLossFlat(),
    )
    yield from one(
        "bce",
        "A sigmoid in a regression.",
        either("BCE|loss|sigmoid"),
        "E3",
        n_out=1,
        loss_func=BCEWithLogitsLossFlat(),
    )
    logs = {**one_target, "get_y": lambda row: math.log(row["length"])}
    yield from one("log", "The logarithm of the target, by a lambda.", n_out=1, loading=logs)
    yield from one(
        "y-range-class",
        "A subclass of SigmoidRange.",
        refused("__main__|SigmoidRange"),
        "E1",
        n_out=1,
        y_range=(0, 9),
        change=own_range,
    )
    yield from one("metrics", "Metrics of a regression.", n_out=1, metrics=[rmse, mae])
    ints = {**one_target, "label": "is_long"}
    yield from one("bools", "A target that is a boolean.", n_out=1, loading=ints)


def own_range(learn: Any) -> None:
    """Replace SigmoidRange by a subclass with its name."""
    layers = learn.model[1].layers
    layers[-1].__class__ = in_notebook(type("SigmoidRange", (SigmoidRange,), {"forward": half_range}))


def half_range(self: Any, x: Any) -> Any:
    """Return the lower half of the range."""
    return torch.sigmoid(x) * (self.high - self.low) / 2 + self.low


KINDS = (losses, own_losses, labels, multi_label, losses_of_several, kinds_of_several, regression)
