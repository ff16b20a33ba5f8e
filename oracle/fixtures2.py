"""Train small learners with the real fastai 2 and write their predictions: the fastai 2 half of make_fixtures.py.

Run by make_fixtures.py in a process of its own: python fixtures2.py OUT [NAME ...]. Names are patterns of cases.
"""

from __future__ import annotations

import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fastai.text.all import (
    AWD_LSTM,
    BCEWithLogitsLossFlat,
    CategoryBlock,
    ColReader,
    CrossEntropyLossFlat,
    DataBlock,
    F1Score,
    LabelSmoothingCrossEntropyFlat,
    MSELossFlat,
    MultiCategory,
    MultiCategoryBlock,
    RandomSplitter,
    RegressionBlock,
    SpacyTokenizer,
    TextBlock,
    TextDataLoaders,
    accuracy,
    awd_lstm_clas_config,
    awd_lstm_lm_config,
    language_model_learner,
    load_learner,
    set_seed,
    text_classifier_learner,
)
from fixture_texts import (
    Cases,
    directions,
    graphics_card_files,
    has_real_data,
    texts_to_predict,
    training_rows,
    write_case,
)

VERSION = "2.8.12"
CLASSIFIER_SIZES = {"emb_sz": 40, "n_hid": 68, "n_layers": 3}
LM_SIZES = {"emb_sz": 40, "n_hid": 68, "n_layers": 3}


def quietly(learn: Any, epochs: int, rate: float) -> None:
    """Train without progress bars and tables."""
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(epochs, rate)


def classifier(
    rows: Any,
    direction: str,
    *,
    language: str = "en",
    sizes: dict[str, Any] | None = None,
    seq_len: int = 72,
    blocks: Any = CategoryBlock,
    get_x: Any = None,
    get_y: Any = None,
    epochs: int = 6,
    learner: dict[str, Any] | None = None,
) -> Any:
    """Return a trained text classifier, made as in a user's notebook.

    Args:
        rows: Columns text and label.
        direction: ``forward`` or ``backward``.
        language: spaCy's name of the language.
        sizes: Changes to fastai's configuration of the encoder.
        seq_len: Window of the data and of the model.
        blocks: The block of the labels.
        get_x: Reads a row's tokens; by column by default.
        get_y: Reads a row's label; by column by default.
        epochs: Passes over the rows.
        learner: Options of `text_classifier_learner`.
    """
    set_seed(7, reproducible=True)
    backwards = direction == "backward"
    text = TextBlock.from_df(
        "text",
        seq_len=seq_len,
        backwards=backwards,
        tok=None if language == "en" else SpacyTokenizer(language),
        n_workers=0,
    )
    data = DataBlock(
        blocks=(text, blocks),
        get_x=get_x or ColReader("text"),
        get_y=get_y or ColReader("label"),
        splitter=RandomSplitter(0.1, seed=3),
    ).dataloaders(rows, bs=32, num_workers=0, seq_len=seq_len)
    config = {**awd_lstm_clas_config, **(sizes or CLASSIFIER_SIZES)}
    options = {"metrics": accuracy, "drop_mult": 0.1, **(learner or {})}  # little dropout: surer probabilities
    learn = text_classifier_learner(
        data, AWD_LSTM, seq_len=seq_len, config=config, backwards=backwards, pretrained=False, **options
    )
    quietly(learn, epochs, 2e-2)
    return learn


def language_model(rows: Any, direction: str, *, language: str = "en", epochs: int = 6) -> Any:
    """Return a trained language model, made as in a user's notebook."""
    set_seed(7, reproducible=True)
    backwards = direction == "backward"
    tokenizer = None if language == "en" else SpacyTokenizer(language)
    text = TextBlock.from_df("text", is_lm=True, backwards=backwards, tok=tokenizer, n_workers=0)
    data = DataBlock(blocks=text, get_x=ColReader("text"), splitter=RandomSplitter(0.1, seed=3)).dataloaders(
        rows, bs=16, num_workers=0, seq_len=72
    )
    learn = language_model_learner(
        data, AWD_LSTM, config={**awd_lstm_lm_config, **LM_SIZES}, drop_mult=0.3, backwards=backwards, pretrained=False
    )
    quietly(learn, epochs, 2e-2)
    return learn


def tokens_and_ids(learn: Any, direction: str, text: str) -> tuple[list[str], list[int]]:
    """Return a text's tokens, and its ids as written, from the pipeline that `predict` uses."""
    items = learn.dls.test_dl([text], num_workers=0)
    read = (items.items[0] if hasattr(items, "make_chunks") else items.dataset[0][0]).tolist()
    tokens, ids = list(learn.dls.tokenizer(text)), read if direction == "forward" else read[::-1]
    assert ids == [learn.dls.numericalize.o2i[token] for token in tokens], "the pipeline reads another way"
    return tokens, ids


def expected_probabilities(learn: Any, direction: str, text: str) -> dict[str, Any]:
    """Return a classifier's line: the result of `learn.predict` for one text. A regression has numbers instead."""
    tokens, ids = tokens_and_ids(learn, direction, text)
    with learn.no_bar(), learn.no_logging():
        decided, _, probabilities = learn.predict(text)
    line = {"tokens": tokens, "ids": ids, "probabilities": [float(number) for number in probabilities]}
    return {**line, "chosen": list(map(str, decided))} if isinstance(decided, MultiCategory) else line


def expected_loss(learn: Any, direction: str, text: str) -> dict[str, Any]:
    """Return a language model's line: the mean negative log-likelihood of the tokens after the first that is read."""
    tokens, ids = tokens_and_ids(learn, direction, text)
    reading = torch.tensor([ids if direction == "forward" else ids[::-1]])
    learn.model.eval()
    learn.model.reset()
    with torch.no_grad():
        scores = learn.model(reading)[0][0]
    loss = torch.nn.functional.cross_entropy(scores[:-1], reading[0, 1:]).item() if len(ids) > 1 else None
    return {"tokens": tokens, "ids": ids, "loss": loss}


def expected_states(learn: Any, direction: str, text: str) -> dict[str, Any]:
    """Return an encoder's line: its state after the last token that is read, and the mean of its states."""
    tokens, ids = tokens_and_ids(learn, direction, text)
    encoder = learn.model[0].module if hasattr(learn.model[0], "module") else learn.model[0]
    encoder.eval()
    encoder.reset()
    with torch.no_grad():
        states = encoder(torch.tensor([ids if direction == "forward" else ids[::-1]]))[0]
    return {"tokens": tokens, "ids": ids, "last_state": states[-1].tolist(), "mean_state": states.mean(dim=0).tolist()}


def case(learn: Any, kind: str, direction: str, files: dict[str, str], what: str, **more: Any) -> dict[str, Any]:
    """Return the content of `case.json`."""
    labels = [str(label) for label in learn.dls.vocab[1]] if kind == "classifier" and len(learn.dls.vocab) == 2 else []
    said = {"fastai": VERSION, "kind": kind, "direction": direction, "language": "en", "files": files, "labels": labels}
    return {**said, "what": what, **more}


def write(
    folder: Path,
    learn: Any,
    said: dict[str, Any],
    rows: Any,
    expect: Callable[[Any, str, str], Any],
    *,
    every: bool = False,
) -> None:
    """Write a case and its texts."""

    def count(text: str) -> int:
        return len(learn.dls.tokenizer(text))

    texts = texts_to_predict(rows, count, all_of_them=every)
    write_case(folder, said, texts, partial(expect, learn, said["direction"]))


def save_as(learn: Any, folder: Path, name: str, *, optimizer: bool) -> str:
    """Save with `learn.save` into the folder and return the name of the file."""
    learn.path, learn.model_dir = folder, "."
    learn.save(name, with_opt=optimizer)
    return f"{name}.pth"


def export_as(learn: Any, folder: Path, name: str = "export.pkl") -> str:
    """Export with `learn.export` into the folder and return the name of the file."""
    learn.path = folder
    learn.export(name)
    return name


def check_export(learn: Any, folder: Path) -> None:
    """Check that `load_learner` makes the predictions of the trained learner."""
    again, text = load_learner(folder / "export.pkl"), "Where is the parcel that I ordered last week?"
    with again.no_bar(), learn.no_bar():
        assert torch.equal(again.predict(text)[2], learn.predict(text)[2])


def pickled(folder: Path, thing: Any, name: str = "vocab.pkl") -> str:
    """Pickle a value, as notebooks do with a vocabulary, and return the name of the file."""
    with (folder / name).open("wb") as file:
        pickle.dump(thing, file)
    return name


def classifier_cases(cases: Cases, direction: str) -> None:
    """Write the cases of one classifier: exported, saved with and without its optimizer, and its encoder."""
    names = [f"v2-{name}-{direction}" for name in ("classifier", "classifier-weights", "classifier-weights-pair")]
    names += [
        f"v2-classifier-weights-bare-{direction}",
        f"v2-classifier-encoder-{direction}",
        f"v2-classifier-cuda-{direction}",
    ]
    if not cases.wanted(*names):
        return
    rows = training_rows("demo")
    learn = classifier(rows, direction)
    words, labels = learn.dls.vocab
    if folder := cases.folder(names[0]):
        files = {"export": export_as(learn, folder)}
        check_export(learn, folder)
        said = case(learn, "classifier", direction, files, "A classifier as learn.export writes it.")
        write(folder, learn, said, rows, expected_probabilities, every=True)
    if folder := cases.folder(names[1]):
        weights = save_as(learn, folder, "clas", optimizer=True)
        files = {"weights": weights, "vocabulary": pickled(folder, list(words))}
        said = case(
            learn, "classifier", direction, files, "learn.save with the optimizer, and the words pickled as a list."
        )
        write(folder, learn, said, rows, expected_probabilities)
    if folder := cases.folder(names[2]):
        weights = save_as(learn, folder, "clas", optimizer=False)
        files = {"weights": weights, "vocabulary": pickled(folder, learn.dls.vocab)}
        said = case(learn, "classifier", direction, files, "learn.save, and dls.vocab pickled whole: words and labels.")
        write(folder, learn, said, rows, expected_probabilities)
    if folder := cases.folder(names[3]):
        weights = save_as(learn, folder, "clas", optimizer=False)
        files = {
            "weights": weights,
            "vocabulary": pickled(folder, list(words)),
            "labels": pickled(folder, list(labels), "labels.pkl"),
        }
        said = case(
            learn, "classifier", direction, files, "learn.save without the optimizer; words and labels pickled."
        )
        write(folder, learn, said, rows, expected_probabilities)
    if folder := cases.folder(names[4]):
        learn.path, learn.model_dir = folder, "."
        learn.save_encoder("enc")
        files = {"weights": "enc.pth", "vocabulary": pickled(folder, list(words))}
        said = case(learn, "encoder", direction, files, "learn.save_encoder of a classifier, with its words.")
        write(folder, learn, said, rows, expected_states)
    if folder := cases.folder(names[5]):
        with graphics_card_files():
            files = {"export": export_as(learn, folder)}
        what = "An export whose storages say that they lay on a graphics card, as after training there."
        write(folder, learn, case(learn, "classifier", direction, files, what), rows, expected_probabilities)


def language_model_cases(cases: Cases, direction: str) -> None:
    """Write the cases of one language model, saved in many ways."""
    kinds = ("language-model", "language-model-weights", "language-model-weights-bare", "encoder")
    names = [f"v2-{kind}-{direction}" for kind in kinds]
    if not cases.wanted(*names):
        return
    rows = training_rows("demo")
    learn = language_model(rows, direction)
    words = list(learn.dls.vocab)
    if folder := cases.folder(names[0]):
        files = {"export": export_as(learn, folder)}
        said = case(learn, "language-model", direction, files, "A language model as learn.export writes it.")
        write(folder, learn, said, rows, expected_loss)
    for name, optimizer in ((names[1], True), (names[2], False)):
        if folder := cases.folder(name):
            files = {"weights": save_as(learn, folder, "lm", optimizer=optimizer), "vocabulary": pickled(folder, words)}
            what = f"learn.save {'with' if optimizer else 'without'} the optimizer, and the words pickled."
            write(folder, learn, case(learn, "language-model", direction, files, what), rows, expected_loss)
    if folder := cases.folder(names[3]):
        learn.path, learn.model_dir = folder, "."
        learn.save_encoder("enc")
        files = {"weights": "enc.pth", "vocabulary": pickled(folder, words)}
        said = case(learn, "encoder", direction, files, "learn.save_encoder of a language model, with its words.")
        write(folder, learn, said, rows, expected_states)


def whole_number_rows() -> Any:
    """Return rows whose labels are integers of numpy."""
    rows = training_rows("demo")
    return rows.assign(label=rows["label"].astype("category").cat.codes.astype("int64"))


def variations() -> dict[str, tuple[str, Callable[[str], tuple[Any, Any]], str]]:
    """Return variants of the classifier: a description, a function returning the learner and its rows, the language."""

    def made(rows_of: str | Callable[[], Any] = "demo", **options: Any) -> Callable[[str], tuple[Any, Any]]:
        def make(direction: str) -> tuple[Any, Any]:
            rows = training_rows(rows_of) if isinstance(rows_of, str) else rows_of()
            return classifier(rows, direction, **options), rows

        return make

    no_dropout = {"sizes": {**CLASSIFIER_SIZES, "output_p": 0.0}, "learner": {"ps": [0.0]}}
    none_at_all = {"emb_sz": 32, "n_hid": 75, "n_layers": 2, "output_p": 0.0, "hidden_p": 0.0, "input_p": 0.0}
    none_at_all |= {
        "embed_p": 0.0,
        "weight_p": 0.01,
    }  # fastai 2 can't train with 0: its WeightDropout fails at the second batch
    weights = torch.tensor([1.0, 2.0, 1.0, 1.0, 0.5, 1.0])
    found = {
        "windows": (
            "Windows of 50 in the data and the model, and the last 500 tokens pooled.",
            made(seq_len=50, learner={"max_len": 500}),
        ),
        "pooled-whole": ("max_len=None: all of a long text is pooled.", made(learner={"max_len": None}, epochs=6)),
        "pooled-ragged": ("max_len=1000, no multiple of the window.", made(learner={"max_len": 1000}, epochs=6)),
        "no-dropout": ("No dropout in the head, so its modules' numbers shift.", made(**no_dropout)),
        "no-dropout-first": (
            "No dropout before the first linear layer only.",
            made(sizes={**CLASSIFIER_SIZES, "output_p": 0.0}, epochs=6),
        ),
        "no-dropout-anywhere": (
            "No dropout but a trace on weights, two layers, an odd hidden width.",
            made(sizes=none_at_all, learner={"drop_mult": 1.0, "ps": [0.0]}, epochs=6),
        ),
        "deep-head": ("lin_ftrs=[40, 20]: three linear layers in the head.", made(learner={"lin_ftrs": [40, 20]})),
        "four-layers": ("Four LSTM layers.", made(sizes={"emb_sz": 33, "n_hid": 64, "n_layers": 4}, epochs=6)),
        "one-layer": ("One LSTM layer.", made(sizes={"emb_sz": 36, "n_hid": 64, "n_layers": 1}, epochs=6)),
        "whole-number-labels": ("Labels that are whole numbers.", made(whole_number_rows, epochs=6)),
        "functions": (
            "Columns read by lambdas, which cloudpickle writes as code.",
            made(get_x=lambda row: row["text"], get_y=lambda row: row["label"], epochs=6),
        ),
        "label-smoothing": (
            "Label smoothing and a metric of scikit-learn.",
            made(
                learner={
                    "loss_func": LabelSmoothingCrossEntropyFlat(),
                    "metrics": [accuracy, F1Score(average="macro")],
                },
                epochs=6,
            ),
        ),
        "weighted-loss": (
            "A loss with a weight a class.",
            made(learner={"loss_func": CrossEntropyLossFlat(weight=weights)}, epochs=6),
        ),
    }
    given = {name: (what, make, "en") for name, (what, make) in found.items()}
    if has_real_data():
        for name, language in (("imdb", "en"), ("trec6", "en"), ("sms", "en"), ("germeval", "de")):
            what = f"Trained on the first rows of {name}."
            epochs = 2 if name == "imdb" else 4
            given[name] = (what, made(name, language=language, epochs=epochs), language)
    return given


def variation_cases(cases: Cases, direction: str) -> None:
    """Write the cases of exported classifiers with unusual settings, and of one made by TextDataLoaders."""
    for name, (what, make, language) in variations().items():
        if folder := cases.folder(f"v2-classifier-{name}-{direction}"):
            learn, rows = make(direction)
            files = {"export": export_as(learn, folder)}
            check_export(learn, folder)
            said = case(learn, "classifier", direction, files, what, language=language)
            write(folder, learn, said, rows, expected_probabilities, every=language == "de")
    if folder := cases.folder(f"v2-classifier-factory-{direction}"):
        rows = training_rows("demo")
        set_seed(7, reproducible=True)
        backwards = direction == "backward"
        data = TextDataLoaders.from_df(
            rows, text_col="text", label_col="label", seed=3, backwards=backwards, bs=32, num_workers=0
        )
        config = {**awd_lstm_clas_config, **CLASSIFIER_SIZES}
        learn = text_classifier_learner(
            data, AWD_LSTM, config=config, backwards=backwards, pretrained=False, drop_mult=0.1, metrics=accuracy
        )
        quietly(learn, 6, 2e-2)
        files = {"export": export_as(learn, folder)}
        said = case(learn, "classifier", direction, files, "Data by TextDataLoaders.from_df.")
        write(folder, learn, said, rows, expected_probabilities)
    if folder := cases.folder(f"v2-classifier-folders-{direction}"):
        learn, rows = classifier_of_folders(direction)
        files = {"export": export_as(learn, folder)}
        said = case(learn, "classifier", direction, files, "Data by TextDataLoaders.from_folder.")
        write(folder, learn, said, rows, expected_probabilities)


def classifier_of_folders(direction: str) -> tuple[Any, Any]:
    """Return a classifier trained on one file per text and one folder per label, and its rows."""
    rows = training_rows("demo")
    set_seed(7, reproducible=True)
    backwards = direction == "backward"
    with tempfile.TemporaryDirectory() as made:
        for index, (text, label) in enumerate(rows.itertuples(index=False)):
            file = Path(made) / ("valid" if index % 10 == 0 else "train") / label / f"{index:04}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        data = TextDataLoaders.from_folder(Path(made), backwards=backwards, bs=32, num_workers=0, n_workers=1)
        config = {**awd_lstm_clas_config, **CLASSIFIER_SIZES}
        learn = text_classifier_learner(
            data, AWD_LSTM, config=config, backwards=backwards, pretrained=False, drop_mult=0.1, metrics=accuracy
        )
        quietly(learn, 6, 2e-2)
    return learn, rows


def task_cases(cases: Cases) -> None:
    """Write the cases of classifiers with several labels per text, and of regressions."""
    rows = training_rows("demo")
    if folder := cases.folder("v2-multi-label"):
        several = rows.assign(label=[[label, "long"] if len(text) > 100 else [label] for text, label in rows.values])
        options = {"metrics": None, "loss_func": BCEWithLogitsLossFlat(thresh=0.3)}
        learn = classifier(several, "forward", blocks=MultiCategoryBlock, epochs=1, learner=options)
        said = case(learn, "classifier", "forward", {"export": export_as(learn, folder)}, "A multi-label classifier.")
        write(folder, learn, said, rows, expected_probabilities)
    if folder := cases.folder("v2-regression"):
        numbers = rows.assign(label=[float(len(text)) for text in rows["text"]])
        options = {"metrics": None, "y_range": (0.0, 900.0), "loss_func": MSELossFlat(), "n_out": 1}
        learn = classifier(numbers, "forward", blocks=RegressionBlock, epochs=1, learner=options)
        said = case(learn, "classifier", "forward", {"export": export_as(learn, folder)}, "A regression with y_range.")
        write(folder, learn, said, rows, expected_probabilities)


def main() -> None:
    """Write the cases of fastai 2."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    cases = Cases(Path(sys.argv[1]), sys.argv[2:])
    for direction in directions():
        classifier_cases(cases, direction)
    for direction in directions():
        language_model_cases(cases, direction)
        variation_cases(cases, direction)
    task_cases(cases)


if __name__ == "__main__":
    main()
