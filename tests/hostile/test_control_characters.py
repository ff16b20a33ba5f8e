"""D5: what a file or a request contains can't control a terminal, a log or a line of output."""

from __future__ import annotations

import io
import json
import shutil
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Table

from bothways.cli.app import app
from bothways.cli.options import output_console
from bothways.errors import BothwaysError
from bothways.terminal import SafeConsole
from tests.hostile import foreign_files as foreign
from tests.hostile.entrances import ENTRANCES

EVIL = "\x1b[31mred\x1b[0m\u202e\r\x07\x9b2J"
"""Colors, a change of direction, a return to the start of the line, a bell, and a C1 control sequence."""
J = json.dumps(EVIL)

CASES: list[tuple[str, bytes]] = [
    ("pickle", foreign.pickled({EVIL: 1})[:-3]),
    ("fastai 1", b"c" + EVIL.encode() + b"\nname\n."),
    ("torch zip", foreign.torch_zip({EVIL: "x"})[:-30]),
    ("tar", foreign.tar({EVIL.replace("\r", ""): b"x"}, "w:gz")),
    ("manifest", f'{{"format": 2, {J}: 1}}'.encode()),
    ("manifest", f'{{"format": {J}}}'.encode()),
    ("parity record", f'{{{J}: 1}}'.encode()),
    ("parity record", f'{{{J}: 1, {J}: 2}}'.encode()),
    ("subword tokenizer", f'{{"cleaning": {J}, {J}: 1}}'.encode()),
    ("word tokenizer", f'{{"words": {J}, {J}: 1}}'.encode()),
    ("weights", len(f'{{{J}: {{}}}}').to_bytes(8, "little") + f'{{{J}: {{}}}}'.encode()),
    *((name, f'{{{J}: 1}}'.encode()) for name in ("classify", "hugging face", "embeddings", "invocations")),
    *((name, f'{{{J}: 1, {J}: 1}}'.encode()) for name in ("classify", "hugging face", "embeddings", "infer")),
    ("invocations csv", f"{EVIL},b\n1,2\n".encode()),
    ("infer", f'{{"inputs": [{{"name": {J}, "shape": [1], "datatype": {J}, "data": [1]}}]}}'.encode()),
    ("hyperparameters", f"{J} = 1\n".encode()),
    ("hyperparameters", f"[encoder]\n{J} = {J}\n".encode()),
    ("settings", f"port = {J}\n{J} = 2\n".encode()),
    ("csv", f"label,text\n{EVIL},a\n{EVIL},b,c\n".encode()),
    ("csv", f"text,{EVIL},{EVIL}\n1,2\n".encode()),
    ("json lines", f'{{{J}: 1}}\n{{{J}: 1, {J}: 2}}\n'.encode()),
    ("json lines", f'{{"label": {J}}} {EVIL}\n'.encode()),
    ("parquet", b"PAR1" + EVIL.encode() * 9 + b"PAR1"),
]  # fmt: skip


@pytest.mark.parametrize(("entrance", "content"), CASES)
def test_d5_no_control_character_of_a_file_is_in_its_error(entrance: str, content: bytes) -> None:
    with ENTRANCES[entrance].place() as path:
        path.write_bytes(content)
        with pytest.raises(BothwaysError) as caught:
            ENTRANCES[entrance].read(path)
    message = str(caught.value)
    assert message.isprintable(), ascii(message)
    assert len(message) < 1500


@given(st.text(st.characters(categories=None), max_size=60), st.booleans())
@settings(max_examples=50, deadline=None)
def test_d5_a_console_escapes_what_it_prints(text: str, is_terminal: bool) -> None:
    file = io.StringIO()
    console = SafeConsole(file=file, force_terminal=is_terminal, color_system=None, markup=False, width=200)
    table = Table(title=text)
    table.add_row(text, text)
    console.print(table)
    console.print(text, soft_wrap=True)
    printed = file.getvalue()
    printed.encode("utf-8")
    assert not any(unicodedata.category(character) == "Cc" for character in printed.replace("\n", "")) or is_terminal
    assert not set("\u202a\u202e\u2066\u200f\u2028") & set(printed)


def test_d5_a_console_keeps_the_letters_of_every_script(capsys: pytest.CaptureFixture[str]) -> None:
    labels = "کتاب\u200cها 👩\u200d👧 [red] né 好评"
    output_console().print(labels)
    assert capsys.readouterr().out.strip() == labels


def test_d5_labels_and_columns_are_printed_without_control_characters(
    bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "d.csv"
    shown = EVIL.replace("\r", "")
    rows = "".join(f'"{shown}",a film\n' for _ in range(3))
    data.write_text(f"stars,{shown}\n{rows}", encoding="utf-8")
    copied = tmp_path / f"{shown}.bundle"
    shutil.copytree(bundle_path, copied)
    for arguments in (
        ["evaluate", copied, data, "--text", shown, "--label", "stars"],
        ["evaluate", copied, data, "--text", shown, "--label", "none"],
        ["predict", copied, data, "--text", "none"],
        ["predict", copied, data, "--text", shown, "--out", tmp_path / f"{shown}.csv"],
        ["info", copied],
        ["verify", copied],
        ["verify", tmp_path / f"{shown}2"],
    ):
        monkeypatch.setattr(sys, "argv", ["bothways", *map(str, arguments)])
        with pytest.raises(SystemExit):
            app()
        printed = "".join(capsys.readouterr())
        assert not any(unicodedata.category(c) == "Cc" for c in printed.replace("\n", "")), ascii(printed)
        assert "\u202e" not in printed
