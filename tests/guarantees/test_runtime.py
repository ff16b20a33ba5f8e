"""Guarantees 1, 2, 3, 4 and 6 (docs/guarantees.md), on a bundle that was published like any other."""

from __future__ import annotations

import itertools
import json
import random
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bothways
from bothways.bundle.manifest import Architecture, EncoderKind, Kind, Member
from bothways.bundle.packs import pack_path
from bothways.bundle.parity import ENSEMBLE, NASTY_TEXTS
from bothways.bundle.read import read_bundle
from bothways.bundle.weights import encoder_shapes
from bothways.errors import ConfigError
from bothways.nn.classifier import concat_pool
from bothways.runtime.classifier import Classifier
from bothways.runtime.cores import available_cores
from bothways.runtime.encoder import PRECISIONS
from bothways.runtime.sessions import WINDOW_TOKENS, EncoderSession
from bothways.runtime.slots import BATCH_SLOTS, SLOTS, Pooled, SlotEngine
from bothways.text.reading import Direction, SpecialTokenPlacement, TokenizedText, read
from bothways.text.subword_tokenizer import SubwordTokenizer
from bothways.text.tokenizer import START_ID, Tokenizer
from tests import bundles
from tests.bundles import SEED, Probabilities, TinyClassifiers, run_python

NAMES = ["forward", "backward", ENSEMBLE]
TEXTS = [*NASTY_TEXTS, "What a lovely film, I LOVED it!!!", "the dog ate the cat " * 30, "I hated every minute of it"]


def names_of(model: Classifier) -> list[str]:
    """Return the names of all scores of a model."""
    return [*model.scored_by, ENSEMBLE]


PRINT_PROBABILITIES = """
import json, sys
import bothways

model = bothways.load(sys.argv[1])
found = model.predict_proba_by_direction(json.load(sys.stdin))
assert "torch" not in sys.modules
json.dump({name: rows.tolist() for name, rows in found.items()}, sys.stdout)
"""

MEASURE_MEMORY = """
import json, sys
import bothways

def peak_kb():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

model = bothways.load(sys.argv[1])
text = "the cat sat on the mat, " * 14_000
tokens = len(model.tokenizer.tokenize(text))
model.predict(["warm up " * 100] * 64)
start = peak_kb()
model.predict([text, "short"])
middle = peak_kb()
model.predict([text + text, "short"])
print(json.dumps([tokens, middle - start, peak_kb() - middle]))
"""

FORK = """
import os, shutil, sys
import numpy as np
import bothways

texts = ["the cat sat on the mat, " * number for number in range(40)]
children = []
for threads in (1, 2, 4):
    model = bothways.load(sys.argv[1], threads=threads, precision=sys.argv[2])
    expected = model.predict_proba(texts)
    for predicts in (True, False):
        child = os.fork()
        if child == 0:
            sys.exit(0 if not predicts or np.array_equal(model.predict_proba(texts), expected) else 1)
        children.append(child)
    assert np.array_equal(model.predict_proba(texts), expected)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6

# With one thread per session a fork shares the weights. Otherwise it reads the bundle again, which must still be there.
path, precision = shutil.copytree(sys.argv[1], sys.argv[3]), sys.argv[2]
few, more = (1, 2) if precision == "float32" else (2, 4)
models = [bothways.load(path, threads=threads, precision=precision) for threads in (few, more)]
shutil.rmtree(path)
for model, status in zip(models, (0, 3)):
    child = os.fork()
    if child == 0:
        try:
            model.predict(texts[:2])
        except bothways.BundleMissing:
            os._exit(3)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status
"""

MEASURE_PEAK = """
import sys
import bothways

model = bothways.load(sys.argv[1])
long = "the cat sat on the mat, " * 300
assert len(model.predict(["the dog ate the cat " * (number % 12) for number in range(600)] + [long])) == 601
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


# Guarantee 1. Direction. Forward, backward and ensemble are the same (≤ 1e-5 in fp32) from the model in
# the trainer's memory, from the written bundle, in another process, on another day.


@pytest.mark.parametrize(
    "which",
    ["", "mixed_", "multi_label_", "qrnn_"],
    ids=["reading order", "mixed placements, calibrated", "multi-label", "QRNN"],
)
def test_a_loaded_bundle_has_the_trainers_probabilities_in_every_direction(
    which: str, request: pytest.FixtureRequest
) -> None:
    ours = bothways.load(request.getfixturevalue(f"{which}bundle_path")).predict_proba_by_direction(TEXTS)
    theirs = request.getfixturevalue(f"{which}torch_models").probabilities(TEXTS)
    assert set(ours) == set(theirs) == set(NAMES)
    for name in NAMES:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-5, err_msg=name)


def test_another_process_computes_the_same_probabilities(bundle_path: Path, torch_models: TinyClassifiers) -> None:
    finished = run_python(PRINT_PROBABILITIES, str(bundle_path), input=json.dumps(TEXTS))
    assert finished.returncode == 0, finished.stderr
    ours, theirs = json.loads(finished.stdout), torch_models.probabilities(TEXTS)
    for name in NAMES:
        np.testing.assert_allclose(np.array(ours[name]), theirs[name], rtol=0, atol=1e-5, err_msg=name)


def test_a_text_read_in_the_wrong_direction_would_be_noticed(torch_models: TinyClassifiers) -> None:
    texts = [text for text in TEXTS if len(set(torch_models.tokenizer.tokenize(text).ids.tolist())) > 2]
    right, wrong = torch_models.probabilities(texts), torch_models.probabilities(texts, swapped=True)
    assert len(texts) > 10
    for name in NAMES:
        assert (np.abs(right[name] - wrong[name]).max(axis=1) > 1e-3).all(), name


def test_special_tokens_in_another_place_would_be_noticed(torch_models: TinyClassifiers) -> None:
    text = torch_models.tokenizer.tokenize("HELLO World!!! sooooo Nice")
    in_order, as_written = (read(text, Direction.BACKWARD, placement) for placement in reversed(SpecialTokenPlacement))
    model = torch_models.models[Direction.BACKWARD]
    with torch.no_grad():
        logits = [
            model(torch.from_numpy(ids.astype(np.int64))[None], torch.tensor([len(ids)]))[0]
            for ids in (in_order, as_written)
        ]
    assert (logits[0] - logits[1]).abs().max() > 1e-3


@settings(max_examples=30)
@given(st.text(max_size=300))
def test_any_text_gets_torchs_probabilities(
    each_torch_models: TinyClassifiers, each_model: Classifier, text: str
) -> None:
    ours, theirs = each_model.predict_proba_by_direction([text]), each_torch_models.probabilities([text])
    for name in names_of(each_model):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-5, err_msg=name)


# Guarantee 2. Batch. A text's probabilities are bit-identical alone, in any batch, in any order, at any length mix.

lengths_of_texts = st.one_of(
    st.integers(0, 3),
    st.integers(0, 100),
    st.sampled_from([30, 31, 32, 33, 63, 64, 65, 95, 96, 97, 200]),
)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(lengths_of_texts, st.integers(0, 999)), min_size=1, max_size=20),
    st.randoms(use_true_random=False),
    st.sampled_from([1, 2, 3, 5, SLOTS]),
)
def test_batch_order_and_lookahead_never_change_a_bit(
    each_model: Classifier, sizes: list[tuple[int, int]], rng: random.Random, lookahead: int
) -> None:
    texts = [text_of_words(words, seed) for words, seed in sizes]
    alone = probabilities_alone(each_model, texts)
    order = list(range(len(texts)))
    rng.shuffle(order)
    shuffled = [prediction.probabilities for prediction in each_model.stream([texts[i] for i in order], lookahead)]
    for place, i in enumerate(order):
        for name in names_of(each_model):
            assert np.array_equal(shuffled[place][name], alone[i][name]), (name, texts[i])


@pytest.mark.parametrize("lookahead", [1, 3, 7, SLOTS])
def test_lengths_around_a_window_never_change_a_bit(each_model: Classifier, lookahead: int) -> None:
    sizes = [1, 2, 31, 32, 33, 63, 64, 65, 96, 128, 129, 31, 32, 33, 1023, 1024, 1025, 2049]
    texts = [text_of_tokens(each_model.tokenizer, count, seed) for seed, count in enumerate(sizes)]
    assert [len(each_model.tokenizer.tokenize(text)) for text in texts] == sizes
    alone = probabilities_alone(each_model, texts)
    for i, prediction in enumerate(each_model.stream(texts, lookahead)):
        assert all(np.array_equal(prediction.probabilities[name], alone[i][name]) for name in names_of(each_model)), (
            sizes[i]
        )


@pytest.mark.parametrize("count", [BATCH_SLOTS, BATCH_SLOTS + 1, 2 * BATCH_SLOTS + 1, SLOTS + 90])
def test_more_texts_than_a_batch_or_all_slots_hold_never_change_a_bit(each_model: Classifier, count: int) -> None:
    rng = random.Random(count)
    texts = [text_of_words(rng.choice([0, 1, 5, 30, 31, 32, 33, 64, 90]), seed) for seed in range(count)]
    together = each_model.predict_proba_by_direction(texts)
    backwards = each_model.predict_proba_by_direction(texts[::-1])
    for name in names_of(each_model):
        assert np.array_equal(together[name], backwards[name][::-1])
    for i in range(0, count, 7):
        alone = each_model.predict_proba_by_direction([texts[i]])
        assert all(np.array_equal(alone[name][0], together[name][i]) for name in names_of(each_model)), i


@pytest.mark.parametrize("kind", get_args(EncoderKind))
@pytest.mark.parametrize(
    ("width_embedding", "width_hidden", "layers"),
    [(1, 1, 1), (3, 2, 3), (5, 7, 1), (17, 33, 3), (15, 129, 2), (128, 256, 2)],
)
def test_batching_never_changes_a_bit_at_any_model_width(
    width_embedding: int, width_hidden: int, layers: int, kind: EncoderKind
) -> None:
    """Matrix products of different shapes use different routines: for one row, a few rows, whole blocks."""
    architecture = Architecture(
        vocabulary_size=50, width_embedding=width_embedding, width_hidden=width_hidden, layers=layers, kind=kind
    )
    rng = np.random.default_rng(width_hidden)
    engine = SlotEngine([random_member(architecture)], [random_session(architecture, rng)])
    lengths = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 200, 1100, *rng.integers(1, 70, 12).tolist()]
    texts = [random_tokens(rng, length, 50) for length in lengths]
    alone = [next(engine.run([text]))[0] for text in texts]
    assert len({pooled.tobytes() for pooled in alone}) > len(alone) // 2
    for lookahead in (2, 3, 13, SLOTS):
        order = rng.permutation(len(texts)).tolist()
        for i, (pooled,) in zip(order, engine.run([texts[i] for i in order], lookahead), strict=True):
            assert np.array_equal(pooled, alone[i]), (lookahead, lengths[i])


@pytest.mark.parametrize(
    ("width_embedding", "width_hidden", "kind"),
    [(3, 5, "lstm"), (16, 33, "lstm"), (128, 256, "lstm"), (100, 288, "lstm"), (16, 33, "qrnn"), (100, 288, "qrnn")],
)
def test_the_number_of_threads_never_changes_a_bit(width_embedding: int, width_hidden: int, kind: EncoderKind) -> None:
    architecture = Architecture(
        vocabulary_size=50, width_embedding=width_embedding, width_hidden=width_hidden, layers=3, kind=kind
    )
    rng = np.random.default_rng(3)
    texts = [random_tokens(rng, length, 50) for length in (1, 2, 5, 31, 33, 70, 1100, *rng.integers(1, 50, 70))]
    found = []
    for threads in (1, 2, 3, 8):
        session = random_session(architecture, np.random.default_rng(width_hidden), threads)
        engine = SlotEngine([random_member(architecture)], [session])
        found.append(
            [pooled.tobytes() for (pooled,) in engine.run(texts)] + [next(engine.run(texts[-1:]))[0].tobytes()]
        )
    assert found[1:] == found[:1] * 3


def test_threads_default_to_the_available_cores(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[int] = []
    real = onnxruntime.InferenceSession

    def recorded(model: bytes, options: Any, **more: Any) -> Any:
        requested.append(options.intra_op_num_threads)
        return real(model, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", recorded)
    bothways.load(bundle_path)
    bothways.load(bundle_path, threads=3)
    assert requested == [available_cores()] * 2 + [3] * 2
    with pytest.raises(ConfigError, match="threads is 0, expected 1 or more"):
        bothways.load(bundle_path, threads=0)


# Guarantee 3. One tokenization. An ensemble tokenizes each text exactly once (counted in a test).


def test_an_ensemble_tokenizes_each_text_once(model: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    original = SubwordTokenizer.tokenize

    def counted(self: SubwordTokenizer, text: str) -> TokenizedText:
        seen.append(text)
        return original(self, text)

    monkeypatch.setattr(SubwordTokenizer, "tokenize", counted)
    texts = [*TEXTS, *TEXTS]
    assert model.directions == ["forward", "backward"]
    assert len(list(model.stream(texts))) == len(texts)
    assert seen == texts


# Guarantee 4. Order. Result i belongs to input i, also in streams and with several workers.


def test_results_keep_the_order_of_the_texts_at_any_length(each_model: Classifier) -> None:
    texts = [text_of_words(words, seed) for seed, words in enumerate([400, 0, 1, 200, 2, 0, 90, 3])]
    alone = probabilities_alone(each_model, texts)
    streamed = [prediction.probabilities[ENSEMBLE] for prediction in each_model.stream(iter(texts))]
    assert len({row.tobytes() for row in streamed}) >= 7  # so that a swap would be seen
    assert all(np.array_equal(ours, row[ENSEMBLE]) for ours, row in zip(streamed, alone, strict=True))


def test_threads_that_share_a_model_get_the_results_of_a_single_thread(each_model: Classifier) -> None:
    jobs = [[text_of_words(words, 10 * n + words) for words in (40, 0, 3, 70, 1)] * 4 for n in range(6)]
    expected = [each_model.predict_proba_by_direction(texts) for texts in jobs]
    found: dict[int, dict[str, Probabilities]] = {}
    barrier = threading.Barrier(len(jobs))

    def work(number: int) -> None:
        barrier.wait(timeout=30)
        for _ in range(3):
            found[number] = each_model.predict_proba_by_direction(jobs[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(found) == list(range(len(jobs)))
    for number, rows in enumerate(expected):
        assert all(np.array_equal(found[number][name], rows[name]) for name in names_of(each_model))


def test_interleaved_streams_of_one_model_do_not_mix(each_model: Classifier) -> None:
    texts = [text_of_words(words, words) for words in (50, 1, 33, 2)]
    alone = probabilities_alone(each_model, texts)
    ahead, behind = each_model.stream(texts, 2), each_model.stream(texts[::-1], 3)
    for i, (first, second) in enumerate(zip(ahead, behind, strict=True)):
        assert np.array_equal(first.probabilities[ENSEMBLE], alone[i][ENSEMBLE])
        assert np.array_equal(second.probabilities[ENSEMBLE], alone[-1 - i][ENSEMBLE])


# Guarantee 6. Windows. A text read in windows with carried state equals the text read at once; memory is bounded for a
# text of any length.


@pytest.mark.parametrize("tokens", [1, 31, 32, 33, 500, 3000])
def test_windows_return_what_torch_returns_for_the_whole_text(
    each_torch_models: TinyClassifiers, each_model: Classifier, tokens: int
) -> None:
    text = each_model.tokenizer.tokenize(text_of_tokens(each_model.tokenizer, tokens, tokens))
    ours = next(each_model.engine.run([text]))
    torch.set_num_threads(1)
    for member, pooled in zip(each_torch_models.members, ours, strict=True):
        ids = torch.from_numpy(read(text, member.direction, member.special_tokens).astype(np.int64))[None]
        encoder = each_torch_models.models[member.direction].encoder
        with torch.no_grad():
            outputs, _, _ = encoder(ids, encoder.zero_state(1))
            theirs = concat_pool(outputs, torch.tensor([tokens]))[0].numpy()
        np.testing.assert_allclose(pooled, theirs, rtol=0, atol=2e-6)


def test_the_mean_of_a_very_long_text_does_not_drift(torch_models: TinyClassifiers, model: Classifier) -> None:
    """Where every window adds the same, a running sum in float32 would round the same way thousands of times."""
    tokens, settled = 400_000, 2_000
    ids = np.full(tokens, START_ID, dtype=np.int32)
    text = TokenizedText(ids, np.array([0], dtype=np.int32), np.array([tokens], dtype=np.int32))
    ours = next(model.engine.run([text]))
    torch.set_num_threads(1)
    for member, pooled in zip(torch_models.members, ours, strict=True):
        encoder = torch_models.models[member.direction].encoder
        with torch.no_grad():
            outputs, _, _ = encoder(torch.from_numpy(ids[:settled].astype(np.int64))[None], encoder.zero_state(1))
        outputs_64 = outputs[0].double()
        assert torch.equal(outputs[0, -1], outputs[0, -500]) or (outputs[0, -1] - outputs[0, -500]).abs().max() < 1e-6
        expected = (outputs_64.sum(dim=0) + (tokens - settled) * outputs_64[-1]) / tokens
        np.testing.assert_allclose(pooled[-len(expected) :], expected.numpy(), rtol=0, atol=1e-6)


def test_a_text_of_200_000_tokens_takes_little_memory(bundle_path: Path) -> None:
    finished = run_python(MEASURE_MEMORY, str(bundle_path))
    assert finished.returncode == 0, finished.stderr
    tokens, grown_kb, grown_by_longer_kb = json.loads(finished.stdout)
    assert tokens > 200_000
    assert grown_kb < 60_000  # outputs of all tokens at once would be four arrays of 20 MB for each layer and member
    assert grown_by_longer_kb < 60_000


@pytest.mark.parametrize("precision", PRECISIONS)
def test_forked_processes_return_the_same_bits_and_end(bundle_path: Path, precision: str, tmp_path: Path) -> None:
    """F2: with ``sys.exit``, which frees everything, and with threads, of which a forked process has none."""
    finished = run_python(FORK, str(bundle_path), precision, str(tmp_path / "removed.bundle"))
    assert finished.returncode == 0, finished.stderr


@pytest.mark.slow
def test_a_model_of_the_size_of_ulmfit_stays_under_700_mb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in {"WIDTH_EMBEDDING": 400, "WIDTH_HIDDEN": 1152, "LAYERS": 3, "WIDTH_HEAD": 50}.items():
        monkeypatch.setattr(bundles, name, size)
    monkeypatch.setattr(
        bundles, "_randomize", lambda *_: None
    )  # larger weights than torch initializes make the network chaotic
    tokenizer = read_bundle(pack_path("en-small"), Kind.LANGUAGE_MODEL).tokenizer  # 10,012 pieces
    placements = dict.fromkeys(Direction, SpecialTokenPlacement.READING_ORDER)
    bundles.write_classifiers(tmp_path / "base.bundle", bundles.make_classifiers(tokenizer, placements))
    finished = run_python(MEASURE_PEAK, str(tmp_path / "base.bundle"))
    assert finished.returncode == 0, finished.stderr
    assert int(finished.stdout) < 700_000


def test_an_infinite_input_yields_results_immediately_and_in_constant_memory(model: Classifier) -> None:
    texts = [text_of_words(words, words) for words in (3, 0, 40, 7)]
    alone = probabilities_alone(model, texts)
    stream = model.stream(itertools.cycle(texts), lookahead=16)
    first = next(stream)
    assert np.array_equal(first.probabilities[ENSEMBLE], alone[0][ENSEMBLE])
    skip(stream, 199)
    tracemalloc.start()
    try:
        skip(stream, 200)
        after_200, _ = tracemalloc.get_traced_memory()
        skip(stream, 800)
        after_1000, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after_1000 - after_200 < 100_000
    assert np.array_equal(next(stream).probabilities[ENSEMBLE], alone[1200 % 4][ENSEMBLE])


def skip(stream: Iterator[object], count: int) -> None:
    assert sum(1 for _ in itertools.islice(stream, count)) == count


def probabilities_alone(model: Classifier, texts: list[str]) -> list[dict[str, Probabilities]]:
    return [{name: row[0] for name, row in model.predict_proba_by_direction([text]).items()} for text in texts]


def text_of_words(words: int, seed: int) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choices(["the", "cat", "Dog", "LOVED", "it", "film!", "42", "xyz", "sooooo"], k=words))


def text_of_tokens(tokenizer: Tokenizer, count: int, seed: int) -> str:
    """Return a text of exactly ``count`` tokens, including the start token."""
    letters = [c for c in "abcdefghijklmnopqrstuvwxyz0123456789" if len(tokenizer.tokenize(c)) == 2]
    rng = random.Random(seed)
    words: list[str] = []
    while len(words) < count - 1:
        words.append(rng.choice([letter for letter in letters if letter != (words or [""])[-1]]))
    return " ".join(words)


def random_tokens(rng: np.random.Generator, length: int, vocabulary: int) -> TokenizedText:
    ids = rng.integers(0, vocabulary, length).astype(np.int32)
    return TokenizedText(ids, np.arange(length, dtype=np.int32), np.zeros(length, dtype=np.int32))


def random_member(architecture: Architecture) -> Member:
    return Member(
        direction=Direction.FORWARD,
        special_tokens=SpecialTokenPlacement.READING_ORDER,
        weights="forward.safetensors",
        architecture=architecture,
        widths_head=[1],
    )


def random_session(architecture: Architecture, rng: np.random.Generator, threads: int | None = None) -> EncoderSession:
    shapes = encoder_shapes(architecture)
    weights = {f"encoder.{name}": rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    return EncoderSession(architecture, weights, threads=threads)


def test_the_tests_cross_the_edges_of_windows_and_batches(model: Classifier) -> None:
    """If the engine's sizes change, the lengths above must follow."""
    assert (WINDOW_TOKENS, BATCH_SLOTS, SLOTS, SEED) == (32, 32, 1024, 5)
    one: Pooled = next(model.engine.run([model.tokenizer.tokenize("")]))[0]
    assert one.shape == (48,)
    assert one.dtype == np.float32
