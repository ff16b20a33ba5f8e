"""A bundle as one ONNX graph: the same reading order and the same probabilities in any batch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto
from onnxruntime import InferenceSession as Session

import bothways
from bothways.bundle.manifest import FastaiPooling, Kind
from bothways.bundle.read import read_bundle
from bothways.errors import BundleBroken, BundleError, ConfigError, OutputExists
from bothways.interop import onnx_export
from bothways.runtime.classifier import Classifier
from bothways.runtime.graph_builder import GraphBuilder
from bothways.tasks.multi_label import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.tasks.task import Target
from bothways.text.reading import Direction, SpecialTokenPlacement, TokenizedText, read
from bothways.text.subword_tokenizer import SubwordTokenizer
from bothways.text.tokenizer import PADDING_ID
from tests.bundles import make_classifiers, write_classifiers, write_with_abstention
from tests.words import make_word_tokenizer

TEXTS = st.lists(
    st.one_of(
        st.text(alphabet="abcABC !.,", max_size=40),
        st.lists(st.sampled_from(["The", "cat", "CAT", "no", "no", "loooool", "it!!!!"]), max_size=30).map(" ".join),
        st.text(max_size=20),
    ),
    min_size=1,
    max_size=6,
)


def padded(tokenized: list[TokenizedText], filler: int) -> dict[str, NDArray[np.int64]]:
    """Return the graph's inputs for some texts, with the filler id after their ends."""
    lengths = np.array([len(text) for text in tokenized], dtype=np.int64)
    ids = np.full((len(tokenized), lengths.max()), filler, dtype=np.int64)
    for row, text in enumerate(tokenized):
        ids[row, : len(text)] = text.ids
    return {"ids": ids, "lengths": lengths}


Exported = tuple[Session, Classifier]
"""The graph and the classifier that it was made from."""


def largest_difference(session: Session, model: Classifier, texts: list[str], filler: int = PADDING_ID) -> float:
    names = [output.name for output in session.get_outputs()]
    inputs = padded([model.tokenizer.tokenize(text) for text in texts], filler)
    found = dict(zip(names, session.run(names, inputs), strict=True))
    expected = model.predict_proba_by_direction(texts)
    assert found.keys() == expected.keys()
    return max(float(np.abs(found[name] - expected[name]).max()) for name in expected)


# Reading.


@pytest.fixture(scope="module")
def order_session(bundle_path: Path) -> Session:
    """Return a session of the nodes that put a backward member's ids in reading order."""
    bundle, graph = read_bundle(bundle_path, Kind.CLASSIFIER), GraphBuilder("order")
    member = bundle.manifest.member(Direction.BACKWARD)
    assert member.special_tokens is SpecialTokenPlacement.READING_ORDER
    order = onnx_export._ids_in_reading_order(graph, onnx_export._texts(graph), member, bundle)
    graph.output(order, ["texts", "tokens"], TensorProto.INT64)
    return Session(graph.model(opset=17, ir_version=8).SerializeToString())


@given(texts=TEXTS)
def test_each_text_of_a_batch_is_read_in_the_order_of_its_direction(
    order_session: Session, tiny_tokenizer: SubwordTokenizer, texts: list[str]
) -> None:
    tokenized = [tiny_tokenizer.tokenize(text) for text in texts]
    (found,) = order_session.run(None, padded(tokenized, filler=7))
    for row, text in zip(found, tokenized, strict=True):
        expected = read(text, Direction.BACKWARD, SpecialTokenPlacement.READING_ORDER)
        np.testing.assert_array_equal(row[: len(text)], expected)


# Probabilities.


@pytest.fixture(scope="module")
def exported(
    bundle_path: Path,
    mixed_bundle_path: Path,
    multi_label_bundle_path: Path,
    qrnn_bundle_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Exported]:
    """Bundles: special tokens in reading order; as written, calibrated, backward first; multi-label; QRNNs."""
    folder = tmp_path_factory.mktemp("onnx")
    found = {}
    for bundle in (bundle_path, mixed_bundle_path, multi_label_bundle_path, qrnn_bundle_path):
        path = folder / f"{bundle.stem}.onnx"
        result = bothways.export_onnx(bundle, out=path)
        assert result.size_bytes == path.stat().st_size
        assert max(result.differences.values()) <= 1e-5
        found[bundle.stem] = Session(path), bothways.load(bundle)
    return found


@pytest.mark.parametrize("name", ["tiny", "mixed", "topics", "qrnn"])
def test_texts_in_one_padded_batch_get_the_bundles_probabilities(exported: dict[str, Exported], name: str) -> None:
    session, model = exported[name]

    @given(texts=TEXTS, filler=st.sampled_from([PADDING_ID, 3, 20]))
    def check(texts: list[str], filler: int) -> None:
        assert largest_difference(session, model, texts, filler) <= 1e-5

    check()


def test_a_bundle_that_abstains_has_the_domain_score_of_each_text(bundle_path: Path, tmp_path: Path) -> None:
    """For texts of any length in one padded batch. Other bundles have no such output."""
    texts = ["the cat sat on a mat", "the DOG", "", "漢字 かな", "!!! def f(x): return {x: [y for y in x]} " * 30]
    careful = write_with_abstention(bundle_path, tmp_path / "careful.bundle", ["the cat", "a DOG sat", "my mat", "x"])
    bothways.export_onnx(careful, out=tmp_path / "careful.onnx")
    session, model = Session(tmp_path / "careful.onnx"), bothways.load(careful)
    assert [output.name for output in session.get_outputs()] == [*model.scored_by, "ensemble", "domain_score"]
    abstention = model.abstention
    assert abstention is not None
    assert abstention.label_sets is not None
    assert json.loads(session.get_modelmeta().custom_metadata_map["abstention"]) == {
        "threshold": abstention.threshold,
        "domain_threshold": abstention.domain.threshold,
        "label_set_threshold": abstention.label_sets.threshold,
    }
    tokenized = [model.tokenizer.tokenize(text) for text in texts]
    for filler in (PADDING_ID, 3, 20):
        (found,) = session.run(["domain_score"], padded(tokenized, filler))
        expected = [float(prediction.domain_score or 0) for prediction in model.stream(texts)]
        np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4)


def test_a_text_of_20_000_tokens_gets_the_bundles_probabilities(exported: dict[str, Exported]) -> None:
    session, model = exported["tiny"]
    text = " ".join(map(str, range(7_000)))
    assert len(model.tokenizer.tokenize(text)) > 20_000
    assert largest_difference(session, model, [text, "short"]) <= 1e-5


def test_a_plain_reversal_would_be_noticed(exported: dict[str, Exported]) -> None:
    session, model = exported["tiny"]
    texts = ["The cat sat on the mat, and the DOG ate it all up."]
    tokens = model.tokenizer.tokenize(texts[0])
    reversed_ids = {"ids": tokens.ids[None, ::-1].astype(np.int64), "lengths": np.array([len(tokens)])}
    (wrong,) = session.run(["backward"], reversed_ids)
    assert np.abs(wrong - model.predict_proba_by_direction(texts)["backward"]).max() > 1e-3


@pytest.mark.parametrize("tail_tokens", [None, 12])
@pytest.mark.parametrize("last_skips_padding", [True, False])
def test_the_graph_pools_what_fastai_pools(tmp_path: Path, tail_tokens: int | None, last_skips_padding: bool) -> None:
    pooling = FastaiPooling(window_tokens=5, tail_tokens=tail_tokens, last_skips_padding=last_skips_padding)
    made = make_classifiers(
        make_word_tokenizer("fastai-v2"), dict.fromkeys(Direction, SpecialTokenPlacement.AS_WRITTEN)
    )
    write_classifiers(tmp_path / "m.bundle", made)
    bundle = read_bundle(tmp_path / "m.bundle", Kind.CLASSIFIER)
    members = [member.model_copy(update={"pooling": pooling}) for member in bundle.manifest.members]
    bundle = dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(update={"members": members}))
    session = Session(onnx_export._model(bundle).SerializeToString())
    texts = ["", "the cat", "xxpad", "xxpad xxpad the", "the xxpad", " ".join(["the cat sat xxpad"] * 7), "cat " * 23]
    texts += [f"{'the ' * count}{'xxpad ' * (count % 4)}" for count in range(30)]
    assert largest_difference(session, Classifier(bundle), texts) <= 1e-5


# Metadata, and what is rejected.


def test_the_metadata_has_labels_thresholds_and_tokenizer(exported: dict[str, Exported]) -> None:
    session, model = exported["topics"]
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["labels"]) == list(model.labels)
    assert json.loads(metadata["thresholds"]) == model.manifest.thresholds
    assert metadata["task"] == "multi-label"
    assert metadata["digest"] == model.digest
    assert metadata["tokenizer"].encode() == model.tokenizer.to_bytes()


def test_an_existing_file_is_not_overwritten(bundle_path: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("mine")
    with pytest.raises(OutputExists, match=r"m\.onnx"):
        bothways.export_onnx(bundle_path, out=tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="does not exist"):
        bothways.export_onnx(bundle_path, out=tmp_path / "nowhere" / "m.onnx")


def test_a_pack_is_rejected(pack_path: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleBroken, match="is a language-model, expected a classifier"):
        bothways.export_onnx(pack_path, out=tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression"])
def test_a_linear_member_is_part_of_the_graph(tmp_path: Path, tiny_tokenizer: SubwordTokenizer, task: str) -> None:
    tasks = {
        "single-label": SingleLabel(("a", "b", "c"), 1.5),
        "multi-label": MultiLabel(("a", "b", "c"), 1.5, (0.5, 0.4, 0.6), ";"),
        "regression": Regression((Target(scale=2.0),)),
    }
    placements = dict.fromkeys(Direction, SpecialTokenPlacement.READING_ORDER)
    made = make_classifiers(tiny_tokenizer, placements, task=tasks[task], linear_of=["the cat sat", "I LOVED it!!!"])
    write_classifiers(tmp_path / "m.bundle", made)
    exported = bothways.export_onnx(tmp_path / "m.bundle", out=tmp_path / "m.onnx")
    assert exported.differences.keys() == {"forward", "backward", "linear", "ensemble"}
    assert max(exported.differences.values()) < 1e-5
    session = Session(tmp_path / "m.onnx")
    assert [each.name for each in session.get_inputs()] == ["ids", "lengths", "ngrams", "ngram_values"]


def test_a_graph_that_does_not_reproduce_the_parity_record_is_not_written(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "_ids_in_reading_order", lambda _graph, texts, *_: texts.ids)
    with pytest.raises(
        BundleError,
        match=r"was not exported: the graph's backward differs by .* from the parity record, expected at most 1e-05",
    ):
        bothways.export_onnx(bundle_path, out=tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_words_in_reading_order_are_rejected(tmp_path: Path) -> None:
    made = make_classifiers(
        make_word_tokenizer("fastai-v2"), dict.fromkeys(Direction, SpecialTokenPlacement.READING_ORDER)
    )
    write_classifiers(tmp_path / "words.bundle", made)
    with pytest.raises(
        BundleError, match=r"words\.bundle can't be exported: it reads backward with special tokens in reading order"
    ):
        bothways.export_onnx(tmp_path / "words.bundle", out=tmp_path / "m.onnx")
