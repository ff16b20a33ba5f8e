"""Make the classifiers of benchmarks/speed with the real fastai 2, and measure fastai as its users run an ensemble.

Run with the oracle's python: `speed.py make FOLDER SIZES` takes FOLDER/texts.json for the vocabulary and exports
FOLDER/{forward,backward}.pkl with random weights, which cost as much time as trained ones; `speed.py measure FOLDER`
loads both and writes FOLDER/fastai.json. Two learners, `test_dl` and `get_preds` for all texts, `predict` for one.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

DIRECTIONS = ("forward", "backward")
WORDS = 20_000
VERSIONS = ("fastai", "torch", "spacy")


def make(folder: Path, sizes: dict[str, int]) -> None:
    """Export one classifier per direction, with fastai's own settings except for the sizes."""
    import pandas as pd
    import torch
    from fastai.text import all as fastai

    texts = json.loads((folder / "texts.json").read_text())["vocabulary"]
    rows = pd.DataFrame({"text": texts, "label": ["neg", "pos"] * (len(texts) // 2) + ["neg"] * (len(texts) % 2)})
    for seed, direction in enumerate(DIRECTIONS):
        fastai.set_seed(seed, reproducible=True)
        backwards = direction == "backward"
        text = fastai.TextBlock.from_df("text", backwards=backwards, max_vocab=WORDS, min_freq=1, n_workers=0)
        data = fastai.DataBlock(
            blocks=(text, fastai.CategoryBlock), get_x=fastai.ColReader("text"), get_y=fastai.ColReader("label")
        ).dataloaders(rows, num_workers=0)
        config = {**fastai.awd_lstm_clas_config, **sizes}
        learn = fastai.text_classifier_learner(
            data, fastai.AWD_LSTM, config=config, backwards=backwards, pretrained=False, path=folder
        )
        with torch.no_grad():  # as fastai draws them, all texts would get nearly the same probabilities
            learn.model[0].module.encoder.weight.mul_(10)
            for part in learn.model[1].modules():
                if isinstance(part, torch.nn.Linear):
                    part.weight.mul_(10)
        learn.export(f"{direction}.pkl")


def measure(folder: Path, threads: int) -> None:
    """Predict all texts, and some of them one by one, the requested number of times."""
    import torch
    from fastai.text.all import load_learner

    torch.set_num_threads(threads)
    started = time.perf_counter()
    learners = [load_learner(folder / f"{direction}.pkl") for direction in DIRECTIONS]
    result: dict[str, Any] = {"load_s": time.perf_counter() - started, "sets": {}}
    for name, task in json.loads((folder / "texts.json").read_text())["sets"].items():
        runs, rows = [], []
        for number in range(task["runs"]):
            print(f"fastai, {name}, run {number + 1} of {task['runs']}", flush=True)
            started = time.perf_counter()
            rows = together(learners, task["texts"])
            runs.append(time.perf_counter() - started)
        singles, alone = [], []
        for text in task["texts"][: task["singles"]]:
            started = time.perf_counter()
            alone.append(single(learners, text))
            singles.append(time.perf_counter() - started)
        result["sets"][name] = {"runs_s": runs, "singles_s": singles, "together": rows, "alone": alone}
        print(
            f"fastai, {name}: {statistics.median(runs):.1f} s, one text {statistics.median(singles):.3f} s", flush=True
        )
    result["versions"] = {name: metadata.version(name) for name in VERSIONS}
    (folder / "fastai.json").write_text(json.dumps(result))


def together(learners: list[Any], texts: list[str]) -> list[list[float]]:
    """Return the ensemble's probabilities of all texts."""
    found = []
    for learn in learners:
        with learn.no_bar(), learn.no_logging():
            found.append(learn.get_preds(dl=learn.dls.test_dl(texts, num_workers=0))[0])
    return ((found[0] + found[1]) / 2).tolist()


def single(learners: list[Any], text: str) -> list[float]:
    """Return the ensemble's probabilities of one text."""
    found = []
    for learn in learners:
        with learn.no_bar(), learn.no_logging():
            found.append(learn.predict(text)[2])
    return ((found[0] + found[1]) / 2).tolist()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]).resolve(), json.loads(sys.argv[3]))
    else:
        measure(Path(sys.argv[2]).resolve(), int(sys.argv[3]))
