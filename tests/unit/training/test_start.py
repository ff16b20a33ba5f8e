"""B4: what a training starts from, and the line that says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.coverage.__main__ import HERE, sections

from bothways.bundle.manifest import Kind
from bothways.bundle.read import read_bundle
from bothways.errors import BundleMissing, ConfigError
from bothways.runtime.classifier import Classifier
from bothways.training.one_direction import first_checkpoint
from bothways.training.start import AUTO, DEFAULT_PACK, Start, chosen_start, read_start

ENGLISH = sections(HERE / "english.txt")["tweets"]
LANGUAGES = sections(HERE / "languages.txt")


@pytest.fixture(scope="module")
def english() -> Start:
    found = read_start(AUTO, None)
    assert found.pack is not None
    return found


def test_b4_auto_takes_the_english_pack_for_english_tweets_and_says_why(english: Start) -> None:
    start, report = chosen_start(english, AUTO, ENGLISH)
    assert start is english
    assert (report.stage, report.is_warning) == ("start", False)
    assert report.message == (
        "from the pack en-small, because it knows the language of the texts: 72% of their letters are in words that it "
        "knows"
    )


@pytest.mark.parametrize("language", ["Hindi", "Chinese", "German", "Indonesian", "Hindi in Latin letters"])
def test_b4_auto_starts_from_scratch_for_other_languages_and_says_why(english: Start, language: str) -> None:
    start, report = chosen_start(english, AUTO, LANGUAGES[language])
    assert (start.pack, start.size) == (None, "small")
    assert not report.is_warning
    assert report.message.startswith(
        "from scratch, size small, because the texts are not in the language of the pack en-small: "
    )
    assert "\n" not in report.message


def test_b4_a_pack_that_was_named_is_used_with_a_warning_that_names_it_without_its_folder(english: Start) -> None:
    named = read_start(DEFAULT_PACK, None)
    start, report = chosen_start(named, DEFAULT_PACK, LANGUAGES["Hindi"])
    assert start is named
    assert report.is_warning
    assert report.message.startswith("the texts do not seem to be in the language of the pack en-small: 0% of their")
    assert "/" not in report.message
    start, report = chosen_start(named, DEFAULT_PACK, ENGLISH)
    assert (report.is_warning, report.message) == (False, "from the pack en-small")


def test_b4_a_size_means_from_scratch(english: Start) -> None:
    for pretrained, reason in ((AUTO, ", because --size is given and packs fix the model size"), (None, "")):
        start, report = chosen_start(read_start(pretrained, "tiny"), pretrained, ENGLISH)
        assert (start.pack, start.size) == (None, "tiny")
        assert report.message == f"from scratch, size tiny{reason}"
    with pytest.raises(ConfigError, match="--size cannot be combined with --pretrained en-small"):
        read_start(DEFAULT_PACK, "tiny")


def test_an_encoder_of_another_kind_means_from_scratch() -> None:
    start, report = chosen_start(read_start(AUTO, None, "qrnn"), AUTO, ENGLISH)
    assert (start.pack, start.size) == (None, "small")
    assert report.message == (
        "from scratch, size small, because the encoder qrnn is requested and that of the pack en-small is lstm"
    )
    with pytest.raises(ConfigError) as caught:
        read_start(DEFAULT_PACK, None, "qrnn")
    assert str(caught.value) == (
        "the encoder qrnn is requested, but that of en-small is lstm, and a pack fixes its encoder. Drop --encoder or "
        "encoder.kind, or train from scratch"
    )
    assert read_start(AUTO, None, "lstm").pack is not None
    assert read_start("none", "tiny", "qrnn") == Start(None, "tiny")


def test_a_pack_can_continue_with_an_encoder_of_another_kind_and_new_layers() -> None:
    pack = read_start(DEFAULT_PACK, None).pack
    start = read_start(DEFAULT_PACK, None, "qrnn", may_replace_layers=True)
    assert pack is not None
    assert start.pack is not None
    for member in start.pack.manifest.members:
        expected = pack.manifest.member(member.direction).architecture.model_copy(update={"kind": "qrnn"})
        assert member.architecture == expected
        first, other = (first_checkpoint(member, seed, start.pack.weights[member.direction]) for seed in (0, 1))
        for name, values in first.part("model").items():
            if name.startswith("encoder.layers."):
                assert not torch.equal(values, other.part("model")[name])
            else:
                assert np.array_equal(values.numpy(), pack.weights[member.direction][name])
    assert read_start(DEFAULT_PACK, None, "lstm", may_replace_layers=True).pack is not None


def test_b4_none_and_paths(tmp_path: Path) -> None:
    assert read_start("none", None) == read_start(None, None) == Start(None, "small")
    with pytest.raises(BundleMissing):
        read_start(tmp_path / "nope.pack", None)


def test_a_classifier_is_a_start_without_its_linear_member(linear_bundle_path: Path) -> None:
    start = read_start(linear_bundle_path, None)
    assert start.pack is not None
    assert (start.pack.linear, start.pack.manifest.linear) == (None, None)


def test_a_classifier_is_a_start_as_language_models_without_biases(bundle_path: Path, model: Classifier) -> None:
    start = read_start(bundle_path, None)
    assert start.pack is not None
    assert {(member.widths_head, member.pooling) for member in start.pack.manifest.members} == {(None, None)}
    for direction, arrays in read_bundle(bundle_path, Kind.CLASSIFIER).weights.items():
        found = start.pack.weights[direction]
        assert found.pop("decoder.bias").tolist() == [0.0] * len(model.tokenizer)
        assert found.keys() == {name for name in arrays if name.startswith("encoder.")}
        assert all(np.array_equal(found[name], arrays[name]) for name in found)
    assert chosen_start(start, bundle_path, ENGLISH)[1].message.count("the classifier tiny.bundle") == 1
