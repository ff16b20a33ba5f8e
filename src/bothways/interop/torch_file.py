r"""Read what ``torch.save`` or ``pickle.dump`` wrote, without torch and without calling anything.

In: a path. Out: plain values, with numpy arrays for tensors and inert records for objects (see ``pickle_reader``).
Three kinds of file are known by their content: the zip container of torch 1.6 and later, the stream of pickles and raw
storages before that, and a plain pickle. Tensors of every float type come as float32; those that share a storage share
it here, too. Nothing here knows what a model looks like, and values are not judged: weights may be NaN.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bothways.errors import ForeignModelError
from bothways.interop.pickle_reader import MOST_DIMENSIONS, Maker, Name, Record, array_from, read_pickle

LARGEST_FILE_BYTES: Final = 4 * 2**30
"""So that a container needs no 64-bit sizes; the largest exports of fastai have less than a quarter of it."""
MOST_ENTRIES: Final = 100_000
"""Entries of a zip container; torch writes one for each storage and some more."""
LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL: Final = 1001

STORED_AS: Final = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}
"""Numpy's type for the raw items of each storage of torch; what is missing (complex, quantized) stays a record."""

OTHER_KINDS: Final = (
    (rb"version https://git-lfs", "a Git LFS pointer and not the file itself: fetch it with git lfs pull"),
    (rb"\s*<", "a web page: download the file itself"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", "a compressed file: unpack it first"),
    (rb"\x89HDF", "an HDF5 file"),
    (rb"(?s).{4}\0{4}\{", "a safetensors file"),
    (rb"(?s).{257}ustar", "a tar file, as torch wrote before 0.4: load it with an old torch and save it again"),
    (rb"(?!\x80|(?s:.*)[pg]\d+\n)[\t\n\r -~\x80-\xff]+\Z", "a text file"),
)
"""How the first 512 bytes of other files begin, and what to say of them. A pickle of text has memo numbers."""


def read_foreign_file(path: Path) -> object:
    """Return the value that a file of torch or pickle holds; arrays in it are read-only.

    Law: nothing that the file names is imported or called. The value may share objects and hold itself.

    Args:
        path: The file; links are followed.

    Raises:
        ForeignModelError: There is no such file, it is of another kind, damaged, cut short, or beyond a limit.
    """
    source = str(path)
    try:
        data = _read_regular_file(path)
        if data.startswith(b"PK"):
            return _read_container(data, source)
        for pattern, kind in OTHER_KINDS:
            if re.match(pattern, data[:512]):
                raise ForeignModelError(f"{source} seems to be {kind} (expected what torch.save or pickle.dump wrote)")
        value, end = read_pickle(data, source)
        if type(value) is int and value == LEGACY_MAGIC:
            return _read_legacy(data, end, source)
        if end != len(data):
            raise ForeignModelError(
                f"{source} goes on for {len(data) - end} bytes after its pickle ends (at byte {end})"
            )
        return value
    except MemoryError:
        raise ForeignModelError(f"{source} needs more memory than there is") from None


def _read_regular_file(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not make us wait
    except FileNotFoundError:
        raise ForeignModelError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ForeignModelError(f"{path} can't be opened: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ForeignModelError(f"{path} is not a regular file, expected one that torch.save or pickle.dump wrote")
        if not 0 < status.st_size <= LARGEST_FILE_BYTES:
            raise ForeignModelError(f"{path} has {status.st_size} bytes, expected 1 to {LARGEST_FILE_BYTES}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(status.st_size)
    except OSError as error:
        raise ForeignModelError(f"{path} can't be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


# Tensors


@dataclass(eq=False, frozen=True, slots=True)
class _Storage:
    """The items that tensors are views of, in the type that they come out in."""

    values: NDArray[np.generic]

    def fill(self, raw: bytes | memoryview, stored_as: np.dtype[np.generic], kind: str) -> None:
        items = np.ndarray(len(self.values), stored_as, buffer=raw)
        if kind == "BFloat16Storage":  # the upper half of a float32
            self.values.view(np.uint32)[:] = items.astype(np.uint32) << 16
        elif kind == "BoolStorage":
            self.values[:] = items.view(np.uint8) != 0
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                self.values[:] = items


class _Storages:
    """The storages of one file, each made once however many tensors use it.

    Args:
        limit_bytes: What the file has: its storages can't be more.
        order: "<" or ">", the byte order of the file.
        raw_of: Gives the bytes of a storage by its key; None where they are not known until later (``fill``).
    """

    def __init__(self, limit_bytes: int, order: str, raw_of: Callable[[str], memoryview] | None) -> None:
        self.left_bytes, self.order, self.raw_of = limit_bytes, order, raw_of
        self.by_key: dict[str, tuple[str, int, _Storage]] = {}  # kind, count of items

    def persistent(self, value: object) -> object:
        """Return what a persistent id of torch stands for: a storage, a part of one, or the class of a module."""
        match value:
            case (str() as what, Name() as name, *_) if what == "module":
                return name
            case (str() as what, Name(name=kind) as maker, str() as key, _, int() as count, *view) if what == "storage":
                if kind not in STORED_AS or maker.module not in {"torch", "torch.cuda"}:
                    return Record(maker, (key, count))
                return _part(self.storage(kind, key, count), view)
        raise ValueError("a persistent id is not one of torch")

    def storage(self, kind: str, key: str, count: int) -> _Storage:
        if key in self.by_key:
            known_kind, known_count, storage = self.by_key[key]
            if (known_kind, known_count) != (kind, count):
                raise ValueError(f"storage {key[:99]!r} is described in two ways")
            return storage
        stored_as = self.stored_as(kind)
        size_bytes = count * stored_as.itemsize
        self.left_bytes -= size_bytes
        if type(count) is not int or count < 0 or self.left_bytes < 0:
            raise ValueError(f"storage {key[:99]!r} claims {count} items, which are not in the file")
        is_float = stored_as.kind == "f" or kind == "BFloat16Storage"
        storage = _Storage(np.empty(count, np.float32 if is_float else stored_as.newbyteorder("=")))
        self.by_key[key] = kind, count, storage
        if self.raw_of is not None:
            self.fill(key, self.raw_of(key))
        return storage

    def stored_as(self, kind: str) -> np.dtype[np.generic]:
        return np.dtype(self.order + STORED_AS[kind])

    def size_bytes(self, key: str) -> int:
        kind, count, _ = self.by_key[key]
        return count * self.stored_as(kind).itemsize

    def fill(self, key: str, raw: memoryview) -> None:
        kind, count, storage = self.by_key[key]
        if len(raw) != self.size_bytes(key):
            raise ValueError(f"storage {key[:99]!r} has {len(raw)} bytes, but {count} items of {kind} are claimed")
        storage.fill(raw, self.stored_as(kind), kind)


def _part(storage: _Storage, view: list[object]) -> _Storage:
    """Return the part of a storage that old files describe: None, or (its own key, first item, count)."""
    match view:
        case [] | [None]:
            return storage
        case [(_, int() as first, int() as count)] if 0 <= first <= first + count <= len(storage.values):
            return _Storage(storage.values[first : first + count])
    raise ValueError("a part of a storage does not lie inside it")


def _tensor(*arguments: object) -> object:
    """Return an array of ``_rebuild_tensor(storage, offset, size, stride)``; version 2 adds what is not needed here."""
    match arguments:
        case (_Storage(values), first, tuple() as size, tuple() as stride, *_) if len(size) <= MOST_DIMENSIONS:
            numbers = [number for number in (first, *size, *stride[:99]) if type(number) is int and number >= 0]
            if len(size) != len(stride) or len(numbers) != 1 + 2 * len(size):
                raise ValueError("the size, strides or offset of a tensor can't be such")
            start, sizes = numbers[0], numbers[1 : 1 + len(size)]
            steps = [step if length > 1 else 1 for length, step in zip(sizes, numbers[1 + len(size) :], strict=True)]
            if 0 in steps:
                raise ValueError("a tensor repeats its items (stride 0): save a copy of it, made by contiguous()")
            last = start + sum((length - 1) * step for length, step in zip(sizes, steps, strict=True))
            if last >= len(values) and 0 not in sizes:
                raise ValueError(f"a tensor ends at item {last} of a storage of {len(values)}")
            width = values.dtype.itemsize
            strides = tuple(step * width for step in steps)
            return array_from(values, values.dtype, size, strides, offset=start * width)
    return NotImplemented


def _tensor_of_class(*arguments: object) -> object:
    """Return the array of ``(class, storage, offset, size, stride, ...)``, as fastai's own tensors are saved."""
    return _tensor(*arguments[1:])


def _tensor_of_type(*arguments: object) -> object:
    """Return the array of ``(function, class, arguments of the function, state)``."""
    match arguments:
        case (Name(path=path), _, tuple() as inner, *_) if path in _BY_ARGUMENTS and len(inner) < 16:
            return _BY_ARGUMENTS[path](*inner)
    return NotImplemented


def _parameter(*arguments: object) -> object:
    return arguments[0] if arguments and isinstance(arguments[0], np.ndarray) else NotImplemented


_BY_ARGUMENTS: Mapping[str, Maker] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "fastai.torch_core._fa_rebuild_tensor": _tensor_of_class,
}
_MAKERS: Mapping[str, Maker] = {
    **_BY_ARGUMENTS,
    "torch._tensor._rebuild_from_type_v2": _tensor_of_type,
    "torch._tensor._rebuild_from_type": _tensor_of_type,
    "torch.tensor._rebuild_from_type": _tensor_of_type,
    "fastai.torch_core._rebuild_from_type": _tensor_of_type,
    "torch.Size": lambda *size: size[0] if len(size) == 1 and isinstance(size[0], tuple) else NotImplemented,
}


# The stream of torch before 1.6: magic number, protocol, system, value, keys, then each storage


def _read_legacy(data: bytes, at: int, source: str) -> object:
    protocol, at = read_pickle(data, source, offset=at)
    system, at = read_pickle(data, source, offset=at)
    is_known = isinstance(protocol, int) and protocol == LEGACY_PROTOCOL
    if not is_known or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ForeignModelError(f"{source} was saved by a torch, or on a machine, that is not known here")
    storages = _Storages(len(data) - at, "<", None)
    value, at = read_pickle(data, source, makers=_MAKERS, persistent=storages.persistent, offset=at)
    keys, at = read_pickle(data, source, offset=at)
    names = [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
    if not isinstance(keys, list) or len(names) != len(keys) or sorted(names) != sorted(storages.by_key):
        raise ForeignModelError(
            f"{source} lists other storages (before byte {at}) than its tensors use: it is damaged, or some "
            "are complex or quantized, which is not supported"
        )
    for key in names:
        start, at = at + 8, at + 8 + storages.size_bytes(key)
        if at > len(data):
            raise ForeignModelError(f"{source} ends in the middle (at byte {len(data)}): copy or download it again")
        if int.from_bytes(data[start - 8 : start], "little") != storages.by_key[key][1]:
            raise ForeignModelError(
                f"{source} is damaged at byte {start - 8}: a storage has another size than its tensors"
            )
        storages.fill(key, memoryview(data)[start:at])
    if at != len(data):
        raise ForeignModelError(f"{source} goes on for {len(data) - at} bytes after its last storage (at byte {at})")
    return value


# The zip container of torch 1.6 and later: nothing is compressed, and every entry is the only one at its place


def _read_container(data: bytes, source: str) -> object:
    try:
        entries = _directory(data)
    except ValueError as error:
        raise ForeignModelError(f"{source} is damaged: {error}: copy or download it again") from None
    mains = [name for name in entries if name.split("/", 1)[-1] == "data.pkl"]
    if len(mains) != 1:
        raise ForeignModelError(f"{source} is a zip file that torch did not write: it holds no data.pkl, or several")
    folder = mains[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in entries:
        raise ForeignModelError(f"{source} is a TorchScript program, expected what torch.save wrote")

    def content(name: str) -> memoryview:
        if name not in entries:
            raise ValueError(f"{name[:200]!r} is missing in the file")
        start, end, checksum = entries[name]
        raw = memoryview(data)[start:end]
        if zlib.crc32(raw) != checksum:
            raise ForeignModelError(f"{source} is damaged: {name[:200]!r} has changed since it was saved")
        return raw

    order = bytes(content(f"{folder}byteorder")) if f"{folder}byteorder" in entries else b"little"
    if order not in {b"little", b"big"}:
        raise ForeignModelError(f"{source} has an unknown byte order, expected little or big")
    storages = _Storages(len(data), "<" if order == b"little" else ">", lambda key: content(f"{folder}data/{key}"))
    main = bytes(content(mains[0]))
    value, end = read_pickle(main, f"{source} (data.pkl)", makers=_MAKERS, persistent=storages.persistent)
    if end != len(main):
        raise ForeignModelError(f"{source} (data.pkl) goes on after its pickle ends (at byte {end})")
    return value


def _directory(data: bytes) -> dict[str, tuple[int, int, int]]:
    """Return where the content of each entry begins and ends, and its CRC-32.

    Raises:
        ValueError: The file is not a whole zip container of plain entries; the message says why.
    """
    if len(data) < 22 or data[-22:-18] != b"PK\5\6":
        raise ValueError("the list of contents at its end is missing")
    end, (count, size, first) = len(data) - 22, struct.unpack_from("<HLL", data, len(data) - 12)
    if end >= 76 and data[end - 20 : end - 16] == b"PK\6\7":  # torch writes the 64-bit form always
        end -= 76
        count, size, first = struct.unpack_from("<QQQ", data, end + 32)
    if first + size != end or count > MOST_ENTRIES:
        raise ValueError("the list of contents does not end where it should")
    entries: dict[str, tuple[int, int, int]] = {}
    places: list[tuple[int, int]] = []
    at = first
    for _ in range(count):
        if at + 46 > end:
            raise ValueError("the list of contents is too short")
        signature, flags, method, checksum, packed, size, *lengths, begin = struct.unpack_from(
            "<4s4xHH4xLLLHHH8xL", data, at
        )
        name = data[at + 46 : at + 46 + lengths[0]].decode()
        at += 46 + sum(lengths)
        if signature != b"PK\1\2" or begin + 30 > first:
            raise ValueError("the list of contents holds something else")
        if flags & 1 or method or packed != size:
            raise ValueError(f"{name[:200]!r} is encrypted or compressed, which torch never does")
        if name in entries or name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise ValueError(f"{name[:200]!r} is there twice, or no name of torch")
        signature, name_length, extra_length = struct.unpack_from("<4s22xHH", data, begin)
        start = begin + 30 + name_length + extra_length
        if signature != b"PK\3\4" or data[begin + 30 : begin + 30 + name_length] != name.encode():
            raise ValueError(f"{name[:200]!r} is not where the list of contents says")
        entries[name] = start, start + size, checksum
        places.append((begin, start + size))
    places.sort()
    if at != end or any(
        ended > begin for (_, ended), (begin, _) in zip(places, [*places[1:], (first, 0)], strict=True)
    ):
        raise ValueError("two entries overlap, or the list of contents is too long")
    return entries
