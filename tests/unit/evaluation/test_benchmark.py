"""Figures of speed: what they are made of, not how large they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from bothways.bundle.manifest import Architecture
from bothways.errors import BothwaysError
from bothways.evaluation import benchmark as module
from bothways.evaluation.benchmark import Bench, Speed, bench, composed_texts
from bothways.evaluation.memory import peak_mib
from bothways.runtime.classifier import Classifier
from bothways.runtime.slots import TokenCounts
from bothways.text.reading import Direction
from bothways.text.subword_tokenizer import SubwordTokenizer
from tests.bundles import write_with_early_exit


def test_the_products_of_a_token_of_ulmfits_sizes() -> None:
    base = Architecture(vocabulary_size=2, width_embedding=400, width_hidden=1152, layers=3)
    assert module.flop_a_token(base) == 2 * 4 * (1152 * (400 + 1152) + 1152 * (1152 + 1152) + 400 * (1152 + 400))


def test_a_bundle_is_measured(bundle_path: Path) -> None:
    told: list[str] = []
    texts = ["The cat sat on the mat.", "no", ""] * 4
    found = bench(bundle_path, texts, count=10, tell=told.append)
    assert told[0] == "float32, loading"
    assert (found.texts, found.limit_by in {"numpy", "onnxruntime"}) == (10, True)
    assert [speed.precision for speed in found.speeds] == ["float32", "int8"]
    for speed in found.speeds:
        assert speed.tokens_per_s / speed.texts_per_s == pytest.approx(2 * found.tokens / found.texts)
        assert 0 < speed.single_p50_ms <= speed.single_p99_ms
        assert speed.executed_share >= 1
    exact, quick = found.speeds
    assert (exact.largest_difference, exact.changed_labels) == (0, 0)
    assert 0 < quick.largest_difference < 0.1
    assert quick.executed_share == exact.executed_share  # the same batches
    assert all(10 < speed.peak_mib < 1000 for speed in found.speeds)


def test_memory_is_that_of_a_process_of_its_own(bundle_path: Path) -> None:
    before = peak_mib(bundle_path, ["a"], "float32", early_exit=False)
    held = bytearray(600_000_000)
    assert peak_mib(bundle_path, ["a"], "float32", early_exit=False) < before + 100
    del held
    assert peak_mib(bundle_path, ["cat " * 1_000_000], "float32", early_exit=False) > before + 2


def test_memory_of_what_can_not_be_loaded_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(BothwaysError, match=r"(?s)the process that measures memory ended with status 1: .*no bundle"):
        peak_mib(tmp_path / "x", [], "float32", early_exit=False)


def test_a_cascade_is_measured_where_there_is_one(bundle_path: Path, tmp_path: Path) -> None:
    texts = ["The cat sat on the mat.", "no", "dog", "it"] * 3
    found = bench(write_with_early_exit(bundle_path, tmp_path / "m.bundle", Direction.FORWARD, texts), texts)
    assert [(speed.precision, speed.uses_early_exit) for speed in found.speeds] == [
        ("float32", False),
        ("int8", False),
        ("float32", True),
        ("int8", True),
    ]
    exact, _, quick, _ = found.speeds
    assert (exact.read_by_both, 0 < quick.read_by_both < 1) == (1, True)
    assert quick.tokens_per_s / quick.texts_per_s < exact.tokens_per_s / exact.texts_per_s


@pytest.mark.parametrize(
    ("texts_per_s", "single_p50_ms", "changed_labels", "advice"),
    [
        (
            200,
            5,
            3,
            "int8 gives 2 times the texts a second, a single text 2 times as fast; it changes 3 of 1000 labels",
        ),
        (
            50,
            5,
            0,
            "int8 gives 0.5 times the texts a second, a single text 2 times as fast; it changes 0 of 1000 labels",
        ),
        (
            50,
            20,
            0,
            "stay with float32: int8 is slower here (0.5 times the texts a second, a single text 0.5 times as fast)",
        ),
        (200, 5, 4, "stay with float32: int8 changes 4 of 1000 labels"),
    ],
)
def test_int8_is_advised_where_it_is_faster_and_changes_few_labels(
    texts_per_s: float, single_p50_ms: float, changed_labels: int, advice: str
) -> None:
    exact = Speed("float32", False, 1, 1, 1, 100, 1, 1, 10, 10, 1, 0, 0)
    quick = Speed("int8", False, 1, 1, 1, texts_per_s, 1, 1, single_p50_ms, 10, 1, 0.01, changed_labels)
    assert Bench("b", "", 2, 1000, 1, 1, "numpy", (exact, quick)).advice == advice


def test_token_counts_include_the_padding_of_batches(model: Classifier, tiny_tokenizer: SubwordTokenizer) -> None:
    texts = [tiny_tokenizer.tokenize(text) for text in ("a b c d", "a", "")]
    counts = TokenCounts()
    assert len(list(model.engine.run_early_exit(texts, 3, None, counts))) == 3
    assert counts.real == 2 * sum(map(len, texts))  # two members read each
    assert counts.computed == 2 * 3 * max(map(len, texts))


def test_composed_texts_are_the_same_every_time_and_of_many_lengths(tiny_tokenizer: SubwordTokenizer) -> None:
    texts = composed_texts(tiny_tokenizer, 200)
    assert texts == composed_texts(tiny_tokenizer, 200)
    lengths = sorted(len(tiny_tokenizer.tokenize(text)) for text in texts)
    assert lengths[20] < 100 < lengths[180]
