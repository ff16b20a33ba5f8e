"""The facts in a fastai file are found, and models that can't be imported faithfully are refused with the reason.

The records are made by hand, in the shape of the real files; tests/parity has the real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bothways.bundle.manifest import FastaiPooling
from bothways.errors import ConfigError, ForeignModelError
from bothways.interop.fastai_learner import learner_facts
from bothways.interop.learner_facts import Requested, TaskFacts, labels_of, vocabulary_of
from bothways.interop.pickle_reader import GlobalName, Record
from bothways.text.reading import Direction
from tests.bundles import LABELS, TinyClassifiers, TinyLanguageModels
from tests.unit.interop.exports import (
    V2_RULES,
    State,
    a_list,
    an_object,
    modules_of,
    of_function,
    v1_export,
    v2_export,
    vocabulary,
)
from tests.unit.interop.foreign import fastai_state
from tests.words import WORDS


@pytest.fixture(scope="module")
def state(torch_models: TinyClassifiers) -> State:
    return fastai_state(torch_models.models[Direction.FORWARD])


def test_a_v1_export_records_everything_but_its_direction(state: State) -> None:
    facts = learner_facts(v1_export(state, vocabulary(1, WORDS), LABELS), "export.pkl")
    assert facts.library == "fastai 1"
    assert (facts.cleaning, facts.language, facts.marks_field, facts.ends) == ("fastai-v1", "en", False, False)
    assert facts.vocabulary == vocabulary(1, WORDS)
    assert facts.task == TaskFacts("single-label", tuple(LABELS))
    assert facts.direction is None
    assert facts.pooling == FastaiPooling(window_tokens=70, tail_tokens=1399, last_skips_padding=False)
    assert facts.state.keys() == state.keys()


@pytest.mark.parametrize("is_backward", [False, True])
def test_a_v2_export_records_its_direction(state: State, is_backward: bool) -> None:
    facts = learner_facts(v2_export(state, vocabulary(2, WORDS), LABELS, is_backward=is_backward), "export.pkl")
    assert facts.library == "fastai 2"
    assert facts.direction is (Direction.BACKWARD if is_backward else Direction.FORWARD)
    assert facts.task == TaskFacts("single-label", tuple(LABELS), label_column="mood")
    assert facts.pooling == FastaiPooling(window_tokens=72, tail_tokens=1440, last_skips_padding=True)
    assert facts.text_column == "review"
    assert facts.state.keys() == state.keys()


def test_pooling_of_whole_texts_differs_from_unknown_pooling(state: State) -> None:
    export = v2_export(state, vocabulary(2, WORDS), LABELS)
    module(export, "0").state["max_len"] = None
    pooling = learner_facts(export, "x").pooling
    assert pooling == FastaiPooling(window_tokens=72, tail_tokens=None, last_skips_padding=True)
    assert learner_facts(dict(state), "x").pooling is None


def test_fillers_of_v2_are_not_words(state: State) -> None:
    words = [*vocabulary(2, WORDS), "xxfake", "xxfake"]
    assert learner_facts(v2_export(state, words, LABELS), "x").vocabulary == [*vocabulary(2, WORDS), "", ""]
    given = v2_export(state, words, LABELS)  # a vocabulary that was passed in: there, fastai looks fillers up
    transform(given, "Numericalize")["o2i"] = {word: i for i, word in enumerate(words)}
    assert learner_facts(given, "x").vocabulary == words


def test_a_language_model_has_no_labels(torch_language_models: TinyLanguageModels) -> None:
    state = fastai_state(torch_language_models.models[Direction.BACKWARD])
    for export in (v1_export(state, vocabulary(1, WORDS), None), v2_export(state, vocabulary(2, WORDS), None)):
        facts = learner_facts(export, "x")
        assert (facts.task, facts.pooling) == (None, None)


def test_weights_are_found_with_an_optimizer_bare_and_as_modules(state: State) -> None:
    for value in (dict(state), {"model": dict(state), "opt": {}}, modules_of(state)):
        facts = learner_facts(value, "x.pth")
        assert facts.state.keys() == state.keys()
        assert (facts.library, facts.vocabulary, facts.direction) == ("fastai", None, None)


def test_an_own_function_that_predict_does_not_call_is_reported(state: State) -> None:
    """``learn.predict`` begins with the first transform that takes a text. Rows go through those before it."""
    export = v2_export(state, vocabulary(2, WORDS), LABELS)
    pipeline(export)[0] = of_function(GlobalName("__main__", "get_review"))
    (remark,) = learner_facts(export, "export.pkl").remarks
    assert "__main__.get_review, which is not imported, and which learn.predict does not call" in remark


def test_rules_are_imported_by_their_names(state: State) -> None:
    first = v1_export(state, vocabulary(1, WORDS), LABELS)
    v1_tokenizer(first).update(pre_rules=v1_tokenizer(first)["pre_rules"][3:1:-1], post_rules=[])
    facts = learner_facts(first, "x")
    assert (facts.rules, facts.post_rules) == (["spec_add_spaces", "replace_wrep"], [])
    second = v2_export(state, vocabulary(2, WORDS), LABELS)
    transform(second, "Tokenizer").update(rules=a_list(rule("replace_rep"), a_partial(rule("lowercase"), False, True)))
    facts = learner_facts(second, "x")
    assert (facts.rules, facts.begins, facts.ends) == (["replace_rep", "lowercase"], False, True)


@pytest.mark.parametrize("requested", [None, ("fix_html",), tuple(V2_RULES)])
def test_an_own_function_before_the_rules_is_left_out_only_on_request(
    state: State, requested: tuple[str, ...] | None
) -> None:
    export = v2_export(state, vocabulary(2, WORDS), LABELS)
    transform(export, "Tokenizer")["rules"].insert(0, GlobalName("__main__", "clean"))
    if requested == tuple(V2_RULES):
        facts = learner_facts(export, "export.pkl", Requested(rules=requested))
        assert facts.rules is None
        assert "its own function __main__.clean, which is not imported, as requested" in facts.remarks[0]
        with pytest.raises(ConfigError, match="records its cleaning rules: drop --rules"):
            learner_facts(v2_export(state, vocabulary(2, WORDS), LABELS), "export.pkl", Requested(rules=requested))
        return
    message = r"__main__.clean, expected only .* import the model with --rules fix_html,replace_rep,"
    if requested:
        message = "after its own functions it applies the rules fix_html, replace_rep,.* but --rules has fix_html:"
    with pytest.raises((ForeignModelError, ConfigError), match=message):
        learner_facts(export, "export.pkl", Requested(rules=requested))


def test_texts_split_at_a_separator_are_imported(state: State) -> None:
    first, second = v1_export(state, vocabulary(1, WORDS), LABELS), v2_export(state, vocabulary(2, WORDS), LABELS)
    v1_tokenizer(first).update(tok_func=GlobalName("fastai.text.transform", "BaseTokenizer"))
    transform(second, "Tokenizer").update(tok=an_object("fastai.text.core.BaseTokenizer", {"split_char": "|"}))
    assert [learner_facts(export, "x").separator for export in (first, second)] == [" ", "|"]


@pytest.mark.parametrize("version", [1, 2])
def test_raw_scores_become_a_softmax_only_on_request(state: State, version: int) -> None:
    """In v1 the name of a loss decides, in v2 its methods: torch's own loss has a softmax in v1 alone."""
    export: Any = (v1_export, v2_export)[version - 1](state, vocabulary(version, WORDS), LABELS)
    fields = export if version == 1 else export.state
    fields.update(loss_func=an_object("__main__.FocalLoss", {"gamma": 2}))
    if version == 2:
        fields.update(loss_func=GlobalName("__main__", "focal_loss"))
    with pytest.raises(ForeignModelError, match=r"returns raw scores, .*add --probabilities softmax"):
        learner_facts(export, "export.pkl")
    (remark,) = learner_facts(export, "export.pkl", Requested("softmax")).remarks
    assert "The bundle returns a softmax, as requested" in remark
    fields.update(loss_func=an_object("torch.nn.modules.loss.CrossEntropyLoss", {}))
    if version == 1:
        assert not learner_facts(export, "export.pkl").remarks
    else:
        with pytest.raises(ForeignModelError, match=r"loss.CrossEntropyLoss, for which .* raw scores"):
            learner_facts(export, "export.pkl")


@pytest.mark.parametrize("version", [1, 2])
def test_callbacks_and_transforms_that_do_nothing_in_a_prediction_are_known(state: State, version: int) -> None:
    if version == 1:
        first = v1_export(state, vocabulary(1, WORDS), LABELS)
        first["cb_state"][GlobalName("fastai.callbacks.tracker", "SaveModelCallback")] = {"name": "best"}
        assert labels_in(first) == LABELS
        return
    second = v2_export(state, vocabulary(2, WORDS), LABELS)
    second.state["cbs"] = a_list(an_object("fastai.callback.fp16.MixedPrecision", {"autocast": None}))  # type: ignore[index]
    stage(second, "before_batch").append(a_partial_transform("pad_input_chunk", seq_len=72))
    stage(second, "after_item").append(of_function(GlobalName("__main__", "augment"), split_idx=0))
    pipeline(second).append(of_function(GlobalName("fastcore.imports", "noop")))
    assert labels_in(second) == LABELS


def test_a_model_with_circular_records_is_read(state: State) -> None:
    export = v2_export(state, vocabulary(2, WORDS), LABELS)
    module(export, "0").state["seen"] = [export]
    assert labels_in(export) == LABELS


def labels_in(export: object) -> list[str]:
    task = learner_facts(export, "x").task
    return [] if task is None else list(task.labels)


def module(export: Record, name: str) -> Any:
    return export.state["model"].state["_modules"][name]  # type: ignore[index]


def loader(export: Record) -> Any:
    return export.state["dls"].state["loaders"][1].state  # type: ignore[index]


def stage(export: Record, name: str) -> Any:
    return loader(export)[name].state["fs"].state["items"]


def pipeline(export: Record, number: int = 0) -> Any:
    lists: Any = loader(export)["dataset"].state["tls"]
    return lists.state["items"][number].state["tfms"].state["fs"].state["items"]


def transform(export: Record, name: str, number: int = 0) -> Any:
    return next(t for t in pipeline(export, number) if t.name.endswith(name)).state


def rule(name: str) -> GlobalName:
    return GlobalName("fastai.text.core", name)


def a_partial(function: object, *arguments: object, **options: object) -> Record:
    return an_object("functools.partial", (function, arguments, options, None), function)


def a_partial_transform(name: str, **options: object) -> Record:
    return of_function(a_partial(GlobalName("fastai.text.data", name), **options))


def child(module: Any, *names: str) -> Any:
    """Return a submodule's state."""
    for name in names:
        module = module.state["_modules"][name]
    return module.state


def v1_tokenizer(export: dict[str, Any]) -> Any:
    return export["data"]["x_proc"][0].state["tokenizer"].state


OWN_FUNCTION = GlobalName("__main__", "own")
OWN_OBJECT = an_object("__main__.Own", {})

V1_REFUSED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "SentencePiece": (
        lambda e: e["data"].update(
            x_proc=[an_object("fastai.text.data.SPProcessor", {"vocab": e["data"]["x_proc"][1].state["vocab"]})]
        ),
        "uses a SentencePiece model",
    ),
    "a processor of one's own": (
        lambda e: e["data"]["x_proc"].append(an_object("__main__.Cleaner", {})),
        "a processor of its texts is __main__.Cleaner",
    ),
    "processors in another order": (
        lambda e: e["data"]["x_proc"].reverse(),
        "have the processors NumericalizeProcessor, TokenizeProcessor, expected",
    ),
    "a processor with code of one's own": (
        lambda e: e["data"]["x_proc"][0].state.update(process_one=OWN_FUNCTION),
        "has __main__.own as its process_one",
    ),
    "pictures": (lambda e: e["data"].update(x_proc=[]), "not a text model: its texts have the processors none"),
    "a list of one's own": (
        lambda e: e["data"].update(x_cls=GlobalName("__main__", "TextList")),
        "its list of texts is __main__.TextList",
    ),
    "labels of one's own": (
        lambda e: e["data"].update(y_cls=GlobalName("__main__", "CategoryList")),
        "its list of labels is __main__.CategoryList",
    ),
    "a learner of one's own": (
        lambda e: e.update(cls=GlobalName("__main__", "MyLearner")),
        "its learner is __main__.My",
    ),
    "transforms": (lambda e: e["data"].update(tfms=[OWN_FUNCTION]), r"are changed by tfms \(a list of 1"),
    "a callback of one's own": (
        lambda e: e["cb_state"].update({GlobalName("__main__", "RNNTrainer"): {}}),
        "has the callback __main__.RNNTrainer, which may change predictions",
    ),
    "a rule of one's own": (
        lambda e: v1_tokenizer(e)["pre_rules"].append(GlobalName("__main__", "replace_rep")),
        r"with its own function __main__.replace_rep, expected only fastai's rules",
    ),
    "a rule of one's own for tokens": (
        lambda e: v1_tokenizer(e).update(post_rules=[GlobalName("mine", "deal_caps")]),
        "with its own function mine.deal_caps, .*: it can't be imported",
    ),
    "another tokenizer": (
        lambda e: v1_tokenizer(e).update(tok_func=GlobalName("__main__", "SpacyTokenizer")),
        "its tokenizer is __main__.SpacyTokenizer, expected fastai's SpacyTokenizer",
    ),
    "a tokenizer with code of one's own": (
        lambda e: v1_tokenizer(e).update(process_text=a_partial(OWN_FUNCTION)),
        "has __main__.own as its process_text",
    ),
    "control tokens of another kind": (
        lambda e: v1_tokenizer(e).update(special_cases="xxunk"),
        "special_cases is a str",
    ),
    "several labels": (
        lambda e: e["data"].update(y_cls=GlobalName("fastai.data_block", "MultiCategoryList")),
        r"has 0 lists of labels \(MultiCategoryProcessor\)",
    ),
    "numbers": (
        lambda e: e["data"].update(y_proc=[], y_cls=GlobalName("fastai.data_block", "FloatList")),
        "predicts numbers, but its loss is",
    ),
    "a loss without softmax": (
        lambda e: e.update(loss_func=an_object("torch.nn.modules.loss.BCEWithLogitsLoss", {})),
        "its loss is torch.nn.modules.loss.BCEWithLogitsLoss, for which learn.predict returns a sigmoid",
    ),
    "a softmax over texts": (lambda e: e["loss_func"].state.update(axis=0), "its axis is 0"),
    "a window longer than what is pooled": (
        lambda e: e["model"].state["_modules"]["0"].state.update(max_len=20),
        "pools max_len=20 tokens in windows of bptt=70",
    ),
    "QRNNs that are LSTMs": (
        lambda e: child(e["model"], "0", "module").update(qrnn=True),
        "layer 0 of its encoder is fastai.text.models.awd_lstm.WeightDropout, expected fastai's QRNN",
    ),
    "fastai 1.0.42": (
        lambda e: (
            e["model"].state["_modules"].update({"0": an_object("fastai.text.models.awd_lstm.MultiBatchRNNCore")})
        ),
        "fastai 1.0.42 and older split texts in another way",
    ),
    "data of another kind": (lambda e: e.update(data=[1]), "its data is a list of 1"),
    "a model of another kind": (lambda e: e.update(model="net"), "its model is str, expected fastai's SequentialRNN"),
}


@pytest.mark.parametrize("case", V1_REFUSED)
def test_unsupported_models_are_refused_for_v1(state: State, case: str) -> None:
    change, message = V1_REFUSED[case]
    export = v1_export(state, vocabulary(1, WORDS), LABELS)
    change(export)
    with pytest.raises(ForeignModelError, match=message):
        learner_facts(export, "export.pkl")


def in_notebook(name: str) -> Record:
    """Return a class as cloudpickle writes one of a notebook."""
    kind = an_object(
        "cloudpickle.cloudpickle._make_skeleton_class", None, rule("type"), name, (), {"__module__": "__main__"}
    )
    return Record(kind, (), {}, {}, [], [])


def a_lambda() -> Record:
    code = an_object("types.CodeType", None, 1, b"", ("x",), "notebook.py", "<lambda>", "f.<locals>.<lambda>")
    return an_object("cloudpickle.cloudpickle._make_function", None, code, {"__name__": "__main__"}, None)


AWD = ("0", "module")
LAYER = (*AWD, "rnns", "0", "module")
V2_MODULES: dict[str, tuple[tuple[str, ...], dict[str, object], str]] = {
    "a hook": ((), {"_forward_hooks": {1: OWN_FUNCTION}}, r"its model has a hook \(__main__.own in _forward_hooks\)"),
    "a hook before": (LAYER, {"_forward_pre_hooks": {1: OWN_OBJECT}}, r"has a hook \(__main__.Own in _forward_pre"),
    "a method of one's own": (("1",), {"forward": a_lambda()}, "its head has __main__.<lambda> as its forward"),
    "a learner's reset": (AWD, {"reset": OWN_FUNCTION}, "its encoder has __main__.own as its reset"),
    "another module": (
        (),
        {"_modules": {"0": OWN_OBJECT, "1": OWN_OBJECT, "2": OWN_OBJECT}},
        "has the modules 0, 1, 2",
    ),
    "two directions": (LAYER, {"bidirectional": True}, "layer 0 of its encoder has bidirectional=True, expected False"),
    "time first": (LAYER, {"batch_first": False}, "has batch_first=False, expected True"),
    "projections": (LAYER, {"proj_size": 3}, "has proj_size=3, expected 0"),
    "two layers in one": (LAYER, {"num_layers": 2}, "has num_layers=2, expected 1"),
    "embeddings of bounded norm": (
        (*AWD, "encoder"),
        {"max_norm": 1.0},
        "its embedding has max_norm=1.0, expected None",
    ),
    "another padding": (("0",), {"pad_idx": 0}, "its encoder has pad_idx=0, expected 1"),
    "dropout of other weights": ((*AWD, "rnns", "0"), {"layer_names": ["weight_ih_l0"]}, "layer_names is a list of 1"),
    "layers left out": (AWD, {"n_layers": 1}, "n_layers is an int.*, expected 2, the number"),
    "dropouts left out": ((*AWD, "hidden_dps"), {"_modules": {}}, "its list of dropouts .* has the modules none"),
    "another norm": (("1", "layers", "0", "0"), {"eps": 0.1}, "layer 0 of its head has eps=0.1, expected 1e-05"),
}
"""Modules, the attributes that they are given, and the messages."""
V2_LAYERS: dict[str, tuple[tuple[str, ...], object, str]] = {
    "an encoder of one's own": (AWD, an_object("__main__.AWD_LSTM", {}), "its encoder is __main__.AWD_LSTM"),
    "an encoder of a notebook": (
        AWD,
        in_notebook("AWD_LSTM"),
        "its encoder is __main__.AWD_LSTM, expected fastai's AWD",
    ),
    "a transformer": (
        AWD,
        an_object("fastai.text.models.transformer.Transformer", {}),
        "transformer.Transformer, expected",
    ),
    "another window": (
        ("0",),
        an_object("mine.SentenceEncoder", {}),
        "is mine.SentenceEncoder, expected fastai's Multi",
    ),
    "a head of one's own": (("1",), in_notebook("Attention"), "its head is __main__.Attention"),
    "GRUs": (LAYER, an_object("torch.nn.modules.rnn.GRU", {}), "layer 0 of its encoder is torch.nn.modules.rnn.GRU"),
    "another activation": (
        ("1", "layers", "0", "3"),
        an_object("torch.nn.modules.activation.GELU", {"_modules": {}}),
        "layer 3 of its head is torch.nn.modules.activation.GELU, expected fastai's BatchNorm1d, Dropout",
    ),
    "no activation": (
        ("1", "layers", "0", "3"),
        an_object("torch.nn.modules.dropout.Dropout", {"_modules": {}}),
        "its head has the layers BatchNorm1d, Dropout, Linear, Dropout, BatchNorm1d, Dropout, Linear, expected",
    ),
}


@pytest.mark.parametrize("case", [*V2_MODULES, *V2_LAYERS])
def test_modules_are_matched_one_by_one(state: State, case: str) -> None:
    export: Any = v2_export(state, vocabulary(2, WORDS), LABELS)
    place, changes, message = V2_MODULES.get(case) or V2_LAYERS[case]
    if case in V2_MODULES:
        child(export.state["model"], *place).update(changes)
    else:
        child(export.state["model"], *place[:-1])["_modules"][place[-1]] = changes
    with pytest.raises(ForeignModelError, match=message):
        learner_facts(export, "export.pkl")


QRNN = (*AWD, "rnns", "0")
QRNN_LAYER = (*QRNN, "layers", "0")
SECOND_QRNN_LAYER = (*AWD, "rnns", "1", "layers", "0")
QRNN_MODULES: dict[str, tuple[tuple[str, ...], dict[str, object], str]] = {
    "a hook": (QRNN_LAYER, {"_forward_hooks": {1: OWN_FUNCTION}}, r"layer 0 of its encoder has a hook \(__main__.own"),
    "a method of one's own": (QRNN_LAYER, {"_get_source": a_lambda()}, "has __main__.<lambda> as its _get_source"),
    "the other direction": (QRNN_LAYER, {"backward": True}, "layer 0 of its encoder has backward=True, expected False"),
    "both directions": (QRNN, {"bidirectional": True}, "has bidirectional=True, expected False"),
    "time first": (QRNN_LAYER, {"batch_first": False}, "has batch_first=False, expected True"),
    "a forgotten token": (QRNN_LAYER, {"save_prev_x": False}, "save_prev_x=False, as in fastai 1.0.50 to 1.0.52"),
    "a wide window": (QRNN_LAYER, {"window": 3}, "has window=3, expected 1 or 2"),
    "another window": (QRNN_LAYER, {"window": 1}, r"weights of shape \(72, 32\), expected 3 gates of a window of 1"),
    "a window in a later layer": (
        SECOND_QRNN_LAYER,
        {"window": 2},
        r"window is an int \(2\), expected 1 in all layers",
    ),
    "another gate": (SECOND_QRNN_LAYER, {"output_gate": False}, "its encoder returns 24 numbers, expected as many"),
    "two layers in one": (QRNN, {"n_layers": 2}, "has n_layers=2, expected 1"),
    "dropout of other weights": ((*QRNN_LAYER, "linear"), {"layer_names": ["bias"]}, "expected weight: it can't"),
    "LSTMs around QRNNs": (AWD, {"qrnn": False}, "is fastai.text.models.qrnn.QRNN, expected fastai's WeightDropout"),
}


@pytest.mark.parametrize("version", [1, 2])
def test_the_layers_of_a_qrnn_are_matched_one_by_one(qrnn_torch_models: TinyClassifiers, version: int) -> None:
    words = vocabulary(version, WORDS)

    def made() -> tuple[Any, Any]:
        state = fastai_state(qrnn_torch_models.models[Direction.FORWARD], version)
        export: Any = (v1_export if version == 1 else v2_export)(state, words, LABELS)
        return export, export["model"] if version == 1 else export.state["model"]

    assert learner_facts(made()[0], "export.pkl").vocabulary == words
    for place, changes, message in QRNN_MODULES.values():
        if version == 2 and "qrnn" in changes:
            continue
        export, model = made()
        child(model, *place).update(changes)
        with pytest.raises(ForeignModelError, match=message):
            learner_facts(export, "export.pkl")
    export, model = made()
    rnns = child(model, *AWD, "rnns")["_modules"]
    rnns["0"] = child(model, *QRNN, "layers")["_modules"]["0"]
    with pytest.raises(ForeignModelError, match=r"is a QRNN of fastai 1.0.49 or older, .* import the .pth file"):
        learner_facts(export, "export.pkl")


V2_REFUSED: dict[str, tuple[Callable[[Any], object], str]] = {
    "a rule of one's own": (
        lambda e: transform(e, "Tokenizer")["rules"].append(GlobalName("__main__", "lowercase")),
        "its own function __main__.lowercase, expected only fastai's rules .*: it can't be imported",
    ),
    "a rule with options": (
        lambda e: transform(e, "Tokenizer").update(rules=[a_partial(rule("replace_rep"))]),
        "cleans every text with fastai.text.core.replace_rep and options of its own",
    ),
    "unknown options of a rule": (
        lambda e: transform(e, "Tokenizer").update(rules=[a_partial(rule("lowercase"), strip=False)]),
        "with lowercase and the option strip",
    ),
    "a lambda as a rule": (
        lambda e: transform(e, "Tokenizer")["rules"].append(a_lambda()),
        "its own function __main__.<lambda>",
    ),
    "subwords": (
        lambda e: transform(e, "Tokenizer").update(tok=an_object("fastai.text.core.SentencePieceTokenizer", {})),
        "its SentencePiece tokenizer is missing, expected",
    ),
    "a tokenizer of one's own": (
        lambda e: transform(e, "Tokenizer").update(tok=in_notebook("SpacyTokenizer")),
        "its tokenizer is __main__.SpacyTokenizer, expected fastai's SpacyTokenizer or",
    ),
    "a tokenizer's method of one's own": (
        lambda e: transform(e, "Tokenizer").update(encodes=OWN_FUNCTION),
        "its tokenizer has __main__.own as its encodes",
    ),
    "another vocabulary": (lambda e: pipeline(e).insert(2, OWN_OBJECT), "changes its words with __main__.Own"),
    "ids that are not its vocabulary's": (
        lambda e: transform(e, "Numericalize")["o2i"].update(the=3),
        r"o2i\[the\] is an int \(3\), expected",
    ),
    "words beyond its vocabulary": (
        lambda e: transform(e, "Numericalize")["o2i"].update(other=3),
        r"a word of .*o2i is a str \(other\)",
    ),
    "no tokenizer": (lambda e: pipeline(e).pop(1), "calls fastai.text.data.Numericalize on every text"),
    "no vocabulary": (lambda e: pipeline(e).pop(2), "its pipeline has no Numericalize"),
    "a function that takes a text": (
        lambda e: [
            pipeline(e).insert(0, of_function(OWN_FUNCTION)),
            loader(e)["dataset"].state["tls"].state["items"][0].state.update(types=[GlobalName("builtins", "str")]),
        ],
        "calls __main__.own on every text",
    ),
    "ids changed behind": (
        lambda e: pipeline(e).append(an_object("__main__.Truncate", {})),
        "changes its ids with __main__.Truncate, expected only fastai's reverse_text",
    ),
    "another reversal": (
        lambda e: pipeline(e).append(of_function(GlobalName("__main__", "reverse_text"))),
        "changes its ids with __main__.reverse_text",
    ),
    "items changed": (lambda e: stage(e, "after_item").append(OWN_OBJECT), "with __main__.Own in after_item"),
    "batches changed": (
        lambda e: stage(e, "after_batch").append(of_function(OWN_FUNCTION)),
        "with __main__.own in after_batch",
    ),
    "batches reversed": (
        lambda e: stage(e, "before_batch").append(a_partial_transform("pad_input", backwards=True)),
        "with fastai.text.data.pad_input in before_batch",
    ),
    "a loader of one's own": (
        lambda e: e.state["dls"].state["loaders"].__setitem__(1, an_object("__main__.SortedDL", {})),
        "its data loader is __main__.SortedDL",
    ),
    "a loader's method of one's own": (
        lambda e: loader(e).update(create_batch=OWN_FUNCTION),
        "its data loader has __main__.own as its create_batch",
    ),
    "two texts": (lambda e: loader(e)["dataset"].state.update(n_inp=2), "its dataset has n_inp=2, expected 1"),
    "two targets": (
        lambda e: loader(e)["dataset"].state["tls"].state["items"].append(an_object("fastai.data.core.TfmdLists", {})),
        "has 2 targets",
    ),
    "several labels": (
        lambda e: pipeline(e, 1).append(an_object("fastai.data.transforms.MultiCategorize", {})),
        "changes its labels with fastai.data.transforms.MultiCategorize",
    ),
    "numbers": (
        lambda e: pipeline(e, 1).append(an_object("fastai.data.transforms.RegressionSetup", {})),
        "changes its labels with fastai.data.transforms.RegressionSetup",
    ),
    "a loss of one's own": (
        lambda e: e.state.update(loss_func=an_object("__main__.CrossEntropyLossFlat", {})),
        r"its loss is __main__.CrossEntropyLossFlat, .* \(its activation can't be read\)",
    ),
    "an activation of one's own": (
        lambda e: e.state["loss_func"].state.update(activation=a_lambda()),
        r"its activation is __main__.<lambda>",
    ),
    "a softmax over texts": (lambda e: e.state["loss_func"].state.update(axis=0), "its axis is 0"),
    "a learner of one's own": (
        lambda e: setattr(e, "function", GlobalName("__main__", "TextLearner")),
        "its learner is __main__.TextLearner",
    ),
    "predictions of one's own": (lambda e: e.state.update(get_preds=OWN_FUNCTION), "has __main__.own as its get_preds"),
    "a callback of one's own": (
        lambda e: e.state["cbs"].state["items"].append(in_notebook("Temperature")),
        "has the callback __main__.Temperature, which may change predictions",
    ),
    "dropout in predictions": (
        lambda e: e.state.update(cbs=[an_object("fastai.callback.preds.MCDropoutCallback", {})]),
        "has the callback fastai.callback.preds.MCDropoutCallback",
    ),
    "a callback's event of one's own": (
        lambda e: e.state["cbs"].state["items"][0].state.update(after_pred=OWN_FUNCTION),
        "its callback fastai.callback.rnn.RNNCallback has __main__.own as its after_pred",
    ),
    "no loaders": (lambda e: e.state["dls"].state.update(loaders=[]), "contains no data loaders"),
}


@pytest.mark.parametrize("case", V2_REFUSED)
def test_unsupported_models_are_refused_for_v2(state: State, case: str) -> None:
    change, message = V2_REFUSED[case]
    export = v2_export(state, vocabulary(2, WORDS), LABELS)
    change(export)
    with pytest.raises(ForeignModelError, match=message):
        learner_facts(export, "export.pkl")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (["xxunk", "the"], r"a list of 2 \(xxunk, the"),
        ({}, "an empty dict"),
        ("weights", "a str"),
        (Record(GlobalName("os", "system"), ("rm",), {}, None, [], []), "a os.system"),
        (np.zeros(3), "a ndarray"),
    ],
)
def test_a_value_that_is_not_a_model_is_refused(value: object, found: str) -> None:
    with pytest.raises(ForeignModelError, match=f"thing.pkl contains {found}.*expected a model"):
        learner_facts(value, "thing.pkl")


def test_a_vocabulary_comes_as_a_list_an_object_or_a_pair() -> None:
    words = vocabulary(1, WORDS)
    for value in (words, tuple(words), np.array(words, dtype=object), a_list(*words)):
        assert vocabulary_of(value, "x") == words
    assert vocabulary_of(an_object("fastai.text.transform.Vocab", {"itos": words}), "x") == words
    assert vocabulary_of([words, a_list(*LABELS)], "x") == words  # dls.vocab of a classifier
    assert labels_of([words, a_list(*LABELS)], "x") == LABELS
    assert labels_of(words, "x") == []


@pytest.mark.parametrize("value", [[], {}, None, [1, 2, 3], {"the": 1}, [["a"], 3]])
def test_a_value_that_is_not_a_vocabulary_is_refused(value: object) -> None:
    with pytest.raises(ForeignModelError, match=r"v.pkl contains .*, expected a vocabulary: a list of words"):
        vocabulary_of(value, "v.pkl")
