"""Kinds of learners of fastai 2: rules, tokenizers, languages and data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import own2
from fastai.text.all import (
    BaseTokenizer,
    CategoryBlock,
    ColReader,
    DataBlock,
    ItemGetter,
    L,
    Numericalize,
    Pad_Chunk,
    Pipeline,
    RandomSplitter,
    SentencePieceTokenizer,
    SpacyTokenizer,
    TextBlock,
    TextDataLoaders,
    Tokenizer,
    Transform,
    WordTokenizer,
    defaults,
    fa_collate,
    pad_input,
    replace_all_caps,
    replace_maj,
    replace_rep,
    replace_wrep,
    reverse_text,
    rm_useless_spaces,
    set_seed,
    spec_add_spaces,
)
from fastai.text.core import fix_html, lowercase
from making2 import in_notebook, kept, loaders, scratch, text_block
from rows2 import BOTH, RULES, row
from table import EXACT, Import, Learner, either, refused
from texts import LANGUAGES, rows_in, texts_in, training_rows


def rules() -> Iterator[Learner]:
    """Yield lists of cleaning rules."""

    def one(
        name: str, given: Callable[[], Any], finding: str, what: str, imports: tuple[Import, ...], **more: Any
    ) -> Iterator[Learner]:
        def data(direction: str) -> Any:
            return loaders(text={"rules": given(), "backwards": direction == "backward"})

        return row("rules", name, finding, what, imports, data=data, **more)

    exact = EXACT
    yield from one(
        "notebook-lowercase",
        lambda: [*RULES[:-1], own2.rule_in_notebook("lowercase")],
        "E1",
        "An own rule called lowercase in the notebook.",
        refused("__main__|lowercase"),
        in_sample=True,
    )
    yield from one(
        "notebook-fix-html",
        lambda: [own2.rule_in_notebook("fix_html"), *RULES[1:]],
        "E1",
        "An own rule called fix_html in the notebook.",
        refused("__main__|fix_html"),
    )
    yield from one(
        "module-fix-html",
        lambda: [own2.rule_in_module("my_rules"), *RULES[1:]],
        "E1",
        "An own rule called fix_html in a module.",
        refused("my_rules"),
    )
    yield from one(
        "module-like-fastai",
        lambda: [own2.rule_in_module("fastai.text.rules"), *RULES[1:]],
        "E1",
        "An own rule in a module that looks like fastai's.",
        refused("fastai.text.rules"),
    )
    yield from one(
        "module-fastai-core",
        lambda: [own2.rule_in_module("my.fastai.text.core"), *RULES[1:]],
        "E1",
        "An own rule in my.fastai.text.core.",
        refused("my.fastai.text.core"),
    )
    yield from one(
        "lambda",
        lambda: [*RULES, lambda text: text.replace("lamp", "light")],
        "E1",
        "A lambda as a rule.",
        refused("lambda|function"),
    )
    yield from one(
        "partial-own",
        lambda: [*RULES[:-1], partial(own2.rule_in_notebook("lowercase"), add_eos=True)],
        "E1",
        "A partial of an own rule called lowercase.",
        refused("__main__|lowercase"),
    )
    yield from one(
        "add-eos",
        lambda: [*RULES[:-1], partial(lowercase, add_eos=True)],
        "plain",
        "lowercase with add_eos=True.",
        exact,
        ways=BOTH,
    )
    yield from one(
        "no-bos",
        lambda: [*RULES[:-1], partial(lowercase, add_bos=False)],
        "E6",
        "lowercase with add_bos=False.",
        either("bos"),
    )
    yield from one(
        "no-bos-eos",
        lambda: [*RULES[:-1], partial(lowercase, add_bos=False, add_eos=True)],
        "E6",
        "lowercase without xxbos and with xxeos.",
        either("bos"),
    )
    yield from one(
        "partial-positional",
        lambda: [*RULES[:-1], lambda_free_partial()],
        "E6",
        "A partial of lowercase that says the defaults.",
        exact,
    )
    yield from one(
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
        exact,
        in_sample=True,
    )
    yield from one(
        "reversed", lambda: [*RULES[:-1][::-1], lowercase], "E6", "fastai's rules in reverse.", exact, ways=BOTH
    )
    yield from one("subset", lambda: [fix_html, rm_useless_spaces, lowercase], "E6", "Three of fastai's rules.", exact)
    yield from one("only-lowercase", lambda: [lowercase], "E6", "Only lowercase.", exact)
    yield from one("no-lowercase", lambda: RULES[:-1], "E6", "All rules but lowercase: no xxbos.", exact)
    yield from one("none", lambda: [], "E6", "No rules.", exact)
    yield from one("twice", lambda: [*RULES[:2], replace_rep, *RULES[2:]], "E6", "A rule that is applied twice.", exact)
    yield from one(
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
        yield from one(
            f"without-{without.__name__.replace('_', '-')}",
            lambda kept_rules=kept_rules: kept_rules,
            "E6",
            f"All rules but {without.__name__}.",
            exact,
        )
    yield from one("str-lower", lambda: [*RULES, str.lower], "E1", "str.lower as a rule.", either("lower"))
    yield from one("str-strip", lambda: [str.strip, *RULES], "E1", "str.strip as a rule.", either("strip"))
    yield from one("tuple", lambda: tuple(RULES), "plain", "The rules as a tuple.", exact)
    yield from one("l", lambda: L(RULES), "plain", "The rules as an L.", exact)

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

        def data(direction: str, language: str = language) -> Any:
            return loaders(
                rows=rows_in(language), text={"tok": SpacyTokenizer(language), "backwards": direction == "backward"}
            )

        expected = either("language|spaCy|split") if language in ("zh", "ja", "ko", "th", "vi") else EXACT
        way = "backward" if language in ("fr", "ru") else "forward"
        yield from row(
            "languages",
            language,
            "plain",
            f"spaCy's tokenizer of {language}.",
            expected,
            data=data,
            ways=(way,),
            texts=texts_in(language),
            in_sample=language == "fr",
        )


def tokenizers() -> Iterator[Learner]:
    """Yield tokenizers other than sentencepiece's."""

    def one(
        name: str, make: Callable[[], Any], finding: str, what: str, imports: Any, **more: Any
    ) -> Iterator[Learner]:
        text = more.pop("text", {})

        def data(direction: str) -> Any:
            return loaders(text={"tok": make(), "backwards": direction == "backward", **text})

        return row("tokenizers", name, finding, what, imports, data=data, **more)

    yield from one("word", WordTokenizer, "plain", "WordTokenizer, another name of SpacyTokenizer.", EXACT)
    yield from one("base", BaseTokenizer, "E6", "BaseTokenizer: splits at spaces.", EXACT, ways=BOTH, in_sample=True)
    yield from one("base-comma", lambda: BaseTokenizer(","), "E6", "BaseTokenizer(',').", EXACT)
    yield from one("base-two", lambda: BaseTokenizer(". "), "E6", "BaseTokenizer('. ').", EXACT)
    yield from one("base-newline", lambda: BaseTokenizer("\n"), "E6", "BaseTokenizer of newlines.", EXACT)
    yield from one("base-e", lambda: BaseTokenizer("e"), "E6", "BaseTokenizer('e').", EXACT)
    yield from one(
        "base-rules", BaseTokenizer, "E6", "BaseTokenizer with two rules.", EXACT, text={"rules": [fix_html, lowercase]}
    )
    yield from one("base-none", BaseTokenizer, "E6", "BaseTokenizer without rules.", EXACT, text={"rules": []})
    yield from one(
        "spacy-buffer", lambda: SpacyTokenizer("en", buf_sz=3), "plain", "SpacyTokenizer with buf_sz=3.", EXACT
    )
    special = [*defaults.text_spec_tok, "don't", "U.S."]
    yield from one(
        "spacy-special", lambda: SpacyTokenizer("en", special_toks=special), "E6", "More special tokens.", EXACT
    )
    few = list(defaults.text_spec_tok[:-2])
    yield from one(
        "spacy-special-few", lambda: SpacyTokenizer("en", special_toks=few), "E6", "Fewer special tokens.", EXACT
    )
    yield from one(
        "spacy-special-none",
        lambda: SpacyTokenizer("en", special_toks=[]),
        "E6",
        "No special tokens.",
        either("special|control"),
    )
    yield from one(
        "notebook-spacy",
        partial(own2.tokenizer_in_notebook, "SpacyTokenizer"),
        "E1",
        "An own tokenizer called SpacyTokenizer.",
        refused("__main__|SpacyTokenizer"),
        in_sample=True,
    )
    yield from one(
        "notebook-word",
        partial(own2.tokenizer_in_notebook, "WordTokenizer"),
        "E1",
        "An own tokenizer called WordTokenizer.",
        refused("__main__|WordTokenizer"),
    )
    yield from one(
        "notebook-base",
        partial(own2.tokenizer_in_notebook, "BaseTokenizer"),
        "E1",
        "An own tokenizer called BaseTokenizer.",
        refused("__main__|BaseTokenizer"),
    )
    yield from one(
        "notebook-own",
        partial(own2.tokenizer_in_notebook, "WordsOnly"),
        "E1",
        "An own tokenizer.",
        refused("WordsOnly"),
    )
    yield from one(
        "spacy-subclass",
        own2.spacy_subclass,
        "E1",
        "A subclass of SpacyTokenizer.",
        refused("MySpacyTokenizer"),
    )
    yield from one(
        "spacy-subclass-named",
        partial(own2.spacy_subclass, "SpacyTokenizer"),
        "E1",
        "A subclass of SpacyTokenizer with its name.",
        refused("__main__|SpacyTokenizer"),
    )

    def changed_spacy() -> Any:
        tokenizer = SpacyTokenizer("en")
        from spacy.symbols import ORTH

        tokenizer.pipe.__self__.tokenizer.add_special_case("parcel", [{ORTH: "par"}, {ORTH: "cel"}])
        return tokenizer

    yield from one("spacy-special-case", changed_spacy, "E1", "A special case that splits a word.", either("special"))

    def changed_infix() -> Any:
        tokenizer = SpacyTokenizer("en")
        nlp = tokenizer.pipe.__self__
        nlp.tokenizer.infix_finditer = re.compile("[aeiou]").finditer
        return tokenizer

    yield from one("spacy-infix", changed_infix, "E1", "Other infixes.", either("infix"))

    def with_pipe() -> Any:
        tokenizer = SpacyTokenizer("en")
        tokenizer.pipe.__self__.add_pipe("sentencizer")
        return tokenizer

    yield from one(
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


def fields() -> Iterator[Learner]:
    """Yield several text columns, and texts that come from elsewhere than a column."""
    columns = ["subject", "text"]
    yield from row(
        "fields",
        "two",
        "E5",
        "from_df(['subject', 'text']), one text each.",
        loading={"text": {"columns": columns}},
        ways=BOTH,
    )
    yield from row(
        "fields",
        "two-unmarked",
        "E5",
        "Two columns, mark_fields=False.",
        loading={"text": {"columns": columns, "mark_fields": False}},
    )
    yield from row(
        "fields", "one-marked", "plain", "One column, mark_fields=True.", loading={"text": {"mark_fields": True}}
    )
    yield from row(
        "fields",
        "three",
        "E5",
        "Three columns.",
        loading={"text": {"columns": ["label", "subject", "text"]}, "label": "is_question"},
    )
    yield from row("fields", "by-number", "plain", "A column by its number.", loading={"text": {"columns": 0}})
    yield from row(
        "fields",
        "tok-text-col",
        "plain",
        "tok_text_col='tokens'.",
        loading={"text": {"tok_text_col": "tokens"}, "get_x": ColReader("tokens")},
    )
    yield from row("fields", "sep", "plain", "sep=''.", loading={"text": {"sep": ""}})

    def factory(direction: str) -> Any:
        set_seed(7, reproducible=True)
        return TextDataLoaders.from_df(
            training_rows(),
            text_col=columns,
            label_col="label",
            backwards=direction == "backward",
            seed=3,
            bs=16,
            num_workers=0,
        )

    yield from row("fields", "factory-two", "E5", "TextDataLoaders.from_df with two columns.", data=factory)

    def list_of_texts(direction: str) -> Any:
        set_seed(7, reproducible=True)
        rows = training_rows()
        texts, labels = rows["text"].tolist(), rows["label"].tolist()
        text = TextBlock(Tokenizer(SpacyTokenizer("en")), min_freq=2, backwards=direction == "backward")
        block = DataBlock(
            (text, CategoryBlock), get_x=ItemGetter(0), get_y=ItemGetter(1), splitter=RandomSplitter(0.1, seed=3)
        )
        return block.dataloaders(list(zip(texts, labels, strict=True)), bs=16, num_workers=0)

    yield from row(
        "fields", "tuples", "plain", "Items that are tuples: Tokenizer without from_df.", data=list_of_texts, ways=BOTH
    )

    def with_function(get_x: Any) -> Callable[[str], Any]:
        def data(direction: str) -> Any:
            set_seed(7, reproducible=True)
            text = TextBlock(Tokenizer(SpacyTokenizer("en")), min_freq=2, backwards=direction == "backward")
            block = DataBlock(
                (text, CategoryBlock), get_x=get_x, get_y=ColReader("label"), splitter=RandomSplitter(0.1, seed=3)
            )
            return block.dataloaders(training_rows(), bs=16, num_workers=0)

        return data

    yield from row(
        "fields",
        "get-x",
        "E2",
        "get_x reads the column, Tokenizer without from_df.",
        data=with_function(ColReader("text")),
    )
    yield from row(
        "fields",
        "get-x-changes",
        "E2",
        "get_x cuts the text before the tokenizer.",
        either("get_x|function|cut_text"),
        data=with_function(in_notebook(cut_text)),
    )
    yield from row(
        "fields",
        "get-x-lambda",
        "E2",
        "get_x is a lambda that cuts the text.",
        either("lambda|function"),
        data=with_function(lambda row: row["text"][:20]),
    )
    yield from row(
        "fields",
        "get-x-tokens",
        "E2",
        "get_x cuts the tokens after from_df.",
        either("lambda|function"),
        loading={"get_x": lambda row: row["text"][:10]},
    )
    yield from row(
        "fields",
        "get-x-pipeline",
        "E2",
        "get_x is a pipeline of a column and a function that cuts the text.",
        either("cut_text|function"),
        data=with_function(Pipeline([ColReader("text"), in_notebook(cut_string)])),
        in_sample=True,
    )


def cut_text(row):
    """Return the first characters of a row's text."""
    return row["text"][:20]


def cut_string(text):
    """Return the first characters of a text."""
    return text[:20]


def factories() -> Iterator[Learner]:
    """Yield the factory methods of TextDataLoaders with their options."""

    def made(method: str, **given: Any) -> Callable[[str], Any]:
        def data(direction: str) -> Any:
            set_seed(7, reproducible=True)
            options = {"backwards": direction == "backward", "bs": 16, "num_workers": 0, **given}
            if method == "from_df":
                return TextDataLoaders.from_df(training_rows(), text_col="text", **{"label_col": "label", **options})
            if method == "from_csv":
                place = scratch()
                training_rows().to_csv(place / "rows.csv", index=False)
                return TextDataLoaders.from_csv(place, "rows.csv", text_col="text", label_col="label", **options)
            place = folders()
            return TextDataLoaders.from_folder(place, **options)

        return data

    for method in ("from_df", "from_csv", "from_folder"):
        name = method.replace("_", "-")
        yield from row(
            "factories",
            name,
            "plain",
            f"TextDataLoaders.{method}.",
            data=made(method),
            ways=BOTH,
            in_sample=method == "from_folder",
        )
    more = {
        "from-df-seq-len": made("from_df", seq_len=50),
        "from-df-vocab": made("from_df", text_vocab=[*defaults.text_spec_tok, "the", "a", "parcel", "xxfake"]),
        "from-df-tok": made("from_df", tok_tfm=SpacyTokenizer("de")),
        "from-df-valid-col": made("from_df", valid_col="is_long"),
        "from-df-delim": made("from_df", label_delim=None, y_block=CategoryBlock),
        "from-df-shuffle": made("from_df", shuffle=False, val_shuffle=False),
        "from-folder-pct": made("from_folder", valid_pct=0.2, seed=3),
        "from-folder-vocab": made("from_folder", vocab=["fault", "billing", "account"]),
    }
    for name, data in more.items():
        yield from row("factories", name, "plain", "Options of the factory method.", data=data)


def folders() -> Path:
    """Return a folder with a file per text."""
    place = scratch()
    for index, (text, label) in enumerate(training_rows()[["text", "label"]].itertuples(index=False)):
        file = place / ("valid" if index % 10 == 0 else "train") / label / f"{index:03}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return place


def transforms() -> Iterator[Learner]:
    """Yield transforms at every stage between text and batch."""

    def one(
        name: str,
        what: str,
        imports: Any,
        *,
        ways: tuple[str, ...] = ("forward",),
        in_sample: bool = False,
        **given: Any,
    ) -> Iterator[Learner]:
        return row("transforms", name, "E2", what, imports, loading=given, ways=ways, in_sample=in_sample)

    yield from one(
        "item-truncate",
        "An item transform that truncates.",
        refused("FirstTokens"),
        item_tfms=own2.FirstTokens(),
        in_sample=True,
    )
    yield from one(
        "batch-truncate", "A batch transform that truncates.", refused("FirstColumns"), batch_tfms=own2.FirstColumns()
    )
    yield from one(
        "item-function",
        "An item transform that is a function: reverses.",
        refused("turn_around|function"),
        item_tfms=in_notebook(turn_around),
    )
    yield from one(
        "item-lambda",
        "An item transform that is a lambda.",
        refused("lambda|function"),
        item_tfms=lambda x: x[:5] if getattr(x, "ndim", 0) == 1 else x,
    )
    yield from one(
        "batch-lambda", "A batch transform that is a lambda.", refused("lambda|function"), batch_tfms=lambda x: x
    )
    yield from one(
        "item-reverse-text",
        "reverse_text as an item transform: a backward model by another way.",
        either("reverse_text"),
        item_tfms=reverse_ids(),
    )

    def before_batch(*transforms: Any, **more: Any) -> Callable[[str], Any]:
        def data(direction: str) -> Any:
            block = text_block(backwards=direction == "backward")
            block.dls_kwargs = {"before_batch": list(transforms), **more}
            return loaders(text=block)

        return data

    yield from row(
        "transforms",
        "before-batch-truncate",
        "E2",
        "A before_batch that truncates.",
        refused("cut_samples|function"),
        data=before_batch(in_notebook(cut_samples), Pad_Chunk(seq_len=72)),
        in_sample=True,
    )
    yield from row(
        "transforms",
        "before-batch-reverse",
        "E2",
        "A before_batch that reverses.",
        refused("turn_samples|function"),
        data=before_batch(in_notebook(turn_samples), Pad_Chunk(seq_len=72)),
    )
    yield from row(
        "transforms",
        "pad-behind",
        "E2",
        "Pad_Chunk(pad_first=False).",
        either("pad"),
        data=before_batch(Pad_Chunk(seq_len=72, pad_first=False)),
    )
    yield from row(
        "transforms", "pad-input", "E2", "pad_input instead of Pad_Chunk.", either("pad"), data=before_batch(pad_input)
    )
    yield from row(
        "transforms",
        "pad-input-backwards",
        "E2",
        "pad_input with backwards=True.",
        either("pad"),
        data=before_batch(partial(pad_input, backwards=True)),
    )
    yield from row(
        "transforms",
        "pad-idx",
        "E2",
        "Pad_Chunk(pad_idx=3).",
        either("pad"),
        data=before_batch(Pad_Chunk(seq_len=72, pad_idx=3)),
    )
    yield from row(
        "transforms",
        "create-batch",
        "E2",
        "An own create_batch that truncates.",
        refused("cut_batch|create_batch"),
        data=before_batch(Pad_Chunk(seq_len=72), create_batch=in_notebook(cut_batch)),
    )

    def added(where: str, transform: Any) -> Callable[[Any], None]:
        def before(learn: Any) -> None:
            for loader in learn.dls.loaders:
                getattr(loader, where).add(transform)

        return before

    def own(direction: str) -> Any:
        return loaders(text={"backwards": direction == "backward"})

    for where in ("after_item", "after_batch"):
        made = own2.FirstTokens() if where == "after_item" else own2.FirstColumns()
        yield from row(
            "transforms",
            f"added-{where.replace('_', '-')}",
            "E2",
            f"A transform added to {where} after training.",
            refused("First"),
            data=own,
            before=added(where, made),
        )

    def type_transform(*transforms: Any) -> Callable[[str], Any]:
        def data(direction: str) -> Any:
            block = text_block(backwards=direction == "backward")
            block.type_tfms = [*block.type_tfms, *transforms]
            return loaders(text=block)

        return data

    yield from row(
        "transforms",
        "type-truncate",
        "E2",
        "A transform after Numericalize that truncates.",
        refused("FirstTokens"),
        data=type_transform(own2.FirstTokens()),
    )
    yield from row(
        "transforms",
        "type-function",
        "E2",
        "A function after Numericalize.",
        refused("turn_around|function"),
        data=type_transform(in_notebook(turn_around)),
    )
    yield from row(
        "transforms",
        "reverse-text-own",
        "E1",
        "An own function called reverse_text.",
        refused("__main__|reverse_text"),
        data=type_transform(in_notebook(first_half, "reverse_text")),
        in_sample=True,
    )
    yield from row(
        "transforms",
        "reverse-twice",
        "E2",
        "reverse_text twice.",
        either("reverse_text"),
        data=type_transform(reverse_text, reverse_text),
    )

    def between(direction: str) -> Any:
        block = text_block()
        block.type_tfms = [block.type_tfms[0], in_notebook(cut_tokens), *block.type_tfms[1:]]
        return loaders(text=block)

    yield from row(
        "transforms",
        "between",
        "E2",
        "A function between Tokenizer and Numericalize.",
        refused("cut_tokens|function"),
        data=between,
    )

    def numericalize_class(direction: str) -> Any:
        class Own(Numericalize):  # type: ignore[misc, valid-type]
            def encodes(self, o):
                return super().encodes(o[:10])

        block = text_block()
        block.type_tfms[1] = in_notebook(Own, "Numericalize")(min_freq=2)
        return loaders(text=block)

    yield from row(
        "transforms",
        "numericalize-subclass",
        "E1",
        "A subclass of Numericalize with its name.",
        refused("__main__|Numericalize"),
        data=numericalize_class,
    )

    def tokenizer_class(direction: str) -> Any:
        block = text_block()
        block.type_tfms[0].__class__ = in_notebook(
            type("Tokenizer", (Tokenizer,), {"_tokenize1": lambda self, o: Tokenizer._tokenize1(self, o.lower())})
        )
        return loaders(text=block)

    yield from row(
        "transforms",
        "tokenizer-subclass",
        "E1",
        "A subclass of the Tokenizer transform with its name.",
        refused("__main__|Tokenizer"),
        data=tokenizer_class,
    )


def reverse_ids() -> Any:
    """Return a transform that reverses ids, as fastai's reverse_text does."""
    return Transform(reverse_text)


def turn_around(x):
    """Reverse a text."""
    return x.flip(0) if getattr(x, "ndim", 0) == 1 else x


def first_half(x):
    """Drop the second half of a text."""
    return x[: max(1, len(x) // 2)]


def cut_samples(samples):
    """Truncate the texts of a batch."""
    return [(sample[0][:20], *sample[1:]) for sample in samples]


def turn_samples(samples):
    """Reverse the texts of a batch."""
    return [(sample[0].flip(0), *sample[1:]) for sample in samples]


def cut_tokens(tokens):
    """Drop tokens."""
    return tokens[:20]


def cut_batch(samples):
    """Truncate the texts of a batch and collate them."""
    return fa_collate([(sample[0][:20], *sample[1:]) for sample in samples])


def sentencepiece() -> Iterator[Learner]:
    """Yield tokenizers of sentencepiece."""

    def one(
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

    yield from one("unigram", "A unigram model.", ways=BOTH, in_sample=True)
    yield from one("bpe", "A BPE model.", ways=BOTH, model_type="bpe", in_sample=True)
    for size in (120, 800):
        yield from one(f"unigram-{size}", f"vocab_sz={size}.", vocab_sz=size)
        yield from one(f"bpe-{size}", f"A BPE model with vocab_sz={size}.", vocab_sz=size, model_type="bpe")
    yield from one("unigram-default", "vocab_sz by fastai.", vocab_sz=None)
    yield from one("max-vocab-sz", "max_vocab_sz=200.", vocab_sz=None, max_vocab_sz=200)
    yield from one("char", "A model of characters.", either("char|model type"), model_type="char")
    yield from one("word", "A model of words.", either("word|model type"), model_type="word")
    yield from one("coverage", "char_coverage=0.98.", char_coverage=0.98)
    for language in ("de", "fr", "tr", "ru", "zh", "ja", "ko", "th", "hi", "ar", "pl"):
        ways = ("backward",) if language in ("de", "ja") else ("forward",)
        yield from one(f"language-{language}", f"Texts in {language}.", language=language, ways=ways, vocab_sz=400)
        if language in ("de", "ja", "tr"):
            yield from one(
                f"bpe-{language}",
                f"A BPE model of texts in {language}.",
                language=language,
                model_type="bpe",
                vocab_sz=400,
            )
    yield from one("rules-subset", "With two rules.", text={"rules": [fix_html, lowercase]})
    yield from one("rules-none", "Without rules.", text={"rules": []})
    yield from one("rules-eos", "With add_eos.", text={"rules": [*RULES[:-1], partial(lowercase, add_eos=True)]})
    yield from one(
        "rules-own", "With an own rule.", refused("no_urls"), text={"rules": [own2.rule_in_notebook("no_urls"), *RULES]}
    )
    yield from one("min-freq", "min_freq=3: pieces without an id.", text={"min_freq": 3})
    yield from one("max-vocab", "max_vocab=100.", text={"max_vocab": 100})
    yield from one(
        "special-toks", "Three special tokens.", either("special|control"), special_toks=["xxunk", "xxpad", "xxbos"]
    )
    yield from one("two-columns", "Two columns.", text={"columns": ["subject", "text"]})

    def given_model(direction: str) -> Any:
        place = scratch()
        import sentencepiece as library

        (place / "texts.txt").write_text("\n".join(training_rows()["text"]), encoding="utf-8")
        library.SentencePieceTrainer.train(
            input=str(place / "texts.txt"), model_prefix=str(place / "own"), vocab_size=300, minloglevel=2
        )
        return loaders(
            text={"tok": SentencePieceTokenizer(sp_model=str(place / "own.model"), cache_dir=str(place)), "min_freq": 1}
        )

    yield from row("sentencepiece", "given", "E6", "sp_model trained without fastai.", EXACT, data=given_model)

    def given_options(direction: str) -> Any:
        place = scratch()
        import sentencepiece as library

        (place / "texts.txt").write_text("\n".join(training_rows()["text"]), encoding="utf-8")
        library.SentencePieceTrainer.train(
            input=str(place / "texts.txt"),
            model_prefix=str(place / "own"),
            vocab_size=500,
            minloglevel=2,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="nfkc_cf",
            add_dummy_prefix=False,
        )
        return loaders(
            text={"tok": SentencePieceTokenizer(sp_model=str(place / "own.model"), cache_dir=str(place)), "min_freq": 1}
        )

    yield from row(
        "sentencepiece",
        "given-options",
        "E6",
        "sp_model with byte_fallback, nfkc_cf, split_digits, without the dummy prefix.",
        either("sentencepiece"),
        data=given_options,
    )

    def given_identity(direction: str) -> Any:
        place = scratch()
        import sentencepiece as library

        (place / "texts.txt").write_text("\n".join(training_rows()["text"]), encoding="utf-8")
        library.SentencePieceTrainer.train(
            input=str(place / "texts.txt"),
            model_prefix=str(place / "own"),
            vocab_size=300,
            minloglevel=2,
            model_type="bpe",
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            treat_whitespace_as_suffix=True,
        )
        return loaders(
            text={"tok": SentencePieceTokenizer(sp_model=str(place / "own.model"), cache_dir=str(place)), "min_freq": 1}
        )

    yield from row(
        "sentencepiece",
        "given-identity",
        "E6",
        "A BPE sp_model without normalization, spaces as suffix.",
        either("sentencepiece"),
        data=given_identity,
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


KINDS = (rules, languages, tokenizers, vocabularies, fields, factories, transforms, sentencepiece)
