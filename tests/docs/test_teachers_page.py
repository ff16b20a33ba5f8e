"""The examples of docs/teachers.md run, those with sentence encoders in a process that sees their packages too."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bothways
from bothways.data.labeled import read_soft_labels
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import SoftLabel
from tests.training_runs.test_training_data import OPTIONS

ROOT = Path(__file__).parents[2]
ENCODERS = ROOT / "build" / "encoders"
PREPARED = """
import functools
import sys
sys.path += sys.argv[1:]  # behind the packages of bothways
import bothways
from tests.training_runs.test_soft_labels import BAD, GOOD, LABELED, MORE
from tests.training_runs.test_training_data import OPTIONS
bothways.train = functools.partial(bothways.train, **OPTIONS, force=True)
texts, labels, more = LABELED["text"], LABELED["label"], MORE
"""
CHECKED = """
assert model.manifest.training.rows["labeled by a teacher"] == 48
print("accuracy of the teacher", (teacher.predict(MORE) == [["good", "bad"][i % 8 > 3] for i in range(48)]).mean())
"""


def examples() -> list[str]:
    page = (ROOT / "docs" / "teachers.md").read_text(encoding="utf-8")
    found = re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    assert len(found) == 4
    return found


def test_the_example_with_scikit_learn_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small: Any = functools.partial(bothways.train, **OPTIONS, force=True)  # type: ignore[arg-type]
    monkeypatch.setattr(bothways, "train", small)
    names: dict[str, Any] = {}
    exec(examples()[0], names)
    assert names["model"].manifest.training.rows["labeled by a teacher"] == 40


def test_the_answers_of_a_language_model_become_soft_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def ask(prompt: str) -> str:
        assert '{"good": 0.8, "bad": 0.2}' in prompt
        return '{"good": 0.9, "bad": 0.1}' if "lovely" in prompt else '{"good": 0.25, "bad": 0.75}'

    exec(examples()[3], {"texts": ['so "lovely",\nreally', "dull"], "ask": ask})
    task = SingleLabel(("bad", "good"))
    found = read_soft_labels(tmp_path / "scored.csv", "text", "label", task)
    assert found.texts == ['so "lovely",\nreally', "dull"]
    assert found.labels[1] == SoftLabel(task.labels, (0.75, 0.25), ("bad",))


@pytest.mark.teachers
@pytest.mark.parametrize("number", [1, 2], ids=["USE-m3", "MiniLM"])
def test_the_example_with_a_sentence_encoder_runs(number: int, tmp_path: Path) -> None:
    (packages,) = ENCODERS.glob("lib/python*/site-packages")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", PREPARED + examples()[number] + CHECKED, str(packages)]
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    accuracy = float(finished.stdout.rpartition("teacher ")[2])
    assert accuracy > 0.7, "the teacher knows no more words than its four labeled texts have"
