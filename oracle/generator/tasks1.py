"""Kinds of learners of fastai 1.0.61: losses and tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import own1
import torch
from making1 import bunch, fastai_text, quietly, scratch, seed_all
from rows1 import BOTH, SOFTMAX, row
from table import EXACT, Import, Learner, either, refused
from texts import training_rows
from torch import nn


def losses() -> Iterator[Learner]:
    """Yield losses of single-label classifiers."""
    weight = torch.tensor([1.0, 2.0, 0.5])
    exact: dict[str, Callable[[], Any]] = {
        "cross-entropy-flat": fastai_text.CrossEntropyFlat,
        "cross-entropy-weight": lambda: fastai_text.CrossEntropyFlat(weight=weight),
        "flattened": lambda: fastai_text.FlattenedLoss(nn.CrossEntropyLoss),
        "flattened-axis-1": lambda: fastai_text.FlattenedLoss(nn.CrossEntropyLoss, axis=1),
        "torch-cross-entropy": nn.CrossEntropyLoss,
        "torch-cross-entropy-weight": lambda: nn.CrossEntropyLoss(weight=weight),
        "functional": lambda: torch.nn.functional.cross_entropy,
    }
    for name, made in exact.items():
        yield from row(
            "losses",
            name,
            "E3",
            "A loss for which fastai 1 applies a softmax.",
            loss_func=made(),
            in_sample=name == "functional",
        )
    raw: dict[str, Callable[[], Any]] = {
        "label-smoothing": fastai_text.LabelSmoothingCrossEntropy,
        "label-smoothing-flat": lambda: own1.flattened(fastai_text.LabelSmoothingCrossEntropy),
        "own-function": lambda: own1.own_loss,
        "own-focal": own1.FocalLoss,
        "own-focal-flat": lambda: own1.flattened(own1.FocalLoss),
    }
    for name, made in raw.items():
        yield from row(
            "losses",
            name,
            "E3",
            "A loss that fastai 1 does not know: predict returns raw scores.",
            SOFTMAX,
            loss_func=made(),
            in_sample=name == "label-smoothing",
        )


def other_losses() -> Iterator[Learner]:
    """Yield losses that fastai 1 takes for others, or that do not fit."""
    yield from row(
        "losses",
        "own-named-like-torch",
        "E3",
        "An own loss called CrossEntropyLoss.",
        either("__main__|CrossEntropyLoss"),
        loss_func=own1.CrossEntropyLoss(),
    )
    yield from row(
        "losses",
        "partial",
        "E3",
        "A partial of cross_entropy.",
        either("partial|loss"),
        loss_func=partial(torch.nn.functional.cross_entropy, label_smoothing=0.1),
    )
    yield from row(
        "losses",
        "axis-0",
        "E3",
        "axis=0: the softmax goes over the texts.",
        refused("axis"),
        loss_func=fastai_text.CrossEntropyFlat(axis=0),
    )
    yield from row(
        "losses",
        "nll",
        "E3",
        "NLLLoss without a log-softmax: exp of the scores.",
        refused("NLLLoss|loss"),
        loss_func=nn.NLLLoss(),
    )
    yield from row(
        "losses",
        "bce",
        "E3",
        "BCEWithLogitsFlat in a single-label classifier.",
        refused("BCE|loss"),
        loss_func=fastai_text.BCEWithLogitsFlat(),
    )


def by_block(label: Any, rows: Any = None, **labeling: Any) -> Callable[[str], Any]:
    """Return a function that makes data by the data block."""

    def data(direction: str) -> Any:
        seed_all(7)
        items = fastai_text.TextList.from_df(training_rows() if rows is None else rows, scratch(), cols="text")
        labeled = quietly(items.split_by_rand_pct(0.1, seed=3).label_from_df, cols=label, **labeling)
        return quietly(labeled.databunch, bs=16, num_workers=0, backwards=direction == "backward")

    return data


def multi_label() -> Iterator[Learner]:
    """Yield classifiers with several labels per text."""

    def one(
        name: str, what: str, data: Any, imports: Any = EXACT, finding: str = "E6", **more: Any
    ) -> Iterator[Learner]:
        return row("multi-label", name, finding, what, imports, data=data, task="multi-label", **more)

    tags = by_block("tags", label_delim=";")
    yield from one("delim", "label_delim.", tags, ways=BOTH, in_sample=True)
    columns = ["is_long", "is_question"]
    yield from one("columns", "Columns that are one-hot encoded.", by_block(columns, rows=flags()), ways=BOTH)

    def from_df(direction: str) -> Any:
        return bunch(rows=flags(), label_cols=columns, backwards=direction == "backward")

    yield from one("from-df-columns", "from_df(label_cols=[…]).", from_df)

    def from_df_delim(direction: str) -> Any:
        return bunch(label_cols="tags", label_delim=";", backwards=direction == "backward")

    yield from one("from-df-delim", "from_df(label_delim=…).", from_df_delim, ways=BOTH)
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0])
    losses = {
        "bce-flat": fastai_text.BCEWithLogitsFlat(),
        "torch-bce": nn.BCEWithLogitsLoss(),
        "torch-bce-weight": nn.BCEWithLogitsLoss(pos_weight=weight),
        "functional": torch.nn.functional.binary_cross_entropy_with_logits,
    }
    for name, loss in losses.items():
        yield from one(f"loss-{name}", f"The loss {name}.", tags, loss_func=loss)
    raw = (
        Import("refused", "raw scores|sigmoid|loss"),
        Import("either", "sigmoid|softmax|probabilities", options={"probabilities": "sigmoid"}, scores="sigmoid"),
    )
    yield from one("own-loss", "An own loss: raw scores.", tags, raw, "E3", loss_func=own1.own_loss)
    yield from one(
        "cross-entropy", "A softmax.", tags, refused("CrossEntropy|loss|softmax"), "E3", loss_func=nn.CrossEntropyLoss()
    )
    metrics = [partial(fastai_text.accuracy_thresh, thresh=0.2), partial(fastai_text.fbeta, thresh=0.7)]
    yield from one("metrics", "Metrics with thresholds.", tags, metrics=metrics)


def flags() -> Any:
    """Return the rows with labels as 0 and 1."""
    rows = training_rows()
    return rows.assign(is_long=rows["is_long"].astype(int), is_question=rows["is_question"].astype(int))


def regression() -> Iterator[Learner]:
    """Yield regressions with one and several targets."""

    def one(
        name: str, what: str, data: Any, imports: Any = EXACT, finding: str = "E6", **more: Any
    ) -> Iterator[Learner]:
        return row("regression", name, finding, what, imports, data=data, task="regression", **more)

    target = by_block("length", label_cls=fastai_text.FloatList)
    yield from one("plain", "FloatList, one target.", target, ways=BOTH, in_sample=True)
    yield from one(
        "two", "FloatList, two targets.", by_block(["length", "words"], label_cls=fastai_text.FloatList), ways=BOTH
    )
    yield from one(
        "log",
        "FloatList(log=True): the model predicts logarithms.",
        by_block("length", label_cls=fastai_text.FloatList, log=True),
    )

    def from_df(direction: str) -> Any:
        return bunch(label_cols="length", backwards=direction == "backward")

    yield from one("from-df", "from_df with a column of floats.", from_df)
    losses = {
        "l1": nn.L1Loss(),
        "mse": nn.MSELoss(),
        "smooth-l1": nn.SmoothL1Loss(),
        "mse-flat": fastai_text.MSELossFlat(),
    }
    for name, loss in losses.items():
        yield from one(f"loss-{name}", f"The loss {name}.", target, either("loss"), "E3", loss_func=loss)
    yield from one(
        "bce",
        "A sigmoid in a regression.",
        target,
        either("BCE|loss|sigmoid"),
        "E3",
        loss_func=fastai_text.BCEWithLogitsFlat(),
    )

    def with_range(learn: Any) -> None:
        from fastai.layers import SigmoidRange  # type: ignore[attr-defined]

        learn.model[1].layers.add_module("range", SigmoidRange(0, 9))

    yield from one(
        "sigmoid-range",
        "SigmoidRange at the end of the head.",
        target,
        either("SigmoidRange|modules"),
        "E1",
        change=with_range,
    )


KINDS = (losses, other_losses, multi_label, regression)
