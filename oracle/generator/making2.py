"""Make learners of fastai 2 as users do, save them, and predict with what was saved."""

from __future__ import annotations

import pickle
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fastai.text.all import (
    AWD_LSTM,
    CategoryBlock,
    ColReader,
    DataBlock,
    RandomSplitter,
    TextBlock,
    awd_lstm_clas_config,
    awd_lstm_lm_config,
    language_model_learner,
    load_learner,
    set_seed,
    text_classifier_learner,
)
from scaling import spread, spread_language_model
from table import Made, seed_of
from texts import TEXTS, training_rows

SIZES = {"emb_sz": 16, "n_hid": 20, "n_layers": 2}
_kept: dict[str, Any] = {}


def text_block(*, columns: Any = "text", is_lm: bool = False, **options: Any) -> Any:
    """Return `TextBlock.from_df` with all words that occur twice."""
    options = {"min_freq": 2, "n_workers": 0, **options}
    return TextBlock.from_df(columns, is_lm=is_lm, **options)


def loaders(
    *,
    rows: Any = None,
    text: Any = None,
    block: Any = CategoryBlock,
    get_x: Any = None,
    get_y: Any = None,
    label: Any = "label",
    label_delim: str | None = None,
    seq_len: int = 72,
    data: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Return data loaders made by a DataBlock.

    Args:
        rows: The rows; those of `training_rows` by default.
        text: Options of `TextBlock.from_df`, or a block.
        block: The block of the labels.
        get_x: Reads a row's tokens; by column by default.
        get_y: Reads a row's label; by column by default.
        label: Column of the labels.
        label_delim: Separates labels in a cell.
        seq_len: Window of the data.
        data: Options of `DataBlock.dataloaders`.
        options: Options of `DataBlock`.
    """
    set_seed(7, reproducible=True)
    made = text_block(seq_len=seq_len, **(text or {})) if text is None or isinstance(text, dict) else text
    more = {"bs": 16, "num_workers": 0, "seq_len": seq_len, **(data or {})}
    return DataBlock(
        blocks=(made, block) if not isinstance(block, list) else (made, *block),
        get_x=get_x or ColReader("text"),
        get_y=get_y or ColReader(label, label_delim=label_delim),
        splitter=RandomSplitter(0.1, seed=3),
        **options,
    ).dataloaders(training_rows() if rows is None else rows, **more)


def kept(key: str, make: Callable[[], Any]) -> Any:
    """Return data loaders that several learners share."""
    if key not in _kept:
        _kept[key] = make()
    return _kept[key]


def plain_loaders(direction: str) -> Any:
    """Return the data loaders of a plain classifier."""
    return kept(direction, lambda: loaders(text={"backwards": direction == "backward"}))


def reading(learn: Any, text: Any) -> Any:
    """Return the batch that `predict` makes of a text: ids in the order of reading, (1, length)."""
    return learn.dls.test_dl([text], num_workers=0).one_batch()[0]


def classifier(
    data: Any,
    name: str,
    *,
    direction: str = "forward",
    config: dict[str, Any] | None = None,
    arch: Any = AWD_LSTM,
    change: Callable[[Any], Any] | None = None,
    texts: Any = TEXTS,
    is_spread: bool = True,
    **options: Any,
) -> Any:
    """Return a classifier with random weights whose scores differ from text to text.

    Args:
        data: The data loaders.
        name: Decides the weights.
        direction: What the learner is told of the direction.
        config: Changes to fastai's configuration of the encoder.
        arch: The encoder.
        change: Changes the learner before its weights are scaled. May return another one.
        texts: Texts by which the weights are scaled.
        is_spread: Whether to scale them.
        options: Options of `text_classifier_learner`.
    """
    set_seed(seed_of(name), reproducible=True)
    sizes = {**awd_lstm_clas_config, **SIZES, **(config or {})} if arch is AWD_LSTM else config
    learn = text_classifier_learner(
        data, arch, config=sizes, backwards=direction == "backward", pretrained=False, **options
    )
    if change is not None:
        learn = change(learn) or learn
    if is_spread:
        spread(learn.model, [reading(learn, text) for text in texts if len(str(text)) < 2000 and text])
    return learn


def language_model(
    data: Any, name: str, *, direction: str = "forward", config: Any = None, arch: Any = AWD_LSTM, **options: Any
) -> Any:
    """Return a language model with random weights."""
    set_seed(seed_of(name), reproducible=True)
    sizes = {**awd_lstm_lm_config, **SIZES, **(config or {})}
    learn = language_model_learner(
        data, arch, config=sizes, backwards=direction == "backward", pretrained=False, **options
    )
    spread_language_model(learn.model)
    return learn


def quiet(learn: Any) -> Any:
    """Take the progress bars off a learner that only predicts."""
    for callback in list(learn.cbs):
        if type(callback).__name__ == "ProgressCallback":
            learn.remove_cb(callback)
    return learn


def ids_as_written(learn: Any, direction: str, text: Any) -> list[int]:
    """Return the ids of a text as written."""
    ids = reading(learn, text)[0].tolist()
    return ids if direction == "forward" else ids[::-1]


def listed(value: Any) -> Any:
    """Return a value of fastai as JSON has it."""
    if isinstance(value, torch.Tensor):
        return [float(number) for number in value.flatten()]
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, str | bool | int | float):
        return value
    return [listed(part) for part in value] if hasattr(value, "__iter__") else str(value)


def predictions(learn: Any, direction: str, *, ids: bool = True) -> Callable[[Any], dict[str, Any]]:
    """Return a function that predicts a text with `learn.predict`."""

    def expect(text: Any) -> dict[str, Any]:
        with learn.no_bar(), learn.no_logging():
            label, _, scores = learn.predict(text)
        found = {"scores": [float(number) for number in scores.flatten()], "label": listed(label)}
        return {"ids": ids_as_written(learn, direction, text), **found} if ids else found

    return expect


def labels_of(learn: Any) -> list[Any]:
    """Return the labels of a learner in the order of its scores."""
    vocab = learn.dls.vocab
    if hasattr(vocab, "__len__") and len(vocab) == 2 and not isinstance(vocab[0], str):
        return [label if isinstance(label, bool | int | float) else str(label) for label in map(plain, vocab[1])]
    return []


def plain(value: Any) -> Any:
    """Return a number of numpy as Python's."""
    return value.item() if hasattr(value, "item") else value


def export(
    make: Callable[[], Any],
    *,
    direction: str = "forward",
    task: str = "single-label",
    texts: Any = TEXTS,
    before: Callable[[Any], Any] | None = None,
    ids: bool = True,
    labels: Any = None,
) -> Callable[[Path], Made]:
    """Return what makes an exported classifier. Predictions are those of `load_learner`.

    Args:
        make: Returns the learner.
        direction: Direction in which it reads.
        task: What its outputs mean.
        texts: Texts to predict.
        before: Changes the finished learner before it is exported.
        ids: Whether to write ids.
        labels: Labels, if the learner does not show them.
    """

    def written(folder: Path) -> Made:
        learn = make()
        if before is not None:
            learn = before(learn) or learn
        learn.path = folder
        learn.export("export.pkl")
        again = quiet(load_learner(folder / "export.pkl"))
        found = labels_of(again) if labels is None else labels
        return Made(
            {"export": "export.pkl"},
            task,
            found if task in ("single-label", "multi-label") else [],
            list(texts),
            predictions(again, direction, ids=ids),
        )

    return written


def weights(
    make: Callable[[], Any],
    *,
    direction: str = "forward",
    task: str = "single-label",
    texts: Any = TEXTS,
    vocabulary: Callable[[Any], Any] | None = None,
    with_opt: bool = False,
    whole_model: bool = False,
    before: Callable[[Any], Any] | None = None,
) -> Callable[[Path], Made]:
    """Return what makes a classifier saved by `learn.save`, with its words pickled."""

    def written(folder: Path) -> Made:
        learn = quiet(make())
        if before is not None:
            learn = before(learn) or learn
        learn.path, learn.model_dir = folder, "."
        if whole_model:
            torch.save(learn.model, folder / "clas.pth")
        else:
            learn.save("clas", with_opt=with_opt)
        vocab = learn.dls.vocab  # of words only, or a pair of words and labels
        words = vocabulary(learn) if vocabulary else list(vocab if isinstance(vocab[0], str) else vocab[0])
        with (folder / "vocab.pkl").open("wb") as file:
            pickle.dump(words, file)
        found = labels_of(learn) if task in ("single-label", "multi-label") else []
        return Made(
            {"weights": "clas.pth", "vocabulary": "vocab.pkl"}, task, found, list(texts), predictions(learn, direction)
        )

    return written


def losses(learn: Any, direction: str) -> Callable[[Any], dict[str, Any]]:
    """Return a function for a language model's line: the mean loss per token in the order of reading."""

    def expect(text: Any) -> dict[str, Any]:
        tokens = learn.dls.tokenizer(text)
        ids = learn.dls.numericalize(tokens).tolist()
        read = torch.tensor([ids if direction == "forward" else ids[::-1]])
        learn.model.eval()
        learn.model.reset()
        with torch.no_grad():
            scores = learn.model(read)[0][0]
        loss = torch.nn.functional.cross_entropy(scores[:-1], read[0, 1:]).item() if len(ids) > 1 else None
        return {"ids": ids, "loss": loss}

    return expect


def states(learn: Any, direction: str) -> Callable[[Any], dict[str, Any]]:
    """Return a function for an encoder's line: its last state in the order of reading, and the mean of its states."""

    def expect(text: Any) -> dict[str, Any]:
        ids = learn.dls.numericalize(learn.dls.tokenizer(text)).tolist()
        encoder = learn.model[0].module if hasattr(learn.model[0], "module") else learn.model[0]
        encoder.eval()
        encoder.reset()
        with torch.no_grad():
            found = encoder(torch.tensor([ids if direction == "forward" else ids[::-1]]))[0]
        return {"ids": ids, "last_state": found[-1].tolist(), "mean_state": found.mean(dim=0).tolist()}

    return expect


def exported_language_model(make: Callable[[], Any], *, direction: str = "forward") -> Callable[[Path], Made]:
    """Return what makes an exported language model."""

    def written(folder: Path) -> Made:
        learn = make()
        learn.path = folder
        learn.export("export.pkl")
        return Made({"export": "export.pkl"}, "language-model", [], list(TEXTS), losses(learn, direction))

    return written


def saved_language_model(
    make: Callable[[], Any], *, direction: str = "forward", is_encoder: bool = False, vocabulary: Any = None
) -> Callable[[Path], Made]:
    """Return what makes a language model saved by `learn.save`, or an encoder by `save_encoder`, with its words."""

    def written(folder: Path) -> Made:
        learn = make()
        learn.path, learn.model_dir = folder, "."
        (learn.save_encoder if is_encoder else learn.save)("lm")
        vocab = learn.dls.vocab
        words = vocabulary(learn) if vocabulary else list(vocab if isinstance(vocab[0], str) else vocab[0])
        with (folder / "vocab.pkl").open("wb") as file:
            pickle.dump(words, file)
        expect = states(learn, direction) if is_encoder else losses(learn, direction)
        task = "encoder" if is_encoder else "language-model"
        return Made({"weights": "lm.pth", "vocabulary": "vocab.pkl"}, task, [], list(TEXTS), expect)

    return written


def in_notebook(thing: Any, name: str | None = None) -> Any:
    """Move a function or class to ``__main__``, as if it had been written in a notebook. Pickled by value."""
    name = name or thing.__name__
    thing.__module__, thing.__qualname__, thing.__name__ = "__main__", name, name
    setattr(sys.modules["__main__"], name, thing)
    return thing


def in_module(thing: Any, module: str, name: str | None = None) -> Any:
    """Move a function or class to a module of its own, as a user's file would hold it. Pickled by name."""
    name = name or thing.__name__
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        path = ".".join(parts[:count])
        if path not in sys.modules:
            sys.modules[path] = types.ModuleType(path)
            sys.modules[path].__path__ = []  # type: ignore[attr-defined]
    thing.__module__, thing.__qualname__, thing.__name__ = module, name, name
    setattr(sys.modules[module], name, thing)
    return thing


def scratch() -> Path:
    """Return a new temporary folder."""
    return Path(tempfile.mkdtemp(prefix="generator-"))
