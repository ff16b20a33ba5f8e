"""docs/training.md names every key of ``metrics.jsonl``."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from bothways.training.reports import EpochReport, StageReport, StepReport

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


@pytest.mark.parametrize("kind", [StepReport, EpochReport, StageReport])
def test_the_keys_of_each_line_are_documented(kind: type[StepReport | EpochReport | StageReport]) -> None:
    part = PAGE.read_text(encoding="utf-8").partition(f'`"report": "{kind.__name__}"`')[2].partition("A line with")[0]
    keys = {key for row in re.findall(r"^\| (`.+?) \|", part, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)}
    assert keys == {field.name for field in dataclasses.fields(kind)}
