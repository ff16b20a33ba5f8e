"""What is fuzzed: a reader, how the fuzzer's bytes become its file, and the words that its format is made of."""

from __future__ import annotations

import gzip
import json
import os
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bothways import strict_json
from bothways.bundle.manifest import digest_of
from bothways.interop import pickle_reader
from bothways.interop.archive import extract_models
from bothways.interop.sentencepiece_file import read_piece_model
from bothways.serve.grpc_messages import CLASSES
from tests.fuzz.table_streams import stream_entrance
from tests.fuzz.workbook_parts import SHEET_SEED, STRINGS_SEED, STYLES_SEED, part_entrance, parts_with
from tests.hostile import foreign_files as foreign
from tests.hostile import table_files as tables
from tests.hostile.entrances import ENTRANCES, Entrance
from tests.pieces import NORMAL, UNKNOWN, USER_DEFINED, made, small_table
from tests.unit.interop.exports import v1_export, v2_export, vocabulary
from tests.words import make_word_tokenizer

SEEDS = Path(__file__).parent / "seeds"
"""Inputs that once did harm, in a folder per target. ``test_seeds.py`` replays them."""


@dataclass(frozen=True)
class Target:
    """A reader to fuzz.

    Attributes:
        entrance: Reads the file.
        folder: Name of the target as a folder.
        seeds: Harmless inputs to start from.
        words: Parts of the format, which the fuzzer inserts.
        wrap: Turns the fuzzer's bytes into the file, for example with the right checksums.
        longest: Longest input in bytes.
    """

    entrance: Entrance
    folder: str
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    wrap: Callable[[bytes], bytes] = bytes
    longest: int = 4096


def _target(
    name: str,
    words: tuple[bytes, ...] = (),
    *,
    seeds: tuple[bytes, ...] = (),
    wrap: Callable[[bytes], bytes] = bytes,
    longest: int = 4096,
) -> Target:
    entrance = ENTRANCES[name]
    return Target(entrance, name.replace(" ", "_"), seeds or (entrance.benign(200),), words, wrap, longest)


def _table(name: str, words: tuple[bytes, ...] = ()) -> Target:
    entrance = stream_entrance(name)
    return Target(entrance, name.replace(" ", "_"), (entrance.benign(200),), words)


def _named(path: str) -> bytes:
    module, _, name = path.rpartition(".")
    return f"c{module}\n{name}\n".encode()


PICKLE_WORDS = (
    *(bytes([code]) for code in range(256) if pickle_reader._OPCODES[code] is not pickle_reader._Machine.unknown),
    *map(_named, (*pickle_reader._CONSTRUCTORS, *pickle_reader._STATE_CONSTRUCTORS, "numpy.ndarray", "os.system")),
    *(b"K\x01", b"K\x00", b"N)", b"NNN\x87", b"q\x00", b"h\x00", b"(l", b"(t", b"C\x01b", b"X\x02\0\0\0f4", b"I3\n"),
)
TORCH_WORDS = (
    *PICKLE_WORDS,
    b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0" + b"0X\x03\0\0\0cpuK\x08tQ",
    *map(_named, ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "torch.Size")),
)
PIECE_WORDS = (
    *(
        b"\x0a\x05\x0a\x01b\x18\x01",
        b"\x15\x00\x00\x80\xbf",
        b"\x18\x02",
        b"\x18\x04",
        b"\x12\x02\x18\x02",
        b"\x1a\x02\x18\x00",
    ),
    *(b"\xc0\x02\x01", b"\xe2\x96\x81", b"\x61\x01\x00\x00", b"\x00\x00\x00\x80", b"\xff\xff\xff\xff\x0f"),
)
JSON_WORDS = tuple(
    b'{ } [ ] , : " \\ \\u0000 \\ud800 null true false 0 -1 1e400 9223372036854775808 0.5 NaN ""'.split()
)
INFER_WORDS = (
    *(b"topics", b"text", b"BYTES", b"FP64", b"labels", b"probabilities", b"\x01\0\0\0a"),
    *(b"threshold", b"thresholds", b"top_k", b"classification", b"content_type", b"base64"),
)
QUERY_WORDS = tuple(
    b"& = , % %22 { } : top_k threshold thresholds probabilities values tokens forward ensemble 0.5 true".split()
)
PEM_WORDS = (b"-----BEGIN PRIVATE KEY-----", b"-----END PRIVATE KEY-----", b"PUBLIC", b"ENCRYPTED ", b"EC ", b"RSA ")
TAR_WORDS = (b"ustar", b"././@LongLink", b"GNU.sparse.", b"30 path=x\n")
ZIP_WORDS = (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7")
XML_WORDS = (
    *(b"<row>", b"</row>", b"<row/>", b"<row r='2'>", b"<c>", b"</c>", b"<c t='s'>", b"<c t='b'>", b"<c t='d'>"),
    *(b"<c r='A1'>", b"<v>", b"</v>", b"<f>", b"</f>", b"<is>", b"</is>", b"<t>", b"</t>", b"<si>", b"</si>", b"1e9"),
    *(b"<!DOCTYPE x>", b"<!ENTITY", b"&amp;", b"&#0;", b"<xf numFmtId='14'/>", b"s='1'", b"2024-01-01", b"encoding="),
)
TOML_WORDS = tuple(b"[ ] [[ ]] = . , \" ''' # true inf nan 1979-05-27 0x1 1_0 \n { }".split(b" "))
TABLE_WORDS = (
    b'"',
    b'""',
    b",",
    b"\t",
    b";",
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"label",
    b"text",
)


def with_tar_checksums(data: bytes) -> bytes:
    """Return a tar file whose headers have the right checksums, so that their content is read."""
    blocks = bytearray(data + bytes(-len(data) % 512) + bytes(1024))
    for start in range(0, len(blocks), 512):
        if blocks[start + 257 : start + 262] == b"ustar":
            blocks[start + 148 : start + 156] = b" " * 8
            blocks[start + 148 : start + 156] = b"%06o\0 " % sum(blocks[start : start + 512])
    return bytes(blocks)


def in_torch_zip(data: bytes) -> bytes:
    """Return a file of torch with this pickle and one storage. ``zipfile`` would take longer than the reader."""
    files, directory = b"", b""
    for name, content in ((b"archive/data.pkl", data), (b"archive/data/0", bytes(range(32)))):
        sizes = struct.pack("<3I", zlib.crc32(content), len(content), len(content)) + struct.pack("<2H", len(name), 0)
        directory += struct.pack("<4s6H", b"PK\1\2", 20, 20, 0, 0, 0, 33) + sizes
        directory += struct.pack("<3H2I", 0, 0, 0, 0, len(files)) + name
        files += struct.pack("<4s5H", b"PK\3\4", 20, 0, 0, 0, 33) + sizes + name + content
    return files + directory + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 2, 2, len(directory), len(files), 0)


def with_digest(data: bytes) -> bytes:
    """Return a manifest with the right digest of itself, so that its content is read."""
    try:
        fields = strict_json.parse(data)
    except ValueError:
        return data
    return json.dumps({**fields, "digest": digest_of(fields)}).encode() if isinstance(fields, dict) else data


def _extracted(path: Path) -> object:
    """Extract an archive, without reading the models in it, which is another target."""
    folder = path.parent / "extracted"
    folder.mkdir(exist_ok=True)
    try:
        extract_models(path, folder)
    finally:
        for name in os.listdir(folder):  # noqa: PTH208  (a new folder per case would take longer than the reader)
            os.unlink(folder / name)  # noqa: PTH108
    return None


def _small_export(version: int) -> bytes:
    """Return the pickle of an export of fastai without words of its own, in which equal weights are stored once."""
    words, arrays = vocabulary(version, []), dict[tuple[int, ...], NDArray[np.float32]]()
    weights = foreign.tiny_state(words=len(words))
    weights = {name: arrays.setdefault(array.shape, array) for name, array in weights.items()}
    export = (v1_export if version == 1 else v2_export)(weights, words, foreign.LABELS)
    return pickletools.optimize(foreign.pickled(export))


def _call(**fields: object) -> bytes:
    """Return a request over gRPC with raw texts."""
    tensor = {"name": "text", "shape": [2], "datatype": "BYTES"}
    raw = [b"\x01\0\0\0a\x02\0\0\0bc"]
    message = CLASSES["ModelInferRequest"](model_name="topics", inputs=[tensor], raw_input_contents=raw, **fields)
    data: bytes = message.SerializeToString()
    return data


_CALLS = (
    ENTRANCES["infer grpc"].benign(30),
    _call(parameters={"threshold": {"double_param": 0.5}}),
    _call(outputs=[{"name": "probabilities", "parameters": {"classification": {"int64_param": 1}}}]),
)
_QUERIES = (ENTRANCES["query string"].benign(10), b"threshold=0.5&thresholds=%7B%22plot%22%3A0.3%7D")
_PARITY = ENTRANCES["parity record"].benign(1).splitlines()[3]
_WORKBOOK = tables.zipped(parts_with({}), zipfile.ZIP_STORED)
_WEIGHT = {"weight": foreign.tiny_state(words=2)["0.module.encoder.weight"]}
_TENSOR = foreign.pickled(_WEIGHT, [])
_TAR = foreign.tar({"x.pth": b"\x80\x02N.", "x.pkl": b"\x80\x02]."}, "w")

_PIECES = made(
    [("<unk>", 0.0, UNKNOWN), ("▁", -1.0, NORMAL), ("▁xxbos", 0.0, USER_DEFINED), ("a", -2.5, NORMAL)],
    {3: 1},
    prefix=1,
    spaces=1,
    charsmap=small_table(),
)
_PIECE_TOKENIZER = json.dumps(
    {
        **json.loads(make_word_tokenizer("fastai-v2").to_bytes()),
        "words": "sentencepiece",
        "tables": None,
        "sentencepiece": json.loads(read_piece_model(_PIECES, "a seed").model_dump_json()),
    }
).encode()

TARGETS: dict[str, Target] = {
    "pickle": _target("pickle", PICKLE_WORDS),
    "torch pickle": Target(ENTRANCES["torch zip"], "torch_pickle", (_TENSOR,), TORCH_WORDS, in_torch_zip),
    "torch zip": _target("torch zip", ZIP_WORDS, seeds=(in_torch_zip(_TENSOR),), longest=4096),
    "torch legacy": _target("torch legacy", TORCH_WORDS, seeds=(foreign.torch_legacy(_WEIGHT),)),
    "fastai 1": _target("fastai 1", PICKLE_WORDS, seeds=(_small_export(1),), longest=8000),
    "fastai 2": _target("fastai 2", PICKLE_WORDS, seeds=(_small_export(2),), longest=8000),
    "tar": Target(Entrance("x.tar", _extracted, bytes), "tar", (_TAR,), TAR_WORDS, with_tar_checksums, 8192),
    "tar gz": Target(Entrance("x.tgz", _extracted, bytes), "tar_gz", (gzip.compress(_TAR),), (b"\x1f\x8b\x08",)),
    "manifest": _target("manifest", JSON_WORDS, wrap=with_digest, longest=8000),
    **{name: _target(name, JSON_WORDS) for name in ("subword tokenizer", "word tokenizer")},
    "piece tokenizer": _target("piece tokenizer", JSON_WORDS, seeds=(_PIECE_TOKENIZER,), longest=8000),
    "sentencepiece": _target("sentencepiece", PIECE_WORDS, seeds=(_PIECES,)),
    "parity record": _target("parity record", JSON_WORDS, seeds=(_PARITY,)),
    "weights": _target("weights", JSON_WORDS, longest=40_000),
    **{name: _target(name, JSON_WORDS) for name in ("classify", "hugging face", "embeddings", "invocations", "infer")},
    **{name: _target(name, (*JSON_WORDS, b"\n")) for name in ("invocations lines", "kserve")},
    "infer binary": _target("infer binary", (*JSON_WORDS, b"\n", b"\x01\0\0\0")),
    "infer grpc": _target("infer grpc", INFER_WORDS, seeds=_CALLS),
    "query string": _target("query string", QUERY_WORDS, seeds=_QUERIES),
    "invocations csv": _target("invocations csv", TABLE_WORDS),
    "hyperparameters": _target("hyperparameters", TOML_WORDS),
    "settings": _target("settings", TOML_WORDS),
    **{name: _table(name, TABLE_WORDS) for name in ("csv", "tsv")},
    **{name: _table(name, JSON_WORDS) for name in ("json", "json lines", "json gz", "json lines gz")},
    **{name: _table(name, TABLE_WORDS) for name in ("csv gz", "csv bz2", "csv xz", "csv zst", "csv zip")},
    **{name: _table(name) for name in ("parquet", "arrow")},
    "private key": _target("private key", PEM_WORDS),
    "public key": _target("public key", PEM_WORDS),
    "signature": _target("signature", JSON_WORDS),
    "excel": _target("excel", ZIP_WORDS, seeds=(_WORKBOOK,), longest=10_000),
    "excel sheet": Target(part_entrance(tables.SHEET), "excel_sheet", (SHEET_SEED,), XML_WORDS),
    "excel strings": Target(part_entrance(tables.STRINGS), "excel_strings", (STRINGS_SEED,), XML_WORDS),
    "excel styles": Target(part_entrance(tables.STYLES), "excel_styles", (STYLES_SEED,), XML_WORDS),
}  # fmt: skip
