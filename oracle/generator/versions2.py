"""Learners of other versions of fastai 2: python versions2.py OUT [PATTERN ...], with the version on PYTHONPATH.

Each kind in both directions: spaCy's tokenizer, sentencepiece, BaseTokenizer, several labels, a regression, label
smoothing, saved weights and a language model. What a version does not have is left out.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fastai
import qrnns2
import spacy
import torch
from fastai.text import all as fastai_text
from fastai.text.all import (
    BaseTokenizer,
    LabelSmoothingCrossEntropyFlat,
    MultiCategoryBlock,
    RegressionBlock,
    SentencePieceTokenizer,
    TextDataLoaders,
    set_seed,
)
from fastai1 import with_pickles, without_disable
from making2 import (
    SIZES,
    classifier,
    export,
    exported_language_model,
    kept,
    language_model,
    loaders,
    plain_loaders,
    scratch,
    text_block,
    weights,
)
from table import EXACT, Import, Learner, generate
from texts import training_rows

VERSION = fastai.__version__
KIND = f"fastai {VERSION}"


def learners() -> Iterator[Learner]:
    """Yield the learners of this version."""
    if hasattr(fastai_text, "AWD_QRNN"):
        yield from qrnns2.learners(VERSION, pieces, language_model_data)
    for direction in ("forward", "backward"):
        for name, task, make in makers(direction):
            full = f"v2-versions-{VERSION}-{name}-{direction}"

            def made(full: str = full, make: Any = make, direction: str = direction) -> Any:
                data, options = make()
                return classifier(data, full, direction=direction, **options)

            yield Learner(full, KIND, "plain", name, export(made, direction=direction, task=task), EXACT, direction)
            if name == "plain":
                imports = (Import(options={"language": "en"}),)
                yield Learner(
                    f"{full}-pth", KIND, "plain", "Saved.", weights(made, direction=direction), imports, direction
                )
        full = f"v2-versions-{VERSION}-language-model-{direction}"

        def model(direction: str = direction, full: str = full) -> Any:
            return language_model(language_model_data(direction), full, direction=direction)

        yield Learner(
            full,
            KIND,
            "plain",
            "A language model.",
            exported_language_model(model, direction=direction),
            EXACT,
            direction,
        )


def makers(direction: str) -> Iterator[tuple[str, str, Any]]:
    """Yield name, task and what returns data and options of a classifier."""
    backwards = direction == "backward"
    yield "plain", "single-label", lambda: (plain_loaders(direction), {})
    yield "label-smoothing", "single-label", lambda: (plain_loaders(direction), {"loss_func": smoothing()})
    yield (
        "base-tokenizer",
        "single-label",
        lambda: (loaders(text={"tok": BaseTokenizer(" "), "backwards": backwards}), {}),
    )
    several = {"block": MultiCategoryBlock, "label": "tags", "label_delim": ";"}
    yield "multi-label", "multi-label", lambda: (loaders(text={"backwards": backwards}, **several), {})
    number = {"block": RegressionBlock, "label": "length"}
    yield (
        "regression",
        "regression",
        lambda: (loaders(text={"backwards": backwards}, **number), {"n_out": 1, "y_range": (0, 9)}),
    )
    yield "sentencepiece", "single-label", lambda: (pieces(backwards), {})
    yield (
        "factory",
        "single-label",
        lambda: (factory(backwards), {"lin_ftrs": [20, 10], "config": {**SIZES, "n_layers": 3}}),
    )


def smoothing() -> Any:
    """Return label smoothing, without the annotations of today's torch, which old versions copy and can't pickle."""
    loss = LabelSmoothingCrossEntropyFlat()
    if "__annotations__" in vars(loss):
        loss.__annotations__ = {}
    return loss


def pieces(backwards: bool) -> Any:
    """Return data tokenized by sentencepiece."""
    tokenizer = SentencePieceTokenizer(vocab_sz=300, cache_dir=str(scratch()))
    return loaders(text={"tok": tokenizer, "min_freq": 1, "backwards": backwards})


def factory(backwards: bool) -> Any:
    """Return data made by TextDataLoaders."""
    set_seed(7, reproducible=True)
    options = {"text_col": "text", "label_col": "label", "backwards": backwards, "seed": 3, "bs": 16, "num_workers": 0}
    return TextDataLoaders.from_df(training_rows(), **options)


def language_model_data(direction: str) -> Any:
    """Return data of a language model."""
    from fastai.text.all import ColReader, DataBlock, RandomSplitter

    def make() -> Any:
        set_seed(7, reproducible=True)
        block = text_block(is_lm=True, backwards=direction == "backward")
        made = DataBlock(blocks=block, get_x=ColReader("text"), splitter=RandomSplitter(0.1, seed=3))
        return made.dataloaders(training_rows(), bs=4, num_workers=0, seq_len=20)

    return kept(f"lm-{direction}", make)


def main() -> None:
    """Make the learners whose names match."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torch.load, spacy.blank = with_pickles(torch.load), without_disable(spacy.blank)
    generate(learners(), Path(sys.argv[1]), VERSION, sys.argv[2:])


if __name__ == "__main__":
    main()
