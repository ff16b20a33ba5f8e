"""D1, D2, D3: no file and no request costs more than 2 s of CPU and 100 MB of memory per megabyte of it.

Each case is one line: an entrance of ``entrances.py`` and a hostile content. Every entrance also has to keep these
bounds for a harmless file of a megabyte. The only outcomes are a value and a ``BothwaysError``.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest

from bothways.interop.pickle_reader import Record
from tests.hostile import foreign_files as foreign
from tests.hostile import table_files as tables
from tests.hostile.entrances import ENTRANCES
from tests.hostile.measure import Measurer, measurer
from tests.hostile.table_files import zipped
from tests.pieces import UNKNOWN, field, made, varint
from tests.unit.interop.exports import an_object

MB = 1_000_000
PROTO = b"\x80\x02"


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measurer]:
    with measurer(tmp_path_factory.mktemp("cost")) as opened:
        yield opened


def repeated(part: bytes, before: bytes = b"", after: bytes = b"", size: int = MB) -> Callable[[], bytes]:
    """Return a maker of a part that is repeated up to a size in bytes."""
    return lambda: before + part * (size // len(part)) + after


def stream(part: bytes, before: bytes = b"(", after: bytes = b"l.") -> Callable[[], bytes]:
    """Return a maker of a pickle that repeats its opcodes."""
    return repeated(part, PROTO + before, after)


def laughs(levels: int = 17, width: int = 10) -> Any:
    """Return a list that contains ten times a list that contains ten times a list ..."""
    value: Any = ["ha"]
    for _ in range(levels):
        value = [value] * width
    return value


def deep(levels: int = 20_000) -> Any:
    """Return nested lists."""
    value: Any = ["x"]
    for _ in range(levels):
        value = [value]
    return value


def laughing_modules(levels: int = 45) -> Record:
    """Return a module that contains ten times a module that contains ten times a module ..."""
    module = an_object("torch.nn.Module", {"_modules": {}, "_parameters": {}})
    for _ in range(levels):
        module = an_object("torch.nn.Module", {"_modules": {str(n): module for n in range(10)}, "_parameters": {}})
    return module


def long_module_name() -> Record:
    return an_object("torch.nn.Module", {"_modules": {"x" * MB: laughing_modules()}})


def nested_pickle(levels: int) -> bytes:
    return PROTO + b"]" * levels + b"a" * (levels - 1) + b"."


def memo_with_gaps() -> bytes:
    return PROTO + b"N" + b"".join(b"r" + (number * 2000).to_bytes(4, "little") for number in range(200_000)) + b"."


def keys_with_one_hash() -> bytes:
    numbers = ((2**61 - 1) * number for number in range(80_000))
    return PROTO + b"}(" + b"".join(b"\x8a\x0a" + number.to_bytes(10, "little") + b"N" for number in numbers) + b"u."


# Exports with one fact changed


def in_v1(place: str, value: Any) -> Callable[[], bytes]:
    """Return a maker of an export of fastai v1 in which a field has another value."""

    def make() -> bytes:
        export = foreign.export_v1()
        tokenize, numericalize = (processor.state for processor in export["data"]["x_proc"])
        objects = {
            "export": export,
            "data": export["data"],
            "tokenize": tokenize,
            "tokenizer": tokenize["tokenizer"].state,
            "numericalize": numericalize,
            "categories": export["data"]["y_proc"][0].state,
            "encoder": export["model"].state["_modules"]["0"].state,
        }
        name, _, key = place.partition(".")
        objects[name][key] = value() if callable(value) else value
        return foreign.pickled(export)

    return make


def shared_transforms() -> bytes:
    """A pipeline of 900 transforms that all contain the same 50,000 lists."""
    export = foreign.export_v2()
    big: Any = [[] for _ in range(50_000)]
    lists: Any = export.state["dls"].state["loaders"][0].state["dataset"].state["tls"]  # type: ignore[index]
    transforms = lists.state["items"][0].state["tfms"].state["fs"].state["items"]
    transforms[:0] = [an_object("x.Transform", {"encodes": big}) for _ in range(900)]
    return foreign.pickled(export)


def shared_exceptions() -> bytes:
    """spaCy's rules with 20,000 exceptions that all share one list of 20,000 tokens."""
    export, tokens = foreign.export_v2(), [{65: "x"}] * 20_000
    lists: Any = export.state["dls"].state["loaders"][0].state["dataset"].state["tls"]  # type: ignore[index]
    tokenizer = lists.state["items"][0].state["tfms"].state["fs"].state["items"][1]
    rules = {f"x{number}": tokens for number in range(20_000)}
    spacy = an_object("spacy.tokenizer.Tokenizer", None, None, rules, None, None, None, None, None)
    tokenizer.state["tok"].state["pipe"] = [spacy]
    return foreign.pickled(export)


def many_layers() -> bytes:
    """10,000 tensors that are views of one storage of a megabyte."""
    weight = np.ones((4, 60_000), np.float32)
    state = {f"0.rnns.{number}.module.weight_ih_l0": weight for number in range(9_000)}
    return foreign.torch_zip({"0.encoder.weight": weight, **state})


# Archives


def header(name: bytes, size: int | bytes, kind: bytes = b"0") -> bytes:
    """Return the header of a member of a tar file."""
    digits = size if isinstance(size, bytes) else b"%011o\0" % size
    fields = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + digits + b"0" * 11 + b"\0"
    block = (fields + b" " * 8 + kind + bytes(100) + b"ustar\x0000").ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def long_names(kind: bytes) -> bytes:
    """1.5 MB of headers, each with a name or attributes of gigabytes in compressed form."""
    content = b"9" * (16 * MB)
    return gzip.compress(header(b"././@LongLink", len(content), kind) + content + header(b"x.pth", 0), 1)


def pax_headers() -> bytes:
    record = b"16 path=abcdefg\n"
    part = header(b"x", len(record), b"x") + record.ljust(512, b"\0")
    return part * 900 + header(b"x.pth", 0) + bytes(1024)


def junk_members() -> bytes:
    return gzip.compress(header(b"junk", 50 * MB) + bytes(50 * MB), 1)


def junk_after_the_end() -> bytes:
    return foreign.tar({"x.pth": b"\x80\x02N.", "x.pkl": b"\x80\x02]."}, "w:gz") + gzip.compress(bytes(50 * MB), 1)


def tar_of(*blocks: bytes) -> Callable[[], bytes]:
    return lambda: b"".join(blocks) + bytes(1024)


def zip_with_comment() -> bytes:
    return zipped({"a/data.pkl": PROTO + b"N."})[:-2] + struct.pack("<H", 60_000) + b"PK\5\6" * 15_000


def entries_of_one_place(count: int) -> bytes:
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0)
    entries = b"".join(entry + b"%04x" % number for number in range(count))
    return local + entries + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(entries), len(local), 0)


TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI%d\ntQI0\n%b%bI00\nNtR."


def tensor(count: int, size: bytes, stride: bytes) -> Callable[[], bytes]:
    content = PROTO + TENSOR % (count, size, stride)
    return lambda: zipped({"a/data.pkl": content, "a/data/0": bytes(4 * min(count, MB // 4))})


def repeated_text(rows: int, characters: int) -> bytes:
    """A Parquet file whose rows all have one long text, which is stored once."""
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(rows, np.int32)), ["a" * characters])
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"label": ["x"] * rows, "text": texts}), file)
    return file.getvalue()


def rows_of_nothing(rows: int) -> bytes:
    """An Arrow file of 500 bytes with millions of rows."""
    table, file = pyarrow.table({"label": pyarrow.nulls(rows), "text": pyarrow.nulls(rows)}), io.BytesIO()
    with pyarrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def large_table() -> bytes:
    """A SentencePiece model with a table of units that lead nowhere."""
    return made([], charsmap=struct.pack("<I", MB) + b"a\1\0\0" * (MB // 4) + b"x\0")


def endless_table() -> bytes:
    """A SentencePiece model with a table that replaces every text of ASCII characters."""
    units = [256, *(label | 256 | label << 10 for label in range(1, 128))]
    return made(
        [("<unk>", 0.0, UNKNOWN), ("a", 0.0, 1)], charsmap=struct.pack("<129I", 512, *units) + b"x\0" * (MB // 2)
    )


HOSTILE: list[tuple[str, str, Callable[[], bytes]]] = [
    # entrance, what is hostile about it, content
    ("sentencepiece", "pieces of nothing", repeated(field(1, b""))),
    ("sentencepiece", "short pieces", lambda: b"".join(field(1, field(1, b"%x" % n)) for n in range(100_000))),
    ("sentencepiece", "equal pieces", repeated(field(1, field(1, b"a")), made([("<unk>", 0.0, UNKNOWN)]))),
    ("sentencepiece", "fields of pieces", repeated(field(3, 1), before=varint(10) + varint(MB))),
    ("sentencepiece", "unknown fields", repeated(field(9, 1))),
    ("sentencepiece", "settings", repeated(field(2, field(35, 0)))),
    ("sentencepiece", "long integers", repeated(b"\x08" + b"\xff" * 9 + b"\x01")),
    ("sentencepiece", "a table without an end", endless_table),
    ("sentencepiece", "a large table", large_table),
    ("sentencepiece", "a long piece", lambda: made([("<unk>", 0.0, UNKNOWN), ("a" * MB, 0.0, 1)])),
    ("pickle", "lists", stream(b"]")),
    ("pickle", "dicts", stream(b"}")),
    ("pickle", "dicts with an item", stream(b"}NNs")),
    ("pickle", "sets", stream(b"\x8f")),
    ("pickle", "frozensets", stream(b"(\x91")),
    ("pickle", "marks", stream(b"(", b"", b"")),
    ("pickle", "memo", stream(b"\x94", b"N", b".")),
    ("pickle", "a memo with gaps", memo_with_gaps),
    ("pickle", "records", stream(b")\x81", b"ca\nb\n", b".")),
    ("pickle", "records in a list", lambda: PROTO + b"(ca\nb\n" + b"2" * (MB // 3) + b")R" * (MB // 3) + b"l."),
    ("pickle", "keys of records", lambda: PROTO + b"ca\nb\n)R(" + b"NN" * (MB // 2) + b"u."),
    ("pickle", "states", stream(b"Nb", b"ca\nb\n)R", b".")),
    ("pickle", "nested tuples", stream(b"N\x85\x85")),
    ("pickle", "nested lists", partial(nested_pickle, MB // 2)),
    ("pickle", "nested dicts", lambda: PROTO + b"}" + b"N}" * (MB // 3) + b"s" * (MB // 3) + b"."),
    ("pickle", "numbers", stream(b"I" + b"9" * 990 + b"\n")),
    ("pickle", "long numbers", stream(b"\x8b\xe8\x03\0\0" + b"9" * 1000)),
    ("pickle", "a long text that is not there", lambda: PROTO + b"\x8d" + bytes([255] * 7 + [127])),
    ("pickle", "escapes", stream(b"\\n", b"S'", b"'\n.")),
    ("pickle", "names", lambda: PROTO + b"(" + b"".join(b"c%x\n\n" % n for n in range(130_000)) + b"l."),
    ("pickle", "keys with one hash", keys_with_one_hash),
    ("fastai 1", "441 bytes of shared lists", lambda: foreign.pickled(laughs())),
    ("fastai 1", "200 kB of nested lists", partial(nested_pickle, 100_000)),
    ("fastai 1", "shared lists as weights", lambda: foreign.pickled({"model": {"x": laughs()}})),
    ("fastai 1", "shared lists as data", in_v1("export.data", laughs)),
    ("fastai 1", "shared lists as a model", in_v1("export.model", laughs)),
    ("fastai 1", "shared lists as labels", in_v1("categories.classes", laughs)),
    ("fastai 1", "shared lists as vocabulary", in_v1("numericalize.vocab", laughs)),
    ("fastai 1", "shared lists as words", in_v1("numericalize.vocab", lambda: [laughs(), "x"])),
    ("fastai 1", "shared lists as language", in_v1("tokenizer.lang", laughs)),
    ("fastai 1", "shared lists as rules", in_v1("tokenizer.pre_rules", laughs)),
    ("fastai 1", "shared lists as control tokens", in_v1("tokenizer.special_cases", laughs)),
    ("fastai 1", "shared lists as a window", in_v1("encoder.bptt", laughs)),
    ("fastai 1", "shared modules", in_v1("export.model", laughing_modules)),
    ("fastai 1", "long names of modules", in_v1("export.model", long_module_name)),
    ("fastai 1", "a label of a megabyte", in_v1("categories.classes", ["x" * MB, "y"])),
    ("fastai 1", "a language of a megabyte", in_v1("tokenizer.lang", "e" * MB)),
    ("fastai 1", "a language that is a regular expression", in_v1("tokenizer.lang", "(a+)+$")),
    ("fastai 1", "many tensors of one storage", many_layers),
    ("fastai 2", "transforms that share their parts", shared_transforms),
    ("fastai 2", "exceptions that share their tokens", shared_exceptions),
    ("torch zip", "entries of one place", partial(entries_of_one_place, 20_000)),
    ("torch zip", "a deflated bomb", lambda: zipped({"a/data.pkl": bytes(20 * MB)}, compression=zipfile.ZIP_DEFLATED)),
    ("torch zip", "many small entries", lambda: zipped({f"{n}": b"" for n in range(9_000)})),
    ("torch zip", "a comment", zip_with_comment),
    ("torch zip", "a tensor with stride 0", tensor(1, b"(I1000000000\nt", b"(I0\nt")),
    ("torch zip", "a tensor beyond its storage", tensor(100, b"(I1000000000\nt", b"(I1\nt")),
    ("torch zip", "a tensor of many dimensions", tensor(1, b"(" + b"I1\n" * 9000 + b"t", b"(" + b"I1\n" * 9000 + b"t")),
    ("torch zip", "a tensor of overlapping rows", tensor(200_000, b"(I100000\nI100000\nt", b"(I1\nI1\nt")),
    ("torch zip", "a storage that is not there", tensor(2**40, b"(t", b"(t")),
    ("tar gz", "a name of 16 MB", partial(long_names, b"L")),
    ("tar gz", "a link of 16 MB", partial(long_names, b"K")),
    ("tar gz", "attributes of 16 MB", partial(long_names, b"x")),
    ("tar gz", "common attributes of 16 MB", partial(long_names, b"g")),
    ("tar gz", "50 MB of junk", junk_members),
    ("tar gz", "50 MB after the end", junk_after_the_end),
    ("tar gz", "many empty streams", repeated(gzip.compress(b""))),
    ("tar gz", "lists in a compressed pickle", lambda: foreign.tar({"x.pth": PROTO + b"]" * (2 * MB)}, "w:gz")),
    ("tar", "pax headers", pax_headers),
    ("tar", "empty members", repeated(header(b"x", 0))),
    ("tar", "a size of 2^63", tar_of(header(b"x.pth", b"\x80\0\0\0\x7f" + b"\xff" * 7))),
    ("tar", "a negative size", tar_of(header(b"x.pth", b"\xff" * 12))),
    ("tar", "a size that is no number", tar_of(header(b"x.pth", b"-0000000001\0"))),
    ("tar", "a sparse file", tar_of(header(b"x.pth", 2**33 - 1, b"S"))),
    ("tar", "a link to a device", tar_of(header(b"x.pth", 0, b"2"), header(b"y.pth", 0, b"3"))),
    ("tar", "xz with a large dictionary", lambda: lzma.compress(bytes(MB), preset=9)),
    ("csv", "delimiters", repeated(b",", b"a\n")),
    ("csv", "quotes", repeated(b'"', b"a\n")),
    ("json lines", "nested", repeated(b"[")),
    ("json lines", "digits", repeated(b"9", b'{"a":', b"}")),
    ("json", "objects", repeated(b"{},", b"[", b"{}]")),
    ("csv gz", "20 MB of rows", lambda: gzip.compress(b"label,text\n" + b"a,b\n" * (5 * MB), 1)),
    ("csv gz", "many empty streams", repeated(gzip.compress(b""))),
    ("parquet", "one text of a megabyte in 20,000 rows", partial(repeated_text, 20_000, MB)),
    ("arrow", "50 million rows of nothing", partial(rows_of_nothing, 50 * MB)),
    ("torch legacy", "lists", lambda: foreign.torch_legacy({})[:60] + b"]" * MB),
    ("private key", "a megabyte", repeated(b"A", b"-----BEGIN PRIVATE KEY-----\n")),
    ("public key", "a megabyte", repeated(b"A", b"-----BEGIN PUBLIC KEY-----\n")),
    ("signature", "nested", repeated(b"[")),
]  # fmt: skip

FAR = partial(tables.many_cells, count=200_000)
ROWS = b"label,text\n" + b"pos,x\n" * 1000
TABLES: list[tuple[str, str, Callable[[], bytes]]] = [
    ("excel", "a sheet of 4 MB of spaces", lambda: tables.workbook(tables.HEAD + b" " * (4 * MB))),
    ("excel", "a sheet of 30 MB", lambda: tables.workbook(tables.HEAD + b"<row/>" * (5 * MB))),
    ("excel", "rows without cells", lambda: tables.workbook(tables.HEAD + b"<row/>" * (MB * 2 // 3))),
    ("excel", "a row of empty cells", partial(tables.many_cells, b"<c/>", 900_000)),
    ("excel", "a row of cells with one place", partial(tables.many_cells, tables.cell("A2"), 120_000)),
    ("excel", "a row of cells in the last column", partial(tables.many_cells, tables.cell("XFD2"), 120_000)),
    ("excel", "rows of cells in the last column", partial(tables.far_cells, 60_000)),
    ("excel", "rows that go back to the first", partial(tables.far_rows, 40_000)),
    ("excel", "cells with a long place", lambda: tables.many_cells(tables.cell("A" * 4000 + "2"), 1000)),
    ("excel", "cells with a large number", lambda: tables.many_cells(b"<c><v>" + b"9" * 4000 + b"</v></c>", 1000)),
    ("excel", "cells with an exponent", partial(tables.many_rows, b"<c><v>1e999999999</v></c>", 90_000)),
    ("excel", "cells of an unknown type", partial(tables.many_rows, b'<c t="zz"><v>1</v></c>', 90_000)),
    ("excel", "cells of a string that is not there", partial(tables.many_cells, b'<c t="s"><v>7</v></c>', 200_000)),
    ("excel", "formulas", partial(tables.many_rows, b"<c><f>A1</f><v>1</v></c>", 90_000)),
    ("excel", "shared formulas", lambda: tables.many_rows(b'<c><f t="shared" si="0" ref="A1:XFD9">A1</f></c>', 60_000)),
    ("excel", "a shared string of 3 MB in many cells", partial(tables.shared_string, 3 * MB, 20_000)),
    ("excel", "a shared string of 30 kB in many cells", partial(tables.shared_string, 30_000, 100_000)),
    ("excel", "many shared strings", partial(tables.shared_strings, 200_000)),
    ("excel", "many empty shared strings", partial(tables.shared_strings, 800_000, b"<si/>")),
    ("excel", "a shared string of many runs", tables.many_runs),
    ("excel", "entities in entities", lambda: tables.with_entities(tables.LAUGHS, b"&p;")),
    ("excel", "a long entity", lambda: tables.with_entities(tables.LONG_ENTITY, b"&p;" * 300_000)),
    ("excel", "an entity of another file", lambda: tables.with_entities(tables.OUTSIDE, b"&p;")),
    *[("excel", f"entities in {part}", partial(tables.laughing_part, part)) for part in tables.PARTS],
    *[("excel", f"deep XML in {part}", partial(tables.nested_part, part)) for part in tables.PARTS],
    *[("excel", f"without {part}", partial(tables.workbook_with, {part: None})) for part in tables.PARTS],
    *[("excel", f"no XML in {part}", partial(tables.workbook_with, {part: b"\0" * 1000})) for part in tables.PARTS],
    ("excel", "a cell of great depth", tables.nested_sheet),
    ("excel", "many names of one sheet", partial(tables.many_sheets, 2000)),
    ("excel", "many formats of cells", partial(tables.many_styles, b"<cellXfs><xf/></cellXfs>", 150_000)),
    ("excel", "many fonts", lambda: tables.many_styles(b"<fonts>" + b"<font/>" * 90_000 + b"</fonts>", 5)),
    ("excel", "9,000 parts", lambda: tables.workbook_with({f"x{n}.xml": b"" for n in range(9_000)})),
    ("excel", "no zip archive", lambda: b"PK\3\4" + bytes(MB)),
    ("excel", "a member that claims 4 GB", lambda: tables.lying_sizes(ROWS, 2**32 - 2)),
    ("csv zip", "50 MB of rows", lambda: zipped({"x.csv": b"label,text\n" + b"a,b\n" * (12 * MB)})),
    ("csv zip", "archives in archives", partial(tables.nested_archive, 20)),
    ("csv zip", "several members", lambda: zipped({f"{n}.csv": ROWS for n in range(2000)})),
    ("csv zip", "60,000 members", lambda: zipped({f"{n}": b"" for n in range(60_000)})),
    ("csv zip", "a size that is too small", lambda: tables.lying_sizes(ROWS, 12)),
    ("csv zip", "a size of 4 GB", lambda: tables.lying_sizes(ROWS, 2**32 - 2)),
    ("csv zip", "an encrypted member", lambda: tables.encrypted(ROWS)),
    *[("csv zip", f"method {number}", partial(tables.of_method, number)) for number in (1, 9, 12, 14, 93, 99)],
    ("csv zip", "a comment", zip_with_comment),
    ("csv zip", "entries of one place", partial(entries_of_one_place, 20_000)),
    ("json gz", "objects", lambda: gzip.compress(b"[" + b"{}," * (5 * MB) + b"{}]")),
    ("json gz", "other keys in each object", lambda: gzip.compress(tables.other_keys(1_000_000))),
    ("json gz", "a sequence of objects", lambda: gzip.compress(b"{}" * (8 * MB))),
    ("json gz", "a list per column", lambda: gzip.compress(b'{"a":[' + b"{}," * (2 * MB) + b"{}]}")),
    ("json gz", "empty lists in a column", lambda: gzip.compress(b'{"a":[' + b"[]," * (2 * MB) + b"[]]}")),
    ("json gz", "spaces", lambda: gzip.compress(b"[" + b" " * (16 * MB))),
    ("json gz", "a text that does not end", lambda: gzip.compress(b'[{"a":"' + b"a" * (16 * MB))),
    ("json", "a list per column", repeated(b"{},", b'{"a":[', b"{}]}")),
    ("json", "other keys in each object", partial(tables.other_keys, 70_000)),
    ("json", "an object that does not end", repeated(b'{"a":', b"[")),
    ("json lines", "other keys in each object", lambda: tables.other_keys(70_000)[1:-1].replace(b"},", b"}\n")),
    ("json lines gz", "empty objects", lambda: gzip.compress(b"{}\n" * (5 * MB))),
    ("json lines gz", "a line that does not end", lambda: gzip.compress(b'{"a":"' + b"a" * (16 * MB))),
    ("json lines gz", "empty lines", lambda: gzip.compress(b"\n" * (16 * MB))),
    ("csv gz", "a row of commas", lambda: gzip.compress(b"," * (16 * MB))),
    ("csv gz", "empty lines", lambda: gzip.compress(b"a\n" + b"\n" * (16 * MB))),
    ("csv gz", "rows of quotation marks", lambda: gzip.compress(b"a,b\n" + b'"",""\n' * (2 * MB))),
    ("csv bz2", "12 MB of rows", lambda: bz2.compress(b"label,text\n" + b"a,b\n" * (3 * MB))),
    ("csv bz2", "many empty streams", repeated(bz2.compress(b""))),
    ("csv xz", "50 MB of rows", lambda: lzma.compress(b"label,text\n" + b"a,b\n" * (12 * MB), preset=0)),
    ("csv xz", "a dictionary of 1.5 GB", tables.large_dictionary),
    ("csv xz", "many empty streams", repeated(lzma.compress(b""))),
    ("csv zst", "50 MB of rows", lambda: tables.zstandard(b"label,text\n" + b"a,b\n" * (12 * MB))),
    ("csv zst", "a window of 2 GB", lambda: b"\x28\xb5\x2f\xfd\x00\xa8" + b"\x01\x00\x00" + b"a" * 100),
    ("parquet", "one text without pattern in 20,000 rows", partial(tables.repeated_random_text, 20_000)),
    ("parquet", "one text without pattern in 500 rows", partial(tables.repeated_random_text, 500)),
    ("parquet", "a page that claims 2 GB", partial(tables.lying_pages, 2**31 - 1)),
    ("parquet", "a page that claims 200 MB", partial(tables.lying_pages, 200 * MB)),
    ("parquet", "a page that claims 1 byte", partial(tables.lying_pages, 1)),
    ("parquet", "a page that claims -1 bytes", partial(tables.lying_pages, 2**31)),
    ("parquet", "many columns", lambda: tables.parquet_of({f"c{n}": ["x"] for n in range(3000)})),
    ("parquet", "a compressed text", lambda: tables.parquet_of({"text": ["a" * (40 * MB)]}, compression="zstd")),
    ("parquet", "many compressed texts", tables.compressible_texts),
    ("arrow", "a compressed text", lambda: tables.compressed_arrow(["a" * (60 * MB)])),
    ("arrow", "a large compressed text", lambda: tables.compressed_arrow(["a" * (150 * MB)])),
    ("arrow", "one text of a megabyte in 20,000 rows", tables.arrow_dictionary),
    ("arrow", "a batch that only the footer refers to", lambda: tables.hidden_batch(["a" * (150 * MB)])),
    ("arrow", "a batch twice", lambda: tables.repeated_batch(["a" * (20 * MB)])),
    ("arrow", "compressed dictionaries", lambda: tables.compressed_dictionaries(20, 30 * MB)),
]  # fmt: skip
HOSTILE += TABLES


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_a_harmless_megabyte_is_read_within_the_bounds(measure: Measurer, entrance: str) -> None:
    """The same bounds for harmless files show that the hostile ones cost no more than is usual."""
    cost = measure.cost(entrance, ENTRANCES[entrance].benign(MB))
    cost.check()
    assert not cost.error


@pytest.mark.parametrize(
    ("entrance", "content"), [pytest.param(e, content, id=f"{e}: {name}") for e, name, content in HOSTILE]
)
def test_a_hostile_file_costs_no_more_than_its_size_allows(
    measure: Measurer, entrance: str, content: Callable[[], bytes]
) -> None:
    measure.cost(entrance, content()).check()


def test_the_measurement_sees_time_and_memory(measure: Measurer) -> None:
    rows = measure.cost("json lines", json.dumps({"text": "x" * (20 * MB)}).encode())
    assert rows.size_bytes > 20 * MB
    assert 0.005 < rows.seconds < 20
    assert rows.peak_bytes > 20 * MB
