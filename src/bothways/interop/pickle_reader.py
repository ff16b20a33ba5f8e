r"""Read the data that a pickle stream describes, and call nothing that it names.

In: the bytes of a pickle, protocol 0 to 5. Out: plain values, and inert records of everything else. A stream is a
program for a stack machine; its only dangerous instructions look a name up and call what they find. Here a name stays
a ``Name``, and a call becomes a ``Record`` of what would have been called, except for the closed list of names in
``_CLOSED_LIST``, whose values are made by functions of this module.

Any input ends in a value or in one error, in time and memory bounded by the input's size and the limits below. No step
recurses, so a value may be nested to any depth (tuples excepted: ``DEEPEST_TUPLE``), may hold the same object many
times, and may hold itself: whoever walks one must walk with care. What the records mean, the caller knows.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bothways.errors import ForeignModelError

MOST_STEPS: Final = 10_000_000
"""Instructions in a stream. The largest exports of fastai have fewer than 5 million; each makes at most one object."""
MOST_REMEMBERED: Final = 4_000_000
"""Entries of the memo. Writers number at most every second object."""
MOST_TEXT_BYTES: Final = 512 * 2**20
"""Bytes in all strings of a stream together: word vectors and raw texts may be pickled along."""
MOST_NAMES: Final = 100_000
"""Different globals in a stream; an export has some hundred."""
LONGEST_NUMBER: Final = 1000
"""Bytes of a binary integer, characters of a written number: longer ones take quadratic time."""
DEEPEST_TUPLE: Final = 100
"""Tuples inside each other, for hashing and comparing them recurses in C, where too deep is a crash."""
LARGEST_TUPLE: Final = 1_000_000
"""Items of a tuple of tuples when all are counted as often as they are reached, as hashing it would."""
FREE_COPY_BYTES: Final = 64 * 2**20
"""What the closed list may copy (sets, decoded bytes, arrays) beyond four times the bytes read so far."""
MOST_DIMENSIONS: Final = 32

Maker = Callable[..., object]
"""Makes the value of a known name. It gets the stream's arguments, whatever their number and types. It gives
``NotImplemented`` for those that it does not understand (a record is kept), and raises ``ValueError`` with what is
wrong for those that can't be true."""


@dataclass(frozen=True, slots=True)
class Name:
    """A global that the stream names; it is never looked up or imported."""

    module: str
    name: str

    @property
    def path(self) -> str:
        """Module and name with a dot between."""
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True, repr=False)
class Record:
    """What the stream says would be made by calling something; nothing was called.

    Attributes:
        maker: What would be called, mostly a ``Name``.
        arguments: Its positional arguments.
        keywords: Its keyword arguments; classes with ``__getnewargs_ex__`` have some.
        state: What would become its ``__dict__``, or go to its ``__setstate__``; the last one, if there are several.
        items: What would be appended to it.
        pairs: What would be stored in it by key, in order.
    """

    maker: object
    arguments: tuple[object, ...]
    keywords: dict[str, object] = field(default_factory=dict)
    state: object = None
    items: list[object] = field(default_factory=list)
    pairs: list[tuple[object, object]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The dotted path of the class or function that makes it, or "" where that is itself a record."""
        if not isinstance(self.maker, Name):
            return ""
        if self.maker.path in _CLASS_FIRST and self.arguments and isinstance(self.arguments[0], Name):
            return self.arguments[0].path
        return self.maker.path

    def __repr__(self) -> str:
        return f"<record of {self.name!r}>"  # never its contents: they may be endless


_CLASS_FIRST = {f"{module}.{name}" for module in ("copyreg", "copy_reg") for name in ("_reconstructor", "__newobj__")}
_CLASS_FIRST.add("copyreg.__newobj_ex__")


def read_pickle(
    data: bytes | memoryview,
    source: str,
    *,
    makers: Mapping[str, Maker] | None = None,
    persistent: Callable[[object], object] | None = None,
    offset: int = 0,
) -> tuple[object, int]:
    """Return the value that a pickle describes, and the offset of the first byte after it.

    Args:
        data: The pickle, maybe with more around it.
        source: What it is called in messages.
        makers: More names that are known, by dotted path.
        persistent: Gives the value of a persistent id; raises ``ValueError`` with what is wrong. Without it such ids
            are an error.
        offset: Where the pickle begins in ``data``.

    Raises:
        ForeignModelError: The pickle is damaged, cut short, beyond a limit of this module, or uses what only a running
            program could give (extension codes, buffers outside the stream).
    """
    data = data if isinstance(data, bytes) else bytes(data)
    machine = _Machine(data, source, makers or {}, persistent, offset)
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
    """Return a read-only array over existing bytes; no shape can make it larger than they are.

    Args:
        content: The bytes.
        dtype: Of at least one byte an item.
        shape: As a stream claims it.
        strides: In bytes; without them ``content`` must be exactly filled.
        offset: Of the first item, in bytes.
        fortran: Whether the first index runs fastest, where there are no strides.

    Raises:
        ValueError: The shape is none, or does not fit the bytes.
    """
    size_bytes = content.nbytes if isinstance(content, np.ndarray) else len(content)
    sizes = [size for size in shape[: MOST_DIMENSIONS + 1] if type(size) is int and size >= 0]
    if len(sizes) != len(shape) or len(sizes) > MOST_DIMENSIONS:
        raise ValueError("the shape of an array is not one")
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
    """One run over one stream: a stack, the stacks below its open marks, and a memo."""

    def __init__(
        self,
        data: bytes,
        source: str,
        makers: Mapping[str, Maker],
        persistent: Callable[[object], object] | None,
        offset: int,
    ) -> None:
        self.data, self.source, self.makers, self.persistent = data, source, makers, persistent
        self.at = self.began = self.step_at = offset
        self.stack: list[object] = []
        self.below: list[list[object]] = []
        self.memo: dict[int, object] = {}
        self.names: dict[tuple[str, str], Name] = {}
        self.built: dict[Record, object] = {}  # what became of records that a BUILD completed
        self.nested: dict[int, tuple[tuple[object, ...], int, int]] = {}  # tuples of tuples: depth, items reached
        self.text_bytes = self.copied_bytes = 0

    def run(self) -> object:
        """Take steps until STOP."""
        data, steps = self.data, _STEPS
        try:
            for _ in range(MOST_STEPS):
                self.step_at = at = self.at
                opcode = data[at]
                self.at = at + 1
                if opcode == 0x2E:  # STOP
                    return self.stack.pop()
                steps[opcode](self)
        except IndexError:  # of the data, or of the stack
            raise (
                self.ended() if self.at >= len(data) else self.damaged("a step finds too little to work on")
            ) from None
        except ValueError as error:
            raise self.damaged(str(error)[:300]) from None
        raise self.beyond(f"{MOST_STEPS} steps")

    def ended(self) -> ForeignModelError:
        return ForeignModelError(
            f"{self.source}: the pickle ends in the middle (at byte {len(self.data)}): copy or download it again"
        )

    def damaged(self, what: str) -> ForeignModelError:
        return ForeignModelError(f"{self.source} is damaged at byte {self.step_at}: {what}")

    def beyond(self, limit: str) -> ForeignModelError:
        return ForeignModelError(
            f"{self.source} has more than {limit} (at byte {self.step_at}), which no saved model needs: not imported"
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
        if self.text_bytes > MOST_TEXT_BYTES:
            raise self.beyond(f"{MOST_TEXT_BYTES} bytes of strings")
        return chunk

    def line(self, longest: int = MOST_TEXT_BYTES) -> bytes:
        end = self.data.find(b"\n", self.at, self.at + longest + 1)
        if end < 0:
            raise self.ended() if len(self.data) - self.at <= longest else ValueError("a line is too long")
        line = self.content(end - self.at)
        self.at += 1
        return line

    def index(self) -> int:
        line = self.line(LONGEST_NUMBER)
        if len(line) > 10 or not line.isdigit():
            raise ValueError("the number of a memo entry is not one")
        return int(line)

    # Values

    def copies(self, size_bytes: int) -> None:
        self.copied_bytes += size_bytes
        if self.copied_bytes > FREE_COPY_BYTES + 4 * (self.at - self.began):
            raise self.beyond(f"{FREE_COPY_BYTES} bytes of copied values")

    def key(self, value: object) -> object:
        """Return a value as a key of a dict or member of a set.

        A tuple becomes a record of it: a stranger can choose tuples of numbers that all have the same hash, or such
        large numbers, and a dict of those takes quadratic time.
        """
        kind = type(value)
        if kind in _PLAIN_KEYS or (kind is int and abs(value) < 2**64):  # type: ignore[arg-type]
            return value
        if isinstance(value, tuple | frozenset):
            return Record(Name("builtins", kind.__name__), (value,))
        what = "a number of more than 64 bits" if kind is int else f"a value of type {kind.__name__}"
        raise ValueError(f"{what} can't be a key")

    def push_tuple(self, items: list[object]) -> None:
        value = tuple(items)
        depth, reached = 1, len(value)
        for item in items:
            if type(item) is tuple:
                _, inner_depth, inner_reached = self.nested.get(id(item), (item, 1, len(item)))
                depth, reached = max(depth, inner_depth + 1), reached + inner_reached
        if depth > 1:
            if depth > DEEPEST_TUPLE or reached > LARGEST_TUPLE:
                raise self.beyond(f"{DEEPEST_TUPLE} tuples, or {LARGEST_TUPLE} items, inside each other")
            self.nested[id(value)] = (value, depth, reached)
        self.stack.append(value)

    def push_last(self, count: int) -> None:
        items = self.stack[-count:]
        if len(items) < count:
            raise ValueError("a tuple has too few items")
        del self.stack[-count:]
        self.push_tuple(items)

    def push_list(self, items: list[object]) -> None:
        self.stack.append(items)

    def push_dict(self, items: list[object]) -> None:
        self.stack.append({})
        self.set_items(items)

    def push_frozenset(self, items: list[object]) -> None:
        self.stack.append(self.new_frozenset(items))

    def name(self, module: object, name: object) -> Name:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a global is named by something other than strings")
        found = self.names.get((module, name))
        if found is None:
            if len(self.names) >= MOST_NAMES:
                raise self.beyond(f"{MOST_NAMES} different globals")
            found = self.names[module, name] = Name(module, name)
        return found

    def line_name(self) -> Name:
        return self.name(self.line().decode(), self.line().decode())

    def call(self, maker: object, arguments: object, keywords: object = None) -> None:
        """Push what calling the maker would give: a value of the closed list, or a record."""
        if not isinstance(maker, Name | Record):
            raise ValueError(f"a value of type {type(maker).__name__} can't be called")
        keywords = {} if keywords is None else keywords
        if not (isinstance(arguments, tuple) and isinstance(keywords, dict)):
            raise ValueError("the arguments of a call are not a tuple and a dict")
        value: object = NotImplemented
        if isinstance(maker, Name) and not keywords and len(arguments) < 16:  # so that passing them takes no time
            if maker.path in _CLOSED_LIST:
                value = _CLOSED_LIST[maker.path](self, *arguments)
            elif maker.path in self.makers:
                value = self.makers[maker.path](*arguments)
        self.stack.append(Record(maker, arguments, keywords) if value is NotImplemented else value)

    # The closed list

    def dict_of(self, *arguments: object) -> object:
        match arguments:
            case ():
                return {}
            case (dict() as pairs,):
                return pairs
            case (list() as pairs,):
                self.copies(128 * len(pairs))
                if all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
                    return {self.key(key): value for key, value in pairs}
        return NotImplemented

    def new_set(self, *arguments: object) -> object:
        match arguments:
            case () | ([],):
                self.copies(256)
                return set()
            case (list() as items,):
                self.copies(256 + 64 * len(items))
                return set(map(self.key, items))
        return NotImplemented

    def new_frozenset(self, *arguments: object) -> object:
        members = self.new_set(*arguments)
        return frozenset(members) if isinstance(members, set) else NotImplemented

    def no_bytes(self, *arguments: object) -> object:
        return NotImplemented if arguments else b""

    def encoded(self, *arguments: object) -> object:
        """Return bytes from the text of the same characters: protocol 2 has no other way to write them."""
        match arguments:
            case (str() as text, str() as encoding) if encoding in {"latin1", "latin-1"}:
                self.copies(len(text))
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
            case (Name("numpy", "ndarray"), *_), (_, *array):
                return self.array(*array)
        return NotImplemented

    def array(self, *arguments: object) -> object:
        match arguments:
            case ((int() as length,), np.dtype(kind="O"), _, list() as items) if len(items) == length:
                return items
            case (tuple() as shape, np.dtype() as dtype, fortran, bytes() | str() as content) if dtype.kind != "O":
                content = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
                self.copies(len(content))
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

    # The steps

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def to_mark(self) -> list[object]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.to_mark()

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]
        if len(self.memo) > MOST_REMEMBERED:
            raise self.beyond(f"{MOST_REMEMBERED} remembered values")

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise ValueError(f"nothing was remembered as number {index}")
        value = self.memo[index]
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
        """Python 2 had one type for text and bytes: what is UTF-8 is text."""
        try:
            self.stack.append(content.decode())
        except UnicodeDecodeError:
            self.stack.append(content)

    def push_quoted(self) -> None:
        line = self.line().strip()
        if len(line) < 2 or line[:1] not in {b"'", b'"'} or line[:1] != line[-1:]:
            raise ValueError("a string is not in quotes")
        self.push_old_text(re.sub(rb"(?s)\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", _unescaped, line[1:-1]))

    def push_integer(self, size_bytes: int) -> None:
        if size_bytes > LONGEST_NUMBER:
            raise self.beyond(f"{LONGEST_NUMBER} bytes in a number")
        self.stack.append(int.from_bytes(self.take(size_bytes), "little", signed=True))

    def push_written_integer(self) -> None:
        line = self.line(LONGEST_NUMBER)
        self.stack.append({b"00": False, b"01": True}[line] if line in {b"00", b"01"} else int(line.rstrip(b"L"), 0))

    def push_float(self) -> None:
        self.stack.append(struct.unpack(">d", self.take(8))[0])

    def append(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list | Record):
            raise ValueError(f"items are appended to a value of type {type(target).__name__}")
        (target.items if isinstance(target, Record) else target).extend(items)

    def set_items(self, items: list[object]) -> None:
        target = self.stack[-1]
        if len(items) % 2:
            raise ValueError("a key has no value")
        pairs = zip(items[::2], items[1::2], strict=True)
        if isinstance(target, Record):
            target.pairs.extend(pairs)
        elif isinstance(target, dict):
            for key, value in pairs:
                target[key if type(key) is str else self.key(key)] = value
        else:
            raise ValueError(f"keys are set in a value of type {type(target).__name__}")

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def add_items(self) -> None:
        items = self.to_mark()
        target = self.stack[-1]
        if not isinstance(target, set):
            raise ValueError(f"members are added to a value of type {type(target).__name__}")
        target.update(map(self.key, items))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state
            complete = _COMPLETED_BY_STATE.get(target.maker.path) if isinstance(target.maker, Name) else None
            value = complete(self, target, state) if complete else NotImplemented
            if value is not NotImplemented:
                self.built[target] = self.stack[-1] = value
        elif not isinstance(target, dict | np.ndarray):  # those two may have attributes, which are left out
            raise ValueError(f"a state is given to a value of type {type(target).__name__}")

    def reduce(self) -> None:
        arguments, maker = self.stack.pop(), self.stack.pop()
        self.call(maker, arguments)

    def new_with_keywords(self) -> None:
        keywords, arguments, maker = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.call(maker, arguments, keywords)

    def instance(self) -> None:
        maker = self.line_name()
        self.call(maker, tuple(self.to_mark()))

    def marked_instance(self) -> None:
        maker, *arguments = self.to_mark() or [None]
        self.call(maker, tuple(arguments))

    def stack_name(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(self.name(module, name))

    def push_persistent(self, value: object) -> None:
        if self.persistent is None:
            raise ForeignModelError(f"{self.source} refers to something outside of itself (at byte {self.step_at})")
        self.stack.append(self.persistent(value))

    def protocol(self) -> None:
        number = self.number(1)
        if number > 5:
            raise ForeignModelError(f"{self.source} has pickle protocol {number}, expected 5 at most")

    def frame(self) -> None:
        if self.number(8) > len(self.data) - self.at:
            raise self.ended()

    def outside(self) -> None:
        raise ForeignModelError(
            f"{self.source} uses what only the program that wrote it has (byte {self.step_at}: an extension code or a "
            "buffer outside of the stream)"
        )

    def unknown(self) -> None:
        raise ValueError(f"there is no step 0x{self.data[self.step_at]:02x}")


_CLOSED_LIST: Mapping[str, Maker] = {
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
"""What a call of these names gives is known; Python 2 and numpy 1 had other names for some."""
_COMPLETED_BY_STATE: Mapping[str, Callable[[_Machine, Record, object], object]] = {
    "numpy.dtype": _Machine.numpy_dtype,
    "numpy.core.multiarray._reconstruct": _Machine.numpy_array,
    "numpy._core.multiarray._reconstruct": _Machine.numpy_array,
}
"""What a call of these names and the state after it give is known."""
_PLAIN_KEYS = {str, bytes, float, bool, type(None), Name, Record}
_ESCAPES = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v", b"\n": b""}


def _unescaped(found: re.Match[bytes]) -> bytes:
    escape = found[1]
    if escape[:1] == b"x" and len(escape) == 3:
        return bytes.fromhex(escape[1:].decode())
    if escape[:1].isdigit() and escape[0] < 0x38:
        return bytes([int(escape, 8) % 256])
    return _ESCAPES.get(escape, escape if escape in {b"\\", b"'", b'"'} else b"\\" + escape)


def _check_items(content: bytes, dtype: np.dtype[np.generic]) -> None:
    """Refuse bytes that are no booleans or characters: numpy would only notice when such an item is used."""
    if dtype.kind == "b" and content and np.frombuffer(content, np.uint8).max() > 1:
        raise ValueError("a boolean is neither true nor false")
    if dtype.kind == "U" and content and np.frombuffer(content, f"{dtype.byteorder}u4").max() > 0x10FFFF:
        raise ValueError("a character is none")


_STEPS: list[Callable[[_Machine], None]] = [_Machine.unknown] * 256
"""What each opcode does, by its byte; the names are those of the pickle format."""
for _opcode, _step in {
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
    b"\x94": lambda machine: machine.put(len(machine.memo)),  # MEMOIZE
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
    b"F": lambda machine: machine.stack.append(float(machine.line(LONGEST_NUMBER))),  # FLOAT
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
    b"]": lambda machine: machine.stack.append([]),  # EMPTY_LIST
    b"}": lambda machine: machine.stack.append({}),  # EMPTY_DICT
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
    # What lies outside
    b"P": lambda machine: machine.push_persistent(machine.line().decode()),  # PERSID
    b"Q": lambda machine: machine.push_persistent(machine.stack.pop()),  # BINPERSID
    b"\x82": _Machine.outside,  # EXT1
    b"\x83": _Machine.outside,  # EXT2
    b"\x84": _Machine.outside,  # EXT4
    b"\x97": _Machine.outside,  # NEXT_BUFFER
    b"\x98": _Machine.outside,  # READONLY_BUFFER
}.items():
    _STEPS[_opcode[0]] = _step
