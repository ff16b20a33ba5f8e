"""Kinds of learners of fastai 1.0.61: sizes, windows, heads, encoders and callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import own1
from making1 import fastai_text
from rows1 import BOTH, row
from table import Learner, either, refused
from torch import nn


def sizes() -> Iterator[Learner]:
    """Yield sizes of encoder and head, and every option of `text_classifier_learner`."""
    yield from row("sizes", "plain", "plain", "A plain classifier.", ways=BOTH, in_sample=True)
    for layers in (1, 3, 4):
        yield from row("sizes", f"layers-{layers}", "plain", f"{layers} LSTM layers.", config={"n_layers": layers})
    for wide, hidden in ((24, 20), (25, 75)):
        yield from row(
            "sizes", f"widths-{wide}-{hidden}", "plain", "Other widths.", config={"emb_sz": wide, "n_hid": hidden}
        )
    yield from row("sizes", "head-40-20", "plain", "lin_ftrs=[40, 20].", ways=BOTH, lin_ftrs=[40, 20])
    yield from row("sizes", "head-none", "plain", "lin_ftrs=[]: one linear layer.", lin_ftrs=[])
    yield from row("sizes", "ps-0", "plain", "No dropout in the head.", ps=[0.0], config={"output_p": 0.0})
    zero = {"output_p": 0.0, "hidden_p": 0.0, "input_p": 0.0, "embed_p": 0.0, "weight_p": 0.0}
    yield from row("sizes", "dropouts-0", "plain", "All dropouts 0.", config=zero, ps=[0.0])
    yield from row("sizes", "drop-mult-0", "plain", "drop_mult=0.", ways=BOTH, drop_mult=0.0)
    yield from row("sizes", "bidir", "E1", "bidir=True.", refused("bidir|both|directions"), config={"bidir": True})


def windows() -> Iterator[Learner]:
    """Yield windows, and lengths that are pooled."""
    for bptt in (50, 7, 200):
        yield from row(
            "windows", f"bptt-{bptt}", "plain", "Another bptt.", ways=BOTH if bptt == 50 else ("forward",), bptt=bptt
        )
    for max_len in (100, 500, 1000):
        yield from row("windows", f"max-len-{max_len}", "plain", "Another max_len.", max_len=max_len)

    def bptt_after(learn: Any) -> None:
        learn.model[0].bptt = 30

    def max_len_after(learn: Any) -> None:
        learn.model[0].max_len = 150

    yield from row("windows", "bptt-after", "E2", "bptt changed on the module after training.", before=bptt_after)
    yield from row(
        "windows", "max-len-after", "E2", "max_len changed on the module after training.", before=max_len_after
    )

    def pad_idx_after(learn: Any) -> None:
        learn.model[0].pad_idx = 5

    yield from row(
        "windows", "pad-idx-after", "E2", "Another padding id in the encoder.", refused("pad"), before=pad_idx_after
    )
    yield from row("windows", "pad-last", "plain", "pad_first=False in the data.", loading={"pad_first": False})


def heads() -> Iterator[Learner]:
    """Yield heads and encoders that resemble fastai's."""

    def replaced(make: Callable[[], Any]) -> Callable[[Any], None]:
        def change(learn: Any) -> None:
            layers = learn.model[1].layers
            for place, module in enumerate(layers):
                if isinstance(module, nn.ReLU):
                    layers[place] = make()

        return change

    for name, made in (
        ("gelu", nn.GELU),
        ("leaky-relu", nn.LeakyReLU),
        ("tanh", nn.Tanh),
        ("sigmoid-inside", nn.Sigmoid),
        ("selu", nn.SELU),
    ):
        cause = type(made()).__name__
        yield from row(
            "heads",
            name,
            "E1",
            f"{cause} instead of ReLU in the head.",
            refused(cause),
            change=replaced(made),
            in_sample=name == "leaky-relu",
        )

    def appended(make: Callable[[], Any]) -> Callable[[Any], None]:
        def change(learn: Any) -> None:
            learn.model[1].layers.add_module("last", make())

        return change

    for name, made in (
        ("softmax-last", lambda: nn.Softmax(dim=-1)),
        ("sigmoid-last", nn.Sigmoid),
        ("log-softmax-last", lambda: nn.LogSoftmax(dim=-1)),
    ):
        cause = type(made()).__name__
        yield from row(
            "heads", name, "E1", f"{cause} at the end of the head.", refused(f"{cause}|modules"), change=appended(made)
        )


def classes() -> Iterator[Learner]:
    """Yield heads and encoders of other classes."""

    def of_class(place: int, make: Callable[[], Any]) -> Callable[[Any], None]:
        def change(learn: Any) -> None:
            learn.model[place].__class__ = make()

        return change

    yield from row(
        "heads",
        "subclass",
        "E1",
        "A subclass of the head in the notebook with fastai's name.",
        refused("__main__|PoolingLinearClassifier"),
        change=of_class(1, own1.head_class),
        in_sample=True,
    )
    yield from row(
        "heads",
        "subclass-own-name",
        "E1",
        "A subclass of the head with a name of its own.",
        refused("MyHead"),
        change=of_class(1, partial(own1.head_class, "MyHead")),
    )
    yield from row(
        "heads",
        "subclass-in-fastai",
        "E1",
        "A subclass of the head in a module that looks like fastai's.",
        refused("fastai.text.own"),
        change=of_class(1, partial(own1.head_class, module="fastai.text.own")),
    )
    yield from row(
        "encoders",
        "multi-batch",
        "E1",
        "A subclass of MultiBatchEncoder with its name.",
        refused("__main__|MultiBatchEncoder"),
        change=of_class(0, own1.sentence_encoder_class),
    )
    yield from row(
        "encoders",
        "multi-batch-own-name",
        "E1",
        "A subclass of MultiBatchEncoder.",
        refused("FirstHundred"),
        change=of_class(0, partial(own1.sentence_encoder_class, "FirstHundred")),
    )

    def inner(make: Callable[[], Any]) -> Callable[[Any], None]:
        def change(learn: Any) -> None:
            learn.model[0].module.__class__ = make()

        return change

    yield from row(
        "encoders",
        "awd-lstm",
        "E1",
        "A subclass of AWD_LSTM with its name.",
        refused("__main__|AWD_LSTM"),
        change=inner(own1.encoder_class),
    )
    yield from row(
        "encoders",
        "awd-lstm-own-name",
        "E1",
        "A subclass of AWD_LSTM.",
        refused("MyLSTM"),
        change=inner(partial(own1.encoder_class, "MyLSTM")),
    )


def states() -> Iterator[Learner]:
    """Yield hooks, precisions and modes."""

    def hook(learn: Any) -> None:
        learn.model[1].register_forward_hook(own1.halving_hook)

    yield from row(
        "encoders",
        "forward-hook",
        "E1",
        "A forward hook that halves the scores.",
        refused("hook"),
        before=hook,
        in_sample=True,
    )
    yield from row(
        "encoders",
        "half",
        "E2",
        "A model in half precision.",
        refused("half|float16"),
        before=lambda learn: learn.model.half() and None,
    )
    yield from row(
        "encoders",
        "double",
        "E2",
        "A model in double precision.",
        either("double|float64"),
        before=lambda learn: learn.model.double() and None,
    )
    yield from row(
        "encoders",
        "training-mode",
        "plain",
        "A model left in training mode.",
        before=lambda learn: learn.model.train() and None,
    )

    def trained(learn: Any) -> None:
        from making1 import quietly

        quietly(learn.fit_one_cycle, 1, 1e-3)

    yield from row(
        "encoders", "trained", "plain", "A learner that was trained for an epoch.", before=trained, ways=BOTH
    )
    yield from row(
        "encoders", "to-fp16", "plain", "to_fp16().to_fp32().", before=lambda learn: learn.to_fp16().to_fp32()
    )
    yield from row(
        "encoders",
        "to-fp16-only",
        "E2",
        "to_fp16(): fastai 1 halves the model.",
        either("half|float16"),
        before=lambda learn: learn.to_fp16(),
        is_loaded=False,
    )


def callbacks() -> Iterator[Learner]:
    """Yield callbacks."""
    from fastai.callbacks import CSVLogger, EarlyStoppingCallback, ReduceLROnPlateauCallback, SaveModelCallback

    yield from row(
        "callbacks",
        "temperature",
        "E1",
        "A callback that halves the scores.",
        refused("TemperatureCallback"),
        callbacks=[own1.TemperatureCallback()],
        in_sample=True,
    )
    yield from row(
        "callbacks",
        "own-harmless",
        "E1",
        "An own callback that does nothing.",
        either("HarmlessCallback"),
        callbacks=[own1.HarmlessCallback()],
    )
    for name, made in {
        "csv-logger": [CSVLogger],
        "early-stopping": [EarlyStoppingCallback],
        "reduce-lr": [ReduceLROnPlateauCallback],
        "save-model": [SaveModelCallback],
        "all": [CSVLogger, EarlyStoppingCallback, ReduceLROnPlateauCallback],
    }.items():
        yield from row(
            "callbacks", name, "plain", "Callbacks of fastai that do not touch predictions.", callback_fns=made
        )


def architectures() -> Iterator[Learner]:
    """Yield other encoders of fastai, and learners whose own methods differ."""
    small = {"ctx_len": 512, "n_layers": 2, "n_heads": 2, "d_model": 16, "d_head": 8, "d_inner": 32}
    for name, arch in (("transformer", fastai_text.Transformer), ("transformer-xl", fastai_text.TransformerXL)):
        base = fastai_text.tfmer_clas_config if name == "transformer" else fastai_text.tfmerXL_clas_config
        config = {**base, **small}
        cause = refused("Transformer")
        yield from row("architectures", name, "E6", f"{arch.__name__}.", cause, arch=arch, config=config)

    def subclass(learn: Any) -> None:
        learn.__class__ = own1.OwnLearner

    yield from row(
        "learners",
        "subclass",
        "E1",
        "A subclass of RNNLearner with its own predict.",
        refused("OwnLearner"),
        before=subclass,
    )

    def mixup(learn: Any) -> Any:
        return learn.mixup()

    yield from row("learners", "mixup", "E1", "mixup().", either("MixUp|loss"), before=mixup)


KINDS = (sizes, windows, heads, classes, states, callbacks, architectures)
