"""Kinds of learners of fastai 2 that are no exported classifiers: saved weights, encoders and language models."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fastai.text.all import (
    BaseTokenizer,
    MultiCategoryBlock,
    RegressionBlock,
    SentencePieceTokenizer,
    SpacyTokenizer,
    replace_rep,
)
from fastai.text.core import fix_html, lowercase
from making2 import (
    classifier,
    exported_language_model,
    kept,
    language_model,
    loaders,
    plain_loaders,
    saved_language_model,
    scratch,
    text_block,
    weights,
)
from rows2 import BOTH, RULES
from table import EXACT, Import, Learner, Made, refused
from texts import TEXTS, rows_in, texts_in, training_rows

SAID = {"language": "en"}
"""What a user says of a plain .pth file."""


def pth(
    kind: str,
    name: str,
    finding: str,
    what: str,
    imports: tuple[Import, ...],
    *,
    ways: tuple[str, ...] = ("forward",),
    data: Callable[[str], Any] = plain_loaders,
    texts: Any = TEXTS,
    task: str = "single-label",
    saved: dict[str, Any] | None = None,
    with_model: bool = False,
    in_sample: bool = False,
    **options: Any,
) -> Iterator[Learner]:
    """Yield a classifier saved by `learn.save` for each direction."""
    for direction in ways:
        full = f"v2-{kind}-{name}-{direction}"

        def make(direction: str = direction, full: str = full) -> Any:
            return classifier(data(direction), full, direction=direction, texts=texts, **options)

        made = weights(make, direction=direction, task=task, texts=texts, **(saved or {}))
        if with_model:
            made = with_sentencepiece(made, full)
        yield Learner(full, kind, finding, what, made, imports, direction, in_sample and direction == ways[-1])


_tokenizers: dict[str, Any] = {}


def with_sentencepiece(made: Callable[[Path], Made], name: str) -> Callable[[Path], Made]:
    """Return what also writes the model of sentencepiece next to the learner's files."""

    def written(folder: Path) -> Made:
        found = made(folder)
        (folder / "spm.model").write_bytes(_tokenizers[name].tok.serialized_model_proto())
        found.files["sentencepiece"] = "spm.model"
        return found

    return written


def of_sentencepiece(name: str, **given: Any) -> Callable[[str], Any]:
    """Return a function that makes data tokenized by sentencepiece."""

    def data(direction: str) -> Any:
        tokenizer = SentencePieceTokenizer(cache_dir=str(scratch()), **{"vocab_sz": 300, **given})
        _tokenizers[f"{name}-{direction}"] = tokenizer
        return loaders(text={"tok": tokenizer, "min_freq": 1, "backwards": direction == "backward"})

    return data


def in_language(language: str) -> Callable[[str], Any]:
    """Return a function that makes data tokenized by spaCy for a language."""

    def data(direction: str) -> Any:
        tokenizer = SpacyTokenizer(language)
        return loaders(rows=rows_in(language), text={"tok": tokenizer, "backwards": direction == "backward"})

    return data


def with_text(**text: Any) -> Callable[[str], Any]:
    """Return a function that makes data with options of the text."""

    def data(direction: str) -> Any:
        return loaders(text={**text, "backwards": direction == "backward"})

    return data


def saved_classifiers() -> Iterator[Learner]:
    """Yield classifiers saved by `learn.save`, with what a user has to say of them."""
    said = (Import(options=SAID), Import("either", "language|tokenizer|rules|task", note="not asked of plain English"))
    yield from pth("pth", "plain", "plain", "learn.save, words pickled.", said, ways=BOTH, in_sample=True)
    yield from pth("pth", "with-opt", "plain", "With the optimizer.", (Import(options=SAID),), saved={"with_opt": True})
    yield from pth(
        "pth", "whole-model", "plain", "torch.save(learn.model).", (Import(options=SAID),), saved={"whole_model": True}
    )
    pair = {"vocabulary": lambda learn: learn.dls.vocab}
    without_labels = (Import(options={**SAID, "labels": None}), Import(options=SAID))
    yield from pth("pth", "pair", "plain", "dls.vocab pickled whole.", without_labels, saved=pair)
    missing = (
        Import("refused", "label", options={**SAID, "labels": None}),
        Import("refused", "label", options={**SAID, "labels": ["a", "b"]}),
    )
    yield from pth("pth", "labels-missing", "E4", "Labels that are missing or too few.", missing)
    other_vocabulary = {"vocabulary": lambda learn: list(learn.dls.vocab[0])[:-9]}
    yield from pth(
        "pth",
        "vocabulary-short",
        "E4",
        "A vocabulary that is too short.",
        refused("vocabulary|words"),
        saved=other_vocabulary,
    )
    longer = {"vocabulary": lambda learn: [*learn.dls.vocab[0], "more"]}
    yield from pth(
        "pth", "vocabulary-long", "E4", "A vocabulary that is too long.", refused("vocabulary|words"), saved=longer
    )
    numericalize = {"vocabulary": lambda learn: learn.dls.numericalize}
    yield from pth(
        "pth",
        "numericalize",
        "plain",
        "The Numericalize transform pickled.",
        (Import("either", "vocabulary|words", options=SAID),),
        saved=numericalize,
    )
    yield from pth(
        "pth",
        "sizes",
        "plain",
        "Other sizes.",
        (Import(options=SAID),),
        config={"n_layers": 3, "n_hid": 33},
        lin_ftrs=[20, 10],
    )


def unclear_classifiers() -> Iterator[Learner]:
    """Yield saved classifiers whose file does not show everything."""
    unasked = Import("refused", "language|tokenizer", note="must be asked for")
    for language in ("de", "fr", "tr", "ru"):
        ways = ("backward",) if language == "de" else ("forward",)
        imports = (Import(options={"language": language}), unasked)
        yield from pth(
            "pth",
            f"language-{language}",
            "E4",
            f"Words of {language}.",
            imports,
            ways=ways,
            data=in_language(language),
            texts=texts_in(language),
        )
    shown = "the vocabulary shows it"
    base = (Import(options={"tokenizer": "split"}), Import("refused", "tokenizer", options=SAID, note=shown), unasked)
    yield from pth("pth", "base-tokenizer", "E4", "BaseTokenizer.", base, data=with_text(tok=BaseTokenizer(" ")))
    half = {"before": lambda learn: learn.model.half() and None}
    yield from pth("pth", "half", "E2", "Weights in half precision.", refused("half|float16"), saved=half)
    window = (Import("unknowable", options=SAID, note="windows and max_len are not in the file"),)
    yield from pth("pth", "bptt", "E2", "seq_len=50 and max_len=100.", window, seq_len=50, max_len=100)
    yield from pth(
        "pth",
        "y-range",
        "E4",
        "y_range in a classifier.",
        (Import("unknowable", options=SAID, note="y_range is not in the file"),),
        y_range=(-2, 2),
    )
    yield from pth(
        "pth",
        "loss",
        "E3",
        "A loss without an activation.",
        (Import("unknowable", options=SAID, note="the loss is not in the file"),),
        loss_func=plain_cross_entropy(),
    )
    yield from pth(
        "pth",
        "bidir",
        "E1",
        "bidir=True.",
        (Import("refused", "bidir|both|revers", options=SAID),),
        config={"bidir": True},
    )


def plain_cross_entropy() -> Any:
    """Return a loss of torch."""
    from torch import nn

    return nn.CrossEntropyLoss()


def saved_with_rules() -> Iterator[Learner]:
    """Yield classifiers saved by `learn.save` with other rules, which only the user can know."""
    lists = {
        "subset": [fix_html, lowercase],
        "reordered": [replace_rep, fix_html, lowercase],
        "without-fix-html": RULES[1:],
        "none": [],
    }
    for name, rules in lists.items():
        names = [rule.__name__ for rule in rules]
        imports = (
            Import(options={**SAID, "rules": names}),
            Import("unknowable", options=SAID, note="the rules are not in the file"),
        )
        yield from pth("pth-rules", name, "E4", f"The rules {names}.", imports, data=with_text(rules=rules))


def saved_with_sentencepiece() -> Iterator[Learner]:
    """Yield classifiers saved by `learn.save` whose words are pieces."""
    unasked = Import("refused", "sentencepiece|▁", note="▁ in the vocabulary shows it")
    english = Import("refused", "sentencepiece|▁", options=SAID, note="▁ in the vocabulary shows it")
    for name, given in {"unigram": {}, "bpe": {"model_type": "bpe"}}.items():
        full = f"v2-pth-sentencepiece-{name}"
        imports = (Import(options={"sentencepiece": "file:spm.model"}), unasked, english)
        yield from pth(
            "pth-sentencepiece",
            name,
            "E4",
            f"Pieces of a model {name}.",
            imports,
            ways=BOTH,
            data=of_sentencepiece(full, **given),
            with_model=True,
            in_sample=name == "unigram",
        )


def saved_tasks() -> Iterator[Learner]:
    """Yield multi-label classifiers and regressions saved by `learn.save`."""
    tags = sorted({tag for cell in training_rows()["tags"] for tag in cell.split(";")})

    def several(direction: str) -> Any:
        return loaders(
            block=MultiCategoryBlock, label="tags", label_delim=";", text={"backwards": direction == "backward"}
        )

    multi = (
        Import(options={**SAID, "task": "multi-label", "labels": tags}),
        Import("refused", "task|label", options={**SAID, "labels": None}),
        Import("unknowable", options={**SAID, "labels": tags}, note="the task is not in the file"),
    )
    yield from pth(
        "pth-tasks", "multi-label", "E4", "Several labels per text.", multi, ways=BOTH, data=several, task="multi-label"
    )
    for name, label, given in (("regression", "length", {"n_out": 1}), ("regression-two", ["length", "words"], {})):

        def numbers(direction: str, label: Any = label) -> Any:
            return loaders(block=RegressionBlock, label=label, text={"backwards": direction == "backward"})

        imports = (
            Import(options={**SAID, "task": "regression", "y_range": "none"}),
            Import("refused", "y_range", options={**SAID, "task": "regression"}),
            Import("refused", "task|label", options=SAID),
        )
        yield from pth(
            "pth-tasks", name, "E4", "Targets that are numbers.", imports, data=numbers, task="regression", **given
        )


def language_model_loaders(direction: str, **text: Any) -> Any:
    """Return data loaders of a language model."""
    from fastai.text.all import ColReader, DataBlock, RandomSplitter, set_seed

    set_seed(7, reproducible=True)
    block = text_block(is_lm=True, backwards=direction == "backward", **text)
    made = DataBlock(blocks=block, get_x=ColReader("text"), splitter=RandomSplitter(0.1, seed=3))
    return made.dataloaders(training_rows(), bs=4, num_workers=0, seq_len=20)


def language_models() -> Iterator[Learner]:
    """Yield language models and encoders, exported and saved."""
    variants: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "plain": ({}, {}),
        "untied": ({"tie_weights": False}, {}),
        "no-bias": ({"out_bias": False}, {}),
        "untied-no-bias": ({"out_bias": False, "tie_weights": False}, {}),
        "layers-1": ({"n_layers": 1}, {}),
        "layers-4": ({"n_layers": 4, "n_hid": 25}, {}),
        "dropouts-0": ({"output_p": 0.0, "hidden_p": 0.0, "input_p": 0.0, "embed_p": 0.0, "weight_p": 0.0}, {}),
        "rules": ({}, {"rules": [fix_html, lowercase]}),
        "bidir": ({"bidir": True}, {}),
    }
    for name, (config, text) in variants.items():
        ways = BOTH if name == "plain" else ("forward",)
        for direction in ways:
            full = f"v2-language-models-{name}-{direction}"

            def make(direction: str = direction, full: str = full, config: Any = config, text: Any = text) -> Any:
                key = f"lm-{direction}-{sorted(text)}"
                data = kept(key, lambda: language_model_loaders(direction, **text))
                return language_model(data, full, direction=direction, config=config)

            imports = refused("bidir|both|revers|untied|decoder") if name == "bidir" else EXACT
            if "untied" in name:
                imports = (Import("either", "tie|tied|decoder"),)
            kind = "language-models"
            yield Learner(
                full,
                kind,
                "plain",
                f"A language model, exported: {name}.",
                exported_language_model(make, direction=direction),
                imports,
                direction,
                name == "plain" and direction == "backward",
            )
            if name in ("plain", "untied", "layers-4"):
                said = tuple(Import(each.expect, each.cause, SAID) for each in imports)
                yield Learner(
                    f"{full}-pth",
                    kind,
                    "plain",
                    f"A language model, saved: {name}.",
                    saved_language_model(make, direction=direction),
                    said,
                    direction,
                )
                encoder = (Import(options=SAID),)
                yield Learner(
                    f"{full}-encoder",
                    kind,
                    "plain",
                    f"An encoder: {name}.",
                    saved_language_model(make, direction=direction, is_encoder=True),
                    encoder,
                    direction,
                )


def language_models_of_pieces() -> Iterator[Learner]:
    """Yield language models and encoders whose words are pieces."""
    for name, given in {"unigram": {}, "bpe": {"model_type": "bpe"}}.items():
        for direction in BOTH:
            full = f"v2-language-models-sentencepiece-{name}-{direction}"

            def make(direction: str = direction, full: str = full, given: Any = given) -> Any:
                tokenizer = SentencePieceTokenizer(cache_dir=str(scratch()), **{"vocab_sz": 300, **given})
                _tokenizers[full] = tokenizer
                data = language_model_loaders(direction, tok=tokenizer, min_freq=1)
                return language_model(data, full, direction=direction)

            kind = "language-models-sentencepiece"
            what = f"A language model of pieces, {name}"
            yield Learner(
                full,
                kind,
                "E6",
                f"{what}, exported.",
                exported_language_model(make, direction=direction),
                EXACT,
                direction,
            )
            imports = (Import(options={"sentencepiece": "file:spm.model"}), Import("refused", "sentencepiece|▁"))
            for is_encoder in (False, True):
                end = "encoder" if is_encoder else "pth"
                made = with_sentencepiece(saved_language_model(make, direction=direction, is_encoder=is_encoder), full)
                yield Learner(f"{full}-{end}", kind, "E6", f"{what}, saved.", made, imports, direction)


def archives_and_wrong_files() -> Iterator[Learner]:
    """Yield files that are not what they are given for."""

    def vocabulary_only(folder: Path) -> Made:
        with (folder / "vocab.pkl").open("wb") as file:
            pickle.dump(["xxunk", "xxpad", "xxbos", "the"], file)
        return Made({"export": "vocab.pkl"}, "single-label", [], [], lambda text: {})

    yield Learner(
        "v2-other-files-vocabulary",
        "other-files",
        "E1",
        "A vocabulary instead of a model.",
        vocabulary_only,
        refused("vocab|model"),
    )

    def data_only(folder: Path) -> Made:
        import torch

        torch.save(
            plain_loaders("forward"), folder / "dls.pkl", pickle_protocol=2, pickle_module=__import__("cloudpickle")
        )
        return Made({"export": "dls.pkl"}, "single-label", [], [], lambda text: {})

    yield Learner(
        "v2-other-files-dls",
        "other-files",
        "E1",
        "torch.save(dls) instead of a model.",
        data_only,
        refused("model|learner|export"),
    )

    def pickled_learner(folder: Path) -> Made:
        import cloudpickle

        learn = classifier(plain_loaders("forward"), "v2-other-files-pickled")
        with (folder / "learner.pkl").open("wb") as file:
            cloudpickle.dump(learn, file)
        from making2 import labels_of, predictions, quiet

        return Made(
            {"export": "learner.pkl"},
            "single-label",
            labels_of(learn),
            list(TEXTS),
            predictions(quiet(learn), "forward"),
        )

    yield Learner(
        "v2-other-files-pickled",
        "other-files",
        "plain",
        "A learner pickled by cloudpickle, with its data.",
        pickled_learner,
        (Import("either", "pickle|export|torch"),),
    )


KINDS = (
    saved_classifiers,
    unclear_classifiers,
    saved_with_rules,
    saved_with_sentencepiece,
    saved_tasks,
    language_models,
    language_models_of_pieces,
    archives_and_wrong_files,
)
