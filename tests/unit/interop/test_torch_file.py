from __future__ import annotations

import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bothways.errors import ForeignModelError
from bothways.interop import torch_file
from bothways.interop.pickle_reader import GlobalName, Record
from bothways.interop.torch_file import read_foreign_file

BOTH_FORMATS = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])


class Tied(nn.Module):
    """The parts of an AWD-LSTM: an embedding that is also the decoder, and an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Embedding(7, 4)
        self.rnn = nn.LSTM(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.decoder = nn.Linear(4, 7)
        self.decoder.weight = self.encoder.weight


def saved(value: object, path: Path, *, is_zip: bool = True, protocol: int = 2, module: Any = pickle) -> Any:
    torch.save(value, path, _use_new_zipfile_serialization=is_zip, pickle_protocol=protocol, pickle_module=module)
    return read_foreign_file(path)


def refuse(path: Path, problem: str) -> None:
    with pytest.raises(ForeignModelError) as caught:
        read_foreign_file(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert problem in message
    assert message.isprintable()
    assert len(message) < 600


# Tensors


@BOTH_FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_weights_of_a_model_are_those_saved(tmp_path: Path, is_zip: bool, protocol: int) -> None:
    theirs = Tied().state_dict()
    ours = saved(theirs, tmp_path / "model.pth", is_zip=is_zip, protocol=protocol)
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor.numpy())
        assert not ours[name].flags.writeable
    assert np.shares_memory(ours["encoder.weight"], ours["decoder.weight"])
    assert ours["norm.num_batches_tracked"].dtype == np.int64


@BOTH_FORMATS
@pytest.mark.parametrize("module_name", ["pickle", "cloudpickle"])
def test_a_whole_model_is_records_with_arrays(tmp_path: Path, is_zip: bool, module_name: str) -> None:
    module = pytest.importorskip(module_name)
    model = Tied()
    ours = saved({"model": model, "opt": None}, tmp_path / "export.pkl", is_zip=is_zip, module=module)["model"]
    assert isinstance(ours, Record)
    assert ours.name == f"{__name__}.Tied"
    parts = ours.state["_modules"]  # type: ignore[index]
    assert list(parts) == ["encoder", "rnn", "norm", "decoder"]
    assert parts["rnn"].name == "torch.nn.modules.rnn.LSTM"
    np.testing.assert_array_equal(
        parts["rnn"].state["_parameters"]["weight_hh_l0"], model.get_parameter("rnn.weight_hh_l0").detach()
    )
    np.testing.assert_array_equal(parts["norm"].state["_buffers"]["running_var"], np.ones(4))
    weights = [parts[name].state["_parameters"]["weight"] for name in ("encoder", "decoder")]
    assert np.shares_memory(*weights)


@BOTH_FORMATS
def test_views_and_transposes_equal_those_of_torch(tmp_path: Path, is_zip: bool) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    theirs = [
        base,
        base.t(),
        base[1:3, ::2],
        base[:, 3],
        base[2, 2],
        torch.zeros(0, 5),
        torch.zeros(3, 0),
        base[1:2, :],
    ]
    for ours, tensor in zip(saved(theirs, tmp_path / "x.pth", is_zip=is_zip), theirs, strict=True):
        np.testing.assert_array_equal(ours, tensor.numpy())
        assert ours.shape == tuple(tensor.shape)


@BOTH_FORMATS
def test_floats_become_float32_and_other_types_are_kept(tmp_path: Path, is_zip: bool) -> None:
    numbers = [0.0, -1.5, 3.14159, 65504.0, float("inf"), float("nan")]
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        tensor = torch.tensor(numbers, dtype=dtype)
        ours = saved(tensor, tmp_path / "x.pth", is_zip=is_zip)
        np.testing.assert_array_equal(ours, tensor.float().numpy())
        assert ours.dtype == np.float32
    assert saved(torch.tensor([1e300], dtype=torch.float64), tmp_path / "x.pth", is_zip=is_zip) == np.inf
    for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool):
        tensor = torch.tensor([0, 1, 1, 0]).to(dtype)
        ours = saved(tensor, tmp_path / "x.pth", is_zip=is_zip)
        np.testing.assert_array_equal(ours, tensor.numpy())
        assert ours.dtype == tensor.numpy().dtype


class TensorText(torch.Tensor):
    """A tensor subclass with attributes, as in fastai v2."""


@BOTH_FORMATS
def test_tensors_of_other_classes_are_arrays(tmp_path: Path, is_zip: bool) -> None:
    tensor = torch.arange(3.0).as_subclass(TensorText)
    tensor.img_size = 5  # type: ignore[attr-defined]
    parameter = nn.Parameter(torch.ones(2))
    parameter.note = "kept by torch"  # type: ignore[attr-defined]
    ours = saved([tensor, nn.Parameter(torch.ones(2)), parameter], tmp_path / "x.pth", is_zip=is_zip)
    for array, expected in zip(ours, ([0, 1, 2], [1, 1], [1, 1]), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_sparse_and_complex_tensors_stay_records(tmp_path: Path) -> None:
    sparse = torch.sparse_coo_tensor(torch.tensor([[0, 2]]), torch.tensor([1.0, 2.0]), (3,), check_invariants=False)
    ours = saved([sparse, torch.zeros(2, dtype=torch.complex64), torch.float32], tmp_path / "x.pth")
    assert [value.name for value in ours[:2]] == [
        "torch._utils._rebuild_sparse_tensor",
        "torch._utils._rebuild_tensor_v2",
    ]
    assert ours[2] == GlobalName("torch", "float32")
    torch.save(torch.zeros(2, dtype=torch.complex64), tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    refuse(tmp_path / "x.pth", "complex or quantized")


# Containers made by hand


def stored(name: str) -> bytes:
    """Return a persistent id for two floats in storage 0, and the beginning of their tensor."""
    return b"ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\n" + name.encode() + b"\nV0\nVcpu\n"


GOOD_TENSOR = stored("FloatStorage") + b"I2\ntQI0\n(I2\nt(I1\ntI00\nNtR."
TWO_FLOATS = struct.pack("<2f", 1.5, -2.0)


def container(
    path: Path,
    stream: bytes = GOOD_TENSOR,
    raw: bytes = TWO_FLOATS,
    *,
    folder: str = "archive/",
    byteorder: bytes = b"little",
    program: bool = False,
) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{folder}data.pkl", stream)
        file.writestr(f"{folder}data/0", raw)
        file.writestr(f"{folder}byteorder", byteorder)
        if program:
            file.writestr(f"{folder}constants.pkl", b"N.")
    return path


@pytest.mark.parametrize("folder", ["archive/", "model_v3/", ""])
def test_the_folder_in_a_container_may_have_any_name(tmp_path: Path, folder: str) -> None:
    np.testing.assert_array_equal(read_foreign_file(container(tmp_path / "x", folder=folder)), [1.5, -2.0])


def test_containers_of_big_endian_machines_are_read(tmp_path: Path) -> None:
    path = container(tmp_path / "x", raw=struct.pack(">2f", 1.5, -2.0), byteorder=b"big")
    np.testing.assert_array_equal(read_foreign_file(path), [1.5, -2.0])
    half = GOOD_TENSOR.replace(b"FloatStorage", b"BFloat16Storage")
    path = container(tmp_path / "x", half, b"\x3f\xc0\xc0\x00", byteorder=b"big")
    np.testing.assert_array_equal(read_foreign_file(path), [1.5, -2.0])
    refuse(container(tmp_path / "x", byteorder=b"middle"), "unknown byte order")


def test_tensors_of_early_fastai_and_torch_are_read(tmp_path: Path) -> None:
    arguments = GOOD_TENSOR.removeprefix(b"ctorch._utils\n_rebuild_tensor_v2\n(")
    old = b"cfastai.torch_core\n_fa_rebuild_tensor\n(cfastai.torch_core\nTensorText\n" + arguments
    np.testing.assert_array_equal(read_foreign_file(container(tmp_path / "x", old)), [1.5, -2.0])
    inner = b"cfastai.torch_core\n_rebuild_from_type\n(ctorch._utils\n_rebuild_tensor_v2\ncfastai\nTensorText\n("
    typed = inner + arguments.removesuffix(b"R.") + b"(dtR."
    np.testing.assert_array_equal(read_foreign_file(container(tmp_path / "x", typed)), [1.5, -2.0])
    parameter = b"ctorch.nn.parameter\nParameter\n(" + GOOD_TENSOR[:-1] + b"I01\ntR."
    np.testing.assert_array_equal(read_foreign_file(container(tmp_path / "x", parameter)), [1.5, -2.0])
    cuda = GOOD_TENSOR.replace(b"ctorch\nFloat", b"ctorch.cuda\nFloat")
    np.testing.assert_array_equal(read_foreign_file(container(tmp_path / "x", cuda)), [1.5, -2.0])


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        (GOOD_TENSOR.replace(b"(I2\nt(I1", b"(I3\nt(I1"), "ends at item 2 of a storage of 2"),
        (GOOD_TENSOR.replace(b"QI0", b"QI1"), "ends at item 2 of a storage of 2"),
        (GOOD_TENSOR.replace(b"QI0", b"QI-1"), "are invalid"),
        (GOOD_TENSOR.replace(b"(I1\nt", b"(I2\nt"), "ends at item 2"),
        (GOOD_TENSOR.replace(b"(I1\nt", b"(I-1\nt"), "are invalid"),
        (GOOD_TENSOR.replace(b"(I1\nt", b"(I0\nt"), "stride 0"),
        (GOOD_TENSOR.replace(b"(I2\nt(I1\nt", b"(I2\nI2\nI2\nt(I1\nI0\nI0\nt"), "stride 0"),
        (GOOD_TENSOR.replace(b"(I1\nt", b"(t"), "are invalid"),
        (GOOD_TENSOR.replace(b"I2\ntQ", b"I3\ntQ"), "has 8 bytes, but claims 3 items of FloatStorage"),
        (GOOD_TENSOR.replace(b"I2\ntQ", b"I4000000000\ntQ"), "not in the file"),
        (GOOD_TENSOR.replace(b"I2\ntQ", b"I-2\ntQ"), "not in the file"),
        (GOOD_TENSOR.replace(b"I2\ntQ", b"I01\ntQ"), "not in the file"),
        (GOOD_TENSOR.replace(b"V0\n", b"V../data.pkl\n"), "'archive/data/../data.pkl' is missing"),
        (b"(" + GOOD_TENSOR[:-1] + GOOD_TENSOR.replace(b"Float", b"Int")[:-1] + b"t.", "described in two ways"),
        (b"K\x05Q.", "not one that torch writes"),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path: Path, stream: bytes, problem: str) -> None:
    refuse(container(tmp_path / "x.pth", stream), problem)


def test_an_expanded_tensor_is_refused(tmp_path: Path) -> None:
    torch.save(torch.ones(1).expand(1000), tmp_path / "x.pth")
    refuse(tmp_path / "x.pth", "made by contiguous()")


def test_a_damaged_container_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    good = container(path).read_bytes()
    np.testing.assert_array_equal(read_foreign_file(path), [1.5, -2.0])
    path.write_bytes(good.replace(TWO_FLOATS, TWO_FLOATS[:-1] + b"\x41"))
    refuse(path, "Bad CRC-32 for file 'archive/data/0'): copy or download it again")
    path.write_bytes(good[:-30])
    refuse(path, "the zip directory at its end is missing): copy or download it again")
    entry, end = good.index(b"PK\1\2"), good.index(b"PK\5\6")
    for place, number, problem in (
        (end + 12, 9, "damaged"),
        (end + 14, 200, "expected at most 8388608"),  # the upper half of the directory's size
        (end + 20, 5, "the zip directory at its end is missing"),
        (entry, 0, "Bad magic number"),
        (entry + 6, 99, "version"),
        (entry + 8, 1, "encrypted"),
        (entry + 8, 32, "compressed"),
        (entry + 8, 64, "strong encryption"),
        (entry + 10, 8, "compressed"),
        (entry + 42, 65_000, "lies outside the file"),
        (entry + 42, 60, "Bad magic number"),
    ):
        path.write_bytes(good[:place] + struct.pack("<H", number) + good[place + 2 :])
        refuse(path, problem)
    path.write_bytes(good.replace(b"archive/data/0", b"archive/data.p", 1))
    refuse(path, "'archive/data/0' and header b'archive/data.p' differ")


def test_the_entries_of_a_container_are_stored_once_and_without_compression(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(10_000_000))
    refuse(path, "compressed")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", GOOD_TENSOR)
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("archive/data.pkl", GOOD_TENSOR)
    refuse(path, "occurs twice")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("word/document.xml", "<a/>")
    refuse(path, "torch did not write")
    refuse(container(path, program=True), "TorchScript")
    refuse(container(path, GOOD_TENSOR + b"N."), "has 2 more bytes after its pickle")
    good = bytearray(container(path).read_bytes())
    for number in (0, 1):  # an entry that also claims the bytes of those behind it
        at = [place for place in range(len(good)) if good[place : place + 4] == b"PK\1\2"][number]
        bad = good.copy()
        bad[at + 20 : at + 28] = struct.pack("<2L", len(good) - 5, len(good) - 5)
        path.write_bytes(bad)
        refuse(path, "overlap")
    data_pkl = good.index(b"PK\1\2")
    good[data_pkl + 20 : data_pkl + 28] = struct.pack("<2L", len(good) - 20, len(good) - 20)
    path.write_bytes(good)
    refuse(path, "(it ends too early)")


# Streams of torch before 1.6, made by hand


def head(protocol: int = 1001, *, little_endian: bool = True) -> bytes:
    parts = (torch_file.LEGACY_MAGIC, protocol, {"little_endian": little_endian})
    return b"".join(pickle.dumps(part, 2) for part in parts)


HEAD = head()
KEYS = pickle.dumps(["0"], 2)
LEGACY_TENSOR = GOOD_TENSOR.replace(b"tQ", b"NtQ")
RAW = struct.pack("<q", 2) + TWO_FLOATS


def test_old_streams_may_save_parts_of_storages_and_sources(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    part = GOOD_TENSOR.replace(b"I2\ntQI0\n(I2", b"I2\n(V9\nI1\nI1\nttQI0\n(I1")
    path.write_bytes(HEAD + part + KEYS + RAW)
    np.testing.assert_array_equal(read_foreign_file(path), [-2.0])
    path.write_bytes(HEAD + part.replace(b"V9\nI1\nI1", b"V9\nI1\nI2") + KEYS + RAW)
    refuse(path, "lies outside the storage")
    source = b"(Vmodule\ncmy.models\nNet\nVnet.py\nVclass Net: pass\ntQ)\x81."
    path.write_bytes(HEAD + source + pickle.dumps([], 2))
    assert read_foreign_file(path).name == "my.models.Net"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        (HEAD + LEGACY_TENSOR + KEYS + RAW[:-1], "ends too early"),
        (HEAD + LEGACY_TENSOR + KEYS + RAW + b"\0", "has 1 more bytes after its last storage"),
        (HEAD + LEGACY_TENSOR + KEYS + struct.pack("<q", 3) + TWO_FLOATS, "the size of a storage differs"),
        (HEAD + LEGACY_TENSOR + pickle.dumps(["1"], 2) + RAW, "lists other storages"),
        (HEAD + LEGACY_TENSOR + pickle.dumps(["0", "0"], 2) + RAW, "lists other storages"),
        (HEAD + LEGACY_TENSOR + pickle.dumps(None, 2) + RAW, "lists other storages"),
        (HEAD + LEGACY_TENSOR.replace(b"I2\nNtQ", b"I2000\nNtQ") + KEYS + RAW, "not in the file"),
        (head(1000) + LEGACY_TENSOR + KEYS + RAW, "unknown torch format"),
        (head(little_endian=False) + LEGACY_TENSOR + KEYS + RAW, "unknown torch format"),
    ],
)
def test_a_damaged_old_stream_is_refused(tmp_path: Path, stream: bytes, problem: str) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(HEAD + LEGACY_TENSOR + KEYS + RAW)
    np.testing.assert_array_equal(read_foreign_file(path), [1.5, -2.0])
    path.write_bytes(stream)
    refuse(path, problem)


# Other files


@pytest.mark.parametrize("protocol", range(6))
def test_a_vocabulary_is_a_plain_pickle(tmp_path: Path, protocol: int) -> None:
    words = ["xxunk", "xxpad", "the", "café"]
    path = tmp_path / "itos.pkl"
    path.write_bytes(pickle.dumps(words, protocol))
    assert read_foreign_file(path) == words
    path.write_bytes(pickle.dumps(words, protocol) + b"more")
    refuse(path, "has 4 more bytes after its pickle")


def safetensors_file() -> bytes:
    return struct.pack("<Q", 2) + b"{}"


def tar_file() -> bytes:
    return b"sys_info".ljust(257, b"\0") + b"ustar\x0000" + bytes(1000)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "has 0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html></html>", "a web page"),
        (b"\n\n<html>", "a web page"),
        (b"\x1f\x8b\x08\0\0", "unpack it first"),
        (safetensors_file(), "safetensors"),
        (tar_file(), "before 0.4"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("The cat sat on the mät.\n".encode(), "a text file"),
        (b'{"itos": ["xxunk"]}', "a text file"),
        (b"PK\3\4" + bytes(100), "damaged"),
        (b"\x93NUMPY\x01\0", "damaged at byte 0"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    refuse(path, problem)


def test_a_file_that_needs_too_much_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> object:
        raise MemoryError

    monkeypatch.setattr(torch_file, "read_pickle", exhausted)
    refuse(container(tmp_path / "x.pth"), "needs more memory than is available")


def test_only_regular_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(tmp_path / "none.pth", "does not exist")
    refuse(tmp_path, "not a regular file")
    os.mkfifo(tmp_path / "pipe")
    refuse(tmp_path / "pipe", "not a regular file")
    (tmp_path / "file").write_bytes(b"N.")
    refuse(tmp_path / "file" / "below", "can't be opened")
    (tmp_path / "link").symlink_to(container(tmp_path / "target"))
    assert isinstance(read_foreign_file(tmp_path / "link"), np.ndarray)
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(torch_file.MAX_FILE_BYTES + 1)
    refuse(tmp_path / "huge", f"expected 1 to {torch_file.MAX_FILE_BYTES}")
