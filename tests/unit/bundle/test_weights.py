from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from bothways.bundle.manifest import Architecture
from bothways.bundle.weights import (
    encoder_shapes,
    head_shapes,
    member_shapes,
    read_weights,
    rounded_to_half,
    write_weights,
)
from bothways.errors import BundleBroken, TrainingError
from tests.bundles import TinyClassifiers, TinyLanguageModels, tensors

SHAPES = {"a": (2, 3), "b": (4,)}
ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.full(4, -0.5, dtype=np.float32)}


def with_header(header: Any, body: bytes = bytes(40), *, raw: bytes | None = None) -> bytes:
    data = raw if raw is not None else json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + body


def entry(shape: list[int], start: int, stop: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


GOOD_HEADER = {"a": entry([2, 3], 0, 24), "b": entry([4], 24, 40)}


def refuse(data: bytes, problem: str) -> None:
    with pytest.raises(BundleBroken) as caught:
        read_weights(data, SHAPES, "folder/forward.safetensors")
    message = str(caught.value)
    assert message.startswith("folder/forward.safetensors")
    assert problem in message
    assert len(message) < 500
    assert message.isprintable()


def test_four_gates_a_layer_are_named_as_in_torch() -> None:
    shapes = encoder_shapes(Architecture(vocabulary_size=9, width_embedding=4, width_hidden=7, layers=2))
    assert shapes == {
        "embedding.weight": (9, 4),
        "layers.0.weight_ih": (28, 4),
        "layers.0.weight_hh": (28, 7),
        "layers.0.bias_ih": (28,),
        "layers.0.bias_hh": (28,),
        "layers.1.weight_ih": (16, 7),
        "layers.1.weight_hh": (16, 4),
        "layers.1.bias_ih": (16,),
        "layers.1.bias_hh": (16,),
    }


def test_the_gates_of_a_qrnn_are_one_matrix_a_layer() -> None:
    sizes = Architecture(vocabulary_size=9, width_embedding=4, width_hidden=7, layers=2, kind="qrnn", first_window=2)
    assert encoder_shapes(sizes) == {
        "embedding.weight": (9, 4),
        "layers.0.weight": (21, 8),
        "layers.0.bias": (21,),
        "layers.1.weight": (12, 7),
        "layers.1.bias": (12,),
    }
    shapes = encoder_shapes(sizes.model_copy(update={"output_gate": False, "first_window": 1}))
    assert [shapes[f"layers.{n}.weight"] for n in range(2)] == [(14, 4), (8, 7)]


def test_a_head_has_a_norm_before_each_layer() -> None:
    norm = ("weight", "bias", "running_mean", "running_var")
    assert head_shapes([12, 5, 3]) == {
        **{f"norms.0.{part}": (12,) for part in norm},
        "layers.0.weight": (5, 12),
        "layers.0.bias": (5,),
        **{f"norms.1.{part}": (5,) for part in norm},
        "layers.1.weight": (3, 5),
        "layers.1.bias": (3,),
    }


def test_names_and_shapes_are_those_of_the_torch_modules(
    torch_models: TinyClassifiers, torch_language_models: TinyLanguageModels
) -> None:
    for member in torch_models.members:
        state = torch_models.models[member.direction].state_dict()
        counters = {name for name in state if name.endswith("num_batches_tracked")}
        assert member_shapes(member, 3) == {n: tuple(t.shape) for n, t in state.items() if n not in counters}
    for member in torch_language_models.members:
        state = torch_language_models.models[member.direction].state_dict()
        assert member_shapes(member, 0) == {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_arrays_come_back_bit_for_bit(bundle_path: Path) -> None:
    found = read_weights(write_weights(ARRAYS), SHAPES, "x")
    for name, array in ARRAYS.items():
        assert np.array_equal(found[name], array)
        assert found[name].dtype == np.float32
    path = bundle_path / "forward.safetensors"
    assert write_weights(tensors(path)) == path.read_bytes()


def test_the_same_arrays_give_the_same_bytes_in_any_order_and_layout() -> None:
    shuffled = {"b": ARRAYS["b"], "a": np.asfortranarray(ARRAYS["a"])}
    assert write_weights(shuffled) == write_weights(ARRAYS)


def test_any_reader_of_safetensors_reads_them() -> None:
    assert {name: array.tolist() for name, array in load_tensors(write_weights(ARRAYS)).items()} == {
        name: array.tolist() for name, array in ARRAYS.items()
    }


def test_the_header_of_these_tests_is_good() -> None:
    assert read_weights(with_header(GOOD_HEADER), SHAPES, "x")["a"].tolist() == [[0.0] * 3] * 2
    assert read_weights(with_header({"__metadata__": {"format": "pt"}, **GOOD_HEADER}), SHAPES, "x").keys() == {
        "a",
        "b",
    }


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "it has only 0 bytes"),
        (b"1234567", "it has only 7 bytes"),
        (struct.pack("<Q", 2**64 - 1) + bytes(100), "its header claims 18446744073709551615 bytes"),
        (struct.pack("<q", -1) + bytes(100), "its header claims"),
        (struct.pack("<Q", 101) + bytes(100), "its header claims 101 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "its header claims"),
        (b"PK\x03\x04" + bytes(100), "header"),
        (with_header(None, raw=b"{"), "broken header"),
        (with_header(None, raw=b"\xff\xfe{}"), "broken header"),
        (with_header(None, raw=b"[]"), "it is not an object of objects"),
        (with_header({"a": 3}), "it is not an object of objects"),
        (with_header(None, raw=b'{"a":' * 5000 + b"1" + b"}" * 5000), "nested too deeply"),
        (with_header({"a": GOOD_HEADER["a"]}), "lacks the tensor b"),
        (with_header({**GOOD_HEADER, "c": entry([0], 40, 40)}), "unexpected tensor c"),
        (with_header({**GOOD_HEADER, "../../etc/passwd": entry([0], 40, 40)}), "unexpected tensor ../../etc/passwd"),
        (with_header({**GOOD_HEADER, "x\n\x1b[2J": entry([0], 40, 40)}), "unexpected tensor x\\n\\x1b[2J"),
        (with_header({**GOOD_HEADER, "x" * 100_000: entry([0], 40, 40)}), "unexpected tensor xxx"),
        (with_header({**GOOD_HEADER, "b": entry([5], 24, 44)}, bytes(44)), "b is F32 [5], expected F32 [4]"),
        (with_header({**GOOD_HEADER, "b": entry([2, 2], 24, 40)}), "b is F32 [2, 2], expected F32 [4]"),
        (with_header({**GOOD_HEADER, "b": entry([4], 24, 56, "F64")}, bytes(56)), "b is F64 [4], expected F32 [4]"),
        (with_header({**GOOD_HEADER, "b": entry([4], 24, 32, "F16")}, bytes(32)), "b is F16 [4], expected F32 [4]"),
        (with_header({**GOOD_HEADER, "b": entry([4], 24, 28, "I8")}, bytes(28)), "b is I8 [4], expected F32 [4]"),
        (with_header({**GOOD_HEADER, "b": entry([4], 24, 40, "I32")}), "b is I32 [4], expected F32 [4]"),
        (with_header({**GOOD_HEADER, "b": entry([4], 24, 40, "?" * 10_000)}), "b is ???"),
        (with_header({**GOOD_HEADER, "b": {}}), "b is None None, expected F32 [4]"),
        (with_header({**GOOD_HEADER, "b": entry([4.0], 24, 40)}), "safetensors"),  # type: ignore[list-item]
        (with_header({**GOOD_HEADER, "b": entry([4], -16, 40)}), "not a valid safetensors file"),
        (with_header({**GOOD_HEADER, "b": entry([4], 20, 36)}), "not a valid safetensors file"),
        (with_header({**GOOD_HEADER, "b": entry([4], 28, 44)}, bytes(44)), "not a valid safetensors file"),
        (with_header({**GOOD_HEADER, "b": entry([4], 24, 2**62)}), "not a valid safetensors file"),
        (with_header(GOOD_HEADER, bytes(41)), "not a valid safetensors file"),
        (with_header(GOOD_HEADER, bytes(39)), "not a valid safetensors file"),
        (with_header({**GOOD_HEADER, "__metadata__": {"a": {"b": "c"}}}), "not a valid safetensors file"),
    ],
)
def test_a_broken_file_is_refused_by_name(data: bytes, problem: str) -> None:
    refuse(data, problem)


def test_a_tensor_named_twice_is_refused_even_at_the_same_place() -> None:
    """The library lets this pass (safetensors 0.8), and takes the last one."""
    pair = json.dumps(GOOD_HEADER["b"])
    raw = f'{{"a": {json.dumps(GOOD_HEADER["a"])}, "b": {pair}, "b": {pair}}}'.encode()
    refuse(with_header(None, raw=raw), "the key 'b' occurs twice in one object")


def test_metadata_named_twice_is_refused() -> None:
    raw = json.dumps(GOOD_HEADER)[:-1] + ', "__metadata__": {"k": "1", "k": "2"}}'
    refuse(with_header(None, raw=raw.encode()), "the key 'k' occurs twice in one object")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    broken = ARRAYS["b"].copy()
    broken[-1] = value
    refuse(save_tensors({"a": ARRAYS["a"], "b": broken}), "b contains values that are not finite numbers")


def test_a_negative_variance_is_refused() -> None:
    data = write_weights({"head.norm.running_var": np.array([1, -1e-9], dtype=np.float32)})
    with pytest.raises(BundleBroken, match=r"^x: head\.norm\.running_var contains a negative variance"):
        read_weights(data, {"head.norm.running_var": (2,)}, "x")


# Half precision


HALF = {"a": entry([2, 3], 0, 12, "F16"), "b": entry([4], 12, 20, "F16")}


def test_half_precision_takes_half_the_bytes_and_comes_back_as_float32() -> None:
    rng = np.random.default_rng(1)
    weights = {"a": rng.normal(0, 1, (200, 30)).astype(np.float32), "b": np.full(4, 65504, dtype=np.float32)}
    shapes = {name: array.shape for name, array in weights.items()}
    data, full = write_weights(weights, half_precision=True), write_weights(weights)
    assert len(full) - len(data) == 2 * (200 * 30 + 4)
    found = read_weights(data, shapes, "x")
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    assert not np.array_equal(found["a"], weights["a"])
    np.testing.assert_allclose(found["a"], weights["a"], rtol=2**-11, atol=2**-25)


def test_weights_that_were_rounded_before_come_back_bit_for_bit() -> None:
    weights = {"a": np.array([[0.1, -1e-7, 1e-9], [3, 2049, -65504]], dtype=np.float32), "b": ARRAYS["b"]}
    rounded = rounded_to_half(weights)
    assert {array.dtype for array in rounded.values()} == {np.dtype(np.float32)}
    assert rounded["a"].tolist()[1] == [3, 2048, -65504]  # half precision has 11 bits
    found = read_weights(write_weights(rounded, half_precision=True), SHAPES, "x")
    for name, array in rounded.items():
        assert np.array_equal(found[name], array)
        assert np.array_equal(rounded_to_half(rounded)[name], array)


@pytest.mark.parametrize("value", [65520, -1e6, 3e38])
def test_a_weight_too_large_for_half_precision_is_refused_by_name(value: float) -> None:
    weights = {"a": ARRAYS["a"], "b": np.array([0, 1, value, 2], dtype=np.float32)}
    for act in (rounded_to_half, lambda weights: write_weights(weights, half_precision=True)):
        with pytest.raises(TrainingError, match=r"^b contains .*, but half precision ends at 65504\. Store"):
            act(weights)


def test_a_file_may_be_all_in_half_precision_but_not_mixed() -> None:
    assert read_weights(with_header(HALF, bytes(20)), SHAPES, "x")["b"].tolist() == [0.0] * 4
    mixed = {"a": GOOD_HEADER["a"], "b": entry([4], 24, 32, "F16")}
    refuse(with_header(mixed, bytes(32)), "b is F16 [4], expected F32 [4]. All tensors must be F32, or all F16")
    mixed = {"a": HALF["a"], "b": entry([4], 12, 28)}
    refuse(with_header(mixed, bytes(28)), "a is F16 [2, 3], expected F32 [2, 3]. All tensors must be F32, or all F16")


def test_the_other_half_precision_is_refused() -> None:
    brain = {name: {**fields, "dtype": "BF16"} for name, fields in HALF.items()}
    refuse(with_header(brain, bytes(20)), "a is BF16 [2, 3], expected F32 [2, 3]. All tensors must be F32, or all F16")


def test_a_shape_is_checked_in_half_precision_too() -> None:
    refuse(with_header({**HALF, "b": entry([5], 12, 22, "F16")}, bytes(22)), "b is F16 [5], expected F16 [4]")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_of_half_precision_that_are_no_numbers_are_refused(value: float) -> None:
    arrays = {name: array.astype(np.float16) for name, array in ARRAYS.items()}
    arrays["b"][-1] = value
    refuse(save_tensors(arrays), "b contains values that are not finite numbers")
