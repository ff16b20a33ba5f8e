"""``bothways explain``: the numbers of ``model.explain``, as a table, as JSON and as colored text."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bothways
from tests.cli.conftest import titled_cells
from tests.processes import ENVIRONMENT, CommandServer

TEXT = "What a lovely [red] film, I \x1b[31mLOVED\x1b[0m it"


def test_the_table_has_the_words_and_their_numbers(cli: CommandServer, linear_bundle_path: Path) -> None:
    finished = cli.run("explain", linear_bundle_path, TEXT)
    assert (finished.status, finished.err) == (0, "")
    assert b"\x1b" not in finished.out
    found = bothways.load(linear_bundle_path).explain(TEXT)
    first = finished.out.decode().splitlines()[0]
    assert first == f"{found.label}: " + ", ".join(f"{name} {score:.4g}" for name, score in found.scores.items())
    rows = titled_cells(finished.out)
    assert [name[:7] for name in rows] == ["What", "a", "lovely", "[red]", "film,", "I", r"\x1b[31", "it"]
    for word, row in zip(found.words, rows.values(), strict=True):
        assert row == {name: f"{number:+.4f}" for name, number in word.attributions.items()}


def test_json_has_all_digits(cli: CommandServer, linear_bundle_path: Path) -> None:
    finished = cli.run("explain", linear_bundle_path, TEXT, "--label", "bad", "--max-readings", "4", "--json")
    expected = bothways.load(linear_bundle_path).explain(TEXT, label="bad", max_readings=4)
    assert json.loads(finished.out) == expected.to_dict()
    assert expected.readings == 4


def test_a_text_per_column_one_of_them_from_standard_input(cli: CommandServer, fields_bundle_path: Path) -> None:
    command = [sys.executable, "-m", "bothways", "explain", str(fields_bundle_path), "A film", "-", "--json"]
    finished = subprocess.run(command, env=ENVIRONMENT, input=b"I LOVED it\n", capture_output=True, check=False)
    assert json.loads(finished.stdout) == bothways.load(fields_bundle_path).explain(("A film", "I LOVED it")).to_dict()
    rows = titled_cells(cli.run("explain", fields_bundle_path, "A film", "I LOVED it").out)
    assert [*rows] == ["title", "body"]  # the last row of each column
    assert rows["body"]["word"] == "it"


def on_a_terminal(bundle: Path, *texts: str, **variables: str) -> str:
    """Return what a terminal would show."""
    screen, terminal = pty.openpty()
    environment = {**ENVIRONMENT, "TERM": "xterm-256color", "COLORTERM": "truecolor", **variables}
    command = [sys.executable, "-m", "bothways", "explain", str(bundle), *texts]
    with subprocess.Popen(command, env=environment, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        parts = []
        while True:
            try:
                part = os.read(screen, 10_000)
            except OSError:  # the process has closed the terminal
                break
            if not part:
                break
            parts.append(part)
    os.close(screen)
    assert process.returncode == 0
    return b"".join(parts).decode()


def test_a_terminal_shows_the_text_colored_for_each_direction(linear_bundle_path: Path) -> None:
    shown = on_a_terminal(linear_bundle_path, TEXT)
    found = bothways.load(linear_bundle_path).explain(TEXT)
    _, *parts = re.split(r"\r\n\r\n", shown)
    assert [re.sub(r"\x1b\[[\d;]*m", "", part).split("\r\n")[0] for part in parts] == [*found.methods]
    for name, part in zip(found.methods, parts, strict=True):
        strongest = max(found.words, key=lambda word: abs(word.attributions[name]))
        color = "31;111;178" if strongest.attributions[name] > 0 else "178;86;31"
        text = strongest.text.replace("\x1b", r"\x1b")
        assert f"48;2;{color}m{text}\x1b[0m" in part
        plain = re.sub(r"\x1b\[[\d;]*m", "", part).split("\r\n")[1]
        assert plain == TEXT.replace("\x1b", r"\x1b")


def test_a_terminal_of_several_columns_names_them(fields_bundle_path: Path) -> None:
    lines = re.sub(r"\x1b\[[\d;]*m", "", on_a_terminal(fields_bundle_path, "A film", "I LOVED it")).splitlines()
    assert lines[2:5] == ["forward", "title: A film", "body: I LOVED it"]


def test_a_terminal_with_16_colors_has_no_shades(linear_bundle_path: Path) -> None:
    shown = on_a_terminal(linear_bundle_path, TEXT, TERM="xterm", COLORTERM="")
    assert re.search(r"\x1b\[(37;44|30;43)m", shown)
    assert "48;" not in shown


def test_no_color_means_a_table(linear_bundle_path: Path) -> None:
    shown = on_a_terminal(linear_bundle_path, TEXT, NO_COLOR="1")
    assert "┃ word" in re.sub(r"\x1b\[\d*m", "", shown)
    assert "48;" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a text", "--label", "best"), "the model has no label or target 'best', expected one of 'bad'"),
        (("a", "b"), "the text is a list of 2 values, but this model reads the text column 'text' only"),
    ],
    ids=["label", "columns"],
)
def test_mistakes_are_one_line(
    cli: CommandServer, linear_bundle_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    finished = cli.run("explain", linear_bundle_path, *arguments)
    assert finished.status in (1, 2)
    assert finished.err.startswith(f"bothways: error: {message}")
    assert finished.err.count("\n") == 1


def test_standard_input_must_be_utf_8(linear_bundle_path: Path) -> None:
    command = [sys.executable, "-m", "bothways", "explain", str(linear_bundle_path), "-"]
    finished = subprocess.run(command, env=ENVIRONMENT, input=b"caf\xe9", capture_output=True, check=False)
    assert finished.returncode == 1
    assert finished.stderr == b"bothways: error: standard input is not UTF-8 at byte 4. Convert it to UTF-8\n"
