"""A1: whoever wrote a text table, the reader returns its rows, or refuses it with the line. Nothing in between."""

from __future__ import annotations

import csv
import io
import random
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pandas as pd
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bothways.data.dialect import Dialect, Quotes
from bothways.data.tables import open_table
from bothways.errors import DataError

Rows = list[list[str]]
Style = Literal["necessary", "always", "non_numeric", "never"]
WIDTHS = st.integers(1, 4)
NASTY = st.text(alphabet='ab ",;\t\n\r0', max_size=8) | st.sampled_from(
    ["", '"', '""', "\n", "\r", "x\u2028y", "NA", "é"]
)
NAMES = ["text", "label", "id", "note"]


def tables(values: st.SearchStrategy[str]) -> st.SearchStrategy[Rows]:
    return WIDTHS.flatmap(
        lambda width: st.lists(st.lists(values, min_size=width, max_size=width), min_size=1, max_size=6)
    )


def read(data: bytes, delimiter: str, quotes: Quotes | None = None) -> Rows:
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        Path(file.name).write_bytes(data)
        with open_table(file.name, Dialect(delimiter=delimiter, quotes=quotes)) as table:
            return [[str(value) for value in row] for chunk in table.chunks() for row in chunk.rows]


def check(data: bytes, rows: Rows, delimiter: str, quotes: Quotes | None = None) -> bool:
    """Return whether a file is read. If it is, the rows are exact; if not, the error names a line."""
    try:
        found = read(data, delimiter, quotes)
    except DataError as error:
        problem = str(error)
    else:
        assert found == rows
        return True
    assert re.search(r"lines? \d+", problem), problem
    return False


# ---------------------------------------------------------------------------------------- what programs write


def by_csv(rows: Rows, delimiter: str, quoting: Literal[0, 1, 2], end: str) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows(
        [NAMES[: len(rows[0])], *rows]
    )
    return stream.getvalue().encode()


def by_pandas(rows: Rows, delimiter: str, quoting: Literal[0, 1, 2], end: str) -> bytes:
    frame = pd.DataFrame(rows, columns=NAMES[: len(rows[0])])
    return str(frame.to_csv(index=False, sep=delimiter, quoting=quoting, lineterminator=end)).encode()


def by_polars(rows: Rows, delimiter: str, quoting: Literal[0, 1, 2], end: str) -> bytes:
    styles: dict[int, Style] = {0: "necessary", 1: "always", 2: "non_numeric"}
    frame = pl.DataFrame(rows, schema=NAMES[: len(rows[0])], orient="row")
    return frame.write_csv(separator=delimiter, quote_style=styles[quoting], line_terminator=end).encode()


@pytest.mark.parametrize("write", [by_csv, by_pandas, by_polars])
@settings(max_examples=100, deadline=None)
@given(
    rows=tables(NASTY),
    delimiter=st.sampled_from(",\t;"),
    quoting=st.sampled_from([0, 1, 2]),
    end=st.sampled_from(["\n", "\r\n"]),
)
@example(rows=[["a,b\nc", "x"]], delimiter=",", quoting=0, end="\n")
@example(rows=[["", "x"], ["\n", ""]], delimiter=",", quoting=1, end="\n")
@example(rows=[["a"], [""], ["b\nc"]], delimiter=",", quoting=0, end="\r\n")
def test_a1_what_a_program_wrote_is_exact_or_refused(
    write: Callable[[Rows, str, int, str], bytes], rows: Rows, delimiter: str, quoting: int, end: str
) -> None:
    data = write(rows, delimiter, quoting, end)
    is_read = check(data, rows, delimiter)
    lines = [line for row in rows for line in row if "\n" in line or "\r" in line]
    assert is_read or lines  # only a field with a line end is ever refused
    if end == "\r\n" or not any("\r" in line for line in lines):
        assert read(data, delimiter, "double") == rows


# ---------------------------------------------------------------------------------------- what people write


def by_hand(rows: Rows, delimiter: str, end: str) -> bytes:
    return "".join(delimiter.join(row) + end for row in [NAMES[: len(rows[0])], *rows]).encode()


WORDS = st.text(alphabet='ab "0', max_size=6) | st.sampled_from(
    ["ham", "spam", '"where are you', 'said later"', '"', '""']
)


@settings(max_examples=300, deadline=None)
@given(rows=tables(WORDS), delimiter=st.sampled_from(",\t"), end=st.sampled_from(["\n", "\r\n"]))
@example(
    rows=[
        ["ham", '"where are you'],
        ["spam", "win now"],
        ["ham", "ok see you"],
        ["ham", 'said later"'],
        ["spam", "free"],
    ],
    delimiter="\t",
    end="\n",
)
@example(rows=[['"a', "x"], ['b"', "y"]], delimiter=",", end="\n")
@example(rows=[['"'], ['"']], delimiter=",", end="\n")
def test_a1_rows_without_quoting_are_never_merged(rows: Rows, delimiter: str, end: str) -> None:
    data = by_hand(rows, delimiter, end)
    if len(rows[0]) > 1 or all(any(row) for row in rows):
        assert read(data, delimiter, "none") == rows
    unquoted = [next(csv.reader([delimiter.join(row)], delimiter=delimiter), list[str]()) or [""] for row in rows]
    check(data, unquoted, delimiter)  # a field in quotation marks may be read without them, but each line is one row


def test_a1_texts_with_stray_quotation_marks_never_lose_a_row() -> None:
    """As the SMS Spam Collection: one text per line, a label, no quoting, and quotation marks anywhere."""
    rng = random.Random(0)
    words = ["win", "now", '"where', 'you"', "ok", '"', "later,", "free", 'said "hi"']
    refused = set()
    for _ in range(100):
        rows = [[rng.choice(["ham", "spam"]), " ".join(rng.choices(words, k=rng.randint(1, 4)))] for _ in range(60)]
        data = by_hand(rows, "\t", "\n")
        assert read(data, "\t", "none") == rows
        try:
            assert len(read(data, "\t")) == len(rows)
        except DataError as error:
            refused.add("--quotes none" in str(error))
    assert refused == {True}


def test_a1_the_refusal_names_both_lines_and_both_ways_on() -> None:
    data = b'label\ttext\nham\t"where are you\nspam\twin now\nham\tok see you\nham\tsaid later"\nspam\tfree\n'
    with pytest.raises(DataError, match=r"row 1: .* in line 2 and .* in line 5,.* --quotes none\. .* --quotes double"):
        read(data, "\t")
    assert len(read(data, "\t", "none")) == 5
    assert len(read(data, "\t", "double")) == 2


@pytest.mark.parametrize(
    "data",
    [
        b'label,text\npos,"Great film\nLoved it, really"\nneg,"Bad, boring"\n',  # another field needs its quotes
        b'"label","text"\npos,"Great film\nLoved it, really"\n',  # the header is quoted
        b'label,text\npos,"One line.\n\nAnother one."\n',  # the lines are no rows
        b'text,label\n"Great, film\nLoved, it",pos\n"Roses are red,\nviolets",neg\n',
        b'text\n"a, b\nc"\nd\n',
    ],
)
def test_a1_real_fields_over_several_lines_are_read(data: bytes) -> None:
    assert read(data, ",") == list(csv.reader(io.StringIO(data.decode(), newline="")))[1:]


def test_a1_texts_over_several_lines_with_the_same_few_words_are_read() -> None:
    rng = random.Random(0)
    words = ["film,", "a", "story", "with", "people;", "in", "it\nand"]
    rows = [
        [str(n), " ".join(rng.choices(words, k=rng.randint(1, 40))), rng.choice(["pos", "neg"])] for n in range(2_000)
    ]
    assert read(by_csv(rows, ",", 0, "\n"), ",") == rows


def test_a1_a_stray_mark_in_a_quoted_file_does_not_swallow_rows_with_known_labels() -> None:
    data = b'text,label\n"Hello, friend",ham\n"where are you,ham\nwin now,spam\nsee you",ham\nbye,spam\n'
    with pytest.raises(DataError, match=r"row 2: .* line 3 .* line 5"):
        read(data, ",")


@pytest.mark.parametrize(
    ("data", "quotes", "expected"),
    [
        (b"text\na\n\nb\n", None, [["a"], [""], ["b"]]),  # a blank line of one column is an empty text
        (b"text\na\n\n", "none", [["a"], [""]]),
        (b"text,id\na,1\n\nb,2", None, [["a", "1"], ["b", "2"]]),
        (b"text,id\ra,1\rb,2\r", None, [["a", "1"], ["b", "2"]]),  # line ends of old Macs
        (b'text,id\n5" disk,1\n', None, [['5" disk', "1"]]),
        (b"text,id\na\rb,1\n", "none", [["a\rb", "1"]]),
        ("text,id\na\u2028b\x85,1\n".encode(), None, [["a\u2028b\x85", "1"]]),
        (b"\xef\xbb\xbftext,id\na,1", None, [["a", "1"]]),
    ],
)
def test_a1_rows_are_neither_lost_nor_made(data: bytes, quotes: Quotes | None, expected: Rows) -> None:
    assert read(data, ",", quotes) == expected


@pytest.mark.parametrize(
    ("data", "quotes", "problem"),
    [
        (b"text,id\na\rb,1\n", None, "line 2: a carriage return is not at the end of the line"),
        (b"text,id\na,1\r\n", None, "line 2: ends with CR LF, but the first line with LF.*--quotes double"),
        (b"text\na\rb\n", "none", r"row 1 \(line 2\): a carriage return"),
        (
            b'text,id\n"a,1\nb,2\n',
            None,
            "lines 2 to 3: a quotation mark opens a field that is never closed.*--quotes none",
        ),
        (
            b'text,id\n"a"b,1\n',
            None,
            "line 2: a field that begins with a quotation mark continues after the closing one.*--quotes none",
        ),
        (b'text,id\n"a,1\n', None, "line 2: a quotation mark opens a field that is never closed"),
        (b"text,id\na,b,1\n", None, r"row 1 \(line 2\): found 3 fields, expected 2"),
        (b'text,id\na,"b,1\n', "none", r"row 1 \(line 2\): found 3 fields, expected 2.*--delimiter"),
    ],
)
def test_a1_what_cannot_be_a_row_is_refused_with_its_line(data: bytes, quotes: Quotes | None, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        read(data, ",", quotes)
