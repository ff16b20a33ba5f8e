"""``text``, ``bundle`` and ``runtime`` never import torch, nor anything that executes what it reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bundles import run_python

FORBIDDEN = ["torch", "spacy", "fastai", "sentencepiece", "sklearn", "pyarrow", "pandas"]

WITHOUT_TORCH = """
import json, sys

FORBIDDEN = set(json.loads(sys.argv[2]))
asked_for = []

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in FORBIDDEN:
            asked_for.append(name)
            raise ImportError(f"{name} is forbidden")

sys.meta_path.insert(0, Refuse())

import _pickle, pickle
import numpy, onnx, onnxruntime, pydantic, rich, safetensors.numpy, tokenizers, typer

def refuse(*arguments, **options):
    raise AssertionError("something was unpickled")

class RefuseUnpickler:
    def __init__(self, *arguments, **options):
        refuse()

for module in (pickle, _pickle):
    module.load = module.loads = refuse
    module.Unpickler = RefuseUnpickler
pickle._Unpickler = RefuseUnpickler

import bothways
import bothways.cli.app
import bothways.serve.server

bundle, pack = sys.argv[1], sys.argv[3]
model = bothways.load(bundle)
labels = model.predict(["what a lovely film", ""]).tolist()
shape = model.predict_proba(["a"]).shape
streamed = [prediction.label for prediction in model.stream(iter(["what a lovely film", ""]))]
passed = [bothways.verify(path).passed for path in (bundle, pack)]
still_refused = []
for name in sorted(FORBIDDEN):
    try:
        __import__(name)
    except ImportError:
        still_refused.append(name)
loaded = sorted(FORBIDDEN & {name.split(".")[0] for name in sys.modules})
try:
    pickle.loads(b"N.")
    refused_pickle = False
except AssertionError:
    refused_pickle = True
print(json.dumps([labels, shape, streamed, passed, still_refused, loaded, refused_pickle]))
"""

CHECK_PROCESS = """
import sys
from bothways.runtime import verify

def import_torch(path):
    import torch
    raise AssertionError("torch could be imported")

assert "torch" not in sys.modules and "spacy" not in sys.modules
verify.verify = import_torch
try:
    verify._main("anything")
except ImportError as error:
    print(error.name)
"""


def test_predicting_needs_no_torch_and_unpickles_nothing(bundle_path: Path, pack_path: Path) -> None:
    finished = run_python(WITHOUT_TORCH, str(bundle_path), json.dumps(FORBIDDEN), str(pack_path))
    assert finished.returncode == 0, finished.stderr
    labels, shape, streamed, passed, still_refused, loaded, refused_pickle = json.loads(finished.stdout)
    assert len(labels) == 2
    assert labels == streamed
    assert shape == [1, 3]
    assert passed == [True, True]
    assert still_refused == sorted(FORBIDDEN)  # the hook was in force
    assert loaded == []
    assert refused_pickle


def test_the_process_that_proves_a_bundle_cannot_import_torch() -> None:
    pytest.importorskip("torch")
    finished = run_python(CHECK_PROCESS)
    assert (finished.returncode, finished.stdout.strip()) == (0, "torch"), finished.stderr
