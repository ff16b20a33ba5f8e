"""Kinds of learners of fastai 1.0.61 that are no exported classifiers: saved weights, encoders, language models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from making1 import (
    bunch,
    classifier,
    exported_language_model,
    fastai_text,
    kept,
    language_model,
    plain_bunch,
    quietly,
    saved_language_model,
    scratch,
    seed_all,
    weights,
)
from rows1 import BOTH, PRE
from table import Import, Learner, refused
from texts import TEXTS, rows_in, texts_in, training_rows
from tokens1 import copied_model, pieces

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
    data: Callable[[str], Any] = plain_bunch,
    texts: Any = TEXTS,
    task: str = "single-label",
    saved: dict[str, Any] | None = None,
    in_sample: bool = False,
    **options: Any,
) -> Iterator[Learner]:
    """Yield a classifier saved by `learn.save` for each direction."""
    for direction in ways:
        full = f"v1-{kind}-{name}-{direction}"

        def make(direction: str = direction, full: str = full) -> Any:
            return classifier(data(direction), full, texts=texts, **options)

        made = weights(make, direction=direction, task=task, texts=texts, **(saved or {}))
        yield Learner(full, kind, finding, what, made, imports, direction, in_sample and direction == ways[-1])


def in_language(language: str) -> Callable[[str], Any]:
    """Return a function that makes data tokenized by spaCy for a language."""

    def data(direction: str) -> Any:
        tokenizer = fastai_text.Tokenizer(lang=language)
        return bunch(rows=rows_in(language), tokenizer=tokenizer, backwards=direction == "backward")

    return data


def with_tokenizer(**options: Any) -> Callable[[str], Any]:
    """Return a function that makes data with options of the tokenizer."""

    def data(direction: str) -> Any:
        return bunch(tokenizer=fastai_text.Tokenizer(**options), backwards=direction == "backward")

    return data


def saved_classifiers() -> Iterator[Learner]:
    """Yield classifiers saved by `learn.save`, with what a user has to say of them."""
    said = (Import(options=SAID), Import("either", "language|tokenizer|rules|task", note="not asked of plain English"))
    yield from pth("pth", "plain", "plain", "learn.save, words pickled.", said, ways=BOTH, in_sample=True)
    yield from pth("pth", "with-opt", "plain", "With the optimizer.", (Import(options=SAID),), saved={"with_opt": True})
    whole = {"whole_model": True}
    yield from pth("pth", "whole-model", "plain", "torch.save(learn.model).", (Import(options=SAID),), saved=whole)
    vocab = {"vocabulary": lambda learn: learn.data.vocab}
    yield from pth("pth", "vocab-object", "plain", "The Vocab pickled.", (Import(options=SAID),), saved=vocab)
    unasked = Import("refused", "language|tokenizer", note="must be asked for")
    for language in ("de", "fr", "ru"):
        imports = (Import(options={"language": language}), unasked)
        ways = ("backward",) if language == "de" else ("forward",)
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
    yield from pth(
        "pth", "base-tokenizer", "E4", "BaseTokenizer.", base, data=with_tokenizer(tok_func=fastai_text.BaseTokenizer)
    )
    half = {"before": lambda learn: learn.model.half() and None}
    yield from pth("pth", "half", "E2", "Weights in half precision.", refused("half|float16"), saved=half)
    window = (Import("unknowable", options=SAID, note="bptt and max_len are not in the file"),)
    yield from pth("pth", "bptt", "E2", "bptt=50 and max_len=100.", window, bptt=50, max_len=100)
    rules = (Import("unknowable", options=SAID, note="the rules are not in the file"),)
    yield from pth("pth", "rules", "E4", "Two rules.", rules, data=with_tokenizer(pre_rules=[PRE[0], PRE[4]]))


def saved_pieces_and_tasks() -> Iterator[Learner]:
    """Yield saved classifiers whose words are pieces, and saved multi-label classifiers and regressions."""
    for name, given in {"unigram": {}, "bpe": {"model_type": "bpe"}}.items():

        def data(direction: str, name: str = name, given: Any = given) -> Any:
            return kept(f"pth-{name}-{direction}", lambda: pieces(direction, "en", **given))

        shown = "▁ in the vocabulary shows it"
        imports = (
            Import(options={"sentencepiece": "file:spm.model"}),
            Import("refused", "sentencepiece|▁", note=shown),
            Import("refused", "sentencepiece|▁", options=SAID, note=shown),
        )
        yield from pth(
            "pth-sentencepiece",
            name,
            "E4",
            f"Pieces of a model {name}.",
            imports,
            ways=BOTH,
            data=data,
            saved={"copied": copied_model},
        )
    tags = sorted({tag for cell in training_rows()["tags"] for tag in cell.split(";")})

    def several(direction: str) -> Any:
        return bunch(label_cols="tags", label_delim=";", backwards=direction == "backward")

    multi = (
        Import(options={**SAID, "task": "multi-label", "labels": tags}),
        Import("refused", "task|label", options={**SAID, "labels": None}),
    )
    yield from pth(
        "pth-tasks", "multi-label", "E4", "Several labels per text.", multi, data=several, task="multi-label"
    )

    def number(direction: str) -> Any:
        return bunch(label_cols="length", backwards=direction == "backward")

    single = (Import(options={**SAID, "task": "regression"}), Import("refused", "task|label", options=SAID))
    yield from pth(
        "pth-tasks", "regression", "E4", "A target that is a number.", single, data=number, task="regression"
    )


def language_models() -> Iterator[Learner]:
    """Yield language models and encoders, exported and saved."""
    variants: dict[str, dict[str, Any]] = {
        "plain": {},
        "untied": {"tie_weights": False},
        "no-bias": {"out_bias": False},
        "layers-1": {"n_layers": 1},
    }
    for name, config in variants.items():
        for direction in BOTH if name == "plain" else ("forward",):
            full = f"v1-language-models-{name}-{direction}"

            def make(direction: str = direction, full: str = full, config: Any = config) -> Any:
                cls = fastai_text.TextLMDataBunch
                key = f"lm-{direction}"
                data = kept(key, lambda: bunch(cls=cls, label_cols=None, bs=4, backwards=direction == "backward"))
                return language_model(data, full, config=config)

            yield from three_ways(full, f"A language model: {name}", make, expected(name), SAID, direction)


def expected(name: str) -> Import:
    """Return what is expected of a variant of a language model."""
    return Import("either", "tie|tied|decoder") if name == "untied" else Import()


def three_ways(
    full: str,
    what: str,
    make: Any,
    first: Import,
    said: dict[str, Any],
    direction: str,
    kind: str = "language-models",
    **more: Any,
) -> Iterator[Learner]:
    """Yield a language model exported and saved, and its encoder."""
    finding = "E6" if "sentencepiece" in full or "qrnn" in full else "plain"
    option = said if "sentencepiece" in full else {}
    exported = exported_language_model(make, direction=direction, **more)
    in_sample = full.endswith("plain-backward")
    one = Import(first.expect, first.cause, option)
    yield Learner(full, kind, finding, f"{what}, exported.", exported, (one,), direction, in_sample)
    one = Import(first.expect, first.cause, said)
    saved = saved_language_model(make, direction=direction, **more)
    yield Learner(f"{full}-pth", kind, finding, f"{what}, saved.", saved, (one,), direction)
    one = Import("exact" if first.expect == "either" else first.expect, first.cause, said)
    encoder = saved_language_model(make, direction=direction, is_encoder=True, **more)
    yield Learner(f"{full}-encoder", kind, finding, f"{what}, its encoder.", encoder, (one,), direction)


def lm_pieces(full: str, direction: str) -> Any:
    """Return data of a language model of pieces, in a folder of its own."""
    seed_all(7)
    place = scratch() / full
    place.mkdir(exist_ok=True)
    processor = fastai_text.SPProcessor(n_cpus=1, vocab_sz=300)
    items = fastai_text.TextList.from_df(training_rows(), place, cols="text", processor=[processor])
    labeled = quietly(items.split_by_rand_pct(0.1, seed=3).label_for_lm)
    return quietly(labeled.databunch, bs=4, num_workers=0, backwards=direction == "backward")


def language_models_of_pieces() -> Iterator[Learner]:
    """Yield language models and encoders whose words are pieces."""
    for direction in BOTH:
        full = f"v1-language-models-sentencepiece-{direction}"

        def make(direction: str = direction, full: str = full) -> Any:
            return language_model(lm_pieces(full, direction), full)

        said = {"sentencepiece": "file:spm.model"}
        yield from three_ways(full, "A language model of pieces", make, Import(), said, direction, copied=copied_model)


KINDS = (saved_classifiers, saved_pieces_and_tasks, language_models, language_models_of_pieces)
