"""Values as the pickle reader returns them for exports of fastai v1 and v2, made without torch and fastai."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways.interop.pickle_reader import GlobalName, Record
from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS

State = dict[str, NDArray[np.float32]]
ModuleState = tuple[str, dict[str, object]]

V1_RULES = ["fix_html", "replace_rep", "replace_wrep", "spec_add_spaces", "rm_useless_spaces"]
V2_RULES = [*V1_RULES, "replace_all_caps", "replace_maj", "lowercase"]


def vocabulary(version: int, words: Sequence[str]) -> list[str]:
    return [*FASTAI_CONTROL_TOKENS[f"fastai-v{version}"], *words]


def an_object(name: str, state: object = None, *arguments: object, items: Sequence[object] = ()) -> Record:
    """Return the record of an object, as the pickle reader makes it."""
    module, _, last = name.rpartition(".")
    return Record(GlobalName(module, last), arguments, {}, state, list(items), [])


def modules_of(state: State, module_states: dict[str, ModuleState] | None = None) -> Record:
    """Return the record of a module tree with these tensors. ``module_states`` gives names and states to modules."""
    named = module_states or {}

    def build(prefix: str) -> Record:
        here = {name[len(prefix) :]: array for name, array in state.items() if name.startswith(prefix)}
        children = dict.fromkeys(name.split(".")[0] for name in here if "." in name)
        name, more = named.get(prefix, ("torch.nn.modules.container.Sequential", {}))
        return an_object(
            name,
            {
                "_parameters": {name: array for name, array in here.items() if "." not in name},
                "_buffers": {},
                "_modules": {child: build(f"{prefix}{child}.") for child in children},
                **more,
            },
        )

    return build("")


def v1_export(
    state: State, words: Sequence[str], labels: Sequence[str] | None, *, window: int = 70, longest: int = 1400
) -> dict[str, Any]:
    """Return what fastai v1's ``export`` writes, as the pickle reader returns it."""
    data = "fastai.text.data"
    tokenizer = an_object(
        "fastai.text.transform.Tokenizer",
        {
            "tok_func": GlobalName("fastai.text.transform", "SpacyTokenizer"),
            "lang": "en",
            "special_cases": list(FASTAI_CONTROL_TOKENS["fastai-v1"]),
            "pre_rules": [GlobalName("fastai.text.transform", rule) for rule in V1_RULES],
            "post_rules": [GlobalName("fastai.text.transform", rule) for rule in ("replace_all_caps", "deal_caps")],
            "n_cpus": 1,
        },
    )
    tokenize = {
        "tokenizer": tokenizer,
        "chunksize": 10000,
        "mark_fields": False,
        "include_bos": True,
        "include_eos": False,
    }
    vocab = an_object("fastai.text.transform.Vocab", {"itos": list(words)})
    numericalize = {"vocab": vocab, "max_vocab": 60000, "min_freq": 2}
    encoder: ModuleState = ("fastai.text.learner.MultiBatchEncoder", {"bptt": window, "max_len": longest, "pad_idx": 1})
    loss = an_object("fastai.layers.FlattenedLoss", {"func": an_object("torch.nn.modules.loss.CrossEntropyLoss", {})})
    return {
        "model": modules_of(state, {"0.": encoder} if labels is not None else {}),
        "loss_func": loss,
        "data": {
            "x_cls": GlobalName(data, "TextList"),
            "x_proc": [
                an_object(f"{data}.TokenizeProcessor", tokenize),
                an_object(f"{data}.NumericalizeProcessor", numericalize),
            ],
            "y_cls": GlobalName("fastai.data_block", "CategoryList" if labels is not None else "EmptyLabelList"),
            "y_proc": [an_object("fastai.data_block.CategoryProcessor", {"classes": list(labels)})] if labels else [],
        },
        "cls": GlobalName("fastai.text.learner", "RNNLearner"),
    }


def v2_export(state: State, words: Sequence[str], labels: Sequence[str] | None, *, is_backward: bool = False) -> Record:
    """Return what fastai v2's ``export`` writes, as the pickle reader returns it."""
    core = "fastai.text.core"
    tokenizer = an_object(
        f"{core}.Tokenizer",
        {
            "tok": an_object(
                f"{core}.SpacyTokenizer", {"special_toks": list(FASTAI_CONTROL_TOKENS["fastai-v2"]), "pipe": None}
            ),
            "rules": [GlobalName(core, rule) for rule in V2_RULES],
        },
    )
    numericalize = {"vocab": list(words), "o2i": {word: i for i, word in enumerate(words) if word != "xxfake"}}
    transforms = [
        an_object("fastai.data.transforms.ColReader", {"cols": a_list("review")}),
        tokenizer,
        an_object("fastai.text.data.Numericalize", numericalize),
    ]
    if is_backward:
        turn = an_object("plum.Function", {"methods": [GlobalName("fastai.text.data", "reverse_text")]})
        transforms.append(an_object("fasttransform.transform.Transform", {"encodes": turn}))
    pipelines = [transforms]
    if labels is not None:
        category_map = an_object("fastai.data.transforms.CategoryMap", {"items": a_list(*labels), "sort": True})
        categorize = an_object("fastai.data.transforms.Categorize", {"vocab": category_map})
        pipelines.append([an_object("fastai.data.transforms.ColReader", {"cols": a_list("mood")}), categorize])
    lists = [
        an_object(
            "fastai.data.core.TfmdLists",
            {"tfms": an_object("fasttransform.transform.Pipeline", {"fs": a_list(*transforms)})},
        )
        for transforms in pipelines
    ]
    dataset = an_object("fastai.data.core.Datasets", {"tls": a_list(*lists)})
    loader = an_object("fastai.text.data.SortedDL", {"dataset": dataset})
    encoder: ModuleState = ("fastai.text.models.core.SentenceEncoder", {"bptt": 72, "max_len": 1440, "pad_idx": 1})
    return an_object(
        "fastai.text.learner.TextLearner",
        {
            "dls": an_object("fastai.data.core.DataLoaders", {"loaders": [loader, loader]}),
            "model": modules_of(state, {"0.": encoder} if labels is not None else {}),
            "loss_func": an_object("fastai.losses.CrossEntropyLossFlat", {}),
        },
    )


def a_list(*items: object) -> Record:
    return an_object("fastcore.foundation.L", {"items": list(items)})
