"""Write files in the formats of pickle, torch and fastai, without torch and fastai, from records of the pickle reader.

The files are as harmless as a real export. Hostile ones are made by changing a fact of the value before it is written.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bothways.interop.pickle_reader import GlobalName, Record
from bothways.interop.torch_file import LEGACY_MAGIC, LEGACY_PROTOCOL
from tests.unit.interop.exports import State, v1_export, v2_export, vocabulary

LABELS = ("bad", "good")
_PythonPickler: Any = vars(pickle)["_Pickler"]


class _Writer(_PythonPickler):  # type: ignore[misc]
    """Pickles records as the calls that they describe, and arrays as tensors of torch if ``storages`` is a list."""

    def __init__(self, file: io.BytesIO, storages: list[bytes] | None) -> None:
        super().__init__(file, 2)
        self.storages = storages
        self.keys: dict[int, str] = {}

    def save(self, obj: object, save_persistent_id: bool = True) -> None:
        if isinstance(obj, GlobalName):
            self.write(b"c" + obj.module.encode() + b"\n" + obj.name.encode() + b"\n")
        elif isinstance(obj, Record):
            self._save_record(obj)
        elif isinstance(obj, np.ndarray) and obj.dtype == np.float32 and self.storages is not None:
            if id(obj) not in self.keys:
                self.storages.append(obj.tobytes())
            owner, key = GlobalName("torch", "FloatStorage"), self.keys.setdefault(id(obj), str(len(self.storages) - 1))
            self.write(b"ctorch._utils\n_rebuild_tensor_v2\n(")
            self.save(("storage", owner, key, "cpu", obj.size))
            self.write(b"Q")
            steps = tuple(step // 4 for step in obj.strides)
            for argument in (0, obj.shape, steps, False, Record(GlobalName("collections", "OrderedDict"), ())):
                self.save(argument)
            self.write(b"tR")
        else:
            super().save(obj, save_persistent_id)

    def _save_record(self, record: Record) -> None:
        known = self.memo.get(id(record))
        if known is not None:
            self.write(self.get(known[0]))
            return
        self.save(record.function)
        self.save(record.arguments)
        self.write(b"R")
        self.memoize(record)
        if record.items:
            self._batch_appends(record.items)
        if record.pairs:
            self._batch_setitems(record.pairs)
        if record.state is not None:
            self.save(record.state)
            self.write(b"b")


def pickled(value: object, storages: list[bytes] | None = None) -> bytes:
    """Return the pickle of a value that may contain records."""
    file = io.BytesIO()
    _Writer(file, storages).dump(value)
    return file.getvalue()


def torch_zip(value: object) -> bytes:
    """Return the file that ``torch.save`` writes for a value, in the form of torch 1.6 and later."""
    storages: list[bytes] = []
    data, file = pickled(value, storages), io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for number, storage in enumerate(storages):
            archive.writestr(f"archive/data/{number}", storage)
        archive.writestr("archive/version", b"3\n")
    return file.getvalue()


def torch_legacy(value: object) -> bytes:
    """Return the file that ``torch.save`` wrote for a value before torch 1.6."""
    storages: list[bytes] = []
    data = pickled(value, storages)
    head = b"".join(pickle.dumps(part, 2) for part in (LEGACY_MAGIC, LEGACY_PROTOCOL, {"little_endian": True}))
    keys = pickle.dumps([str(number) for number in range(len(storages))], 2)
    tail = b"".join((len(storage) // 4).to_bytes(8, "little") + storage for storage in storages)
    return head + data + keys + tail


def tar(members: dict[str, bytes], mode: str) -> bytes:
    """Return an archive of files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=cast("Any", mode)) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def tiny_state(*, words: int, is_classifier: bool = True) -> State:
    """Return the weights of a tiny AWD-LSTM by the names of fastai v2: E = 4, H = 6, 2 layers."""
    rng = np.random.default_rng(0)

    def array(*shape: int) -> NDArray[np.float32]:
        return rng.normal(scale=0.1, size=shape).astype(np.float32)

    before = "0.module." if is_classifier else "0."
    state: State = {before + "encoder.weight": array(words, 4)}
    for layer, (width_in, width_out) in enumerate(((4, 6), (6, 4))):
        state |= {
            f"{before}rnns.{layer}.weight_hh_l0_raw": array(4 * width_out, width_out),
            f"{before}rnns.{layer}.module.weight_ih_l0": array(4 * width_out, width_in),
            f"{before}rnns.{layer}.module.bias_ih_l0": array(4 * width_out),
            f"{before}rnns.{layer}.module.bias_hh_l0": array(4 * width_out),
        }
    for layer, (width_in, width_out) in enumerate(((12, 5), (5, 2)) if is_classifier else ()):
        ones = {"weight": np.ones, "bias": np.zeros, "running_mean": np.zeros, "running_var": np.ones}
        state |= {f"1.layers.{layer}.0.{part}": make(width_in, np.float32) for part, make in ones.items()}
        state[f"1.layers.{layer}.2.weight"] = array(width_out, width_in)
    return state


def export_v1(words: int = 20) -> dict[str, Any]:
    """Return what an export of fastai v1 contains. ``words`` counts those beside the control tokens."""
    known = vocabulary(1, [f"word{number}" for number in range(words)])
    return v1_export(tiny_state(words=len(known)), known, LABELS)


def export_v2(words: int = 20) -> Record:
    """Return what an export of fastai v2 contains. ``words`` counts those beside the control tokens."""
    known = vocabulary(2, [f"word{number}" for number in range(words)])
    return v2_export(tiny_state(words=len(known)), known, LABELS)
