"""Train models to test whether the reading direction of a model can be inferred from its weights.

Run: BOTHWAYS_DATA=... .oracle/bin/python oracle/direction_models.py --out DIR
Trains in both directions, on English (IMDb) and German (GermEval 2018). There are language models of three training
lengths. Two classifiers start from the encoder of each: one is unfrozen layer by layer, as fastai published it for
ULMFiT, the other is trained with nothing frozen at one high learning rate. fastai 2 trains all three lengths, fastai 1
only the middle one, with LSTMs and with QRNNs, and only the second kind of classifier. Writes one export per model, and
`models.json`. Takes more than an hour on one core. Existing models are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DEMO = Path(__file__).resolve().parents[1] / "demo"
SIZES = {"emb_sz": 128, "n_hid": 232, "n_layers": 2}
WORDS = 8000
CUT = 200  # words of a text for a language model
LABELLED = 5000  # reviews for a classifier
LABELLED_CUT = 100


@dataclass(frozen=True)
class Training:
    """How long a model trains: texts and passes of the language model, unfrozen passes of the classifier.

    The learning rate is that of the unfrozen passes. With `is_graded` it applies to the head, and the embedding gets a
    tenth of it. With `is_qrnn` the layers are QRNNs.
    """

    name: str
    texts: int
    passes: int
    classifier_passes: int
    is_graded: bool = False
    is_qrnn: bool = False

    @property
    def classifier_rate(self) -> float | slice:
        """The learning rate to pass to `fit_one_cycle`."""
        return slice(1e-3, 1e-2) if self.is_graded else 1e-2


TRAININGS = {
    "en": (Training("short", 1000, 1, 2, is_graded=True), Training("medium", 3500, 1, 2), Training("long", 7000, 1, 3)),
    "de": (
        Training("short", 5009, 2, 2, is_graded=True),
        Training("medium", 5009, 6, 2),
        Training("long", 5009, 12, 3),
    ),
}


QRNNS = {"en": Training("qrnn", 3500, 1, 2, is_qrnn=True), "de": Training("qrnn", 5009, 6, 2, is_qrnn=True)}


@dataclass(frozen=True)
class Model:
    """An entry of `models.json`. A classifier's tokens include those of its language model's training."""

    file: str
    fastai: str
    kind: str
    direction: str
    language: str
    training: str
    tokens_seen: int
    validation_loss: float
    seconds: int


def main() -> None:
    """Train the missing models, each version of fastai in its own process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fastai", choices=("1", "2"), help="only with this one, in this process")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.fastai:
        train_all(arguments.out.resolve(), arguments.fastai)
        return
    for version in ("2", "1"):
        command = [sys.executable, __file__, "--out", str(arguments.out), "--fastai", version]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    print(json.dumps({"models": len(json.loads((arguments.out / "models.json").read_text()))}))


def train_all(out: Path, version: str) -> None:
    """Train every model of a version of fastai, a language model and its classifier after the other."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if version == "1":  # its QRNNs change the parts of a chunk in place, which today's torch refuses in training
        chunk = torch.Tensor.chunk
        torch.Tensor.chunk = lambda *args, **named: [part.clone() for part in chunk(*args, **named)]
    listed = out / "models.json"
    models: list[dict[str, Any]] = json.loads(listed.read_text()) if listed.exists() else []
    language_model, classifier = (language_model1, classifier1) if version == "1" else (language_model2, classifier2)
    rounds = [{language: trainings[index] for language, trainings in TRAININGS.items()} for index in range(3)]
    for trainings in [QRNNS, rounds[1]] if version == "1" else rounds:
        for language, training in trainings.items():
            for direction in ("forward", "backward"):
                jobs = [(language_model, "language-model"), (classifier, "classifier")]
                for train, kind in (*jobs, (gentle_classifier2, "gentle-classifier")) if version == "2" else jobs:
                    stem = f"v{version}-{language}-{direction}-{training.name}"
                    file = f"{stem}-{kind}.pkl"
                    if any(model["file"] == file for model in models):
                        continue
                    started = time.monotonic()
                    tokens, loss = train(out, stem, language, direction, training)
                    before = sum(
                        model["tokens_seen"] for model in models if model["file"] == f"{stem}-language-model.pkl"
                    )
                    model = Model(
                        file=file,
                        fastai="1.0.61" if version == "1" else "2.8.12",
                        kind=kind,
                        direction=direction,
                        language=language,
                        training=training.name,
                        tokens_seen=before + tokens,
                        validation_loss=loss,
                        seconds=round(time.monotonic() - started),
                    )
                    models.append(asdict(model))
                    listed.write_text(json.dumps(models, indent=1) + "\n")
                    print(json.dumps(asdict(model)), flush=True)


def texts_for_language_model(language: str, training: Training) -> Any:
    """Return the rows for a language model, with every tenth marked for validation."""
    import pandas as pd

    if not os.environ.get("BOTHWAYS_DATA"):
        return marked(
            pd.concat([pd.read_csv(DEMO / f"{name}.csv")[["text"]] for name in ("unlabeled", "messages")]), CUT
        )
    folder = Path(os.environ["BOTHWAYS_DATA"])
    if language == "en":
        rows = pd.read_parquet(folder / "imdb" / "unlabelled.parquet").head(training.texts)
    else:
        rows = pd.read_csv(folder / "germeval2018" / "train.csv", keep_default_na=False).head(training.texts)
    return marked(rows[["text"]], CUT)


def texts_for_classifier(language: str) -> Any:
    """Return the labeled rows for a classifier, with every tenth marked for validation."""
    import pandas as pd

    if not os.environ.get("BOTHWAYS_DATA"):
        return marked(pd.read_csv(DEMO / "messages.csv"), LABELLED_CUT)
    folder = Path(os.environ["BOTHWAYS_DATA"])
    if language == "en":
        rows = pd.read_parquet(folder / "imdb" / "train.parquet").head(LABELLED)
    else:
        rows = pd.read_csv(folder / "germeval2018" / "train.csv", keep_default_na=False)
    return marked(rows[["text", "label"]], LABELLED_CUT)


def marked(rows: Any, cut: int) -> Any:
    """Cut the texts and mark every tenth row for validation."""
    rows = rows.reset_index(drop=True)
    return rows.assign(text=rows["text"].str.split(" ").str[:cut].str.join(" "), is_valid=rows.index % 10 == 0)


def language_model2(out: Path, stem: str, language: str, direction: str, training: Training) -> tuple[int, float]:
    """Train a language model with fastai 2, export it, save its encoder.

    Returns the number of tokens read in training and the validation loss.
    """
    from fastai.text import all as fastai

    fastai.set_seed(11, reproducible=True)
    backwards, tokenizer = direction == "backward", fastai.SpacyTokenizer(language)
    text = fastai.TextBlock.from_df(
        "text", is_lm=True, backwards=backwards, max_vocab=WORDS, tok=tokenizer, n_workers=0
    )
    data = fastai.DataBlock(blocks=text, get_x=fastai.ColReader("text"), splitter=fastai.ColSplitter()).dataloaders(
        texts_for_language_model(language, training), bs=64, seq_len=72, num_workers=0
    )
    learn = fastai.language_model_learner(
        data,
        fastai.AWD_LSTM,
        config={**fastai.awd_lstm_lm_config, **SIZES},
        drop_mult=0.2,
        backwards=backwards,
        pretrained=False,
        path=out,
        model_dir="encoders",
    )
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(training.passes, 1e-2)
    (out / "encoders").mkdir(exist_ok=True)
    learn.save_encoder(stem)
    learn.export(f"{stem}-language-model.pkl")
    with (out / "encoders" / f"{stem}.pkl").open("wb") as file:
        pickle.dump(list(data.vocab), file)
    return training.passes * len(data.train) * 64 * 72, float(learn.recorder.values[-1][1])


def gentle_classifier2(out: Path, stem: str, language: str, direction: str, training: Training) -> tuple[int, float]:
    """Train a classifier as fastai's own ULMFiT notebook does, layer by layer with decreasing rates."""
    return classifier2(out, stem, language, direction, training, is_gentle=True)


def classifier2(
    out: Path, stem: str, language: str, direction: str, training: Training, *, is_gentle: bool = False
) -> tuple[int, float]:
    """Train a classifier on a language model's encoder with fastai 2, export it.

    Returns the number of tokens read in training and the validation loss.
    """
    from fastai.text import all as fastai

    fastai.set_seed(11, reproducible=True)
    with (out / "encoders" / f"{stem}.pkl").open("rb") as file:
        words = pickle.load(file)
    backwards, tokenizer = direction == "backward", fastai.SpacyTokenizer(language)
    text = fastai.TextBlock.from_df("text", vocab=words, backwards=backwards, tok=tokenizer, n_workers=0)
    data = fastai.DataBlock(
        blocks=(text, fastai.CategoryBlock),
        get_x=fastai.ColReader("text"),
        get_y=fastai.ColReader("label"),
        splitter=fastai.ColSplitter(),
    ).dataloaders(texts_for_classifier(language), bs=32, num_workers=0)
    learn = fastai.text_classifier_learner(
        data,
        fastai.AWD_LSTM,
        config={**fastai.awd_lstm_clas_config, **SIZES},
        drop_mult=0.2,
        backwards=backwards,
        pretrained=False,
        path=out,
        model_dir="encoders",
        metrics=fastai.accuracy,
    )
    learn.load_encoder(stem)
    with learn.no_bar(), learn.no_logging():
        if is_gentle:
            learn.freeze()
        learn.fit_one_cycle(1, 2e-2)
        passes = follow_up(learn, training, is_gentle, learn.fit_one_cycle)
    learn.export(f"{stem}-{'gentle-' if is_gentle else ''}classifier.pkl")
    tokens = passes * sum(len(ids) for ids, _ in data.train_ds)
    return tokens, float(learn.recorder.values[-1][1])


def follow_up(learn: Any, training: Training, is_gentle: bool, fit_one_cycle: Callable[..., Any]) -> int:
    """Train after the first pass, layer by layer or all layers at once, and return the number of passes in total."""
    if is_gentle:
        for depth, rate in ((-2, 1e-2), (-3, 5e-3)):
            learn.freeze_to(depth)
            fit_one_cycle(1, slice(rate / 2.6**4, rate))
        learn.unfreeze()
        fit_one_cycle(2, slice(1e-3 / 2.6**4, 1e-3))
        return 5
    learn.unfreeze()
    fit_one_cycle(training.classifier_passes, training.classifier_rate)
    return 1 + training.classifier_passes


def bunch1(kind: str, out: Path, rows: Any, language: str, direction: str, **options: Any) -> Any:
    """Return the rows as a data bunch of fastai 1."""
    from fixtures1 import fastai_text, quietly

    return quietly(
        getattr(fastai_text, kind).from_df,
        out,
        rows[~rows["is_valid"]],
        rows[rows["is_valid"]],
        tokenizer=fastai_text.Tokenizer(lang=language),
        backwards=direction == "backward",
        text_cols="text",
        num_workers=0,
        **options,
    )


def language_model1(out: Path, stem: str, language: str, direction: str, training: Training) -> tuple[int, float]:
    """Train a language model with fastai 1, export it, save its encoder.

    Returns the number of tokens read in training and the validation loss.
    """
    from fixtures1 import fastai_text, quietly

    fastai_text.set_all_seed(11)
    rows = texts_for_language_model(language, training)
    data = bunch1("TextLMDataBunch", out, rows, language, direction, bs=64, max_vocab=WORDS)
    learn = fastai_text.language_model_learner(
        data,
        fastai_text.AWD_LSTM,
        config={**fastai_text.awd_lstm_lm_config, **SIZES, "qrnn": training.is_qrnn},
        drop_mult=0.2,
        pretrained=False,
        model_dir="encoders",
    )
    quietly(learn.fit_one_cycle, training.passes, 1e-2)
    learn.save_encoder(stem)
    learn.export(f"{stem}-language-model.pkl")
    data.vocab.save(out / "encoders" / f"{stem}.pkl")
    tokens = training.passes * sum(len(ids) for ids in data.train_ds.x.items)
    return tokens, float(learn.recorder.val_losses[-1])


def gentle_classifier1(out: Path, stem: str, language: str, direction: str, training: Training) -> tuple[int, float]:
    """Train a classifier as fastai's own ULMFiT notebook does, layer by layer with decreasing rates."""
    return classifier1(out, stem, language, direction, training, is_gentle=True)


def classifier1(
    out: Path, stem: str, language: str, direction: str, training: Training, *, is_gentle: bool = False
) -> tuple[int, float]:
    """Train a classifier on a language model's encoder with fastai 1, export it.

    Returns the number of tokens read in training and the validation loss.
    """
    from fixtures1 import fastai_text, quietly

    fastai_text.set_all_seed(11)
    words = fastai_text.Vocab.load(out / "encoders" / f"{stem}.pkl")
    rows = texts_for_classifier(language)
    data = bunch1("TextClasDataBunch", out, rows, language, direction, bs=32, label_cols="label", vocab=words)
    learn = fastai_text.text_classifier_learner(
        data,
        fastai_text.AWD_LSTM,
        config={**fastai_text.awd_lstm_clas_config, **SIZES, "qrnn": training.is_qrnn},
        drop_mult=0.2,
        pretrained=False,
        model_dir="encoders",
    )
    learn.load_encoder(stem)
    if is_gentle:
        learn.freeze()
    quietly(learn.fit_one_cycle, 1, 2e-2)
    passes = follow_up(learn, training, is_gentle, lambda *arguments: quietly(learn.fit_one_cycle, *arguments))
    learn.export(f"{stem}-{'gentle-' if is_gentle else ''}classifier.pkl")
    tokens = passes * sum(len(ids) for ids in data.train_ds.x.items)
    return tokens, float(learn.recorder.val_losses[-1])


if __name__ == "__main__":
    main()
