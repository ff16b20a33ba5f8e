"""Figures of speed: what they are made of, not how large they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from bothways.bundle.manifest import Architecture
from bothways.runtime import bench as module
from bothways.runtime.bench import bench, composed_texts
from bothways.runtime.classifier import Classifier
from bothways.runtime.slots import Tally
from bothways.text.subword_tokenizer import SubwordTokenizer


def test_the_products_of_a_token_of_ulmfits_sizes() -> None:
    base = Architecture(vocabulary_size=2, width_embedding=400, width_hidden=1152, layers=3)
    assert module._flop_a_token(base) == 2 * 4 * (1152 * (400 + 1152) + 1152 * (1152 + 1152) + 400 * (1152 + 400))


def test_a_bundle_is_measured(bundle_path: Path) -> None:
    told: list[str] = []
    texts = ["The cat sat on the mat.", "no", ""] * 4
    found = bench(bundle_path, texts, count=10, tell=told.append)
    assert told[0] == "loading"
    assert (found.texts, found.precision, found.limit_by in {"numpy", "onnxruntime"}) == (10, "float32", True)
    assert found.tokens_per_s / found.texts_per_s == pytest.approx(2 * found.tokens / found.texts)
    assert 0 < found.single_p50_ms <= found.single_p99_ms
    assert found.executed_share >= 1
    assert found.limit_share == found.gflops / found.limit_gflops
    assert 10 < found.peak_mib < 10_000


def test_the_tally_counts_windows_as_they_are_padded(model: Classifier, tiny_tokenizer: SubwordTokenizer) -> None:
    texts = [tiny_tokenizer.tokenize(text) for text in ("a b c d", "a", "")]
    tally = Tally()
    assert len(list(model.engine.run_cascade(texts, 3, None, tally))) == 3
    assert tally.needed == 2 * sum(map(len, texts))  # two members read each
    assert tally.executed == 2 * 3 * max(map(len, texts))


def test_composed_texts_are_the_same_every_time_and_of_many_lengths(tiny_tokenizer: SubwordTokenizer) -> None:
    texts = composed_texts(tiny_tokenizer, 200)
    assert texts == composed_texts(tiny_tokenizer, 200)
    lengths = sorted(len(tiny_tokenizer.tokenize(text)) for text in texts)
    assert lengths[20] < 100 < lengths[180]
