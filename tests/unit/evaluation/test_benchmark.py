"""How the figures of a benchmark are computed, regardless of how large they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from bothways.bundle.manifest import Architecture
from bothways.errors import BothwaysError
from bothways.evaluation.benchmark import (
    Benchmark,
    SpeedResult,
    benchmark,
    flops_per_token,
    peak_mib,
    synthetic_texts,
)
from bothways.runtime.classifier import Classifier
from bothways.runtime.slots import TokenCounts
from bothways.text.reading import Direction
from bothways.text.subword_tokenizer import SubwordTokenizer
from tests.bundles import edit_manifest, record_decisions, write_with_early_exit


def test_flops_per_token_of_ulmfit_sizes() -> None:
    base = Architecture(vocabulary_size=2, width_embedding=400, width_hidden=1152, layers=3)
    assert flops_per_token(base) == 2 * 4 * (1152 * (400 + 1152) + 1152 * (1152 + 1152) + 400 * (1152 + 400))
    qrnn = base.model_copy(update={"kind": "qrnn", "first_window": 2})
    assert flops_per_token(qrnn) == 2 * 3 * (1152 * 2 * 400 + 1152 * 1152 + 400 * 1152)


def test_benchmark_measures_both_precisions(bundle_path: Path) -> None:
    steps: list[str] = []
    texts = ["The cat sat on the mat.", "no", ""] * 4
    found = benchmark(bundle_path, texts, max_texts=10, on_progress=steps.append)
    assert steps[0] == "float32, loading"
    assert (found.texts, found.limit_library in {"numpy", "onnxruntime"}) == (10, True)
    assert [speed.precision for speed in found.speeds] == ["float32", "int8"]
    for speed in found.speeds:
        assert speed.tokens_per_s / speed.texts_per_s == pytest.approx(2 * found.tokens / found.texts)
        assert 0 < speed.single_p50_ms <= speed.single_p99_ms
        assert speed.padding_overhead >= 1
    float32, int8 = found.speeds
    assert (float32.largest_difference, float32.changed_labels) == (0, 0)
    assert 0 < int8.largest_difference < 0.1
    assert int8.padding_overhead == float32.padding_overhead  # the same batches
    assert all(10 < speed.peak_mib < 1000 for speed in found.speeds)


def test_peak_memory_is_measured_in_another_process(bundle_path: Path) -> None:
    before = peak_mib(bundle_path, ["a"], "float32", early_exit=False)
    held = bytearray(600_000_000)
    assert peak_mib(bundle_path, ["a"], "float32", early_exit=False) < before + 100
    del held
    assert peak_mib(bundle_path, ["cat " * 1_000_000], "float32", early_exit=False) > before + 2


def test_a_failed_memory_measurement_reports_the_reason(tmp_path: Path) -> None:
    with pytest.raises(
        BothwaysError, match=r"(?s)the process that measures memory failed with exit status 1: .*bundle"
    ):
        peak_mib(tmp_path / "x", [], "float32", early_exit=False)


@pytest.mark.slow
def test_early_exit_is_measured_if_the_bundle_has_one(bundle_path: Path, tmp_path: Path) -> None:
    texts = ["The cat sat on the mat.", "no", "dog", "it"] * 3
    found = benchmark(write_with_early_exit(bundle_path, tmp_path / "m.bundle", Direction.FORWARD, texts), texts)
    assert [(speed.precision, speed.uses_early_exit) for speed in found.speeds] == [
        ("float32", False),
        ("int8", False),
        ("float32", True),
        ("int8", True),
    ]
    always, _, early, _ = found.speeds
    assert (always.read_by_both, 0 < early.read_by_both < 1) == (1, True)
    assert early.tokens_per_s / early.texts_per_s < always.tokens_per_s / always.texts_per_s


@pytest.mark.parametrize(
    ("texts_per_s", "single_p50_ms", "changed_labels", "advice"),
    [
        (200, 5, 3, "int8 has 2x the throughput and 2x the single-text speed of float32, changes 3 of 1000 labels"),
        (
            50,
            5,
            0,
            "int8 has 0.5x the throughput and 2x the single-text speed of float32, changes 0 of 1000 labels",
        ),
        (50, 20, 0, "stay with float32: int8 has 0.5x the throughput and 0.5x the single-text speed of float32"),
        (200, 5, 4, "stay with float32: int8 changes 4 of 1000 labels"),
    ],
)
def test_int8_is_recommended_where_it_is_faster_and_changes_few_labels(
    texts_per_s: float, single_p50_ms: float, changed_labels: int, advice: str
) -> None:
    float32 = SpeedResult("float32", False, 1, 0, 1, 1, 100, 1, 1, 10, 10, 1, 0, 0)
    int8 = SpeedResult("int8", False, 1, 0, 1, 1, texts_per_s, 1, 1, single_p50_ms, 10, 1, 0.01, changed_labels)
    assert Benchmark("b", "", 2, 1000, 1, 1, "numpy", (float32, int8)).advice == advice


def test_token_counts_include_the_padding_of_batches(model: Classifier, tiny_tokenizer: SubwordTokenizer) -> None:
    texts = [tiny_tokenizer.tokenize(text) for text in ("a b c d", "a", "")]
    counts = TokenCounts()
    assert len(list(model.engine.run_early_exit(texts, 3, None, counts))) == 3
    assert counts.real == 2 * sum(map(len, texts))  # two members read each
    assert counts.computed == 2 * 3 * max(map(len, texts))


def test_synthetic_texts_are_reproducible_and_vary_in_length(tiny_tokenizer: SubwordTokenizer) -> None:
    texts = synthetic_texts(tiny_tokenizer, 200)
    assert texts == synthetic_texts(tiny_tokenizer, 200)
    lengths = sorted(len(tiny_tokenizer.tokenize(text)) for text in texts)
    assert lengths[20] < 100 < lengths[180]


@pytest.mark.slow
def test_texts_that_no_direction_reads_are_measured(linear_bundle_path: Path, tmp_path: Path) -> None:
    texts = ["The cat sat on the mat.", "no", "dog", "it"]
    fast = write_with_early_exit(
        linear_bundle_path, tmp_path / "m.bundle", Direction.FORWARD, texts, starts_with_linear=True
    )
    found = benchmark(fast, texts)
    assert [speed.read_by_linear for speed in found.speeds] == [0, 0, 0.5, 0.5]
    edit_manifest(fast, lambda fields: fields["early_exit"]["linear"].update(threshold=0))
    record_decisions(fast)
    early = benchmark(fast, texts).speeds[2]
    assert (early.read_by_linear, early.tokens_per_s, early.padding_overhead) == (1, 0, 1)


@pytest.mark.slow
def test_a_regression_has_no_labels_that_could_change(regression_bundle_path: Path) -> None:
    found = benchmark(regression_bundle_path, ["a", "b c"] * 5, max_texts=10)
    assert [speed.changed_labels for speed in found.speeds] == [None, None]
    assert "labels" not in found.advice
