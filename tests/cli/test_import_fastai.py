"""The commands import-fastai and direction: their output, and the error of each mistake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bothways.text.reading import Direction, SpecialTokenPlacement
from tests.bundles import LABELS, TinyClassifiers, TinyLanguageModels, make_classifiers, make_language_models
from tests.processes import CommandServer, command_server
from tests.unit.interop.exports import vocabulary
from tests.unit.interop.foreign import fastai_state, save_vocabulary, save_weights
from tests.words import WORDS, make_word_tokenizer

PLACEMENTS = dict.fromkeys(Direction, SpecialTokenPlacement.AS_WRITTEN)


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandServer]:
    """Runs commands that need not import spaCy again, which takes seconds: it looks for torch."""
    with command_server(tmp_path_factory.mktemp("cli"), "spacy") as server:
        yield server


@pytest.fixture(scope="module")
def classifiers() -> TinyClassifiers:
    return make_classifiers(make_word_tokenizer("fastai-v1"), PLACEMENTS)


@pytest.fixture(scope="module")
def language_models() -> TinyLanguageModels:
    return make_language_models(make_word_tokenizer("fastai-v1"), PLACEMENTS)


@pytest.fixture
def files(classifiers: TinyClassifiers, tmp_path: Path) -> list[Path]:
    save_vocabulary(tmp_path / "itos.pkl", vocabulary(1, WORDS))
    return [
        save_weights(tmp_path / f"{way}.pth", fastai_state(classifiers.models[way], version=1)) for way in Direction
    ]


def labels() -> list[str]:
    """Return the options for what the weights of a classifier do not record."""
    return ["--language", "en", "--task", "single-label", *(part for label in LABELS for part in ("--label", label))]


def test_two_classifiers_become_a_bundle_that_all_commands_accept(
    cli: CommandServer, files: list[Path], tmp_path: Path
) -> None:
    bundle = tmp_path / "reviews.bundle"
    finished = cli.run("import-fastai", *files, "--out", bundle, *labels())
    assert (finished.status, finished.err) == (0, "")
    out = finished.out.decode()
    for row in (("forward.pth", "fastai", "forward", "given"), ("backward.pth", "fastai", "backward", "given")):
        (line,) = [line for line in out.splitlines() if row[0] in line and "│" in line]
        name, *cells = (cell.strip() for cell in line.split("│")[1:5])
        assert name.endswith(row[0])
        assert cells == list(row[1:])
    assert f"Next: bothways verify {bundle}" in out

    assert b"Passed" in cli.run("verify", bundle).out
    info = cli.run("info", bundle).out.decode()
    assert "forward.pth, direction given" in info
    (tmp_path / "new.csv").write_text("text\nthe good cat\n")
    options = ("--out", "-", "--text", "text")
    predicted = cli.run("predict", bundle, tmp_path / "new.csv", *options, blocked=("spacy", "torch"))
    assert predicted.status == 0, predicted.err
    assert b"predicted_label" in predicted.out
    assert "reads backward: given" in (bundle / "README.md").read_text()


def test_a_language_model_becomes_a_pack(
    cli: CommandServer, language_models: TinyLanguageModels, tmp_path: Path
) -> None:
    weights = save_weights(tmp_path / "lm.pth", fastai_state(language_models.models[Direction.BACKWARD]))
    save_vocabulary(tmp_path / "itos.pkl", vocabulary(1, WORDS))
    options = ("--out", tmp_path / "lm.pack", "--direction", "backward")
    refused = cli.run("import-fastai", weights, *options)
    assert refused.status == 2
    assert "records only weights, not how texts were split: add --language" in refused.error_line
    finished = cli.run("import-fastai", weights, *options, "--language", "en")
    assert finished.status == 0, finished.err
    assert "Assumed: fastai's cleaning rules." in " ".join(finished.out.decode().split())
    assert f"--pretrained {tmp_path / 'lm.pack'}" in finished.out.decode()
    assert b"language-model" in cli.run("info", tmp_path / "lm.pack").out


def test_a_regression_with_several_targets_is_imported_with_its_range(
    cli: CommandServer, files: list[Path], tmp_path: Path
) -> None:
    bundle, data = tmp_path / "houses.bundle", tmp_path / "d.csv"
    names = [part for name in ("price", "stars", "rooms") for part in ("--label", name)]
    options = ("--language", "en", "--task", "regression", "--y-range", "-1,9.5", *names)
    finished = cli.run("import-fastai", *files, "--out", bundle, *options)
    assert (finished.status, finished.err) == (0, "")
    info = cli.run("info", bundle).out.decode()
    for shown in ("price, stars, rooms", "-1 to 9.5", "text regression model"):
        assert shown in info
    assert "Predicts 3 numbers: `price`, `stars`, `rooms` between -1 and 9.5." in (bundle / "README.md").read_text()
    data.write_text("text,cost,stars,rooms\nthe good cat,1,2,3\na bad dog,4.5,0,1\n")
    assert b"Passed" in cli.run("verify", bundle).out
    predicted = cli.run("predict", bundle, data, "--text", "text", "--out", "-")
    assert predicted.out.startswith(b"text,cost,stars,rooms,predicted_price,predicted_stars,predicted_rooms")
    columns = [part for name in ("cost", "stars", "rooms") for part in ("--label", name)]
    evaluated = cli.run("evaluate", bundle, data, "--text", "text", *columns)
    assert evaluated.status == 0, evaluated.err
    assert "ensemble, per target" in evaluated.out.decode()
    wrong = cli.run("evaluate", bundle, data, "--text", "text", *columns[:4])
    assert wrong.status == 2
    assert "2 label columns are named, but the model predicts 3 numbers ('price', 'stars', 'rooms')" in wrong.error_line


def test_a_model_of_unknown_direction_needs_direction(cli: CommandServer, files: list[Path], tmp_path: Path) -> None:
    finished = cli.run("import-fastai", files[0], "--out", tmp_path / "out", *labels())
    assert finished.status == 1
    assert "does not record which way it reads, and its weights do not show it" in finished.error_line
    assert "add --direction forward or --direction backward" in finished.error_line
    assert not (tmp_path / "out").exists()


def test_the_direction_of_random_weights_is_not_guessed(cli: CommandServer, files: list[Path], tmp_path: Path) -> None:
    finished = cli.run("direction", files[0])
    assert (finished.status, finished.err) == (1, "")
    out = finished.out.decode()
    assert "No verdict: the losses differ by " in out
    assert [line for line in out.splitlines() if "forward" in line]
    (tmp_path / "own.txt").write_text("the cat sat on the mat .\n\nthe bad dog sat on a good mat .\n")
    own = cli.run("direction", files[0], "--texts", tmp_path / "own.txt", "--vocabulary", tmp_path / "itos.pkl")
    assert f"Texts: {tmp_path / 'own.txt'}" in own.out.decode()


@pytest.mark.parametrize("command", ["import-fastai", "direction"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "model.pkl"),
        (b"", "model.pkl"),
        (b"<!DOCTYPE html><html>404</html>", "model.pkl"),
        (b"\x80\x02cos\nsystem\nX\x0b\0\0\0touch pwned\x85R.", "model.pkl contains a os.system, expected a model"),
        (b"\x80\x02](X\x01\0\0\0aX\x01\0\0\0be.", "model.pkl contains a list of 2 (a, b ...), expected a model"),
    ],
    ids=["missing", "empty", "web page", "gadget", "words"],
)
def test_a_file_that_is_not_a_model_is_refused_in_one_line(
    cli: CommandServer, tmp_path: Path, command: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "model.pkl").write_bytes(content)
    out = ("--out", tmp_path / "out") if command == "import-fastai" else ()
    finished = cli.run(command, tmp_path / "model.pkl", *out, folder=tmp_path)
    assert finished.status == 1
    assert message in finished.error_line
    assert not (tmp_path / "pwned").exists()
    assert not (tmp_path / "out").exists()


def test_the_error_for_missing_spacy_says_what_to_install(
    cli: CommandServer, files: list[Path], tmp_path: Path
) -> None:
    finished = cli.run("import-fastai", *files, "--out", tmp_path / "out", *labels(), blocked=("spacy",))
    assert finished.status == 1
    assert "pip install 'bothways[spacy]'" in finished.error_line


@pytest.mark.parametrize(
    ("language", "message"),
    [
        ("tlh", "does not support the language 'tlh'"),
        ("zh", "splits the language 'zh' into words"),
        ("../x", "'../x'"),
    ],
)
def test_a_language_that_spacy_does_not_split_by_rules_is_refused(
    cli: CommandServer, files: list[Path], tmp_path: Path, language: str, message: str
) -> None:
    finished = cli.run("import-fastai", *files, "--out", tmp_path / "out", *labels()[2:], "--language", language)
    assert finished.status == 1
    assert message in finished.error_line


def test_a_misspelled_direction_is_refused(cli: CommandServer, files: list[Path], tmp_path: Path) -> None:
    finished = cli.run("import-fastai", files[0], "--out", tmp_path / "out", "--direction", "bwd")
    assert finished.status == 2
    assert "'bwd' is not one of 'forward', 'backward'" in finished.err
