"""Few-label sets of the accuracy benchmark: the rows that are drawn, and the tables of their results."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from benchmarks.accuracy import validation
from benchmarks.accuracy.__main__ import _names
from benchmarks.accuracy.few_labels import cost_table, error_table, teacher_table
from benchmarks.accuracy.outcomes import result_file
from benchmarks.accuracy.report import grouped, write_report
from benchmarks.accuracy.sets import FEW_LABEL_SETS, OPTIONAL_SETS, SETS, Rows, Task, drawn, with_few_labels

LABELS = ("a", "b", "rare")
CPU = {"cpu": "CPU", "features": ["avx2"], "cores": 1, "load_before": 0.5}


def a_task(is_multi_label: bool = False) -> Task:
    """Return a task with 40 texts of each class but the last, which has 3, and with texts that occur twice."""
    texts = [f"{label} {number % 40}" for label in LABELS[:2] for number in range(60)] + ["x", "y", "z", "z"]
    labels: list[tuple[str, ...]] = [*[("a",)] * 60, *[("b",)] * 60, *[("rare",)] * 4]
    if is_multi_label:
        labels[::7] = [("a", "b")] * len(labels[::7])
    rows = Rows(texts, labels)
    valid = Rows(["official"] * 50, [("a",)] * 50)
    return Task("whole", LABELS, is_multi_label, rows, valid, Rows(["test"], [("a",)]), "a test", ["not labeled"])


def test_each_class_has_the_requested_number_of_distinct_texts_or_all_of_its_texts() -> None:
    task = with_few_labels(a_task(), "few", 8, seed=1)
    assert Counter(task.train.labels) == {("a",): 8, ("b",): 8, ("rare",): 3}
    assert len(set(task.train.texts)) == len(task.train)


def test_a_smaller_draw_with_the_same_seed_is_a_subset_and_another_seed_draws_other_texts() -> None:
    few, more, other = (
        set(with_few_labels(a_task(), "few", count, seed).train.texts) for count, seed in ((8, 1), (30, 1), (8, 2))
    )
    assert few < more
    assert few != other


def test_each_label_of_a_multi_label_task_has_at_least_the_requested_number_of_texts() -> None:
    rows = with_few_labels(a_task(is_multi_label=True), "few", 8, seed=1).train
    assert len(set(rows.texts)) == len(rows)
    counts = Counter(label for labels in rows.labels for label in labels)
    assert counts["a"] >= 8
    assert counts["b"] >= 8


def test_unlabeled_texts_are_other_training_texts_and_drawn_with_the_seed() -> None:
    """The rows with labels are the same as without unlabeled texts, so that both can be compared."""
    task, same, other = (with_few_labels(a_task(), "few", 8, seed, unlabeled=20) for seed in (1, 1, 2))
    assert task.train == with_few_labels(a_task(), "few", 8, seed=1).train
    assert len(set(task.unlabeled)) == len(task.unlabeled) == 20
    assert set(task.unlabeled) < set(a_task().train.texts) - set(task.train.texts)
    assert task.unlabeled == same.unlabeled != other.unlabeled


def test_all_other_texts_are_taken_if_there_are_fewer() -> None:
    task = with_few_labels(a_task(), "few", 8, seed=1, unlabeled=500)
    assert {*task.train.texts, *task.unlabeled} == set(a_task().train.texts)


def test_a_draw_keeps_the_order_of_the_rows() -> None:
    rows = a_task().train
    texts = drawn(rows, LABELS, 5, seed=3).texts
    assert texts == sorted(texts, key=rows.texts.index)


def test_validation_rows_are_part_of_the_drawn_rows_and_every_class_is_on_both_sides() -> None:
    task = with_few_labels(a_task(), "few", 8, seed=1)
    assert task.valid is None
    assert task.unlabeled == []
    fit, valid = validation.held_out(task, seed=1)
    assert sorted(fit.texts + valid.texts) == sorted(task.train.texts)
    assert not set(fit.texts) & set(valid.texts)
    assert set(fit.labels) == set(valid.labels) == {(label,) for label in LABELS}


def test_the_joined_validation_rows_are_all_training_rows_if_settings_are_chosen_by_cross_validation() -> None:
    task = with_few_labels(a_task(), "few", 8, seed=1)
    assert sorted(validation.joined(task, seed=1).texts) == sorted(task.train.texts)


def test_a_pattern_selects_sets_and_few_label_sets_run_only_if_they_are_named() -> None:
    parse = _names(SETS)
    assert parse("trec6-8-per-class,trec6*") == [
        "trec6-8-per-class",
        "trec6",
        "trec6-8-per-class-unlabeled",
        "trec6-64-per-class",
        "trec6-64-per-class-unlabeled",
    ]
    assert parse("imdb") == ["imdb"]
    assert set(parse("*-8-per-class*,*-64-per-class*")) == set(FEW_LABEL_SETS) <= set(OPTIONAL_SETS)
    with pytest.raises(argparse.ArgumentTypeError, match="'nothing-\\*' is unknown"):
        parse("trec6,nothing-*")


def a_result(name: str, method: str, seed: int, **errors: float) -> dict[str, Any]:
    return {
        "set": name,
        "method": method,
        "seed": seed,
        "measure": "error",
        "scores": {model: {"error": error} for model, error in errors.items()},
        "rows": {"training": 42, "validation": 6 if method.startswith("bothways") else 0, "test": 500},
        "test_split": "official test split",
        "times": {"train": {"wall_s": 9.0, "cpu_s": 6.0}, "predict": {"wall_s": 4.0, "cpu_s": 2.0}},
        "facts": {"megabytes": 20.0 + seed, "seconds": {}},
        "machine": CPU,
        "versions": {"python": "3.11"},
    }


RESULTS = [
    *(a_result("trec6-8-per-class", "tfidf", seed, single=0.5 + seed / 10) for seed in (0, 1)),
    a_result(
        "trec6-8-per-class", "bothways-linear", 0, forward=0.3, backward=0.3, linear=0.6, directions=0.25, ensemble=0.2
    ),
    a_result("trec6-8-per-class-unlabeled", "bothways-teacher", 0, directions=0.2, ensemble=0.15, teacher=0.3),
    a_result("trec6", "bothways", 0, forward=0.05, backward=0.05, ensemble=0.04),
]


def test_the_table_of_few_labels_has_a_column_for_the_directions_and_one_for_the_linear_member() -> None:
    lines = error_table(grouped(RESULTS)).splitlines()
    assert lines[0].split(" | ")[3:9] == ["TF-IDF", "USE-m3", "MiniLM", "directions only", "linear", "ensemble"]
    assert len(lines) == 4, "two rows have results"
    few, whole = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:])
    assert few == ["trec6", "8", "42", "55.0 ± 7.1 (2)", "", "", "25.0 (1)", "60.0 (1)", "20.0 (1)", "", "", ""]
    assert whole == ["trec6", "all", "48", "", "", "", "4.0 (1)", "", "", "", "", ""]


def test_the_table_of_teachers_has_what_the_same_rows_are_worth_without_unlabeled_texts() -> None:
    lines = teacher_table(grouped(RESULTS)).splitlines()
    assert len(lines) == 3, "one set with unlabeled texts has results"
    row = [cell.strip() for cell in lines[2].split("|")[1:-1]]
    assert row == ["trec6", "8", "25.0 (1)", "20.0 (1)", "", "", "30.0 (1)", "20.0 (1)", "15.0 (1)"]


def test_the_table_of_costs_has_sizes_and_texts_per_cpu_second() -> None:
    lines = cost_table(RESULTS).splitlines()
    assert lines[2] == "| TF-IDF + logistic regression | CPU, 1 core (avx2) | 20 to 21 | 250 |"
    assert lines[3] == "| bothways, directions and linear member | CPU, 1 core (avx2) | 20 | 250 |"


def test_the_report_keeps_few_label_sets_out_of_the_table_of_all_sets(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    names = ("errors", "few labels", "training beside fastai", "conditions")
    page.write_text("\n".join(f"<!-- {name} -->\n<!-- end of {name} -->" for name in names), encoding="utf-8")
    write_report(RESULTS, page)
    errors, _, rest = page.read_text(encoding="utf-8").partition("<!-- end of errors -->")
    assert "trec6-8-per-class" not in errors
    assert "| trec6 | 48 | bothways | A | 1 | 5.00 | 5.00 | **4.00** |" in errors
    assert "| trec6 | 8 |" in rest
    assert "- trec6, trec6-8-per-class, trec6-8-per-class-unlabeled: 500 rows, official test split" in rest


def test_the_folder_of_results_of_a_machine_with_one_core_keeps_its_name() -> None:
    assert result_file(Path(), CPU, "trec6", "tfidf", 0) == Path("cpu-1-cores-avx2/trec6.tfidf.0.json")
