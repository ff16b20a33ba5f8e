"""Files as fastai saves them become bundles that make the predictions of the torch model."""

from __future__ import annotations

import dataclasses
import json
import pickle
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bothways
from bothways.bundle.manifest import FastaiPooling, Kind
from bothways.bundle.read import read_bundle
from bothways.errors import ConfigError, DirectionError, ForeignModelError, OutputExists
from bothways.interop import fastai_file, fastai_import, fastai_tokenizer
from bothways.interop.direction import DirectionVerdict
from bothways.interop.fastai_import import merged_vocabulary, resolve_direction
from bothways.interop.learner_facts import Requested
from bothways.nn.classifier import concat_pool
from bothways.runtime.language_model import LanguageModel
from bothways.text.reading import Direction, SpecialTokenPlacement, read
from bothways.text.word_tokenizer import WordTokenizer
from tests.bundles import LABELS, QRNNS, TinyClassifiers, TinyLanguageModels, make_classifiers, make_language_models
from tests.unit.interop.exports import vocabulary
from tests.unit.interop.foreign import fastai_state, save_vocabulary, save_weights, without_biases
from tests.words import WORDS, make_word_tokenizer

TEXTS = ["", "The cat sat on the mat.", "a BAD dog, a good cat!", "zebra zebra", "cat dog " * 30, "the good , the bad"]
LONG = " ".join(WORDS[number % 9] for number in range(3000))
V1_POOLING = FastaiPooling(window_tokens=70, tail_tokens=1399, last_skips_padding=False)
V2_POOLING = FastaiPooling(window_tokens=72, tail_tokens=1440, last_skips_padding=True)
import_fastai = partial(bothways.import_fastai, language="en")
"""The import of weights, which do not record the language."""
PLACEMENTS = dict.fromkeys(Direction, SpecialTokenPlacement.AS_WRITTEN)


@pytest.fixture(scope="module")
def tokenizer() -> WordTokenizer:
    return make_word_tokenizer("fastai-v1")


@pytest.fixture(scope="module")
def classifiers(tokenizer: WordTokenizer) -> TinyClassifiers:
    return make_classifiers(tokenizer, PLACEMENTS)


@pytest.fixture(scope="module")
def language_models(tokenizer: WordTokenizer) -> TinyLanguageModels:
    return make_language_models(tokenizer, PLACEMENTS)


@pytest.fixture(scope="module", params=[None, QRNNS], ids=["LSTMs", "QRNNs"])
def both_kinds(request: pytest.FixtureRequest, tokenizer: WordTokenizer) -> TinyClassifiers:
    return make_classifiers(tokenizer, PLACEMENTS, encoders=request.param)


@pytest.fixture
def files(classifiers: TinyClassifiers, tmp_path: Path) -> dict[Direction, Path]:
    """Weights of v1 for each direction, and ``itos.pkl`` in the same folder."""
    save_vocabulary(tmp_path / "itos.pkl", vocabulary(1, WORDS))
    return {
        way: save_weights(tmp_path / f"{way}.pth", fastai_state(model, version=1))
        for way, model in classifiers.models.items()
    }


@pytest.fixture(autouse=True)
def _tables(monkeypatch: pytest.MonkeyPatch, tokenizer: WordTokenizer) -> None:
    """Use small tables instead of spaCy's. The parity tests of spaCy compare the real ones."""
    monkeypatch.setattr(fastai_tokenizer, "tables_from_spacy", lambda *_: (tokenizer.document.tables, "0"))


@torch.no_grad()
def torch_predictions(
    tiny: TinyClassifiers, text: str, tokenizer: WordTokenizer, pooling: FastaiPooling
) -> dict[str, Any]:
    found = {}
    for direction, model in tiny.models.items():
        ids = torch.from_numpy(
            read(tokenizer.tokenize(text), direction, SpecialTokenPlacement.AS_WRITTEN).astype(np.int64)
        )
        outputs, _, _ = model.encoder(ids[None], model.encoder.zero_state(1))
        kept = outputs[:, pooling.first_pooled(len(ids)) :]
        logits = model.head(concat_pool(kept, torch.tensor([kept.shape[1]])))
        found[str(direction)] = torch.softmax(logits.double(), dim=1)[0].numpy()
    return found


def test_two_files_become_one_bundle_with_the_predictions_of_torch(
    both_kinds: TinyClassifiers, tokenizer: WordTokenizer, tmp_path: Path
) -> None:
    save_vocabulary(tmp_path / "itos.pkl", vocabulary(1, WORDS))
    files = {
        way: save_weights(tmp_path / f"{way}.pth", fastai_state(model, version=1))
        for way, model in both_kinds.models.items()
    }
    result = import_fastai(
        files[Direction.FORWARD], files[Direction.BACKWARD], out=tmp_path / "b.bundle", labels=LABELS,
        task="single-label", vocabulary=[tmp_path / "itos.pkl"],
    )  # fmt: skip
    assert result.kind == "classifier"
    assert [(m.direction, m.known_by) for m in result.models] == [(way, "given") for way in Direction]
    windows = [model.encoder.architecture.first_window for model in both_kinds.models.values()]
    assert [("save_prev_x" in m.remarks[0]) for m in result.models] == [window == 2 for window in windows]
    model = bothways.load(tmp_path / "b.bundle")
    assert list(model.labels) == LABELS
    ours = model.predict_proba_by_direction([*TEXTS, LONG])
    for number, text in enumerate([*TEXTS, LONG]):
        theirs = torch_predictions(both_kinds, text, tokenizer, V1_POOLING)
        for direction in ("forward", "backward"):
            np.testing.assert_allclose(ours[direction][number], theirs[direction], rtol=0, atol=1e-5)
    for number, text in enumerate([*TEXTS, LONG]):  # guarantee 2: batched as alone, to the last bit
        assert np.array_equal(model.predict_proba([text])[0], ours["ensemble"][number])
    assert bothways.verify(tmp_path / "b.bundle").passed
    imported = model.manifest.training.imported
    assert imported is not None
    assert imported.files[Direction.BACKWARD].name == "backward.pth"


def test_v2s_weights_pool_as_v2_does(classifiers: TinyClassifiers, tokenizer: WordTokenizer, tmp_path: Path) -> None:
    model = without_biases(classifiers.models[Direction.FORWARD])
    words = [*vocabulary(1, WORDS)]  # v2's code, v1's words: the published encoder was trained with v1's rules
    save_vocabulary(tmp_path / "vocab.pkl", words)
    weights = save_weights(tmp_path / "clas.pth", fastai_state(model, version=2), with_optimizer=True, is_legacy=True)
    import_fastai(weights, out=tmp_path / "out", labels=LABELS, task="single-label", direction="forward")
    loaded = bothways.load(tmp_path / "out")
    assert loaded.manifest.members[0].pooling == V2_POOLING
    only = TinyClassifiers({Direction.FORWARD: model}, [], tokenizer)
    theirs = torch_predictions(only, LONG, tokenizer, V2_POOLING)
    np.testing.assert_allclose(loaded.predict_proba([LONG])[0], theirs["forward"], rtol=0, atol=1e-5)


def test_language_models_become_a_pack(
    language_models: TinyLanguageModels, tokenizer: WordTokenizer, tmp_path: Path
) -> None:
    paths = [save_weights(tmp_path / f"{way}.pth", fastai_state(language_models.models[way])) for way in Direction]
    save_vocabulary(tmp_path / "itos.pkl", vocabulary(1, WORDS))
    result = import_fastai(*paths, out=tmp_path / "lm.pack")
    assert result.kind == "language-model"
    bundle = read_bundle(tmp_path / "lm.pack", Kind.LANGUAGE_MODEL)
    for way, model in language_models.models.items():
        ids = read(tokenizer.tokenize(TEXTS[1]), way, SpecialTokenPlacement.AS_WRITTEN).astype(np.int64)
        with torch.no_grad():
            logits, _ = model.eval().logits(torch.from_numpy(ids[None, :-1]), model.encoder.zero_state(1))
            theirs = torch.nn.functional.cross_entropy(logits[0], torch.from_numpy(ids[1:])).item()
        assert LanguageModel(bundle).loss(TEXTS[1], way) == pytest.approx(theirs, abs=1e-5)


def test_an_encoder_becomes_a_pack_without_a_bias(language_models: TinyLanguageModels, tmp_path: Path) -> None:
    state = fastai_state(language_models.models[Direction.BACKWARD])
    encoder = {name[2:]: array for name, array in state.items() if name.startswith("0.")}
    save_vocabulary(tmp_path / "itos.pkl", vocabulary(1, WORDS))
    weights = save_weights(tmp_path / "enc.pth", encoder)
    import_fastai(weights, out=tmp_path / "enc.pack", direction="backward")
    bundle = read_bundle(tmp_path / "enc.pack", Kind.LANGUAGE_MODEL)
    assert bundle.manifest.directions == [Direction.BACKWARD]
    assert not bundle.weights[Direction.BACKWARD]["decoder.bias"].any()


def test_an_archive_and_a_folder_as_the_published_ones_are(language_models: TinyLanguageModels, tmp_path: Path) -> None:
    folder = tmp_path / "wt103-bwd"
    folder.mkdir()
    save_weights(folder / "lstm_bwd.pth", fastai_state(language_models.models[Direction.BACKWARD]), is_legacy=True)
    save_vocabulary(folder / "itos_wt103.pkl", vocabulary(1, WORDS))
    with tarfile.open(tmp_path / "wt103-bwd.tgz", "w:gz") as archive:
        archive.add(folder, "wt103-bwd")
    for source in (folder, tmp_path / "wt103-bwd.tgz"):
        out = tmp_path / f"{source.name}.pack"
        result = import_fastai(source, out=out, direction="backward")
        assert result.models[0].name == f"{source}/lstm_bwd.pth"
    ours, theirs = (tmp_path / f"wt103-bwd{suffix}.pack" / "backward.safetensors" for suffix in ("", ".tgz"))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("name", ["../../evil.pth", "/etc/evil.pth", "a/b/evil.pth"])
def test_an_archive_writes_nowhere_else(name: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no model")
    with tarfile.open(tmp_path / "model.tgz", "w:gz") as archive:
        archive.add(tmp_path / "x", name)
    with pytest.raises(ForeignModelError):
        import_fastai(tmp_path / "model.tgz", out=tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.tgz", "x"]


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x1f\x8b" + b"\0" * 50])
def test_a_broken_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.tgz").write_bytes(content)
    with pytest.raises(ForeignModelError, match=r"model\.tgz can't be read as an archive"):
        import_fastai(tmp_path / "model.tgz", out=tmp_path / "out")


def test_vocabularies_that_differ_are_joined_and_each_model_keeps_its_own_unknown_word(
    classifiers: TinyClassifiers, tmp_path: Path
) -> None:
    """The backward model has the same words in another order, and one of its own in place of "dog"."""
    own = [*reversed(WORDS)]
    own[own.index("dog")] = "zebra"
    words = {Direction.FORWARD: vocabulary(1, WORDS), Direction.BACKWARD: vocabulary(1, own)}
    paths, lists = [], []
    for way in Direction:
        paths.append(save_weights(tmp_path / f"{way}.pth", fastai_state(classifiers.models[way], version=1)))
        lists.append(save_vocabulary(tmp_path / f"{way}.words", words[way]))
    import_fastai(*paths, out=tmp_path / "both", labels=LABELS, task="single-label", vocabulary=lists)
    both = bothways.load(tmp_path / "both")
    assert len(both.tokenizer) == len(words[Direction.FORWARD]) + 1
    texts = [*TEXTS, "the zebra sat on the dog"]
    for way, path, words_file in zip(Direction, paths, lists, strict=True):
        import_fastai(
            path,
            out=tmp_path / f"{way}.bundle",
            labels=LABELS,
            task="single-label",
            vocabulary=[words_file],
            direction=str(way),
        )
        alone = bothways.load(tmp_path / f"{way}.bundle").predict_proba(texts)
        np.testing.assert_allclose(both.predict_proba_by_direction(texts)[str(way)], alone, rtol=0, atol=1e-6)


def test_the_second_models_labels_may_come_in_another_order(tmp_path: Path, classifiers: TinyClassifiers) -> None:
    paths = []
    for way, labels in ((Direction.FORWARD, LABELS), (Direction.BACKWARD, LABELS[::-1])):
        folder = tmp_path / str(way)
        folder.mkdir()
        paths.append(save_weights(folder / "clas.pth", fastai_state(classifiers.models[way], version=1)))
        (folder / "vocab.pkl").write_bytes(pickle.dumps([vocabulary(1, WORDS), labels]))
    import_fastai(*paths, out=tmp_path / "both", task="single-label")
    both = bothways.load(tmp_path / "both")
    import_fastai(paths[1], out=tmp_path / "alone", direction="backward", task="single-label")
    alone = bothways.load(tmp_path / "alone")
    assert (list(both.labels), list(alone.labels)) == (LABELS, LABELS[::-1])
    theirs = alone.predict_proba(TEXTS)[:, ::-1]
    np.testing.assert_allclose(both.predict_proba_by_direction(TEXTS)["backward"], theirs, rtol=0, atol=1e-9)


def test_a_vocabulary_may_be_json(files: dict[Direction, Path], tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text(json.dumps(vocabulary(1, WORDS)))
    options: dict[str, Any] = {"labels": LABELS, "task": "single-label", "direction": "forward"}
    for name in ("words.json", "itos.pkl"):
        path = files[Direction.FORWARD]
        import_fastai(path, out=tmp_path / f"{name}.out", vocabulary=[tmp_path / name], **options)
    contents = [(tmp_path / f"{name}.out" / "bundle.json").read_bytes() for name in ("words.json", "itos.pkl")]
    assert contents[0] == contents[1]


def verdict_for(direction: Direction | None) -> DirectionVerdict:
    forward, backward, z_score = {
        None: (5.0, 5.01, 0.3), Direction.FORWARD: (5.0, 6.0, 9.0), Direction.BACKWARD: (6.0, 5.0, -9.0)
    }[direction]  # fmt: skip
    return DirectionVerdict(forward, backward, 0.1, z_score, 100, "en", 0.9, direction)


FORWARD, BACKWARD = Direction.FORWARD, Direction.BACKWARD
DECISIONS: list[tuple[Direction | None, Direction | None, Direction | None, tuple[Direction, str] | str]] = [
    (FORWARD, None, FORWARD, (FORWARD, "recorded")),
    (BACKWARD, None, None, (BACKWARD, "recorded")),
    (BACKWARD, BACKWARD, BACKWARD, (BACKWARD, "recorded")),
    (None, BACKWARD, None, (BACKWARD, "given")),
    (None, BACKWARD, BACKWARD, (BACKWARD, "given")),
    (None, None, BACKWARD, (BACKWARD, "inferred")),
    (None, None, FORWARD, (FORWARD, "inferred")),
    (None, None, None, "does not record which way it reads, and its weights do not show it"),
    (FORWARD, BACKWARD, None, "given as the backward model, but its file records that it reads forward"),
    (FORWARD, None, BACKWARD, "its file records that it reads forward, but its weights read backward"),
    (BACKWARD, BACKWARD, FORWARD, "its file records that it reads backward, but its weights read forward"),
    (None, FORWARD, BACKWARD, "it was given as the forward model, but its weights read backward"),
]


@pytest.mark.parametrize(("recorded", "given", "inferred", "outcome"), DECISIONS)
def test_a_direction_is_known_or_refused_and_contradictions_are_refused(
    files: dict[Direction, Path],
    recorded: Direction | None,
    given: Direction | None,
    inferred: Direction | None,
    outcome: tuple[Direction, str] | str,
) -> None:
    requested = Requested(task="single-label", labels=tuple(LABELS), language="en")
    opened = fastai_file.open_model(str(files[FORWARD]), requested=requested)
    model = dataclasses.replace(opened, direction=recorded)
    if isinstance(outcome, str):
        with pytest.raises(DirectionError, match=outcome):
            resolve_direction(model, given, verdict_for(inferred))
    else:
        decided = resolve_direction(model, given, verdict_for(inferred))
        assert (decided.direction, decided.known_by) == outcome


def test_files_that_are_mixed_up_are_refused_and_nothing_is_written(
    files: dict[Direction, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = iter([BACKWARD, FORWARD])
    monkeypatch.setattr(fastai_import, "infer", lambda *_: verdict_for(next(ways)))
    with pytest.raises(DirectionError, match=r"forward\.pth: it was given as the forward model"):
        import_fastai(files[FORWARD], files[BACKWARD], out=tmp_path / "out", labels=LABELS, task="single-label")
    assert not (tmp_path / "out").exists()


MISTAKES: dict[str, tuple[Callable[[dict[Direction, Path]], dict[str, Any]], type[Exception], str]] = {
    "no labels": (
        lambda f: {"forward": f[FORWARD], "task": "single-label"},
        ConfigError,
        "has 3 classes without labels",
    ),
    "too few labels": (
        lambda f: {"forward": f[FORWARD], "task": "single-label", "labels": ["a", "b"]},
        ConfigError,
        "has 3 classes, but 2 labels: 'a', 'b'",
    ),
    "a label twice": (
        lambda f: {"forward": f[FORWARD], "task": "single-label", "labels": ["a", "b", "a"]},
        ForeignModelError,
        "a label occurs twice",
    ),
    "a direction misspelt": (
        lambda f: {"forward": f[FORWARD], "labels": LABELS, "task": "single-label", "direction": "bwd"},
        ConfigError,
        "unknown direction 'bwd', expected forward or backward",
    ),
    "a direction for two": (
        lambda f: {
            "forward": f[FORWARD],
            "backward": f[BACKWARD],
            "labels": LABELS,
            "task": "single-label",
            "direction": "forward",
        },
        ConfigError,
        "the first reads forward and the second backward",
    ),
    "three vocabularies": (
        lambda f: {"forward": f[FORWARD], "labels": LABELS, "task": "single-label", "vocabulary": ["a", "b", "c"]},
        ConfigError,
        "3 vocabularies for 1 models",
    ),
    "no such file": (lambda f: {"forward": f[FORWARD].with_name("none.pkl")}, ForeignModelError, "none.pkl"),
    "no such vocabulary": (
        lambda f: {"forward": f[FORWARD], "labels": LABELS, "task": "single-label", "vocabulary": ["none.pkl"]},
        ForeignModelError,
        "none.pkl",
    ),
    "a vocabulary as the model": (
        lambda f: {"forward": f[FORWARD].with_name("itos.pkl")},
        ForeignModelError,
        "expected a model",
    ),
    "a model as the vocabulary": (
        lambda f: {"forward": f[FORWARD], "labels": LABELS, "task": "single-label", "vocabulary": [f[BACKWARD]]},
        ForeignModelError,
        "expected a vocabulary",
    ),
    "a folder of two models": (
        lambda f: {"forward": f[FORWARD].parent},
        ForeignModelError,
        "contains 2 .pth and 1 .pkl",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_refused(files: dict[Direction, Path], tmp_path: Path, case: str) -> None:
    make, error, message = MISTAKES[case]
    with pytest.raises(error, match=message):
        import_fastai(**make(files), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_vocabulary_of_another_model_is_refused(files: dict[Direction, Path], tmp_path: Path) -> None:
    save_vocabulary(tmp_path / "itos.pkl", vocabulary(1, WORDS[:-1]))
    with pytest.raises(ConfigError, match="the vocabulary has 20 words, but the embedding has 21 rows"):
        import_fastai(files[FORWARD], out=tmp_path / "out", labels=LABELS, task="single-label")


@pytest.mark.parametrize("count", [0, 2])
def test_a_vocabulary_in_the_folder_is_used_only_if_it_is_the_only_one(
    files: dict[Direction, Path], tmp_path: Path, count: int
) -> None:
    words = (tmp_path / "itos.pkl").read_bytes()
    (tmp_path / "itos.pkl").unlink()
    for number in range(count):
        (tmp_path / f"{number}.pkl").write_bytes(words)
    with pytest.raises(ConfigError, match="pass the vocabulary with --vocabulary"):
        import_fastai(files[FORWARD], out=tmp_path / "out", labels=LABELS, task="single-label")


def test_control_tokens_in_no_order_of_fastai_are_refused(files: dict[Direction, Path], tmp_path: Path) -> None:
    words = vocabulary(1, WORDS)
    words[5], words[6] = words[6], words[5]
    save_vocabulary(tmp_path / "itos.pkl", words)
    with pytest.raises(ForeignModelError, match="expected the control tokens of fastai v1 or v2"):
        import_fastai(files[FORWARD], out=tmp_path / "out", labels=LABELS, task="single-label")


def test_nothing_is_overwritten(files: dict[Direction, Path], tmp_path: Path) -> None:
    with pytest.raises(OutputExists):
        import_fastai(files[FORWARD], out=tmp_path, labels=LABELS, task="single-label")


def test_models_that_differ_in_kind_or_labels_share_no_bundle(
    files: dict[Direction, Path], language_models: TinyLanguageModels, tmp_path: Path
) -> None:
    lm = save_weights(tmp_path / "lm.pth", fastai_state(language_models.models[BACKWARD]))
    with pytest.raises(ForeignModelError, match=r"is a classifier, but .*lm\.pth is a language-model"):
        import_fastai(files[FORWARD], lm, out=tmp_path / "out", labels=LABELS, task="single-label")


def test_merged_vocabularies_begin_with_the_first_ones_words() -> None:
    one, two = (make_word_tokenizer("fastai-v1", words).document for words in (["the", "cat"], ["dog", "cat", "dog"]))
    assert merged_vocabulary([one, two]) == [*one.vocabulary, "dog"]
    assert merged_vocabulary([one, one]) == one.vocabulary


def test_the_direction_of_a_classifier_is_inferred_without_its_labels(files: dict[Direction, Path]) -> None:
    found = bothways.infer_direction(files[FORWARD])
    assert found.direction is None  # random weights
