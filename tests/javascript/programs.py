"""Run the JavaScript of ``javascript/`` in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tools.javascript_site import JAVASCRIPT

from bothways.text.coverage import unreadable
from bothways.text.fields import Text, fields_of
from bothways.text.subword_tokenizer import SubwordTokenizer

ROOT = Path(__file__).parents[2]
NODE = shutil.which("node")
RUNTIME = JAVASCRIPT / "node_modules" / "onnxruntime-web"
NEEDS_NODE = pytest.mark.skipif(NODE is None, reason="no node: install Node 20 or newer")
NEEDS_RUNTIME = [
    pytest.mark.javascript,
    NEEDS_NODE,
    pytest.mark.skipif(not RUNTIME.exists(), reason="no onnxruntime-web: make test-javascript installs it"),
]


@dataclass(frozen=True)
class Site:
    """A web server of the folder ``javascript/`` with models in it."""

    url: str
    folder: Path

    def add(self, model: Path) -> str:
        """Add a model and return its name."""
        link = self.folder / model.name
        if not link.exists():
            link.symlink_to(model)
        return model.name


class InputsProgram:
    """``inputs.mjs``, which returns the inputs of the graph for texts. It runs until the end of the tests."""

    def __init__(self, tokenizer: SubwordTokenizer) -> None:
        assert NODE is not None
        command = [NODE, str(Path(__file__).with_name("inputs.mjs"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.tokenizer = tokenizer
        self.inputs([], tokenizer=tokenizer.to_bytes().decode())

    def inputs(self, texts: Sequence[Text], **metadata: str) -> list[dict[str, Any]]:
        """Return the inputs of texts. ``metadata`` replaces the tokenizer or the linear member."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"texts": [fields_of(text) for text in texts], **metadata}) + "\n")
        self._process.stdin.flush()
        found: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return found

    def check_ids(self, texts: Sequence[Text]) -> None:
        """Check that texts have the token ids of the bundle, and that the same ones cannot be read."""
        for text, found in zip(texts, self.inputs(texts), strict=True):
            tokens = self.tokenizer.tokenize(text)
            assert found["ids"] == tokens.ids.tolist(), ascii(text)
            assert found["unreadable"] == unreadable(text, tokens, self.tokenizer), ascii(text)

    def close(self) -> None:
        """End the program."""
        self._process.communicate(timeout=60)


def predictions(program: str | Path, model: Path, texts: Sequence[Text]) -> Any:
    """Return what a program prints for a model and texts, which it reads as a JSON list."""
    assert NODE is not None
    finished = subprocess.run(
        [NODE, str(program), str(model)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)
