"""Kinds of learners of fastai 2: sizes, windows, heads, encoders and callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import own2
import torch
import torch.nn.utils.prune
from fastai.text.all import (
    CSVLogger,
    EarlyStoppingCallback,
    GradientClip,
    MixUp,
    ReduceLROnPlateau,
    SaveModelCallback,
    TextLearner,
    accuracy,
    rnn_cbs,
)
from fastai.text.all import (
    Learner as Learner_,
)
from making2 import in_notebook
from rows2 import BOTH, row
from table import EXACT, Learner, either, refused
from torch import nn


def sizes() -> Iterator[Learner]:
    """Yield sizes of encoder and head, and every option of `text_classifier_learner`."""
    yield from row("sizes", "plain", "plain", "A plain classifier.", ways=BOTH, in_sample=True)
    for layers in (1, 2, 3, 4):
        yield from row("sizes", f"layers-{layers}", "plain", f"{layers} LSTM layers.", config={"n_layers": layers})
    for wide, hidden in ((24, 20), (16, 75), (25, 23), (8, 8)):
        config = {"emb_sz": wide, "n_hid": hidden}
        yield from row("sizes", f"widths-{wide}-{hidden}", "plain", "Other widths.", config=config)
    yield from row("sizes", "head-40-20", "plain", "lin_ftrs=[40, 20].", ways=BOTH, lin_ftrs=[40, 20])
    yield from row("sizes", "head-none", "plain", "lin_ftrs=[]: one linear layer.", lin_ftrs=[])
    yield from row("sizes", "head-1", "plain", "lin_ftrs=[1].", lin_ftrs=[1])
    yield from row("sizes", "ps", "plain", "ps=[0.3, 0.2] with two layers.", lin_ftrs=[30, 10], ps=[0.3, 0.2])
    yield from row("sizes", "ps-0", "plain", "No dropout in the head.", ps=[0.0], config={"output_p": 0.0})
    yield from row("sizes", "ps-0-last", "plain", "No dropout before the last layer.", ps=[0.0])
    zero = {"output_p": 0.0, "hidden_p": 0.0, "input_p": 0.0, "embed_p": 0.0, "weight_p": 0.0}
    yield from row("sizes", "dropouts-0", "plain", "All dropouts 0.", config=zero, ps=[0.0], drop_mult=1.0)
    yield from row("sizes", "drop-mult-0", "plain", "drop_mult=0.", ways=BOTH, drop_mult=0.0)
    yield from row(
        "sizes", "bidir", "E1", "bidir=True.", refused("bidir|both|directions|bidirectional"), config={"bidir": True}
    )
    yield from row("sizes", "n-out-5", "E4", "n_out=5 for three labels.", refused("label|output|class"), n_out=5)
    yield from row("sizes", "n-out-2", "E4", "n_out=2 for three labels.", refused("label|output|class"), n_out=2)
    yield from row(
        "sizes",
        "y-range",
        "E1",
        "y_range in a classifier: scores go through a sigmoid.",
        refused("y_range|SigmoidRange"),
        y_range=(-3, 3),
    )


def windows() -> Iterator[Learner]:
    """Yield windows of the data and of the model, and lengths that are pooled."""
    for seq_len in (50, 7, 200):
        yield from row(
            "windows",
            f"seq-len-{seq_len}",
            "plain",
            "The same window in data and model.",
            ways=BOTH if seq_len == 50 else ("forward",),
            loading={"seq_len": seq_len},
            seq_len=seq_len,
        )
    yield from row("windows", "mixed", "plain", "seq_len 50 in the data, 72 in the model.", loading={"seq_len": 50})
    for max_len in (None, 72, 500, 1000):
        yield from row("windows", f"max-len-{max_len}", "plain", "Another max_len.", max_len=max_len)

    def bptt_after(learn: Any) -> None:
        learn.model[0].bptt = 30

    def max_len_after(learn: Any) -> None:
        learn.model[0].max_len = 150

    def head_bptt_after(learn: Any) -> None:
        learn.model[1].bptt = 30

    yield from row(
        "windows", "bptt-after", "E2", "bptt changed on the module after training.", EXACT, before=bptt_after
    )
    yield from row(
        "windows", "max-len-after", "E2", "max_len changed on the module after training.", EXACT, before=max_len_after
    )
    yield from row(
        "windows", "head-bptt-after", "E2", "bptt changed in the head only.", either("bptt"), before=head_bptt_after
    )

    def pad_idx_after(learn: Any) -> None:
        learn.model[0].pad_idx = 5

    yield from row(
        "windows", "pad-idx-after", "E2", "Another padding id in the encoder.", refused("pad"), before=pad_idx_after
    )


def activations() -> Iterator[Learner]:
    """Yield heads with other activations."""

    def replaced(old: type, new: Callable[[], Any]) -> Callable[[Any], None]:
        def change(learn: Any) -> None:
            for block in learn.model[1].layers:
                for place, module in enumerate(block):
                    if isinstance(module, old):
                        block[place] = new()

        return change

    for name, made in (
        ("gelu", nn.GELU),
        ("leaky-relu", nn.LeakyReLU),
        ("tanh", nn.Tanh),
        ("elu", nn.ELU),
        ("silu", nn.SiLU),
        ("relu6", nn.ReLU6),
        ("identity", nn.Identity),
        ("prelu", nn.PReLU),
        ("sigmoid-inside", nn.Sigmoid),
    ):
        cause = type(made()).__name__
        yield from row(
            "heads",
            name,
            "E1",
            f"{cause} instead of ReLU in the head.",
            refused(cause),
            change=replaced(nn.ReLU, made),
            in_sample=name == "gelu",
        )


def last_layers() -> Iterator[Learner]:
    """Yield heads with one more layer at the end."""

    def appended(make: Callable[[], Any]) -> Callable[[Any], None]:
        def change(learn: Any) -> None:
            learn.model[1].layers.append(make())

        return change

    for name, made in (
        ("softmax-last", lambda: nn.Softmax(dim=-1)),
        ("log-softmax-last", lambda: nn.LogSoftmax(dim=-1)),
        ("sigmoid-last", nn.Sigmoid),
        ("dropout-last", lambda: nn.Dropout(0.5)),
        ("linear-last", lambda: nn.Linear(3, 3)),
        ("identity-last", nn.Identity),
        ("relu-last", nn.ReLU),
    ):
        cause = type(made()).__name__
        expected = (
            either(f"{cause}|modules")
            if name in ("dropout-last", "identity-last", "linear-last")
            else refused(f"{cause}|modules")
        )
        yield from row("heads", name, "E1", f"{cause} at the end of the head.", expected, change=appended(made))


def norms() -> Iterator[Learner]:
    """Yield heads with other normalizations and biases."""

    def layer_norm(learn: Any) -> None:
        block = learn.model[1].layers[0]
        block[0] = nn.LayerNorm(block[0].num_features)

    yield from row(
        "heads", "layer-norm", "E1", "LayerNorm instead of BatchNorm.", refused("LayerNorm"), change=layer_norm
    )

    def batch_norm_eps(learn: Any) -> None:
        learn.model[1].layers[0][0].eps = 0.1

    yield from row(
        "heads", "batch-norm-eps", "E1", "eps=0.1 in the batch normalization.", either("eps"), change=batch_norm_eps
    )

    def no_running_stats(learn: Any) -> None:
        block = learn.model[1].layers[1]
        block[0] = nn.BatchNorm1d(block[0].num_features, track_running_stats=True, affine=False)

    yield from row(
        "heads",
        "batch-norm-affine",
        "E1",
        "A batch normalization without weights.",
        either("BatchNorm|affine|weight"),
        change=no_running_stats,
    )

    def biased(learn: Any) -> None:
        block = learn.model[1].layers[1]
        block[-1] = nn.Linear(block[-1].in_features, block[-1].out_features, bias=True)

    yield from row("heads", "bias", "E1", "A last linear layer with a bias.", either("bias"), change=biased)


def head_classes() -> Iterator[Learner]:
    """Yield heads whose class or structure is not fastai's."""

    def of_class(make: Callable[[], Any]) -> Callable[[Any], None]:
        def change(learn: Any) -> None:
            learn.model[1].__class__ = make()

        return change

    yield from row(
        "heads",
        "subclass",
        "E1",
        "A subclass of the head in the notebook with fastai's name.",
        refused("__main__|PoolingLinearClassifier"),
        change=of_class(own2.head_class),
        in_sample=True,
    )
    yield from row(
        "heads",
        "subclass-own-name",
        "E1",
        "A subclass of the head with a name of its own.",
        refused("MyHead"),
        change=of_class(partial(own2.head_class, "MyHead")),
    )
    yield from row(
        "heads",
        "subclass-in-fastai",
        "E1",
        "A subclass of the head in a module that looks like fastai's.",
        refused("fastai.text.models.own"),
        change=of_class(partial(own2.head_class, in_fastai=True)),
    )

    def attention(learn: Any) -> None:
        learn.model[1] = own2.AttentionHead(16, 3)

    yield from row(
        "heads", "attention", "E1", "A head of another structure.", refused("AttentionHead"), change=attention
    )

    def own_sequential(learn: Any) -> None:
        class SequentialRNN(type(learn.model)):  # type: ignore[misc]
            def forward(self, x):
                x, *rest = super().forward(x)
                return (x / 2, *rest)

        learn.model.__class__ = in_notebook(SequentialRNN)

    yield from row(
        "heads",
        "sequential-subclass",
        "E1",
        "A subclass of the whole model that halves the scores.",
        refused("SequentialRNN"),
        change=own_sequential,
    )

    def third_module(learn: Any) -> None:
        class Halve(nn.Module):
            def forward(self, x):
                return (x[0] / 2, *x[1:])

        learn.model.add_module("2", in_notebook(Halve)())

    yield from row(
        "heads", "third-module", "E1", "A third module after the head.", refused("Halve|modules"), change=third_module
    )


def encoders() -> Iterator[Learner]:
    """Yield encoders that resemble fastai's."""

    def outer(make: Callable[[], Any]) -> Callable[[Any], None]:
        def change(learn: Any) -> None:
            learn.model[0].__class__ = make()

        return change

    def inner(make: Callable[[], Any]) -> Callable[[Any], None]:
        def change(learn: Any) -> None:
            learn.model[0].module.__class__ = make()

        return change

    yield from row(
        "encoders",
        "sentence-encoder",
        "E1",
        "A subclass of SentenceEncoder with its name.",
        refused("__main__|SentenceEncoder"),
        change=outer(own2.sentence_encoder_class),
        in_sample=True,
    )
    yield from row(
        "encoders",
        "sentence-encoder-own-name",
        "E1",
        "A subclass of SentenceEncoder.",
        refused("FirstHundred"),
        change=outer(partial(own2.sentence_encoder_class, "FirstHundred")),
    )
    yield from row(
        "encoders",
        "awd-lstm",
        "E1",
        "A subclass of AWD_LSTM with its name.",
        refused("__main__|AWD_LSTM"),
        change=inner(own2.encoder_class),
    )
    yield from row(
        "encoders",
        "awd-lstm-own-name",
        "E1",
        "A subclass of AWD_LSTM.",
        refused("MyLSTM"),
        change=inner(partial(own2.encoder_class, "MyLSTM")),
    )

    def embedding_norm(learn: Any) -> None:
        learn.model[0].module.encoder.max_norm = 0.5

    yield from row(
        "encoders", "max-norm", "E1", "An embedding with max_norm.", refused("max_norm"), change=embedding_norm
    )


def hooks() -> Iterator[Learner]:
    """Yield hooks and methods that were replaced on an instance."""

    def hook_forward(learn: Any) -> None:
        learn.model[0].module.register_forward_hook(in_notebook(halving_hook))

    yield from row(
        "encoders",
        "forward-hook",
        "E1",
        "A forward hook that halves the states.",
        refused("hook"),
        before=hook_forward,
        in_sample=True,
    )

    def hook_pre(learn: Any) -> None:
        learn.model[1].register_forward_pre_hook(in_notebook(harmless_pre_hook))

    yield from row("encoders", "pre-hook", "E1", "A forward pre-hook on the head.", either("hook"), before=hook_pre)

    def instance_forward(learn: Any) -> None:
        learn.model[1].forward = own_forward.__get__(learn.model[1])

    yield from row(
        "encoders",
        "instance-forward",
        "E1",
        "`forward` replaced on the head's instance.",
        refused("forward"),
        before=instance_forward,
    )


def states() -> Iterator[Learner]:
    """Yield models in other precisions and modes."""

    def half(learn: Any) -> None:
        learn.model.half()

    yield from row("encoders", "half", "E2", "A model in half precision.", refused("half|float16"), before=half)

    def double(learn: Any) -> None:
        learn.model.double()

    yield from row("encoders", "double", "E2", "A model in double precision.", either("double|float64"), before=double)

    def bfloat(learn: Any) -> None:
        learn.model.bfloat16()

    yield from row("encoders", "bfloat16", "E2", "A model in bfloat16.", refused("bfloat16"), before=bfloat)

    def frozen(learn: Any) -> None:
        learn.freeze()

    yield from row("encoders", "frozen", "plain", "A frozen model.", before=frozen)

    def training_mode(learn: Any) -> None:
        learn.model.train()

    yield from row("encoders", "training-mode", "plain", "A model left in training mode.", before=training_mode)


def halving_hook(module: Any, arguments: Any, output: Any) -> Any:
    """Halve the states of an encoder."""
    return output / 2


def harmless_pre_hook(module: Any, arguments: Any) -> None:
    """Do nothing."""


def own_forward(self: Any, input: Any) -> Any:  # noqa: A002
    """Read the mean only."""
    from fastai.text.all import masked_concat_pool

    out, mask = input
    return self.layers(masked_concat_pool(out, mask, self.bptt) * 0.5), out, out


def callbacks() -> Iterator[Learner]:
    """Yield callbacks, those that change predictions and those that do not."""
    yield from row(
        "callbacks",
        "temperature",
        "E1",
        "A callback that halves the scores.",
        refused("TemperatureCallback"),
        cbs=own2.TemperatureCallback(),
        in_sample=True,
    )
    yield from row(
        "callbacks",
        "truncate",
        "E1",
        "A callback that truncates what the model reads.",
        refused("TruncateCallback"),
        cbs=own2.TruncateCallback(),
    )
    yield from row(
        "callbacks",
        "own-harmless",
        "E1",
        "An own callback that counts.",
        either("HarmlessCallback"),
        cbs=own2.HarmlessCallback(),
    )
    harmless: dict[str, Callable[[], Any]] = {
        "save-model": SaveModelCallback,
        "csv-logger": CSVLogger,
        "early-stopping": EarlyStoppingCallback,
        "reduce-lr": ReduceLROnPlateau,
        "gradient-clip": lambda: GradientClip(0.1),
        "all": lambda: [SaveModelCallback(), CSVLogger(), GradientClip(0.1)],
    }
    for name, made in harmless.items():
        yield from row(
            "callbacks",
            name,
            "plain",
            "Callbacks of fastai that do not touch predictions.",
            cbs=made(),
            metrics=accuracy,
            in_sample=name == "all",
        )

    def to_fp16(learn: Any) -> Any:
        return learn.to_fp16()

    yield from row("callbacks", "to-fp16", "plain", "to_fp16().", before=to_fp16, ways=BOTH)

    def to_fp16_and_back(learn: Any) -> Any:
        return learn.to_fp16().to_fp32()

    yield from row("callbacks", "to-fp32", "plain", "to_fp16().to_fp32().", before=to_fp16_and_back)

    def trained(learn: Any) -> None:
        with learn.no_bar(), learn.no_logging():
            learn.fit_one_cycle(1, 1e-3)

    yield from row(
        "callbacks", "one-cycle", "plain", "A learner that was trained for an epoch.", before=trained, ways=BOTH
    )


def modules() -> Iterator[Learner]:
    """Yield torch's ways of changing a module without changing its class."""

    def last_linear(learn: Any, make: Callable[[Any], Any]) -> None:
        block = learn.model[1].layers[-1]
        block[len(block) - 1] = make(block[len(block) - 1])

    def one(name: str, what: str, change: Callable[[Any], Any], imports: Any, **more: Any) -> Iterator[Learner]:
        return row("modules", name, "E1", what, imports, before=change, **more)

    old_norm = torch.nn.utils.spectral_norm
    yield from one(
        "spectral-norm-old",
        "The older spectral_norm.",
        lambda learn: last_linear(learn, old_norm),
        refused("hook|spectral|weight"),
    )

    def pruned(learn: Any) -> None:
        torch.nn.utils.prune.l1_unstructured(learn.model[1].layers[-1][-1], name="weight", amount=0.5)

    yield from one("pruned", "A pruned linear layer.", pruned, either("hook|prun|weight"))

    def quantized(learn: Any) -> None:
        learn.model = torch.ao.quantization.quantize_dynamic(learn.model, {nn.Linear}, dtype=torch.qint8)

    yield from one("quantized", "Linear layers quantized to 8 bits.", quantized, refused("quantiz"))

    def data_parallel(learn: Any) -> None:
        learn.model[1] = nn.DataParallel(learn.model[1])

    yield from one("data-parallel", "A head in nn.DataParallel.", data_parallel, either("DataParallel"))

    def momentum(learn: Any) -> None:
        learn.model[1].layers[0][0].momentum = 0.5

    yield from one("momentum", "Another momentum of the batch normalization.", momentum, EXACT)

    def padding_row(learn: Any) -> None:
        learn.model[0].module.encoder.padding_idx = None

    yield from one("padding-idx", "An embedding without padding_idx.", padding_row, EXACT)

    def scaled(learn: Any) -> None:
        learn.model[0].module.encoder.scale_grad_by_freq = True

    yield from one("scale-grad", "An embedding with scale_grad_by_freq.", scaled, either("scale_grad"))

    def no_bias(learn: Any) -> None:
        module = learn.model[0].module
        for wrapped in module.rnns:
            old = wrapped.module
            new = nn.LSTM(old.input_size, old.hidden_size, 1, batch_first=True, bias=False)
            wrapped.weight_hh_l0_raw = nn.Parameter(new.weight_hh_l0.detach().clone())
            del new._parameters["weight_hh_l0"]
            wrapped.module = new
            wrapped._setweights()

    yield from one("lstm-no-bias", "LSTMs without biases.", no_bias, either("bias"))

    def buffer(learn: Any) -> None:
        learn.model[1].register_buffer("extra", torch.ones(3))

    yield from one("buffer", "A buffer that nothing reads.", buffer, either("extra|buffer"))

    def attribute(learn: Any) -> None:
        learn.model[1].note = "best of three"

    yield from one("attribute", "An attribute that nothing reads.", attribute, either("note"))


def learners() -> Iterator[Learner]:
    """Yield learners whose own methods differ."""

    def one(name: str, what: str, change: Callable[[Any], Any], imports: Any, **more: Any) -> Iterator[Learner]:
        return row("learners", name, "E1", what, imports, before=change, **more)

    def subclass(name: str) -> Callable[[Any], None]:
        def change(learn: Any) -> None:
            learn.__class__ = in_notebook(type(name, (TextLearner,), {"predict": flat_predict}))

        return change

    yield from one(
        "subclass",
        "A subclass of TextLearner with its own predict.",
        subclass("MyLearner"),
        refused("MyLearner"),
        in_sample=True,
    )
    yield from one(
        "subclass-named",
        "A subclass of TextLearner with its name.",
        subclass("TextLearner"),
        refused("__main__|TextLearner"),
    )

    def plain_subclass(learn: Any) -> None:
        learn.__class__ = in_notebook(type("QuietLearner", (TextLearner,), {}))

    yield from one(
        "subclass-plain", "A subclass of TextLearner that changes nothing.", plain_subclass, either("QuietLearner")
    )

    def general(learn: Any) -> Any:
        return Learner_(learn.dls, learn.model, loss_func=learn.loss_func, cbs=rnn_cbs())

    yield from one("general", "A plain Learner with fastai's model.", general, either("Learner"))

    def instance(learn: Any) -> None:
        learn.get_preds = partial(learn.get_preds, act=torch.sigmoid)

    yield from one(
        "instance-get-preds", "`get_preds` replaced on the learner's instance.", instance, refused("get_preds")
    )

    def mixup(learn: Any) -> None:
        learn.add_cb(MixUp())

    yield from one("mixup", "MixUp, which does not touch predictions.", mixup, either("MixUp"))


def flat_predict(self: Any, item: Any, **options: Any) -> Any:
    """Return the predictions of fastai, flattened."""
    label, number, scores = Learner_.predict(self, item, **options)
    return label, number, scores**0.5 / (scores**0.5).sum()


KINDS = (
    sizes,
    windows,
    activations,
    last_layers,
    norms,
    head_classes,
    encoders,
    hooks,
    states,
    callbacks,
    modules,
    learners,
)
