"""The table of learners of fastai 1.0.61: python learners1.py OUT [PATTERN ...]. Run by generate.py."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import own1
import torch
from making1 import bunch, classifier, export, fastai_text, plain_bunch
from table import EXACT, Import, Learner, either, generate, refused
from texts import LANGUAGES, TEXTS, rows_in, texts_in, training_rows
from torch import nn

VERSION = "1.0.61"
BOTH = ("forward", "backward")
SOFTMAX = (
    Import("refused", "raw scores|softmax|loss"),
    Import("exact", options={"probabilities": "softmax"}, scores="softmax"),
)
"""Imports of a classifier whose `predict` returns raw scores."""
PRE = list(fastai_text.defaults.text_pre_rules)
POST = list(fastai_text.defaults.text_post_rules)


def row(
    kind: str,
    name: str,
    finding: str,
    what: str,
    imports: tuple[Import, ...] = EXACT,
    *,
    ways: tuple[str, ...] = ("forward",),
    data: Callable[[str], Any] | None = None,
    loading: dict[str, Any] | None = None,
    texts: Any = TEXTS,
    task: str = "single-label",
    before: Callable[[Any], Any] | None = None,
    ids: bool = True,
    labels: Any = None,
    is_loaded: bool = True,
    in_sample: bool = False,
    **options: Any,
) -> Iterator[Learner]:
    """Yield an exported classifier for each direction.

    Args:
        kind: Row of the table.
        name: Name within the kind.
        finding: E1 to E6, or ``plain``.
        what: A description in one sentence.
        imports: How it is imported, and what is expected.
        ways: Directions.
        data: Returns the data of a direction; the plain ones by default.
        loading: Options of `bunch`, instead of data.
        texts: Texts to predict.
        task: What the outputs mean.
        before: Changes the finished learner before it is exported.
        ids: Whether ids are compared.
        labels: Labels, if the learner does not show them.
        is_loaded: Whether predictions are those of `load_learner`.
        in_sample: Whether the quick test includes it.
        options: Options of `making1.classifier`.
    """
    for direction in ways:
        full = f"v1-{kind}-{name}-{direction}"

        def make(direction: str = direction, full: str = full) -> Any:
            if data is not None:
                loaded = data(direction)
            elif loading is not None:
                loaded = bunch(backwards=direction == "backward", **loading)
            else:
                loaded = plain_bunch(direction)
            return classifier(loaded, full, texts=texts, **options)

        made = export(
            make,
            direction=direction,
            task=task,
            texts=texts,
            before=before,
            ids=ids,
            labels=labels,
            is_loaded=is_loaded,
        )
        yield Learner(full, kind, finding, what, made, imports, direction, in_sample and direction == ways[-1])


def sizes() -> Iterator[Learner]:
    """Yield sizes of encoder and head, and every option of `text_classifier_learner`."""
    yield from row("sizes", "plain", "plain", "A plain classifier.", ways=BOTH, in_sample=True)
    for layers in (1, 3, 4):
        yield from row("sizes", f"layers-{layers}", "plain", f"{layers} LSTM layers.", config={"n_layers": layers})
    for wide, hidden in ((24, 20), (25, 75)):
        yield from row(
            "sizes", f"widths-{wide}-{hidden}", "plain", "Other widths.", config={"emb_sz": wide, "n_hid": hidden}
        )
    yield from row("sizes", "head-40-20", "plain", "lin_ftrs=[40, 20].", ways=BOTH, lin_ftrs=[40, 20])
    yield from row("sizes", "head-none", "plain", "lin_ftrs=[]: one linear layer.", lin_ftrs=[])
    yield from row("sizes", "ps-0", "plain", "No dropout in the head.", ps=[0.0], config={"output_p": 0.0})
    zero = {"output_p": 0.0, "hidden_p": 0.0, "input_p": 0.0, "embed_p": 0.0, "weight_p": 0.0}
    yield from row("sizes", "dropouts-0", "plain", "All dropouts 0.", config=zero, ps=[0.0])
    yield from row("sizes", "drop-mult-0", "plain", "drop_mult=0.", ways=BOTH, drop_mult=0.0)
    yield from row("sizes", "bidir", "E1", "bidir=True.", refused("bidir|both|directions"), config={"bidir": True})
    yield from row("sizes", "qrnn", "E6", "qrnn=True.", refused("QRNN"), config={"qrnn": True}, in_sample=True)
    for bptt in (50, 7, 200):
        yield from row(
            "windows", f"bptt-{bptt}", "plain", "Another bptt.", ways=BOTH if bptt == 50 else ("forward",), bptt=bptt
        )
    for max_len in (100, 500, 1000):
        yield from row("windows", f"max-len-{max_len}", "plain", "Another max_len.", max_len=max_len)

    def bptt_after(learn: Any) -> None:
        learn.model[0].bptt = 30

    def max_len_after(learn: Any) -> None:
        learn.model[0].max_len = 60

    yield from row("windows", "bptt-after", "E2", "bptt changed on the module after training.", before=bptt_after)
    yield from row(
        "windows", "max-len-after", "E2", "max_len changed on the module after training.", before=max_len_after
    )

    def pad_idx_after(learn: Any) -> None:
        learn.model[0].pad_idx = 5

    yield from row(
        "windows", "pad-idx-after", "E2", "Another padding id in the encoder.", refused("pad"), before=pad_idx_after
    )
    yield from row("windows", "pad-last", "plain", "pad_first=False in the data.", loading={"pad_first": False})


def heads() -> Iterator[Learner]:
    """Yield heads and encoders that resemble fastai's."""

    def replaced(make: Callable[[], Any]) -> Callable[[Any], None]:
        def change(learn: Any) -> None:
            layers = learn.model[1].layers
            for place, module in enumerate(layers):
                if isinstance(module, nn.ReLU):
                    layers[place] = make()

        return change

    for name, made in (
        ("gelu", nn.GELU),
        ("leaky-relu", nn.LeakyReLU),
        ("tanh", nn.Tanh),
        ("sigmoid-inside", nn.Sigmoid),
        ("selu", nn.SELU),
    ):
        cause = type(made()).__name__
        yield from row(
            "heads",
            name,
            "E1",
            f"{cause} instead of ReLU in the head.",
            refused(cause),
            change=replaced(made),
            in_sample=name == "leaky-relu",
        )

    def appended(make: Callable[[], Any]) -> Callable[[Any], None]:
        def change(learn: Any) -> None:
            learn.model[1].layers.add_module("last", make())

        return change

    for name, made in (
        ("softmax-last", lambda: nn.Softmax(dim=-1)),
        ("sigmoid-last", nn.Sigmoid),
        ("log-softmax-last", lambda: nn.LogSoftmax(dim=-1)),
    ):
        cause = type(made()).__name__
        yield from row("heads", name, "E1", f"{cause} at the end of the head.", refused(cause), change=appended(made))

    def of_class(place: int, make: Callable[[], Any]) -> Callable[[Any], None]:
        def change(learn: Any) -> None:
            learn.model[place].__class__ = make()

        return change

    yield from row(
        "heads",
        "subclass",
        "E1",
        "A subclass of the head in the notebook with fastai's name.",
        refused("__main__|PoolingLinearClassifier"),
        change=of_class(1, own1.head_class),
        in_sample=True,
    )
    yield from row(
        "heads",
        "subclass-own-name",
        "E1",
        "A subclass of the head with a name of its own.",
        refused("MyHead"),
        change=of_class(1, partial(own1.head_class, "MyHead")),
    )
    yield from row(
        "heads",
        "subclass-in-fastai",
        "E1",
        "A subclass of the head in a module that looks like fastai's.",
        refused("fastai.text.own"),
        change=of_class(1, partial(own1.head_class, module="fastai.text.own")),
    )
    yield from row(
        "encoders",
        "multi-batch",
        "E1",
        "A subclass of MultiBatchEncoder with its name.",
        refused("__main__|MultiBatchEncoder"),
        change=of_class(0, own1.sentence_encoder_class),
    )
    yield from row(
        "encoders",
        "multi-batch-own-name",
        "E1",
        "A subclass of MultiBatchEncoder.",
        refused("FirstHundred"),
        change=of_class(0, partial(own1.sentence_encoder_class, "FirstHundred")),
    )

    def inner(make: Callable[[], Any]) -> Callable[[Any], None]:
        def change(learn: Any) -> None:
            learn.model[0].module.__class__ = make()

        return change

    yield from row(
        "encoders",
        "awd-lstm",
        "E1",
        "A subclass of AWD_LSTM with its name.",
        refused("__main__|AWD_LSTM"),
        change=inner(own1.encoder_class),
    )
    yield from row(
        "encoders",
        "awd-lstm-own-name",
        "E1",
        "A subclass of AWD_LSTM.",
        refused("MyLSTM"),
        change=inner(partial(own1.encoder_class, "MyLSTM")),
    )

    def hook(learn: Any) -> None:
        learn.model[1].register_forward_hook(own1.halving_hook)

    yield from row(
        "encoders",
        "forward-hook",
        "E1",
        "A forward hook that halves the scores.",
        refused("hook"),
        before=hook,
        in_sample=True,
    )
    yield from row(
        "encoders",
        "half",
        "E2",
        "A model in half precision.",
        refused("half|float16"),
        before=lambda learn: learn.model.half() and None,
    )
    yield from row(
        "encoders",
        "double",
        "E2",
        "A model in double precision.",
        either("double|float64"),
        before=lambda learn: learn.model.double() and None,
    )
    yield from row(
        "encoders",
        "training-mode",
        "plain",
        "A model left in training mode.",
        before=lambda learn: learn.model.train() and None,
    )

    def trained(learn: Any) -> None:
        from making1 import quietly

        quietly(learn.fit_one_cycle, 1, 1e-3)

    yield from row(
        "encoders", "trained", "plain", "A learner that was trained for an epoch.", before=trained, ways=BOTH
    )
    yield from row(
        "encoders", "to-fp16", "plain", "to_fp16().to_fp32().", before=lambda learn: learn.to_fp16().to_fp32()
    )
    yield from row(
        "encoders",
        "to-fp16-only",
        "E2",
        "to_fp16(): fastai 1 halves the model.",
        either("half|float16"),
        before=lambda learn: learn.to_fp16(),
        is_loaded=False,
    )


def rules() -> Iterator[Learner]:
    """Yield lists of cleaning rules, and options of the tokenizer."""

    def one(
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
        def data(direction: str) -> Any:
            options = {key: value() if callable(value) and key != "tok_func" else value for key, value in given.items()}
            return bunch(rows=rows, backwards=direction == "backward", tokenizer=fastai_text.Tokenizer(**options))

        return row("rules", name, finding, what, imports, data=data, ways=ways, in_sample=in_sample, texts=texts)

    yield from one(
        "notebook-fix-html",
        "E1",
        "An own rule called fix_html in the notebook.",
        refused("__main__|fix_html"),
        pre_rules=lambda: [own1.rule("fix_html"), *PRE[1:]],
        in_sample=True,
    )
    yield from one(
        "module-replace-rep",
        "E1",
        "An own rule called replace_rep in a module.",
        refused("my_rules"),
        pre_rules=lambda: [PRE[0], own1.rule("replace_rep", "my_rules"), *PRE[2:]],
    )
    yield from one(
        "notebook-deal-caps",
        "E1",
        "An own post rule called deal_caps in the notebook.",
        refused("__main__|deal_caps"),
        post_rules=lambda: [POST[0], own1.rule("deal_caps")],
    )
    yield from one(
        "own-extra",
        "E1",
        "An own rule before fastai's.",
        refused("no_urls"),
        pre_rules=lambda: [own1.rule("no_urls"), *PRE],
    )
    yield from one(
        "own-post",
        "E1",
        "An own rule after fastai's.",
        refused("drop_short"),
        post_rules=lambda: [*POST, own1.rule("drop_short")],
    )
    yield from one(
        "reordered",
        "E6",
        "fastai's rules in another order.",
        pre_rules=lambda: [PRE[1], PRE[2], PRE[0], PRE[4], PRE[3]],
        in_sample=True,
    )
    yield from one("reversed", "E6", "fastai's rules in reverse.", pre_rules=lambda: PRE[::-1], ways=BOTH)
    yield from one("post-reversed", "E6", "fastai's post rules in reverse.", post_rules=lambda: POST[::-1])
    yield from one("subset", "E6", "Two of fastai's rules.", pre_rules=lambda: [PRE[0], PRE[4]])
    yield from one("no-pre", "E6", "No rules before the tokenizer.", pre_rules=lambda: [])
    yield from one("no-post", "E6", "No rules after the tokenizer.", post_rules=lambda: [])
    yield from one("none", "E6", "No rules.", pre_rules=lambda: [], post_rules=lambda: [])
    yield from one("only-caps", "E6", "Only deal_caps after the tokenizer.", post_rules=lambda: [POST[1]])
    for without in PRE:
        yield from one(
            f"without-{without.__name__.replace('_', '-')}",
            "E6",
            f"All rules but {without.__name__}.",
            pre_rules=lambda without=without: [each for each in PRE if each is not without],
        )
    spec = list(fastai_text.defaults.text_spec_tok)
    yield from one("special-cases", "plain", "special_cases: fastai's own.", special_cases=spec)
    yield from one(
        "special-cases-more",
        "E6",
        "special_cases with two more words.",
        either("special|control"),
        special_cases=[*spec, "don't", "U.S."],
    )
    yield from one(
        "special-cases-fewer",
        "E6",
        "special_cases without two words.",
        either("special|control"),
        special_cases=spec[:-2],
    )
    yield from one(
        "base-tokenizer",
        "E6",
        "BaseTokenizer: splits at spaces.",
        tok_func=fastai_text.BaseTokenizer,
        ways=BOTH,
        in_sample=True,
    )
    yield from one(
        "tokenizer-subclass",
        "E1",
        "A subclass of SpacyTokenizer with its name.",
        refused("__main__|SpacyTokenizer"),
        tok_func=own1.tokenizer_class("SpacyTokenizer"),
    )
    yield from one(
        "tokenizer-own-name",
        "E1",
        "A subclass of SpacyTokenizer.",
        refused("WordsOnly"),
        tok_func=own1.tokenizer_class("WordsOnly"),
        in_sample=True,
    )
    yield from one(
        "tokenizer-in-module",
        "E1",
        "A subclass of SpacyTokenizer in a module of the user's.",
        refused("my_text"),
        tok_func=own1.tokenizer_class("SpacyTokenizer", "my_text.transform"),
    )
    for language in LANGUAGES:
        expected = either("language|spaCy|split") if language in ("zh", "ja", "ko", "th", "vi") else EXACT
        if language in ("de", "fr", "es", "it", "nl", "pl", "tr", "ru", "ar", "zh", "ja", "fi", "sv", "xx"):
            for learner in one(
                f"language-{language}",
                "plain",
                f"spaCy's tokenizer of {language}.",
                expected,
                lang=language,
                rows=rows_in(language),
                texts=texts_in(language),
                ways=("backward" if language == "de" else "forward",),
            ):
                yield Learner(
                    **{
                        **vars(learner),
                        "name": learner.name.replace("rules-language", "languages"),
                        "kind": "languages",
                    }
                )


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


def losses() -> Iterator[Learner]:
    """Yield losses of single-label classifiers."""
    weight = torch.tensor([1.0, 2.0, 0.5])
    exact: dict[str, Callable[[], Any]] = {
        "cross-entropy-flat": fastai_text.CrossEntropyFlat,
        "cross-entropy-weight": lambda: fastai_text.CrossEntropyFlat(weight=weight),
        "flattened": lambda: fastai_text.FlattenedLoss(nn.CrossEntropyLoss),
        "flattened-axis-1": lambda: fastai_text.FlattenedLoss(nn.CrossEntropyLoss, axis=1),
        "torch-cross-entropy": nn.CrossEntropyLoss,
        "torch-cross-entropy-weight": lambda: nn.CrossEntropyLoss(weight=weight),
        "functional": lambda: torch.nn.functional.cross_entropy,
    }
    for name, made in exact.items():
        yield from row(
            "losses",
            name,
            "E3",
            "A loss for which fastai 1 applies a softmax.",
            loss_func=made(),
            in_sample=name == "functional",
        )
    raw: dict[str, Callable[[], Any]] = {
        "label-smoothing": fastai_text.LabelSmoothingCrossEntropy,
        "label-smoothing-flat": lambda: own1.flattened(fastai_text.LabelSmoothingCrossEntropy),
        "own-function": lambda: own1.own_loss,
        "own-focal": own1.FocalLoss,
        "own-focal-flat": lambda: own1.flattened(own1.FocalLoss),
    }
    for name, made in raw.items():
        yield from row(
            "losses",
            name,
            "E3",
            "A loss that fastai 1 does not know: predict returns raw scores.",
            SOFTMAX,
            loss_func=made(),
            in_sample=name == "label-smoothing",
        )
    yield from row(
        "losses",
        "own-named-like-torch",
        "E3",
        "An own loss called CrossEntropyLoss.",
        either("__main__|CrossEntropyLoss"),
        loss_func=own1.CrossEntropyLoss(),
    )
    yield from row(
        "losses",
        "partial",
        "E3",
        "A partial of cross_entropy.",
        either("partial|loss"),
        loss_func=partial(torch.nn.functional.cross_entropy, label_smoothing=0.1),
    )
    yield from row(
        "losses",
        "axis-0",
        "E3",
        "axis=0: the softmax goes over the texts.",
        refused("axis"),
        loss_func=fastai_text.CrossEntropyFlat(axis=0),
    )
    yield from row(
        "losses",
        "nll",
        "E3",
        "NLLLoss without a log-softmax: exp of the scores.",
        refused("NLLLoss|loss"),
        loss_func=nn.NLLLoss(),
    )
    yield from row(
        "losses",
        "bce",
        "E3",
        "BCEWithLogitsFlat in a single-label classifier.",
        refused("BCE|loss"),
        loss_func=fastai_text.BCEWithLogitsFlat(),
    )


def lists() -> Iterator[Learner]:
    """Yield data made in other ways: from_csv, from_folder, the data block, subclasses."""

    def by_block(
        cls: Any = None, processor: Any = None, label: Any = "label", rows: Any = None, **labeling: Any
    ) -> Callable[[str], Any]:
        def data(direction: str) -> Any:
            from making1 import quietly, scratch

            fastai_text.set_all_seed(7)
            given = {} if processor is None else {"processor": processor()}
            items = (cls or fastai_text.TextList).from_df(
                training_rows() if rows is None else rows, scratch(), cols="text", **given
            )
            labeled = quietly(items.split_by_rand_pct(0.1, seed=3).label_from_df, cols=label, **labeling)
            return quietly(labeled.databunch, bs=16, num_workers=0, backwards=direction == "backward")

        return data

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

    def csv(direction: str) -> Any:
        from making1 import quietly, scratch

        fastai_text.set_all_seed(7)
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

        fastai_text.set_all_seed(7)
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


def callbacks() -> Iterator[Learner]:
    """Yield callbacks."""
    from fastai.callbacks import CSVLogger, EarlyStoppingCallback, ReduceLROnPlateauCallback, SaveModelCallback

    yield from row(
        "callbacks",
        "temperature",
        "E1",
        "A callback that halves the scores.",
        refused("TemperatureCallback"),
        callbacks=[own1.TemperatureCallback()],
        in_sample=True,
    )
    yield from row(
        "callbacks",
        "own-harmless",
        "E1",
        "An own callback that does nothing.",
        either("HarmlessCallback"),
        callbacks=[own1.HarmlessCallback()],
    )
    for name, made in {
        "csv-logger": [CSVLogger],
        "early-stopping": [EarlyStoppingCallback],
        "reduce-lr": [ReduceLROnPlateauCallback],
        "save-model": [SaveModelCallback],
        "all": [CSVLogger, EarlyStoppingCallback, ReduceLROnPlateauCallback],
    }.items():
        yield from row(
            "callbacks", name, "plain", "Callbacks of fastai that do not touch predictions.", callback_fns=made
        )


def main() -> None:
    """Make the learners whose names match."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    kinds = (sizes, heads, rules, text_options, losses, lists, callbacks)
    generate((learner for kind in kinds for learner in kind()), Path(sys.argv[1]), VERSION, sys.argv[2:])


if __name__ == "__main__":
    main()
