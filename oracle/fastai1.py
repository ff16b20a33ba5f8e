"""fastai 1.0.61's own classes, running under Python 3.11, torch 2.13, numpy 2, pandas 3 and spaCy 3.8.

`load_fastai1()` returns the module `fastai.text` of 1.0.61. Nothing in the package is edited: every
class and function that trains, saves, exports, loads, tokenizes and predicts is the one in the wheel. A process can
hold fastai 1 or fastai 2, not both.

The shims, each the smallest that lets the package run, all applied before it is imported:

1. `pkg_resources` (gone from setuptools): a stand-in whose `require` accepts everything. Used for one check of
   fastprogress' version.
2. `numpy` as fastai 1 sees it (`OldNumpy`; the real numpy is left alone): the names `int` and `object`, taken
   out in numpy 1.24, and arrays of rows of unequal lengths, which numpy 1 made by itself, in
   `np.array` (lists of token ids) and `np.random.permutation` (batches, the last one shorter).
3. `spacy.blank`: the argument `disable`, gone in spaCy 3, is dropped (a blank pipeline has nothing to disable), and
   the pipeline of a language is made once. fastai 1 makes a new one, and adds its special cases, for each text that
   `predict` gets: 0.2 s per text. Adding the same special cases again changes nothing.
4. `torch.load`: `weights_only=False` by default, as it was up to torch 2.5.
5. `sentencepiece.SentencePieceTrainer.Train`, where it is installed: fastai 1 puts paths between quotation marks, which
   versions after 2020 take for a part of the path. They are taken out, and the trainer's log is turned off.

Not shimmed because it runs as it is: the data block, `TextList`, `TextLMDataBunch` and `TextClasDataBunch`,
`Learner.fit`, the optimizer wrapper, `WeightDropout` (it keeps nn.LSTM's `_flat_weights` itself),
AWD_LSTM, `save`, `save_encoder`, `export` and `load_learner`. Not stubbed either: the vision modules are never
imported by the text ones.

What differs from a run in 2019: spaCy's rules for a language are those of 3.8, not 2.x, so some texts split
differently; pickles name today's modules (`numpy._core`, not `numpy.core`) and hold today's attributes of torch's
classes. `legacy_files()` writes torch's older container, which is all that torch before 1.6 wrote.
"""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import functools
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def load_fastai1(folder: str | Path | None = None) -> types.ModuleType:
    """Import fastai 1.0.61 and return its module `fastai.text`.

    Args:
        folder: Where its wheel was unpacked; `fastai-1` in the oracle's environment by default. It may hold another
            version of fastai 1: those from 1.0.46 on are known to run.

    Returns:
        The module `fastai.text`, which has all names of a notebook's `from fastai.text import *`.

    Raises:
        RuntimeError: Another fastai is imported already, or the folder holds no fastai 1.
    """
    if "fastai" in sys.modules:
        raise RuntimeError("a fastai is imported already; fastai 1 needs a process of its own")
    sys.path.insert(0, str(folder or Path(sys.prefix) / "fastai-1"))

    import numpy as np
    import spacy
    import torch

    stand_in = types.ModuleType("pkg_resources")
    stand_in.require = lambda *requirements: None  # type: ignore[attr-defined]
    sys.modules.setdefault("pkg_resources", stand_in)
    spacy.blank = without_disable(spacy.blank)
    torch.load = with_pickles(torch.load)

    without_quotation_marks()
    for name in ("Iterable", "Iterator", "Mapping", "Sequence", "Collection", "Sized", "Callable"):
        if not hasattr(collections, name):  # versions before 1.0.60 import them from here, as up to Python 3.9
            setattr(collections, name, getattr(collections.abc, name))

    import fastai.imports.core

    fastai.imports.core.np = OldNumpy(np)  # every module of fastai 1 takes `np` from here, by a star import

    import fastai.text
    import fastai.version

    wanted = "1.0.61" if folder is None else "1.0."
    if not fastai.version.__version__.startswith(wanted):
        raise RuntimeError(f"{fastai.__file__} is fastai {fastai.version.__version__}, not {wanted}")
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    fastai.text.defaults.cpus = 1  # no worker processes: 1 for the tokenizer, 0 is passed to the loaders
    fastai.text.defaults.silent = True
    return fastai.text


def without_disable(blank: Callable[..., Any]) -> Callable[..., Any]:
    """Return `spacy.blank` its old argument `disable`, and make one pipeline a language."""
    made = functools.cache(blank)

    def old_blank(name: str, disable: object = None) -> Any:
        del disable
        return made(name)

    return old_blank


def with_pickles(load: Callable[..., Any]) -> Callable[..., Any]:
    """Return `torch.load` its old default, which reads any pickle: the files here are our own."""

    @functools.wraps(load)
    def old_load(*arguments: Any, **options: Any) -> Any:
        return load(*arguments, **{"weights_only": False, **options})

    return old_load


def without_quotation_marks() -> None:
    """Let sentencepiece, if it is installed, train with the paths that fastai 1 passes."""
    try:
        from sentencepiece import SentencePieceTrainer
    except ImportError:
        return
    train = SentencePieceTrainer.Train
    SentencePieceTrainer.Train = lambda arguments: train(arguments.replace('"', "") + " --minloglevel=2")


class OldNumpy(types.ModuleType):
    """numpy with what fastai 1 needs of numpy 1; everything else is numpy's own."""

    int, object = int, object

    def __init__(self, numpy: types.ModuleType) -> None:
        super().__init__("numpy")
        self._numpy = numpy
        self.random = OldRandom(numpy)

    def __getattr__(self, name: str) -> Any:
        """Return numpy's own."""
        return getattr(self._numpy, name)

    def array(self, rows: Any, dtype: Any = None, **options: Any) -> Any:
        """Make an array; of objects where the rows are of unequal lengths."""
        try:
            return self._numpy.array(rows, dtype=dtype, **options)
        except ValueError:
            if dtype is not None:
                raise
            return self._numpy.array(rows, dtype=object, **options)


class OldRandom(types.ModuleType):
    """numpy.random whose `permutation` takes rows of unequal lengths."""

    def __init__(self, numpy: types.ModuleType) -> None:
        super().__init__("numpy.random")
        self._numpy = numpy

    def __getattr__(self, name: str) -> Any:
        """Return numpy's own."""
        return getattr(self._numpy.random, name)

    def permutation(self, rows: Any) -> Any:
        """Shuffle the rows, drawing the same numbers as numpy 1."""
        if isinstance(rows, list) and len({len(row) for row in rows if hasattr(row, "__len__")}) > 1:
            return [rows[index] for index in self._numpy.random.permutation(len(rows))]
        return self._numpy.random.permutation(rows)


@contextlib.contextmanager
def legacy_files() -> Iterator[None]:
    """Let torch.save write the container that torch had before 1.6, for as long as the block runs."""
    import torch

    save = torch.save
    torch.save = functools.partial(save, _use_new_zipfile_serialization=False)
    try:
        yield
    finally:
        torch.save = save
