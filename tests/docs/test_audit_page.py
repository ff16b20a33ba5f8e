"""The examples of docs/audit.md run."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

import bothways

ROOT = Path(__file__).parents[2]


def test_the_examples_run(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (ROOT / "demo" / "messages.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    for name, some in (("reviews.csv", rows[:120]), ("test.csv", rows[110:130])):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("review", "sentiment"), *some])
    with (tmp_path / "unlabeled.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text",), *((text,) for text, _ in rows[:20])])
    (tmp_path / "reviews.bundle").symlink_to(bundle_path)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    names: dict[str, object] = {
        "bothways": bothways,
        "texts": [text for text, _ in rows],
        "labels": [b for _, b in rows],
    }
    for block in re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE):
        exec(block, names)
    audit = names["audit"]
    assert isinstance(audit, bothways.Audit)
    assert audit.counts["test-leak"] == 10


def test_the_page_names_every_kind_of_finding() -> None:
    page = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| `([a-z-]+)` \|", page, flags=re.MULTILINE)
    assert tuple(shown[:7]) == tuple(
        bothways.audit(["a", "b", "c", "d", "e"], ["x", "y", "x", "y", "x"], test=["z"]).counts
    )
