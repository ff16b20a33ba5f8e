"""Compare the prediction speed of an ensemble in bothways, PyTorch and fastai in one run.

Run: BOTHWAYS_DATA=... make bench-speed, or .venv/bin/python -m benchmarks.speed run [--size base] [--runs 5] ...
Then .venv/bin/python -m benchmarks.speed report updates the tables of docs/speed.md. The last line of a run is JSON.

fastai creates the models with random weights and exports them. bothways imports the exports, and also predicts with
QRNNs of the same sizes. Every library predicts all texts in one call, several times, and some texts one by one. All
times include tokenization. Run it with nothing else running.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.accuracy.outcomes import load_average, machine
from benchmarks.speed.command import Parser, run_command
from benchmarks.speed.memory import memory_of
from benchmarks.speed.models import ROOT, choose_texts, import_models, random_qrnns, run_fastai
from benchmarks.speed.report import write_report
from benchmarks.speed.torch_eager import TorchEnsemble
from numpy.typing import NDArray

import bothways
from bothways.bundle.manifest import EarlyExit, Kind
from bothways.bundle.read import read_bundle
from bothways.evaluation.benchmark import LIBRARIES, flops_per_token, matmul_flops_per_second
from bothways.runtime.classifier import Classifier
from bothways.runtime.cores import available_cores
from bothways.runtime.encoder import Precision
from bothways.runtime.slots import TokenCounts
from bothways.text.reading import Direction
from bothways.text.validation import check_texts

PAGE = ROOT / "docs" / "speed.md"
FASTAI_POOLED_TOKENS = 1440
"""fastai pools only the last 1,440 tokens of a text, torch_eager.py pools all."""


def main() -> None:
    """Run the command line."""
    run_command("speed", (__doc__ or "").splitlines()[0], PAGE, add_options, measure, write_report)


def add_options(run: Parser) -> None:
    """Add the options of this benchmark."""
    run.add_argument("--runs", type=int, default=5, help="runs over all texts; medians are reported; 5 by default")
    run.add_argument(
        "--texts", type=int, help="maximum number of texts per set; 1,000 of IMDb and 5,000 of TREC by default"
    )
    run.add_argument("--singles", type=int, default=50, help="number of texts predicted one by one; 50 by default")
    run.add_argument(
        "--early-exit-share",
        type=float,
        default=0.15,
        help="share of the texts that both directions read with early exit; 0.15 by default",
    )


def measure(arguments: argparse.Namespace) -> None:
    """Measure models of one size, and write and print the result."""
    load = load_average()
    texts = choose_texts(arguments.texts)
    sets = {
        name: {"texts": some, "runs": arguments.runs, "singles": min(arguments.singles, len(some))}
        for name, some in texts["sets"].items()
    }
    fastai_job = {"vocabulary": texts["vocabulary"], "sets": sets}
    bundle = import_models(fastai_job, arguments.size, arguments.work, arguments.oracle)
    bundles = {"lstm": bundle, "qrnn": random_qrnns(bundle)}

    result: dict[str, Any] = {"size": arguments.size, "machine": {**machine(), "load_before": load}, "sets": {}}
    result["memory_mib"] = {kind: memory_of(path, texts["sets"]["imdb"]) for kind, path in bundles.items()}
    measurements = {name: SetMeasurement(name, some, arguments, bundle) for name, some in texts["sets"].items()}
    for name, measurement in measurements.items():
        qrnn = SetMeasurement(f"{name}, QRNN", texts["sets"][name], arguments, bundles["qrnn"])
        result["sets"][name] = {**measurement.measure(), **measurement.measure_torch(), "qrnn": qrnn.measure()}
    run_fastai(arguments.oracle, "measure", str(bundle.parent), str(available_cores()))
    theirs = json.loads((bundle.parent / "fastai.json").read_text())
    for name, measurement in measurements.items():
        measurement.add_fastai(result["sets"][name], theirs["sets"][name])
    result |= {"limits_gflops": limits_gflops(bundle), "fastai_load_s": round(theirs["load_s"], 3)}
    ours = {package: metadata.version(package) for package in ("bothways", "onnxruntime", "numpy")}
    result["versions"] = {**ours, **theirs["versions"]}
    result["command"] = f"python -m benchmarks.speed run --size {arguments.size} --runs {arguments.runs}"
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / f"{arguments.size}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


class SetMeasurement:
    """Measures all libraries and configurations on one set of texts."""

    def __init__(self, name: str, texts: list[str], arguments: argparse.Namespace, bundle: Path) -> None:
        self.name, self.texts, self.bundle = name, texts, bundle
        self.runs, self.singles = arguments.runs, texts[: arguments.singles]
        self.early_exit_share = arguments.early_exit_share
        self.expected: NDArray[np.float64] = np.empty(0)
        self.is_short: NDArray[np.bool_] = np.empty(0, dtype=bool)

    def measure(self) -> dict[str, Any]:
        """Measure all configurations of bothways.

        The keys of a result ("exact" is float32, "cascade" is early exit) are those of the committed results.
        """
        found: dict[str, Any] = {"texts": len(self.texts)}
        started = time.perf_counter()
        model = bothways.load(self.bundle)
        load_s = time.perf_counter() - started
        counts = TokenCounts()
        tokens = list(map(model.prepare, check_texts(self.texts)))
        self.is_short = np.array([len(text) <= FASTAI_POOLED_TOKENS for text in tokens])
        rows = [prediction.probabilities["ensemble"] for prediction in model.predictions_of(tokens, counts=counts)]
        self.expected = np.array(rows)
        found |= {"tokens": sum(map(len, tokens)), "executed_share": round(counts.computed / counts.real, 4)}
        found["exact"] = {**self._time("exact", model.predict_proba), "load_s": round(load_s, 3)}
        found["exact"]["gflops"] = round(
            sum(flops_per_token(member.architecture) for member in model.manifest.members)
            * found["tokens"]
            / found["exact"]["seconds"]
            / 1e9,
            1,
        )
        found["cascade, exact"] = self._measure_other("cascade, exact", model, "float32", uses_early_exit=True)
        found["int8"] = self._measure_other("int8", model, "int8", uses_early_exit=False)
        found["cascade, int8"] = self._measure_other("cascade, int8", model, "int8", uses_early_exit=True)
        return found

    def measure_torch(self) -> dict[str, Any]:
        """Measure PyTorch, and compare it with float32, which was measured before."""
        eager = TorchEnsemble(read_bundle(self.bundle, Kind.CLASSIFIER))
        torch.set_num_threads(available_cores())
        eager_rows = eager(self.texts)
        found = self._time("torch", eager)
        found["largest_difference"] = float(np.abs(eager_rows - self.expected)[self.is_short].max())
        return {"torch": found}

    def _measure_other(
        self, label: str, float32: Classifier, precision: Precision, *, uses_early_exit: bool
    ) -> dict[str, Any]:
        """Measure another configuration of bothways and compare it with float32."""
        bundle = read_bundle(self.bundle, Kind.CLASSIFIER)
        early_exit = self._early_exit(float32) if uses_early_exit else None
        model = Classifier(bundle, early_exit=early_exit, precision=precision)
        predictions = list(model.stream(self.texts))
        rows = np.array([prediction.probabilities["ensemble"] for prediction in predictions])
        times = self._time(label, model.predict_proba)
        if uses_early_exit:
            both = sum(prediction.read == "both" for prediction in predictions)
            return {**times, "read_by_both": round(both / len(predictions), 4)}
        return {
            **times,
            "largest_difference": float(np.abs(rows - self.expected).max()),
            "changed_labels": int((rows.argmax(axis=1) != self.expected.argmax(axis=1)).sum()),
        }

    def _early_exit(self, float32: Classifier) -> EarlyExit:
        """Return an early exit with which both directions read the requested share of these texts."""
        confidence = float32.predict_proba_by_direction(self.texts)["forward"].max(axis=1)
        threshold = float(np.quantile(confidence, self.early_exit_share))
        return EarlyExit(
            first=Direction.FORWARD,
            temperature=1,
            threshold=threshold,
            largest_loss=1,
            rows=len(self.texts),
            read_by_both=self.early_exit_share,
            accuracy=0,
            accuracy_of_ensemble=0,
            curve=[],
        )

    def _time(self, label: str, predict: Callable[[Sequence[str]], object]) -> dict[str, Any]:
        runs = []
        for number in range(self.runs):
            print(f"{label}, {self.name}, run {number + 1} of {self.runs}", flush=True)
            runs.append(_seconds(partial(predict, self.texts)))
        singles = [_seconds(partial(predict, [text])) for text in self.singles]
        summary = summarize_times(runs, singles, len(self.texts))
        print(f"{label}, {self.name}: {summary}", flush=True)
        return summary

    def add_fastai(self, found: dict[str, Any], theirs: dict[str, Any]) -> None:
        """Add fastai's times, and how far its probabilities differ from ours for single texts and in batches."""
        alone, together = np.array(theirs["alone"]), np.array(theirs["together"])
        found["fastai"] = summarize_times(theirs["runs_s"], theirs["singles_s"], len(self.texts))
        found["fastai"]["largest_difference_alone"] = float(np.abs(alone - self.expected[: len(alone)]).max())
        found["fastai"]["largest_difference_together"] = float(np.abs(together - self.expected).max())


def summarize_times(runs: Sequence[float], singles: Sequence[float], texts: int) -> dict[str, Any]:
    """Return the medians of times and the times of the runs.

    Args:
        runs: Seconds of each run over all texts.
        singles: Seconds of each text predicted alone.
        texts: Number of texts per run.
    """
    seconds = statistics.median(runs)
    return {
        "seconds": round(seconds, 3),
        "runs_s": [round(run, 3) for run in runs],
        "texts_per_s": round(texts / seconds, 2),
        "single_p50_ms": round(1000 * statistics.median(singles), 2),
        "single_p99_ms": round(1000 * sorted(singles)[int(0.99 * (len(singles) - 1))], 2),
    }


def limits_gflops(bundle: Path) -> dict[str, float]:
    """Return the GFLOP/s of each library in the model's matrix products alone, in float32."""
    architectures = [member.architecture for member in read_bundle(bundle, Kind.CLASSIFIER).manifest.members]
    libraries = {**LIBRARIES, "torch (MKL)": _torch_product, "oneDNN": _onednn_product}
    flops = {name: matmul_flops_per_second(architectures, library) for name, library in libraries.items()}
    return {name: round(found / 1e9, 1) for name, found in flops.items()}


def _torch_product(rows: int, depth: int, columns: int) -> Callable[[], object]:
    left, right = torch.full((rows, depth), 0.5), torch.full((depth, columns), 0.5)
    out = torch.empty(rows, columns)
    return partial(torch.mm, left, right, out=out)


def _onednn_product(rows: int, depth: int, columns: int) -> Callable[[], object]:
    left, weight = torch.full((rows, depth), 0.5), torch.full((columns, depth), 0.5).to_mkldnn()
    return partial(torch._C._nn.mkldnn_linear, left.to_mkldnn(), weight)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
