"""Measure how fast an ensemble predicts: bothways, torch and the real fastai, the same weights and texts, in one run.

Run: BOTHWAYS_DATA=... make bench-speed, or .venv/bin/python -m benchmarks.speed run [--size base] [--runs 5] ...;
.venv/bin/python -m benchmarks.speed report puts the tables into docs/speed.md. The last line of a run is JSON.

fastai makes the models, with random weights, and exports them; bothways imports the exports. All texts at once, as many
times as asked for, and some one by one; tokenization is always included. Run it with nothing else running.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.accuracy.outcomes import load_now, machine
from benchmarks.speed.models import SIZES, chosen_texts, imported_models, run_fastai
from benchmarks.speed.report import write_report
from benchmarks.speed.torch_eager import TorchEnsemble
from numpy.typing import NDArray

import bothways
from bothways.bundle.manifest import EarlyExit, Kind
from bothways.bundle.read import read_bundle
from bothways.evaluation.benchmark import LIBRARIES, flops_per_token, matmul_flops_per_second
from bothways.runtime.classifier import Classifier
from bothways.runtime.cores import available_cores
from bothways.runtime.graph import Precision
from bothways.runtime.slots import Tally
from bothways.text.reading import Direction
from bothways.text.validation import check_texts

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "speed.md"
LONGEST_POOLED = 1440
"""fastai pools so many tokens before a text's end; torch's side pools all."""


def main() -> None:
    """Run or report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=(__doc__ or "").splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="measure one size")
    run.add_argument("--size", choices=list(SIZES), default="base")
    run.add_argument("--runs", type=int, default=5, help="over all texts; medians are told")
    run.add_argument("--texts", type=int, help="at most so many of a set; else 1,000 of IMDb and 5,000 of TREC")
    run.add_argument("--singles", type=int, default=50, help="texts that are predicted one by one")
    run.add_argument(
        "--early-exit-share", type=float, default=0.15, help="of texts that a cascade reads in both directions"
    )
    run.add_argument("--oracle", type=Path, default=ROOT / ".oracle", help="the environment with fastai")
    run.add_argument("--work", type=Path, default=ROOT / "build" / "speed", help="for models and texts")
    run.add_argument("--results", type=Path, default=RESULTS)
    report = verbs.add_parser("report", help="put the tables into their page")
    report.add_argument("--results", type=Path, default=RESULTS)
    report.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    if arguments.verb == "report":
        write_report(arguments.results, arguments.page)
        return
    if "BOTHWAYS_DATA" not in os.environ:
        sys.exit("BOTHWAYS_DATA is not set: it names the folder of the data sets")
    measured(arguments)


def measured(arguments: argparse.Namespace) -> None:
    """Measure everything of one size, and keep it."""
    load = load_now()
    texts = chosen_texts(arguments.texts)
    sets = {
        name: {"texts": some, "runs": arguments.runs, "singles": min(arguments.singles, len(some))}
        for name, some in texts["sets"].items()
    }
    given = {"vocabulary": texts["vocabulary"], "sets": sets}
    bundle = imported_models(given, arguments.size, arguments.work, arguments.oracle)

    result: dict[str, Any] = {"size": arguments.size, "machine": {**machine(), "load_before": load}, "sets": {}}
    speeds = {name: Speeds(name, some, arguments, bundle) for name, some in texts["sets"].items()}
    for name, of_set in speeds.items():
        result["sets"][name] = of_set.measured()
    run_fastai(arguments.oracle, "measure", str(bundle.parent), str(available_cores()))
    theirs = json.loads((bundle.parent / "fastai.json").read_text())
    for name, of_set in speeds.items():
        of_set.add_fastai(result["sets"][name], theirs["sets"][name])
    result |= {"limits_gflops": limits(bundle), "fastai_load_s": round(theirs["load_s"], 3)}
    ours = {package: metadata.version(package) for package in ("bothways", "onnxruntime", "numpy")}
    result["versions"] = {**ours, **theirs["versions"]}
    result["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    result["command"] = f"python -m benchmarks.speed run --size {arguments.size} --runs {arguments.runs}"
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / f"{arguments.size}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


class Speeds:
    """What is measured on one set of texts."""

    def __init__(self, name: str, texts: list[str], arguments: argparse.Namespace, bundle: Path) -> None:
        self.name, self.texts, self.bundle = name, texts, bundle
        self.runs, self.singles = arguments.runs, texts[: arguments.singles]
        self.cascade_share = arguments.cascade_share
        self.exact: NDArray[np.float64] = np.empty(0)

    def measured(self) -> dict[str, Any]:
        """Measure bothways in all its ways, and torch."""
        found: dict[str, Any] = {"texts": len(self.texts)}
        loaded = time.perf_counter()
        model = bothways.load(self.bundle)
        load_s = time.perf_counter() - loaded
        tally = Tally()
        tokens = list(map(model.tokenizer.tokenize, check_texts(self.texts)))
        rows = [prediction.probabilities["ensemble"] for prediction in model.predictions_of(tokens, tally=tally)]
        self.exact = np.array(rows)
        found |= {"tokens": sum(map(len, tokens)), "executed_share": round(tally.executed / tally.needed, 4)}
        found["exact"] = {**self._timed("exact", model.predict_proba), "load_s": round(load_s, 3)}
        found["exact"]["gflops"] = round(
            sum(flops_per_token(member.architecture) for member in model.manifest.members)
            * found["tokens"]
            / found["exact"]["seconds"]
            / 1e9,
            1,
        )
        found["cascade, exact"] = self._in_another_way("cascade, exact", model, "float32", uses_early_exit=True)
        found["int8"] = self._in_another_way("int8", model, "int8", uses_early_exit=False)
        found["cascade, int8"] = self._in_another_way("cascade, int8", model, "int8", uses_early_exit=True)
        eager = TorchEnsemble(read_bundle(self.bundle, Kind.CLASSIFIER))
        torch.set_num_threads(available_cores())
        eager_rows = eager(self.texts)
        is_short = np.array([len(text) <= LONGEST_POOLED for text in tokens])
        found["torch"] = self._timed("torch", eager)
        found["torch"]["largest_difference"] = float(np.abs(eager_rows - self.exact)[is_short].max())
        return found

    def _in_another_way(
        self, label: str, exact: Classifier, precision: Precision, *, uses_early_exit: bool
    ) -> dict[str, Any]:
        bundle = read_bundle(self.bundle, Kind.CLASSIFIER)
        early_exit = self._early_exit(exact) if uses_early_exit else None
        model = Classifier(bundle, early_exit=early_exit, precision=precision)
        predictions = list(model.stream(self.texts))
        rows = np.array([prediction.probabilities["ensemble"] for prediction in predictions])
        timed = self._timed(label, model.predict_proba)
        if uses_early_exit:
            both = sum(prediction.read == "both" for prediction in predictions)
            return {**timed, "read_by_both": round(both / len(predictions), 4)}
        return {
            **timed,
            "largest_difference": float(np.abs(rows - self.exact).max()),
            "changed_labels": int((rows.argmax(axis=1) != self.exact.argmax(axis=1)).sum()),
        }

    def _early_exit(self, exact: Classifier) -> EarlyExit:
        """Return a cascade that reads the wanted share of these texts in both directions."""
        confidence = exact.predict_proba_by_direction(self.texts)["forward"].max(axis=1)
        threshold = float(np.quantile(confidence, self.cascade_share))
        return EarlyExit(
            first=Direction.FORWARD,
            temperature=1,
            threshold=threshold,
            largest_loss=1,
            rows=len(self.texts),
            read_by_both=self.cascade_share,
            accuracy=0,
            accuracy_of_ensemble=0,
            curve=[],
        )

    def _timed(self, label: str, predict: Callable[[Sequence[str]], object]) -> dict[str, Any]:
        runs = []
        for number in range(self.runs):
            print(f"{label}, {self.name}, run {number + 1} of {self.runs}", flush=True)
            runs.append(_seconds(partial(predict, self.texts)))
        alone = [_seconds(partial(predict, [text])) for text in self.singles]
        told = told_times(runs, alone, len(self.texts))
        print(f"{label}, {self.name}: {told}", flush=True)
        return told

    def add_fastai(self, found: dict[str, Any], theirs: dict[str, Any]) -> None:
        """Add fastai's times, and how far its probabilities are from ours, text by text and in its batches."""
        alone, together = np.array(theirs["alone"]), np.array(theirs["together"])
        found["fastai"] = told_times(theirs["runs_s"], theirs["singles_s"], len(self.texts))
        found["fastai"]["largest_difference_alone"] = float(np.abs(alone - self.exact[: len(alone)]).max())
        found["fastai"]["largest_difference_together"] = float(np.abs(together - self.exact).max())


def told_times(runs: Sequence[float], alone: Sequence[float], texts: int) -> dict[str, Any]:
    """Return medians, and what they are of."""
    seconds = statistics.median(runs)
    return {
        "seconds": round(seconds, 3),
        "runs_s": [round(run, 3) for run in runs],
        "texts_per_s": round(texts / seconds, 2),
        "single_p50_ms": round(1000 * statistics.median(alone), 2),
        "single_p99_ms": round(1000 * sorted(alone)[int(0.99 * (len(alone) - 1))], 2),
    }


def limits(bundle: Path) -> dict[str, float]:
    """Return how fast each library computes the model's matrix products alone, in GFLOP/s, float32."""
    architectures = [member.architecture for member in read_bundle(bundle, Kind.CLASSIFIER).manifest.members]
    libraries = {**LIBRARIES, "torch (MKL)": _torch_product, "oneDNN": _onednn_product}
    return {
        name: round(matmul_flops_per_second(architectures, library) / 1e9, 1) for name, library in libraries.items()
    }


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
