"""A8: the types of arguments are checked in one place, and every public function uses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bothways
from bothways.arguments import (
    as_flag,
    as_function,
    as_integer,
    as_names,
    as_number,
    as_path,
    as_paths,
    as_text,
    checked,
    one_of,
    optional,
)
from bothways.errors import ConfigError


@pytest.mark.parametrize(
    ("check", "value", "result"),
    [
        (as_text, np.str_("a"), "a"),
        (as_integer, np.int64(3), 3),
        (as_number, np.float32(0.5), 0.5),
        (as_number, 3, 3.0),
        (as_flag, np.True_, True),
        (as_path, Path("a"), Path("a")),
        (as_paths, "a", ["a"]),
        (as_paths, ["a", Path("b")], ["a", Path("b")]),
        (as_names, ("a", "b"), ["a", "b"]),
        (as_names, "a", "a"),
        (optional(as_text), None, None),
        (one_of("a", "b"), "b", "b"),
    ],
)
def test_what_is_meant_is_taken(check: Callable[[str, object], object], value: object, result: object) -> None:
    found = check("x", value)
    assert found == result
    assert type(found) is type(result)


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (as_text, None, "x is None (NoneType), expected a string"),
        (as_integer, "1", "x is '1' (str), expected a whole number"),
        (as_integer, True, "x is True (bool), expected a whole number"),
        (as_integer, 1.0, "x is 1.0 (float), expected a whole number"),
        (as_number, float("nan"), "x is nan (float), expected a finite number"),
        (as_number, 10**400, "expected a finite number"),
        (as_flag, 1, "x is 1 (int), expected True or False"),
        (as_path, b"a", "x is b'a' (bytes), expected a path, as a string or a Path"),
        (as_path, "", "x is '' (str), expected a path"),
        (as_path, "a\0b", "expected a path"),
        (as_paths, 3, "x is 3 (int), expected a list of paths"),
        (as_paths, ["a", 3], "x is 3 (int), expected a path"),
        (as_names, [], "x is [] (list), expected a string or a list of strings"),
        (as_names, ["a", 1], "expected a string or a list of strings"),
        (as_function, 3, "x is 3 (int), expected a function"),
        (one_of("a", "b", "c"), "d", "x is 'd', expected a, b or c"),
    ],
)
def test_the_rest_is_refused_with_what_was_expected(
    check: Callable[[str, object], object], value: object, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check("x", value)
    assert message in str(caught.value)


def test_a_checked_function_keeps_its_name_and_its_defaults() -> None:
    @checked(seed=as_integer)
    def function(seed: int = 7, *, other: str = "") -> tuple[int, str]:
        """Do something."""
        return seed, other

    assert function() == (7, "")
    assert function(np.int8(3), other="x") == (3, "x")  # type: ignore[arg-type]
    assert (function.__name__, function.__doc__) == ("function", "Do something.")
    with pytest.raises(TypeError, match="unexpected keyword argument 'sed'"):
        function(sed=3)  # type: ignore[call-arg]


api: Any = bothways
TABLE = {"t": ["a", "b", "c", "d"], "y": ["x", "y", "x", "y"]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda out: api.train(TABLE, text=None, label="y", out=out), "name the text column"),
        (lambda out: api.train(TABLE, text="t", label="y", out=out, seed="1"), "seed is '1' (str)"),
        (lambda out: api.train(TABLE, text="t", label="y", out=None), "out is None"),
        (lambda out: api.train(TABLE, text="t", label="y", out=out, config=3), "config is 3, expected the path"),
        (lambda out: api.train(TABLE, text="t", label="y", out=out, config={"x": {}}), "config has 1 error: x"),
        (lambda out: api.train(TABLE, text="t", label=5, out=out), "label is 5 (int), expected a string"),
        (lambda out: api.train(TABLE, text="t", label="y", out=out, header="no"), "header is 'no' (str)"),
        (lambda out: api.train(TABLE, text="t", label="y", out=out, drop_invalid=1), "drop_invalid is 1 (int)"),
        (lambda out: api.train(["a", "b"], out=out), "the texts are a list, so their labels are needed too"),
        (
            lambda out: api.train(None, text="t", label="y", out=out),
            "the data is None (NoneType), expected a file",
        ),
        (lambda out: api.train(TABLE, text="t", label="y", out=out, valid=3), "the data is 3 (int), expected a f"),
        (lambda out: api.train(TABLE, text="t", label="y", out=out, unlabeled=3), "the data is 3 (int), expected"),
        (lambda out: api.pretrain(None, out=out), "corpus is None (NoneType), expected a list of paths"),
        (lambda out: api.pretrain([3], out=out), "corpus is 3 (int), expected a path"),
        (lambda out: api.load(None), "path is None (NoneType), expected a path"),
        (lambda out: api.load(out, threads="2"), "threads is '2' (str), expected a whole number"),
        (lambda out: api.load(out, early_exit="yes"), "early_exit is 'yes' (str), expected True or False"),
        (lambda out: api.evaluate(None, TABLE), "model is None (NoneType), expected a path"),
        (lambda out: api.evaluate(out, TABLE, text=3), "text is 3 (int), expected a string"),
        (
            lambda out: api.evaluate(out, TABLE, unknown_labels="skip"),
            "unknown_labels is 'skip', expected error or",
        ),
        (lambda out: api.score(None, "a.csv", out), "model is None (NoneType), expected a path"),
        (lambda out: api.score(out, None, out), "source is None (NoneType), expected a path"),
        (lambda out: api.score(out, "a.csv", out, on_progress=3), "on_progress is 3 (int), expected a function"),
        (lambda out: api.fit_early_exit(out, TABLE, out=3), "out is 3 (int), expected a path"),
        (lambda out: api.fit_early_exit(out, TABLE, out=out, largest_loss="1"), "largest_loss is '1' (str)"),
        (lambda out: api.compare_precision(3, TABLE), "bundle is 3 (int), expected a path"),
        (lambda out: api.benchmark(out, max_texts="5"), "max_texts is '5' (str), expected a whole number"),
        (lambda out: api.verify(3), "path is 3 (int), expected a path"),
        (lambda out: api.verify(out, precision=8), "precision is 8 (int), expected a string"),
        (lambda out: api.import_fastai(3, out=out), "forward is 3 (int), expected a path"),
        (lambda out: api.import_fastai("a", out=out, vocabulary=3), "vocabulary is 3 (int), expected a list of"),
        (lambda out: api.infer_direction(3), "model is 3 (int), expected a path"),
        (lambda out: api.export_onnx(3, out=out), "bundle is 3 (int), expected a path"),
    ],
)
def test_public_functions_refuse_wrong_types_with_one_clear_error(
    call: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    """A8: never a bare TypeError or AssertionError."""
    with pytest.raises(ConfigError) as caught:
        call(tmp_path / "new")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
