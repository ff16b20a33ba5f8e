"""The real client of the Hugging Face Hub, and a local server that speaks its protocol."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from tests.bundles import python_environment
from tests.hub.server import Hub, running_hub

Push = Callable[..., str]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A server, which the client in this process uses, with an empty cache and the token of a user ``ann``."""
    with running_hub() as server:
        monkeypatch.setenv("HF_TOKEN", "hf_writer")
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
        monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "home" / "assets"))
        monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(tmp_path / "home" / "assets"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the server has Git LFS only
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server
        huggingface_hub.close_session()


@pytest.fixture
def process_environment(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """The environment with which a new process uses the server."""
    kept = {name: value for name, value in python_environment().items() if not name.startswith("HF_")}
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": os.fspath(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    return {**kept, **own, "HF_TOKEN": "hf_writer"}
