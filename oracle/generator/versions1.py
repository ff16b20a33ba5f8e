"""Learners of other versions of fastai 1: python versions1.py OUT [PATTERN ...]; FASTAI1_FOLDER names the version.

Each kind in both directions: spaCy's tokenizer, two languages, several labels, a regression, saved weights, a language
model, and sentencepiece where the version has it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from making1 import bunch, classifier, export, exported_language_model, fastai_text, kept, language_model, weights
from table import EXACT, Import, Learner, generate, refused
from texts import TEXTS
from tokens1 import copied_model, pieces

VERSION = sys.modules["fastai.version"].__version__
KIND = f"fastai {VERSION}"


def learners() -> Iterator[Learner]:
    """Yield the learners of this version."""
    for direction in ("forward", "backward"):
        backwards = direction == "backward"
        for name, task, options in (
            ("plain", "single-label", {}),
            ("fields", "single-label", {"mark_fields": True}),
            ("german", "single-label", {"tokenizer": fastai_text.Tokenizer(lang="de")}),
            ("multi-label", "multi-label", {"label_cols": "tags", "label_delim": ";"}),
            ("regression", "regression", {"label_cols": "length"}),
        ):
            full = f"v1-versions-{VERSION}-{name}-{direction}"

            def made(full: str = full, options: Any = options, backwards: bool = backwards) -> Any:
                return classifier(bunch(backwards=backwards, **options), full)

            yield Learner(full, KIND, "plain", name, export(made, direction=direction, task=task), EXACT, direction)
            if name == "plain":
                imports = (Import(options={"language": "en"}),)
                yield Learner(
                    f"{full}-pth", KIND, "plain", "Saved.", weights(made, direction=direction), imports, direction
                )
        full = f"v1-versions-{VERSION}-language-model-{direction}"

        def model(direction: str = direction, full: str = full) -> Any:
            cls = fastai_text.TextLMDataBunch
            key = f"lm-{direction}"
            data = kept(key, lambda: bunch(cls=cls, label_cols=None, bs=4, backwards=direction == "backward"))
            return language_model(data, full)

        made_model = exported_language_model(model, direction=direction)
        yield Learner(full, KIND, "plain", "A language model.", made_model, EXACT, direction)
        if hasattr(fastai_text, "SPProcessor"):
            yield sentencepiece(direction)
        yield from qrnns(direction)


def sentencepiece(direction: str) -> Learner:
    """Return a classifier of pieces."""
    full = f"v1-versions-{VERSION}-sentencepiece-{direction}"
    made = export(lambda: classifier(pieces(direction, "en"), full), direction=direction, copied=copied_model)
    imports = (Import(options={"sentencepiece": "file:spm.model"}),)
    return Learner(full, KIND, "E6", "A model of pieces.", made, imports, direction)


def qrnns(direction: str) -> Iterator[Learner]:
    """Yield classifiers of QRNNs, exported and saved, and a language model.

    1.0.46 can't predict with a QRNN on a CPU. 1.0.52 has a list of layers, but forgets the last token of a window.
    """
    version = tuple(int(number) for number in VERSION.split(".")[:3])
    full, config = f"v1-versions-{VERSION}-qrnn-{direction}", {"qrnn": True}
    texts: Any = TEXTS if version >= (1, 0, 50) else ()

    def made() -> Any:
        data = bunch(backwards=direction == "backward")
        return classifier(data, full, config=config, texts=texts, is_spread=bool(texts))

    made_export = export(made, direction=direction, texts=texts)
    if version < (1, 0, 53):
        imports = refused("1.0.49 or older" if version < (1, 0, 50) else "save_prev_x")
        yield Learner(full, KIND, "E6", "qrnn=True.", made_export, imports, direction)
    else:
        yield Learner(full, KIND, "E6", "qrnn=True.", made_export, EXACT, direction)
    if not texts:
        return
    expect = "exact" if version >= (1, 0, 53) else "unknowable"
    imports = (Import(expect, options={"language": "en"}),)
    yield Learner(
        f"{full}-pth", KIND, "E6", "qrnn=True, saved.", weights(made, direction=direction), imports, direction
    )
    full_lm = f"{full}-language-model"

    def model() -> Any:
        cls = fastai_text.TextLMDataBunch
        data = bunch(cls=cls, label_cols=None, bs=4, backwards=direction == "backward")
        return language_model(data, full_lm, config=config)

    made_model = exported_language_model(model, direction=direction)
    yield Learner(full_lm, KIND, "E6", "A language model of QRNNs.", made_model, EXACT, direction)


def main() -> None:
    """Make the learners whose names match."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    generate(learners(), Path(sys.argv[1]), VERSION, sys.argv[2:])


if __name__ == "__main__":
    main()
