"""Shared test setup: a hypothesis profile, one core per test process, and fixtures with tiny models."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import settings

from bothways.bundle.parity import NASTY_TEXTS
from bothways.runtime.classifier import Classifier, load
from bothways.tasks.regression import Regression
from bothways.tasks.task import Target
from bothways.text.reading import Direction, SpecialTokenPlacement
from bothways.text.subword_tokenizer import SubwordTokenizer
from bothways.text.tokenizer_document import parse_tokenizer
from tests.bundles import (
    QRNNS,
    TEMPERATURE,
    THRESHOLDS,
    TOPICS,
    TinyClassifiers,
    TinyLanguageModels,
    make_classifiers,
    make_language_models,
    write_classifiers,
    write_pack,
)

SENTENCES = ["the cat sat on the mat, and the dog ate it", "What a lovely film, I LOVED it!!!", "I hated it"]
"""Texts whose n-grams a linear member knows."""

settings.register_profile("bothways", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("bothways")


def pytest_configure(config: pytest.Config) -> None:
    """Assign each process of ``pytest -n`` its own core. Its child processes run on the same core."""
    if hasattr(config, "workerinput"):
        cores = sorted(os.sched_getaffinity(0))
        number = int(config.workerinput["workerid"].removeprefix("gw"))
        os.sched_setaffinity(0, {cores[number % len(cores)]})


@pytest.fixture(scope="session")
def tiny_tokenizer() -> SubwordTokenizer:
    """A tokenizer that knows all printable ASCII characters and few other pieces, however pieces are trained."""
    tokenizer = parse_tokenizer(Path(__file__).with_name("tiny_tokenizer.json").read_bytes())
    assert isinstance(tokenizer, SubwordTokenizer)
    return tokenizer


@pytest.fixture(scope="session")
def byte_tokenizer(tiny_tokenizer: SubwordTokenizer) -> SubwordTokenizer:
    """The tiny tokenizer with byte fallback."""
    fields = json.loads(tiny_tokenizer.to_bytes())
    tokenizer = parse_tokenizer(json.dumps({**fields, "byte_fallback": "utf-8"}).encode())
    assert isinstance(tokenizer, SubwordTokenizer)
    return tokenizer


@pytest.fixture(scope="session")
def byte_bundle_path(byte_tokenizer: SubwordTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of random classifiers whose tokenizer has byte fallback. Tests that modify it copy it first."""
    path = tmp_path_factory.mktemp("bundles") / "bytes.bundle"
    placements = dict.fromkeys(Direction, SpecialTokenPlacement.READING_ORDER)
    write_classifiers(path, make_classifiers(byte_tokenizer, placements))
    return path


@pytest.fixture(scope="session")
def torch_models(tiny_tokenizer: SubwordTokenizer) -> TinyClassifiers:
    """Random torch classifiers. Both directions have special tokens in reading order."""
    placement = SpecialTokenPlacement.READING_ORDER
    return make_classifiers(tiny_tokenizer, dict.fromkeys(Direction, placement))


@pytest.fixture(scope="session")
def bundle_path(torch_models: TinyClassifiers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of ``torch_models``. Tests that modify it copy it first."""
    path = tmp_path_factory.mktemp("bundles") / "tiny.bundle"
    write_classifiers(path, torch_models)
    return path


@pytest.fixture(scope="session")
def model(bundle_path: Path) -> Classifier:
    """The bundle of ``torch_models``, loaded."""
    return load(bundle_path)


@pytest.fixture(scope="session")
def linear_torch_models(tiny_tokenizer: SubwordTokenizer) -> TinyClassifiers:
    """Random torch classifiers with a random linear member beside them."""
    placements = dict.fromkeys(Direction, SpecialTokenPlacement.READING_ORDER)
    return make_classifiers(tiny_tokenizer, placements, linear_of=[*NASTY_TEXTS, *SENTENCES], temperature=TEMPERATURE)


@pytest.fixture(scope="session")
def linear_bundle_path(linear_torch_models: TinyClassifiers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of ``linear_torch_models``. Tests that modify it copy it first."""
    path = tmp_path_factory.mktemp("bundles") / "linear.bundle"
    write_classifiers(path, linear_torch_models)
    return path


@pytest.fixture(scope="session")
def linear_model(linear_bundle_path: Path) -> Classifier:
    """The bundle of ``linear_torch_models``, loaded."""
    return load(linear_bundle_path)


@pytest.fixture(scope="session")
def qrnn_torch_models(tiny_tokenizer: SubwordTokenizer) -> TinyClassifiers:
    """Random classifiers with QRNNs: forward with window 2, backward without output gate."""
    return make_classifiers(
        tiny_tokenizer, dict.fromkeys(Direction, SpecialTokenPlacement.READING_ORDER), encoders=QRNNS
    )


@pytest.fixture(scope="session")
def qrnn_bundle_path(qrnn_torch_models: TinyClassifiers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of ``qrnn_torch_models``. Tests that modify it copy it first."""
    path = tmp_path_factory.mktemp("bundles") / "qrnn.bundle"
    write_classifiers(path, qrnn_torch_models)
    return path


@pytest.fixture(scope="session")
def qrnn_model(qrnn_bundle_path: Path) -> Classifier:
    """The bundle of ``qrnn_torch_models``, loaded."""
    return load(qrnn_bundle_path)


@pytest.fixture(scope="session")
def mixed_torch_models(tiny_tokenizer: SubwordTokenizer) -> TinyClassifiers:
    """Random classifiers with a temperature. The backward one comes first and reads special tokens as written."""
    placements = {
        Direction.BACKWARD: SpecialTokenPlacement.AS_WRITTEN,
        Direction.FORWARD: SpecialTokenPlacement.READING_ORDER,
    }
    return make_classifiers(tiny_tokenizer, placements, temperature=TEMPERATURE)


@pytest.fixture(scope="session")
def mixed_bundle_path(mixed_torch_models: TinyClassifiers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of ``mixed_torch_models``."""
    path = tmp_path_factory.mktemp("bundles") / "mixed.bundle"
    write_classifiers(path, mixed_torch_models)
    return path


@pytest.fixture(scope="session")
def multi_label_torch_models(tiny_tokenizer: SubwordTokenizer) -> TinyClassifiers:
    """Random multi-label classifiers with a temperature."""
    placements = dict.fromkeys(Direction, SpecialTokenPlacement.READING_ORDER)
    return make_classifiers(tiny_tokenizer, placements, TOPICS, TEMPERATURE, THRESHOLDS)


@pytest.fixture(scope="session")
def multi_label_bundle_path(
    multi_label_torch_models: TinyClassifiers, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The bundle of ``multi_label_torch_models``. Tests that modify it copy it first."""
    path = tmp_path_factory.mktemp("bundles") / "topics.bundle"
    write_classifiers(path, multi_label_torch_models)
    return path


@pytest.fixture(scope="session")
def multi_label_model(multi_label_bundle_path: Path) -> Classifier:
    """The bundle of ``multi_label_torch_models``, loaded."""
    return load(multi_label_bundle_path)


@pytest.fixture(scope="session")
def regression_torch_models(tiny_tokenizer: SubwordTokenizer) -> TinyClassifiers:
    """Random regressions of a target with mean 20 and standard deviation 5."""
    placements = dict.fromkeys(Direction, SpecialTokenPlacement.READING_ORDER)
    return make_classifiers(tiny_tokenizer, placements, task=Regression((Target(center=20.0, scale=5.0),)))


@pytest.fixture(scope="session")
def regression_bundle_path(regression_torch_models: TinyClassifiers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of ``regression_torch_models``. Tests that modify it copy it first."""
    path = tmp_path_factory.mktemp("bundles") / "regression.bundle"
    write_classifiers(path, regression_torch_models)
    return path


@pytest.fixture(scope="session")
def regression_model(regression_bundle_path: Path) -> Classifier:
    """The bundle of ``regression_torch_models``, loaded."""
    return load(regression_bundle_path)


@pytest.fixture(scope="session")
def targets_torch_models(tiny_tokenizer: SubwordTokenizer) -> TinyClassifiers:
    """Random regressions of two targets, all of whose values are between -1 and 9."""
    placements = dict.fromkeys(Direction, SpecialTokenPlacement.READING_ORDER)
    targets = (Target("price", center=0.5, scale=2.0), Target("stars", center=-0.25))
    return make_classifiers(tiny_tokenizer, placements, task=Regression(targets, (-1.0, 9.0), ("cost", "stars")))


@pytest.fixture(scope="session")
def targets_bundle_path(targets_torch_models: TinyClassifiers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of ``targets_torch_models``. Tests that modify it copy it first."""
    path = tmp_path_factory.mktemp("bundles") / "targets.bundle"
    write_classifiers(path, targets_torch_models)
    return path


@pytest.fixture(scope="session")
def targets_model(targets_bundle_path: Path) -> Classifier:
    """The bundle of ``targets_torch_models``, loaded."""
    return load(targets_bundle_path)


@pytest.fixture(scope="session")
def fields_torch_models(tiny_tokenizer: SubwordTokenizer) -> TinyClassifiers:
    """Random classifiers that read the text columns ``title`` and ``body``."""
    placements = dict.fromkeys(Direction, SpecialTokenPlacement.READING_ORDER)
    return make_classifiers(tiny_tokenizer.with_field_token(), placements, columns=("title", "body"))


@pytest.fixture(scope="session")
def fields_bundle_path(fields_torch_models: TinyClassifiers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of ``fields_torch_models``. Tests that modify it copy it first."""
    path = tmp_path_factory.mktemp("bundles") / "fields.bundle"
    write_classifiers(path, fields_torch_models)
    return path


@pytest.fixture(scope="session")
def fields_model(fields_bundle_path: Path) -> Classifier:
    """The bundle of ``fields_torch_models``, loaded."""
    return load(fields_bundle_path)


@pytest.fixture(scope="session")
def torch_language_models(tiny_tokenizer: SubwordTokenizer) -> TinyLanguageModels:
    """Random torch language models, one per direction."""
    return make_language_models(tiny_tokenizer, dict.fromkeys(Direction, SpecialTokenPlacement.READING_ORDER))


@pytest.fixture(scope="session")
def pack_path(torch_language_models: TinyLanguageModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack of ``torch_language_models``. Tests that modify it copy it first."""
    path = tmp_path_factory.mktemp("packs") / "tiny.pack"
    write_pack(path, torch_language_models)
    return path
