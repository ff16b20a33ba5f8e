"""Compare backward models with special tokens as written and in reading order.

Read forward, the special token ``xxmaj`` comes before its word. Read backward as written, it comes after its word,
where it is easy to predict. Both placements are trained on the same texts and labels with the same seeds and
hyperparameters.

Run: BOTHWAYS_DATA=... .venv/bin/python -m benchmarks.special_tokens run [--sets trec6,germeval2018] [--seeds 0,1,2] ...
Then .venv/bin/python -m benchmarks.special_tokens report updates docs/special-tokens.md. Existing results are not
measured again, and a run that was killed resumes. Results are on held-out rows of the training split. ``--starts pack``
starts from language models pre-trained on the same Wikipedia articles, one per placement.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from benchmarks.accuracy.metrics import error_rate
from benchmarks.accuracy.report import plots
from benchmarks.accuracy.sets import Rows, load_task
from benchmarks.accuracy.splits import groups_of, stratified_numbers
from tools.pages import fill
from torch.nn import functional

import bothways
from bothways.bundle.manifest import Kind
from bothways.bundle.read import read_bundle
from bothways.data.token_store import Stream, TokenStore
from bothways.text.cleaning import SPECIAL_TOKENS, START
from bothways.text.reading import Direction, SpecialTokenPlacement, read
from bothways.training.choices import Directions
from bothways.training.models import build_language_model

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results"
PAGE = ROOT / "docs" / "special-tokens.md"
PLACEMENTS = tuple(SpecialTokenPlacement)
FORWARD, BACKWARD = Direction.FORWARD, Direction.BACKWARD
DIRECTIONS: dict[Direction, Directions] = {FORWARD: "forward", BACKWARD: "backward"}
HELD_OUT_SHARE = 0.2
CORPUS_ARTICLES = 4_000
STARTS = ("nothing", "pack")
METRICS: dict[str, tuple[str, ...]] = {
    "loss per token": ("language_model", "all", "loss"),
    "loss per word piece": ("language_model", "words", "loss"),
    "loss per special token": ("language_model", "markers", "loss"),
    "next-token accuracy": ("language_model", "all", "accuracy"),
    "accuracy of word pieces": ("language_model", "words", "accuracy"),
    "accuracy of special tokens": ("language_model", "markers", "accuracy"),
    "error, backward": ("error",),
    "error, ensemble": ("ensemble_error",),
}
"""Rows of the table, and where a result contains them. The results name special tokens "markers"."""

Result = dict[str, Any]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.special_tokens", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("command", choices=["run", "report"], help="measure missing results, or update the page")
    parser.add_argument("--sets", default="trec6,germeval2018", help="comma-separated sets; %(default)s by default")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="comma-separated seeds; %(default)s by default")
    parser.add_argument(
        "--starts", choices=STARTS, default="nothing", help="train from scratch (nothing, the default) or from a pack"
    )
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "special_tokens", help="folder for bundles and packs"
    )
    arguments = parser.parse_args()
    if arguments.command == "report":
        report([json.loads(path.read_text(encoding="ascii")) for path in sorted(RESULTS.glob("*.json"))])
        return
    if "BOTHWAYS_DATA" not in os.environ:
        sys.exit("BOTHWAYS_DATA is not set: set it to the folder of the data sets")
    data = Path(os.environ["BOTHWAYS_DATA"])
    for seed in map(int, arguments.seeds.split(",")):
        for name in arguments.sets.split(","):
            path = RESULTS / f"{name}.{arguments.starts}.{seed}.json"
            if path.exists():
                continue
            found = measure(name, seed, arguments.starts, data, arguments.work)
            result = {"set": name, "start": arguments.starts, "seed": seed, **found}
            RESULTS.mkdir(exist_ok=True)
            path.write_text(json.dumps(result, indent=1) + "\n", encoding="ascii")
            print(json.dumps(result), flush=True)


def measure(name: str, seed: int, start: str, data: Path, work: Path) -> Result:
    """Train a forward model and a backward model per placement, and return their metrics on the held-out rows."""
    task = load_task(name, data, seed)
    held = stratified_numbers(task.train.texts, groups_of(task.train.labels), HELD_OUT_SHARE, seed)
    is_held = np.zeros(len(task.train), dtype=bool)
    is_held[held] = True
    train, held_out = task.train.selected(np.flatnonzero(~is_held)), task.train.selected(np.flatnonzero(is_held))
    truth = np.array([task.labels.index(labels[0]) for labels in held_out.labels])
    folder = work / f"{name}-{start}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    corpus = folder / "texts.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in train.texts), encoding="utf-8")

    results: Result = {}
    probabilities = {}
    for direction, placement in ((FORWARD, PLACEMENTS[0]), *((BACKWARD, placement) for placement in PLACEMENTS)):
        key = str(direction) if direction is FORWARD else str(placement)
        begin = pretrained(data, work, direction, placement) if start == "pack" else None
        pack, bundle = folder / f"{key}.pack", folder / f"{key}.bundle"
        if not pack.exists():
            bothways.pretrain(
                [corpus],
                out=pack,
                directions=DIRECTIONS[direction],
                continue_from=begin,
                seed=seed,
                config=config_for(folder, key, placement, is_pack=begin is not None),
                progress=False,
            )
        if not bundle.exists():
            bothways.train(
                table(train),
                text="text",
                label="label",
                pretrained=pack,
                directions=DIRECTIONS[direction],
                seed=seed,
                out=bundle,
                config=HERE / "classifier.toml",
                progress=False,
            )
        model = bothways.load(bundle)
        order = [model.labels.index(label) for label in task.labels]
        probabilities[key] = model.predict_proba_by_direction(held_out.texts)[direction][:, order]
        results[key] = {"language_model": language_model_metrics(pack, held_out.texts)}
    for key, found in probabilities.items():
        results[key]["error"] = error_rate(found, truth)
        if key != FORWARD:
            results[key]["ensemble_error"] = error_rate((found + probabilities[FORWARD]) / 2, truth)
    return {"held_out": len(truth), "training": len(train), **results}


def pretrained(data: Path, work: Path, direction: Direction, placement: SpecialTokenPlacement) -> Path:
    """Return a pack of one model, pre-trained once on articles of Wikipedia."""
    key = str(direction) if direction is FORWARD else str(placement)
    pack = work / f"wikipedia-{key}.pack"
    if not pack.exists():
        work.mkdir(parents=True, exist_ok=True)
        corpus = work / "wikipedia.jsonl"
        part = min((data / "enwiki").glob("*.parquet"))
        texts = pq.read_table(part, columns=["text"])["text"].to_pylist()[:CORPUS_ARTICLES]
        corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        config = work / f"wikipedia-{key}.toml"
        config.write_text(f'encoder.special_tokens = "{placement}"\n' + (HERE / "pack.toml").read_text())
        bothways.pretrain([corpus], out=pack, directions=DIRECTIONS[direction], config=config, progress=False)
    return pack


def config_for(folder: Path, key: str, placement: SpecialTokenPlacement, *, is_pack: bool) -> Path:
    """Write the hyperparameters of a language model on a task's texts, and return their path.

    A pack fixes the placement of special tokens.
    """
    path = folder / f"{key}.toml"
    text = (HERE / "language_model.toml").read_text(encoding="utf-8")
    path.write_text(text if is_pack else f'encoder.special_tokens = "{placement}"\n{text}', encoding="utf-8")
    return path


@torch.no_grad()
def language_model_metrics(pack: Path, texts: Iterable[str]) -> dict[str, dict[str, float]]:
    """Return the loss (nats per token), the next-token accuracy and the share of all tokens, special tokens and words.

    The texts form one stream, so both placements predict the same tokens. ``all`` includes the starts of texts.
    """
    bundle = read_bundle(pack, Kind.LANGUAGE_MODEL)
    member = bundle.manifest.members[0]
    model = build_language_model(member.architecture, member.direction, 0).eval()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in bundle.weights[member.direction].items()})
    ids = [read(bundle.tokenizer.tokenize(text), member.direction, member.special_tokens) for text in texts]
    stream = Stream(TokenStore.of(ids), np.arange(len(ids)), 8, 64)
    state = model.encoder.zero_state(stream.rows)
    losses, hits, targets = [], [], []
    for number in range(stream.windows):
        inputs, wanted = map(torch.from_numpy, stream.window(number))
        logits, state = model.logits(inputs, state)
        logits, wanted = logits.flatten(0, 1), wanted.flatten()
        losses.append(functional.cross_entropy(logits, wanted, reduction="none"))
        hits.append(logits.argmax(dim=1) == wanted)
        targets.append(wanted)
    loss, hit = torch.cat(losses).double().numpy(), torch.cat(hits).numpy()
    names = np.array(bundle.tokenizer.tokens(range(len(bundle.tokenizer))))[torch.cat(targets).numpy()]
    is_start, is_special = names == START, np.isin(names, [name for name in SPECIAL_TOKENS if name != START])
    parts = {"all": np.full(len(names), True), "markers": is_special, "words": ~is_special & ~is_start}
    return {
        name: {"loss": float(loss[part].mean()), "accuracy": float(hit[part].mean()), "share": float(part.mean())}
        for name, part in parts.items()
    }


def report(results: Sequence[Result]) -> None:
    """Update the table of the page, and draw the plot next to it."""
    groups = sorted({(result["set"], result["start"]) for result in results})
    rows = []
    for name, start in groups:
        found = [result for result in results if (result["set"], result["start"]) == (name, start)]
        for metric, path in METRICS.items():
            pairs = np.array([[value_at(result[placement], path) for placement in PLACEMENTS] for result in found])
            difference = pairs[:, 1] - pairs[:, 0]
            error = difference.std(ddof=1) / len(found) ** 0.5
            rows.append((name, start, metric, *pairs.mean(axis=0), difference.mean(), error, len(found)))
    lines = [
        "| set | starts from | metric | as written | reading order | difference | standard error | seeds |",
        "|---|---|---|--:|--:|--:|--:|--:|",
        *(
            f"| {name} | {start} | {metric} | {written:.3f} | {order:.3f} | {difference:+.3f} | {error:.3f} | {seeds} |"
            for name, start, metric, written, order, difference, error, seeds in rows
        ),
    ]
    fill(PAGE, "measures", "\n".join(lines) + "\n")
    draw(results, groups)
    print(f"{len(results)} results: {PAGE.relative_to(ROOT)} and its plot are updated")


def draw(results: Sequence[Result], groups: Sequence[tuple[str, str]]) -> None:
    """Draw the accuracy of the language models and the errors of the classifiers, one line per seed."""
    pyplot = plots()
    shown = {
        metric: METRICS[metric]
        for metric in ("accuracy of special tokens", "accuracy of word pieces", "error, backward", "error, ensemble")
    }
    figure, axes = pyplot.subplots(len(groups), len(shown), figsize=(11, 2.6 * len(groups)), squeeze=False)
    for line, (name, start) in zip(axes, groups, strict=True):
        found = [result for result in results if (result["set"], result["start"]) == (name, start)]
        for axis, (metric, path) in zip(line, shown.items(), strict=True):
            for result in found:
                pair = [100 * value_at(result[placement], path) for placement in PLACEMENTS]
                axis.plot([0, 1], pair, color="0.6", marker="o", markersize=4, markerfacecolor="C0", linewidth=1)
            axis.set_xticks([0, 1], ["as written", "reading order"])
            axis.set_xlim(-0.4, 1.4)
            axis.set_title(f"{name}, from {start}\n{metric}, %", fontsize=9)
    figure.tight_layout()
    figure.savefig(PAGE.with_suffix(".svg"), metadata={"Date": None})
    pyplot.close(figure)


def value_at(result: Any, path: Sequence[str]) -> float:
    """Return the number at a path of keys in a result."""
    for key in path:
        result = result[key]
    return float(result)


def table(rows: Rows) -> dict[str, list[str]]:
    """Return rows as a table for ``bothways.train``."""
    return {"text": rows.texts, "label": [labels[0] for labels in rows.labels]}


if __name__ == "__main__":
    main()
