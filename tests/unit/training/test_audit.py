"""An audit of rows in which everything that it looks for is planted."""

from __future__ import annotations

import csv
import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import bothways
from bothways.errors import ConfigError, DataError
from bothways.tasks.single_label import SingleLabel
from bothways.text.similarity import key_of
from bothways.training import progress
from bothways.training.audit_page import audit_csv, audit_html
from bothways.training.linear import out_of_fold_scores

RNG = np.random.default_rng(0)
TOPICS = {
    "delivery": ["parcel", "driver", "courier", "doorstep", "tracking", "depot", "arrived", "late", "van", "shipment"],
    "billing": ["invoice", "charged", "refund", "card", "payment", "price", "discount", "bank", "twice", "receipt"],
}
OTHERS = ["please", "my", "the", "a", "with", "could", "you", "since", "yesterday", "again", "and", "order", "about"]


def _text(label: str) -> str:
    words = [*RNG.choice(TOPICS[label], 4), *RNG.choice(OTHERS, 8)]
    return " ".join(words[place] for place in RNG.permutation(12))


LABELS = [("delivery", "billing")[number % 2] for number in range(200)]
TEXTS = [_text(label) for label in LABELS]


def planted() -> tuple[list[str], list[str]]:
    """Return texts and labels: rows 11 and 52 are wrong, 201 repeats 7, 202 conflicts with 8, 203 is near 9."""
    texts, labels = [*TEXTS], [*LABELS]
    labels[10], labels[51] = labels[11], labels[50]
    texts += [TEXTS[6].upper(), TEXTS[7], f"{TEXTS[8]} x", ""]
    labels += [LABELS[6], LABELS[6], LABELS[8], "billing"]
    return texts, labels


def test_everything_planted_is_found() -> None:
    audit = bothways.audit(*planted(), test=["something else", TEXTS[20], f"{TEXTS[21]} y"])
    errors = audit.of_kind("label-error")
    assert {each.row for each in errors[:3]} >= {11, 52}
    assert {(each.row, each.label, each.suggestion) for each in errors} >= {
        (11, LABELS[11], LABELS[10]),
        (52, LABELS[50], LABELS[51]),
    }
    assert [(each.row, each.other_row) for each in audit.of_kind("duplicate")] == [(201, 7), (202, 8)]
    conflicts = audit.of_kind("conflicting-labels")
    assert [(each.row, each.other_row, each.score) for each in conflicts] == [(8, 202, 0.5), (202, 8, 0.5)]
    assert conflicts[0].reason == "labels: billing (1), delivery (1)"
    assert [(each.row, each.other_row) for each in audit.of_kind("near-duplicate")] == [(203, 9)]
    assert {(each.row, each.other_row) for each in audit.of_kind("test-leak")} == {(21, 2), (22, 3)}
    assert [each.row for each in audit.of_kind("unusual-text")] == [204]
    assert audit.test_rows == 3
    assert sum(audit.counts.values()) == len(audit.findings)
    assert audit.confusion is not None
    assert np.sum(audit.confusion) == audit.rows == 204
    assert sum(each.rows for each in audit.confusions) == np.sum(audit.confusion) - np.trace(audit.confusion)


def test_clean_rows_have_no_findings_and_leaks_are_not_counted_without_test_rows() -> None:
    audit = bothways.audit(TEXTS, LABELS)
    assert audit.findings == ()
    assert "test-leak" not in audit.counts
    assert repr(audit) == "Audit(data='the table', rows=200)"


def test_row_numbers_count_invalid_rows(tmp_path: Path) -> None:
    texts, labels = planted()
    path = tmp_path / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), ("no label", ""), *zip(texts, labels, strict=True)])
    audit = bothways.audit(path, text="text", label="label")
    assert [(each.row, each.other_row) for each in audit.of_kind("near-duplicate")] == [(204, 10)]
    (invalid,) = audit.of_kind("invalid-row")
    assert invalid.row == 1
    assert "the label is missing" in invalid.reason


def test_the_same_rows_give_the_same_audit() -> None:
    assert bothways.audit(*planted()).to_dict() == bothways.audit(*planted()).to_dict()


@pytest.mark.parametrize("is_shown", [True, False])
def test_an_audit_that_takes_long_shows_its_progress_unless_progress_is_false(
    is_shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = itertools.count(step=5)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    bothways.audit(TEXTS, LABELS, test=TEXTS[:20], progress=is_shown)
    captured = capsys.readouterr()
    assert captured.out == ""
    steps = {re.sub(r" \d+%: about .*$", "", line) for line in captured.err.splitlines()}
    expected = {"cleaning texts", "hashing texts", "finding similar texts", "reading n-grams", "weighting n-grams"}
    assert (steps >= expected) if is_shown else captured.err == ""


def test_equal_texts_never_help_to_judge_each_other() -> None:
    texts = [*TEXTS[:40], *["only here: zebra giraffe"] * 10]
    targets = np.array([0, 1] * 20 + [1] * 10)
    task = SingleLabel(("delivery", "billing"))
    own = out_of_fold_scores(texts, targets, list(map(key_of, texts)), task, 5, 0)[40:, 1]
    apart = out_of_fold_scores(texts, targets, list(map(str, range(50))), task, 5, 0)[40:, 1]
    assert own.max() < 0.8 < apart.min()


def test_multi_label_rows_have_labels_to_add_and_to_remove() -> None:
    labels = [[label] for label in LABELS]
    labels[10] = ["delivery", "billing"]
    audit = bothways.audit(TEXTS, labels, task="multi-label")
    (first, *_) = audit.of_kind("label-error")
    assert (first.row, first.suggestion) == (11, "remove billing")
    assert audit.confusion is None


def test_numbers_are_audited_without_label_errors() -> None:
    audit = bothways.audit([*TEXTS, TEXTS[0]], [*map(float, range(200)), 7.5], task="regression")
    assert [each.kind for each in audit.findings] == ["conflicting-labels", "conflicting-labels", "duplicate"]
    assert any("regression" in note for note in audit.notes)


def test_what_cannot_be_audited_is_refused_with_the_reason() -> None:
    with pytest.raises(DataError, match="expected at least 5"):
        bothways.audit(["a", "b", "c"], ["x", "y", "x"])
    with pytest.raises(DataError, match="at least 2 are needed"):
        bothways.audit(["a", "b", "c"], ["x", "x", "x"])
    with pytest.raises(ConfigError, match="seed is -1"):
        bothways.audit(TEXTS, LABELS, seed=-1)
    with pytest.raises(ConfigError, match="name the text column"):
        bothways.audit("rows.csv")


def test_rare_labels_are_named_as_not_judged() -> None:
    audit = bothways.audit([*TEXTS, "a rare case"], [*LABELS, "rare"])
    assert any("fewer than 5 rows" in note for note in audit.notes)
    assert not any(each.label == "rare" for each in audit.of_kind("label-error"))


def test_the_page_loads_nothing_and_escapes_every_text() -> None:
    texts, labels = planted()
    texts[10] += " <script>alert(1)</script>"
    page = audit_html(bothways.audit(texts, labels, test=TEXTS[20:22])).decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", page)
    for kind in ("label-error", "conflicting-labels", "test-leak", "duplicate", "near-duplicate", "unusual-text"):
        assert f'id="{kind}"' in page
    assert "Confusion matrix" in page


def test_the_table_has_every_finding_and_its_text() -> None:
    audit = bothways.audit(*planted())
    rows = list(csv.DictReader(audit_csv(audit).decode().splitlines()))
    assert [int(row["row"]) for row in rows] == [each.row for each in audit.findings]
    assert [row["text"] for row in rows] == [each.text for each in audit.findings]
    assert json.dumps(audit.to_dict())
    frame = audit.to_frame()
    assert list(frame["row"]) == [each.row for each in audit.findings]
