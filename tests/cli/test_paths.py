"""A6: every command accepts every path for each of its arguments, or refuses it in one clear line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bothways.bundle.packs import pack_path
from tests.bundles import LABELS
from tests.cli.conftest import Workplace
from tests.processes import CommandServer, Finished

NAMES = {
    "not UTF-8": os.fsdecode(b"b\xe9"),
    "controls": "a\nb\x1b[31m[red]:smile: ~",
    "dash": "-x",
    "too long": "x" * 254,
    "beyond": "x" * 5000,
}


def check(finished: Finished, *, works: bool) -> None:
    """Fail unless a command worked, or ended with one line for a person."""
    shown = finished.err.replace("\n", "")
    assert finished.status in ((0,) if works else (0, 1, 2)), finished.err
    assert "internal error" not in finished.err
    assert "Traceback" not in finished.err
    assert shown.isprintable() or works, ascii(finished.err)
    assert "\x1b" not in finished.err
    assert b"\x1b" not in finished.out
    finished.out.decode("utf-8")


@pytest.fixture(scope="module")
def place(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("paths")
    rows = "".join(f"a {label} film {number},{label}\n" for number in range(10) for label in LABELS)
    (folder / "d.csv").write_text(f"review,stars\n{rows}")
    return Workplace(folder, bundle_path, folder / "d.csv")


@pytest.fixture(params=NAMES, ids=str)
def name(request: pytest.FixtureRequest) -> str:
    return NAMES[request.param]


@pytest.fixture
def can_exist(name: str) -> bool:
    return len(os.fsencode(name)) < 255 - len(".bundle")


Command = Callable[[Workplace, str], list[object]]

MISSING: dict[str, Command] = {
    "train DATA": lambda p, x: ["train", x, "--text", "review", "--label", "stars", "--out", "o.b"],
    "train --out": lambda p, x: ["train", p.data, "--text", "review", "--label", "no", "--out", x],
    "train --text": lambda p, x: ["train", p.data, "--text", x, "--label", "stars", "--out", "o.b"],
    "train --label": lambda p, x: ["train", p.data, "--text", "review", "--label", x, "--out", "o.b"],
    "train --config": lambda p, x: [*train(p), "--config", x],
    "train --valid": lambda p, x: [*train(p), "--valid", x],
    "train --unlabeled": lambda p, x: [*train(p), "--unlabeled", x],
    "train --soft-labels": lambda p, x: [*train(p), "--soft-labels", x],
    "distill TEACHER": lambda p, x: ["distill", x, p.data, "--out", "o.b"],
    "distill TEXTS": lambda p, x: ["distill", p.bundle, x, "--out", "o.b"],
    "distill --valid": lambda p, x: ["distill", p.bundle, p.data, "--out", "o.b", "--valid", x],
    "distill --pretrained": lambda p, x: ["distill", p.bundle, p.data, "--out", "o.b", "--pretrained", x],
    "train --pretrained": lambda p, x: [*train(p), "--pretrained", x],
    "pretrain CORPUS": lambda p, x: ["pretrain", x, "--out", "o.b"],
    "pretrain --out": lambda p, x: ["pretrain", "none.txt", "--out", x],
    "pretrain --continue": lambda p, x: ["pretrain", p.data, "--text", "review", "--out", "o.b", "--continue", x],
    "predict BUNDLE": lambda p, x: ["predict", x, p.data],
    "predict DATA": lambda p, x: ["predict", p.bundle, x],
    "predict --text": lambda p, x: ["predict", p.bundle, p.data, "--text", x],
    "evaluate BUNDLE": lambda p, x: ["evaluate", x, p.data],
    "evaluate DATA": lambda p, x: ["evaluate", p.bundle, x],
    "evaluate --label": lambda p, x: ["evaluate", p.bundle, p.data, "--label", x],
    "serve BUNDLE": lambda p, x: ["serve", x, "--port", "1"],
    "serve --config": lambda p, x: ["serve", p.bundle, "--config", x],
    "verify BUNDLE": lambda p, x: ["verify", x],
    "verify DATA": lambda p, x: ["verify", p.bundle, x, "--precision", "int8"],
    "verify --key": lambda p, x: ["verify", p.bundle, "--key", x],
    "sign BUNDLE": lambda p, x: ["sign", x, "--key", "none.pem"],
    "sign --key": lambda p, x: ["sign", p.bundle, "--key", x],
    "info BUNDLE": lambda p, x: ["info", x],
    "bench BUNDLE": lambda p, x: ["bench", x],
    "bench DATA": lambda p, x: ["bench", p.bundle, x],
    "early-exit BUNDLE": lambda p, x: ["early-exit", x, p.data, "--out", "o.b"],
    "early-exit DATA": lambda p, x: ["early-exit", p.bundle, x, "--out", "o.b"],
    "import-fastai MODEL": lambda p, x: ["import-fastai", x, "--out", "o.b"],
    "import-fastai --out": lambda p, x: ["import-fastai", "none.pkl", "--out", x],
    "direction MODEL": lambda p, x: ["direction", x],
    "export-onnx BUNDLE": lambda p, x: ["export-onnx", x, "--out", "o.onnx"],
    "export-onnx --out": lambda p, x: ["export-onnx", "none.bundle", "--out", x],
}
"""Commands with a path or a name at which there is nothing."""


def train(place: Workplace) -> list[object]:
    return ["train", place.data, "--text", "review", "--label", "stars", "--out", "o.b"]


@pytest.mark.parametrize("command", MISSING)
def test_a6_a_missing_path_of_any_name_is_refused_in_one_line(
    command: str, place: Workplace, cli_with_torch: CommandServer, tmp_path: Path
) -> None:
    for name in (NAMES["not UTF-8"], NAMES["controls"], NAMES["beyond"]):
        finished = cli_with_torch.run(*MISSING[command](place, name), folder=tmp_path)
        check(finished, works=False)
        assert finished.status in (1, 2), finished.err
        assert not list(tmp_path.iterdir()), "something was left behind"


def test_a6_files_and_bundles_of_any_name_are_read_and_written(
    name: str, can_exist: bool, place: Workplace, cli: CommandServer, tmp_path: Path
) -> None:
    if not can_exist:
        pytest.skip("file systems have no such name")
    folder = tmp_path / name
    folder.mkdir()
    bundle, data = folder / f"{name}.bundle", folder / f"{name}.csv"
    shutil.copytree(place.bundle, bundle)
    shutil.copyfile(place.data, data)
    columns = ("--text", "review", "--label", "stars")
    for arguments in (
        ("info", bundle),
        ("verify", bundle),
        ("evaluate", bundle, data, *columns),
        ("evaluate", bundle, data, *columns, "--out", folder / "e.json"),
        ("predict", bundle, data, "--text", "review", "--out", folder / f"{name}.p.csv"),
        ("early-exit", bundle, data, *columns, "--out", folder / f"{name}.e", "--loss", 50),
        ("export-onnx", bundle, "--out", folder / f"{name}.onnx"),
    ):
        check(cli.run(*arguments, folder=tmp_path), works=True)


def test_a6_training_works_or_is_refused_at_once(
    name: str, place: Workplace, cli_with_torch: CommandServer, tmp_path: Path
) -> None:
    """Never after the training: the run has one epoch, and its bundle can be loaded again."""
    data, config = tmp_path / f"{name[:200]}.csv", tmp_path / f"{name[:200]}.toml"
    shutil.copyfile(place.data, data)
    config.write_text(
        "[encoder]\nembedding_size=4\nhidden_size=4\nlayers=1\n[tokenizer]\nvocabulary_size=60\n"
        "[language_model]\nepochs=0\n[classifier]\nepochs=1\nunfreezing_epochs=0\n"
    )
    value = f"./{name}" if name.startswith("-") else name
    columns = ("--text", "review", "--label", "stars", "--valid", data, "--unlabeled", data, "--pretrained", "none")
    finished = cli_with_torch.run(
        "train", data, *columns, "--out", value, "--config", config, "--directions", "forward", "--force",
        folder=tmp_path,
    )  # fmt: skip
    check(finished, works=len(name) <= 200)
    if finished.status == 0:
        check(cli_with_torch.run("info", value, folder=tmp_path), works=True)
    else:
        assert not (tmp_path / f"{name}.run").exists() if len(name) < 250 else True


def test_a6_text_that_is_not_utf8_is_refused_before_it_would_be_recorded(
    place: Workplace, cli_with_torch: CommandServer, tmp_path: Path
) -> None:
    odd = NAMES["not UTF-8"]
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a text\n\nanother text\n")
    for arguments in (
        ("pretrain", corpus, "--out", "o.b", "--about", odd),
        ("train", place.data, "--text", "review", "--label", "stars", "--out", "o.b", "--label-separator", odd),
    ):
        finished = cli_with_torch.run(*arguments, folder=tmp_path)
        assert finished.status == 2, finished.err
        assert "UTF-8" in finished.error_line


def test_a6_a_pack_of_any_name_is_named_in_messages(
    name: str, can_exist: bool, place: Workplace, cli_with_torch: CommandServer, tmp_path: Path
) -> None:
    """A warning that names the pack is recorded in the metrics of the run, so its path has to become text."""
    if not can_exist:
        pytest.skip("file systems have no such name")
    pack = tmp_path / f"{name}.pack"
    pack.symlink_to(pack_path("en-small"), target_is_directory=True)
    check(cli_with_torch.run("info", pack, folder=tmp_path), works=True)
    finished = cli_with_torch.run(
        "train", place.data, "--text", "review", "--label", "stars", "--out", "o.b", "--pretrained", pack,
        "--config", tmp_path / "none.toml", folder=tmp_path,
    )  # fmt: skip
    check(finished, works=False)
