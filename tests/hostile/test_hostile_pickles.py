"""Malicious and damaged pickles: nothing in them is executed, and reading them ends with a value or a clear error.

The gadgets are those that attacks use; each would leave a file behind. The bombs run in a process whose memory is
limited: beyond 2 GB it would fail.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bothways.errors import ForeignModelError
from bothways.interop import pickle_reader
from bothways.interop.pickle_reader import Record, read_pickle
from bothways.interop.torch_file import LEGACY_MAGIC, read_foreign_file
from tests.bundles import run_python

# Gadgets


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def gadgets(marker: Path) -> dict[str, bytes]:
    """Return streams most of which create a file when a real unpickler reads them. The others need a library."""
    command, python = text(f"touch {marker}"), text(f"open({str(marker)!r}, 'w')")
    system = b"cposix\nsystem\n"
    nested = system + command + b"\x85R."
    return {
        "reduce": system + command + b"\x85R.",
        "stack_global": b"\x80\x04" + text("os") + text("system") + b"\x93" + command + b"\x85R.",
        "inst": b"(" + command + b"iposix\nsystem\n.",
        "obj": b"(" + system + command + b"o.",
        "newobj": system + command + b"\x85\x81.",
        "newobj_ex": b"\x80\x04" + system + command + b"\x85}\x92.",
        "eval": b"cbuiltins\neval\n" + python + b"\x85R.",
        "exec_python_2": b"c__builtin__\nexec\n" + python + b"\x85R.",
        "popen": b"csubprocess\nPopen\n" + text("touch") + text(str(marker)) + b"\x86\x85R.",
        "open": b"c_io\nopen\n" + text(str(marker)) + text("w") + b"\x86R.",
        "getattr": b"cbuiltins\ngetattr\ncbuiltins\n__import__\n"
        + text("os")
        + b"\x85R"
        + text("system")
        + b"\x86R"
        + command
        + b"\x85R.",
        "attrgetter": b"coperator\nattrgetter\n"
        + text("system")
        + b"\x85R"
        + b"cbuiltins\n__import__\n"
        + text("os")
        + b"\x85R\x85R"
        + command
        + b"\x85R.",
        "methodcaller": b"coperator\nmethodcaller\n"
        + text("system")
        + command
        + b"\x86R"
        + b"cbuiltins\n__import__\n"
        + text("os")
        + b"\x85R\x85R.",
        "dotted_name": b"\x80\x04" + text("os") + text("path.os.system") + b"\x93" + command + b"\x85R.",
        "setstate": b"ctypes\nSimpleNamespace\n)R}" + text("__setstate__") + system + b"sb" + command + b"b.",
        "build_class": b"cfunctools\npartial\ncbuiltins\nlen\n\x85R(" + system + command + b"\x85}Ntb)R.",
        "partial": b"cfunctools\npartial\n" + system + command + b"\x86R)R.",
        "inner_pickle": b"cpickle\nloads\nB" + struct.pack("<I", len(nested)) + nested + b"\x85R.",
        "torch_inner": b"ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(nested)) + nested + b"\x85R.",
        "in_a_key": b"}" + system + command + b"\x85RNs.",
        "in_a_set": b"\x80\x04\x8f(" + system + command + b"\x85R\x90.",
        "map": b"cbuiltins\nset\ncbuiltins\nmap\n" + system + b"(" + command + b"l\x86R\x85R.",
        "default_factory": b"ccollections\ndefaultdict\n" + system + b"\x85R.",
        "persistent": system + command + b"\x85RQ.",
        "tensor_function": b"ctorch._tensor\n_rebuild_from_type_v2\n(" + system + b"N" + command + b"\x85NtR.",
        "numpy_class": b"cnumpy.core.multiarray\n_reconstruct\n(" + system + b"K\x00\x85C\x01btR" + command + b"b.",
        "dtype": b"cnumpy\ndtype\n"
        + system
        + command
        + b"\x85R\x85R(K\x03"
        + text("<")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb.",
        "codecs": b"c_codecs\nencode\n" + text(f"touch {marker}") + text("unicode_escape") + b"\x86R.",
    }


def zipped(stream: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", stream)
    return file.getvalue()


def legacy(stream: bytes) -> bytes:
    head = pickle.dumps(LEGACY_MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    return head + stream + pickle.dumps([], 2)


@pytest.mark.parametrize("name", gadgets(Path("x")))
@pytest.mark.parametrize("wrapped", [bytes, zipped, legacy])
def test_nothing_in_a_gadget_runs(tmp_path: Path, name: str, wrapped: Callable[[bytes], bytes]) -> None:
    marker, path = tmp_path / "was_here", tmp_path / "export.pkl"
    path.write_bytes(wrapped(gadgets(marker)[name]))
    value = value_or_error(path)
    assert type(value) in {str, Record, dict, set}
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["reduce", "inst", "obj", "eval", "getattr", "open", "build_class", "inner_pickle"])
def test_the_gadgets_are_real(tmp_path: Path, name: str) -> None:
    code = f"import pickle; pickle.loads({gadgets(tmp_path / 'was_here')[name]!r})"
    run_python(code)
    assert (tmp_path / "was_here").exists()


def test_a_library_that_is_named_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    code = "import sys; from bothways.interop.pickle_reader import read_pickle; read_pickle(b'ctrap\\nx\\n)R.', 'x')"
    done = run_python(f"{code}; sys.path.insert(0, {str(tmp_path)!r}); assert 'trap' not in sys.modules", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


# Bombs

BOMBS = {
    "lists 50,000 deep": "b']' * 50_000 + b'a' * 49_999 + b'.'",
    "records 20,000 deep": "b'cos\\nsystem\\n' + b')R' * 20_000 + b'.'",
    "10^8 items": "b'](' + b'N' * 10**8 + b'e.'",
    "10^8 numbers": "b'](' + b'K\\x01' * 10**8 + b'e.'",
    "10^8 dicts": "b'(' + b'}' * 10**8 + b'l.'",
    "10^8 sets": "b'(' + b'\\x8f' * 10**8 + b'l.'",
    "10^8 remembered": "b'N' + b'\\x94' * 10**8",
    "many names": "b''.join(b'c%x\\n%x\\n' % (n, n) for n in range(200_000))",
    "deep tuples": "b')' + b'\\x85' * 10**6 + b'.'",
    "deep lists": "b']' * 10**6 + b'a' * (10**6 - 1) + b'.'",
    "deep dicts": "b'}' + b'N}' * 2 * 10**5 + b's' * 2 * 10**5 + b'.'",
    "deep mixture": "b'(' * 2 * 10**5 + b'lt' * 10**5 + b'.'",
    "deep records": "b'cos\\nsystem\\n' + b')R' * 2 * 10**5 + b'.'",
    "deep states": "b'cos\\nsystem\\nq\\0)R' + b'h\\0)R' * 2 * 10**5 + b'b' * 2 * 10**5 + b'.'",
    "deep frozensets": "b'(' * 2 * 10**5 + b'\\x91' * 2 * 10**5 + b'.'",
    "tuples 2^1000 wide": "b'N' + b'2\\x86' * 1000 + b'.'",
    "lists 10 wide 30 deep": "b']' + (b'q\\0](' + b'h\\0' * 10 + b'e') * 30 + b'.'",
    "a text copied": "encode + b'q\\1(' + b'h\\0h\\1R' * 10**5 + b'l.'",
    "an array checked": "array + b'q\\1(' + b'h\\0h\\3Rh\\1b' * 10**5 + b'l.'",
    "a set copied": "b'cbuiltins\\nset\\nq\\0(' + b'K\\1' * 10**5 + b'l\\x85q\\1(' + b'h\\0h\\1R' * 10**5 + b'l.'",
    "a set of a large tuple": "b'cbuiltins\\nset\\nq\\0(' + b'N' * 10**6 + b'tq\\1(' + b'h\\0h\\1R' * 10**5 + b'l.'",
    "numbers with one hash": "b'}(' + b''.join(b'\\x8a\\x14' + ((2**61 - 1) * n).to_bytes(20, 'little') + b'N'"
    " for n in range(10**5)) + b'u.'",
    "tuples with one hash": "b'}(' + b'K\\1K\\2\\x86N' * 10**5 + b'u.'",
    "a number of 10^6 digits": "b'I' + b'9' * 10**6 + b'\\n.'",
    "a number of 10^6 bytes": "b'\\x8b\\x40\\x42\\x0f\\0' + b'9' * 10**6 + b'.'",
    "bytes(10**9)": "b'cbuiltins\\nbytes\\nI1000000000\\n\\x85R.'",
    "bytearray(10**9)": "b'cbuiltins\\nbytearray\\nI1000000000\\n\\x85R.'",
    "list(range(10**9))": "b'cbuiltins\\nlist\\ncbuiltins\\nrange\\nI1000000000\\n\\x85R\\x85R.'",
    "a text of 2^62 bytes": "b'\\x8d' + (2**62).to_bytes(8, 'little') + b'a.'",
    "bytes of 2^62 bytes": "b'\\x8e' + (2**62).to_bytes(8, 'little') + b'a.'",
    "a frame of 2^62 bytes": "b'\\x95' + (2**62).to_bytes(8, 'little') + b'N.'",
}
RUN_BOMBS = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
resource.setrlimit(resource.RLIMIT_CPU, (100, 100))
from bothways.errors import ForeignModelError
from bothways.interop.pickle_reader import read_pickle
encode = (b"c_codecs\\nencode\\nq\\0X" + (10**6).to_bytes(4, "little") + b"a" * 10**6 + b"X\\6\\0\\0\\0latin1\\x86")
array = b"(cnumpy\\ndtype\\nX\\2\\0\\0\\0b1\\x85R(K\\3X\\1\\0\\0\\0|NNNtbq\\2"
array += b"cnumpy.core.multiarray\\n_reconstruct\\nq\\0"
array += b"cnumpy\\nndarray\\n\\x85q\\3R(K\\1J\\x40\\x42\\x0f\\0\\x85h\\2NB\\x40\\x42\\x0f\\0" + bytes(10**6) + b"t"
outcome = {}
for name, stream in json.loads(sys.stdin.read()).items():
    try:
        outcome[name] = type(read_pickle(eval(stream), "bomb.pkl")[0]).__name__
    except ForeignModelError as error:
        outcome[name] = str(error)
print(json.dumps(outcome))
"""
HARMLESS = {
    "lists 50,000 deep": "list",
    "records 20,000 deep": "Record",
    "lists 10 wide 30 deep": "list",
    "a set of a large tuple": "list",
    "tuples with one hash": "dict",
    "bytes(10**9)": "Record",
    "bytearray(10**9)": "Record",
    "list(range(10**9))": "Record",
}


def test_bombs_end_within_two_gigabytes() -> None:
    done = run_python(RUN_BOMBS, input=json.dumps(BOMBS))
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome.keys() == BOMBS.keys()
    values = {name: what for name, what in outcome.items() if not what.startswith("bomb.pkl")}
    assert values == HARMLESS


def test_a_container_that_claims_terabytes_is_refused(tmp_path: Path) -> None:
    storage = b"(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI%d\ntQ."
    for count in (2**31, 2**40, 2**62, 2**200):
        for wrapped in (zipped, legacy):
            (tmp_path / "x.pth").write_bytes(wrapped(storage % count))
            with pytest.raises(ForeignModelError, match="not in the file"):
                read_foreign_file(tmp_path / "x.pth")


RUN_CONTAINERS = """
import resource, struct, sys
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
from pathlib import Path
from bothways.errors import ForeignModelError
from bothways.interop.torch_file import read_foreign_file
path = Path("x.pth")
local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
for count in (100_000, 2_000_000):  # entries that all claim the same place
    name = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, count * len(name), len(local), 0)
    path.write_bytes(local + name * count + end)
    try:
        read_foreign_file(path)
    except ForeignModelError as error:
        print(error)
"""


def test_a_container_of_millions_of_entries_is_refused(tmp_path: Path) -> None:
    done = run_python(RUN_CONTAINERS, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    few, many = done.stdout.splitlines()
    assert "'a' occurs twice" in few
    assert "its zip directory has 94000000 bytes, expected at most 8388608" in many


# Damage


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Embedding(5, 3)
        self.norm = nn.BatchNorm1d(3)


def real_files() -> dict[str, bytes]:
    value = {"model": Model(), "itos": ["xxunk", "the"], "counts": np.arange(3), "words": np.array(["a", 1], object)}
    streams: dict[str, bytes] = {}
    for name, is_zip in (("zip", True), ("legacy", False)):
        file = io.BytesIO()
        torch.save(value, file, _use_new_zipfile_serialization=is_zip)
        streams[name] = file.getvalue()
    plain = {
        "itos": ["xxunk", "the"] * 20,
        "counts": np.arange(3),
        "path": Path("a/b"),
        "set": {1, 2},
        "f": (0.5, 2**70),
    }
    return streams | {f"plain {protocol}": pickle.dumps(plain, protocol) for protocol in (0, 2, 4, 5)}


FILES = real_files()


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, name: str) -> None:
    data, path = FILES[name], tmp_path / "export.pkl"
    path.write_bytes(data)
    assert isinstance(read_foreign_file(path), dict)
    for part in range(64):
        path.write_bytes(data[: len(data) * part // 64])
        with pytest.raises(ForeignModelError, match=r"copy or download it again|has 0 bytes|a text file"):
            read_foreign_file(path)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_a_value_or_a_clear_error(tmp_path: Path, name: str) -> None:
    data, path = FILES[name], tmp_path / "export.pkl"
    path.write_bytes(data)
    refused = 0
    with path.open("r+b", buffering=0) as file:
        for place in range(0, len(data), max(1, len(data) // 200)):
            for flip in (0x01, 0x80, 0xFF):
                os.pwrite(file.fileno(), bytes([data[place] ^ flip]), place)
                refused += isinstance(value_or_error(path), str)
            os.pwrite(file.fileno(), data[place : place + 1], place)
    assert refused > 100


def value_or_error(path: Path) -> object:
    """Return the value in a file, or the message of the only error that may be raised."""
    try:
        return read_foreign_file(path)
    except ForeignModelError as error:
        message = str(error)
    assert message.startswith(str(path))
    assert message.isprintable()
    assert len(message) < 700
    return message


# Anything at all

OPCODES = [
    code
    for code in range(256)
    if pickle_reader._OPCODES[code] is not pickle_reader._Machine.unknown or code == ord(".")
]
PIECES = [
    *(bytes([code]) for code in OPCODES),
    *(b"c" + name.rpartition(".")[0].encode() + b"\n" + name.rpartition(".")[2].encode() + b"\n" for name in (
        *pickle_reader._CONSTRUCTORS, *pickle_reader._STATE_CONSTRUCTORS, "numpy.ndarray", "os.system",
    )),
    *(b"K\x01", b"K\x00", b"N)", b"NNN\x87", b"q\x00", b"h\x00", b"(l", b"(t", b"C\x01b", b"X\x02\0\0\0f4", b"I3\n"),
]  # fmt: skip


def read_or_refuse(stream: bytes) -> None:
    try:
        _, end = read_pickle(stream, "x", persistent_load=lambda value: value)
    except ForeignModelError as error:
        message = str(error)
    else:
        assert 0 < end <= len(stream)
        return
    assert message.startswith("x")
    assert message.isprintable()
    assert len(message) < 500


@given(st.binary(max_size=300))
def test_random_bytes_are_a_value_or_a_clear_error(stream: bytes) -> None:
    read_or_refuse(stream)


@settings(max_examples=500)
@given(st.lists(st.sampled_from(PIECES), max_size=60))
def test_random_opcodes_are_a_value_or_a_clear_error(pieces: list[bytes]) -> None:
    read_or_refuse(b"".join(pieces) + b".")


@settings(max_examples=500)
@given(
    st.sampled_from([FILES[name] for name in FILES if name.startswith("plain")]),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 12), st.sampled_from(PIECES)), min_size=1, max_size=4),
)
def test_a_changed_pickle_is_a_value_or_a_clear_error(stream: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    for place, removed, piece in changes:
        at = place % len(stream)
        stream = stream[:at] + piece + stream[at + removed :]
    read_or_refuse(stream)
