"""The README's Python runs as it stands, and its commands exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bothways.cli.app import app
from bothways.training.hyperparameters import Hyperparameters
from tests.processes import command_server

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    return [block for found, block in fenced if found == language]


@pytest.mark.slow
def test_the_python_block_runs(tmp_path: Path) -> None:
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    (tmp_path / "demo").symlink_to(ROOT / "demo")
    (tmp_path / "quick.toml").write_text(
        "[language_model]\nepochs = 0\n[classifier]\nepochs = 1\nunfreezing_epochs = 0\n"
    )
    assert 'out="messages.bundle")' in code
    quick = code.replace('.bundle")', '.bundle", config="quick.toml")', 1)  # the same lines, fewer epochs
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", quick],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert finished.returncode == 0, finished.stderr
    assert "(2, 6)" in finished.stdout
    assert "'ensemble'" in finished.stdout


def test_every_command_of_the_readme_exists() -> None:
    verb = re.compile(r"^(?:.*\| )?bothways ([\w-]+)", flags=re.MULTILINE)
    verbs = {match for block in blocks("") for match in verb.findall(block)}
    known = {command.callback.__name__.replace("_", "-") for command in app.registered_commands if command.callback}
    assert verbs == known


def test_every_option_of_the_readme_exists(tmp_path: Path) -> None:
    with command_server(tmp_path) as server:
        for line in "".join(blocks("")).splitlines():
            match = re.match(r"^(?:.*\| )?bothways ([\w-]+) (.*)$", line)
            if match:
                help_text = server.run(match[1], "--help").out.decode()
                for option in re.findall(r"--[a-z-]+", match[2]):
                    assert option in help_text, f"{match[1]} has no {option}"


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda p: p.name
)
def test_links_between_pages_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_hyperparameters_page_is_current() -> None:
    command = [sys.executable, "-m", "tools.make_hyperparameters_table"]
    tables = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    page, part = (
        (ROOT / "docs" / "hyperparameters.md").read_text(encoding="utf-8"),
        "made by tools/make_hyperparameters_table.py",
    )
    assert page.endswith(f"<!-- {part} -->\n\n{tables}\n<!-- end of {part} -->\n")
    for section, field in Hyperparameters.model_fields.items():
        rows = tables.partition(f"### [{section}]\n")[2].partition("###")[0]
        assert all(f"\n| `{key}` | " in rows for key in getattr(field.annotation, "model_fields", {}))
