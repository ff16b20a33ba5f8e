"""What the README and the pages of docs/ claim: their Python runs, and what they name exists."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

import bothways
from bothways.cli.app import app
from bothways.training.hyperparameters import Hyperparameters

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(page for page in (ROOT / "docs").rglob("*.md"))]
CURRENT_PAGES = [page for page in PAGES if page.name != "LOG.md"]
"""The log is history: it names commands and options as they were."""

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
every_current_page = pytest.mark.parametrize("page", CURRENT_PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language; without one they hold commands."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [block for found, block in fenced if found == language]


def commands() -> dict[str, set[str]]:
    """Return the options of each command."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return {
        name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        | {"--help"}
        for name, command in group.commands.items()
    }


def command_lines(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the command and the arguments of each call of the command line, in fenced blocks and in code spans."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(page, ""):
        for line in block.replace("\\\n", " ").splitlines():
            if match := re.match(r"^(?:.*\| )?bothways ([\w-]+)(.*)$", line):
                yield match[1], match[2].partition("  #")[0]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for span in re.findall(r"`([^`\n]+)`", prose):
        call = span if span.startswith("bothways ") else f"bothways {span}"  # also `verify --precision int8`
        match = re.match(r"^bothways ([a-z][\w-]*)(?![\w/-])(.*)$", call)
        if match and (call == span or ("--" in span and match[1] in commands())):
            yield match[1], match[2]


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    first, *further = blocks(README, "python")
    assert len([line for line in first.splitlines() if line.strip()]) <= 6  # the shortest example stays short
    (tmp_path / "demo").symlink_to(ROOT / "demo")
    (tmp_path / "quick.toml").write_text(
        "[language_model]\nepochs = 0\n[classifier]\nepochs = 1\nunfreezing_epochs = 0\n"
    )
    assert 'out="messages.bundle")' in first
    quick = first.replace('.bundle")', '.bundle", config="quick.toml")', 1)  # the same lines, fewer epochs
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join([quick, *further])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert finished.returncode == 0, finished.stderr
    assert "(2, 6)" in finished.stdout
    assert "'ensemble'" in finished.stdout
    assert (tmp_path / "scored.csv").exists()


def test_the_readme_shows_every_command() -> None:
    shown = {name for name, _ in command_lines(README)}
    assert shown == set(commands())


@every_current_page
def test_commands_and_their_options_exist(page: Path) -> None:
    known = commands()
    for name, arguments in command_lines(page):
        assert name in known, f"bothways has no command {name}"
        missing = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", arguments)) - known[name]
        assert not missing, f"bothways {name} has no {missing}"


@every_current_page
def test_options_named_alone_exist(page: Path) -> None:
    of_any_command = {option for options in commands().values() for option in options} | {"--version"}
    named = re.findall(r"`(--[a-z][a-z-]*)[^`\n]*`", page.read_text(encoding="utf-8"))
    assert set(named) <= of_any_command


@every_current_page
def test_python_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"(?<![\w/.])bothways\.([a-z_]+|[A-Z]\w+)\(", text):
        assert hasattr(bothways, name), f"{page.name} calls bothways.{name}"


@every_current_page
def test_extras_exist(page: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"\bbothways\[([\w,]+)\]", page.read_text(encoding="utf-8"))
    assert {extra for each in named for extra in each.split(",")} <= set(extras)


@every_page
def test_links_between_pages_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), f"{page.name} links to {target}"


@every_current_page
def test_paths_of_the_repository_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:src|tests|docs|tools|oracle|benchmarks|deploy|demo|clients|packs|javascript)/[\w./-]+)`",
        page.read_text(encoding="utf-8"),
    )
    missing = [name for name in named if "demo/out" not in name and not (ROOT / name).exists()]
    assert missing == []


def test_every_page_is_linked() -> None:
    linked = {
        (page.parent / target).resolve()
        for page in [README, *CURRENT_PAGES]
        for target in re.findall(r"\]\(([^)#]+\.md)", page.read_text(encoding="utf-8"))
    }
    assert {page.resolve() for page in (ROOT / "docs").rglob("*.md")} <= linked


def test_the_tables_of_hyperparameters_are_current() -> None:
    command = [sys.executable, "-m", "tools.make_hyperparameters_table"]
    tables = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    page = (ROOT / "docs" / "hyperparameters.md").read_text(encoding="utf-8")
    part = "made by tools/make_hyperparameters_table.py"
    assert page.endswith(f"<!-- {part} -->\n\n{tables}\n<!-- end of {part} -->\n")
    for section, field in Hyperparameters.model_fields.items():
        rows = tables.partition(f"### [{section}]\n")[2].partition("###")[0]
        keys = getattr(field.annotation, "model_fields", {})
        assert keys
        assert all(re.search(rf"^\| `{key}` \| .+ \| .+ \|$", rows, flags=re.MULTILINE) for key in keys)
