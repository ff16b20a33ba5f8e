"""Kinds of learners of fastai 2: tokenizers of sentencepiece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import own2
from fastai.text.all import (
    SentencePieceTokenizer,
)
from fastai.text.core import fix_html, lowercase
from making2 import in_notebook, kept, loaders, scratch
from rows2 import BOTH, RULES, row
from table import EXACT, Learner, either, refused
from texts import rows_in, texts_in, training_rows


def of_pieces(
    name: str,
    what: str,
    imports: Any = EXACT,
    *,
    language: str = "en",
    ways: tuple[str, ...] = ("forward",),
    in_sample: bool = False,
    text: Any = None,
    **given: Any,
) -> Iterator[Learner]:
    """Yield learners with a tokenizer that fastai trains."""

    def data(direction: str) -> Any:
        def make() -> Any:
            options = {"vocab_sz": 300, "cache_dir": str(scratch()), **given}
            tokenizer = SentencePieceTokenizer(lang=language, **options)
            rows = rows_in(language) if language != "en" else None
            return loaders(
                rows=rows,
                text={"tok": tokenizer, "backwards": direction == "backward", "min_freq": 1, **(text or {})},
            )

        return kept(f"{name}-{direction}", make)

    return row(
        "sentencepiece",
        name,
        "E6",
        what,
        imports,
        data=data,
        ways=ways,
        texts=texts_in(language),
        in_sample=in_sample,
    )


def sentencepiece() -> Iterator[Learner]:
    """Yield tokenizers of sentencepiece."""
    yield from of_pieces("unigram", "A unigram model.", ways=BOTH, in_sample=True)
    yield from of_pieces("bpe", "A BPE model.", ways=BOTH, model_type="bpe", in_sample=True)
    for size in (120, 800):
        yield from of_pieces(f"unigram-{size}", f"vocab_sz={size}.", vocab_sz=size)
        yield from of_pieces(f"bpe-{size}", f"A BPE model with vocab_sz={size}.", vocab_sz=size, model_type="bpe")
    yield from of_pieces("unigram-default", "vocab_sz by fastai.", vocab_sz=None)
    yield from of_pieces("max-vocab-sz", "max_vocab_sz=200.", vocab_sz=None, max_vocab_sz=200)
    yield from of_pieces("char", "A model of characters.", either("char|model type"), model_type="char")
    yield from of_pieces("word", "A model of words.", either("word|model type"), model_type="word")
    yield from of_pieces("coverage", "char_coverage=0.98.", char_coverage=0.98)
    for language in ("de", "fr", "tr", "ru", "zh", "ja", "ko", "th", "hi", "ar", "pl"):
        ways = ("backward",) if language in ("de", "ja") else ("forward",)
        yield from of_pieces(
            f"language-{language}", f"Texts in {language}.", language=language, ways=ways, vocab_sz=400
        )
        if language in ("de", "ja", "tr"):
            yield from of_pieces(
                f"bpe-{language}",
                f"A BPE model of texts in {language}.",
                language=language,
                model_type="bpe",
                vocab_sz=400,
            )


def options_with_pieces() -> Iterator[Learner]:
    """Yield options of the text with tokenizers of sentencepiece."""
    yield from of_pieces("rules-subset", "With two rules.", text={"rules": [fix_html, lowercase]})
    yield from of_pieces("rules-none", "Without rules.", text={"rules": []})
    yield from of_pieces("rules-eos", "With add_eos.", text={"rules": [*RULES[:-1], partial(lowercase, add_eos=True)]})
    yield from of_pieces(
        "rules-own", "With an own rule.", refused("no_urls"), text={"rules": [own2.rule_in_notebook("no_urls"), *RULES]}
    )
    yield from of_pieces("min-freq", "min_freq=3: pieces without an id.", text={"min_freq": 3})
    yield from of_pieces("max-vocab", "max_vocab=100.", text={"max_vocab": 100})
    yield from of_pieces(
        "special-toks", "Three special tokens.", either("special|control"), special_toks=["xxunk", "xxpad", "xxbos"]
    )
    yield from of_pieces("two-columns", "Two columns.", text={"columns": ["subject", "text"]})


def trained(**options: Any) -> Callable[[str], Any]:
    """Return a function that makes data with a model that was trained without fastai."""

    def data(direction: str) -> Any:
        import sentencepiece as library

        place = scratch()
        (place / "texts.txt").write_text("\n".join(training_rows()["text"]), encoding="utf-8")
        given = {"input": str(place / "texts.txt"), "model_prefix": str(place / "own"), "minloglevel": 2}
        library.SentencePieceTrainer.train(**{**given, "vocab_size": 300, **options})
        tokenizer = SentencePieceTokenizer(sp_model=str(place / "own.model"), cache_dir=str(place))
        return loaders(text={"tok": tokenizer, "min_freq": 1, "backwards": direction == "backward"})

    return data


def given_models() -> Iterator[Learner]:
    """Yield models that fastai did not train, and a subclass of the tokenizer."""

    def one(name: str, what: str, imports: Any = EXACT, **options: Any) -> Iterator[Learner]:
        return row("sentencepiece", name, "E6", what, imports, data=trained(**options))

    yield from one("given", "sp_model trained without fastai.")
    yield from one(
        "given-options",
        "sp_model with byte_fallback, nfkc_cf, split_digits, without the dummy prefix.",
        either("sentencepiece"),
        vocab_size=500,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="nfkc_cf",
        add_dummy_prefix=False,
    )
    yield from one(
        "given-identity",
        "A BPE sp_model without normalization, spaces as suffix.",
        either("sentencepiece"),
        model_type="bpe",
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        treat_whitespace_as_suffix=True,
    )

    class Own(SentencePieceTokenizer):
        def __call__(self, items):
            return ([piece.strip("▁") or "▁" for piece in pieces] for pieces in super().__call__(items))

    def own_class(direction: str) -> Any:
        made = in_notebook(Own, "SentencePieceTokenizer")
        return loaders(text={"tok": made(vocab_sz=300, cache_dir=str(scratch())), "min_freq": 1})

    yield from row(
        "sentencepiece",
        "subclass",
        "E1",
        "A subclass of SentencePieceTokenizer with its name.",
        refused("__main__|SentencePieceTokenizer"),
        data=own_class,
    )


KINDS = (sentencepiece, options_with_pieces, given_models)
