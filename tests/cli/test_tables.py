"""A5: every command and function that reads tables has the same options, and errors name them."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import typer

import bothways
from bothways.cli.app import app
from tests.cli.conftest import Workplace
from tests.processes import CommandServer

OPTIONS = {"--format", "--delimiter", "--quotes", "--encoding", "--no-header"}


@pytest.mark.parametrize(
    "name", ["train", "evaluate", "predict", "bench", "early-exit", "distill", "pretrain", "verify"]
)
def test_a5_every_command_has_the_options_of_tables(name: str) -> None:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    assert {option for parameter in command.params for option in parameter.opts} >= OPTIONS


@pytest.mark.parametrize(
    "name", ["train", "evaluate", "score", "fit_early_exit", "distill", "pretrain", "compare_precision"]
)
def test_a5_every_function_has_the_options_of_tables(name: str) -> None:
    parameters = inspect.signature(getattr(bothways, name)).parameters
    assert parameters.keys() >= {"format", "delimiter", "quotes", "encoding", "header"}


def test_a5_a_file_without_header_in_another_encoding_is_predicted(
    cli: CommandServer, place: Workplace, tmp_path: Path
) -> None:
    source, out = tmp_path / "SMSSpamCollection", tmp_path / "scored"
    source.write_bytes('1\t"ein schöner film\n2\tso lala\n'.encode("latin-1"))
    attempts = [
        ([], "unknown file format", "--format"),
        (["--format", "tsv"], "a quotation mark opens a field", "--quotes none"),
        (["--format", "tsv", "--quotes", "none"], "not valid UTF-8", "--encoding"),
        (["--format", "tsv", "--quotes", "none", "--encoding", "latin-1"], "has no column 'review'", "--no-header"),
    ]
    options: list[str] = []
    for options, problem, advice in attempts:
        finished = cli.run("predict", place.bundle, source, "--out", out, *options)
        assert finished.status in (1, 2)
        assert problem in finished.error_line
        assert advice in finished.error_line
        assert not out.exists()
    assert cli.run("predict", place.bundle, source, "--out", out, *options, "--no-header", "--text", "2").status == 0
    first, second = out.read_text(encoding="latin-1").splitlines()
    assert first.startswith('1\t"ein schöner film\t')
    assert second.startswith("2\tso lala\t")
