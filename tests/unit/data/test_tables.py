from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import IO

import pyarrow
import pytest
from pyarrow import parquet

from bothways.data.delimited import DelimitedTable
from bothways.data.dialect import Dialect, TableFormat, format_of
from bothways.data.table import CHUNK_ROWS
from bothways.data.tables import open_table, open_writer
from bothways.errors import ConfigError, DataError

CSV = "id,text\n01,NA\n02,\n03,null\n"


@pytest.fixture
def csv_file(tmp_path: Path) -> str:
    path = tmp_path / "reviews.csv"
    path.write_text(CSV)
    return str(path)


@pytest.mark.parametrize(
    ("path", "given", "expected"),
    [
        ("a.csv", None, "csv"),
        ("a.TSV.gz", None, "tsv"),
        ("a.tab", None, "tsv"),
        ("a.ndjson.zst", None, "jsonl"),
        ("a.jsonl", None, "jsonl"),
        ("a.parquet", None, "parquet"),
        ("-", None, "csv"),
        ("-", "jsonl", "jsonl"),
        ("a.txt", "tsv", "tsv"),
    ],
)
def test_the_suffix_tells_the_format_unless_the_user_does(path: str, given: TableFormat | None, expected: str) -> None:
    assert format_of(path, Dialect(format=given)) == expected


@pytest.mark.parametrize("path", ["a.xls", "a", "a.gz", "csv"])
def test_an_unknown_suffix_is_named_with_the_known_ones(path: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown file format .*Pass --format, .*use a suffix \.csv, \.tsv"):
        format_of(path)


def test_rows_come_in_order_with_their_places(csv_file: str) -> None:
    with open_table(csv_file) as table:
        assert table.columns == ("id", "text")
        (chunk,) = table.chunks()
    assert chunk.rows == [["01", "NA"], ["02", ""], ["03", "null"]]
    assert chunk.column("text") == ["NA", "", "null"]
    assert list(chunk.places) == ["row 1 (line 2)", "row 2 (line 3)", "row 3 (line 4)"]


def test_a_large_table_comes_in_chunks(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n\n" + "".join(f"{n}\n" for n in range(2 * CHUNK_ROWS + 1)))
    with open_table(str(path)) as table:
        chunks = list(table.chunks())
    assert [len(chunk) for chunk in chunks] == [CHUNK_ROWS, CHUNK_ROWS, 1]
    assert [value for chunk in chunks for value in chunk.column("n")] == [str(n) for n in range(2 * CHUNK_ROWS + 1)]
    assert list(chunks[-1].places) == [f"row {2 * CHUNK_ROWS + 1} (line {2 * CHUNK_ROWS + 2})"]


def test_added_columns_come_after_the_others(csv_file: str, tmp_path: Path) -> None:
    with open_table(csv_file) as table, open_writer(table, str(tmp_path / "out.csv"), ["label", "p"]) as writer:
        for chunk in table.chunks():
            writer.write(chunk, {"label": ["good", "so, so", "bad"], "p": [0.5, 1.0, 0.25]})
    expected = b'id,text,label,p\n01,NA,good,0.5\n02,,"so, so",1.0\n03,null,bad,0.25\n'
    assert (tmp_path / "out.csv").read_bytes() == expected


def test_added_keys_come_after_the_others(tmp_path: Path) -> None:
    lines = b'{"text": "\xc3\xa9", "n": 1.5}\n{"other": {"a": [1, null]}, "text": "b"}\n'
    (tmp_path / "in.jsonl").write_bytes(lines)
    with open_table(str(tmp_path / "in.jsonl")) as table:
        assert table.columns == ("text", "n")
        with open_writer(table, str(tmp_path / "out.jsonl"), ["label"]) as writer:
            for chunk in table.chunks():
                assert chunk.columns == ("text", "n", "other")
                assert chunk.rows == [["é", 1.5, None], ["b", None, {"a": [1, None]}]]
                assert list(chunk.places) == ["line 1", "line 2"]
                writer.write(chunk, {"label": ["x", "y"]})
    expected = '{"text": "é", "n": 1.5, "label": "x"}\n{"other": {"a": [1, null]}, "text": "b", "label": "y"}\n'
    assert (tmp_path / "out.jsonl").read_text() == expected


def test_parquet_keeps_its_types_and_metadata(tmp_path: Path) -> None:
    schema = pyarrow.schema(
        [("text", pyarrow.large_string()), ("n", pyarrow.uint8()), ("tags", pyarrow.list_(pyarrow.string()))],
        metadata={"origin": "a test"},
    )
    ours = pyarrow.table({"text": ["a", None], "n": [1, 2], "tags": [["x"], []]}, schema=schema)
    parquet.write_table(ours, tmp_path / "in.parquet")
    with open_table(str(tmp_path / "in.parquet")) as table:
        assert table.columns == ("text", "n", "tags")
        with open_writer(table, str(tmp_path / "out.parquet"), ["label"]) as writer:
            for chunk in table.chunks():
                assert chunk.rows == [("a", 1, ["x"]), (None, 2, [])]
                assert list(chunk.places) == ["row 1", "row 2"]
                writer.write(chunk, {"label": ["x", "y"]})
    theirs = parquet.read_table(tmp_path / "out.parquet")
    assert theirs.drop_columns("label").equals(ours)
    assert theirs.schema.metadata[b"origin"] == b"a test"
    assert theirs["label"].to_pylist() == ["x", "y"]


def test_a_parquet_table_without_rows_still_gets_its_columns(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), tmp_path / "in.parquet")
    with (
        open_table(str(tmp_path / "in.parquet")) as table,
        open_writer(table, str(tmp_path / "out.parquet"), ["label"]),
    ):
        assert list(table.chunks()) == []
    assert parquet.read_table(tmp_path / "out.parquet").column_names == ["text", "label"]


def test_a_missing_column_is_reported_with_those_that_are_there(csv_file: str) -> None:
    with open_table(csv_file) as table:
        table.require_column("text", "--text")
        with pytest.raises(
            DataError,
            match=r"no column 'label'\. It has 'id', 'text'\. Choose a column with --label$",
        ):
            table.require_column("label", "--label")


def test_a_thousand_columns_are_not_all_listed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",".join(f"{n:0100}" for n in range(1_000)) + "\n")
    with (
        open_table(str(tmp_path / "a.csv")) as table,
        pytest.raises(DataError, match=r"and 980 more \(if .*\. Choose") as caught,
    ):
        table.require_column("text", "--text")
    assert len(str(caught.value)) < 1_500


def test_a_column_that_is_there_already_is_not_added(csv_file: str, tmp_path: Path) -> None:
    with (
        open_table(csv_file) as table,
        pytest.raises(DataError, match=r"already has a column 'text'\. Rename or drop it first"),
        open_writer(table, str(tmp_path / "out.csv"), ["label", "text"]),
    ):
        pytest.fail("the block must not run")
    assert not (tmp_path / "out.csv").exists()


def test_another_format_is_not_written(csv_file: str, tmp_path: Path) -> None:
    with (
        open_table(csv_file) as table,
        pytest.raises(ConfigError, match=r"out\.jsonl is a jsonl file, but the input is csv. Use the same format"),
        open_writer(table, str(tmp_path / "out.jsonl"), []),
    ):
        pytest.fail("the block must not run")


def test_rows_can_come_and_go_by_the_standard_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    typed, shown = io.TextIOWrapper(io.BytesIO(CSV.encode())), io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdin", typed)
    monkeypatch.setattr(sys, "stdout", shown)
    with open_table("-") as table, open_writer(table, "-", ["n"]) as writer:
        for chunk in table.chunks():
            writer.write(chunk, {"n": range(len(chunk))})
    del table, writer
    assert isinstance(shown.buffer, io.BytesIO)
    assert shown.buffer.getvalue() == b"id,text,n\n01,NA,0\n02,,1\n03,null,2\n"


def test_letting_go_of_a_table_leaves_the_stream_open() -> None:
    stream: IO[bytes] = io.BytesIO(CSV.encode())
    table = DelimitedTable("-", stream, Dialect())
    next(table.chunks())
    del table
    assert not stream.closed
