"""Kinds of learners of fastai 2: columns, sources of texts, factory methods and transforms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import own2
from fastai.text.all import (
    CategoryBlock,
    ColReader,
    DataBlock,
    ItemGetter,
    Numericalize,
    Pad_Chunk,
    Pipeline,
    RandomSplitter,
    SpacyTokenizer,
    TextBlock,
    TextDataLoaders,
    Tokenizer,
    Transform,
    defaults,
    fa_collate,
    pad_input,
    reverse_text,
    set_seed,
)
from making2 import in_notebook, loaders, scratch, text_block
from rows2 import BOTH, row
from table import Learner, either, refused
from texts import training_rows


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


def sources() -> Iterator[Learner]:
    """Yield texts that come from elsewhere than a column, or through a function."""

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
        either("cut_string"),
        data=with_function(Pipeline([ColReader("text"), in_notebook(cut_string)])),
        in_sample=True,
    )


def with_function(get_x: Any) -> Callable[[str], Any]:
    """Return a function that makes data whose texts are read by a function."""

    def data(direction: str) -> Any:
        set_seed(7, reproducible=True)
        text = TextBlock(Tokenizer(SpacyTokenizer("en")), min_freq=2, backwards=direction == "backward")
        block = DataBlock(
            (text, CategoryBlock), get_x=get_x, get_y=ColReader("label"), splitter=RandomSplitter(0.1, seed=3)
        )
        return block.dataloaders(training_rows(), bs=16, num_workers=0)

    return data


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


def collations() -> Iterator[Learner]:
    """Yield what is done before a batch is made, and other paddings."""
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


def added_transforms() -> Iterator[Learner]:
    """Yield transforms that were added after training."""

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


def type_transforms() -> Iterator[Learner]:
    """Yield transforms between text and ids."""
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


def transform_classes() -> Iterator[Learner]:
    """Yield subclasses of fastai's transforms with their names."""

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


def before_batch(*transforms: Any, **more: Any) -> Callable[[str], Any]:
    """Return a function that makes data with transforms before the batch."""

    def data(direction: str) -> Any:
        block = text_block(backwards=direction == "backward")
        block.dls_kwargs = {"before_batch": list(transforms), **more}
        return loaders(text=block)

    return data


def type_transform(*transforms: Any) -> Callable[[str], Any]:
    """Return a function that makes data with transforms after fastai's."""

    def data(direction: str) -> Any:
        block = text_block(backwards=direction == "backward")
        block.type_tfms = [*block.type_tfms, *transforms]
        return loaders(text=block)

    return data


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


KINDS = (fields, sources, factories, transforms, collations, added_transforms, type_transforms, transform_classes)
