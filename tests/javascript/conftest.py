"""Exported models of every kind, and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

import bothways
from bothways.runtime.classifier import Classifier
from tests.bundles import write_with_abstention
from tests.serve.browsers import started_browser

BUNDLES = {
    "single-label": "bundle_path",
    "linear": "linear_bundle_path",
    "QRNN": "qrnn_bundle_path",
    "calibrated": "mixed_bundle_path",
    "bytes": "byte_bundle_path",
    "multi-label": "multi_label_bundle_path",
    "regression": "regression_bundle_path",
    "targets": "targets_bundle_path",
    "fields": "fields_bundle_path",
    "abstaining": "abstaining_bundle_path",
    "abstaining multi-label": "abstaining_topics_bundle_path",
    "abstaining fields": "abstaining_fields_bundle_path",
}
"""Fixtures of tests/conftest.py, and of this file."""
CALIBRATION = [f"the {word} sat on a mat" for word in ("cat", "DOG", "film", "x", "y z", "lovely", "terrible")]


class ExportedModels:
    """Each kind of model, exported when it is first needed."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path) -> None:
        self._request, self._folder = request, folder

    def __getitem__(self, kind: str) -> tuple[Path, Classifier]:
        """Return the ONNX file and the bundle that it was made from."""
        bundle = self._request.getfixturevalue(BUNDLES[kind])
        path = self._folder / f"{kind}.onnx"
        if not path.exists():
            bothways.export_onnx(bundle, out=path)
        return path, bothways.load(bundle)


@pytest.fixture(scope="session")
def abstaining_bundle_path(linear_bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a linear member, an abstention and label sets."""
    return write_with_abstention(linear_bundle_path, tmp_path_factory.mktemp("careful") / "linear.bundle", CALIBRATION)


@pytest.fixture(scope="session")
def abstaining_topics_bundle_path(multi_label_bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multi-label bundle with an abstention."""
    path = tmp_path_factory.mktemp("careful") / "topics.bundle"
    return write_with_abstention(multi_label_bundle_path, path, CALIBRATION)


@pytest.fixture(scope="session")
def abstaining_fields_bundle_path(fields_bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two text columns with an abstention and label sets."""
    texts = list(zip(CALIBRATION, reversed(CALIBRATION), strict=True))
    return write_with_abstention(fields_bundle_path, tmp_path_factory.mktemp("careful") / "fields.bundle", texts)


@pytest.fixture(scope="session")
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ExportedModels:
    return ExportedModels(request, tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started_browser() as found:
        yield found
