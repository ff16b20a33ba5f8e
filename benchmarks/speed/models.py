"""Texts and models of benchmarks/speed and benchmarks/serve. fastai creates the models, bothways imports them."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.accuracy.sets import load_task
from numpy.typing import NDArray

import bothways
from bothways.bundle.manifest import EncoderKind, Kind
from bothways.bundle.read import Bundle, read_bundle
from bothways.bundle.weights import member_shapes
from bothways.bundle.write import write_bundle

ROOT = Path(__file__).parents[2]
SIZES = {
    "base": {"emb_sz": 400, "n_hid": 1152, "n_layers": 3},
    "small": {"emb_sz": 256, "n_hid": 512, "n_layers": 3},
}
SETS = {"imdb": 1000, "trec6": 5000}
_SEED = 0


def choose_texts(max_texts: int | None) -> dict[str, Any]:
    """Return the texts of each set under ``sets``, and other texts for the vocabulary under ``vocabulary``."""
    data = Path(os.environ["BOTHWAYS_DATA"])
    imdb = load_task("imdb-2000", data, _SEED)
    questions = load_task("trec6", data, _SEED).train.texts
    sets = {"imdb": imdb.test.texts[: SETS["imdb"]], "trec6": questions[: SETS["trec6"]]}
    return {
        "vocabulary": imdb.unlabeled[:3000] + questions,
        "sets": {name: texts[:max_texts] for name, texts in sets.items()},
    }


def run_fastai(oracle: Path, *arguments: str) -> None:
    """Run oracle/speed.py in the environment with fastai."""
    python = oracle / "bin" / "python"
    if not python.exists():
        sys.exit(f"{python} is missing: run make .oracle/.environment first")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([str(python.absolute()), str(ROOT / "oracle" / "speed.py"), *arguments], check=True, env=environment)


def import_models(texts: Mapping[str, Any], size: str, work: Path, oracle: Path) -> Path:
    """Let fastai export one classifier with random weights per direction, and import both.

    Args:
        texts: Saved next to the models as texts.json. fastai builds its vocabulary from ``vocabulary``.
        size: Size of the models, a key of ``SIZES``.
        work: Folder in which a folder for this size is created. An existing one is replaced.
        oracle: Environment with fastai.

    Returns:
        The path of the bundle.
    """
    folder = work / size
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "texts.json").write_text(json.dumps(texts))
    run_fastai(oracle, "make", str(folder), json.dumps(SIZES[size]))
    bundle = folder / "imported.bundle"
    bothways.import_fastai(folder / "forward.pkl", folder / "backward.pkl", out=bundle)
    return bundle


def random_qrnns(path: Path) -> Path:
    """Write a bundle with QRNNs of the same sizes beside a bundle, and return its path.

    Nothing verifies it, and its parity record is that of the other bundle.
    """
    bundle = random_bundle(path, "qrnn")
    out = path.with_name("qrnn.bundle")
    shutil.rmtree(out, ignore_errors=True)
    write_bundle(
        out,
        task=bundle.manifest.decisions,
        members=bundle.manifest.members,
        weights=bundle.weights,
        tokenizer=bundle.tokenizer,
        parity_record=bundle.parity_record,
        training=bundle.manifest.training,
        verify=lambda _: None,
    )
    return out


def random_bundle(path: Path, kind: EncoderKind) -> Bundle:
    """Return a bundle with encoders of another kind and random weights."""
    bundle = read_bundle(path, Kind.CLASSIFIER)
    members = [
        member.model_copy(update={"architecture": member.architecture.model_copy(update={"kind": kind})})
        for member in bundle.manifest.members
    ]
    weights = {m.direction: random_weights(member_shapes(m, bundle.manifest.outputs)) for m in members}
    manifest = bundle.manifest.model_copy(update={"members": members})
    return dataclasses.replace(bundle, manifest=manifest, weights=weights)


def random_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
    """Return arrays whose products have about the size of their inputs."""
    rng = np.random.default_rng(0)
    return {
        name: np.abs(rng.standard_normal(shape, np.float32))
        if name.endswith("_var")
        else rng.standard_normal(shape, np.float32) * np.float32(shape[-1] ** -0.5)
        for name, shape in shapes.items()
    }
