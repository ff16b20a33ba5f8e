"""The facts in a fastai file are found, and models that can't be imported faithfully are refused with the reason.

The records are made by hand, in the shape of the real files; tests/parity has the real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bothways.bundle.manifest import FastaiPooling
from bothways.errors import ForeignModelError
from bothways.interop.fastai_learner import learner_facts
from bothways.interop.learner_facts import labels_of, vocabulary_of
from bothways.interop.pickle_reader import GlobalName, Record
from bothways.text.reading import Direction
from tests.bundles import LABELS, TinyClassifiers, TinyLanguageModels
from tests.unit.interop.exports import (
    State,
    a_list,
    an_object,
    modules_of,
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
    assert facts.labels == LABELS
    assert facts.direction is None
    assert facts.pooling == FastaiPooling(window_tokens=70, tail_tokens=1399, last_skips_padding=False)
    assert facts.state.keys() == state.keys()


@pytest.mark.parametrize("is_backward", [False, True])
def test_a_v2_export_records_its_direction(state: State, is_backward: bool) -> None:
    facts = learner_facts(v2_export(state, vocabulary(2, WORDS), LABELS, is_backward=is_backward), "export.pkl")
    assert facts.library == "fastai 2"
    assert facts.direction is (Direction.BACKWARD if is_backward else Direction.FORWARD)
    assert facts.labels == LABELS
    assert facts.pooling == FastaiPooling(window_tokens=72, tail_tokens=1440, last_skips_padding=True)
    assert (facts.text_column, facts.label_column) == ("review", "mood")
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
        assert (facts.labels, facts.pooling) == ([], None)


def test_weights_are_found_with_an_optimizer_bare_and_as_modules(state: State) -> None:
    for value in (dict(state), {"model": dict(state), "opt": {}}, modules_of(state)):
        facts = learner_facts(value, "x.pth")
        assert facts.state.keys() == state.keys()
        assert (facts.library, facts.vocabulary, facts.direction) == ("fastai", None, None)


def test_an_own_function_before_the_tokenizer_is_reported(state: State) -> None:
    export = v2_export(state, vocabulary(2, WORDS), LABELS)
    own = an_object("fasttransform.transform.Transform", {"encodes": GlobalName("__main__", "get_review")})
    pipeline(export).insert(0, own)
    (remark,) = learner_facts(export, "export.pkl").remarks
    assert "__main__.get_review" in remark


def test_a_model_with_circular_records_is_read(state: State) -> None:
    export = v2_export(state, vocabulary(2, WORDS), LABELS)
    module(export, "0").state["learner"] = export
    assert learner_facts(export, "x").labels == LABELS


def module(export: Record, name: str) -> Any:
    return export.state["model"].state["_modules"][name]  # type: ignore[index]


def pipeline(export: Record, number: int = 0) -> Any:
    lists: Any = export.state["dls"].state["loaders"][0].state["dataset"].state["tls"]  # type: ignore[index]
    return lists.state["items"][number].state["tfms"].state["fs"].state["items"]


def transform(export: Record, name: str, number: int = 0) -> Any:
    return next(t for t in pipeline(export, number) if t.name.endswith(name)).state


def v1_tokenizer(export: dict[str, Any]) -> Any:
    return export["data"]["x_proc"][0].state["tokenizer"].state


V1_REFUSED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "SentencePiece": (
        lambda e: e["data"].update(x_proc=[an_object("fastai.text.data.SPProcessor", {})]),
        "uses a SentencePiece tokenizer",
    ),
    "a processor of one's own": (
        lambda e: e["data"]["x_proc"].append(an_object("__main__.Cleaner", {})),
        "processes its texts with Cleaner",
    ),
    "pictures": (lambda e: e["data"].update(x_proc=[]), "not a text model: it has no TokenizeProcessor"),
    "a rule of one's own": (
        lambda e: v1_tokenizer(e)["pre_rules"].append(GlobalName("__main__", "strip_urls")),
        "has the pre_rules fix_html, .*, strip_urls, expected fastai's own",
    ),
    "no rules behind": (lambda e: v1_tokenizer(e).update(post_rules=[]), "has the post_rules none"),
    "another tokenizer": (
        lambda e: v1_tokenizer(e).update(tok_func=GlobalName("__main__", "Jieba")),
        "uses the tokenizer Jieba, expected SpacyTokenizer",
    ),
    "no xxbos": (lambda e: e["data"]["x_proc"][0].state.update(include_bos=False), "has texts without xxbos"),
    "several labels": (
        lambda e: e["data"].update(y_proc=[an_object("fastai.data_block.MultiCategoryProcessor", {})]),
        "is a multi-label classifier",
    ),
    "numbers": (
        lambda e: e["data"].update(y_proc=[], y_cls=GlobalName("fastai.data_block", "FloatList")),
        "is a regression model",
    ),
    "a loss without softmax": (
        lambda e: e.update(loss_func=an_object("torch.nn.modules.loss.BCEWithLogitsLoss", {})),
        "trained with the loss BCEWithLogitsLoss",
    ),
    "a window longer than what is pooled": (
        lambda e: e["model"].state["_modules"]["0"].state.update(max_len=20),
        "pools max_len=20 tokens in windows of bptt=70",
    ),
    "data of another kind": (lambda e: e.update(data=[1]), "its data is a list of 1"),
    "a model of another kind": (lambda e: e.update(model="net"), "its model is a str"),
}


@pytest.mark.parametrize("case", V1_REFUSED)
def test_unsupported_models_are_refused_for_v1(state: State, case: str) -> None:
    change, message = V1_REFUSED[case]
    export = v1_export(state, vocabulary(1, WORDS), LABELS)
    change(export)
    with pytest.raises(ForeignModelError, match=message):
        learner_facts(export, "export.pkl")


V2_REFUSED: dict[str, tuple[Callable[[Record], object], str]] = {
    "a rule less": (lambda e: transform(e, "Tokenizer")["rules"].pop(0), "has the rules replace_rep, "),
    "a rule with options": (
        lambda e: transform(e, "Tokenizer").update(
            rules=[an_object("functools.partial", None, GlobalName("fastai.text.core", "replace_rep"))]
        ),
        "cleans its texts with replace_rep and unknown options",
    ),
    "subwords": (
        lambda e: transform(e, "Tokenizer").update(tok=an_object("fastai.text.core.SentencePieceTokenizer", {})),
        "uses the tokenizer SentencePieceTokenizer",
    ),
    "no tokenizer": (lambda e: pipeline(e).pop(1), "its pipeline has no Tokenizer"),
    "ids changed behind": (
        lambda e: pipeline(e).append(an_object("__main__.Truncate", {})),
        "changes its ids with Truncate",
    ),
    "several labels": (
        lambda e: pipeline(e, 1).append(an_object("fastai.data.transforms.MultiCategorize", {})),
        "is a multi-label classifier",
    ),
    "numbers": (
        lambda e: pipeline(e, 1).append(an_object("fastai.data.transforms.RegressionSetup", {})),
        "is a regression model",
    ),
    "a loss without softmax": (
        lambda e: e.state.update(loss_func=an_object("__main__.MyLoss", {})),  # type: ignore[attr-defined]
        "trained with the loss MyLoss",
    ),
    "no loaders": (
        lambda e: e.state["dls"].state.update(loaders=[]),  # type: ignore[index]
        "contains no data loaders",
    ),
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
