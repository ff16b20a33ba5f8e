"""Kinds of learners of fastai 1.0.61: rules, tokenizers, languages and data."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import own1
from making1 import bunch, fastai_text, kept, quietly, scratch, seed_all
from rows1 import BOTH, POST, PRE, row
from table import EXACT, Import, Learner, either, refused
from texts import TEXTS, rows_in, texts_in, training_rows


def with_tokenizer(
    name: str,
    finding: str,
    what: str,
    imports: tuple[Import, ...] = EXACT,
    *,
    ways: tuple[str, ...] = ("forward",),
    in_sample: bool = False,
    rows: Any = None,
    texts: Any = TEXTS,
    **given: Any,
) -> Iterator[Learner]:
    """Yield learners with options of the tokenizer."""

    def data(direction: str) -> Any:
        options = {key: value() if callable(value) and key != "tok_func" else value for key, value in given.items()}
        return bunch(rows=rows, backwards=direction == "backward", tokenizer=fastai_text.Tokenizer(**options))

    return row("rules", name, finding, what, imports, data=data, ways=ways, in_sample=in_sample, texts=texts)


def own_rules() -> Iterator[Learner]:
    """Yield rules of the user's, with fastai's names."""
    yield from with_tokenizer(
        "notebook-fix-html",
        "E1",
        "An own rule called fix_html in the notebook.",
        refused("__main__|fix_html"),
        pre_rules=lambda: [own1.rule("fix_html"), *PRE[1:]],
        in_sample=True,
    )
    yield from with_tokenizer(
        "module-replace-rep",
        "E1",
        "An own rule called replace_rep in a module.",
        refused("my_rules"),
        pre_rules=lambda: [PRE[0], own1.rule("replace_rep", "my_rules"), *PRE[2:]],
    )
    yield from with_tokenizer(
        "notebook-deal-caps",
        "E1",
        "An own post rule called deal_caps in the notebook.",
        refused("__main__|deal_caps"),
        post_rules=lambda: [POST[0], own1.rule("deal_caps")],
    )
    yield from with_tokenizer(
        "own-extra",
        "E1",
        "An own rule before fastai's.",
        refused("no_urls"),
        pre_rules=lambda: [own1.rule("no_urls"), *PRE],
    )
    yield from with_tokenizer(
        "own-post",
        "E1",
        "An own rule after fastai's.",
        refused("drop_short"),
        post_rules=lambda: [*POST, own1.rule("drop_short")],
    )


def lists_of_rules() -> Iterator[Learner]:
    """Yield lists of fastai's own rules."""
    yield from with_tokenizer(
        "reordered",
        "E6",
        "fastai's rules in another order.",
        pre_rules=lambda: [PRE[1], PRE[2], PRE[0], PRE[4], PRE[3]],
        in_sample=True,
    )
    yield from with_tokenizer("reversed", "E6", "fastai's rules in reverse.", pre_rules=lambda: PRE[::-1], ways=BOTH)
    yield from with_tokenizer("post-reversed", "E6", "fastai's post rules in reverse.", post_rules=lambda: POST[::-1])
    yield from with_tokenizer("subset", "E6", "Two of fastai's rules.", pre_rules=lambda: [PRE[0], PRE[4]])
    yield from with_tokenizer("no-pre", "E6", "No rules before the tokenizer.", pre_rules=lambda: [])
    yield from with_tokenizer("no-post", "E6", "No rules after the tokenizer.", post_rules=lambda: [])
    yield from with_tokenizer("none", "E6", "No rules.", pre_rules=lambda: [], post_rules=lambda: [])
    yield from with_tokenizer("only-caps", "E6", "Only deal_caps after the tokenizer.", post_rules=lambda: [POST[1]])
    for without in PRE:
        yield from with_tokenizer(
            f"without-{without.__name__.replace('_', '-')}",
            "E6",
            f"All rules but {without.__name__}.",
            pre_rules=lambda without=without: [each for each in PRE if each is not without],
        )


def tokenizers() -> Iterator[Learner]:
    """Yield special cases, BaseTokenizer, and subclasses of fastai's tokenizer."""
    spec = list(fastai_text.defaults.text_spec_tok)
    yield from with_tokenizer("special-cases", "plain", "special_cases: fastai's own.", special_cases=spec)
    yield from with_tokenizer(
        "special-cases-more",
        "E6",
        "special_cases with two more words.",
        either("special|control"),
        special_cases=[*spec, "don't", "U.S."],
    )
    yield from with_tokenizer(
        "special-cases-fewer",
        "E6",
        "special_cases without two words.",
        either("special|control"),
        special_cases=spec[:-2],
    )
    yield from with_tokenizer(
        "base-tokenizer",
        "E6",
        "BaseTokenizer: splits at spaces.",
        tok_func=fastai_text.BaseTokenizer,
        ways=BOTH,
        in_sample=True,
    )
    yield from with_tokenizer(
        "tokenizer-subclass",
        "E1",
        "A subclass of SpacyTokenizer with its name.",
        refused("__main__|SpacyTokenizer"),
        tok_func=own1.tokenizer_class("SpacyTokenizer"),
    )
    yield from with_tokenizer(
        "tokenizer-own-name",
        "E1",
        "A subclass of SpacyTokenizer.",
        refused("WordsOnly"),
        tok_func=own1.tokenizer_class("WordsOnly"),
        in_sample=True,
    )
    yield from with_tokenizer(
        "tokenizer-in-module",
        "E1",
        "A subclass of SpacyTokenizer in a module of the user's.",
        refused("my_text"),
        tok_func=own1.tokenizer_class("SpacyTokenizer", "my_text.transform"),
    )


def languages() -> Iterator[Learner]:
    """Yield languages of spaCy."""
    for language in ("de", "fr", "es", "it", "nl", "pl", "tr", "ru", "ar", "fi", "sv", "xx"):

        def data(direction: str, language: str = language) -> Any:
            tokenizer = fastai_text.Tokenizer(lang=language)
            return bunch(rows=rows_in(language), tokenizer=tokenizer, backwards=direction == "backward")

        way = "backward" if language == "de" else "forward"
        what, texts = f"spaCy's tokenizer of {language}.", texts_in(language)
        yield from row("languages", language, "plain", what, EXACT, data=data, ways=(way,), texts=texts)


def text_options() -> Iterator[Learner]:
    """Yield options of `TextClasDataBunch.from_df`."""
    for name, given in {
        "max-vocab": {"max_vocab": 100},
        "max-vocab-8": {"max_vocab": 96},
        "min-freq-1": {"min_freq": 1},
        "min-freq-5": {"min_freq": 5},
        "chunksize": {"chunksize": 7},
        "eos": {"include_eos": True},
        "fields-one": {"mark_fields": True},
        "fields-eos": {"mark_fields": True, "include_eos": True},
    }.items():
        yield from row(
            "text-options", name, "plain", f"{given}.", loading=given, ways=BOTH if "eos" in name else ("forward",)
        )
    yield from row("text-options", "no-bos", "E6", "include_bos=False.", either("bos"), loading={"include_bos": False})
    yield from row(
        "text-options",
        "no-bos-eos",
        "E6",
        "include_bos=False, include_eos=True.",
        either("bos"),
        loading={"include_bos": False, "include_eos": True},
    )

    def vocabulary(direction: str) -> Any:
        words = [*fastai_text.defaults.text_spec_tok, "the", "parcel", "lamp", ".", ",", "was", "i"]
        return bunch(vocab=fastai_text.Vocab(words))

    yield from row("text-options", "vocab-given", "plain", "A vocabulary that was passed.", data=vocabulary)

    def twice(direction: str) -> Any:
        words = [*fastai_text.defaults.text_spec_tok, "the", "parcel", "the", ".", ",", "was", "i"]
        return bunch(vocab=fastai_text.Vocab(words))

    yield from row(
        "text-options",
        "vocab-twice",
        "E1",
        "A vocabulary with a word that occurs twice.",
        either("twice|duplicate|several"),
        data=twice,
    )

    def no_specials(direction: str) -> Any:
        return bunch(vocab=fastai_text.Vocab(["xxunk", "xxpad", "the", "parcel", ".", ",", "was", "i", "xxbos"]))

    yield from row(
        "text-options",
        "vocab-few-specials",
        "E1",
        "A vocabulary without most special tokens.",
        either("vocabulary|special|control"),
        data=no_specials,
    )

    def pad_elsewhere(direction: str) -> Any:
        words = [*fastai_text.defaults.text_spec_tok]
        words[1], words[2] = words[2], words[1]
        return bunch(vocab=fastai_text.Vocab([*words, "the", "parcel", ".", ",", "was", "i"]))

    yield from row(
        "text-options",
        "vocab-pad-elsewhere",
        "E1",
        "A vocabulary whose xxpad is not id 1.",
        either("xxpad|vocabulary|pad"),
        data=pad_elsewhere,
    )


def by_block(
    cls: Any = None, processor: Any = None, label: Any = "label", rows: Any = None, **labeling: Any
) -> Callable[[str], Any]:
    """Return a function that makes data by the data block."""

    def data(direction: str) -> Any:
        from making1 import quietly, scratch

        seed_all(7)
        given = {} if processor is None else {"processor": processor()}
        items = (cls or fastai_text.TextList).from_df(
            training_rows() if rows is None else rows, scratch(), cols="text", **given
        )
        labeled = quietly(items.split_by_rand_pct(0.1, seed=3).label_from_df, cols=label, **labeling)
        return quietly(labeled.databunch, bs=16, num_workers=0, backwards=direction == "backward")

    return data


def lists() -> Iterator[Learner]:
    """Yield data made in other ways: from_csv, from_folder, the data block, subclasses."""
    yield from row("lists", "data-block", "plain", "The data block API.", data=by_block(), ways=BOTH)
    yield from row(
        "lists",
        "subclass",
        "E1",
        "A subclass of TextList that truncates.",
        refused("TextListOfMine"),
        data=by_block(own1.TextListOfMine),
        in_sample=True,
    )
    yield from row(
        "lists",
        "subclass-quiet",
        "E1",
        "A subclass of TextList that changes nothing.",
        either("QuietTextList"),
        data=by_block(own1.QuietTextList),
    )

    def with_truncation() -> Any:
        return [fastai_text.TokenizeProcessor(), fastai_text.NumericalizeProcessor(), own1.TruncateProcessor()]

    yield from row(
        "lists",
        "own-processor",
        "E2",
        "A processor that truncates.",
        refused("TruncateProcessor"),
        data=by_block(processor=with_truncation),
    )

    def own_tokenize() -> Any:
        return [own1.OwnTokenizeProcessor(), fastai_text.NumericalizeProcessor()]

    yield from row(
        "lists",
        "own-tokenize-processor",
        "E1",
        "A subclass of TokenizeProcessor.",
        refused("OwnTokenizeProcessor"),
        data=by_block(processor=own_tokenize),
    )


def factories() -> Iterator[Learner]:
    """Yield the factory methods of TextClasDataBunch."""

    def csv(direction: str) -> Any:
        from making1 import quietly, scratch

        seed_all(7)
        training_rows()[["label", "text"]].to_csv(scratch() / "texts.csv", index=False)
        return quietly(
            fastai_text.TextClasDataBunch.from_csv,
            scratch(),
            "texts.csv",
            bs=16,
            num_workers=0,
            backwards=direction == "backward",
        )

    yield from row("lists", "from-csv", "plain", "TextClasDataBunch.from_csv.", data=csv, ways=BOTH)

    def folder(direction: str) -> Any:
        from making1 import quietly, scratch

        seed_all(7)
        place = scratch() / "folders"
        for index, (text, label) in enumerate(training_rows()[["text", "label"]].itertuples(index=False)):
            file = place / ("valid" if index % 10 == 0 else "train") / label / f"{index:03}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return quietly(
            fastai_text.TextClasDataBunch.from_folder, place, bs=16, num_workers=0, backwards=direction == "backward"
        )

    yield from row(
        "lists", "from-folder", "plain", "TextClasDataBunch.from_folder.", data=folder, ways=BOTH, in_sample=True
    )


def labels() -> Iterator[Learner]:
    """Yield labels of several types."""
    for name, values in {
        "ints": lambda rows: rows["label"].astype("category").cat.codes.astype("int64"),
        "bools": lambda rows: rows["is_question"],
        "strings-of-ints": lambda rows: rows["label"].astype("category").cat.codes.astype(str),
        "letters": lambda rows: rows["label"].str[0].str.upper() + ' ü, "x"',
    }.items():
        rows = training_rows()
        yield from row(
            "labels", name, "plain", f"Labels that are {name}.", loading={"rows": rows.assign(label=values(rows))}
        )
    whole = training_rows().assign(kind=lambda rows: rows["length"].round().clip(1, 3))
    yield from row(
        "labels",
        "float-classes",
        "plain",
        "Floats that are classes.",
        data=by_block(rows=whole, label="kind", label_cls=fastai_text.CategoryList),
    )
    yield from row("labels", "bools-by-block", "plain", "Booleans, by the data block.", data=by_block(label="is_long"))


def sentencepiece() -> Iterator[Learner]:
    """Yield tokenizers of sentencepiece, whose export holds only the path of the model."""
    missing = Import("refused", "sentencepiece|SPProcessor", note="the export holds only the path of the model")

    def one(
        name: str,
        what: str,
        given_model: tuple[Import, ...] = (),
        *,
        language: str = "en",
        ways: tuple[str, ...] = ("forward",),
        in_sample: bool = False,
        **given: Any,
    ) -> Iterator[Learner]:
        def data(direction: str) -> Any:
            return kept(f"{name}-{direction}", lambda: pieces(direction, language, **given))

        imports = given_model or (Import(options={"sentencepiece": "file:spm.model"}), missing)
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
            copied=copied_model,
        )

    yield from one("unigram", "A unigram model.", ways=BOTH, in_sample=True)
    yield from one("bpe", "A BPE model.", ways=BOTH, model_type="bpe", in_sample=True)
    for size in (120, 800):
        yield from one(f"unigram-{size}", f"vocab_sz={size}.", vocab_sz=size)
        yield from one(f"bpe-{size}", f"A BPE model with vocab_sz={size}.", vocab_sz=size, model_type="bpe")
    yield from one("default-size", "vocab_sz by fastai.", vocab_sz=None)
    for language in ("de", "fr", "tr", "ru", "zh", "ja", "hi"):
        ways = ("backward",) if language in ("de", "ja") else ("forward",)
        yield from one(f"language-{language}", f"Texts in {language}.", language=language, ways=ways, vocab_sz=400)
    yield from one("bpe-de", "A BPE model of texts in German.", language="de", model_type="bpe")
    char = (Import("either", "char|model type", {"sentencepiece": "file:spm.model"}), missing)
    yield from one("char", "A model of characters.", char, model_type="char")
    yield from one("eos", "include_eos=True.", include_eos=True)
    yield from one("fields", "mark_fields=True.", mark_fields=True)
    no_bos = (Import("either", "bos", {"sentencepiece": "file:spm.model"}), missing)
    yield from one("no-bos", "include_bos=False.", no_bos, include_bos=False)
    yield from one("pre-subset", "Two rules before.", pre_rules=[PRE[0], PRE[4]])
    yield from one("no-post", "No rules after.", post_rules=[])
    yield from one("none", "No rules.", pre_rules=[], post_rules=[])
    own = (Import("refused", "no_urls", {"sentencepiece": "file:spm.model"}), missing)
    yield from one("own-rule", "An own rule.", own, pre_rules=[own1.rule("no_urls"), *PRE])
    wrong = (Import("refused", "sentencepiece|vocabulary|pieces", {"sentencepiece": "file:other.model"}),)
    yield from one("other-model", "The model of another learner, with other pieces.", wrong, vocab_sz=250)


def pieces(direction: str, language: str, kind: Any = None, **given: Any) -> Any:
    """Return data tokenized by a SPProcessor, or a subclass of it, in a folder of its own."""
    seed_all(7)
    place = scratch() / f"pieces-{len(list(scratch().iterdir()))}"
    place.mkdir()
    rows = training_rows() if language == "en" else rows_in(language)
    processor = (kind or fastai_text.SPProcessor)(
        lang=language, n_cpus=1, **{"vocab_sz": 300, "max_sentence_len": 20480, **given}
    )
    items = fastai_text.TextList.from_df(rows, place, cols="text", processor=[processor])
    labeled = quietly(items.split_by_rand_pct(0.1, seed=3).label_from_df, cols="label")
    return quietly(labeled.databunch, bs=16, num_workers=0, backwards=direction == "backward")


def copied_model(learn: Any, folder: Path) -> dict[str, str]:
    """Copy the model of sentencepiece, as users have it next to the export; and one that is another's."""
    processor = next(each for each in learn.data.train_ds.x.processor if hasattr(each, "sp_model"))
    shutil.copy(processor.sp_model, folder / "spm.model")
    import sentencepiece as library

    words = [text[::-1] for text in training_rows()["text"]]
    (scratch() / "other.txt").write_text("\n".join(words), encoding="utf-8")
    library.SentencePieceTrainer.train(
        input=str(scratch() / "other.txt"), model_prefix=str(folder / "other"), vocab_size=250, minloglevel=2
    )
    return {"sentencepiece": "spm.model"}


def fields() -> Iterator[Learner]:
    """Yield several text columns."""
    columns = ["subject", "text"]
    pairs = [["Lamp Broken", text] for text in TEXTS[:4]]
    for name, marked in (("marked", True), ("unmarked", False)):
        loading = {"text_cols": columns, "mark_fields": marked}
        what = f"Two text columns, mark_fields={marked}"
        yield from row("fields", f"two-{name}", "E5", f"{what}, one text each.", loading=loading, ways=BOTH)
        yield from row("fields", f"two-{name}-pairs", "E5", f"{what}, both texts.", EXACT, loading=loading, texts=pairs)


KINDS = (
    own_rules,
    lists_of_rules,
    tokenizers,
    languages,
    text_options,
    lists,
    factories,
    labels,
    sentencepiece,
    fields,
)
