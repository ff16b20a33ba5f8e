"""Exported models of every kind, and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

import bothways
from bothways.runtime.classifier import Classifier
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
}
"""Fixtures of tests/conftest.py."""


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
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ExportedModels:
    return ExportedModels(request, tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started_browser() as found:
        yield found
