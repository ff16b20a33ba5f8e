from __future__ import annotations

import bz2
import contextlib
import gc
import gzip
import io
import json
import lzma
import os
import random
import subprocess
import sys
import tempfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import feather, parquet

from bothways import files
from bothways.data import delimited, excel, json_files, lines
from bothways.data.dialect import Dialect, Quotes
from bothways.data.tables import open_table, open_writer
from bothways.errors import BothwaysError, DataError, OutputExists, TextError
from bothways.files import COMPRESSIONS
from bothways.text.validation import check_text
from tests.hostile.table_files import cell, workbook

NOBODY = 65_534


def rows_of(path: Path | str, quotes: Quotes | None = None) -> list[list[object]]:
    with open_table(str(path), Dialect(quotes=quotes)) as table:
        return [list(row) for chunk in table.chunks() for row in chunk.rows]


def column_of(path: Path | str, name: str, quotes: Quotes | None = None) -> list[object]:
    with open_table(str(path), Dialect(quotes=quotes)) as table:
        return [value for chunk in table.chunks() for value in chunk.column(name)]


def copied(path: Path | str, out: Path | str, added: str = "label", quotes: Quotes | None = None) -> None:
    """Copy a table with an added column, as ``predict`` does."""
    with open_table(str(path), Dialect(quotes=quotes)) as table, open_writer(table, str(out), [added]) as writer:
        for chunk in table.chunks():
            writer.write(chunk, {added: [f"label {place}" for place in chunk.places]})


def compressed(data: bytes, suffix: str) -> bytes:
    match suffix:
        case ".gz":
            return gzip.compress(data)
        case ".bz2":
            return bz2.compress(data)
        case ".xz":
            return lzma.compress(data)
        case ".zst":
            return bytes(pyarrow.compress(data, "zstd", asbytes=True))
        case ".zip":
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("table", data)
            return stream.getvalue()
        case _:
            return data


def refusal(path: Path | str) -> str:
    """Return what the error message of a table says after the file's name."""
    with pytest.raises(DataError) as caught:
        rows_of(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)[len(str(path)) :]


# ------------------------------------------------------------------------------------------ what is wrong with the text


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (
            "a.csv",
            b"id,text\n1,fine\n2,caf\xe9\n",
            ", row 2 (line 3), column 'text': not valid UTF-8. Save the file as",
        ),
        ("a.csv", b"id,text\n1,\xed\xa0\x80\n", ", row 1 (line 2), column 'text': not valid UTF-8"),
        ("a.csv", b"id,t\xe9xt\n1,a\n", ", header, column 't\\xe9xt': not valid UTF-8"),
        ("a.csv", b"id,text\n1,a,b\n", ", row 1 (line 2): found 3 fields, expected 2 as in the header. Quote fields"),
        ("a.csv", b'id,text\n1,"a\nb"\n2\n', ", row 2 (line 4): found 1 fields, expected 2"),
        (
            "a.csv",
            b'id,text\n1,"never closed\n2,b\n',
            ", lines 2 to 3: a quotation mark opens a field that is never",
        ),
        (
            "a.csv",
            b'id,text\n1,"a"b\n',
            ", line 2: a field that begins with a quotation mark continues after the closing one",
        ),
        ("a.csv", b"", " is empty, expected a header line with column names"),
        ("a.csv", b"\n\r\n\n", " is empty, expected a header line"),
        ("a.csv", b"\xef\xbb\xbf", " is empty, expected a header line"),
        ("a.tsv", b"text\tid\na\n", ", row 1 (line 2): found 1 fields, expected 2"),
        ("a.tsv", b'text\tid\n"a\t1\n', ", line 2: a quotation mark opens a field that is never closed"),
        ("a.csv", "text,id\na,1\n".encode("utf-16"), " looks like UTF-16, expected UTF-8. Pass --encoding utf-16"),
        ("a.csv", "text,id\na,1\n".encode("utf-16-le"), " looks like UTF-16"),
        ("a.csv", "text,id\na,1\n".encode("utf-16-be"), " looks like UTF-16"),
        ("a.csv", '"text","id"\n"a","1"\n'.encode("utf-16"), " looks like UTF-16"),
        ("a.csv", "文,字\n一,二\n".encode("utf-16"), " looks like UTF-16"),
        ("a.jsonl", '{"text": "a"}\n'.encode("utf-16"), ", line 1: looks like UTF-16"),
        ("a.jsonl", '{"text": "a"}\n'.encode("utf-16-le"), ", line 1: looks like UTF-16"),
        ("a.jsonl", '{"text": "a"}\n'.encode("utf-16-be"), ", line 1: looks like UTF-16"),
        ("a.jsonl", b'{"text": "\xe9"}\n', ", line 1: not valid UTF-8. Save the file as UTF-8"),
        ("a.jsonl", b"", " is empty, expected one JSON object per line"),
        ("a.jsonl", b"\n  \n\t\n", " is empty, expected one JSON object per line"),
        ("a.jsonl", b'{"text": "a"}\n["a"]\n', ", line 2: found an array, expected a JSON object"),
        ("a.jsonl", b'"a"\n', ", line 1: found a string, expected a JSON object"),
        ("a.jsonl", b"1.5\n", ", line 1: found a number, expected a JSON object"),
        ("a.jsonl", b"true\n", ", line 1: found a boolean, expected a JSON object"),
        ("a.jsonl", b"null\n", ", line 1: found null, expected a JSON object"),
        ("a.jsonl", b'\n\n{"text": NaN}\n', ", line 3: not strict JSON: NaN is not a JSON number"),
        ("a.jsonl", b'{"text": "a", "text": "b"}\n', ", line 1: not strict JSON: the key 'text' occurs twice"),
        ("a.jsonl", b'{"a":' * 100_000, ", line 1: not strict JSON: it is nested too deeply"),
        ("a.jsonl", b'{"text": "a"} {"text": "b"}\n', ", line 1: not strict JSON: Extra data"),
        ("a.jsonl", b'{"text": "a",\n"id": 1}\n', ", line 1: not strict JSON: "),
        ("a.jsonl", b"text,id\na,1\n", ", line 1: not strict JSON: Expecting value"),
        ("a.parquet", b"", " is not a valid Parquet file: "),
        ("a.parquet", b"text,id\na,1\n", " is not a valid Parquet file: "),
        ("a.parquet", b"PAR1" + b"\xff" * 100 + b"PAR1", " is not a valid Parquet file: "),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name).startswith(problem)


@pytest.mark.parametrize(
    ("name", "header", "hint"),
    [
        ("a.csv", "id;text", "(its columns seem to be separated by semicolons: pass --delimiter ';')"),
        ("a.csv", "id\ttext", "(its columns seem to be separated by tabs: pass --delimiter tab)"),
        ("a.csv", "id|text", "(its columns seem to be separated by bars: pass --delimiter '|')"),
        ("a.tsv", "id,text", "(its columns seem to be separated by commas: pass --delimiter ',')"),
        ("a.tsv", "id;text", "(its columns seem to be separated by semicolons: pass --delimiter ';')"),
    ],
)
def test_another_delimiter_is_hinted_at(tmp_path: Path, name: str, header: str, hint: str) -> None:
    (tmp_path / name).write_text(f"{header}\n")
    with open_table(str(tmp_path / name)) as table, pytest.raises(DataError) as caught:
        table.require_column("text", "--text")
    assert hint in str(caught.value)


@pytest.mark.parametrize("header", ['"id,text"', "words"])
def test_one_column_is_no_reason_for_a_hint(tmp_path: Path, header: str) -> None:
    (tmp_path / "a.csv").write_text(f"{header}\n")
    with open_table(str(tmp_path / "a.csv")) as table, pytest.raises(DataError) as caught:
        table.require_column("text", "--text")
    assert "seem to be separated" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"id,text\n", []),
        ("a.csv", b"id,text", []),
        ("a.csv", b"\xef\xbb\xbfid,text\n1,a\n", [["1", "a"]]),
        ("a.csv", b'\xef\xbb\xbf"id",text\r\n1,a\r\n', [["1", "a"]]),
        ("a.csv", b"id,text\r\n1,a\r\n\r\n2,b", [["1", "a"], ["2", "b"]]),
        ("a.csv", b'id,text\n1,"a\nb\r\nc\rd"\n', [["1", "a\nb\r\nc\rd"]]),
        ("a.csv", b'id,text\n1,"say ""hi"", no"\n', [["1", 'say "hi", no']]),
        ("a.csv", b"id,text\n1,a\0b\n", [["1", "a\0b"]]),
        ("a.csv", b"id,text\n1,\xef\xbb\xbfa\n", [["1", "\ufeffa"]]),
        ("a.csv", b"id,text\n01,NA\nnull,\n1e5,nan\n", [["01", "NA"], ["null", ""], ["1e5", "nan"]]),
        ("a.csv", "id,text\n1,a\u2028b\x85c\x1cd\n".encode(), [["1", "a\u2028b\x85c\x1cd"]]),
        ("a.tsv", b"id\ttext\n01\tNA, or so\n", [["01", "NA, or so"]]),
        ("a.jsonl", b'{"id": "01", "text": "NA"}\r\n\r\n{"text": null, "id": 1}', [["01", "NA"], [1, None]]),
        ("a.jsonl", '{"id": 1, "text": "a\u2028b"}\n'.encode(), [[1, "a\u2028b"]]),
        ("a.jsonl", b'{"id": 1, "text": "\\u0000"}\n', [[1, "\0"]]),
        ("a.jsonl", b'\xef\xbb\xbf{"id": 1, "text": "a"}\n', [[1, "a"]]),
    ],
)
def test_an_unusual_file_is_read_as_it_stands(tmp_path: Path, name: str, content: bytes, expected: list[Any]) -> None:
    (tmp_path / name).write_bytes(content)
    with open_table(str(tmp_path / name)) as table:
        assert table.columns == ("id", "text")
    assert rows_of(tmp_path / name) == expected


def test_a_missing_value_and_the_text_null_stay_two_in_parquet(tmp_path: Path) -> None:
    ours = pyarrow.table({"id": ["01", "NA"], "text": ["null", None]})
    parquet.write_table(ours, tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet") == [["01", "null"], ["NA", None]]


def test_a_field_of_five_megabytes_is_one_field(tmp_path: Path) -> None:
    text = "lovely, " * 640_000
    (tmp_path / "a.csv").write_text(f'id,text\n1,"{text}"\n')
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": 1, "text": text}))
    assert column_of(tmp_path / "a.csv", "text") == [text]
    assert column_of(tmp_path / "a.jsonl", "text") == [text]


def test_a_field_or_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LARGEST_LINE_CHARACTERS", 1_000)
    monkeypatch.setattr(delimited, "LARGEST_LINE_CHARACTERS", 1_000)
    monkeypatch.setattr(json_files, "LARGEST_LINE_BYTES", 1_000)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 100)
    (tmp_path / "a.csv").write_text(f"id,text\n1,{'a' * 1_101}\n")
    (tmp_path / "b.csv").write_text('id,text\n1,"' + "a, \n" * 1_000)
    (tmp_path / "a.jsonl").write_text('{"text": "b"}\n' + json.dumps({"text": "a" * 1_000}) + "\n")
    assert refusal(tmp_path / "a.csv").startswith(", line 2: longer than 1,000 characters, expected a text table")
    assert ": a field has more than" in refusal(tmp_path / "b.csv")
    assert refusal(tmp_path / "a.jsonl") == ", line 2: longer than 1,000 bytes. Write one JSON object per line"


def test_a_lone_surrogate_in_json_is_found_by_whoever_wants_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "ab\\ud83d"}\n')
    (value,) = column_of(tmp_path / "a.jsonl", "text")
    with pytest.raises(TextError, match=r"line 1 contains a lone surrogate \(U\+D83D\) at character 3"):
        check_text(value, "line 1")


def test_a_lone_surrogate_in_another_column_goes_out_as_it_came(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a", "other": "\\ud83d"}\n')
    copied(tmp_path / "a.jsonl", tmp_path / "out.jsonl")
    expected = b'{"text": "a", "other": "\\ud83d", "label": "label line 1"}\n'
    assert (tmp_path / "out.jsonl").read_bytes() == expected


def test_invalid_text_in_parquet_is_unreadable_in_its_row_alone(tmp_path: Path) -> None:
    raw = pyarrow.array([b"fine", b"caf\xe9", None], pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": raw}), tmp_path / "a.parquet")
    fine, broken, missing = column_of(tmp_path / "a.parquet", "text")
    assert (fine, missing) == ("fine", None)
    with pytest.raises(TextError, match=r"^row 2 is Unreadable \(is it valid UTF-8\?\), expected a string$"):
        check_text(broken, "row 2")


def test_parquet_columns_of_any_type_are_kept(tmp_path: Path) -> None:
    columns = {
        "text": pyarrow.array(["a", "b"]).dictionary_encode(),
        "when": pyarrow.array([1, 2], pyarrow.timestamp("us", "UTC")),
        "exact": pyarrow.array([1, 1_000_000_007], pyarrow.timestamp("ns")),
        "far": pyarrow.array([4 * 10**15, 0], pyarrow.timestamp("ms")),
        "nested": pyarrow.array([{"x": [1, 2]}, None]),
        "blob": pyarrow.array([b"\xff", b""]),
        "number": pyarrow.array([float("nan"), 1.5], pyarrow.float32()),
    }
    ours = pyarrow.table(columns)
    parquet.write_table(ours, tmp_path / "a.parquet")
    assert column_of(tmp_path / "a.parquet", "text") == ["a", "b"]
    copied(tmp_path / "a.parquet", tmp_path / "out.parquet")
    theirs = parquet.read_table(tmp_path / "out.parquet")
    assert theirs.column_names == [*columns, "label"]
    assert theirs.drop_columns(["label", "number"]).equals(
        parquet.read_table(tmp_path / "a.parquet").drop_columns("number")
    )


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.99])
def test_a_parquet_file_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    parquet.write_table(pyarrow.table({"text": [str(n) for n in range(10_000)]}), tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: int(kept * len(whole))])
    assert refusal(tmp_path / "a.parquet").startswith(" is not a valid Parquet file: ")


def test_a_parquet_file_with_a_damaged_page_is_refused(tmp_path: Path) -> None:
    texts = [str(random.Random(n).random()) for n in range(5_000)]
    parquet.write_table(
        pyarrow.table({"text": texts}), tmp_path / "a.parquet", compression="zstd", use_dictionary=False
    )
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[5:60] = b"\xff" * 55
    (tmp_path / "a.parquet").write_bytes(data)
    assert refusal(tmp_path / "a.parquet").startswith(", after row 0: ")


# ------------------------------------------------------------------------------------------ what is wrong with the file


@pytest.mark.parametrize("suffix", [suffix for suffix in COMPRESSIONS if suffix != ".zip"])
def test_truncated_compressed_content_is_an_error(tmp_path: Path, suffix: str) -> None:
    lines = "".join(f"{n},{random.Random(n).random()}\n" for n in range(20_000))
    data = compressed(f"id,text\n{lines}".encode(), suffix)
    path = tmp_path / f"a.csv{suffix}"
    for kept in (len(data) // 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:kept])
        assert refusal(path) == " is truncated: its compressed content is incomplete. Copy or download it again"


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_plain_file_with_the_suffix_of_a_compressed_one_is_reported(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.csv{suffix}"
    path.write_text("id,text\n1,a\n")
    assert refusal(path).startswith(f" is damaged or not a {suffix} file: ")


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_damaged_content_never_passes_as_another_kind_of_error(tmp_path: Path, suffix: str) -> None:
    lines = "".join(f"{n},{random.Random(n).random()}\n" for n in range(500))
    good = compressed(f"id,text\n{lines}".encode(), suffix)
    path = tmp_path / f"a.csv{suffix}"
    dice = random.Random(0)
    refused = 0
    for _ in range(40):
        data = bytearray(good)
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        path.write_bytes(data)
        with contextlib.suppress(DataError):  # a flipped bit that no checksum covers is read
            rows_of(path)
            continue
        refused += 1
        assert refusal(path)
    assert refused > 5


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl.gz", "a.parquet"])
def test_a_missing_file_is_reported(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        rows_of(tmp_path / name)
    assert str(caught.value) == f"file not found: {tmp_path / name}"


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl.gz", "a.parquet"])
def test_a_folder_is_reported(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert refusal(tmp_path / name) == " is a folder, expected a file"


def test_a_path_through_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / "file" / "a.csv") == " can't be read: Not a directory"


@contextlib.contextmanager
def as_an_ordinary_user() -> Iterator[None]:
    """Run as an unprivileged user for the duration of a test, because root may read and write everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_of_somebody_else_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text\n")
    path.chmod(0)
    with as_an_ordinary_user():
        assert refusal(path) == " can't be read: permission denied"


def test_a_folder_of_somebody_else_is_not_written_to(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.csv").write_text("id,text\n1,a\n")
        Path(folder).chmod(0o555)
        with as_an_ordinary_user(), pytest.raises(DataError, match=r"out\.csv can't be written: Permission denied"):
            copied(f"{folder}/a.csv", f"{folder}/out.csv")
        assert [path.name for path in Path(folder).iterdir()] == ["a.csv"]


# ------------------------------------------------------------------------------------------------------------- writing

LINES = [f"{n}, {'x' * (n % 7)}\t{n}" for n in range(1_000)]


def an_input(folder: Path, name: str) -> Path:
    """Write a table of 1,000 rows in the format and compression of its name."""
    path = folder / name
    first, *_ = name.removeprefix("in.").split(".")
    if first == "parquet":
        parquet.write_table(pyarrow.table({"id": [str(n) for n in range(1_000)], "text": LINES}), path)
        return path
    if first == "jsonl":
        content = "".join(json.dumps({"id": str(n), "text": line}) + "\n" for n, line in enumerate(LINES))
    else:
        delimiter = "," if first == "csv" else "\t"
        content = f"id{delimiter}text\n" + "".join(f'{n}{delimiter}"{line}"\n' for n, line in enumerate(LINES))
    path.write_bytes(compressed(content.encode(), path.suffix))
    return path


NAMES = [f"in.{kind}{suffix}" for kind in ("csv", "tsv", "jsonl") for suffix in ("", *COMPRESSIONS)] + ["in.parquet"]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_and_compression_keeps_all_rows_in_order(tmp_path: Path, name: str) -> None:
    out = tmp_path / name.replace("in.", "out.")
    copied(an_input(tmp_path, name), out)
    with open_table(str(out)) as table:
        assert table.columns == ("id", "text", "label")
    rows = rows_of(out)
    assert [row[:2] for row in rows] == [[str(n), line] for n, line in enumerate(LINES)]
    place = {"jsonl": "line {0}", "parquet": "row {0}"}.get(name.split(".")[1], "row {0} (line {1})")
    assert [row[2] for row in rows] == [f"label {place.format(n, n + 1)}" for n in range(1, len(LINES) + 1)]
    assert len(list(tmp_path.iterdir())) == 2


VALUES = st.text() | st.sampled_from(
    ["", " ", '"', "a\rb", "a\nb", "a\r\nb", "\r", ",", "\t", "'", "\0", "\ufeff", "NA"]
)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@settings(max_examples=60)
@given(rows=st.lists(st.lists(VALUES, min_size=2, max_size=2), max_size=6))
@example(rows=[["a\rb", "\r"], ["", ""]])
def test_any_values_go_through_csv_unchanged(suffix: str, rows: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / f"a{suffix}", Path(folder) / f"b{suffix}"
        delimiter = "," if suffix == ".csv" else "\t"
        quoted = [[f'"{v}"' for v in (value.replace('"', '""') for value in row)] for row in rows]
        first.write_bytes("".join(delimiter.join(row) + "\n" for row in [["id", "text"], *quoted]).encode())
        assert rows_of(first, "double") == rows
        copied(first, second, quotes="double")
        assert [row[:2] for row in rows_of(second, "double")] == rows


@given(values=st.lists(VALUES, max_size=6))
def test_any_values_of_a_single_column_go_through_csv_unchanged(values: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "a.csv", Path(folder) / "b.csv"
        quoted = ['"' + value.replace('"', '""') + '"' for value in values]
        first.write_bytes("".join(line + "\n" for line in ["text", *quoted]).encode())
        double = Dialect(quotes="double")
        with open_table(str(first), double) as table, open_writer(table, str(second), []) as writer:
            for chunk in table.chunks():
                writer.write(chunk, {})
        assert column_of(second, "text", "double") == values


JSON_VALUES = VALUES | st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False)
OBJECTS = st.dictionaries(st.sampled_from(["text", "id", "", "é"]), JSON_VALUES, max_size=3)


@settings(max_examples=40)
@given(objects=st.lists(OBJECTS, min_size=1, max_size=4))
def test_any_objects_go_through_json_lines_unchanged(objects: list[dict[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "a.jsonl", Path(folder) / "b.jsonl"
        first.write_text("".join(json.dumps(value) + "\n" for value in objects))
        copied(first, second)
        written = [json.loads(line) for line in second.read_bytes().split(b"\n") if line]
    assert [value.pop("label") for value in written] == [f"label line {n + 1}" for n in range(len(objects))]
    assert [list(value.items()) for value in written] == [list(value.items()) for value in objects]


def test_memory_stays_the_same_for_a_long_file(tmp_path: Path) -> None:
    path, out = tmp_path / "a.csv", tmp_path / "out.csv"
    with path.open("w") as stream:
        stream.write("id,text\n")
        stream.writelines(f"{n},what a lovely film this was\n" for n in range(200_000))
    assert path.stat().st_size > 6_000_000
    tracemalloc.start()
    try:
        copied(path, out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000
    with out.open("rb") as stream:
        assert sum(1 for _ in stream) == 200_001


@pytest.mark.parametrize("name", NAMES)
def test_an_output_that_exists_is_not_touched(tmp_path: Path, name: str) -> None:
    out = tmp_path / name.replace("in.", "out.")
    out.write_bytes(b"precious")
    with pytest.raises(OutputExists, match="exists: choose another --out"):
        copied(an_input(tmp_path, name), out)
    assert out.read_bytes() == b"precious"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(("name", "error"), [("in.csv", ValueError), *((name, KeyboardInterrupt) for name in NAMES)])
def test_nothing_is_left_behind_when_it_stops_midway(tmp_path: Path, name: str, error: type[BaseException]) -> None:
    source = an_input(tmp_path, name)

    def stop_midway() -> None:
        out = tmp_path / name.replace("in.", "out.")
        with open_table(str(source)) as table, open_writer(table, str(out), ["label"]) as writer:
            chunk = next(table.chunks())
            writer.write(chunk, {"label": ["x"] * len(chunk)})
            raise error

    with pytest.raises(error):
        stop_midway()
    gc.collect()  # a forgotten writer must not write, nor complain
    assert list(tmp_path.iterdir()) == [source]


def test_nothing_is_left_behind_when_the_input_turns_out_wrong(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes(b"id,text\n" + b"1,fine\n" * 1_000 + b"2,caf\xe9\n")
    with pytest.raises(DataError, match=r"row 1001 \(line 1002\), column 'text': not valid UTF-8"):
        copied(source, tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == [source]


def test_a_wrong_suffix_or_a_taken_column_is_reported_before_anything_is_written(tmp_path: Path) -> None:
    source = an_input(tmp_path, "in.csv")
    for out, added, problem in (
        ("out.tsv", "label", r"out\.tsv is a tsv file, but the input is csv"),
        ("out.txt", "label", "unknown file format '.txt'"),
        ("out.csv", "text", "already has a column 'text'"),
    ):
        with pytest.raises(BothwaysError, match=problem):
            copied(source, tmp_path / out, added)
    assert list(tmp_path.iterdir()) == [source]


def test_a_key_that_is_taken_in_a_later_object_is_reported_with_its_line(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "a"}\n{"text": "b", "label": "mine"}\n')
    with pytest.raises(DataError, match=r"line 2: already has a key 'label'\. Rename or drop it"):
        copied(source, tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == [source]


COPY_ON_A_SMALL_DISK = """
import json, resource, sys
from pathlib import Path
from bothways.errors import DataError
from tests.hostile.test_hostile_tables import copied
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500, resource.RLIM_INFINITY))
told = {}
for source in sorted(Path(sys.argv[1]).glob("in.*")):
    out = source.with_name(source.name.replace("in.", "out."))
    try:
        copied(source, out)
        told[source.name] = "no error"
    except DataError as error:
        told[source.name] = str(error).removeprefix(str(out))
print(json.dumps(told))
"""


def in_a_process(script: str, *arguments: str, stdout: Any = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *filter(None, sys.path)])}
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    return subprocess.run(
        command, env=environment, text=True, stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=60
    )


def test_a_full_disk_is_reported_and_nothing_is_left_behind(tmp_path: Path) -> None:
    sources = sorted(an_input(tmp_path, name) for name in NAMES)
    run = in_a_process(COPY_ON_A_SMALL_DISK, str(tmp_path))
    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads(run.stdout) == {
        source.name: " can't be written: File too large. No partial output remains" for source in sources
    }
    assert sorted(tmp_path.iterdir()) == sources


COPY_TO_STANDARD_OUTPUT = """
import os, sys
from bothways.errors import DataError
from tests.hostile.test_hostile_tables import copied
try:
    copied(sys.argv[1], "-")
except DataError as error:
    sys.stderr.write(str(error))
    sys.stderr.flush()
    os._exit(1)
"""


@pytest.mark.parametrize("rows", [1, 100_000])
def test_a_full_standard_output_is_reported(tmp_path: Path, rows: int) -> None:
    (tmp_path / "a.csv").write_text("id,text\n" + "1,a\n" * rows)
    with Path("/dev/full").open("w") as full:
        run = in_a_process(COPY_TO_STANDARD_OUTPUT, str(tmp_path / "a.csv"), stdout=full)
    assert (run.returncode, run.stderr) == (1, "standard output can't be written: the disk is full")


# ------------------------------------------------------------------------------------ D: small files, large effects


HEAD = b'<row r="1">' + cell("A1") + cell("B1", "id") + b"</row>"
WIDE = b'<row r="1">' + cell("A1") + cell("XFD1") + b"</row>" + b"<row><c><v>1</v></c></row>" * 10_000
BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "rows": ("a.csv.gz", lambda: gzip.compress(b"a,b\n" * 200_000), "expands to more than 32 times its size"),
    "zip": ("a.csv.zip", lambda: compressed(b"a,b\n" * 200_000, ".zip"), "expands to more than 32 times its size"),
    "line": ("a.csv.xz", lambda: lzma.compress(b"a" * 900_000), "line 1: longer than 100,000 characters"),
    "json": ("a.json.bz2", lambda: bz2.compress(b'{"a":[' + b"[]," * 100_000), "row 1: longer than 100,000"),
    "deep json": ("a.json", lambda: b"[" * 1_000_000, "nested too deeply|expected a JSON object"),
    "names": ("a.zip", lambda: zip_of_many(3_000), "contains 3000 files, expected one: 0.csv, 1.csv"),
    "cells": ("a.xlsx", lambda: workbook(WIDE), "has too many empty cells"),
    "parts": ("a.xlsx", lambda: workbook(HEAD + b" " * 9_000_000), "which is not plausible for a table"),
    "rows of Parquet": ("a.parquet", lambda: parquet_of(["a"] * 1_100_000), "expands to 1,100,000 rows"),
}
"""Name, content and refusal of small files that would expand."""


def zip_of_many(count: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}.csv", b"")
    return stream.getvalue()


def parquet_of(texts: list[str]) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": texts}), stream, compression="zstd")
    return stream.getvalue()


@pytest.mark.parametrize("bomb", BOMBS)
def test_d3_a_small_file_that_expands_is_refused_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bomb: str
) -> None:
    monkeypatch.setattr(files, "_FREE_BYTES", 200_000)  # small limits, for small files
    monkeypatch.setattr(lines, "LARGEST_LINE_CHARACTERS", 100_000)
    monkeypatch.setattr(json_files, "LARGEST_LINE_BYTES", 100_000)
    monkeypatch.setattr(json_files, "_FREE_CHARACTERS", 100_000)
    monkeypatch.setattr(excel, "_MOST_EMPTY_CELLS", 5_000_000)
    name, make, problem = BOMBS[bomb]
    (tmp_path / name).write_bytes(make())
    start = time.process_time()
    with pytest.raises(DataError, match=problem):
        rows_of(tmp_path / name)
    assert time.process_time() - start < 3


def test_d3_far_cells_of_a_workbook_need_no_memory(tmp_path: Path) -> None:
    far = b'<row r="99999">' + cell("XFD99999") + b"</row>"
    (tmp_path / "a.xlsx").write_bytes(workbook(HEAD + far))
    assert rows_of(tmp_path / "a.xlsx") == []


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (b'<row r="3">%b</row><row r="2">%b</row>', "row 3 is followed by a row with the number 2"),
        (b"<row>%b%b</row>", "row 2 has two values in column 1"),
        (b'<row><c r="A2"><f>B1</f></c></row>', "a formula has no stored value"),
    ],
)
def test_d3_no_value_of_a_workbook_is_lost_or_replaced(tmp_path: Path, rows: bytes, problem: str) -> None:
    cells = (cell("A2"),) * rows.count(b"%b")
    (tmp_path / "a.xlsx").write_bytes(workbook(HEAD + rows % cells))
    with pytest.raises(DataError, match=problem):
        rows_of(tmp_path / "a.xlsx")


def test_d3_texts_of_a_workbook_have_their_runs_and_not_their_pronunciation(tmp_path: Path) -> None:
    strings = b"<si><r><t>good </t></r><r><t>film</t></r><rPh><t>guud</t></rPh></si>"
    shared = b'<row><c r="A2" t="s"><v>0</v></c><c r="B2" t="str"><f>A9</f><v></v></c></row>'
    (tmp_path / "a.xlsx").write_bytes(workbook(HEAD + shared, strings))
    assert rows_of(tmp_path / "a.xlsx") == [["good film", ""]]


def seeds(folder: Path) -> dict[str, bytes]:
    table = pyarrow.table({"text": ["a, b", "\u00e9\nf"] * 4, "label": ["x", "y"] * 4})
    parquet.write_table(table, folder / "a.parquet")
    feather.write_feather(table, str(folder / "a.feather"), compression="zstd")
    with pyarrow.ipc.new_stream(folder / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    (folder / "a.xlsx").write_bytes(workbook(HEAD + b'<row r="2">' + cell("A2") + cell("B2", "1") + b"</row>"))
    rows = [{"text": "a, b", "label": "x"}, {"text": "\u00e9", "label": "y"}]
    (folder / "a.json").write_text(json.dumps(rows))
    (folder / "b.json").write_text(json.dumps({"text": ["a", "b"], "label": ["x", "y"]}))
    (folder / "a.csv.zip").write_bytes(compressed(b'text,id\n"a, b",1\n', ".zip"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_d3_nothing_but_one_clear_error_leaves_a_damaged_table(tmp_path: Path) -> None:
    rng = random.Random(0)
    refused = set()
    for name, good in seeds(tmp_path).items():
        for number in range(60):
            data = bytearray(good)
            for _ in range(rng.choice([1, 2, 8])):
                position = rng.randrange(len(data))
                data[position : position + rng.choice([0, 1, 9])] = rng.randbytes(rng.choice([0, 1, 4]))
            path = tmp_path / f"{number}{name}"
            path.write_bytes(data)
            try:
                copied(path, tmp_path / f"out{number}{name}")
            except BothwaysError:
                refused.add(name)
    assert refused == {"a.parquet", "a.feather", "a.arrow", "a.xlsx", "a.json", "b.json", "a.csv.zip"}
