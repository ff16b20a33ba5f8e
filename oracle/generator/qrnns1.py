"""Kinds of learners of fastai 1.0.61: encoders of QRNNs, as `qrnn=True` and MultiFiT make them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import own1
import qrnns
from files1 import SAID, lm_pieces, pth, three_ways
from making1 import bunch, fastai_text, kept, language_model
from rows1 import BOTH, PRE, row
from table import EXACT, Import, Learner, refused
from tokens1 import copied_model, pieces

ONE = {"qrnn": True}
MULTIFIT = {**ONE, **qrnns.MULTIFIT}
OF_PIECES = {"sentencepiece": "file:spm.model"}


def classifiers() -> Iterator[Learner]:
    """Yield exported classifiers with `qrnn=True` of every size, task and window."""
    yield from row("qrnn", "plain", "E6", "qrnn=True.", ways=BOTH, config=ONE, in_sample=True)
    for layers in (1, 3, 4):
        yield from row("qrnn", f"layers-{layers}", "E6", f"{layers} layers.", config={**ONE, "n_layers": layers})
    wide = {**ONE, "emb_sz": 25, "n_hid": 75}
    yield from row("qrnn", "widths-25-75", "E6", "Other widths.", config=wide)
    for bptt in (1, 7, 200):
        yield from row("qrnn", f"bptt-{bptt}", "E6", f"bptt={bptt}.", config=ONE, bptt=bptt)
    yield from row("qrnn", "max-len-100", "E6", "max_len=100.", config=ONE, max_len=100)
    several = {"label_cols": "tags", "label_delim": ";"}
    yield from row("qrnn", "multi-label", "E6", "Several labels.", config=ONE, loading=several, task="multi-label")
    number = {"label_cols": "length"}
    yield from row("qrnn", "regression", "E6", "A number.", config=ONE, loading=number, task="regression")
    yield from row(
        "qrnn", "state-left", "E6", "Exported with the state of a text.", config=ONE, before=qrnns.after_a_text
    )
    yield from row(
        "qrnn",
        "multifit",
        "E6",
        "MultiFiT's shape: four layers, SentencePiece.",
        (Import(options=OF_PIECES),),
        ways=BOTH,
        data=lambda direction: kept(f"multifit-{direction}", lambda: pieces(direction, "en", mark_fields=True)),
        config=MULTIFIT,
        copied=copied_model,
        in_sample=True,
    )


def multifit() -> Iterator[Learner]:
    """Yield classifiers with the classes of MultiFiT's own code: a processor, and a function before the rules."""
    names = [rule.__name__ for rule in PRE]
    asked = (
        Import("refused", "MosesPreprocessingFunc.*--rules", options=OF_PIECES),
        Import(options={**OF_PIECES, "rules": names}),
    )
    for name, imports in (("SPProcessor2", asked), ("SPProcessor3", refused("fastai_contrib.text_data.SPProcessor3"))):

        def data(direction: str, name: str = name) -> Any:
            kind, moses = own1.multifit_classes(name)
            return pieces(direction, "en", kind, mark_fields=True, pre_rules=[moses(), *PRE])

        yield from row(
            "qrnn-multifit",
            name,
            "E6",
            f"fastai_contrib.text_data.{name}.",
            imports,
            data=data,
            config=MULTIFIT,
            copied=copied_model,
        )


def variants() -> Iterator[Learner]:
    """Yield QRNNs with options that fastai does not use itself."""
    for name, options, imports in (
        ("no-gate", {"output_gate": False}, EXACT),
        ("window-1", {"windows": [1, 1]}, EXACT),
        ("window-1-no-gate", {"windows": [1, 1], "output_gate": False}, EXACT),
        ("zoneout", {"zoneout": 0.5}, EXACT),
        ("forgetful-window-1", {"windows": [1, 1], "save_prev_x": False}, EXACT),
        ("forgetful", {"save_prev_x": False}, refused("save_prev_x")),
        ("window-2-twice", {"windows": [2, 2]}, refused("window")),
    ):
        change, what = qrnns.remade(**options), f"QRNN(..., {options})."
        yield from row(
            "qrnn-variants", name, "E6", what, imports, config=ONE, change=change, in_sample=name == "no-gate"
        )
    yield from row(
        "qrnn-variants",
        "backward-layer",
        "E1",
        "A layer that reads the other way.",
        refused("backward=True"),
        config=ONE,
        change=qrnns.layers_with(backward=True),
    )
    yield from row(
        "qrnn-variants",
        "no-weight-dropout",
        "E1",
        "No weight dropout.",
        refused("WeightDropout"),
        config=ONE,
        change=qrnns.without_weight_dropout,
    )
    yield from row(
        "qrnn-variants",
        "hook",
        "E1",
        "A hook on a layer, which halves its outputs.",
        refused("hook"),
        config=ONE,
        before=qrnns.hooked,
    )
    yield from row(
        "qrnn-variants",
        "subclass",
        "E1",
        "A subclass of QRNNLayer in the notebook.",
        refused("__main__.QRNNLayer"),
        config=ONE,
        before=own1.with_own_qrnn,
    )


def saved() -> Iterator[Learner]:
    """Yield saved weights of classifiers, whose variant only the shapes show."""
    said = (Import(options=SAID),)
    yield from pth("qrnn-pth", "plain", "E6", "learn.save.", said, config=ONE, ways=BOTH, in_sample=True)
    yield from pth("qrnn-pth", "layers-1", "E6", "One layer.", said, config={**ONE, "n_layers": 1})
    whole = {"whole_model": True}
    yield from pth("qrnn-pth", "whole-model", "E6", "torch.save(learn.model).", said, config=ONE, saved=whole)
    old = {"copied": qrnns.with_old_names}
    yield from pth("qrnn-pth", "old-names", "E6", "Names of 1.0.49.", said, config=ONE, saved=old)
    for name, options in (
        ("no-gate", {"output_gate": False}),
        ("window-1", {"windows": [1, 1]}),
        ("window-1-no-gate", {"windows": [1, 1], "output_gate": False}),
    ):
        change = qrnns.remade(**options)
        yield from pth("qrnn-pth", name, "E6", f"QRNN(..., {options}).", said, config=ONE, change=change)
    yield from pth(
        "qrnn-pth",
        "forgetful",
        "E6",
        "save_prev_x=False, as in 1.0.50 to 1.0.52.",
        (Import("unknowable", options=SAID, note="save_prev_x is not in the file"),),
        config=ONE,
        change=qrnns.remade(save_prev_x=False),
    )
    yield from pth(
        "qrnn-pth",
        "multifit",
        "E6",
        "MultiFiT's shape: four layers, SentencePiece.",
        (Import(options=OF_PIECES),),
        data=lambda direction: pieces(direction, "en"),
        config=MULTIFIT,
        saved={"copied": copied_model},
    )


def language_models() -> Iterator[Learner]:
    """Yield language models and encoders, exported and saved."""
    for name, config, change in (
        ("plain", {}, None),
        ("layers-1", {"n_layers": 1}, None),
        ("no-bias", {"out_bias": False}, None),
        ("no-gate", {}, qrnns.remade(output_gate=False)),
        ("window-1", {}, qrnns.remade(windows=[1, 1])),
        ("forgetful", {}, qrnns.remade(save_prev_x=False)),  # a language model reads a text as one window
    ):
        for direction in BOTH if name == "plain" else ("forward",):
            full = f"v1-qrnn-language-models-{name}-{direction}"

            def make(direction: str = direction, full: str = full, config: Any = config, change: Any = change) -> Any:
                cls = fastai_text.TextLMDataBunch
                key = f"lm-{direction}"
                data = kept(key, lambda: bunch(cls=cls, label_cols=None, bs=4, backwards=direction == "backward"))
                return language_model(data, full, config={**ONE, **config}, change=change)

            what = f"A language model of QRNNs: {name}"
            yield from three_ways(full, what, make, Import(), SAID, direction, kind="qrnn-language-models")
    for name, more in (("multifit", copied_model), ("multifit-old-names", with_old_names)):
        full = f"v1-qrnn-language-models-sentencepiece-{name}-backward"

        def made(full: str = full) -> Any:
            return language_model(lm_pieces(full, "backward"), full, config=MULTIFIT)

        for each in three_ways(
            full, "MultiFiT's", made, Import(), OF_PIECES, "backward", kind="qrnn-language-models", copied=more
        ):
            if name == "multifit" or each.name.endswith(("-pth", "-encoder")):
                yield each


def with_old_names(learn: Any, folder: Any) -> dict[str, str]:
    """Copy the model of sentencepiece, and rename the tensors."""
    if list(folder.glob("*.pth")):
        qrnns.with_old_names(learn, folder)
    return copied_model(learn, folder)


KINDS = (classifiers, multifit, variants, saved, language_models)
