"""Measure the accuracy of bothways and other text classifiers on real data sets.

Run: BOTHWAYS_DATA=... .venv/bin/python -m benchmarks.accuracy run [--sets trec6,sms] [--methods tfidf,bothways] ...
Then .venv/bin/python -m benchmarks.accuracy report updates docs/benchmarks.md. Existing results are not measured again.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.accuracy import encoder, fastai, fasttext, ours, tfidf
from benchmarks.accuracy.outcomes import (
    Outcome,
    load_average,
    machine,
    read_results,
    result_file,
    result_of,
    write_result,
)
from benchmarks.accuracy.report import write_report
from benchmarks.accuracy.sets import OPTIONAL_SETS, SETS, Task, load_task

from bothways.bundle.manifest import EncoderKind
from bothways.errors import BothwaysError
from bothways.training.hyperparameters import SIZES

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
WORK = ROOT / "build" / "accuracy"
FASTTEXT = ROOT / "build" / "fasttext"
ENCODERS = ROOT / "build" / "encoders"
METHODS = (
    "tfidf",
    "fasttext",
    *encoder.ENCODERS,
    "bothways-scratch",
    "bothways-qrnn-scratch",
    "bothways-linear-scratch",
    "bothways",
    "bothways-linear",
    "bothways-teacher",
    "bothways-qrnn",
    "bothways-base",
    "fastai",
)
BASELINES = ("tfidf", "fasttext")
NEED_A_PACK = ("bothways", "bothways-linear", "bothways-teacher", "bothways-qrnn", "bothways-base", "fastai")
_EXPECTED_FAULTS = (BothwaysError, NotImplementedError, FileNotFoundError, ValueError, subprocess.CalledProcessError)


def main() -> None:
    """Run the command line."""
    arguments = _parser().parse_args()
    if arguments.command == "run" and arguments.pretrained == "none":
        arguments.pretrained = None
        arguments.methods = ["bothways-scratch" if name == "bothways" else name for name in arguments.methods]
    if arguments.command == "report":
        write_report(read_results(arguments.results), arguments.page)
        return
    sys.exit(run_all(arguments))


def run_all(arguments: argparse.Namespace) -> int:
    """Measure all missing results. Return 1 if one failed, otherwise 0."""
    if "BOTHWAYS_DATA" not in os.environ:
        sys.exit("BOTHWAYS_DATA is not set: set it to the folder of the data sets")
    data = Path(os.environ["BOTHWAYS_DATA"])
    this_machine = machine(arguments.device)
    counts = {"measured": 0, "existing": 0, "failed": 0}
    for set_name in arguments.sets:
        for seed in arguments.seeds:
            for method in arguments.methods:
                if result_file(arguments.results, this_machine, set_name, method, seed).exists():
                    counts["existing"] += 1
                    continue
                print(f"{set_name}, {method}, seed {seed} ...", flush=True)
                started = time.monotonic()
                try:
                    load = load_average()
                    task = load_task(set_name, data, seed)
                    outcome = _run_method(task, method, seed, arguments)
                    command = _command(task, method, seed, arguments)
                    result = result_of(task, method, seed, outcome, command, this_machine, load)
                    write_result(arguments.results, result)
                except _EXPECTED_FAULTS as error:
                    if isinstance(error, ValueError | FileNotFoundError) and arguments.traceback:
                        traceback.print_exc()
                    print(f"  failed: {error}", flush=True)
                    counts["failed"] += 1
                    continue
                metric = result["measure"]
                values = ", ".join(f"{name} {found[metric]:.4f}" for name, found in result["scores"].items())
                print(f"  {metric}: {values} ({time.monotonic() - started:.0f} s)", flush=True)
                counts["measured"] += 1
    print(json.dumps(counts))
    return int(counts["failed"] > 0)


def _run_method(task: Task, method: str, seed: int, arguments: argparse.Namespace) -> Outcome:
    folder, shared = arguments.work / f"{task.name}.{method}.{seed}", arguments.work / "shared"
    encoders, embeddings = arguments.encoders / "bin" / "python", arguments.work / "embeddings"
    if method in NEED_A_PACK and arguments.pretrained is None:
        raise ValueError(f"{method} needs --pretrained PACK")
    if arguments.device != "cpu" and not method.startswith("bothways"):
        raise ValueError(f"{method} does not use a GPU: drop --device")
    if method == "tfidf":
        return tfidf.run(task, seed)
    if method == "fasttext":
        return fasttext.run(task, seed, arguments.fasttext / "bin" / "python", folder)
    if method in encoder.ENCODERS:
        return encoder.run(task, seed, method, encoders, embeddings)
    if method == "fastai":
        options = fastai.Options(
            arguments.pretrained,
            arguments.oracle / "bin" / "python",
            arguments.fastai_language_model_epochs,
            arguments.fastai_classifier_epochs,
        )
        known = [result for result in read_results(arguments.results) if result["method"] == "bothways"]
        return fastai.run(task, seed, options, folder, shared, known)
    pack = arguments.pretrained if method in NEED_A_PACK else None
    kind: EncoderKind = "qrnn" if method.startswith("bothways-qrnn") else "lstm"
    of_ours = ours.Options(
        pack,
        kind,
        arguments.size,
        arguments.config,
        arguments.shared_config,
        arguments.device,
        has_linear=method.startswith(("bothways-linear", "bothways-teacher")),
        encoders=encoders if method == "bothways-teacher" else None,
        embeddings=embeddings,
    )
    return ours.run(task, seed, of_ours, folder, shared)


def _command(task: Task, method: str, seed: int, arguments: argparse.Namespace) -> str:
    """Return the command that measures only this result. Paths are shortened to their last name."""
    words = ["python -m benchmarks.accuracy run", f"--sets {task.name}", f"--methods {method}", f"--seeds {seed}"]
    if method in NEED_A_PACK:
        words.append(f"--pretrained {Path(arguments.pretrained).name}")
    if method.endswith("-scratch"):
        words.append(f"--size {arguments.size}")
    if method.startswith("bothways"):
        words += [f"--config {arguments.config.name}"] if arguments.config else []
        words += [f"--shared-config {arguments.shared_config.name}"] if task.shared else []
        words += [f"--device {arguments.device}"] if arguments.device != "cpu" else []
    if method == "fastai":
        for stage in ("language_model", "classifier"):
            epochs = getattr(arguments, f"fastai_{stage}_epochs")
            words += [f"--fastai-{stage.replace('_', '-')}-epochs {epochs}"] if epochs else []
    return " ".join(words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    usual = [name for name in SETS if name not in OPTIONAL_SETS]
    run = commands.add_parser("run", help="measure missing results")
    run.add_argument(
        "--sets",
        type=_names(SETS),
        default=usual,
        help="comma-separated names or patterns such as '*-8-per-class': "
        f"{', '.join(SETS)}; {', '.join(usual)} by default",
    )
    run.add_argument(
        "--methods",
        type=_names(METHODS),
        default=list(BASELINES),
        help=f"comma-separated: {', '.join(METHODS)}; {' and '.join(BASELINES)} by default",
    )
    run.add_argument("--seeds", type=_seeds, default=[0, 1, 2], help="comma-separated random seeds; 0,1,2 by default")
    run.add_argument("--pretrained", help="pack that bothways and fastai start from: a path, en-small, or none")
    run.add_argument("--size", choices=SIZES, default="small", help="model size without a pack; small by default")
    run.add_argument("--config", type=Path, help="TOML file with hyperparameters of bothways")
    run.add_argument(
        "--shared-config",
        type=Path,
        default=ours.SHARED_CONFIG,
        help="TOML file with hyperparameters of the language models that tasks share",
    )
    run.add_argument(
        "--device", choices=["cpu", "cuda"], default="cpu", help="device on which bothways trains and predicts"
    )
    run.add_argument("--fastai-language-model-epochs", type=int, help="defaults to the epochs of bothways")
    run.add_argument("--fastai-classifier-epochs", type=int, help="defaults to the epochs of bothways")
    run.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    run.add_argument("--work", type=Path, default=WORK, help="folder for temporary files")
    run.add_argument("--oracle", type=Path, default=ROOT / ".oracle", help="environment with fastai")
    run.add_argument("--fasttext", type=Path, default=FASTTEXT, help="environment with fastText")
    run.add_argument("--encoders", type=Path, default=ENCODERS, help="environment with the sentence encoders")
    run.add_argument("--traceback", action="store_true", help="print tracebacks of failed runs")
    report = commands.add_parser("report", help="update the tables and plots")
    report.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    report.add_argument("--page", type=Path, default=PAGE, help="page to update; docs/benchmarks.md by default")
    return parser


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    names = list(known)

    def parse(value: str) -> list[str]:
        matches = {pattern: fnmatch.filter(names, pattern) for pattern in value.split(",")}
        if unknown := [pattern for pattern, found in matches.items() if not found]:
            raise argparse.ArgumentTypeError(f"'{unknown[0]}' is unknown; expected some of {', '.join(names)}")
        return list(dict.fromkeys(name for found in matches.values() for name in found))

    return parse


def _seeds(value: str) -> list[int]:
    return [int(seed) for seed in value.split(",")]


if __name__ == "__main__":
    main()
