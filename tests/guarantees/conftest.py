"""The tiny bundle with each kind of encoder, and with a linear member."""

from __future__ import annotations

from pathlib import Path

import pytest

from bothways.runtime.classifier import Classifier
from tests.bundles import TinyClassifiers


@pytest.fixture(scope="session", params=["", "qrnn_", "linear_"], ids=["lstm", "qrnn", "linear"])
def kind_prefix(request: pytest.FixtureRequest) -> str:
    """The beginning of the names of fixtures with this kind of model."""
    return str(request.param)


@pytest.fixture(scope="session")
def each_torch_models(kind_prefix: str, request: pytest.FixtureRequest) -> TinyClassifiers:
    """The random classifiers of each kind."""
    found: TinyClassifiers = request.getfixturevalue(f"{kind_prefix}torch_models")
    return found


@pytest.fixture(scope="session")
def each_bundle_path(kind_prefix: str, request: pytest.FixtureRequest) -> Path:
    """Their bundle."""
    return Path(request.getfixturevalue(f"{kind_prefix}bundle_path"))


@pytest.fixture(scope="session")
def each_model(kind_prefix: str, request: pytest.FixtureRequest) -> Classifier:
    """Their bundle, loaded."""
    found: Classifier = request.getfixturevalue(f"{kind_prefix}model")
    return found
