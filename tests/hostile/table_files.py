"""Tables to attack with: workbooks, zip archives and columnar files that are small and claim or contain a lot."""

from __future__ import annotations

import contextlib
import io
import lzma
import struct
import zipfile
from collections.abc import Mapping
from functools import cache

import numpy as np
import openpyxl
import pyarrow
import pyarrow.ipc
import pyarrow.parquet

MB = 1_000_000
MAIN = b'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
SHEET, STRINGS, STYLES = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml", "xl/styles.xml"
WORKBOOK, RELATIONSHIPS = "xl/workbook.xml", "xl/_rels/workbook.xml.rels"
PARTS = (SHEET, STRINGS, STYLES, WORKBOOK, "[Content_Types].xml", RELATIONSHIPS, "xl/theme/theme1.xml",
         "docProps/core.xml")  # fmt: skip


def zipped(entries: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


# Workbooks


@cache
def parts_of_workbook() -> dict[str, bytes]:
    """Return the parts of a workbook with one text in its shared strings."""
    stream, made = io.BytesIO(), openpyxl.Workbook()
    made.active.append(["label", "text"])
    made.save(stream)
    with zipfile.ZipFile(stream) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    kind = b"http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings"
    added = b'<Relationship Type="' + kind + b'" Target="sharedStrings.xml" Id="strings"/></Relationships>'
    parts[RELATIONSHIPS] = parts[RELATIONSHIPS].replace(b"</Relationships>", added)
    return {**parts, STRINGS: b"<sst " + MAIN + b"/>"}


def workbook_with(parts: Mapping[str, bytes | None]) -> bytes:
    """Return a workbook with other parts, or without the parts that are None."""
    merged = {**parts_of_workbook(), **parts}
    return zipped({name: content for name, content in merged.items() if content is not None})


def workbook(sheet: bytes, strings: bytes = b"") -> bytes:
    """Return an Excel file with the given rows and shared strings, as XML."""
    return workbook_with({SHEET: sheet_of(sheet), STRINGS: b"<sst " + MAIN + b">" + strings + b"</sst>"})


def sheet_of(rows: bytes) -> bytes:
    """Return the XML of a sheet with the given rows."""
    return b"<worksheet " + MAIN + b"><sheetData>" + rows + b"</sheetData></worksheet>"


def cell(place: str, text: str = "text") -> bytes:
    """Return the XML of a cell."""
    return f'<c r="{place}" t="inlineStr"><is><t>{text}</t></is></c>'.encode()


def plain_workbook(size: int) -> bytes:
    """Return a harmless workbook of about so many bytes."""
    rows = [
        f"<row>{cell(f'A{n}', 'pos').decode()}{cell(f'B{n}', str(n * 7919**3)).decode()}</row>"
        for n in range(2, 2 + size // 24)
    ]
    return workbook(HEAD + "".join(rows).encode())


HEAD = b'<row r="1">' + cell("A1", "label") + cell("B1") + b"</row>"
LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">'
    + b"".join(b'<!ENTITY %c "%b">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(15))
    + b"]>"
)
"""Entities that contain each other: the last one stands for 10^15 characters."""
LONG_ENTITY = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY p "' + b"a" * 60_000 + b'">]>'
OUTSIDE = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY p SYSTEM "file:///etc/passwd">]>'


def with_entities(document: bytes, text: bytes) -> bytes:
    """Return a workbook whose shared strings declare entities and contain a text."""
    strings = document + b"<sst " + MAIN + b"><si><t>" + text + b"</t></si></sst>"
    row = b'<row r="2"><c r="A2" t="s"><v>0</v></c></row>'
    return workbook_with({SHEET: sheet_of(HEAD + row), STRINGS: strings})


def laughing_part(name: str) -> bytes:
    """Return a workbook in which a part contains an entity of 10^15 characters."""
    return workbook_with({name: LAUGHS + b"<x>&p;</x>"})


def nested_part(name: str, size: int = 3 * MB) -> bytes:
    """Return a workbook in which a part is XML of great depth."""
    return workbook_with({name: b"<a>" * (size // 3)})


def nested_sheet(size: int = 3 * MB) -> bytes:
    """Return a workbook with a cell of great depth."""
    return workbook(HEAD + b'<row><c r="A2" t="inlineStr"><is>' + b"<r>" * (size // 3))


def shared_string(characters: int, rows: int) -> bytes:
    """Return a workbook in which many cells are one long shared string."""
    cells = b"".join(b'<row><c r="A%d" t="s"><v>0</v></c></row>' % n for n in range(2, rows + 2))
    return workbook(HEAD + cells, b"<si><t>" + b"a" * characters + b"</t></si>")


def shared_strings(count: int, part: bytes = b"<si><t>a</t></si>") -> bytes:
    """Return a workbook with many shared strings."""
    return workbook(HEAD + b"<row>" + cell("A2") + b"</row>", part * count)


def far_cells(rows: int) -> bytes:
    """Return a workbook in which the first and the last possible cell of each of many rows have a value."""
    between = b"".join(b"<row>" + cell(f"XFD{n}", "x") + b"</row>" for n in range(2, rows + 2))
    return workbook(b"<row>" + cell("A1") + cell("XFD1") + b"</row>" + between)


def far_rows(count: int) -> bytes:
    """Return a workbook whose rows have the largest numbers, again and again."""
    pair = b'<row r="1">' + cell("A1") + b'</row><row r="1048576">' + cell("XFD1048576") + b"</row>"
    return workbook(HEAD + pair * count)


def many_cells(part: bytes, count: int) -> bytes:
    """Return a workbook with a row of many equal cells."""
    return workbook(HEAD + b"<row>" + part * count + b"</row>")


def many_rows(part: bytes, count: int) -> bytes:
    """Return a workbook with many rows of one cell."""
    return workbook(HEAD + (b"<row>" + part + b"</row>") * count)


def many_runs(count: int = 300_000) -> bytes:
    """Return a workbook with a shared string of many empty runs."""
    return shared_strings(1, b"<si>" + b"<r><t/></r>" * count + b"</si>")


def many_sheets(count: int) -> bytes:
    """Return a workbook that names one sheet many times."""
    old = parts_of_workbook()[WORKBOOK]
    start, end = old.index(b"<sheet "), old.index(b"</sheets>")
    sheet = old[start:end]
    sheets = b"".join(sheet.replace(b'"Sheet"', b'"S%d"' % n).replace(b'sheetId="1"', b'sheetId="%d"' % n)
                      for n in range(1, count + 1))  # fmt: skip
    return workbook_with({WORKBOOK: old[:start] + sheets + old[end:]})


def many_styles(part: bytes, count: int) -> bytes:
    """Return a workbook with many styles."""
    return workbook_with({STYLES: b"<styleSheet " + MAIN + b">" + part * count + b"</styleSheet>"})


# Zip archives


def lying_sizes(content: bytes, stated: int) -> bytes:
    """Return a zip archive whose only member states another size in both of its headers."""
    archive = bytearray(zipped({"x.csv": content}))
    at = archive.index(b"PK\1\2")
    archive[at + 24 : at + 28] = archive[22:26] = struct.pack("<L", stated)
    return bytes(archive)


def encrypted(content: bytes) -> bytes:
    """Return a zip archive whose only member states that it is encrypted."""
    archive = bytearray(zipped({"x.csv": content}))
    at = archive.index(b"PK\1\2")
    archive[at + 8] |= 1
    archive[6] |= 1
    return bytes(archive)


def of_method(number: int) -> bytes:
    """Return a zip archive whose only member is compressed with a method of this number."""
    archive = bytearray(zipped({"x.csv": b"label,text\n"}))
    at = archive.index(b"PK\1\2")
    archive[at + 10] = archive[8] = number
    return bytes(archive)


def nested_archive(levels: int) -> bytes:
    """Return a zip archive in a zip archive in a zip archive ..."""
    content = b"label,text\npos,x\n"
    for _ in range(levels):
        content = zipped({"x.csv.zip": content})
    return content


# Other compressions


def zstandard(content: bytes) -> bytes:
    """Return a Zstandard stream."""
    return bytes(pyarrow.compress(content, "zstd", asbytes=True))


def large_dictionary() -> bytes:
    """Return an xz stream that asks for a dictionary of 1.5 GB."""
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1536 << 20, "preset": 0}]
    return lzma.compress(b"label,text\npos,x\n", filters=filters)


# Columnar files


def parquet_of(columns: Mapping[str, object], **options: object) -> bytes:
    """Return a Parquet file."""
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file, **options)
    return file.getvalue()


def compressible_texts() -> bytes:
    """Return a Parquet file with long texts of one character and a number."""
    return parquet_of({"text": [f"{n}" + "a" * 1000 for n in range(100_000)]}, compression="zstd")


def random_text(characters: int) -> str:
    """Return a text that cannot be compressed much."""
    return np.random.default_rng(0).bytes(characters // 2).hex()


def repeated_random_text(rows: int, characters: int = MB) -> bytes:
    """Return a Parquet file whose rows all have one long text that can't be compressed, and is stored once."""
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(rows, np.int32)), [random_text(characters)])
    return parquet_of({"label": ["x"] * rows, "text": texts})


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number >= 128:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def lying_pages(stated: int) -> bytes:
    """Return a Parquet file whose first page header states another size than its content has."""
    content = parquet_of({"label": ["x"] * 2000, "text": [f"a lovely film {n}" for n in range(2000)]},
                         compression="zstd", use_dictionary=False)  # fmt: skip
    # Thrift: field 1 is the kind of page, field 2 its uncompressed size, both as varints in zigzag
    at = 4
    assert content[at : at + 3] == b"\x15\x00\x15", content[:16]
    end = at + 3
    while content[end] & 128:
        end += 1
    old = end + 1 - (at + 3)
    new = _varint(stated * 2)
    padded = bytes(byte | 128 for byte in new) + b"\x80" * (old - len(new) - 1) + b"\0" if len(new) < old else new
    return content[: at + 3] + padded + content[end + 1 :]


def compressed_arrow(texts: list[str]) -> bytes:
    """Return an Arrow file whose buffers are compressed."""
    file, table = io.BytesIO(), pyarrow.table({"text": texts})
    options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
    with pyarrow.ipc.new_file(file, table.schema, options=options) as writer:
        writer.write_table(table)
    return file.getvalue()


def arrow_dictionary(rows: int = 20_000, characters: int = MB) -> bytes:
    """Return an Arrow file whose rows all have one long text, which is stored once."""
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(rows, np.int32)), [random_text(characters)])
    file, table = io.BytesIO(), pyarrow.table({"label": ["x"] * rows, "text": texts})
    with pyarrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def _last_batch(arrow_file: bytes) -> tuple[int, bytes]:
    """Return the place of the reference to the last batch in the footer of an Arrow file, and the batch."""
    file, begin, end = io.BytesIO(arrow_file), 0, 8
    file.seek(end)
    messages = pyarrow.ipc.MessageReader.open_stream(file)
    with contextlib.suppress(StopIteration):
        while messages.read_next_message():
            begin, end = end, file.tell()
    block = arrow_file.rindex(struct.pack("<q", begin))
    _, metadata, _, body = struct.unpack_from("<qiiq", arrow_file, block)
    assert metadata + body == end - begin
    return block, arrow_file[begin:end]


def hidden_batch(texts: list[str]) -> bytes:
    """Return an Arrow file with a batch behind the end of its stream, so that only the footer refers to it."""
    content, hidden = compressed_arrow(["a"]), compressed_arrow(texts)
    footer = len(content) - 10 - int.from_bytes(content[-10:-6], "little")
    (block, _), (reference, batch) = _last_batch(content), _last_batch(hidden)
    changed = struct.pack("<q", footer) + hidden[reference + 8 : reference + 24]
    return content[:footer] + batch + content[footer:block] + changed + content[block + 24 :]


def repeated_batch(texts: list[str]) -> bytes:
    """Return an Arrow file whose footer refers to one of two batches twice."""
    file, schema = io.BytesIO(), pyarrow.schema({"text": pyarrow.string()})
    options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
    with pyarrow.ipc.new_file(file, schema, options=options) as writer:
        for _ in range(2):
            writer.write_batch(pyarrow.record_batch({"text": texts}))
    content = file.getvalue()
    block, _ = _last_batch(content)
    return content[:block] + content[block - 24 : block] + content[block + 24 :]


def compressed_dictionaries(columns: int, characters: int) -> bytes:
    """Return an Arrow file with one row of texts that are stored as compressed dictionaries."""
    text = pyarrow.array(["a" * characters]).dictionary_encode()
    file, table = io.BytesIO(), pyarrow.table({f"c{number}": text for number in range(columns)})
    options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
    with pyarrow.ipc.new_file(file, table.schema, options=options) as writer:
        writer.write_table(table)
    return file.getvalue()


def other_keys(count: int) -> bytes:
    """Return a JSON array of objects that each have a key of their own."""
    return b"[" + b",".join(b'{"%x":0}' % number for number in range(count)) + b"]"
