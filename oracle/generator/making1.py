"""Make learners of fastai 1.0.61 as users do, save them, and predict with what was saved."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import pickle
import random
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from fastai1 import load_fastai1
from scaling import spread, spread_language_model
from table import Made, seed_of
from texts import TEXTS, training_rows

fastai_text: Any = load_fastai1(os.environ.get("FASTAI1_FOLDER"))

SIZES = {"emb_sz": 16, "n_hid": 20, "n_layers": 2}
_kept: dict[str, Any] = {}


def quietly(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call without progress bars."""
    with contextlib.redirect_stdout(io.StringIO()):
        return call(*arguments, **options)


def seed_all(seed: int) -> None:
    """Seed everything that draws random numbers. `set_all_seed` does the same, in the versions that have it."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def parts(rows: Any) -> tuple[Any, Any]:
    """Return the training and validation rows."""
    return rows[rows.index % 10 != 0], rows[rows.index % 10 == 0]


def bunch(*, rows: Any = None, cls: Any = None, backwards: bool = False, **options: Any) -> Any:
    """Return data made by `TextClasDataBunch.from_df`."""
    seed_all(7)
    train, valid = parts(training_rows() if rows is None else rows)
    given = {"text_cols": "text", "label_cols": "label", "bs": 16, "num_workers": 0, **options}
    cls = cls or fastai_text.TextClasDataBunch
    return quietly(cls.from_df, scratch(), train, valid, backwards=backwards, **given)


def scratch() -> Path:
    """Return the temporary folder of this process."""
    import tempfile

    if "scratch" not in _kept:
        _kept["scratch"] = Path(tempfile.mkdtemp(prefix="generator-"))
    return _kept["scratch"]


def kept(key: str, make: Callable[[], Any]) -> Any:
    """Return data that several learners share."""
    if key not in _kept:
        _kept[key] = make()
    return _kept[key]


def plain_bunch(direction: str) -> Any:
    """Return the data of a plain classifier."""
    return kept(direction, lambda: bunch(backwards=direction == "backward"))


def reading(learn: Any, text: Any) -> Any:
    """Return the batch that `predict` makes of a text: ids in the order of reading, (1, length)."""
    return learn.data.one_item(text)[0]


def classifier(
    data: Any,
    name: str,
    *,
    config: dict[str, Any] | None = None,
    arch: Any = None,
    change: Callable[[Any], Any] | None = None,
    texts: Any = TEXTS,
    is_spread: bool = True,
    **options: Any,
) -> Any:
    """Return a classifier with random weights whose scores differ from text to text."""
    seed_all(seed_of(name))
    sizes = config if arch else {**fastai_text.awd_lstm_clas_config, **SIZES, **(config or {})}
    learn = fastai_text.text_classifier_learner(
        data, arch or fastai_text.AWD_LSTM, config=sizes, pretrained=False, **options
    )
    if change is not None:
        learn = change(learn) or learn
    if is_spread:
        spread(learn.model, [reading(learn, text) for text in texts if len(str(text)) < 2000 and text])
    return learn


def language_model(data: Any, name: str, *, config: Any = None, change: Any = None, **options: Any) -> Any:
    """Return a language model with random weights."""
    seed_all(seed_of(name))
    sizes = {**fastai_text.awd_lstm_lm_config, **SIZES, **(config or {})}
    learn = fastai_text.language_model_learner(data, fastai_text.AWD_LSTM, config=sizes, pretrained=False, **options)
    if change is not None:
        change(learn)
    spread_language_model(learn.model)
    return learn


def listed(value: Any) -> Any:
    """Return a value of fastai as JSON has it."""
    value = getattr(value, "obj", value)
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
        with torch.no_grad():  # 1.0.52 predicts with gradients, for which today's torch forbids a step of its QRNN
            label, _, scores = learn.predict(text)
        found = {"scores": [float(number) for number in scores.flatten()], "label": listed(label)}
        if isinstance(text, list):
            marks = learn.data.single_ds.x.processor[0].mark_fields
            found["joined"] = " ".join(
                [text[0], *(f"xxfld {n} {t}" if marks else t for n, t in enumerate(text[1:], 2))]
            )
        if not ids:
            return found
        read = reading(learn, text)[0].tolist()
        return {"ids": read if direction == "forward" else read[::-1], **found}

    return expect


def labels_of(learn: Any) -> list[Any]:
    """Return the labels of a learner in the order of its scores."""
    found = [value.item() if hasattr(value, "item") else value for value in getattr(learn.data, "classes", None) or []]
    return [label if isinstance(label, bool | int | float) else str(label) for label in found]


def export(
    make: Callable[[], Any],
    *,
    direction: str = "forward",
    task: str = "single-label",
    texts: Any = TEXTS,
    before: Callable[[Any], Any] | None = None,
    ids: bool = True,
    labels: Any = None,
    is_loaded: bool = True,
    loading: dict[str, Any] | None = None,
    copied: Callable[[Any, Path], dict[str, str]] | None = None,
) -> Callable[[Path], Made]:
    """Return what makes an exported classifier. Predictions are those of `load_learner` with the direction.

    Args:
        make: Returns the learner.
        direction: Direction in which it reads.
        task: What its outputs mean.
        texts: Texts to predict.
        before: Changes the finished learner before it is exported.
        ids: Whether to write ids.
        labels: Labels, if the learner does not show them.
        is_loaded: Whether predictions are those of `load_learner`; else those of the learner itself.
        loading: Options of `load_learner`.
        copied: Copies more files of the learner; returns their names.
    """

    def written(folder: Path) -> Made:
        learn = make()
        if before is not None:
            learn = before(learn) or learn
        learn.path = folder
        learn.export("export.pkl")
        more = {} if copied is None else copied(learn, folder)
        if is_loaded and "db_kwargs" in inspect.signature(fastai_text.load_learner).parameters:
            given = {"backwards": direction == "backward", **(loading or {})}
            learn = quietly(fastai_text.load_learner, folder, "export.pkl", **given)
        found = labels_of(learn) if labels is None else labels
        return Made(
            {"export": "export.pkl", **more},
            task,
            found if task in ("single-label", "multi-label") else [],
            list(texts),
            predictions(learn, direction, ids=ids),
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
    copied: Callable[[Any, Path], dict[str, str]] | None = None,
) -> Callable[[Path], Made]:
    """Return what makes a classifier saved by `learn.save`, with its words pickled."""

    def written(folder: Path) -> Made:
        learn = make()
        if before is not None:
            learn = before(learn) or learn
        learn.path, learn.model_dir = folder, "."
        if whole_model:
            torch.save(learn.model, folder / "clas.pth")
        else:
            learn.save("clas", with_opt=with_opt)
        words = vocabulary(learn) if vocabulary else learn.data.vocab.itos
        with (folder / "itos.pkl").open("wb") as file:
            pickle.dump(words, file)
        more = {} if copied is None else copied(learn, folder)
        found = labels_of(learn) if task in ("single-label", "multi-label") else []
        files = {"weights": "clas.pth", "vocabulary": "itos.pkl", **more}
        return Made(files, task, found, list(texts), predictions(learn, direction))

    return written


def ids_of(learn: Any, text: str) -> list[int]:
    """Return a text's ids as written, from the processors that `predict` uses."""
    found: Any = text
    for processor in learn.data.single_ds.x.processor:
        if type(processor).__name__ != "OpenFileProcessor":
            found = processor.process_one(found)
    return [int(number) for number in found]


def losses(learn: Any, direction: str) -> Callable[[Any], dict[str, Any]]:
    """Return a function for a language model's line: the mean loss per token in the order of reading."""

    def expect(text: Any) -> dict[str, Any]:
        ids = ids_of(learn, text)
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
        ids = ids_of(learn, text)
        encoder = learn.model[0].module if hasattr(learn.model[0], "module") else learn.model[0]
        encoder.eval()
        encoder.reset()
        with torch.no_grad():
            found = encoder(torch.tensor([ids if direction == "forward" else ids[::-1]]))[0][-1][0]
        return {"ids": ids, "last_state": found[-1].tolist(), "mean_state": found.mean(dim=0).tolist()}

    return expect


def exported_language_model(
    make: Callable[[], Any], *, direction: str = "forward", copied: Any = None
) -> Callable[[Path], Made]:
    """Return what makes an exported language model."""

    def written(folder: Path) -> Made:
        learn = make()
        learn.path = folder
        learn.export("export.pkl")
        more = {} if copied is None else copied(learn, folder)
        return Made({"export": "export.pkl", **more}, "language-model", [], list(TEXTS), losses(learn, direction))

    return written


def saved_language_model(
    make: Callable[[], Any], *, direction: str = "forward", is_encoder: bool = False, copied: Any = None
) -> Callable[[Path], Made]:
    """Return what makes a language model saved by `learn.save`, or an encoder by `save_encoder`, with its words."""

    def written(folder: Path) -> Made:
        learn = make()
        learn.path, learn.model_dir = folder, "."
        (learn.save_encoder if is_encoder else learn.save)("lm")
        with (folder / "itos.pkl").open("wb") as file:
            pickle.dump(learn.data.vocab.itos, file)
        more = {} if copied is None else copied(learn, folder)
        expect = states(learn, direction) if is_encoder else losses(learn, direction)
        task = "encoder" if is_encoder else "language-model"
        return Made({"weights": "lm.pth", "vocabulary": "itos.pkl", **more}, task, [], list(TEXTS), expect)

    return written


def placed(thing: Any, module: str, name: str | None = None) -> Any:
    """Move a function or class to a module: ``__main__`` for a notebook, or a name for a user's file."""
    name = name or thing.__name__
    pieces = module.split(".")
    for count in range(1, len(pieces) + 1):
        path = ".".join(pieces[:count])
        if path not in sys.modules:
            sys.modules[path] = types.ModuleType(path)
            sys.modules[path].__path__ = []  # type: ignore[attr-defined]
    thing.__module__, thing.__qualname__, thing.__name__ = module, name, name
    setattr(sys.modules[module], name, thing)
    return thing


def in_notebook(thing: Any, name: str | None = None) -> Any:
    """Move a function or class to ``__main__``, as if it had been written in a notebook."""
    return placed(thing, "__main__", name)
