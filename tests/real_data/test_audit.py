"""Label errors that are planted in TREC-6 are found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from benchmarks.label_errors import planted, read

import bothways

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif("BOTHWAYS_DATA" not in os.environ, reason="BOTHWAYS_DATA is not set: no real data sets"),
]


def test_seven_of_ten_errors_planted_in_a_twentieth_of_trec6_are_found_among_as_many_rows() -> None:
    folder = Path(os.environ["BOTHWAYS_DATA"]) / "trec6"
    texts, labels = read(folder / "train.csv")
    changed, wrong = planted(labels, share=0.05, seed=0)
    audit = bothways.audit(texts, changed, test=read(folder / "test.csv")[0])
    first = {each.row - 1 for each in audit.of_kind("label-error")[: len(wrong)]}
    assert len(first & wrong) / len(wrong) >= 0.7
    assert audit.counts["test-leak"] >= 10  # of the data set itself
    assert audit.counts["duplicate"] >= 70
