r"""Read files that ``torch.save`` or ``pickle.dump`` wrote, without torch and without calling anything they name.

Input: a path. Output: plain values, with numpy arrays for tensors and inert records for objects (``pickle_reader``).
Three kinds of files are recognized by their content: the zip container of torch 1.6 and later, the stream of pickles
and raw storages that earlier versions wrote, and a plain pickle. Floating-point tensors of every type are returned as
float32. Tensors that share a storage in the file share memory here, too. This module does not know what a model looks
like, and it does not judge values: weights may be NaN.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bothways.errors import ForeignModelError, path_text, quoted
from bothways.interop.damaged_file import damaged_file_errors
from bothways.interop.pickle_reader import MAX_DIMENSIONS, Constructor, GlobalName, Record, array_from, read_pickle

MAX_FILE_BYTES: Final = 4 * 2**30
"""Largest file that is read. The largest exports of fastai have less than a quarter of it."""
MAX_DIRECTORY_BYTES: Final = 8 * 2**20
"""Largest directory of a zip container: about 100,000 entries. torch writes one entry per storage and a few more.

``zipfile`` builds objects of 300 bytes or more for each 46 bytes of the directory, so the size is checked first.
"""
LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL: Final = 1001
_TAIL_BYTES: Final = 98
"""The end of a zip file: its end record of 22 bytes, and before it 76 bytes of the 64-bit form."""

STORAGE_DTYPES: Final = {
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
"""Numpy's type for the raw items of each storage class of torch. Other classes (complex, quantized) stay records."""

_HALVES: Final = {"HalfStorage": "float16", "BFloat16Storage": "bfloat16"}
_STORED_AS: Final = "stored as"

OTHER_KINDS: Final = (
    (rb"version https://git-lfs", "a Git LFS pointer and not the file itself: fetch it with git lfs pull"),
    (rb"\s*<", "a web page: download the file itself"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", "a compressed file: unpack it first"),
    (rb"\x89HDF", "an HDF5 file"),
    (rb"(?s).{4}\0{4}\{", "a safetensors file"),
    (rb"(?s).{257}ustar", "a tar file, as torch wrote before 0.4: load it with an old torch and save it again"),
    (rb"(?!\x80|(?s:.*)[pg]\d+\n)[\t\n\r -~\x80-\xff]+\Z", "a text file"),
)
"""Patterns for the first 512 bytes of other files, and their descriptions. A pickle in text form has memo numbers."""


def read_foreign_file(path: Path) -> object:
    """Return the value in a file of torch or pickle. Arrays in it are read-only.

    Nothing that the file names is imported or called. The value may share objects and may contain itself.

    Args:
        path: The file. Links are followed.

    Raises:
        ForeignModelError: The file does not exist, is of another kind, is damaged or cut short, or exceeds a limit.
    """
    source = path_text(path)
    with damaged_file_errors(source), _open_regular_file(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if file.peek(2).startswith(b"PK"):
            return _read_container(file, size_bytes, source)
        return _read_stream(file.read(size_bytes), source)


def half_precision_of(array: NDArray[np.generic]) -> str | None:
    """Return ``float16`` or ``bfloat16`` if a tensor was stored in half precision. It is returned as float32."""
    if array.dtype == np.float16:
        return "float16"
    metadata = array.dtype.metadata
    return str(metadata[_STORED_AS]) if metadata and _STORED_AS in metadata else None


def _open_regular_file(path: Path) -> BufferedReader:
    source = path_text(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe must not block
    except FileNotFoundError:
        raise ForeignModelError(
            f"{source} does not exist, expected a file that torch.save or pickle.dump wrote"
        ) from None
    except OSError as error:
        raise ForeignModelError(f"{source} can't be opened: {error.strerror}") from None
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= MAX_FILE_BYTES:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ForeignModelError(f"{source} is not a regular file, expected one that torch.save or pickle.dump wrote")
    raise ForeignModelError(f"{source} has {status.st_size} bytes, expected 1 to {MAX_FILE_BYTES}")


def _read_stream(data: bytes, source: str) -> object:
    """Return the value of a plain pickle, or of a file that torch before 1.6 wrote."""
    for pattern, kind in OTHER_KINDS:
        if re.match(pattern, data[:512]):
            raise ForeignModelError(
                f"{source} seems to be {kind} (expected a file that torch.save or pickle.dump wrote)"
            )
    value, end = read_pickle(data, source)
    if type(value) is int and value == LEGACY_MAGIC:
        return _read_legacy(data, end, source)
    if end != len(data):
        raise ForeignModelError(
            f"{source} has {len(data) - end} more bytes after its pickle (at byte {end}): copy or download it again"
        )
    return value


# Tensors


@dataclass(eq=False, frozen=True, slots=True)
class _Storage:
    """The items that tensors are views of, already converted to the type that the tensors are returned in."""

    values: NDArray[np.generic]

    def fill(self, raw: bytes | memoryview, dtype: np.dtype[np.generic], storage_class: str) -> None:
        items = np.ndarray(len(self.values), dtype, buffer=raw)
        if storage_class == "BFloat16Storage":  # the upper half of a float32
            self.values.view(np.uint32)[:] = items.astype(np.uint32) << 16
        elif storage_class == "BoolStorage":
            self.values[:] = items.view(np.uint8) != 0
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                self.values[:] = items


class _Storages:
    """The storages of one file. Each is created once, however many tensors use it.

    Args:
        limit_bytes: Size of the file. All storages together can't be larger.
        order: Byte order of the file: ``<`` or ``>``.
        raw_of: Returns the bytes of a storage by its key. None if the bytes come later and are set with ``fill``.
    """

    def __init__(self, limit_bytes: int, order: str, raw_of: Callable[[str], bytes] | None) -> None:
        self.left_bytes, self.order, self.raw_of = limit_bytes, order, raw_of
        self.by_key: dict[str, tuple[str, int, _Storage]] = {}  # class and number of items of each storage

    def persistent_load(self, persistent_id: object) -> object:
        """Return what a persistent id of torch refers to: a storage, a part of one, or the class of a module."""
        match persistent_id:
            case (str() as what, GlobalName() as name, *_) if what == "module":
                return name
            case (str() as what, GlobalName() as owner, str() as key, _, int() as count, *view) if what == "storage":
                if owner.name not in STORAGE_DTYPES or owner.module not in {"torch", "torch.cuda"}:
                    return Record(owner, (key, count))
                return _part(self.storage(owner.name, key, count), view)
        raise ValueError("a persistent id is not one that torch writes")

    def storage(self, storage_class: str, key: str, count: int) -> _Storage:
        if key in self.by_key:
            known_class, known_count, storage = self.by_key[key]
            if (known_class, known_count) != (storage_class, count):
                raise ValueError(f"storage {quoted(key, 99)} is described in two ways")
            return storage
        dtype = self.dtype(storage_class)
        size_bytes = count * dtype.itemsize
        self.left_bytes -= size_bytes
        if type(count) is not int or count < 0 or self.left_bytes < 0:
            raise ValueError(f"storage {quoted(key, 99)} claims {count} items, which are not in the file")
        is_float = dtype.kind == "f" or storage_class == "BFloat16Storage"
        returned = np.dtype(np.float32) if is_float else dtype.newbyteorder("=")
        if storage_class in _HALVES:
            returned = np.dtype(returned.str, metadata={_STORED_AS: _HALVES[storage_class]})
        storage = _Storage(np.empty(count, returned))
        self.by_key[key] = storage_class, count, storage
        if self.raw_of is not None:
            self.fill(key, self.raw_of(key))
        return storage

    def dtype(self, storage_class: str) -> np.dtype[np.generic]:
        return np.dtype(self.order + STORAGE_DTYPES[storage_class])

    def size_bytes(self, key: str) -> int:
        storage_class, count, _ = self.by_key[key]
        return count * self.dtype(storage_class).itemsize

    def fill(self, key: str, raw: bytes | memoryview) -> None:
        storage_class, count, storage = self.by_key[key]
        if len(raw) != self.size_bytes(key):
            raise ValueError(
                f"storage {quoted(key, 99)} has {len(raw)} bytes, but claims {count} items of {storage_class}"
            )
        storage.fill(raw, self.dtype(storage_class), storage_class)


def _part(storage: _Storage, view: list[object]) -> _Storage:
    """Return the part of a storage that old files describe: None, or (its own key, first item, count)."""
    match view:
        case [] | [None]:
            return storage
        case [(_, int() as first, int() as count)] if 0 <= first <= first + count <= len(storage.values):
            return _Storage(storage.values[first : first + count])
    raise ValueError("a part of a storage lies outside the storage")


def _tensor(*arguments: object) -> object:
    """Return the array of ``_rebuild_tensor(storage, offset, size, stride)``. More arguments are not needed here."""
    match arguments:
        case (_Storage(values), first, tuple() as size, tuple() as stride, *_) if len(size) <= MAX_DIMENSIONS:
            numbers = [number for number in (first, *size, *stride[:99]) if type(number) is int and number >= 0]
            if len(size) != len(stride) or len(numbers) != 1 + 2 * len(size):
                raise ValueError("the size, strides or offset of a tensor are invalid")
            start, sizes = numbers[0], numbers[1 : 1 + len(size)]
            steps = [step if length > 1 else 1 for length, step in zip(sizes, numbers[1 + len(size) :], strict=True)]
            if 0 in steps:
                raise ValueError("a tensor repeats its items (stride 0): save a copy of it, made by contiguous()")
            last = start + sum((length - 1) * step for length, step in zip(sizes, steps, strict=True))
            if last >= len(values) and 0 not in sizes:
                raise ValueError(f"a tensor ends at item {last} of a storage of {len(values)} items")
            width = values.dtype.itemsize
            strides = tuple(step * width for step in steps)
            return array_from(values, values.dtype, size, strides, offset=start * width)
    return NotImplemented


def _tensor_with_class(*arguments: object) -> object:
    """Return the array of ``(class, storage, offset, size, stride, ...)``, the form of fastai's own tensor classes."""
    return _tensor(*arguments[1:])


def _tensor_of_type(*arguments: object) -> object:
    """Return the array of ``(function, class, arguments of the function, state)``."""
    match arguments:
        case (GlobalName(path=path), _, tuple() as inner, *_) if path in _REBUILDERS and len(inner) < 16:
            return _REBUILDERS[path](*inner)
    return NotImplemented


def _parameter(*arguments: object) -> object:
    return arguments[0] if arguments and isinstance(arguments[0], np.ndarray) else NotImplemented


_REBUILDERS: Mapping[str, Constructor] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "fastai.torch_core._fa_rebuild_tensor": _tensor_with_class,
}
_CONSTRUCTORS: Mapping[str, Constructor] = {
    **_REBUILDERS,
    "torch._tensor._rebuild_from_type_v2": _tensor_of_type,
    "torch._tensor._rebuild_from_type": _tensor_of_type,
    "torch.tensor._rebuild_from_type": _tensor_of_type,
    "fastai.torch_core._rebuild_from_type": _tensor_of_type,
    "torch.Size": lambda *size: size[0] if len(size) == 1 and isinstance(size[0], tuple) else NotImplemented,
}


# The stream that torch wrote before 1.6: magic number, protocol, system, value, keys, then each storage


def _read_legacy(data: bytes, at: int, source: str) -> object:
    protocol, at = read_pickle(data, source, offset=at)
    system, at = read_pickle(data, source, offset=at)
    is_known = isinstance(protocol, int) and protocol == LEGACY_PROTOCOL
    if not is_known or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ForeignModelError(
            f"{source} has an unknown torch format, expected protocol {LEGACY_PROTOCOL} and little-endian bytes: load "
            "it with the torch that saved it and save it again"
        )
    storages = _Storages(len(data) - at, "<", None)
    value, at = read_pickle(
        data, source, constructors=_CONSTRUCTORS, persistent_load=storages.persistent_load, offset=at
    )
    keys, at = read_pickle(data, source, offset=at)
    names = [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
    if not isinstance(keys, list) or len(names) != len(keys) or sorted(names) != sorted(storages.by_key):
        raise ForeignModelError(
            f"{source} lists other storages (before byte {at}) than its tensors use: the file is damaged, or some "
            "tensors are complex or quantized, which is not supported"
        )
    for key in names:
        start, at = at + 8, at + 8 + storages.size_bytes(key)
        if at > len(data):
            raise ForeignModelError(f"{source} ends too early (at byte {len(data)}): copy or download it again")
        if int.from_bytes(data[start - 8 : start], "little") != storages.by_key[key][1]:
            raise ForeignModelError(
                f"{source} is damaged at byte {start - 8}: the size of a storage differs from that of its tensors"
            )
        storages.fill(key, memoryview(data)[start:at])
    if at != len(data):
        raise ForeignModelError(
            f"{source} has {len(data) - at} more bytes after its last storage (at byte {at}): copy or download it again"
        )
    return value


# The zip container of torch 1.6 and later, in which nothing is compressed


def _read_container(file: BufferedReader, size_bytes: int, source: str) -> object:
    """Return the value in a zip container. Only one storage at a time is held in memory in addition to the arrays."""
    _check_directory_size(file, size_bytes)
    with zipfile.ZipFile(file) as archive:
        _check_entries(archive.infolist(), size_bytes)
        return _read_archive(archive, size_bytes, source)


def _check_directory_size(file: BufferedReader, size_bytes: int) -> None:
    """Refuse a directory that would take much memory, before ``zipfile`` reads it."""
    file.seek(max(0, size_bytes - _TAIL_BYTES))
    tail = file.read().rjust(_TAIL_BYTES, b"\0")
    if tail[-22:-18] != b"PK\5\6" or tail[-2:] != b"\0\0":
        raise ValueError("the zip directory at its end is missing")
    directory_bytes = int.from_bytes(tail[-10:-6], "little")
    if tail[-42:-38] == b"PK\6\7":  # the 64-bit form, which torch always writes and zipfile prefers
        directory_bytes = int.from_bytes(tail[-58:-50], "little")
    if directory_bytes > MAX_DIRECTORY_BYTES:
        raise ValueError(f"its zip directory has {directory_bytes} bytes, expected at most {MAX_DIRECTORY_BYTES}")


def _check_entries(entries: list[zipfile.ZipInfo], size_bytes: int) -> None:
    """Refuse entries that torch never writes, or that claim more bytes than the file has, as overlapping ones do."""
    names: set[str] = set()
    for entry in entries:
        if entry.flag_bits & 1 or entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise ValueError(f"{quoted(entry.filename, 200)} is encrypted or compressed, which torch never does")
        if entry.filename in names:
            raise ValueError(f"{quoted(entry.filename, 200)} occurs twice")
        if entry.header_offset >= size_bytes:
            raise ValueError(f"{quoted(entry.filename, 200)} lies outside the file")
        names.add(entry.filename)
    if sum(entry.file_size for entry in entries) > size_bytes:
        raise ValueError("its entries overlap, or claim more bytes than the file has")


def _read_archive(archive: zipfile.ZipFile, size_bytes: int, source: str) -> object:
    names = set(archive.namelist())
    pickles = [name for name in names if name.split("/", 1)[-1] == "data.pkl"]
    if len(pickles) != 1:
        raise ForeignModelError(f"{source} is a zip file that torch did not write, expected exactly one data.pkl in it")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in names:
        raise ForeignModelError(f"{source} is a TorchScript program, expected a file that torch.save wrote")

    def content(name: str) -> bytes:
        if name not in names:
            raise ValueError(f"{quoted(name, 200)} is missing in the file")
        return archive.read(name)

    order = content(f"{folder}byteorder") if f"{folder}byteorder" in names else b"little"
    if order not in {b"little", b"big"}:
        raise ForeignModelError(f"{source} has an unknown byte order, expected little or big")
    storages = _Storages(size_bytes, "<" if order == b"little" else ">", lambda key: content(f"{folder}data/{key}"))
    data = content(pickles[0])
    value, end = read_pickle(
        data, f"{source} (data.pkl)", constructors=_CONSTRUCTORS, persistent_load=storages.persistent_load
    )
    if end != len(data):
        raise ForeignModelError(
            f"{source} (data.pkl) has {len(data) - end} more bytes after its pickle (at byte {end})"
        )
    return value
