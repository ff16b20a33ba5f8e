"""The table of learners of fastai 2: python learners2.py OUT [PATTERN ...]. Run by generate.py."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import own2
import torch
from fastai.text.all import (
    BaseLoss,
    CrossEntropyLossFlat,
    CSVLogger,
    EarlyStoppingCallback,
    FocalLossFlat,
    GradientClip,
    L,
    LabelSmoothingCrossEntropy,
    LabelSmoothingCrossEntropyFlat,
    ReduceLROnPlateau,
    SaveModelCallback,
    SpacyTokenizer,
    accuracy,
    replace_all_caps,
    replace_maj,
    replace_rep,
    replace_wrep,
    rm_useless_spaces,
    spec_add_spaces,
)
from fastai.text.core import fix_html, lowercase
from making2 import classifier, export, in_notebook, loaders, plain_loaders
from table import EXACT, Import, Learner, either, generate, refused
from texts import LANGUAGES, TEXTS, rows_in, texts_in
from torch import nn

VERSION = "2.8.12"
RULES = [
    fix_html,
    replace_rep,
    replace_wrep,
    spec_add_spaces,
    rm_useless_spaces,
    replace_all_caps,
    replace_maj,
    lowercase,
]
SOFTMAX = (
    Import("refused", "raw scores|softmax|loss"),
    Import("exact", options={"probabilities": "softmax"}, scores="softmax"),
)
"""Imports of a classifier whose `predict` returns raw scores."""


def row(
    kind: str,
    name: str,
    finding: str,
    what: str,
    imports: tuple[Import, ...] = EXACT,
    *,
    ways: tuple[str, ...] = ("forward",),
    data: Callable[[str], Any] | None = None,
    loading: dict[str, Any] | None = None,
    texts: Any = TEXTS,
    task: str = "single-label",
    before: Callable[[Any], Any] | None = None,
    ids: bool = True,
    labels: Any = None,
    in_sample: bool = False,
    **options: Any,
) -> Iterator[Learner]:
    """Yield an exported classifier for each direction.

    Args:
        kind: Row of the table.
        name: Name within the kind.
        finding: E1 to E6, or ``plain``.
        what: A description in one sentence.
        imports: How it is imported, and what is expected.
        ways: Directions.
        data: Returns the data loaders of a direction; the plain ones by default.
        loading: Options of `loaders`, instead of data. ``backwards`` is added to those of the text.
        texts: Texts to predict.
        task: What the outputs mean.
        before: Changes the finished learner before it is exported.
        ids: Whether ids are compared.
        labels: Labels, if the learner does not show them.
        in_sample: Whether the quick test includes it.
        options: Options of `making2.classifier`.
    """
    for direction in ways:
        full = f"v2-{kind}-{name}-{direction}"

        def loaded(direction: str = direction) -> Any:
            if data is not None:
                return data(direction)
            if loading is None:
                return plain_loaders(direction)
            given = dict(loading)
            text = given.pop("text", None) or {}
            if isinstance(text, dict):
                text = {**text, "backwards": direction == "backward"}
            return loaders(text=text, **given)

        def make(direction: str = direction, full: str = full, loaded: Callable[[], Any] = loaded) -> Any:
            return classifier(loaded(), full, direction=direction, texts=texts, **options)

        made = export(make, direction=direction, task=task, texts=texts, before=before, ids=ids, labels=labels)
        yield Learner(full, kind, finding, what, made, imports, direction, in_sample and direction == ways[-1])


BOTH = ("forward", "backward")


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
        learn.model[0].max_len = 60

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


def heads() -> Iterator[Learner]:
    """Yield heads that resemble fastai's."""

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
        expected = either(cause) if name in ("dropout-last", "identity-last", "linear-last") else refused(cause)
        yield from row("heads", name, "E1", f"{cause} at the end of the head.", expected, change=appended(made))

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
        "heads", "third-module", "E1", "A third module after the head.", refused("Halve"), change=third_module
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

    def gru(learn: Any) -> None:
        module = learn.model[0].module
        for place, wrapped in enumerate(module.rnns):
            old = wrapped.module
            module.rnns[place] = nn.GRU(old.input_size, old.hidden_size, batch_first=True)

        def reset(self):
            pass

    def embedding_norm(learn: Any) -> None:
        learn.model[0].module.encoder.max_norm = 0.5

    yield from row(
        "encoders", "max-norm", "E1", "An embedding with max_norm.", refused("max_norm"), change=embedding_norm
    )

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


def rules() -> Iterator[Learner]:
    """Yield lists of cleaning rules."""

    def one(
        name: str, given: Callable[[], Any], finding: str, what: str, imports: tuple[Import, ...], **more: Any
    ) -> Iterator[Learner]:
        def data(direction: str) -> Any:
            return loaders(text={"rules": given(), "backwards": direction == "backward"})

        return row("rules", name, finding, what, imports, data=data, **more)

    exact = EXACT
    yield from one(
        "notebook-lowercase",
        lambda: [*RULES[:-1], own2.rule_in_notebook("lowercase")],
        "E1",
        "An own rule called lowercase in the notebook.",
        refused("__main__|lowercase"),
        in_sample=True,
    )
    yield from one(
        "notebook-fix-html",
        lambda: [own2.rule_in_notebook("fix_html"), *RULES[1:]],
        "E1",
        "An own rule called fix_html in the notebook.",
        refused("__main__|fix_html"),
    )
    yield from one(
        "module-fix-html",
        lambda: [own2.rule_in_module("my_rules"), *RULES[1:]],
        "E1",
        "An own rule called fix_html in a module.",
        refused("my_rules"),
    )
    yield from one(
        "module-like-fastai",
        lambda: [own2.rule_in_module("fastai.text.rules"), *RULES[1:]],
        "E1",
        "An own rule in a module that looks like fastai's.",
        refused("fastai.text.rules"),
    )
    yield from one(
        "module-fastai-core",
        lambda: [own2.rule_in_module("my.fastai.text.core"), *RULES[1:]],
        "E1",
        "An own rule in my.fastai.text.core.",
        refused("my.fastai.text.core"),
    )
    yield from one(
        "lambda",
        lambda: [*RULES, lambda text: text.replace("lamp", "light")],
        "E1",
        "A lambda as a rule.",
        refused("lambda|function"),
    )
    yield from one(
        "partial-own",
        lambda: [*RULES[:-1], partial(own2.rule_in_notebook("lowercase"), add_eos=True)],
        "E1",
        "A partial of an own rule called lowercase.",
        refused("__main__|lowercase"),
    )
    yield from one(
        "add-eos",
        lambda: [*RULES[:-1], partial(lowercase, add_eos=True)],
        "plain",
        "lowercase with add_eos=True.",
        exact,
        ways=BOTH,
    )
    yield from one(
        "no-bos",
        lambda: [*RULES[:-1], partial(lowercase, add_bos=False)],
        "E6",
        "lowercase with add_bos=False.",
        either("bos"),
    )
    yield from one(
        "no-bos-eos",
        lambda: [*RULES[:-1], partial(lowercase, add_bos=False, add_eos=True)],
        "E6",
        "lowercase without xxbos and with xxeos.",
        either("bos"),
    )
    yield from one(
        "partial-positional",
        lambda: [*RULES[:-1], lambda_free_partial()],
        "E6",
        "A partial of lowercase that says the defaults.",
        exact,
    )
    yield from one(
        "reordered",
        lambda: [
            replace_rep,
            replace_wrep,
            fix_html,
            spec_add_spaces,
            rm_useless_spaces,
            replace_maj,
            replace_all_caps,
            lowercase,
        ],
        "E6",
        "fastai's rules in another order.",
        exact,
        in_sample=True,
    )
    yield from one(
        "reversed", lambda: [*RULES[:-1][::-1], lowercase], "E6", "fastai's rules in reverse.", exact, ways=BOTH
    )
    yield from one("subset", lambda: [fix_html, rm_useless_spaces, lowercase], "E6", "Three of fastai's rules.", exact)
    yield from one("only-lowercase", lambda: [lowercase], "E6", "Only lowercase.", exact)
    yield from one("no-lowercase", lambda: RULES[:-1], "E6", "All rules but lowercase: no xxbos.", exact)
    yield from one("none", lambda: [], "E6", "No rules.", exact)
    yield from one("twice", lambda: [*RULES[:2], replace_rep, *RULES[2:]], "E6", "A rule that is applied twice.", exact)
    yield from one(
        "own-extra",
        lambda: [own2.rule_in_notebook("no_urls"), *RULES],
        "E1",
        "An own rule before fastai's.",
        refused("no_urls"),
    )
    for without in (
        fix_html,
        replace_rep,
        replace_wrep,
        spec_add_spaces,
        rm_useless_spaces,
        replace_all_caps,
        replace_maj,
    ):
        kept_rules = [rule for rule in RULES if rule is not without]
        yield from one(
            f"without-{without.__name__.replace('_', '-')}",
            lambda kept_rules=kept_rules: kept_rules,
            "E6",
            f"All rules but {without.__name__}.",
            exact,
        )
    yield from one("str-lower", lambda: [*RULES, str.lower], "E1", "str.lower as a rule.", either("lower"))
    yield from one("str-strip", lambda: [str.strip, *RULES], "E1", "str.strip as a rule.", either("strip"))
    yield from one("tuple", lambda: tuple(RULES), "plain", "The rules as a tuple.", exact)
    yield from one("l", lambda: L(RULES), "plain", "The rules as an L.", exact)

    def changed_after(learn: Any) -> None:
        learn.dls.tokenizer.rules = learn.dls.tokenizer.rules[:-1] + [own2.rule_in_notebook("lowercase")]

    def after(direction: str) -> Any:
        return loaders(text={"rules": list(RULES)})

    yield from row(
        "rules",
        "changed-after",
        "E1",
        "Rules changed after training.",
        refused("__main__|lowercase"),
        data=after,
        before=changed_after,
    )

    def post_rules(learn: Any) -> None:
        learn.dls.tokenizer.tok.post_rules = [in_notebook(drop_short)]

    yield from row(
        "rules",
        "post-rules-attribute",
        "E2",
        "An attribute that fastai does not read.",
        either("post_rules"),
        data=after,
        before=post_rules,
    )


def lambda_free_partial() -> Any:
    """Return a partial of lowercase that says fastai's defaults."""
    return partial(lowercase, add_bos=True, add_eos=False)


def drop_short(tokens: Any) -> Any:
    """Drop short tokens."""
    return [token for token in tokens if len(token) > 2]


def languages() -> Iterator[Learner]:
    """Yield the languages of spaCy."""
    for language in LANGUAGES:

        def data(direction: str, language: str = language) -> Any:
            return loaders(
                rows=rows_in(language), text={"tok": SpacyTokenizer(language), "backwards": direction == "backward"}
            )

        expected = either("language|spaCy|split") if language in ("zh", "ja", "ko", "th", "vi") else EXACT
        way = "backward" if language in ("fr", "ru") else "forward"
        yield from row(
            "languages",
            language,
            "plain",
            f"spaCy's tokenizer of {language}.",
            expected,
            data=data,
            ways=(way,),
            texts=texts_in(language),
            in_sample=language == "fr",
        )


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


def main() -> None:
    """Make the learners whose names match."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    kinds = (sizes, windows, heads, encoders, rules, languages, losses, callbacks)
    generate((learner for kind in kinds for learner in kind()), Path(sys.argv[1]), VERSION, sys.argv[2:])


if __name__ == "__main__":
    main()
