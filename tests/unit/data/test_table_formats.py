"""A5, A7, A8: every format, dialect and table in memory is read by one path, and mistakes are named with the way on."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import openpyxl
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet

from bothways.data.corpus import Corpus
from bothways.data.dialect import Dialect, TableFormat
from bothways.data.tables import TableSource, open_table, open_writer
from bothways.errors import ConfigError, DataError

ROWS = [{"text": "a, b", "label": "x", "n": 1}, {"text": "é\nf", "label": "y", "n": 2}]
VALUES = [list(row.values()) for row in ROWS]
FRAME = pd.DataFrame(ROWS)
ARROW = pa.table({"text": ["a, b", "é\nf"], "label": ["x", "y"], "n": [1, 2]})


def read(
    source: TableSource, columns: Sequence[str] | None = None, dialect: Dialect | None = None
) -> list[list[object]]:
    with open_table(source, dialect) as table:
        chunks = list(table.chunks(columns))
        names = columns or table.columns
    return [list(row) for chunk in chunks for row in zip(*map(chunk.column, names), strict=True)]


def to_arrow_stream(path: Path) -> None:
    with pa.ipc.new_stream(path, ARROW.schema) as writer:
        writer.write_table(ARROW)


WRITERS: dict[str, Callable[[Path], object]] = {
    "t.csv": lambda path: FRAME.to_csv(path, index=False),
    "t.tsv": lambda path: FRAME.to_csv(path, index=False, sep="\t"),
    "t.tab": lambda path: FRAME.to_csv(path, index=False, sep="\t"),
    "t.jsonl": lambda path: FRAME.to_json(path, orient="records", lines=True),
    "t.ndjson": lambda path: FRAME.to_json(path, orient="records", lines=True, force_ascii=False),
    "array.json": lambda path: FRAME.to_json(path, orient="records", indent=2),
    "lines.json": lambda path: FRAME.to_json(path, orient="records", lines=True),
    "pandas.json": FRAME.to_json,
    "lists.json": lambda path: path.write_text(json.dumps(FRAME.to_dict("list"))),
    "data.json": lambda path: path.write_text(json.dumps({"version": "1", "data": ROWS})),
    "t.parquet": lambda path: parquet.write_table(ARROW, path),
    "t.feather": FRAME.to_feather,
    "t.arrow": to_arrow_stream,
    "t.xlsx": lambda path: FRAME.to_excel(path, index=False),
}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: bytes(pa.compress(data, "zstd", asbytes=True)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a5_every_format_is_read_also_compressed_and_written_again(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    is_text = path.suffix in (".csv", ".tsv", ".tab")
    expected: list[list[object]] = [[str(value) if is_text else value for value in row] for row in VALUES]
    assert read(str(path)) == expected
    for suffix, compress in COMPRESS.items():
        packed = tmp_path / f"{name}{suffix}"
        packed.write_bytes(compress(path.read_bytes()))
        assert read(str(packed)) == expected
    with zipfile.ZipFile(tmp_path / "any.zip", "w") as archive:
        archive.write(path, f"folder/{name}")
        archive.writestr("__MACOSX/._t", b"x")
        archive.writestr("README", b"x")
    assert read(tmp_path / "any.zip") == expected
    for out in (tmp_path / f"out_{name}", tmp_path / f"out_{name}.gz", tmp_path / f"out_{name}.zip"):
        with open_table(path) as table, open_writer(table, str(out), ["label2", "p"]) as writer:
            for chunk in table.chunks():
                writer.write(chunk, {"label2": ["=x", "y"], "p": [0.5, 0.25]})
        added: list[list[object]] = [["=x", "0.5"], ["y", "0.25"]] if is_text else [["=x", 0.5], ["y", 0.25]]
        assert read(out) == [list(row) + new for row, new in zip(expected, added, strict=True)]


@pytest.mark.parametrize(
    ("content", "dialect", "expected"),
    [
        (b"label;text\nx;a, b\n", Dialect(delimiter=";"), [["x", "a, b"]]),
        (b"label\ttext\nx\ta, b\n", Dialect(delimiter="tab"), [["x", "a, b"]]),
        (b"label\ttext\nx\ta, b\n", Dialect(delimiter="\\t"), [["x", "a, b"]]),
        (b"label\ttext\nx\ta, b\n", Dialect(format="tsv"), [["x", "a, b"]]),
        ("x,é\n".encode("latin-1"), Dialect(encoding="latin-1", header=False), [["x", "é"]]),
        ("x,é\n".encode("utf-16"), Dialect(encoding="utf-16", header=False), [["x", "é"]]),
        ("x,文\n".encode("gb18030"), Dialect(encoding="gb18030", header=False), [["x", "文"]]),
        (b'\n\n"x,"a\n', Dialect(quotes="none", header=False), [['"x', '"a']]),
        (b"\n\nx\n", Dialect(header=False), [[""], [""], ["x"]]),
    ],
)
def test_a5_the_dialect_is_read_and_written_again(
    tmp_path: Path, content: bytes, dialect: Dialect, expected: list[list[str]]
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    assert read(path, dialect=dialect) == expected
    with open_table(path, dialect) as table, open_writer(table, str(tmp_path / "o.csv"), ["p"], dialect) as writer:
        assert dialect.header or table.columns == tuple(str(n + 1) for n in range(len(expected[0])))
        for chunk in table.chunks():
            writer.write(chunk, {"p": ["né"] * len(chunk)} if "gb" not in str(dialect.encoding) else {"p": ["ne"]})
    again = [row[:-1] for row in read(tmp_path / "o.csv", dialect=dialect)]
    assert again == expected


@pytest.mark.parametrize(
    ("dialect", "label", "problem"),
    [
        (Dialect(quotes="none"), "a,b", r"t\.csv, row 1 \(line 2\): 'a,b' of a prediction contains a delimiter"),
        (
            Dialect(encoding="cp1252"),
            "文",
            r"t\.csv, row 1 \(line 2\): '文' of a prediction can't be written in cp1252",
        ),
    ],
)
def test_a5_a_prediction_that_the_dialect_cannot_hold_is_refused(
    tmp_path: Path, dialect: Dialect, label: str, problem: str
) -> None:
    (tmp_path / "t.csv").write_text("text,id\na,1\n")
    with open_table(tmp_path / "t.csv", dialect) as table, open_writer(table, str(tmp_path / "o.csv"), ["p"]) as writer:
        (chunk,) = table.chunks()
        with pytest.raises(DataError, match=problem):
            writer.write(chunk, {"p": [label]})


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"encoding": "utf9"}, "unknown encoding 'utf9'. Use a name such as utf-8"),
        ({"encoding": "rot13"}, "unknown encoding"),
        ({"encoding": "unicode_escape"}, "unknown encoding"),
        ({"delimiter": "||"}, r"the delimiter is '\|\|', expected one character"),
        ({"delimiter": ""}, "expected one character"),
        ({"delimiter": '"'}, "expected one character"),
        ({"quotes": "single"}, "unknown quotes 'single'. Use double or none"),
        ({"format": "xls"}, "unknown format 'xls'. Use csv, tsv"),
    ],
)
def test_a5_an_invalid_option_is_named(options: Mapping[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Dialect(**options)


def test_a5_an_option_that_a_format_does_not_have_is_named(tmp_path: Path) -> None:
    parquet.write_table(ARROW, tmp_path / "t.parquet")
    for dialect, option in ((Dialect(delimiter=";"), "--delimiter"), (Dialect(encoding="utf-8"), "--encoding")):
        with pytest.raises(ConfigError, match=rf"read as parquet, for which {option} has no meaning\. Remove it"):
            read(tmp_path / "t.parquet", dialect=dialect)


# ---------------------------------------------------------------------------------------- mistakes


def excel(path: Path, sheets: Mapping[str, list[list[object]]]) -> Path:
    book = openpyxl.Workbook()
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.remove(book.worksheets[0])
    book.save(path)
    book.close()
    return path


def test_a7_a_file_of_another_kind_than_its_name_says_is_named(tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        write(tmp_path / name)
    (tmp_path / "t.gz").write_bytes(gzip.compress(b"a"))
    (tmp_path / "old.xls").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(100))
    (tmp_path / "page").write_text("\n<!DOCTYPE html><html>")
    for name, problem in {
        "t.xlsx": "an Excel file or a zip archive. Pass --format excel",
        "t.parquet": "a Parquet file. Pass --format parquet",
        "t.feather": "an Arrow or Feather file. Pass --format arrow",
        "t.arrow": "an Arrow stream. Pass --format arrow",
        "t.gz": "compressed with gzip. Rename it to end in .gz",
        "old.xls": "an old Excel file",
        "page": "a web page. Download the file itself",
        "array.json": "contains JSON. Pass --format json",
    }.items():
        renamed = (tmp_path / name).rename(tmp_path / "renamed.csv")
        with pytest.raises(DataError, match=rf"renamed\.csv (is )?{problem}"):
            read(renamed)
        if "--format" in problem:
            table_format: Any = problem.split("--format ")[1]
            assert read(renamed, dialect=Dialect(format=table_format)) == VALUES


@pytest.mark.parametrize("name", ["SMSSpamCollection", "t.txt", "t.xls"])
def test_a5_an_unknown_suffix_is_refused_with_the_option(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("text\tid\na\t1\n")
    with pytest.raises(ConfigError, match=r"unknown file format .* Pass --format, such as --format csv"):
        read(tmp_path / name)
    assert read(tmp_path / name, dialect=Dialect(format="tsv")) == [["a", "1"]]
    assert read(tmp_path / name, dialect=Dialect(delimiter="tab")) == [["a", "1"]]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("https://example.org/a.csv", "is a URL, expected the path of a file. Download the file first"),
        ("missing/*.csv", "no file matches the pattern"),
        (FRAME["text"], "got a Series, expected a path, a DataFrame"),
        (None, "got a NoneType, expected"),
        (["good film", "bad film"], r"file not found: good film\. .* pass \{'text': texts, 'label': labels\}"),
        ([["good", "pos"]], "row 1 of the list is a list, expected a dict per row"),
        ({"text": "abc"}, "column 'text' of the table is the string 'abc', expected one value per row"),
        ({"text": 5}, "column 'text' of the table is a int, expected one value per row"),
        (pd.concat([FRAME, FRAME], axis=1), "the table has 2 columns named 'text'. Rename all but one"),
        (datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)), "got a DatasetDict with the splits 'train'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a7_what_is_no_table_is_named_by_its_cause(source: Any, problem: str) -> None:
    def texts() -> None:
        with open_table(source) as table:
            table.require_column("text", "--text")
            list(table.chunks(["text"]))

    with pytest.raises(DataError, match=problem):
        texts()


def test_a4_only_the_columns_that_are_needed_must_be_unique(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("v1,v2,,,\nham,hello,,,\n")
    assert read(tmp_path / "t.csv", ["v2", "v1"]) == [["hello", "ham"]]
    with open_table(tmp_path / "t.csv") as table, pytest.raises(DataError, match="has 3 columns named ''"):
        table.require_column("", "--text")


def test_a7_a_missing_header_is_suspected_where_the_names_look_like_a_row(tmp_path: Path) -> None:
    for header, is_suspected in (("ham,Ok see you then", True), ("1,text", True), ("v1,v2", False)):
        (tmp_path / "t.csv").write_text(f"{header}\n")
        with open_table(tmp_path / "t.csv") as table, pytest.raises(DataError) as caught:
            table.require_column("label", "--label")
        assert ("(if its first line is a row, pass --no-header)" in str(caught.value)) == is_suspected


def test_a5_excel_mistakes_are_named(tmp_path: Path) -> None:
    rows: list[list[object]] = [["text", "label"], ["a", "x"]]
    several = excel(tmp_path / "s.xlsx", {"2023": rows, "2024": rows, "empty": []})
    with pytest.raises(DataError, match=r"has several sheets with data: '2023', '2024'\. Save the one"):
        read(several)
    with pytest.raises(DataError, match=r"a formula has no stored value\. Open the file in Excel"):
        read(excel(tmp_path / "f.xlsx", {"s": [*rows, ["=A1&B1", "y"]]}))
    with pytest.raises(DataError, match=r"row 1 \(line 2\): has a value beyond the last column 'label'"):
        read(excel(tmp_path / "w.xlsx", {"s": [rows[0], ["a", "x", "note"]]}))
    with pytest.raises(DataError, match="is empty, expected a sheet"):
        read(excel(tmp_path / "e.xlsx", {"s": []}))
    gaps = excel(tmp_path / "g.xlsx", {"notes": [], "s": [[], [], *rows, [], ["b", None], [None, "#N/A"]]})
    assert read(gaps) == [["a", "x"], ["b", ""], ["", None]]


def test_a5_a_zip_archive_has_exactly_one_table(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("train.csv", b"text\na\n")
        archive.writestr("test.csv", b"text\na\n")
    with pytest.raises(DataError, match=r"contains 2 files, expected one: train\.csv, test\.csv\. Unpack it"):
        read(tmp_path / "t.zip")
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04" + bytes(50))
    with pytest.raises(DataError, match=r"is damaged or not a \.zip file"):
        read(tmp_path / "b.zip")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[]", "is empty, expected objects"),
        (b'[{"a": 1} {"a": 2}]', "after row 1: expected a comma or the end of the array"),
        (b'[{"a": 1}, 5]', "row 2: found a number, expected a JSON object"),
        (b'[{"a": 1}', "after row 1: expected a comma or the end of the array"),
        (b'[{"a": 1}] x', "after row 1: expected the end of the file after the array"),
        (b'{"a": ["x", "y"], "b": ["z"]}', "different numbers of values: 'a' has 2, 'b' has 1"),
        (b'"text"', "is not a JSON document, expected an array of objects"),
        (b'[{"a": "\xe9"}]', "not valid UTF-8. Save the file as UTF-8, or pass its encoding"),
        ('[{"a": 1}]'.encode("utf-16"), "looks like UTF-16, expected UTF-8. Pass --encoding utf-16"),
    ],
)
def test_a5_a_json_document_that_is_no_table_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(DataError, match=problem):
        read(tmp_path / "t.json")


# ---------------------------------------------------------------------------------------- in memory, several files

MEMORY: list[Any] = [
    ROWS,
    FRAME,
    FRAME.to_dict("list"),
    {name: FRAME[name].to_numpy() for name in FRAME},
    {name: pa.array(FRAME[name].tolist()) for name in FRAME},
    FRAME.to_records(index=False),
    pl.DataFrame(ROWS),
    pl.DataFrame(ROWS).lazy(),
    ARROW,
    ARROW.to_batches()[0],
    datasets.Dataset.from_list(ROWS),
    datasets.Dataset.from_list(ROWS).with_format("numpy"),
    datasets.Dataset.from_list(ROWS).to_iterable_dataset(),
]


@pytest.mark.parametrize("source", MEMORY, ids=lambda value: type(value).__name__)
def test_a8_tables_of_every_library_are_read(source: Any) -> None:
    assert read(source) == VALUES
    assert read(source, ["n", "text"]) == [[row[2], row[0]] for row in VALUES]
    assert all(type(value) in (str, int) for row in read(source) for value in row)


def test_a2_class_labels_of_hugging_face_are_names(tmp_path: Path) -> None:
    topics = datasets.ClassLabel(names=["u", "v"])
    features = datasets.Features(
        {"label": datasets.ClassLabel(names=["neg", "pos"]), "topics": datasets.Sequence(topics)}
    )
    data = datasets.Dataset.from_dict({"label": [0, 1, -1], "topics": [[0, 1], [], [1]]}, features=features)
    expected: list[list[object]] = [["neg", ["u", "v"]], ["pos", []], [None, ["v"]]]
    assert read(data) == expected
    data.to_parquet(tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet") == expected
    data.save_to_disk(tmp_path / "saved")
    assert read(next((tmp_path / "saved").glob("*.arrow"))) == expected


def test_a8_lists_and_numpy_values_in_cells_are_plain_python() -> None:
    frame = pl.DataFrame({"tags": [["a", "b"], []]})
    assert read(frame) == [[["a", "b"]], [[]]]
    assert read({"n": [np.int64(3), np.True_, np.str_("x")]}) == [[3], [True], ["x"]]


def test_a8_patterns_and_lists_of_paths_are_one_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,x\n")
    (tmp_path / "b.csv").write_text("label,text\ny,b\n")
    expected = [["a", "x"], ["b", "y"]]
    assert read(str(tmp_path / "*.csv")) == expected
    assert read([tmp_path / "a.csv", str(tmp_path / "b.csv")]) == expected
    with open_table(str(tmp_path / "*.csv")) as table:
        places = [place for chunk in table.chunks(["text"]) for place in chunk.places]
    assert places == [f"{tmp_path}/a.csv, row 1 (line 2)", f"{tmp_path}/b.csv, row 1 (line 2)"]
    (tmp_path / "c.csv").write_text("text\nc\n")
    with pytest.raises(DataError, match=r"a\.csv and .*c\.csv have different columns: only one of them has 'label'"):
        read(str(tmp_path / "*.csv"))


def test_a5_a_corpus_has_the_same_formats_and_options(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("é one\n\ntwo".encode("latin-1"))
    (tmp_path / "b.txt").write_bytes("three".encode("latin-1"))
    corpus = Corpus([str(tmp_path / "*.txt")], "text", Dialect(encoding="latin-1"))
    assert [str(text).strip() for text in corpus.read()] == ["é one", "two", "three"]
    (tmp_path / "c").write_text("ham\tfour\nspam\tfive\n")
    as_table = Corpus([str(tmp_path / "c")], "2", Dialect(format="tsv", header=False))
    assert list(as_table.read()) == ["four", "five"]
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.write(tmp_path / "c", "c.tsv")
    assert Corpus([str(tmp_path / "d.zip")], "four").texts == 1


def test_a5_binary_tables_can_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    parquet.write_table(ARROW, stream)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stream.getvalue())))
    table_format: TableFormat = "parquet"
    assert read("-", dialect=Dialect(format=table_format)) == VALUES
