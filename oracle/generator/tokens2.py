"""Kinds of learners of fastai 2: rules, languages, tokenizers and vocabularies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import own2
from fastai.text.all import (
    BaseTokenizer,
    L,
    SpacyTokenizer,
    TextBlock,
    Tokenizer,
    WordTokenizer,
    defaults,
    replace_all_caps,
    replace_maj,
    replace_rep,
    replace_wrep,
    rm_useless_spaces,
    spec_add_spaces,
)
from fastai.text.core import fix_html, lowercase
from making2 import in_notebook, loaders
from rows2 import BOTH, RULES, row
from table import EXACT, Import, Learner, either, refused
from texts import LANGUAGES, NEED_LIBRARIES, rows_in, texts_in


def with_rules(
    name: str, given: Callable[[], Any], finding: str, what: str, imports: tuple[Import, ...], **more: Any
) -> Iterator[Learner]:
    """Yield learners with a list of rules."""

    def data(direction: str) -> Any:
        return loaders(text={"rules": given(), "backwards": direction == "backward"})

    return row("rules", name, finding, what, imports, data=data, **more)


def own_rules() -> Iterator[Learner]:
    """Yield rules of the user's with names and places of fastai's."""
    yield from with_rules(
        "notebook-lowercase",
        lambda: [*RULES[:-1], own2.rule_in_notebook("lowercase")],
        "E1",
        "An own rule called lowercase in the notebook.",
        refused("__main__|lowercase"),
        in_sample=True,
    )
    yield from with_rules(
        "notebook-fix-html",
        lambda: [own2.rule_in_notebook("fix_html"), *RULES[1:]],
        "E1",
        "An own rule called fix_html in the notebook.",
        refused("__main__|fix_html"),
    )
    yield from with_rules(
        "module-fix-html",
        lambda: [own2.rule_in_module("my_rules"), *RULES[1:]],
        "E1",
        "An own rule called fix_html in a module.",
        refused("my_rules"),
    )
    yield from with_rules(
        "module-like-fastai",
        lambda: [own2.rule_in_module("fastai.text.rules"), *RULES[1:]],
        "E1",
        "An own rule in a module that looks like fastai's.",
        refused("fastai.text.rules"),
    )
    yield from with_rules(
        "module-fastai-core",
        lambda: [own2.rule_in_module("my.fastai.text.core"), *RULES[1:]],
        "E1",
        "An own rule in my.fastai.text.core.",
        refused("my.fastai.text.core"),
    )
    yield from with_rules(
        "lambda",
        lambda: [*RULES, lambda text: text.replace("lamp", "light")],
        "E1",
        "A lambda as a rule.",
        refused("lambda|function"),
    )
    yield from with_rules(
        "partial-own",
        lambda: [*RULES[:-1], partial(own2.rule_in_notebook("lowercase"), add_eos=True)],
        "E1",
        "A partial of an own rule called lowercase.",
        refused("__main__|lowercase"),
    )


def options_of_lowercase() -> Iterator[Learner]:
    """Yield options of the last rule."""
    yield from with_rules(
        "add-eos",
        lambda: [*RULES[:-1], partial(lowercase, add_eos=True)],
        "plain",
        "lowercase with add_eos=True.",
        EXACT,
        ways=BOTH,
    )
    yield from with_rules(
        "no-bos",
        lambda: [*RULES[:-1], partial(lowercase, add_bos=False)],
        "E6",
        "lowercase with add_bos=False.",
        either("bos"),
    )
    yield from with_rules(
        "no-bos-eos",
        lambda: [*RULES[:-1], partial(lowercase, add_bos=False, add_eos=True)],
        "E6",
        "lowercase without xxbos and with xxeos.",
        either("bos"),
    )
    yield from with_rules(
        "partial-positional",
        lambda: [*RULES[:-1], lambda_free_partial()],
        "E6",
        "A partial of lowercase that says the defaults.",
        EXACT,
    )


def lists_of_rules() -> Iterator[Learner]:
    """Yield lists of fastai's own rules."""
    yield from with_rules(
        "reordered",
        lambda: [
            replace_rep,
            replace_wrep,
            fix_html,
            spec_add_spaces,
            rm_useless_spaces,
            replace_maj,
            replace_all_caps,
            lowercase,
        ],
        "E6",
        "fastai's rules in another order.",
        EXACT,
        in_sample=True,
    )
    yield from with_rules(
        "reversed", lambda: [*RULES[:-1][::-1], lowercase], "E6", "fastai's rules in reverse.", EXACT, ways=BOTH
    )
    yield from with_rules(
        "subset", lambda: [fix_html, rm_useless_spaces, lowercase], "E6", "Three of fastai's rules.", EXACT
    )
    yield from with_rules("only-lowercase", lambda: [lowercase], "E6", "Only lowercase.", EXACT)
    yield from with_rules("no-lowercase", lambda: RULES[:-1], "E6", "All rules but lowercase: no xxbos.", EXACT)
    yield from with_rules("none", lambda: [], "E6", "No rules.", EXACT)
    yield from with_rules(
        "twice", lambda: [*RULES[:2], replace_rep, *RULES[2:]], "E6", "A rule that is applied twice.", EXACT
    )
    yield from with_rules(
        "own-extra",
        lambda: [own2.rule_in_notebook("no_urls"), *RULES],
        "E1",
        "An own rule before fastai's.",
        refused("no_urls"),
    )
    for without in (
        fix_html,
        replace_rep,
        replace_wrep,
        spec_add_spaces,
        rm_useless_spaces,
        replace_all_caps,
        replace_maj,
    ):
        kept_rules = [rule for rule in RULES if rule is not without]
        yield from with_rules(
            f"without-{without.__name__.replace('_', '-')}",
            lambda kept_rules=kept_rules: kept_rules,
            "E6",
            f"All rules but {without.__name__}.",
            EXACT,
        )


def other_rules() -> Iterator[Learner]:
    """Yield other functions as rules, other lists, and rules that were changed after training."""
    yield from with_rules("str-lower", lambda: [*RULES, str.lower], "E1", "str.lower as a rule.", either("lower"))
    yield from with_rules("str-strip", lambda: [str.strip, *RULES], "E1", "str.strip as a rule.", either("strip"))
    yield from with_rules("tuple", lambda: tuple(RULES), "plain", "The rules as a tuple.", EXACT)
    yield from with_rules("l", lambda: L(RULES), "plain", "The rules as an L.", EXACT)

    def changed_after(learn: Any) -> None:
        learn.dls.tokenizer.rules = [*learn.dls.tokenizer.rules[:-1], own2.rule_in_notebook("lowercase")]

    def after(direction: str) -> Any:
        return loaders(text={"rules": list(RULES)})

    yield from row(
        "rules",
        "changed-after",
        "E1",
        "Rules changed after training.",
        refused("__main__|lowercase"),
        data=after,
        before=changed_after,
    )

    def post_rules(learn: Any) -> None:
        learn.dls.tokenizer.tok.post_rules = [in_notebook(drop_short)]

    yield from row(
        "rules",
        "post-rules-attribute",
        "E2",
        "An attribute that fastai does not read.",
        either("post_rules"),
        data=after,
        before=post_rules,
    )


def lambda_free_partial() -> Any:
    """Return a partial of lowercase that says fastai's defaults."""
    return partial(lowercase, add_bos=True, add_eos=False)


def drop_short(tokens: Any) -> Any:
    """Drop short tokens."""
    return [token for token in tokens if len(token) > 2]


def languages() -> Iterator[Learner]:
    """Yield the languages of spaCy."""
    for language in LANGUAGES:
        if language in NEED_LIBRARIES:
            continue

        def data(direction: str, language: str = language) -> Any:
            return loaders(
                rows=rows_in(language), text={"tok": SpacyTokenizer(language), "backwards": direction == "backward"}
            )

        way = "backward" if language in ("fr", "ru") else "forward"
        yield from row(
            "languages",
            language,
            "plain",
            f"spaCy's tokenizer of {language}.",
            EXACT,
            data=data,
            ways=(way,),
            texts=texts_in(language),
            in_sample=language == "fr",
        )


def with_tokenizer(
    name: str, make: Callable[[], Any], finding: str, what: str, imports: Any, **more: Any
) -> Iterator[Learner]:
    """Yield learners with a tokenizer."""
    text = more.pop("text", {})

    def data(direction: str) -> Any:
        return loaders(text={"tok": make(), "backwards": direction == "backward", **text})

    return row("tokenizers", name, finding, what, imports, data=data, **more)


def tokenizers() -> Iterator[Learner]:
    """Yield tokenizers other than sentencepiece's."""
    yield from with_tokenizer("word", WordTokenizer, "plain", "WordTokenizer, another name of SpacyTokenizer.", EXACT)
    yield from with_tokenizer(
        "base", BaseTokenizer, "E6", "BaseTokenizer: splits at spaces.", EXACT, ways=BOTH, in_sample=True
    )
    yield from with_tokenizer("base-comma", lambda: BaseTokenizer(","), "E6", "BaseTokenizer(',').", EXACT)
    yield from with_tokenizer("base-two", lambda: BaseTokenizer(". "), "E6", "BaseTokenizer('. ').", EXACT)
    yield from with_tokenizer("base-newline", lambda: BaseTokenizer("\n"), "E6", "BaseTokenizer of newlines.", EXACT)
    yield from with_tokenizer("base-e", lambda: BaseTokenizer("e"), "E6", "BaseTokenizer('e').", EXACT)
    yield from with_tokenizer(
        "base-rules", BaseTokenizer, "E6", "BaseTokenizer with two rules.", EXACT, text={"rules": [fix_html, lowercase]}
    )
    yield from with_tokenizer(
        "base-none", BaseTokenizer, "E6", "BaseTokenizer without rules.", EXACT, text={"rules": []}
    )
    yield from with_tokenizer(
        "spacy-buffer", lambda: SpacyTokenizer("en", buf_sz=3), "plain", "SpacyTokenizer with buf_sz=3.", EXACT
    )
    special = [*defaults.text_spec_tok, "don't", "U.S."]
    yield from with_tokenizer(
        "spacy-special", lambda: SpacyTokenizer("en", special_toks=special), "E6", "More special tokens.", EXACT
    )
    few = list(defaults.text_spec_tok[:-2])
    yield from with_tokenizer(
        "spacy-special-few", lambda: SpacyTokenizer("en", special_toks=few), "E6", "Fewer special tokens.", EXACT
    )
    yield from with_tokenizer(
        "spacy-special-none",
        lambda: SpacyTokenizer("en", special_toks=[]),
        "E6",
        "No special tokens.",
        either("special|control"),
    )


def own_tokenizers() -> Iterator[Learner]:
    """Yield tokenizers of the user's with fastai's names, and subclasses of fastai's."""
    yield from with_tokenizer(
        "notebook-spacy",
        partial(own2.tokenizer_in_notebook, "SpacyTokenizer"),
        "E1",
        "An own tokenizer called SpacyTokenizer.",
        refused("__main__|SpacyTokenizer"),
        in_sample=True,
    )
    yield from with_tokenizer(
        "notebook-word",
        partial(own2.tokenizer_in_notebook, "WordTokenizer"),
        "E1",
        "An own tokenizer called WordTokenizer.",
        refused("__main__|WordTokenizer"),
    )
    yield from with_tokenizer(
        "notebook-base",
        partial(own2.tokenizer_in_notebook, "BaseTokenizer"),
        "E1",
        "An own tokenizer called BaseTokenizer.",
        refused("__main__|BaseTokenizer"),
    )
    yield from with_tokenizer(
        "notebook-own",
        partial(own2.tokenizer_in_notebook, "WordsOnly"),
        "E1",
        "An own tokenizer.",
        refused("WordsOnly"),
    )
    yield from with_tokenizer(
        "spacy-subclass",
        own2.spacy_subclass,
        "E1",
        "A subclass of SpacyTokenizer.",
        refused("MySpacyTokenizer"),
    )
    yield from with_tokenizer(
        "spacy-subclass-named",
        partial(own2.spacy_subclass, "SpacyTokenizer"),
        "E1",
        "A subclass of SpacyTokenizer with its name.",
        refused("__main__|SpacyTokenizer"),
    )


def changed_tokenizers() -> Iterator[Learner]:
    """Yield pipelines of spaCy that were changed."""

    def changed_spacy() -> Any:
        tokenizer = SpacyTokenizer("en")
        from spacy.symbols import ORTH

        tokenizer.pipe.__self__.tokenizer.add_special_case("parcel", [{ORTH: "par"}, {ORTH: "cel"}])
        return tokenizer

    yield from with_tokenizer(
        "spacy-special-case", changed_spacy, "E1", "A special case that splits a word.", either("special")
    )

    def changed_infix() -> Any:
        tokenizer = SpacyTokenizer("en")
        nlp = tokenizer.pipe.__self__
        nlp.tokenizer.infix_finditer = re.compile("[aeiou]").finditer
        return tokenizer

    yield from with_tokenizer("spacy-infix", changed_infix, "E1", "Other infixes.", either("infix"))

    def with_pipe() -> Any:
        tokenizer = SpacyTokenizer("en")
        tokenizer.pipe.__self__.add_pipe("sentencizer")
        return tokenizer

    yield from with_tokenizer(
        "spacy-sentencizer", with_pipe, "E2", "A pipeline of spaCy with a component.", either("sentencizer|pipe")
    )


def vocabularies() -> Iterator[Learner]:
    """Yield options of the vocabulary."""
    for name, given in {
        "min-freq-1": {"min_freq": 1},
        "min-freq-5": {"min_freq": 5},
        "max-vocab": {"max_vocab": 60},
        "max-vocab-64": {"max_vocab": 64},
    }.items():
        yield from row(
            "vocabulary",
            name,
            "plain",
            f"{given}.",
            loading={"text": given},
            ways=BOTH if name == "max-vocab" else ("forward",),
        )
    special = list(defaults.text_spec_tok)
    yield from row(
        "vocabulary",
        "given",
        "plain",
        "A vocabulary that was passed.",
        loading={"text": {"vocab": [*special, "the", "parcel", "lamp", ".", ",", "was", "i", "xxfake"]}},
    )
    yield from row(
        "vocabulary",
        "given-twice",
        "E1",
        "A vocabulary with a word that occurs twice.",
        either("twice|duplicate|several"),
        loading={"text": {"vocab": [*special, "the", "parcel", "the", ".", "was", "i"]}},
    )
    yield from row(
        "vocabulary",
        "given-few-specials",
        "E1",
        "A vocabulary without most special tokens.",
        either("vocabulary|special|control"),
        loading={"text": {"vocab": ["xxunk", "xxpad", "the", "parcel", ".", "was", "i", "xxbos"]}},
    )
    swapped = [special[0], special[2], special[1], *special[3:], "the", "parcel", ".", "was", "i"]
    yield from row(
        "vocabulary",
        "pad-elsewhere",
        "E1",
        "A vocabulary whose xxpad is not id 1.",
        either("xxpad|vocabulary|pad"),
        loading={"text": {"vocab": swapped}},
    )
    no_unknown = ["the", *special[1:], "xxunk", "parcel", ".", "was", "i"]
    yield from row(
        "vocabulary",
        "unk-elsewhere",
        "E1",
        "A vocabulary whose xxunk is not id 0.",
        either("xxunk|vocabulary|unknown"),
        loading={"text": {"vocab": no_unknown}},
    )


def changed_vocabularies() -> Iterator[Learner]:
    """Yield other special tokens, and ids that were changed after training."""

    def numericalize_special(direction: str) -> Any:
        block = TextBlock(Tokenizer.from_df("text", n_workers=0), special_toks=["xxunk", "xxpad", "xxbos"], min_freq=2)
        return loaders(text=block)

    yield from row(
        "vocabulary",
        "special-toks",
        "E6",
        "Numericalize with three special tokens.",
        either("special|control|vocabulary"),
        data=numericalize_special,
    )

    def changed_o2i(learn: Any) -> None:
        numericalize = learn.dls.numericalize
        numericalize.o2i["parcel"] = numericalize.o2i["lamp"] = 12

    def after(direction: str) -> Any:
        return loaders()

    yield from row(
        "vocabulary",
        "o2i-changed",
        "E1",
        "Ids of words changed after training.",
        either("o2i"),
        data=after,
        before=changed_o2i,
    )


KINDS = (
    own_rules,
    options_of_lowercase,
    lists_of_rules,
    other_rules,
    languages,
    tokenizers,
    own_tokenizers,
    changed_tokenizers,
    vocabularies,
    changed_vocabularies,
)
