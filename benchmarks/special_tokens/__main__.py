"""Are backward markers too easy? Train backward models with markers as written and in reading order, and compare.

Read forward, ``xxmaj`` stands before its word. Read backward as written it comes behind it, where it is easy to
predict. Both ways see the same texts, labels, seeds and numbers; only the place of the markers differs.

Run: BOTHWAYS_DATA=... .venv/bin/python -m benchmarks.markers run [--sets trec6,germeval2018] [--seeds 0,1,2,3,4] then
.venv/bin/python -m benchmarks.markers report. What exists is not measured again; a run that was killed goes on.
Measured are rows held out of the training split. ``--starts pack`` begins with language models that were pre-trained
on the same Wikipedia articles, one for each way.
"""

from __future__ import annotations

import argparse
import json
import os
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
from bothways.training.models import build_language_model

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results"
PAGE = ROOT / "docs" / "markers.md"
PLACEMENTS = tuple(SpecialTokenPlacement)
FORWARD, BACKWARD = Direction.FORWARD, Direction.BACKWARD
HELD_OUT_SHARE = 0.2
CORPUS_ARTICLES = 4_000
STARTS = ("nothing", "pack")
MEASURES: dict[str, tuple[str, ...]] = {
    "loss a token": ("language_model", "all", "loss"),
    "loss a word piece": ("language_model", "words", "loss"),
    "loss a marker": ("language_model", "markers", "loss"),
    "next-token accuracy": ("language_model", "all", "accuracy"),
    "accuracy of word pieces": ("language_model", "words", "accuracy"),
    "accuracy of markers": ("language_model", "markers", "accuracy"),
    "error, backward": ("error",),
    "error, ensemble": ("ensemble_error",),
}
"""Where a result holds each number of the table."""

Result = dict[str, Any]


def main() -> None:
    """Run or report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.markers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("verb", choices=["run", "report"])
    parser.add_argument("--sets", default="trec6,germeval2018")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--starts", choices=STARTS, default="nothing")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "markers")
    arguments = parser.parse_args()
    if arguments.verb == "report":
        report([json.loads(path.read_text(encoding="ascii")) for path in sorted(RESULTS.glob("*.json"))])
        return
    data = Path(os.environ["BOTHWAYS_DATA"])
    for seed in map(int, arguments.seeds.split(",")):
        for name in arguments.sets.split(","):
            path = RESULTS / f"{name}.{arguments.starts}.{seed}.json"
            if path.exists():
                continue
            found = measured(name, seed, arguments.starts, data, arguments.work)
            result = {"set": name, "start": arguments.starts, "seed": seed, **found}
            RESULTS.mkdir(exist_ok=True)
            path.write_text(json.dumps(result, indent=1) + "\n", encoding="ascii")
            print(json.dumps(result), flush=True)


def measured(name: str, seed: int, start: str, data: Path, work: Path) -> Result:
    """Train the forward model and both backward ones, and give their measures on the held-out rows."""
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
                directions=direction,
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
                directions=direction,
                seed=seed,
                out=bundle,
                config=HERE / "classifier.toml",
                progress=False,
            )
        model = bothways.load(bundle)
        order = [model.labels.index(label) for label in task.labels]
        probabilities[key] = model.predict_proba_by_direction(held_out.texts)[direction][:, order]
        results[key] = {"language_model": language_model_measures(pack, held_out.texts)}
    for key, found in probabilities.items():
        results[key]["error"] = error_rate(found, truth)
        if key != FORWARD:
            results[key]["ensemble_error"] = error_rate((found + probabilities[FORWARD]) / 2, truth)
    return {"held_out": len(truth), "training": len(train), **results}


def pretrained(data: Path, work: Path, direction: Direction, placement: SpecialTokenPlacement) -> Path:
    """Return a pack of one model that read some of Wikipedia, made once."""
    key = str(direction) if direction is FORWARD else str(placement)
    pack = work / f"wikipedia-{key}.pack"
    if not pack.exists():
        work.mkdir(parents=True, exist_ok=True)
        corpus = work / "wikipedia.jsonl"
        part = min((data / "enwiki").glob("*.parquet"))
        texts = pq.read_table(part, columns=["text"])["text"].to_pylist()[:CORPUS_ARTICLES]
        corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        config = work / f"wikipedia-{key}.toml"
        config.write_text(f'encoder.markers = "{placement}"\n' + (HERE / "pack.toml").read_text())
        bothways.pretrain([corpus], out=pack, directions=direction, config=config, progress=False)
    return pack


def config_for(folder: Path, key: str, placement: SpecialTokenPlacement, *, is_pack: bool) -> Path:
    """Return the numbers of a language model on a task's texts; a pack decides where markers stand."""
    path = folder / f"{key}.toml"
    text = (HERE / "language_model.toml").read_text(encoding="utf-8")
    path.write_text(text if is_pack else f'encoder.markers = "{placement}"\n{text}', encoding="utf-8")
    return path


@torch.no_grad()
def language_model_measures(pack: Path, texts: Iterable[str]) -> dict[str, dict[str, float]]:
    """Return loss (nats a token) and accuracy of next tokens, and the share of the tokens: of all, markers and words.

    The texts are one stream, so that each way predicts the same tokens. ``all`` includes the starts of texts.
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
    is_start, is_marker = names == START, np.isin(names, [name for name in SPECIAL_TOKENS if name != START])
    parts = {"all": np.full(len(names), True), "markers": is_marker, "words": ~is_marker & ~is_start}
    return {
        name: {"loss": float(loss[part].mean()), "accuracy": float(hit[part].mean()), "share": float(part.mean())}
        for name, part in parts.items()
    }


def report(results: Sequence[Result]) -> None:
    """Put the table into its page, and draw the plot beside it."""
    groups = sorted({(result["set"], result["start"]) for result in results})
    rows = []
    for name, start in groups:
        found = [result for result in results if (result["set"], result["start"]) == (name, start)]
        for what, path in MEASURES.items():
            pairs = np.array([[value_at(result[placement], path) for placement in PLACEMENTS] for result in found])
            difference = pairs[:, 1] - pairs[:, 0]
            spread = difference.std(ddof=1) / len(found) ** 0.5
            rows.append((name, start, what, *pairs.mean(axis=0), difference.mean(), spread, len(found)))
    lines = [
        "| set | starts from | measure | as written | reading order | difference | its standard error | seeds |",
        "|---|---|---|--:|--:|--:|--:|--:|",
        *(
            f"| {name} | {start} | {what} | {written:.3f} | {order:.3f} | {difference:+.3f} | {spread:.3f} | {seeds} |"
            for name, start, what, written, order, difference, spread, seeds in rows
        ),
    ]
    fill(PAGE, "measures", "\n".join(lines) + "\n")
    draw(results, groups)
    print(f"{len(results)} results: {PAGE.relative_to(ROOT)} and the plot beside it")


def draw(results: Sequence[Result], groups: Sequence[tuple[str, str]]) -> None:
    """Draw each seed's accuracy of the language models beside the errors of the classifiers."""
    pyplot = plots()
    shown = {
        what: MEASURES[what]
        for what in ("accuracy of markers", "accuracy of word pieces", "error, backward", "error, ensemble")
    }
    figure, axes = pyplot.subplots(len(groups), len(shown), figsize=(11, 2.6 * len(groups)), squeeze=False)
    for line, (name, start) in zip(axes, groups, strict=True):
        found = [result for result in results if (result["set"], result["start"]) == (name, start)]
        for axis, (what, path) in zip(line, shown.items(), strict=True):
            for result in found:
                pair = [100 * value_at(result[placement], path) for placement in PLACEMENTS]
                axis.plot([0, 1], pair, color="0.6", marker="o", markersize=4, markerfacecolor="C0", linewidth=1)
            axis.set_xticks([0, 1], ["as written", "reading order"])
            axis.set_xlim(-0.4, 1.4)
            axis.set_title(f"{name}, from {start}\n{what}, %", fontsize=9)
    figure.tight_layout()
    figure.savefig(PAGE.with_suffix(".svg"), metadata={"Date": None})
    pyplot.close(figure)


def value_at(result: Any, path: Sequence[str]) -> float:
    """Return a number within a result."""
    for key in path:
        result = result[key]
    return float(result)


def table(rows: Rows) -> dict[str, list[str]]:
    """Return rows as ``bothways.train`` takes them."""
    return {"text": rows.texts, "label": [labels[0] for labels in rows.labels]}


if __name__ == "__main__":
    main()
