"""Texts with any number of labels: read, checked and split."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from bothways.data.labeled import read_labeled
from bothways.errors import ConfigError, DataError
from bothways.tasks.multi_label import MultiLabel, best_thresholds
from bothways.tasks.task import LabeledTexts

Pairs = list[tuple[str, tuple[str, ...]]]
MULTI = MultiLabel(separator="|")


def read_multi_labeled(source: Any, text: str, label: str, separator: str | None) -> LabeledTexts:
    return read_labeled(source, text, label, MultiLabel(separator=separator))


def csv_file(folder: Path, content: str) -> str:
    path = folder / "d.csv"
    path.write_text(content, encoding="utf-8")
    return str(path)


def jsonl_file(folder: Path, *rows: object) -> str:
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def rows(*pairs: tuple[str, tuple[str, ...]], name: str = "d.csv") -> LabeledTexts:
    return LabeledTexts(name, [text for text, _ in pairs], [labels for _, labels in pairs])


# Reading.


def test_a_string_is_cut_at_the_separator(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "text,labels\na,x|y\nb,y\nc,\nd,z|x\n")
    read = read_multi_labeled(path, "text", "labels", "|")
    assert (read.name, read.texts, len(read)) == (path, ["a", "b", "c", "d"], 4)
    assert read.labels == [("x", "y"), ("y",), (), ("z", "x")]


def test_space_empty_parts_and_repetitions_are_no_labels(tmp_path: Path) -> None:
    path = csv_file(tmp_path, 'text,labels\na," x ;; so so;x;\t;y"\nb, \nc,;\n')
    assert read_multi_labeled(path, "text", "labels", ";").labels == [("x", "so so", "y"), (), ()]


@pytest.mark.parametrize("separator", ["|", ", ", " ", "<>", ".*", "\n"])
def test_a_separator_is_taken_as_it_stands(separator: str) -> None:
    table = {"t": ["a", "b"], "l": [separator.join(["x", "y.z"]), "w"]}
    assert read_multi_labeled(table, "t", "l", separator).labels == [("x", "y.z"), ("w",)]


def test_a_label_stays_what_stands_in_the_file(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "text,labels\na,NA|01\nb,null|1.0\n")
    assert read_multi_labeled(path, "text", "labels", "|").labels == [("NA", "01"), ("null", "1.0")]


@pytest.mark.parametrize("separator", [None, ";"])
def test_lists_of_labels_need_no_separator(tmp_path: Path, separator: str | None) -> None:
    values: list[Any] = [["x", " y ", "x", ""], [], ["z", 3, True]]
    path = jsonl_file(tmp_path, *({"t": "a", "l": value} for value in values))
    expected = [("x", "y"), (), ("z", "3", "true")]
    assert read_multi_labeled(path, "t", "l", separator).labels == expected
    assert read_multi_labeled({"t": ["a"] * 3, "l": values}, "t", "l", separator).labels == expected


@pytest.mark.parametrize(
    "table",
    [
        {"t": ["a", "b"], "l": [("x", "y"), ()]},
        {"t": ["a", "b"], "l": [np.array(["x", "y"]), np.array([])]},
        pd.DataFrame({"t": ["a", "b"], "l": [["x", "y"], []]}),
        pd.DataFrame({"t": ["a", "b"], "l": [np.array(["x", "y"], dtype=object), np.array([], dtype=object)]}),
        pa.table({"t": ["a", "b"], "l": [["x", "y"], []]}),
        pd.DataFrame({"t": ["a", "b"], "l": ["x|y", ""]}),
    ],
    ids=["tuples", "arrays", "a frame of lists", "a frame of arrays", "arrow", "a frame of strings"],
)
def test_tables_in_memory_are_read_like_files(table: Any) -> None:
    read = read_multi_labeled(table, "t", "l", "|")
    assert (read.name, read.texts, read.labels) == ("the table", ["a", "b"], [("x", "y"), ()])
    assert all(type(label) is str for labels in read.label_sets for label in labels)


def test_a_parquet_file_may_hold_lists(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"t": ["a", "b"], "l": [["x", "y"], []]}), tmp_path / "d.parquet")
    assert read_multi_labeled(tmp_path / "d.parquet", "t", "l", None).labels == [("x", "y"), ()]


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA], ids=repr)
def test_missing_labels_are_not_taken_for_no_label(missing: object) -> None:
    message = r"^the table, row 2, column 'l': the labels are missing \(null\); write an empty value"
    with pytest.raises(DataError, match=message):
        read_multi_labeled({"t": ["a", "b"], "l": ["x", missing]}, "t", "l", "|")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["x", None], r"row 1, column 'l': the label is missing"),
        ([["x"]], r"row 1, column 'l': the label is a list, expected one label"),
        ({"x": 1}, r"row 1, column 'l': the label is a dict, expected one label"),
        (["x", "\ud800"], r"row 1, column 'l': the label contains a lone surrogate"),
        ("x|" + "y" * 1001, r"row 1, column 'l': the label has 1001 characters, expected at most 1000"),
        (["x", "a|b"], r"row 1, column 'l': the label 'a\|b' contains the separator '\|'; use another"),
    ],
)
def test_what_is_no_label_is_told_by_its_place(value: object, message: str) -> None:
    with pytest.raises(DataError, match=f"^the table, {message}"):
        read_multi_labeled({"t": ["a"], "l": [value]}, "t", "l", "|")


def test_a_label_that_could_not_be_written_to_a_file_is_refused_without_a_separator_too() -> None:
    table = {"t": ["a"], "l": [["a|b"]]}
    with pytest.raises(DataError, match=r"the label 'a\|b' contains the separator '\|'"):
        read_multi_labeled(table, "t", "l", None)
    assert read_multi_labeled(table, "t", "l", ";").labels == [("a|b",)]


def test_a_string_without_a_separator_is_not_guessed_at(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "text,labels\na,x|y\n")
    with pytest.raises(
        DataError,
        match=r"row 1 \(line 2\), column 'labels': the labels are the string 'x\|y', expected a list of labels",
    ):
        read_multi_labeled(path, "text", "labels", None)


def test_a_model_without_a_separator_finds_the_one_that_leaves_labels_it_knows() -> None:
    """Models of fastai 1 do not record it."""
    task = MultiLabel(("acting", "music, live", "plot"), thresholds=(0.5,) * 3)
    cells = ["acting;plot", "plot|music, live", "music, live", "acting plot", "plot ; acting", "", "['plot', 'acting']"]
    *found, empty, listed = read_labeled({"t": cells, "l": cells}, "t", "l", task).labels
    assert found == [
        ("acting", "plot"),
        ("plot", "music, live"),
        ("music, live",),
        ("acting", "plot"),
        ("plot", "acting"),
    ]
    assert (empty, listed) == ((), ("plot", "acting"))
    with pytest.raises(
        DataError, match=r"row 1, column 'l': the labels are the string 'acting;price', expected labels"
    ):
        read_labeled({"t": ["a"], "l": ["acting;price"]}, "t", "l", task)


def test_an_empty_separator_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^the label separator is empty; give at least one character"):
        read_multi_labeled({"t": ["a"], "l": ["x"]}, "t", "l", "")


def test_texts_are_checked_as_ever(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1, column 't': the text is int 5, expected a string"):
        read_multi_labeled({"t": [5], "l": ["x"]}, "t", "l", "|")
    with pytest.raises(DataError, match=r"the text column 't' is empty in every row"):
        read_multi_labeled({"t": ["", " "], "l": ["x", "y"]}, "t", "l", "|")
    with pytest.raises(DataError, match=r"has no rows, expected texts with labels"):
        read_multi_labeled(csv_file(tmp_path, "t,l\n"), "t", "l", "|")
    message = r"has no column 'topics'\. It has 't', 'l'\. Choose a column with --label"
    with pytest.raises(DataError, match=message):
        read_multi_labeled(csv_file(tmp_path, "t,l\na,b\n"), "t", "topics", "|")


# Labels that can't be validated.


def test_rows_without_any_label_are_refused() -> None:
    with pytest.raises(DataError, match=r"^d\.csv: none of the 2 rows has a label; at least one"):
        MULTI.check(rows(("a", ()), ("b", ())))


def test_one_label_is_enough() -> None:
    assert MULTI.check(rows(("a", ("x",)), ("b", ("x",)), ("c", ()))) == []


def test_labels_of_one_text_are_trained() -> None:
    """A4: rare labels stop no training."""
    data = rows(("a", tuple("fedcb")), ("c", ("y",)), ("d", ("y",)))
    assert MULTI.check(data) == []
    split = MULTI.split(data, 0.5, 0)
    assert set(split.train.texts) > {"a"}
    assert "a" not in split.valid.texts


def test_labels_that_differ_by_case_are_warned_of() -> None:
    (warning,) = MULTI.check(rows(("a", ("x", "X")), ("b", ("x",))))
    assert warning.startswith("d.csv: the labels 'X' and 'x' differ only by white space or case")


# Splitting.


def random_pairs(count: int, seed: int = 0) -> Pairs:
    """Return texts with none to five of eight labels, which are more and less common."""
    rng = np.random.default_rng(seed)
    share = np.array([0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01])
    has = rng.random((count, len(share))) < share
    return [(f"text {number}", tuple(np.array(list("abcdefgh"))[row])) for number, row in enumerate(has)]


def split_of(pairs: Pairs, share: float = 0.1, seed: int = 0) -> tuple[LabeledTexts, LabeledTexts]:
    split = MULTI.split(rows(*pairs), share, seed)
    return split.train, split.valid


def counts(data: LabeledTexts) -> Counter[str]:
    return Counter(label for labels in data.label_sets for label in labels)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_every_label_keeps_its_share(share: float) -> None:
    pairs = random_pairs(2000)
    train, valid = split_of(pairs, share)
    assert len(valid) == pytest.approx(share * 2000, abs=15)
    everywhere = counts(rows(*pairs))
    assert set(everywhere) == set("abcdefgh")
    for label, count in everywhere.items():
        assert counts(valid)[label] == pytest.approx(share * count, abs=max(1.0, 0.03 * count)), label
        assert counts(train)[label] + counts(valid)[label] == count
    assert sum(not labels for labels in valid.labels) > 0.5 * share * sum(not labels for _, labels in pairs)


def test_rare_labels_are_spread_better_than_by_chance() -> None:
    """A random tenth would leave a label of 10 texts out of the validation rows in one of three cases."""
    pairs = [*random_pairs(1000), *((f"rare {n} {k}", (f"rare {n}", "a")) for n in range(30) for k in range(10))]
    _, valid = split_of(pairs)
    assert [counts(valid)[f"rare {n}"] for n in range(30)] == [1] * 30


def test_a_label_of_two_texts_is_on_both_sides() -> None:
    train, valid = split_of([*random_pairs(100), ("one", ("z", "a")), ("two", ("z",))])
    assert counts(train)["z"] == counts(valid)["z"] == 1


def test_a_split_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    pairs = random_pairs(300)
    assert split_of(pairs, seed=7) == split_of(pairs, seed=7)
    assert split_of(pairs, seed=7)[1].texts != split_of(pairs, seed=8)[1].texts


def test_a_split_does_not_depend_on_the_order_of_the_rows_or_labels() -> None:
    pairs = random_pairs(300)
    turned = [(text, labels[::-1]) for text, labels in pairs[::-1]]
    assert set(split_of(pairs)[1].texts) == set(split_of(turned)[1].texts)


def test_texts_without_labels_are_not_held_by_their_name() -> None:
    pairs: Pairs = [*((f"{n:03}", ()) for n in range(200)), *((f"x{n}", ("x",)) for n in range(20))]
    _, valid = split_of(pairs)
    held = sorted(int(str(text)) for text, labels in zip(valid.texts, valid.labels, strict=True) if not labels)
    assert len(held) == pytest.approx(20, abs=2)
    assert held[0] < 60
    assert held[-1] > 140


pairs_of_few = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.lists(st.sampled_from("vwxyz"), max_size=4, unique=True).map(tuple)),
    min_size=2,
    max_size=30,
)


@given(pairs_of_few, st.floats(0.05, 0.95), st.integers(0, 9))
def test_rows_of_one_text_stay_together_and_every_label_is_trained(pairs: Pairs, share: float, seed: int) -> None:
    labels = {label for _, several in pairs for label in several}
    if not labels:
        return
    texts_by_label = {label: {text for text, several in pairs if label in several} for label in labels}
    if all(any(texts_by_label[label] == {text} for label in labels) for text, _ in pairs):
        with pytest.raises(DataError, match="no text can be set aside for validation"):
            split_of(pairs, share, seed)
        return
    train, valid = split_of(pairs, share, seed)
    found = [*zip(train.texts, train.labels, strict=True), *zip(valid.texts, valid.labels, strict=True)]
    assert Counter(found) == Counter(pairs)
    assert not set(train.texts) & set(valid.texts)
    assert set(counts(train)) == labels
    assert len(valid) > 0


def test_where_every_text_is_the_last_of_a_label_a_file_is_asked_for() -> None:
    message = r"^d\.csv: no text can be set aside for validation, because each is the only text of a label; add rows"
    with pytest.raises(DataError, match=message):
        MULTI.split(rows(("a", ("x",)), ("b", ("y",))), 0.1, 0)


def test_texts_with_other_labels_each_time_are_warned_of_with_their_number() -> None:
    pairs: Pairs = [("a", ("x", "y")), ("a", ("y", "x")), ("b", ("x",)), ("b", ()), ("c", ("y",)), ("d", ())]
    split = MULTI.split(rows(*pairs), 0.3, 0)
    assert split.warnings == ["d.csv: 1 duplicate texts with conflicting labels"]


def test_a_file_of_validation_rows_is_taken_as_it_is() -> None:
    train, valid = rows(("a", ("x",)), ("b", ("y", "x"))), rows(("c", ("y",)), ("d", ()), name="v.csv")
    split = MULTI.split_with(train, valid)
    assert (split.train, split.valid, split.warnings) == (train, valid, [])


def test_texts_on_both_sides_are_warned_of_with_their_number() -> None:
    train, valid = rows(("a", ("x",)), ("b", ("y",))), rows(("a", ("x",)), ("c", ()), name="v.csv")
    assert MULTI.split_with(train, valid).warnings == [
        "v.csv: 1 of 2 texts are also in d.csv; validation will look too good"
    ]


# Calibration.


def test_labels_of_a_multi_label_classifier_are_calibrated_too() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 2, (4000, 2))
    targets = (rng.uniform(size=logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    said = 1 / (1 + np.exp(-2 * logits))
    assert MultiLabel(("a", "b")).calibrated(said, targets).temperature == pytest.approx(2, rel=0.1)


def test_a_threshold_is_the_one_with_the_best_f1_next_to_one_half() -> None:
    probabilities = np.array([[0.9, 0.30, 0.2], [0.8, 0.25, 0.3], [0.2, 0.10, 0.1], [0.1, 0.05, 0.4]])
    targets = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0], [0, 0, 0]], dtype=np.float32)
    first, second, third = best_thresholds(probabilities, targets > 0.5)
    assert first == pytest.approx(0.5)  # any of 0.2 to 0.8
    assert second == pytest.approx(0.25)
    assert third == 0.5  # nothing to choose by
