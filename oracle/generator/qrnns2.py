"""Kinds of learners of fastai 2.1 to 2.3: encoders of QRNNs, which later versions do not have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import qrnns
from making2 import (
    SIZES,
    classifier,
    export,
    exported_language_model,
    language_model,
    loaders,
    plain_loaders,
    saved_language_model,
    weights,
)
from table import Import, Learner, refused

SAID = {"language": "en"}


def learners(version: str, pieces: Callable[[bool], Any], lm_data: Callable[[str], Any]) -> Iterator[Learner]:
    """Yield the learners of a version.

    Args:
        version: Version of fastai.
        pieces: Returns data tokenized by sentencepiece, of a direction.
        lm_data: Returns data of a language model, of a direction.
    """
    for direction in ("forward", "backward"):
        yield from classifiers(version, direction, pieces)
        yield from language_models(version, direction, lm_data)


def classifiers(version: str, direction: str, pieces: Callable[[bool], Any]) -> Iterator[Learner]:
    """Yield exported and saved classifiers."""
    from fastai.text.all import AWD_QRNN, awd_qrnn_clas_config

    backwards = direction == "backward"
    exact: tuple[Import, ...] = (Import(),)
    for name, data, options, imports in (
        ("qrnn", plain, {}, exact),
        ("qrnn-layers-1", plain, {"config": {"n_layers": 1}}, exact),
        ("qrnn-bptt-7", lambda _: loaders(text={"backwards": backwards}, seq_len=7), {"seq_len": 7}, exact),
        ("qrnn-no-gate", plain, {"change": qrnns.remade(output_gate=False)}, exact),
        ("qrnn-window-1", plain, {"change": qrnns.remade(windows=[1, 1])}, exact),
        ("qrnn-forgetful", plain, {"change": qrnns.remade(save_prev_x=False)}, refused("save_prev_x")),
        ("qrnn-bidir", plain, {"config": {"bidir": True}}, refused("n_dir|directions")),
        ("qrnn-multifit", lambda _: pieces(backwards), {"config": qrnns.MULTIFIT}, exact),
    ):
        full = f"v2-versions-{version}-{name}-{direction}"

        def made(full: str = full, data: Any = data, options: dict[str, Any] = options) -> Any:
            config = {**awd_qrnn_clas_config, **SIZES, **options.get("config", {})}
            return classifier(
                data(direction), full, direction=direction, arch=AWD_QRNN, **{**options, "config": config}
            )

        in_sample = name in ("qrnn", "qrnn-multifit") and backwards
        what, kind = f"AWD_QRNN: {name}", f"fastai {version} QRNN"
        yield Learner(full, kind, "E6", what, export(made, direction=direction), imports, direction, in_sample)
        if name in ("qrnn", "qrnn-no-gate"):
            said = (Import(options=SAID),)
            saved = weights(made, direction=direction)
            yield Learner(f"{full}-pth", kind, "E6", f"{what}, saved.", saved, said, direction)


def language_models(version: str, direction: str, lm_data: Callable[[str], Any]) -> Iterator[Learner]:
    """Yield a language model, exported and saved, and its encoder."""
    from fastai.text.all import AWD_QRNN

    full = f"v2-versions-{version}-qrnn-language-model-{direction}"
    what, kind = "A language model of QRNNs", f"fastai {version} QRNN"

    def model() -> Any:
        config = qrnns.MULTIFIT if direction == "forward" else {}
        return language_model(lm_data(direction), full, direction=direction, arch=AWD_QRNN, config=config)

    exported = exported_language_model(model, direction=direction)
    yield Learner(full, kind, "E6", f"{what}.", exported, (Import(),), direction)
    for name, is_encoder in (("pth", False), ("encoder", True)):
        saved = saved_language_model(model, direction=direction, is_encoder=is_encoder)
        yield Learner(f"{full}-{name}", kind, "E6", f"{what}: {name}.", saved, (Import(options=SAID),), direction)


def plain(direction: str) -> Any:
    """Return the data of a plain classifier."""
    return plain_loaders(direction)
