r"""Read the data that a pickle stream describes, and call nothing that it names.

Input: the bytes of a pickle, protocol 0 to 5. Output: plain values, and inert records of everything else. A pickle is a
program for a stack machine. Its only dangerous opcodes look up a name and call what they find. Here a name stays a
``GlobalName``, and a call becomes a ``Record`` of what would have been called. The only exceptions are the names in
``_CONSTRUCTORS``, whose values are built by functions of this module.

Any input results in a value or in one error, in time and memory bounded by the size of the input and the limits below.
No opcode recurses, so values may be nested to any depth (except tuples: ``MAX_TUPLE_DEPTH``), may contain the same
object many times, and may contain themselves. Callers must not recurse into them without a check. What the records mean
is the caller's concern.

The opcodes are decoded here and not by ``pickletools.genops``: docs/decisions/019-zip-by-zipfile-pickle-by-hand.md.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from bothways.errors import ForeignModelError
from bothways.strict_json import without_collection

MAX_OPCODES: Final = 10_000_000
"""Opcodes in a stream. The largest exports of fastai have fewer than 5 million. Each creates at most one object."""
MAX_MEMO_ENTRIES: Final = 4_000_000
"""Entries of the memo. Writers store at most every second object in it."""
MAX_STRING_BYTES: Final = 512 * 2**20
"""Bytes in all strings of a stream together. Word vectors and raw texts may be pickled along with a model."""
MAX_GLOBALS: Final = 100_000
"""Different globals in a stream. An export has a few hundred."""
MAX_NUMBER_BYTES: Final = 1000
"""Bytes of a binary integer, or characters of a written number. Longer ones take quadratic time to convert."""
MAX_TUPLE_DEPTH: Final = 100
"""Nesting depth of tuples. Hashing and comparing tuples recurses in C, which crashes if they are nested too deeply."""
MAX_NESTED_TUPLE_ITEMS: Final = 1_000_000
"""Items of a tuple of tuples, each counted as often as hashing the tuple would reach it."""
FREE_BYTES: Final = 8 * 2**20
FREE_BYTES_PER_BYTE: Final = 16
"""Memory that the containers, records and copies of a stream may take: ``FREE_BYTES``, and 16 bytes for each byte read.

A stream can describe a list in one byte, which takes 80. The values of real exports take less than 4 bytes per byte."""
_LIST_BYTES: Final = 80
_DICT_BYTES: Final = 80
_FILLED_DICT_BYTES: Final = 160
_SET_BYTES: Final = 256
_RECORD_BYTES: Final = 120
_TUPLE_BYTES: Final = 64
_NESTED_TUPLE_BYTES: Final = 256
_MEMO_BYTES: Final = 128
"""What Python takes for each of them, a nested tuple in the table of nested tuples, and an entry of a sparse memo."""
_LONGEST_GAP: Final = 1000
MAX_DIMENSIONS: Final = 32

_Item = TypeVar("_Item")
Constructor = Callable[..., object]
"""Builds the value of a known name from the stream's arguments, which may be of any number and types.

It returns ``NotImplemented`` for arguments that it does not understand, and the call is kept as a record. It raises
``ValueError`` with the reason for arguments that can't be true."""


_UNUSED: Final = object()
_NO_KEYWORDS: Final[Mapping[str, object]] = MappingProxyType({})
"""The keywords of most calls. Most records have no items either, and a stream can describe one in two bytes."""


@dataclass(frozen=True, slots=True)
class GlobalName:
    """A global that the stream names. It is never looked up or imported."""

    module: str
    name: str

    @property
    def path(self) -> str:
        """Module and name, joined by a dot."""
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True, repr=False)
class Record:
    """A call that the stream describes. Nothing was called.

    Attributes:
        function: The class or function that would be called, usually a ``GlobalName``.
        arguments: Its positional arguments.
        keywords: Its keyword arguments, used by classes with ``__getnewargs_ex__``.
        state: What would become the object's ``__dict__`` or be passed to its ``__setstate__``. The last state if the
            stream has several.
        items: The items that would be appended to the object.
        pairs: The keys and values that would be stored in the object, in order.
    """

    function: object
    arguments: tuple[object, ...]
    keywords: Mapping[str, object] = field(default_factory=lambda: _NO_KEYWORDS)
    state: object = None
    items: Sequence[object] = ()
    pairs: Sequence[tuple[object, object]] = ()

    @property
    def name(self) -> str:
        """Dotted path of the class or function, or "" if that is itself a record."""
        if not isinstance(self.function, GlobalName):
            return ""
        if self.function.path in _CLASS_FIRST and self.arguments and isinstance(self.arguments[0], GlobalName):
            return self.arguments[0].path
        return self.function.path

    def __repr__(self) -> str:
        return f"<record of {self.name!r}>"  # without its contents, which may be endless


_CLASS_FIRST = {f"{module}.{name}" for module in ("copyreg", "copy_reg") for name in ("_reconstructor", "__newobj__")}
_CLASS_FIRST.add("copyreg.__newobj_ex__")


def read_pickle(
    data: bytes | memoryview,
    source: str,
    *,
    constructors: Mapping[str, Constructor] | None = None,
    persistent_load: Callable[[object], object] | None = None,
    offset: int = 0,
) -> tuple[object, int]:
    """Return the value that a pickle describes, and the offset of the first byte after it.

    Args:
        data: The pickle. Other bytes may precede and follow it.
        source: Name of the file in error messages.
        constructors: Further names whose values are built, by dotted path.
        persistent_load: Returns the value of a persistent id, or raises ``ValueError`` with the reason. If None,
            persistent ids are an error.
        offset: Position in ``data`` where the pickle begins.

    Raises:
        ForeignModelError: The pickle is damaged, cut short, exceeds a limit of this module, or uses values that only
            the program that wrote it has (extension codes, buffers outside the stream).
    """
    data = data if isinstance(data, bytes) else bytes(data)
    machine = _Machine(data, source, constructors or {}, persistent_load, offset)
    with without_collection():
        return machine.run(), machine.at


def array_from(
    content: bytes | NDArray[np.generic],
    dtype: np.dtype[np.generic],
    shape: tuple[object, ...],
    strides: tuple[int, ...] | None = None,
    *,
    offset: int = 0,
    fortran: bool = False,
) -> NDArray[np.generic]:
    """Return a read-only array over existing bytes. No shape can make it larger than these bytes.

    Args:
        content: The bytes.
        dtype: Type of the items, of at least one byte each.
        shape: The shape that the stream claims.
        strides: In bytes. If None, the array must use ``content`` exactly.
        offset: Position of the first item, in bytes.
        fortran: Whether the first index varies fastest. Ignored if strides are given.

    Raises:
        ValueError: The shape is invalid or does not fit the bytes.
    """
    size_bytes = content.nbytes if isinstance(content, np.ndarray) else len(content)
    sizes = [size for size in shape[: MAX_DIMENSIONS + 1] if type(size) is int and size >= 0]
    if len(sizes) != len(shape) or len(sizes) > MAX_DIMENSIONS:
        raise ValueError("an array has an invalid shape")
    if math.prod(size for size in sizes if size) * dtype.itemsize > max(size_bytes, 2**20 if 0 in sizes else 0):
        raise ValueError(f"an array claims shape {tuple(sizes)}, but has {size_bytes} bytes")
    if strides is None and math.prod(sizes) * dtype.itemsize != size_bytes:
        raise ValueError(f"an array claims shape {tuple(sizes)} of {dtype}, but has {size_bytes} bytes")
    if 0 in sizes:
        content, strides, offset = b"", None, 0
    array: NDArray[np.generic] = np.ndarray(
        sizes, dtype, buffer=content, offset=offset, strides=strides, order="F" if fortran else "C"
    )
    array.flags.writeable = False
    return array


class _Machine:
    """The state while one stream is read: a stack, the stacks below its open marks, and a memo."""

    def __init__(
        self,
        data: bytes,
        source: str,
        constructors: Mapping[str, Constructor],
        persistent_load: Callable[[object], object] | None,
        offset: int,
    ) -> None:
        self.data, self.source = data, source
        self.constructors, self.persistent_load = constructors, persistent_load
        self.at = self.start = self.opcode_at = offset
        self.stack: list[object] = []
        self.below: list[list[object]] = []
        self.memo: list[object] = []  # by number, as long as the numbers have no long gaps
        self.sparse_memo: dict[int, object] = {}
        self.memo_size = 0
        self.globals: dict[tuple[str, str], GlobalName] = {}
        self.built: dict[Record, object] = {}  # values of the records that a BUILD completed
        self.nested: dict[int, tuple[tuple[object, ...], int, int]] = {}  # tuples of tuples: depth and items reached
        self.text_bytes = self.taken_bytes = 0

    def run(self) -> object:
        """Execute opcodes until STOP."""
        data, opcodes = self.data, _OPCODES
        try:
            for _ in range(MAX_OPCODES):
                self.opcode_at = at = self.at
                opcode = data[at]
                self.at = at + 1
                if opcode == 0x2E:  # STOP
                    return self.stack.pop()
                opcodes[opcode](self)
        except IndexError:  # raised by the data or by the stack
            raise (
                self.ended() if self.at >= len(data) else self.damaged("an opcode needs more values than the stack has")
            ) from None
        except ValueError as error:
            raise self.damaged(str(error)[:300]) from None
        raise self.beyond(f"{MAX_OPCODES} opcodes")

    def ended(self) -> ForeignModelError:
        return ForeignModelError(
            f"{self.source}: the pickle ends too early (at byte {len(self.data)}): copy or download it again"
        )

    def damaged(self, what: str) -> ForeignModelError:
        return ForeignModelError(f"{self.source} is damaged at byte {self.opcode_at}: {what}")

    def beyond(self, limit: str) -> ForeignModelError:
        return ForeignModelError(
            f"{self.source} has more than {limit} (at byte {self.opcode_at}), which no saved model needs"
        )

    # Reading arguments

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise self.ended()
        chunk = self.data[self.at : end]
        self.at = end
        return chunk

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def content(self, count: int) -> bytes:
        chunk = self.take(count)
        self.text_bytes += count
        if self.text_bytes > MAX_STRING_BYTES:
            raise self.beyond(f"{MAX_STRING_BYTES} bytes of strings")
        return chunk

    def line(self, longest: int = MAX_STRING_BYTES) -> bytes:
        end = self.data.find(b"\n", self.at, self.at + longest + 1)
        if end < 0:
            raise self.ended() if len(self.data) - self.at <= longest else ValueError("a line is too long")
        line = self.content(end - self.at)
        self.at += 1
        return line

    def index(self) -> int:
        line = self.line(MAX_NUMBER_BYTES)
        if len(line) > 10 or not line.isdigit():
            raise ValueError("the number of a memo entry is invalid")
        return int(line)

    # Values

    def takes(self, size_bytes: int) -> None:
        """Count the memory of a value."""
        self.taken_bytes += size_bytes
        if self.taken_bytes > FREE_BYTES + FREE_BYTES_PER_BYTE * (self.at - self.start):
            raise self.beyond(f"{FREE_BYTES_PER_BYTE} bytes of values for each of its own bytes")

    def key(self, value: object) -> object:
        """Return a value as a key of a dict or a member of a set.

        A tuple becomes a record, and numbers of more than 64 bits are refused. An attacker can choose such tuples and
        numbers so that all have the same hash, and a dict of them takes quadratic time.
        """
        kind = type(value)
        if kind in _PLAIN_KEYS or (kind is int and abs(value) < 2**64):  # type: ignore[arg-type]
            return value
        if isinstance(value, tuple | frozenset):
            return Record(GlobalName("builtins", kind.__name__), (value,))
        what = "a number of more than 64 bits" if kind is int else f"a value of type {kind.__name__}"
        raise ValueError(f"{what} can't be a key")

    def push_tuple(self, items: list[object]) -> None:
        value = tuple(items)
        self.takes(_TUPLE_BYTES + 8 * len(value))
        depth, reached = 1, len(value)
        for item in items:
            if type(item) is tuple and item:
                _, inner_depth, inner_reached = self.nested.get(id(item), (item, 1, len(item)))
                depth, reached = max(depth, inner_depth + 1), reached + inner_reached
        if depth > 1:
            if depth > MAX_TUPLE_DEPTH or reached > MAX_NESTED_TUPLE_ITEMS:
                raise self.beyond(
                    f"{MAX_TUPLE_DEPTH} levels of tuples, or {MAX_NESTED_TUPLE_ITEMS} items in nested tuples"
                )
            self.takes(_NESTED_TUPLE_BYTES)
            self.nested[id(value)] = (value, depth, reached)
        self.stack.append(value)

    def push_last(self, count: int) -> None:
        items = self.stack[-count:]
        if len(items) < count:
            raise ValueError("a tuple has too few items")
        del self.stack[-count:]
        self.push_tuple(items)

    def new_list(self) -> None:
        self.takes(_LIST_BYTES)
        self.stack.append([])

    def new_dict(self) -> None:
        self.takes(_DICT_BYTES)
        self.stack.append({})

    def push_list(self, items: list[object]) -> None:
        self.takes(_LIST_BYTES)
        self.stack.append(items)

    def push_dict(self, items: list[object]) -> None:
        self.new_dict()
        self.set_items(items)

    def push_frozenset(self, items: list[object]) -> None:
        self.stack.append(self.new_frozenset(items))

    def global_name(self, module: object, name: object) -> GlobalName:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("the name of a global is not a string")
        found = self.globals.get((module, name))
        if found is None:
            if len(self.globals) >= MAX_GLOBALS:
                raise self.beyond(f"{MAX_GLOBALS} different globals")
            found = self.globals[module, name] = GlobalName(module, name)
        return found

    def line_name(self) -> GlobalName:
        return self.global_name(self.line().decode(), self.line().decode())

    def call(self, function: object, arguments: object, keywords: object = None) -> None:
        """Push the result of a call: a value that a constructor builds, or a record of the call."""
        if not isinstance(function, GlobalName | Record):
            raise ValueError(f"a value of type {type(function).__name__} can't be called")
        keywords = {} if keywords is None else keywords
        if not (isinstance(arguments, tuple) and isinstance(keywords, dict)):
            raise ValueError("the arguments of a call are not a tuple and a dict")
        value: object = NotImplemented
        if isinstance(function, GlobalName) and not keywords and len(arguments) < 16:  # passing more would take time
            if function.path in _CONSTRUCTORS:
                value = _CONSTRUCTORS[function.path](self, *arguments)
            elif function.path in self.constructors:
                value = self.constructors[function.path](*arguments)
        if value is NotImplemented:
            self.takes(_RECORD_BYTES)
            value = Record(function, arguments, keywords) if keywords else Record(function, arguments)
        self.stack.append(value)

    # Constructors of known names

    def dict_of(self, *arguments: object) -> object:
        match arguments:
            case ():
                return {}
            case (dict() as pairs,):
                return pairs
            case (list() as pairs,):
                self.takes(_DICT_BYTES + _FILLED_DICT_BYTES + 128 * len(pairs))
                if all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
                    return {self.key(key): value for key, value in pairs}
        return NotImplemented

    def new_set(self, *arguments: object) -> object:
        match arguments:
            case () | ([],):
                self.takes(_SET_BYTES)
                return set()
            case (list() as items,):
                self.takes(_SET_BYTES + 64 * len(items))
                return set(map(self.key, items))
        return NotImplemented

    def new_frozenset(self, *arguments: object) -> object:
        members = self.new_set(*arguments)
        return frozenset(members) if isinstance(members, set) else NotImplemented

    def no_bytes(self, *arguments: object) -> object:
        return NotImplemented if arguments else b""

    def encoded(self, *arguments: object) -> object:
        """Return the bytes that a string encodes as Latin-1. Protocol 2 has no other way to write bytes."""
        match arguments:
            case (str() as text, str() as encoding) if encoding in {"latin1", "latin-1"}:
                self.takes(len(text))
                return text.encode("latin-1")
        return NotImplemented

    def numpy_dtype(self, record: Record, state: object) -> object:
        match record.arguments, state:
            case (str() as name, *_), (_, str() as order, None, None, None, *_) if order in {"<", ">", "|", "="}:
                if re.fullmatch(r"b1|[iu][1248]|f[248]|O8?|[US][1-9]\d{0,6}", name):
                    return np.dtype(order + name)
        return NotImplemented

    def numpy_array(self, record: Record, state: object) -> object:
        match record.arguments, state:
            case (GlobalName("numpy", "ndarray"), *_), (_, *array):
                return self.array(*array)
        return NotImplemented

    def array(self, *arguments: object) -> object:
        match arguments:
            case ((int() as length,), np.dtype(kind="O"), _, list() as items) if len(items) == length:
                return items
            case (tuple() as shape, np.dtype() as dtype, fortran, bytes() | str() as content) if dtype.kind != "O":
                content = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
                self.takes(len(content))
                _check_items(content, dtype)
                return array_from(content, dtype, shape, fortran=fortran is True)
        return NotImplemented

    def numpy_buffer(self, *arguments: object) -> object:
        match arguments:
            case (content, dtype, shape, str() as order):
                return self.array(shape, dtype, order == "F", content)
        return NotImplemented

    def numpy_scalar(self, *arguments: object) -> object:
        match arguments:
            case (dtype, content):
                array = self.array((), dtype, False, content)
                return array.item() if isinstance(array, np.ndarray) else NotImplemented
        return NotImplemented

    # Opcodes

    def mark(self) -> None:
        self.takes(_LIST_BYTES)
        self.below.append(self.stack)
        self.stack = []

    def to_mark(self) -> list[object]:
        items, self.stack = self.stack, self.below.pop()
        self.taken_bytes -= _LIST_BYTES
        return items

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.to_mark()

    def put(self, index: int) -> None:
        value, gap = self.stack[-1], index - len(self.memo)
        if gap == 0:
            self.memo.append(value)
            self.memo_size += 1
        elif gap < 0:
            self.memo_size += self.memo[index] is _UNUSED
            self.memo[index] = value
        elif gap <= _LONGEST_GAP:
            self.takes(8 * gap)
            self.memo += [_UNUSED] * gap
            self.memo.append(value)
            self.memo_size += 1
        else:
            self.takes(_MEMO_BYTES)
            self.memo_size += index not in self.sparse_memo
            self.sparse_memo[index] = value
        if self.memo_size > MAX_MEMO_ENTRIES:
            raise self.beyond(f"{MAX_MEMO_ENTRIES} memo entries")

    def get(self, index: int) -> None:
        value = self.memo[index] if index < len(self.memo) else _UNUSED
        if value is _UNUSED:
            value = self.sparse_memo.get(index, _UNUSED)
        if value is _UNUSED:
            raise ValueError(f"the memo has no entry {index}")
        self.stack.append(self.built.get(value, value) if type(value) is Record else value)

    def put_byte(self) -> None:
        index = self.data[self.at]
        self.at += 1
        self.put(index)

    def get_byte(self) -> None:
        index = self.data[self.at]
        self.at += 1
        self.get(index)

    def push_byte(self) -> None:
        self.stack.append(self.data[self.at])
        self.at += 1

    def push_text(self, count: int) -> None:
        self.stack.append(self.content(count).decode("utf-8", "surrogatepass"))

    def push_old_text(self, content: bytes) -> None:
        """Push a string of Python 2, which had one type for text and bytes. Valid UTF-8 is taken as text."""
        try:
            self.stack.append(content.decode())
        except UnicodeDecodeError:
            self.stack.append(content)

    def push_quoted(self) -> None:
        line = self.line().strip()
        if len(line) < 2 or line[:1] not in {b"'", b'"'} or line[:1] != line[-1:]:
            raise ValueError("a string is not quoted")
        self.push_old_text(re.sub(rb"(?s)\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", _unescaped, line[1:-1]))

    def push_integer(self, size_bytes: int) -> None:
        if size_bytes > MAX_NUMBER_BYTES:
            raise self.beyond(f"{MAX_NUMBER_BYTES} bytes in a number")
        self.stack.append(int.from_bytes(self.take(size_bytes), "little", signed=True))

    def push_written_integer(self) -> None:
        line = self.line(MAX_NUMBER_BYTES)
        self.stack.append({b"00": False, b"01": True}[line] if line in {b"00", b"01"} else int(line.rstrip(b"L"), 0))

    def push_float(self) -> None:
        self.stack.append(struct.unpack(">d", self.take(8))[0])

    def append(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list | Record):
            raise ValueError(f"items can't be appended to a value of type {type(target).__name__}")
        if isinstance(target, Record):
            target.items = _extended(target.items, items)
        else:
            target.extend(items)

    def set_items(self, items: list[object]) -> None:
        target = self.stack[-1]
        if len(items) % 2:
            raise ValueError("a key has no value")
        pairs = zip(items[::2], items[1::2], strict=True)
        if isinstance(target, Record):
            self.takes(_TUPLE_BYTES * len(items) // 2)
            target.pairs = _extended(target.pairs, pairs)
        elif isinstance(target, dict):
            if not target and items:
                self.takes(_FILLED_DICT_BYTES)
            for key, value in pairs:
                target[key if type(key) is str else self.key(key)] = value
        else:
            raise ValueError(f"keys can't be set in a value of type {type(target).__name__}")

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def add_items(self) -> None:
        items = self.to_mark()
        target = self.stack[-1]
        if not isinstance(target, set):
            raise ValueError(f"members can't be added to a value of type {type(target).__name__}")
        target.update(map(self.key, items))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state
            name = target.function.path if isinstance(target.function, GlobalName) else ""
            complete = _STATE_CONSTRUCTORS.get(name)
            value = complete(self, target, state) if complete else NotImplemented
            if value is not NotImplemented:
                self.built[target] = self.stack[-1] = value
        elif not isinstance(target, dict | np.ndarray):  # attributes of dicts and arrays are ignored
            raise ValueError(f"a value of type {type(target).__name__} can't have a state")

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.call(function, arguments)

    def new_with_keywords(self) -> None:
        keywords, arguments, function = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.call(function, arguments, keywords)

    def instance(self) -> None:
        function = self.line_name()
        self.call(function, tuple(self.to_mark()))

    def marked_instance(self) -> None:
        function, *arguments = self.to_mark() or [None]
        self.call(function, tuple(arguments))

    def stack_name(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(self.global_name(module, name))

    def push_persistent(self, persistent_id: object) -> None:
        if self.persistent_load is None:
            raise ForeignModelError(
                f"{self.source} refers to data outside the file (at byte {self.opcode_at}), expected a file that "
                "torch.save or pickle.dump wrote"
            )
        self.stack.append(self.persistent_load(persistent_id))

    def protocol(self) -> None:
        number = self.number(1)
        if number > 5:
            raise ForeignModelError(f"{self.source} has pickle protocol {number}, expected at most 5")

    def frame(self) -> None:
        if self.number(8) > len(self.data) - self.at:
            raise self.ended()

    def outside(self) -> None:
        raise ForeignModelError(
            f"{self.source} uses an extension code or a buffer outside the stream (at byte {self.opcode_at}), which "
            "only the program that wrote it has"
        )

    def unknown(self) -> None:
        raise ValueError(f"0x{self.data[self.opcode_at]:02x} is not an opcode of pickle")


_CONSTRUCTORS: Mapping[str, Constructor] = {
    "_codecs.encode": _Machine.encoded,
    "collections.OrderedDict": _Machine.dict_of,
    "collections.Counter": _Machine.dict_of,
    "collections.defaultdict": lambda machine, *arguments: machine.dict_of(*arguments[1:]),
    "builtins.bytes": _Machine.no_bytes,
    "builtins.set": _Machine.new_set,
    "builtins.frozenset": _Machine.new_frozenset,
    "__builtin__.bytes": _Machine.no_bytes,
    "__builtin__.set": _Machine.new_set,
    "__builtin__.frozenset": _Machine.new_frozenset,
    "numpy.core.multiarray.scalar": _Machine.numpy_scalar,
    "numpy._core.multiarray.scalar": _Machine.numpy_scalar,
    "numpy.core.numeric._frombuffer": _Machine.numpy_buffer,
    "numpy._core.numeric._frombuffer": _Machine.numpy_buffer,
}
"""Names whose calls are carried out here. Python 2 and numpy 1 had other names for some of them."""
_STATE_CONSTRUCTORS: Mapping[str, Callable[[_Machine, Record, object], object]] = {
    "numpy.dtype": _Machine.numpy_dtype,
    "numpy.core.multiarray._reconstruct": _Machine.numpy_array,
    "numpy._core.multiarray._reconstruct": _Machine.numpy_array,
}
"""Names whose calls are carried out here once their state is known."""
_PLAIN_KEYS = {str, bytes, float, bool, type(None), GlobalName, Record}
_ESCAPES = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v", b"\n": b""}


def _extended(known: Sequence[_Item], more: Iterable[_Item]) -> list[_Item]:
    """Return a list with more items. The list of a record is only created when it has items."""
    extended = known if isinstance(known, list) else []
    extended.extend(more)
    return extended


def _unescaped(found: re.Match[bytes]) -> bytes:
    escape = found[1]
    if escape[:1] == b"x" and len(escape) == 3:
        return bytes.fromhex(escape[1:].decode())
    if escape[:1].isdigit() and escape[0] < 0x38:
        return bytes([int(escape, 8) % 256])
    return _ESCAPES.get(escape, escape if escape in {b"\\", b"'", b'"'} else b"\\" + escape)


def _check_items(content: bytes, dtype: np.dtype[np.generic]) -> None:
    """Refuse bytes that are not booleans or characters, which numpy would notice only when such an item is used."""
    if dtype.kind == "b" and content and np.frombuffer(content, np.uint8).max() > 1:
        raise ValueError("a boolean is neither 0 nor 1")
    if dtype.kind == "U" and content and np.frombuffer(content, f"{dtype.byteorder}u4").max() > 0x10FFFF:
        raise ValueError("a character is not valid Unicode")


_OPCODES: list[Callable[[_Machine], None]] = [_Machine.unknown] * 256
"""The function of each opcode, by its byte. The comments name the opcodes as the pickle format does."""
for _opcode, _function in {
    b"\x80": _Machine.protocol,  # PROTO
    b"\x95": _Machine.frame,  # FRAME
    b"(": _Machine.mark,  # MARK
    b"0": _Machine.pop,  # POP
    b"1": _Machine.to_mark,  # POP_MARK
    b"2": lambda machine: machine.stack.append(machine.stack[-1]),  # DUP
    # Memo
    b"p": lambda machine: machine.put(machine.index()),  # PUT
    b"q": _Machine.put_byte,  # BINPUT
    b"r": lambda machine: machine.put(machine.number(4)),  # LONG_BINPUT
    b"\x94": lambda machine: machine.put(machine.memo_size),  # MEMOIZE
    b"g": lambda machine: machine.get(machine.index()),  # GET
    b"h": _Machine.get_byte,  # BINGET
    b"j": lambda machine: machine.get(machine.number(4)),  # LONG_BINGET
    # Constants and numbers
    b"N": lambda machine: machine.stack.append(None),  # NONE
    b"\x88": lambda machine: machine.stack.append(True),  # NEWTRUE
    b"\x89": lambda machine: machine.stack.append(False),  # NEWFALSE
    b"I": _Machine.push_written_integer,  # INT
    b"L": _Machine.push_written_integer,  # LONG
    b"K": _Machine.push_byte,  # BININT1
    b"M": lambda machine: machine.stack.append(machine.number(2)),  # BININT2
    b"J": lambda machine: machine.push_integer(4),  # BININT
    b"\x8a": lambda machine: machine.push_integer(machine.number(1)),  # LONG1
    b"\x8b": lambda machine: machine.push_integer(machine.number(4)),  # LONG4
    b"F": lambda machine: machine.stack.append(float(machine.line(MAX_NUMBER_BYTES))),  # FLOAT
    b"G": _Machine.push_float,  # BINFLOAT
    # Text and bytes
    b"V": lambda machine: machine.stack.append(machine.line().decode("raw-unicode-escape")),  # UNICODE
    b"\x8c": lambda machine: machine.push_text(machine.number(1)),  # SHORT_BINUNICODE
    b"X": lambda machine: machine.push_text(machine.number(4)),  # BINUNICODE
    b"\x8d": lambda machine: machine.push_text(machine.number(8)),  # BINUNICODE8
    b"C": lambda machine: machine.stack.append(machine.content(machine.number(1))),  # SHORT_BINBYTES
    b"B": lambda machine: machine.stack.append(machine.content(machine.number(4))),  # BINBYTES
    b"\x8e": lambda machine: machine.stack.append(machine.content(machine.number(8))),  # BINBYTES8
    b"\x96": lambda machine: machine.stack.append(machine.content(machine.number(8))),  # BYTEARRAY8
    b"S": _Machine.push_quoted,  # STRING
    b"U": lambda machine: machine.push_old_text(machine.content(machine.number(1))),  # SHORT_BINSTRING
    b"T": lambda machine: machine.push_old_text(machine.content(machine.number(4))),  # BINSTRING
    # Containers
    b")": lambda machine: machine.stack.append(()),  # EMPTY_TUPLE
    b"]": _Machine.new_list,  # EMPTY_LIST
    b"}": _Machine.new_dict,  # EMPTY_DICT
    b"\x8f": lambda machine: machine.stack.append(machine.new_set()),  # EMPTY_SET
    b"t": lambda machine: machine.push_tuple(machine.to_mark()),  # TUPLE
    b"\x85": lambda machine: machine.push_last(1),  # TUPLE1
    b"\x86": lambda machine: machine.push_last(2),  # TUPLE2
    b"\x87": lambda machine: machine.push_last(3),  # TUPLE3
    b"l": lambda machine: machine.push_list(machine.to_mark()),  # LIST
    b"d": lambda machine: machine.push_dict(machine.to_mark()),  # DICT
    b"\x91": lambda machine: machine.push_frozenset(machine.to_mark()),  # FROZENSET
    b"a": lambda machine: machine.append([machine.stack.pop()]),  # APPEND
    b"e": lambda machine: machine.append(machine.to_mark()),  # APPENDS
    b"s": _Machine.set_item,  # SETITEM
    b"u": lambda machine: machine.set_items(machine.to_mark()),  # SETITEMS
    b"\x90": _Machine.add_items,  # ADDITEMS
    # Names and calls
    b"c": lambda machine: machine.stack.append(machine.line_name()),  # GLOBAL
    b"\x93": _Machine.stack_name,  # STACK_GLOBAL
    b"R": _Machine.reduce,  # REDUCE
    b"\x81": _Machine.reduce,  # NEWOBJ
    b"\x92": _Machine.new_with_keywords,  # NEWOBJ_EX
    b"i": _Machine.instance,  # INST
    b"o": _Machine.marked_instance,  # OBJ
    b"b": _Machine.build,  # BUILD
    # Data outside the stream
    b"P": lambda machine: machine.push_persistent(machine.line().decode()),  # PERSID
    b"Q": lambda machine: machine.push_persistent(machine.stack.pop()),  # BINPERSID
    b"\x82": _Machine.outside,  # EXT1
    b"\x83": _Machine.outside,  # EXT2
    b"\x84": _Machine.outside,  # EXT4
    b"\x97": _Machine.outside,  # NEXT_BUFFER
    b"\x98": _Machine.outside,  # READONLY_BUFFER
}.items():
    _OPCODES[_opcode[0]] = _function
