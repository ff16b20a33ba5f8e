"""Train classifiers with the real fastai 2 for benchmarks/accuracy: python accuracy.py STAGE FOLDER DIRECTION.

Run with the oracle's python. FOLDER holds ids in the order in which they are read, so nothing is reversed here, and a
JSON file for each stage:

- `language-model`: takes a pack's weights, checks that they give the pack's own losses, fine-tunes, saves the encoder;
- `classifier`: trains on that encoder layer by layer, and exports the learner;
- `predict`: loads the export and writes probabilities and times.

The hyperparameters are those of fastai's own tutorial "Transfer learning in text": batches of 64 and windows of 72. The
language model has a weight decay of 0.1. Its first epoch is frozen at a learning rate of 1e-2, the others run at 1e-3.
The classifier has a dropout factor of 0.5. It trains the head for one epoch at 2e-2, two groups for one at 1e-2, three
groups for one at 5e-3, and all groups in the others at 1e-3. The rates fall by a factor of 2.6 per group. Two settings
are ours, both in fastai's favor: the number of epochs, and the rate of the last epochs. These are trained at the
tutorial's 1e-3, at 3e-3 and at 1e-2, and the classifier with the fewest errors on the validation rows is kept. Few rows
(below 1,000) are trained in batches of 16: with 64, an epoch would have only one or two gradient steps.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
import warnings
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

BATCH, BATCH_OF_FEW, FEW = 64, 16, 1000
WINDOW = 72
RATES = (1e-3, 3e-3, 1e-2)
"""Learning rates for the epochs in which all layers of a classifier are trained. One is chosen."""
LARGEST_DIFFERENCE = 1e-4
VERSIONS = ("fastai", "torch", "numpy")


def main(stage: str, folder: Path, direction: str) -> None:
    """Run one stage."""
    warnings.simplefilter("ignore")
    import torch

    if stage == "predict":
        task = read_json(folder / "predict.json")
        torch.set_num_threads(task["threads"])
        predict(folder, direction, task)
        return
    task = read_json(folder / f"{stage}.json")
    torch.set_num_threads(task["threads"])
    (language_model if stage == "language-model" else classifier)(folder, direction, task)


def language_model(folder: Path, direction: str, task: dict[str, Any]) -> None:
    """Fine-tune a language model that starts from a pack's weights; save its encoder."""
    from fastai.text.all import AWD_LSTM, awd_lstm_lm_config, language_model_learner, set_seed

    set_seed(task["seed"], reproducible=True)
    train, valid = (read_ids(folder / f"lm-{part}-{direction}.npz") for part in ("train", "valid"))
    data = language_model_data(train, valid, task["vocabulary"])
    config = {**awd_lstm_lm_config, **task["sizes"]}
    assert config["pad_token"] == 1 == task["vocabulary"].index("xxpad")
    learn = language_model_learner(
        data, AWD_LSTM, config=config, pretrained=False, wd=0.1, path=folder, model_dir="encoders"
    )
    weights = np.load(folder / f"weights-{direction}.npz")
    learn.model.load_state_dict(fastai_names(weights, task["sizes"]["n_layers"]))
    difference = check_losses(learn, valid, read_json(folder / f"losses-{direction}.json"))
    quietly(learn)
    with learn.no_bar(), learn.no_logging():
        before = learn.validate()[0]
        started = time.perf_counter()
        learn.freeze()
        if task["epochs"] > 1:
            learn.fit_one_cycle(1, 1e-2)
        learn.unfreeze()
        learn.fit_one_cycle(max(1, task["epochs"] - 1), 1e-3)
        seconds = time.perf_counter() - started
        after = learn.validate()[0]
    (folder / "encoders").mkdir(exist_ok=True)
    learn.save_encoder(f"encoder-{direction}")
    report = {
        "largest_difference_of_losses": difference,
        "validation_loss_before": float(before),
        "validation_loss_after": float(after),
        "seconds": seconds,
        "tokens_an_epoch": sum(map(len, train)),
        "batch": data.bs,
    }
    (folder / f"language-model-{direction}.json").write_text(json.dumps(report), encoding="ascii")


def classifier(folder: Path, direction: str, task: dict[str, Any]) -> None:
    """Train a classifier on a fine-tuned encoder at each rate, and export the one with the fewest errors."""
    from fastai.text.all import AWD_LSTM, awd_lstm_clas_config, set_seed, text_classifier_learner

    set_seed(task["seed"], reproducible=True)
    data = classifier_data(folder, direction, task)
    config = {**awd_lstm_clas_config, **task["sizes"]}
    learn = text_classifier_learner(
        data,
        AWD_LSTM,
        seq_len=WINDOW,
        config=config,
        pretrained=False,
        drop_mult=0.5,
        path=Path(task["encoders"]),
        model_dir="encoders",
    )
    assert learn.model[0].module.encoder.num_embeddings == len(task["vocabulary"])
    assert learn.model[1].layers[-1][-1].out_features == task["classes"]
    learn.load_encoder(f"encoder-{direction}")  # freezes all but the head
    quietly(learn)
    with learn.no_bar(), learn.no_logging():
        started = time.perf_counter()
        learn.fit_one_cycle(1, 2e-2)
        learn.freeze_to(-2)
        learn.fit_one_cycle(1, slice(1e-2 / 2.6**4, 1e-2))
        learn.freeze_to(-3)
        learn.fit_one_cycle(1, slice(5e-3 / 2.6**4, 5e-3))
        seconds_before = time.perf_counter() - started
        start = state_of(learn)
        trials, best = [], None
        for rate in RATES:
            learn.model.load_state_dict(start)
            set_seed(task["seed"], reproducible=True)
            started = time.perf_counter()
            learn.unfreeze()  # forgets the optimizer's state as well
            learn.fit_one_cycle(max(1, task["epochs"] - 3), slice(rate / 2.6**4, rate))
            seconds = time.perf_counter() - started
            trials.append({"rate": rate, **validated(learn, task["is_multi_label"]), "seconds": seconds})
            if best is None or badness(trials[-1]) < badness(best[0]):
                best = trials[-1], state_of(learn)
        chosen, state = best
        learn.model.load_state_dict(state)
    learn.path = folder
    learn.export(f"{direction}.pkl")
    report = {
        "rate": chosen["rate"],
        "validation_loss": chosen["loss"],
        "seconds": seconds_before + chosen["seconds"],
        "seconds_of_other_rates": sum(trial["seconds"] for trial in trials) - chosen["seconds"],
        "rates_tried": trials,
        "batch": data.bs,
    }
    (folder / f"classifier-{direction}.json").write_text(json.dumps(report), encoding="ascii")


def state_of(learn: Any) -> dict[str, Any]:
    """Return a copy of a learner's weights."""
    return {name: value.clone() for name, value in learn.model.state_dict().items()}


def validated(learn: Any, is_multi_label: bool) -> dict[str, float]:
    """Return a learner's loss on the validation rows, and its error rate if it is a single-label classifier."""
    probabilities, targets, losses = learn.get_preds(ds_idx=1, with_loss=True)
    found = {"loss": float(losses.mean())}
    return found if is_multi_label else {**found, "error": float((probabilities.argmax(1) != targets).float().mean())}


def badness(trial: dict[str, float]) -> tuple[float, float]:
    """Return the key by which trials are compared: the error rate if it is known, then the loss."""
    return trial.get("error", 0.0), trial["loss"]


def predict(folder: Path, direction: str, task: dict[str, Any]) -> None:
    """Write the predictions of an exported classifier, computed in one call to `get_preds`."""
    from importlib import metadata

    from fastai.text.all import load_learner

    learn = load_learner(folder / f"{direction}.pkl")
    quietly(learn)
    times = {}
    with learn.no_bar(), learn.no_logging():
        for part in task["parts"]:
            ids = read_ids(folder / f"{part}-{direction}.npz")
            rows = [{"ids": text} for text in ids]
            learn.get_preds(dl=learn.dls.test_dl(rows[:32], num_workers=0))
            wall, cpu = time.perf_counter(), time.process_time()
            probabilities = learn.get_preds(dl=learn.dls.test_dl(rows, num_workers=0))[0].numpy()
            times[part] = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
            np.save(folder / f"{part}-{direction}.npy", probabilities)
    made = {"times": times, "versions": {name: metadata.version(name) for name in VERSIONS}}
    (folder / f"predicted-{direction}.json").write_text(json.dumps(made), encoding="ascii")


def language_model_data(train: list[Any], valid: list[Any], vocabulary: list[str]) -> Any:
    """Return fastai's data loaders of a language model, over texts that are already ids."""
    from fastai.text.all import Datasets, LMDataLoader

    rows = [{"ids": text} for text in [*train, *valid]]
    splits = [list(range(len(train))), list(range(len(train), len(rows)))]
    datasets = Datasets(rows, [[itemgetter("ids"), ids_transform(vocabulary)]], splits=splits, dl_type=LMDataLoader)
    data = datasets.dataloaders(bs=batch_for(train), seq_len=WINDOW, num_workers=0)
    assert len(data.vocab) == len(vocabulary)
    assert [text[0].tolist() for text in data.valid_ds] == [text.tolist() for text in valid]
    return data


def classifier_data(folder: Path, direction: str, task: dict[str, Any]) -> Any:
    """Return fastai's data loaders of a classifier, over texts that are already ids."""
    from fastai.text.all import Categorize, Datasets, MultiCategorize, OneHotEncode, Pad_Chunk, SortedDL

    sides = [read_ids(folder / f"{part}-{direction}.npz") for part in ("train", "valid")]
    texts, labels = [*sides[0], *sides[1]], [*task["train"], *task["valid"]]
    rows = [{"ids": ids, "labels": named} for ids, named in zip(texts, labels, strict=True)]
    splits = [list(range(len(sides[0]))), list(range(len(sides[0]), len(rows)))]
    classes = list(range(task["classes"]))
    if task["is_multi_label"]:
        targets = [itemgetter("labels"), MultiCategorize(vocab=classes), OneHotEncode(c=task["classes"])]
    else:
        targets = [only_label, Categorize(vocab=classes, sort=False)]
    datasets = Datasets(
        rows, [[itemgetter("ids"), ids_transform(task["vocabulary"])], targets], splits=splits, dl_type=SortedDL
    )
    return datasets.dataloaders(bs=batch_for(sides[0]), before_batch=Pad_Chunk(seq_len=WINDOW), num_workers=0)


def only_label(row: dict[str, Any]) -> int:
    """Return the only label of a row."""
    return row["labels"][0]


def ids_transform(vocabulary: list[str]) -> Any:
    """Return the transform that takes the place of fastai's Numericalize."""
    from fastai.text.all import TensorText, Transform
    from torch import from_numpy

    class Ids(Transform):
        def encodes(self, ids):
            return TensorText(from_numpy(ids))

    transform = Ids()
    transform.vocab = vocabulary
    return transform


def batch_for(train: list[Any]) -> int:
    """Return the batch size for the number of training rows."""
    return BATCH if len(train) >= FEW else BATCH_OF_FEW


def check_losses(learn: Any, valid: list[Any], expected: dict[str, Any]) -> float:
    """Check that the weights were loaded: each text has the loss that the pack's own model computes."""
    import torch

    learn.model.eval()
    largest = 0.0
    for number, theirs in zip(expected["texts"], expected["losses"], strict=True):
        ids = torch.from_numpy(valid[number])[None]
        learn.model.reset()
        with torch.no_grad():
            scores = learn.model(ids[:, :-1])[0][0]
        ours = torch.nn.functional.cross_entropy(scores, ids[0, 1:]).item()
        largest = max(largest, abs(ours - theirs))
    learn.model.reset()
    assert expected["texts"], "there is no text to compare losses on"
    assert largest <= LARGEST_DIFFERENCE, f"a loss differs by {largest} from the pack's: the weights were not loaded"
    return largest


def fastai_names(weights: Any, layers: int) -> dict[str, Any]:
    """Return a pack's weights by the names of fastai's language model."""
    import torch

    tensor = {name: torch.from_numpy(weights[name]) for name in weights.files}
    embedding = tensor.pop("encoder.embedding.weight")
    bias = tensor.pop("decoder.bias")
    named = {"0.encoder.weight": embedding, "0.encoder_dp.emb.weight": embedding}
    for layer in range(layers):
        ours, theirs = f"encoder.layers.{layer}", f"0.rnns.{layer}"
        named[f"{theirs}.weight_hh_l0_raw"] = tensor.pop(f"{ours}.weight_hh")
        for part in ("weight_ih", "bias_ih", "bias_hh"):
            named[f"{theirs}.module.{part}_l0"] = tensor.pop(f"{ours}.{part}")
    assert not tensor, f"fastai has no place for {', '.join(tensor)}"
    return {**named, "1.decoder.weight": embedding, "1.decoder.bias": bias}


def quietly(learn: Any) -> None:
    """Remove the progress table of epochs."""
    from fastai.callback.progress import ProgressCallback

    if any(isinstance(callback, ProgressCallback) for callback in learn.cbs):
        learn.remove_cb(ProgressCallback)


def read_ids(file: Path) -> list[Any]:
    """Return the ids of each text, int64."""
    stored = np.load(file)
    ids, starts = stored["ids"].astype(np.int64), stored["starts"]
    return [ids[start:stop] for start, stop in itertools.pairwise(starts)]


def read_json(file: Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
