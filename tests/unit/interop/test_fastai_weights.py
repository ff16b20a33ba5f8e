"""fastai's tensors are renamed, for models of any size. Weights that are not an encoder of fastai are refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bothways.bundle.manifest import Architecture
from bothways.errors import ForeignModelError
from bothways.interop.fastai_weights import find_weights
from bothways.text.reading import Direction
from tests.bundles import TinyClassifiers, TinyLanguageModels
from tests.unit.interop.exports import State
from tests.unit.interop.foreign import fastai_state


@pytest.fixture
def classifier(torch_models: TinyClassifiers) -> State:
    return fastai_state(torch_models.models[Direction.FORWARD], version=1)


@pytest.fixture
def language_model(torch_language_models: TinyLanguageModels) -> State:
    return fastai_state(torch_language_models.models[Direction.FORWARD])


@pytest.mark.parametrize("version", [1, 2])
def test_a_classifiers_weights_are_renamed(torch_models: TinyClassifiers, version: int) -> None:
    model = torch_models.models[Direction.FORWARD]
    found = find_weights(fastai_state(model, version), "x.pth")
    theirs = {name: t.numpy() for name, t in model.state_dict().items() if "num_batches" not in name}
    if version == 2:
        theirs |= {f"head.layers.{layer}.bias": np.zeros(width) for layer, width in enumerate((8, 3))}
    assert found.arrays.keys() == theirs.keys()
    for name, array in theirs.items():
        assert np.array_equal(found.arrays[name], array), name
    assert (found.widths_head, found.classes, found.is_version_1) == ([8], 3, version == 1)
    assert found.architecture == model.encoder.architecture


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("version", [1, 2])
def test_the_variant_of_a_qrnn_is_found(qrnn_torch_models: TinyClassifiers, version: int, direction: Direction) -> None:
    """Window 2 or 1, with output gate or without: only the shapes of the weights show it."""
    model = qrnn_torch_models.models[direction]
    state = fastai_state(model, version)
    found = find_weights(state, "x.pth")
    assert found.architecture == model.encoder.architecture
    assert found.is_version_1 == (version == 1)
    for name, tensor in model.state_dict().items():
        if name.startswith("encoder."):
            assert np.array_equal(found.arrays[name], tensor.numpy()), name
    old = {name.replace("layers.0.linear", "linear"): array for name, array in state.items()}  # of fastai 1.0.49
    assert old.keys() != state.keys()
    again = find_weights(old, "x.pth").arrays
    assert all(np.array_equal(array, again[name]) for name, array in found.arrays.items())


def test_the_raw_weights_take_precedence_over_dropped_ones(classifier: State) -> None:
    raw = classifier["0.module.rnns.0.weight_hh_l0_raw"]
    assert not np.array_equal(raw, classifier["0.module.rnns.0.module.weight_hh_l0"])
    assert np.array_equal(find_weights(classifier, "x").arrays["encoder.layers.0.weight_hh"], raw)


def test_weights_without_raw_ones_are_taken_as_they_are(classifier: State) -> None:
    for layer in range(2):
        del classifier[f"0.module.rnns.{layer}.weight_hh_l0_raw"]
    found = find_weights(classifier, "x").arrays["encoder.layers.1.weight_hh"]
    assert np.array_equal(found, classifier["0.module.rnns.1.module.weight_hh_l0"])


def test_a_dropout_of_0_only_shifts_the_heads_numbers(classifier: State) -> None:
    shifted = {name: array for name, array in classifier.items() if "layers" not in name}
    for old, new in (("0", "0"), ("2", "1"), ("4", "3"), ("6", "4")):
        shifted |= {
            name.replace(f"layers.{old}.", f"layers.{new}."): array
            for name, array in classifier.items()
            if f"layers.{old}." in name
        }
    ours, theirs = (find_weights(state, "x").arrays for state in (shifted, classifier))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_a_head_of_ten_modules_and_more_keeps_its_order(classifier: State) -> None:
    """Sorted as text, 10 would come before 4."""
    far = {name.replace("layers.6.", "layers.10."): array for name, array in classifier.items()}
    assert find_weights(far, "x").classes == 3


def test_a_language_model_has_a_decoders_bias(language_model: State) -> None:
    found = find_weights(language_model, "x")
    assert np.array_equal(found.arrays["decoder.bias"], language_model["1.decoder.bias"])
    assert (found.widths_head, found.classes) == (None, 0)


def test_an_encoder_alone_is_a_language_model_without_a_bias(language_model: State) -> None:
    encoder = {name[2:]: array for name, array in language_model.items() if name.startswith("0.")}
    found = find_weights(encoder, "x")
    assert not found.arrays["decoder.bias"].any()


@pytest.mark.parametrize(("embedding", "hidden", "layers"), [(4, 10, 3), (6, 6, 1), (3, 7, 4), (2, 1150, 2)])
def test_any_sizes_are_found(embedding: int, hidden: int, layers: int) -> None:
    sizes = Architecture(vocabulary_size=5, width_embedding=embedding, width_hidden=hidden, layers=layers)
    state: State = {"encoder.weight": np.zeros((5, embedding), dtype=np.float32)}
    for layer, (width_in, width_out) in enumerate(sizes.layer_widths):
        state |= {
            f"rnns.{layer}.module.weight_ih_l0": np.zeros((4 * width_out, width_in), dtype=np.float32),
            f"rnns.{layer}.weight_hh_l0_raw": np.zeros((4 * width_out, width_out), dtype=np.float32),
            f"rnns.{layer}.module.bias_ih_l0": np.zeros(4 * width_out, dtype=np.float32),
            f"rnns.{layer}.module.bias_hh_l0": np.zeros(4 * width_out, dtype=np.float32),
        }
    found = find_weights(state, "x").architecture
    assert found.layer_widths == sizes.layer_widths


def change(name: str, value: object) -> Callable[[dict[str, object]], object]:
    return lambda state: state.update({name: value})


def only(name: str) -> Callable[[dict[str, object]], object]:
    def replace_all(state: dict[str, object]) -> None:
        state.clear()
        state[name] = np.zeros(3)

    return replace_all


REFUSED: dict[str, tuple[Callable[[dict[str, object]], object], str]] = {
    "nothing": (lambda state: state.clear(), "contains no AWD-LSTM and no QRNN of fastai: it has no tensors"),
    "other tensors": (
        only("bert.weight"),
        "its tensors are bert.weight",
    ),
    "a QRNN between LSTMs": (
        change("0.module.rnns.1.layers.0.linear.weight_raw", np.zeros((6, 4), dtype=np.float32)),
        "the tensor 0.module.rnns.1.layers.0.linear.weight_raw, which fastai's AWD-LSTM does not have",
    ),
    "both directions in one": (change("0.module.rnns.0.module.weight_ih_l0_reverse", np.zeros(3)), "bidirectional"),
    "no embedding": (lambda state: state.pop("0.module.encoder.weight"), "lacks the tensor 0.module.encoder.weight"),
    "a flat embedding": (change("0.module.encoder.weight", np.zeros(3, dtype=np.float32)), "expected 2 dimensions"),
    "a layer's part missing": (lambda state: state.pop("0.module.rnns.1.module.bias_hh_l0"), "lacks the tensor"),
    "a wrong shape": (
        change("0.module.rnns.1.module.bias_hh_l0", np.zeros(3, dtype=np.float32)),
        r"bias_hh_l0 has shape \(3,\), expected \(64,\)",
    ),
    "whole numbers": (change("0.module.rnns.1.module.bias_hh_l0", np.zeros(64, dtype=np.int64)), "lacks the tensor"),
    "no number": (
        change("0.module.rnns.1.module.bias_hh_l0", np.full(64, np.nan, dtype=np.float32)),
        "not finite: the training diverged",
    ),
    "half precision": (
        change("1.layers.2.weight", np.zeros((8, 48), dtype=np.float16)),
        r"layers.0.weight is in half precision \(float16\), .*call learn.to_fp32",
    ),
    "another layer": (change("1.attention.weight", np.zeros(3)), "the tensor 1.attention.weight, which fastai's AWD"),
    "fastai 1.0.42": (
        lambda state: [
            state.update({n.replace("0.module.", "0.", 1): state.pop(n)}) for n in list(state) if n[0] == "0"
        ],
        "saved by fastai 1.0.42 or older",
    ),
    "two embeddings": (
        change("0.module.encoder_dp.emb.weight", np.ones((1, 1), dtype=np.float32)),
        "the decoder's weights differ from the embedding's",
    ),
    "half a head": (
        lambda state: [state.pop(n) for n in list(state) if "layers.6" in n],
        "has a head of norm, linear, norm",
    ),
    "a head of another width": (
        change("1.layers.2.weight", np.zeros((8, 9), dtype=np.float32)),
        r"shape \(8, 9\), expected \(..., 48\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_weights_that_are_not_fastais_are_refused(classifier: State, case: str) -> None:
    break_it, message = REFUSED[case]
    state: dict[str, object] = dict(classifier)
    break_it(state)
    with pytest.raises(ForeignModelError, match=message) as refused:
        find_weights(state, "model.pth")
    assert "model.pth" in str(refused.value)


QRNNS_REFUSED: dict[str, tuple[Callable[[dict[str, object]], object], str]] = {
    "two layers in one": (
        change("0.module.rnns.0.layers.1.linear.weight_raw", np.zeros((6, 4), dtype=np.float32)),
        "the tensor 0.module.rnns.0.layers.1.linear.weight_raw, which fastai's QRNN does not have",
    ),
    "both directions in one": (
        change("0.module.rnns.0.layers_bwd.0.linear.weight_raw", np.zeros((6, 4), dtype=np.float32)),
        "bidirectional",
    ),
    "three tokens at a time": (
        change("0.module.rnns.0.layers.0.linear.weight_raw", np.zeros((72, 48), dtype=np.float32)),
        r"has shape \(72, 48\) .* expected the 2 or 3 gates of a QRNN that reads 1 or 2 tokens of 16 numbers",
    ),
    "one gate": (
        change("0.module.rnns.1.layers.0.linear.weight_raw", np.zeros((16, 24), dtype=np.float32)),
        r"has shape \(16, 24\), expected the 2 or 3 gates",
    ),
    "other gates in another layer": (
        change("0.module.rnns.0.layers.0.linear.weight_raw", np.zeros((48, 32), dtype=np.float32)),
        r"rnns.0.layers.0.linear.module.bias has shape \(72,\), expected \(48,\)",
    ),
    "two tokens in the second layer": (
        change("0.module.rnns.1.layers.0.linear.weight_raw", np.zeros((48, 48), dtype=np.float32)),
        r"has shape \(48, 48\), expected \(48, 24\)",
    ),
    "a flat weight": (
        change("0.module.rnns.0.layers.0.linear.weight_raw", np.zeros(72, dtype=np.float32)),
        r"has shape \(72,\), expected 2 dimensions",
    ),
    "no bias": (lambda state: state.pop("0.module.rnns.1.layers.0.linear.module.bias"), "lacks the tensor"),
}


@pytest.mark.parametrize("case", QRNNS_REFUSED)
def test_weights_of_other_qrnns_are_refused(qrnn_torch_models: TinyClassifiers, case: str) -> None:
    break_it, message = QRNNS_REFUSED[case]
    state: dict[str, object] = dict(fastai_state(qrnn_torch_models.models[Direction.FORWARD]))
    break_it(state)
    with pytest.raises(ForeignModelError, match=message) as refused:
        find_weights(state, "model.pth")
    assert "model.pth" in str(refused.value)


def test_a_language_model_with_a_decoder_of_its_own_is_refused(language_model: State) -> None:
    language_model["1.decoder.weight"] = language_model["1.decoder.weight"] + 1
    with pytest.raises(ForeignModelError, match="without tied weights"):
        find_weights(language_model, "x")
