"""Values as the pickle reader returns them for exports of fastai v1 and v2, made without torch and fastai."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways.interop.pickle_reader import GlobalName, Record
from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS

State = dict[str, NDArray[np.float32]]

V1_RULES = ["fix_html", "replace_rep", "replace_wrep", "spec_add_spaces", "rm_useless_spaces"]
V2_RULES = [*V1_RULES, "replace_all_caps", "replace_maj", "lowercase"]


def vocabulary(version: int, words: Sequence[str]) -> list[str]:
    return [*FASTAI_CONTROL_TOKENS[f"fastai-v{version}"], *words]


def an_object(name: str, state: object = None, *arguments: object, items: Sequence[object] = ()) -> Record:
    """Return the record of an object, as the pickle reader makes it."""
    module, _, last = name.rpartition(".")
    return Record(GlobalName(module, last), arguments, {}, state, list(items), [])


def modules_of(state: State, version: int = 2, **window: int | None) -> Record:
    """Return the record of a classifier, or of a language model, with the modules of fastai and these tensors."""
    core = "fastai.text.models.awd_lstm" if version == 1 else "fastai.text.models.core"
    is_classifier = any(name.startswith("0.module.") for name in state)
    if not is_classifier:
        linear = _module("torch.nn.modules.linear.Linear", _tensors(state, "1.decoder."))
        children = {"decoder": linear, "output_dp": _dropout(version)}
        parts = {"0": _encoder(state, "0.", version), "1": _module(f"{core}.LinearDecoder", children=children)}
        return _module(f"{core}.SequentialRNN", children=parts)
    sentences = "fastai.text.learner.MultiBatchEncoder" if version == 1 else f"{core}.SentenceEncoder"
    head = "fastai.text.learner" if version == 1 else core
    usual = {"bptt": 70, "max_len": 1400} if version == 1 else {"bptt": 72, "max_len": 1440}
    encoder = _module(sentences, None, {"module": _encoder(state, "0.module.", version)}, pad_idx=1, **(usual | window))
    layers = _module("torch.nn.modules.container.Sequential", children=_head(state))
    parts = {"0": encoder, "1": _module(f"{head}.PoolingLinearClassifier", children={"layers": layers})}
    return _module(f"{core}.SequentialRNN", children=parts)


def _encoder(state: State, before: str, version: int) -> Record:
    awd = "fastai.text.models.awd_lstm" if version == 1 else "fastai.text.models.awdlstm"
    embedding = _module("torch.nn.modules.sparse.Embedding", _tensors(state, f"{before}encoder."), max_norm=None)
    rnns, dropouts = {}, {}
    is_qrnn = any(".layers.0.linear." in name for name in state)
    for layer in range(sum(name.endswith(("weight_hh_l0_raw", "linear.weight_raw")) for name in state)):
        place = f"{before}rnns.{layer}."
        rnns[str(layer)] = _qrnn(state, place, awd, layer) if is_qrnn else _lstm(state, place, awd)
        dropouts[str(layer)] = _dropout(version)
    children = {
        "encoder": embedding,
        "encoder_dp": _module(f"{awd}.EmbeddingDropout", children={"emb": embedding}),
        "rnns": _module("torch.nn.modules.container.ModuleList", children=rnns),
        "input_dp": _dropout(version),
        "hidden_dps": _module("torch.nn.modules.container.ModuleList", children=dropouts),
    }
    if version == 1:
        return _module(f"{awd}.AWD_LSTM", children=children, n_layers=len(rnns), n_dir=1, qrnn=is_qrnn)
    return _module(f"{awd}.{'AWD_QRNN' if is_qrnn else 'AWD_LSTM'}", children=children, n_layers=len(rnns), n_dir=1)


def _lstm(state: State, place: str, awd: str) -> Record:
    lstm = _module("torch.nn.modules.rnn.LSTM", _tensors(state, f"{place}module."), batch_first=True, num_layers=1)
    return _module(f"{awd}.WeightDropout", _tensors(state, place), {"module": lstm}, layer_names=["weight_hh_l0"])


def _qrnn(state: State, place: str, awd: str, layer: int) -> Record:
    """Return a QRNN with the options that fastai gives it, as far as the shapes of its tensors fit them."""
    place += "layers.0.linear."
    linear = _module("torch.nn.modules.linear.Linear", _tensors(state, f"{place}module."))
    dropped = _module(f"{awd}.WeightDropout", _tensors(state, place), {"module": linear}, layer_names=["weight"])
    options = {"window": 1 if layer else 2, "output_gate": True, "save_prev_x": True, "zoneout": 0, "batch_first": True}
    one = _module("fastai.text.models.qrnn.QRNNLayer", None, {"linear": dropped}, backward=False, prevX=None, **options)
    listed = _module("torch.nn.modules.container.ModuleList", children={"0": one})
    return _module("fastai.text.models.qrnn.QRNN", None, {"layers": listed}, n_layers=1, bidirectional=False)


def _head(state: State) -> dict[str, Record]:
    """Return the layers of a head: one after the other as in v1, or in the blocks of v2, as the tensors are named."""
    norms = sorted(name.removesuffix("running_mean") for name in state if name.endswith("running_mean"))
    blocks = []
    for norm in norms:
        linear = norm[: norm[:-1].rindex(".") + 1] + f"{int(norm.split('.')[-2]) + 2}."
        layers = [
            _module("torch.nn.modules.batchnorm.BatchNorm1d", _tensors(state, norm), eps=1e-5, affine=True),
            _module("torch.nn.modules.dropout.Dropout", p=0.1),
            _module("torch.nn.modules.linear.Linear", _tensors(state, linear)),
            *([_module("torch.nn.modules.activation.ReLU")] if norm != norms[-1] else []),
        ]
        blocks.append(layers)
    if norms[0].count(".") == 3:
        return {str(place): layer for place, layer in enumerate(layer for block in blocks for layer in block)}
    named = [{str(place): layer for place, layer in enumerate(block)} for block in blocks]
    return {str(place): _module("fastai.layers.LinBnDrop", children=block) for place, block in enumerate(named)}


def _tensors(state: State, before: str) -> State:
    return {n.removeprefix(before): a for n, a in state.items() if n.startswith(before) and "." not in n[len(before) :]}


def _module(
    name: str, tensors: State | None = None, children: dict[str, Record] | None = None, **options: object
) -> Record:
    state = {"training": False, "_parameters": tensors or {}, "_buffers": {}, "_modules": children or {}, **options}
    return an_object(name, state)


def _dropout(version: int) -> Record:
    return _module(f"fastai.text.models.{'awd_lstm' if version == 1 else 'awdlstm'}.RNNDropout", p=0.1)


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
    loss = an_object("fastai.layers.FlattenedLoss", {"func": an_object("torch.nn.modules.loss.CrossEntropyLoss", {})})
    return {
        "model": modules_of(state, 1, bptt=window, max_len=longest),
        "loss_func": loss,
        "cb_state": {GlobalName("fastai.callbacks.rnn", "RNNTrainer"): {"alpha": 2.0}},
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
        turn = GlobalName("fastai.text.data", "reverse_text")
        transforms.append(of_function(turn))
    pipelines = [transforms]
    if labels is not None:
        category_map = an_object("fastai.data.transforms.CategoryMap", {"items": a_list(*labels), "sort": True})
        categorize = an_object("fastai.data.transforms.Categorize", {"vocab": category_map})
        pipelines.append([an_object("fastai.data.transforms.ColReader", {"cols": a_list("mood")}), categorize])
    text = (GlobalName("__builtin__", "unicode"), GlobalName("__builtin__", "list"))
    lists = [
        an_object(
            "fastai.data.core.TfmdLists",
            {"tfms": a_pipeline(*transforms), "types": [GlobalName("pandas", "Series"), text]},
        )
        for transforms in pipelines
    ]
    dataset = an_object("fastai.data.core.Datasets", {"tls": a_list(*lists), "n_inp": 1})
    stages = {
        "after_item": a_pipeline(an_object("fastai.data.transforms.ToTensor", {"order": 5})),
        "before_batch": a_pipeline(an_object("fastai.text.data.Pad_Chunk", {"pad_idx": 1, "seq_len": 72})),
        "after_batch": a_pipeline(),
    }
    loader = an_object("fastai.text.data.SortedDL", {"dataset": dataset, **stages})
    return an_object(
        "fastai.text.learner.TextLearner",
        {
            "dls": an_object("fastai.data.core.DataLoaders", {"loaders": [loader, loader]}),
            "model": modules_of(state),
            "loss_func": an_object("fastai.losses.CrossEntropyLossFlat", {"axis": -1}),
            "cbs": a_list(an_object("fastai.callback.rnn.RNNCallback", {})),
        },
    )


def with_several_labels(
    export: Any,
    labels: Sequence[str],
    *,
    threshold: object = 0.5,
    columns: Sequence[str] = ("mood",),
    is_backward: bool = False,
) -> Any:
    """Change an export to that of a multi-label classifier, and return it."""
    if isinstance(export, dict):
        processor = an_object("fastai.data_block.MultiCategoryProcessor", {"classes": list(labels), "one_hot": False})
        kind = GlobalName("fastai.data_block", "MultiCategoryList")
        export["data"].update(y_cls=kind, y_proc=[processor])
        loss = an_object("torch.nn.modules.loss.BCEWithLogitsLoss", {})
        export["loss_func"] = an_object("fastai.layers.FlattenedLoss", {"func": loss})
        return export
    path = "fastai.data.transforms"
    category_map = an_object(f"{path}.CategoryMap", {"items": a_list(*labels), "sort": True})
    if len(columns) > 1:
        last = [an_object(f"{path}.EncodedMultiCategorize", {"vocab": category_map, "c": len(labels)})]
    else:
        categorize = an_object(f"{path}.MultiCategorize", {"vocab": category_map})
        last = [categorize, an_object(f"{path}.OneHotEncode", {"c": len(labels)})]
    separator = ";" if len(columns) == 1 else None
    _relabel(export, [_reader(columns, separator), *last], is_backward=is_backward)
    export.state["loss_func"] = an_object("fastai.losses.BCEWithLogitsLossFlat", {"axis": -1, "thresh": threshold})
    return export


def with_numbers(
    export: Any,
    columns: Sequence[str] = ("stars",),
    value_range: tuple[float, float] | None = None,
    *,
    before: Sequence[Record] = (),
    more: Sequence[Record] = (),
    is_backward: bool = False,
) -> Any:
    """Change an export to that of a regression, and return it."""
    func = an_object("torch.nn.modules.loss.MSELoss", {})
    if isinstance(export, dict):
        export["data"].update(y_cls=GlobalName("fastai.data_block", "FloatList"), y_proc=[])
        export["loss_func"] = an_object("fastai.layers.FlattenedLoss", {"func": func})
        return export
    setup = an_object("fastai.data.transforms.RegressionSetup", {"c": len(columns)})
    _relabel(export, [_reader(columns), *before, setup, *more], is_backward=is_backward)
    export.state["loss_func"] = an_object("fastai.losses.BaseLoss", {"axis": -1, "func": func})
    if value_range is not None:
        layers = export.state["model"].state["_modules"]["1"].state["_modules"]["layers"].state["_modules"]
        low, high = value_range
        layers[str(len(layers))] = _module("fastai.layers.SigmoidRange", low=low, high=high)
    return export


def _reader(columns: Sequence[str], separator: str | None = None) -> Record:
    return an_object("fastai.data.transforms.ColReader", {"cols": a_list(*columns), "label_delim": separator})


def _relabel(export: Record, transforms: Sequence[Record], *, is_backward: bool) -> None:
    """Replace the transforms of the labels."""
    state: Any = export.state
    text, labels = state["dls"].state["loaders"][1].state["dataset"].state["tls"].state["items"]
    labels.state["tfms"] = a_pipeline(*transforms)
    if is_backward:
        text.state["tfms"].state["fs"].state["items"].append(
            of_function(GlobalName("fastai.text.data", "reverse_text"))
        )


def a_list(*items: object) -> Record:
    return an_object("fastcore.foundation.L", {"items": list(items)})


def a_pipeline(*transforms: Record) -> Record:
    return an_object("fasttransform.transform.Pipeline", {"fs": a_list(*transforms), "split_idx": 1})


def of_function(function: object, **options: object) -> Record:
    """Return the transform that fastai 2.8 makes of a function."""
    choice = an_object("plum._function.Function", {"_f": function, "_resolved": [(function, None, 0)], "_pending": []})
    return an_object("fasttransform.transform.Transform", {"encodes": choice, "split_idx": None, **options})
