"""The commands and code of the page "Moving from fastai" work with models that the real fastai made."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles import python_environment
from tests.console import run_bothways
from tests.parity.test_fastai_parity import FIXTURES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "fastai.md").read_text(encoding="utf-8")
QUICK = "[language_model]\nepochs = 1\n[classifier]\nepochs = 1\nunfreezing_epochs = 0\n"

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not FIXTURES.exists(), reason="no .oracle/fixtures: make oracle makes them with real fastai"),
]


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    return [block for found, block in fenced if found == language]


def commands_of_the_table() -> list[str]:
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    return [command for row in rows for command in re.findall(r"`(bothways import-fastai [^`]+)`", row)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that a reader of the page has."""
    folder = tmp_path_factory.mktemp("reader")
    for name, way in (("fwd", "forward"), ("bwd", "backward")):
        (folder / name).mkdir()
        shutil.copy(FIXTURES / f"v2-classifier-{way}" / "export.pkl", folder / name)
        shutil.copy(FIXTURES / f"v1-wt103-{way}" / f"wt103-{name}.tgz", folder)
    shutil.copy(ROOT / "demo" / "held_out.csv", folder / "new.csv")
    shutil.copy(ROOT / "demo" / "messages.csv", folder / "reviews.csv")
    (folder / "quick.toml").write_text(QUICK)
    return folder


def test_the_commands_run_in_their_order(place: Path) -> None:
    ran = []
    for line in "".join(blocks("")).splitlines():
        if not line.startswith("bothways "):
            continue
        arguments = shlex.split(line)[1:]
        if arguments[0] == "train":  # from the pack of the table's last row; the same training, fewer epochs
            pack = run_bothways(
                "import-fastai",
                "wt103-fwd.tgz",
                "wt103-bwd.tgz",
                "--out",
                "wt103.pack",
                cwd=place,
                env=python_environment(),
            )
            assert pack.returncode == 0, pack.stderr
            arguments += ["--config", "quick.toml", "--force"]  # one epoch learns nothing
        finished = run_bothways(*arguments, cwd=place, env=python_environment())
        abstained = arguments[0] == "direction" and "No verdict" in finished.stdout  # too small a model to tell
        assert finished.returncode == (1 if abstained else 0), finished.stderr
        ran.append(arguments[0])
    assert ran == ["import-fastai", "predict", "direction", "train"]
    assert (place / "scored.csv").exists()


def test_the_python_block_runs_on_what_the_commands_made(place: Path) -> None:
    if not (place / "reviews.bundle").exists():
        run_bothways("import-fastai", "fwd/export.pkl", "bwd/export.pkl", "--out", "reviews.bundle", cwd=place)
    (code,) = blocks("python")
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        env=python_environment(),
    )
    assert finished.returncode == 0, finished.stderr
    assert "'ensemble'" in finished.stdout


def test_the_rows_of_the_table_run(tmp_path: Path) -> None:
    commands = commands_of_the_table()
    assert len(commands) == 3
    shutil.copy(FIXTURES / "v2-classifier-forward" / "export.pkl", tmp_path)
    for name in ("clas.pth", "vocab.pkl"):
        shutil.copy(FIXTURES / "v2-classifier-weights-forward" / name, tmp_path)
    for number, command in enumerate(commands[:2]):  # the third one fetches from the web
        arguments = shlex.split(command.replace("--out B", f"--out B{number}"))[1:]
        if "clas.pth" in arguments:
            labels = ["account", "billing", "change", "delivery", "fault", "return"]
            start = arguments.index("--label")
            arguments[start : start + 4] = [part for label in labels for part in ("--label", label)]
            arguments += ["--direction", "forward"]
        finished = run_bothways(*arguments, cwd=tmp_path, env=python_environment())
        assert finished.returncode == 0, finished.stderr
        assert (tmp_path / f"B{number}").is_dir()
