"""The examples of docs/hub.md run against the local server."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from bothways.bundle.read import read_manifest
from bothways.cli.app import app
from bothways.serve.bundles import parse_bundles
from bothways.training.start import read_start
from tests.docs.test_pages import ROOT, blocks
from tests.hub.server import Hub
from tests.hub.test_hub import MARKS

pytestmark = MARKS
PAGE = ROOT / "docs" / "hub.md"


def test_the_examples_run(
    hub: Hub, bundle_path: Path, pack_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_user")
    monkeypatch.chdir(tmp_path)
    Path("reviews.bundle").symlink_to(bundle_path)
    Path("new.csv").write_text("text\na lovely film\n")
    app(["push", str(pack_path), "user/words"], standalone_mode=False)
    ran = []
    for line in "".join(blocks(PAGE, "")).splitlines():
        _, command, *arguments = shlex.split(line, comments=True)
        ran.append(command)
        match command:
            case "serve":
                hub.repositories["user/reviews"].refs["v2"] = hub.repositories["user/reviews"].refs["main"]
                assert [version.name for version in parse_bundles(arguments)] == ["reviews"]
            case "train":  # takes minutes
                assert read_start(arguments[arguments.index("--pretrained") + 1], None).pack is not None
            case "predict":
                app([command, *arguments, "--text", "text"], standalone_mode=False)
                assert "predicted_label" in Path("scored.csv").read_text()
            case _:
                app([command, *arguments], standalone_mode=False)
    assert ran == ["push", "verify", "predict", "info", "serve", "train", "packs", "packs"]
    names: dict[str, Any] = {}
    (code,) = blocks(PAGE, "python")
    exec(code, names)
    assert names["model"].digest == read_manifest(bundle_path).digest
