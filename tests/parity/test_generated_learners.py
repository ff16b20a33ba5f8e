"""Learners of every kind that users make are imported right or refused.

``make oracle-all`` makes and compares all of them. This makes a sample with the real fastai: one or two of each kind.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from oracle.compare_imports import compare_all

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("BOTHWAYS_ORACLE", ROOT / ".oracle")) / "bin" / "python"

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not PYTHON.exists(), reason="no .oracle: make oracle makes it"),
]


def test_a_learner_of_each_kind_is_imported_right_or_refused(tmp_path: Path) -> None:
    command = [str(PYTHON), str(ROOT / "oracle" / "generate.py"), "--out", str(tmp_path), "--sample"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    assert "FAILED" not in made.stdout, made.stdout
    outcomes = list(compare_all(tmp_path))
    assert len({outcome.kind for outcome in outcomes}) > 15
    wrong = [f"{o.learner} {o.options}: {o.found}, expected {o.expect}. {o.message}" for o in outcomes if o.is_wrong]
    assert not wrong, "\n".join(wrong)
    exact = [outcome for outcome in outcomes if outcome.found == "exact"]
    assert len(exact) > 20
    refused = [outcome for outcome in outcomes if outcome.expect == "refused"]
    assert all(outcome.found == "refused" and outcome.is_named for outcome in refused), [
        f"{o.learner}: {o.found}. {o.message}" for o in refused if o.found != "refused" or not o.is_named
    ]
