"""D4: every field of an export is replaced by values of other types and out of range, one at a time.

The outcome is a model or an error that bothways raises on purpose. Where a field decides something, its name is in the
message.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bothways
from bothways.errors import BothwaysError, ForeignModelError
from bothways.interop import fastai_import, fastai_tokenizer
from bothways.interop.fastai_file import ForeignModel, model_of
from bothways.interop.learner_facts import Requested
from bothways.interop.pickle_reader import GlobalName, Record
from tests.hostile import foreign_files as foreign
from tests.unit.interop.exports import a_list, an_object, v2_export, vocabulary
from tests.words import make_word_tokenizer

ODD_VALUES: dict[str, Any] = {
    "None": None,
    "True": True,
    "0": 0,
    "-1": -1,
    "2^2000": 2**2000,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "an empty text": "",
    "half a character": "\ud800",
    "control characters": "\x1b[2J\r\n",
    "a long text": "x" * 100_000,
    "bytes": b"\xff",
    "an empty list": [],
    "an empty dict": {},
    "an empty tuple": (),
    "a list of lists": [[[]]],
    "numbers for keys": {1: 2, None: 3},
    "a name": GlobalName("os", "system"),
    "an object": an_object("os.system", {"x": 1}),
    "an empty L": a_list(),
    "an array without dimensions": np.array(1.5, dtype=np.float32),
    "an empty array": np.zeros((0, 4), dtype=np.float32),
    "an array of width 0": np.zeros((4, 0), dtype=np.float32),
    "an array of NaN": np.full((4, 4), np.nan, dtype=np.float32),
    "an array of integers": np.arange(4),
    "an array of float64": np.full((4, 4), 1e300),
    "an array of texts": np.array(["a", "b"]),
    "an array of many dimensions": np.zeros((1,) * 9, dtype=np.float32),
}

Place = tuple[Any, Any]


def places(value: Any, seen: set[int] | None = None) -> Iterator[Place]:
    """Yield every place in a value that can be set: an object and an attribute, or a container and a key."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Record):
        yield from ((value, "state"), (value, "function"), (value, "arguments"), (value, "items"))
        yield from places(value.state, seen)
    elif isinstance(value, dict):
        for key in list(value):
            yield value, key
            yield from places(value[key], seen)
    elif isinstance(value, list):
        for number in range(min(len(value), 3)):
            yield value, number
            yield from places(value[number], seen)


def exchange(container: Any, key: Any, value: Any) -> Any:
    """Set a place and return its old value."""
    if isinstance(container, Record):
        old = getattr(container, key)
        setattr(container, key, value)
    else:
        old, container[key] = container[key], value
    return old


@pytest.fixture(autouse=True)
def _tables(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = make_word_tokenizer("fastai-v1").document.tables
    monkeypatch.setattr(fastai_tokenizer, "tables_from_spacy", lambda *_: (tables, "3"))


WORDS = 29
F4 = np.float32
EXPORTS: dict[str, Any] = {
    "v1": foreign.export_v1,
    "v2": foreign.export_v2,
    "weights": lambda: {"model": dict(foreign.tiny_state(words=WORDS)), "opt": None},
}


def labels_in(model: ForeignModel) -> tuple[str, ...]:
    return () if model.task is None else model.task.labels


def opened(value: object) -> ForeignModel:
    words = vocabulary(1, [f"word{number}" for number in range(20)])
    return model_of(
        value,
        "x.pkl",
        read_vocabulary=lambda: (words, []),
        requested=Requested(
            task="single-label",
            labels=foreign.LABELS,
            language="en" if isinstance(value, dict) and "data" not in value else None,
        ),
    )


@pytest.mark.parametrize("odd", ODD_VALUES)
@pytest.mark.parametrize("name", ["v1", "weights", pytest.param("v2", marks=pytest.mark.slow)])
def test_any_field_with_another_value_is_a_model_or_a_clear_error(name: str, odd: str) -> None:
    export: Any = EXPORTS[name]()
    assert labels_in(opened(export)) == foreign.LABELS
    refused = 0
    for container, key in list(places(export)):
        value = ODD_VALUES[odd]
        if isinstance(container, Record) and key == "arguments":
            value = (value,)
        if isinstance(container, Record) and key == "items":
            value = [value]
        old = exchange(container, key, value)
        try:
            opened(export)
        except BothwaysError as error:
            refused += 1
            message = str(error)
            assert message.startswith("x.pkl")
            assert message.isprintable()
            assert len(message) < 1000
        finally:
            exchange(container, key, old)
    assert refused > 5


def field(export: Any, path: str) -> tuple[MutableMapping[str, Any], str]:
    """Return the dictionary and key of a field of an export of v1."""
    tokenize, numericalize = (processor.state for processor in export["data"]["x_proc"])
    model = export["model"].state["_modules"]
    found: dict[str, MutableMapping[str, Any]] = {
        "tokenize": tokenize,
        "tokenizer": tokenize["tokenizer"].state,
        "vocab": numericalize["vocab"].state,
        "categories": export["data"]["y_proc"][0].state,
        "encoder": model["0"].state,
        "embedding": model["0"].state["_modules"]["module"].state["_modules"]["encoder"].state["_parameters"],
    }
    name, _, key = path.partition(".")
    return found[name], key


WRONG_FACTS: dict[str, tuple[str, Any, str]] = {
    "an array for a boolean": (
        "tokenize.mark_fields",
        np.ones(2),
        "mark_fields is a ndarray of shape (2,), expected",
    ),
    "a text for a boolean": ("tokenize.include_bos", "no", "include_bos is a str (no), expected True or False"),
    "a number for a language": ("tokenizer.lang", 7, "lang is an int (7), expected a text"),
    "a number among the control tokens": ("tokenizer.special_cases", ["xxunk", 1], "special_cases[1] is an int (1)"),
    "no words": ("vocab.itos", [], "vocab is an empty list, expected a vocabulary"),
    "words that are numbers": ("vocab.itos", [1, 2], "vocab is a list of 2 (1, 2 ...), expected a vocabulary"),
    "half a character in a word": ("vocab.itos", ["xxunk", "\ud800"], r"vocab[1] is a str (\ud800), expected a text"),
    "an empty label": ("categories.classes", ["bad", ""], "classes[1] is a str (), expected a text of 1 to 1000"),
    "a label twice": (
        "categories.classes",
        ["bad", "bad"],
        "classes[1] is a str (bad), expected a label that",
    ),
    "a label that is no number": (
        "categories.classes",
        ["bad", float("nan")],
        "classes[1] is a float (nan)",
    ),
    "a label of another type": (
        "categories.classes",
        ["bad", [1]],
        "classes[1] is a list of 1 (1 ...)",
    ),
    "a window of 0": ("encoder.bptt", 0, "bptt is an int (0), expected an integer from 1 to"),
    "a negative window": ("encoder.bptt", -70, "bptt is an int (-70), expected an integer from 1 to"),
    "a window of a huge size": ("encoder.bptt", 2**100, "bptt is an int (a number of 101 bits), expected an integer"),
    "a tail that is no number": ("encoder.max_len", 1.5, "max_len is a float (1.5), expected an integer"),
    "weights of width 0": (
        "embedding.weight",
        np.zeros((WORDS, 0), F4),
        "encoder.weight has shape (29, 0)",
    ),
    "weights without dimensions": (
        "embedding.weight",
        np.array(1, F4),
        "encoder.weight has shape ()",
    ),
    "weights that are NaN": (
        "embedding.weight",
        np.full((WORDS, 4), np.nan, F4),
        "contains values that are not finite",
    ),
    "weights too large for float32": (
        "embedding.weight",
        np.full((WORDS, 4), 1e300),
        "contains values that are not finite",
    ),
    "integers for weights": ("embedding.weight", np.zeros((WORDS, 4), int), "lacks the tensor 0.module.encoder.weight"),
}


@pytest.mark.parametrize("case", WRONG_FACTS)
def test_a_fact_that_cant_be_true_is_refused_by_its_name(case: str) -> None:
    path, value, message = WRONG_FACTS[case]
    export = foreign.export_v1()
    container, key = field(export, path)
    container[key] = value
    with pytest.raises(ForeignModelError) as refused:
        opened(export)
    assert message in str(refused.value)


@pytest.mark.parametrize("name", ["1.layers.0.0.weight", "1.layers.0.2.weight", "0.module.rnns.0.module.weight_ih_l0"])
@pytest.mark.parametrize("shape", [(), (0,), (1, 0), (0, 1), (0, 12), (12, 0), (1,) * 9])
def test_weights_of_any_shape_are_refused_by_their_name(name: str, shape: tuple[int, ...]) -> None:
    state = {**foreign.tiny_state(words=WORDS), name: np.zeros(shape, np.float32)}
    with pytest.raises(ForeignModelError, match=r"has shape \(.*\), expected"):
        opened(state)


@pytest.mark.parametrize("place", ["1..2", "9" * 5000, "", ".", "1.2.3.4.5", "\u0663"])
def test_a_strange_name_of_a_tensor_does_no_harm(place: str) -> None:
    strange = {f"1.layers.{place}.weight": np.zeros((2, 2), np.float32)}
    with contextlib.suppress(BothwaysError):
        assert labels_in(opened({**foreign.tiny_state(words=WORDS), **strange})) == foreign.LABELS


@pytest.mark.parametrize(("value", "is_refused"), [(3e38, True), (1e30, False), (1e-45, False), (0.0, False)])
def test_extreme_weights_are_imported_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, is_refused: bool
) -> None:
    monkeypatch.setattr(fastai_import, "verify_in_fresh_process", lambda _: None)
    words = vocabulary(2, [f"word{number}" for number in range(20)])
    state = foreign.tiny_state(words=len(words))
    for name, array in state.items():
        if name.startswith("0."):  # the encoder: products that are infinite with both signs, whose sum is no number
            state[name] = np.where(np.arange(array.size) % 2, value, -value).astype(F4).reshape(array.shape)
    (tmp_path / "x.pkl").write_bytes(foreign.pickled(v2_export(state, words, foreign.LABELS)))
    if is_refused:
        with pytest.raises(ForeignModelError, match="its results are not finite numbers: the training diverged"):
            bothways.import_fastai(tmp_path / "x.pkl", out=tmp_path / "out")
    else:
        bothways.import_fastai(tmp_path / "x.pkl", out=tmp_path / "out")
    assert (tmp_path / "out").exists() != is_refused
