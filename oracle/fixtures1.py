"""Train small learners with the real fastai 1.0.61 and write their predictions: the fastai 1 half of make_fixtures.py.

Run by make_fixtures.py in a process of its own: python fixtures1.py OUT [NAME ...]. Names are patterns of cases.
Which parts of fastai 1 run as they are is said in fastai1.py.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import shutil
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fastai1 import legacy_files, load_fastai1
from fixture_texts import (
    Cases,
    directions,
    graphics_card_files,
    has_real_data,
    texts_to_predict,
    training_rows,
    write_case,
)

fastai_text: Any = load_fastai1()
VERSION = "1.0.61"
SIZES = {"emb_sz": 40, "n_hid": 68, "n_layers": 3}
ODD_SIZES = {"emb_sz": 25, "n_hid": 75, "n_layers": 3}  # 400 and 1150 are to 1152 as these are to 80: no multiple of 8


def quietly(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call without progress bars, which fastprogress prints even without a terminal."""
    with contextlib.redirect_stdout(io.StringIO()):
        return call(*arguments, **options)


def parts(rows: Any) -> tuple[Any, Any]:
    """Return the training and validation rows."""
    return rows[rows.index % 10 != 0], rows[rows.index % 10 == 0]


def classifier(
    rows: Any,
    direction: str,
    *,
    language: str = "en",
    sizes: dict[str, Any] | None = None,
    epochs: int = 4,
    bunch: dict[str, Any] | None = None,
    learner: dict[str, Any] | None = None,
) -> Any:
    """Return a trained text classifier, made as in a user's notebook.

    Args:
        rows: Columns text and label.
        direction: ``forward`` or ``backward``.
        language: spaCy's name of the language.
        sizes: Changes to fastai's configuration of the encoder.
        epochs: Passes over the rows.
        bunch: Options of `TextClasDataBunch.from_df`.
        learner: Options of `text_classifier_learner`.
    """
    fastai_text.set_all_seed(7)
    train, valid = parts(rows)
    tokenizer = None if language == "en" else fastai_text.Tokenizer(lang=language)
    options = {"text_cols": "text", "label_cols": "label", "bs": 32, "num_workers": 0, **(bunch or {})}
    data = quietly(
        fastai_text.TextClasDataBunch.from_df,
        tempfile.gettempdir(),
        train,
        valid,
        tokenizer=tokenizer,
        backwards=direction == "backward",
        **options,
    )
    config = {**fastai_text.awd_lstm_clas_config, **(sizes or SIZES)}
    learn = fastai_text.text_classifier_learner(
        data, fastai_text.AWD_LSTM, config=config, pretrained=False, **{"drop_mult": 0.1, **(learner or {})}
    )
    quietly(learn.fit_one_cycle, epochs, 2e-2)
    return learn


def language_model(
    rows: Any, direction: str, *, language: str = "en", sizes: dict[str, Any] | None = None, epochs: int = 4
) -> Any:
    """Return a trained language model, made as in a user's notebook."""
    fastai_text.set_all_seed(7)
    train, valid = parts(rows)
    data = quietly(
        fastai_text.TextLMDataBunch.from_df,
        tempfile.gettempdir(),
        train,
        valid,
        text_cols="text",
        tokenizer=None if language == "en" else fastai_text.Tokenizer(lang=language),
        backwards=direction == "backward",
        bs=16,
        num_workers=0,
    )
    config = {**fastai_text.awd_lstm_lm_config, **(sizes or SIZES)}
    learn = fastai_text.language_model_learner(
        data, fastai_text.AWD_LSTM, config=config, drop_mult=0.3, pretrained=False
    )
    quietly(learn.fit_one_cycle, epochs, 2e-2)
    return learn


def tokens_and_ids(learn: Any, text: str) -> tuple[list[str], list[int]]:
    """Return a text's tokens and ids as written, from the processors that `predict` uses. The batch reverses them."""
    tokenize, numericalize = learn.data.single_ds.x.processor
    tokens = tokenize.process_one(text)
    return list(tokens), numericalize.process_one(tokens).tolist()


def expected_probabilities(learn: Any, direction: str, text: str) -> dict[str, Any]:
    """Return a classifier's line: the result of `learn.predict` for one text. A regression has numbers instead."""
    tokens, ids = tokens_and_ids(learn, text)
    read = learn.data.one_item(text)[0][0].tolist()
    assert read == (ids if direction == "forward" else ids[::-1]), "the data reads the other way"
    decided, _, probabilities = learn.predict(text)
    line = {"tokens": tokens, "ids": ids, "probabilities": [float(number) for number in probabilities]}
    return {**line, "chosen": list(map(str, decided.obj))} if isinstance(decided.obj, list) else line


def expected_loss(learn: Any, direction: str, text: str) -> dict[str, Any]:
    """Return a language model's line: the mean negative log-likelihood of the tokens after the first that is read."""
    tokens, ids = tokens_and_ids(learn, text)
    reading = torch.tensor([ids if direction == "forward" else ids[::-1]])
    learn.model.eval()
    learn.model.reset()
    with torch.no_grad():
        scores = learn.model(reading)[0][0]
    loss = torch.nn.functional.cross_entropy(scores[:-1], reading[0, 1:]).item() if len(ids) > 1 else None
    return {"tokens": tokens, "ids": ids, "loss": loss}


def expected_states(learn: Any, direction: str, text: str) -> dict[str, Any]:
    """Return an encoder's line: its state after the last token that is read, and the mean of its states."""
    tokens, ids = tokens_and_ids(learn, text)
    encoder = learn.model[0].module if hasattr(learn.model[0], "module") else learn.model[0]
    encoder.eval()
    encoder.reset()
    with torch.no_grad():
        states = encoder(torch.tensor([ids if direction == "forward" else ids[::-1]]))[0][-1][0]
    return {"tokens": tokens, "ids": ids, "last_state": states[-1].tolist(), "mean_state": states.mean(dim=0).tolist()}


def case(learn: Any, kind: str, direction: str, files: dict[str, str], what: str, **more: Any) -> dict[str, Any]:
    """Return the content of `case.json`."""
    labels = [str(label) for label in getattr(learn.data, "classes", [])] if kind == "classifier" else []
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
        return len(tokens_and_ids(learn, text)[0])

    texts = texts_to_predict(rows, count, all_of_them=every)
    write_case(folder, said, texts, partial(expect, learn, said["direction"]))


def container(name: str, learn: Any) -> contextlib.AbstractContextManager[None]:
    """Return the context manager in which a file is written, by the words in the name of its case."""
    if "stale" in name:
        learn.model.train()
        learn.model(learn.data.one_batch()[0])
        learn.model.eval()
    if "legacy" in name:
        return legacy_files()
    return graphics_card_files() if "cuda" in name else contextlib.nullcontext()


def difference(name: str) -> str:
    """Return what the words in the name of a case mean for its file."""
    meanings = {
        "legacy": "in torch's old container",
        "cuda": "with storages that say they lay on a graphics card",
        "stale": "right after a training step: weight_hh_l0 has gaps of dropout, only weight_hh_l0_raw is right",
    }
    return "".join(f", {meaning}" for word, meaning in meanings.items() if word in name)


def export_as(learn: Any, folder: Path) -> str:
    """Export with `learn.export` into the folder and return the name of the file."""
    learn.path = folder
    learn.export("export.pkl")
    return "export.pkl"


def save_as(learn: Any, folder: Path, name: str, *, optimizer: bool = True) -> str:
    """Save with `learn.save` into the folder and return the name of the file."""
    learn.path, learn.model_dir = folder, "."
    learn.save(name, with_opt=optimizer)
    return f"{name}.pth"


def vocabulary_as(learn: Any, folder: Path, name: str = "itos.pkl") -> str:
    """Save with `vocab.save` into the folder and return the name of the file."""
    with (folder / name).open("wb") as file:
        pickle.dump(learn.data.vocab.itos, file)
    return name


def check_export(learn: Any, folder: Path, direction: str) -> None:
    """Check that `load_learner` with the direction makes the predictions of the trained learner."""
    again = quietly(fastai_text.load_learner, folder, "export.pkl", backwards=direction == "backward")
    text = "Where is the parcel that I ordered last week?"
    assert torch.equal(again.predict(text)[2], learn.predict(text)[2])


def classifier_cases(cases: Cases, direction: str) -> None:
    """Write the cases of one classifier, saved in many ways."""
    exports = [f"v1-classifier-{direction}", f"v1-classifier-legacy-{direction}", f"v1-classifier-stale-{direction}"]
    weights = [f"v1-classifier-weights-{direction}", f"v1-classifier-weights-legacy-{direction}"]
    weights += [f"v1-classifier-weights-bare-{direction}", f"v1-classifier-weights-cuda-{direction}"]
    weights += [f"v1-classifier-weights-stale-{direction}"]
    encoder = f"v1-classifier-encoder-{direction}"
    if not cases.wanted(*exports, *weights, encoder):
        return
    rows = training_rows("demo")
    learn = classifier(rows, direction)
    for name in exports:
        if folder := cases.folder(name):
            with container(name, learn):
                files = {"export": export_as(learn, folder)}
            check_export(learn, folder, direction)
            what = f"A classifier as learn.export writes it{difference(name)}."
            said = case(learn, "classifier", direction, files, what)
            write(folder, learn, said, rows, expected_probabilities, every=name == exports[0])
    for name in weights:
        if folder := cases.folder(name):
            optimizer = "bare" not in name
            with container(name, learn):
                files = {"weights": save_as(learn, folder, "clas", optimizer=optimizer)}
            files["vocabulary"] = vocabulary_as(learn, folder)
            what = f"learn.save {'with' if optimizer else 'without'} the optimizer, and the words{difference(name)}."
            write(folder, learn, case(learn, "classifier", direction, files, what), rows, expected_probabilities)
    if folder := cases.folder(encoder):
        learn.path, learn.model_dir = folder, "."
        learn.save_encoder("enc")
        files = {"weights": "enc.pth", "vocabulary": vocabulary_as(learn, folder)}
        said = case(learn, "encoder", direction, files, "learn.save_encoder of a classifier, with its words.")
        write(folder, learn, said, rows, expected_states)


def language_model_cases(cases: Cases, direction: str) -> None:
    """Write the cases of language models of usual and unusual sizes, saved in many ways."""
    kinds = (
        "language-model",
        "language-model-weights",
        "language-model-weights-legacy",
        "language-model-weights-bare",
        "encoder",
    )
    names = [f"v1-{kind}-{direction}" for kind in kinds]
    short = "fwd" if direction == "forward" else "bwd"
    archive, odd = f"v1-wt103-{direction}", f"v1-language-model-odd-{direction}"
    rows = training_rows("demo")
    if cases.wanted(*names):
        learn = language_model(rows, direction)
        if folder := cases.folder(names[0]):
            files = {"export": export_as(learn, folder)}
            said = case(learn, "language-model", direction, files, "A language model as learn.export writes it.")
            write(folder, learn, said, rows, expected_loss)
        for name in names[1:4]:
            if folder := cases.folder(name):
                optimizer = "bare" not in name
                with container(name, learn):
                    files = {"weights": save_as(learn, folder, "lm", optimizer=optimizer)}
                files["vocabulary"] = vocabulary_as(learn, folder)
                what = (
                    f"learn.save {'with' if optimizer else 'without'} the optimizer, and the words{difference(name)}."
                )
                write(folder, learn, case(learn, "language-model", direction, files, what), rows, expected_loss)
        if folder := cases.folder(names[4]):
            learn.path, learn.model_dir = folder, "."
            learn.save_encoder("enc")
            files = {"weights": "enc.pth", "vocabulary": vocabulary_as(learn, folder)}
            said = case(learn, "encoder", direction, files, "learn.save_encoder of a language model, with its words.")
            write(folder, learn, said, rows, expected_states)
    if not cases.wanted(archive, odd):
        return
    learn = language_model(rows, direction, sizes=ODD_SIZES)
    if folder := cases.folder(odd):
        files = {"weights": save_as(learn, folder, "lm"), "vocabulary": vocabulary_as(learn, folder)}
        said = case(learn, "language-model", direction, files, "Widths that are no multiples of 8, with the optimizer.")
        write(folder, learn, said, rows, expected_loss)
    if folder := cases.folder(archive):
        inside = folder / f"wt103-{short}"
        inside.mkdir()
        with legacy_files():
            save_as(learn, inside, f"lstm_{short}", optimizer=False)
        vocabulary_as(learn, inside, "itos_wt103.pkl")
        with tarfile.open(folder / f"wt103-{short}.tgz", "w:gz") as packed:
            packed.add(inside, arcname=inside.name)
        shutil.rmtree(inside)
        files = {"archive": f"wt103-{short}.tgz"}
        said = case(
            learn, "language-model", direction, files, "An archive laid out as the published pretrained models are."
        )
        write(folder, learn, said, rows, expected_loss)


def variation_cases(cases: Cases, direction: str) -> None:
    """Write the cases of exported classifiers with unusual settings."""
    rows = training_rows("demo")
    codes = rows["label"].astype("category").cat.codes.astype("int64")
    found: dict[str, tuple[str, Callable[[], tuple[Any, Any]], str]] = {}

    def add(name: str, what: str, language: str = "en", rows_of: Any = None, **options: Any) -> None:
        def make() -> tuple[Any, Any]:
            given = training_rows(rows_of) if isinstance(rows_of, str) else rows if rows_of is None else rows_of
            return classifier(given, direction, language=language, **options), given

        found[name] = (what, make, language)

    none_at_all = {**ODD_SIZES, "output_p": 0.0, "hidden_p": 0.0, "input_p": 0.0, "embed_p": 0.0, "weight_p": 0.0}
    add(
        "windows",
        "Windows of 50, and about the last 500 tokens pooled.",
        learner={"bptt": 50, "max_len": 500},
        epochs=6,
    )
    add(
        "no-dropout",
        "No dropout in the head, so its modules' numbers shift.",
        learner={"ps": [0.0], "drop_mult": 0.0},
        epochs=6,
    )
    add(
        "no-dropout-odd",
        "No dropout anywhere, widths no multiples of 8.",
        sizes=none_at_all,
        learner={"ps": [0.0]},
        epochs=6,
    )
    add("deep-head", "lin_ftrs=[40, 20]: three linear layers in the head.", learner={"lin_ftrs": [40, 20]}, epochs=6)
    add("four-layers", "Four LSTM layers.", sizes={"emb_sz": 33, "n_hid": 64, "n_layers": 4}, epochs=6)
    add("one-layer", "One LSTM layer.", sizes={"emb_sz": 36, "n_hid": 64, "n_layers": 1}, epochs=6)
    add("end-mark", "include_eos=True: xxeos ends a text.", bunch={"include_eos": True}, epochs=6)
    add("field-mark", "mark_fields=True: xxfld 1 begins a text.", bunch={"mark_fields": True}, epochs=6)
    add("no-begin-mark", "include_bos=False: no xxbos.", bunch={"include_bos": False}, epochs=6)
    add("whole-number-labels", "Labels that are whole numbers.", rows_of=rows.assign(label=codes), epochs=6)
    if has_real_data():
        add("imdb", "Trained on the first rows of imdb.", rows_of="imdb", epochs=6)
        add("trec6", "Trained on the first rows of trec6.", rows_of="trec6")
        add("sms", "Trained on the first rows of sms.", rows_of="sms")
        add("germeval", "Trained on the first rows of germeval.", language="de", rows_of="germeval")
    for name, (what, make, language) in found.items():
        if folder := cases.folder(f"v1-classifier-{name}-{direction}"):
            learn, given = make()
            files = {"export": export_as(learn, folder)}
            check_export(learn, folder, direction)
            said = case(learn, "classifier", direction, files, what, language=language)
            write(folder, learn, said, given, expected_probabilities, every=language == "de")


def task_cases(cases: Cases) -> None:
    """Write the cases of classifiers with several labels per text, and of regressions."""
    rows = training_rows("demo")
    if folder := cases.folder("v1-multi-label"):
        several = rows.assign(label=[f"{label};long" if len(text) > 100 else label for text, label in rows.values])
        learn = classifier(several, "forward", bunch={"label_delim": ";"}, epochs=1)
        said = case(learn, "classifier", "forward", {"export": export_as(learn, folder)}, "A multi-label classifier.")
        write(folder, learn, said, rows, expected_probabilities)
    if folder := cases.folder("v1-regression"):
        learn = classifier(rows.assign(label=[len(text) / 100 for text in rows["text"]]), "forward")
        said = case(learn, "classifier", "forward", {"export": export_as(learn, folder)}, "A regression.")
        write(folder, learn, {**said, "labels": []}, rows, expected_probabilities)


def main() -> None:
    """Write the cases of fastai 1."""
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
