from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.data.corpus import read_corpus, split_corpus
from bothways.errors import DataError, TextError


def file_of(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_paragraphs_between_blank_lines_are_the_texts(tmp_path: Path) -> None:
    path = file_of(tmp_path, "c.txt", "\n\nfirst line\nsecond line\n \t\n\nnext text\r\n\r\nlast")
    assert read_corpus([path], "text") == ["first line\nsecond line\n", "next text\r\n", "last"]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    assert read_corpus([file_of(tmp_path, "c.txt", b"\xef\xbb\xbfhello")], "text") == ["hello"]


def test_files_of_all_kinds_are_read_in_order(tmp_path: Path) -> None:
    paths = [
        file_of(tmp_path, "a.txt.gz", gzip.compress(b"one\n\ntwo")),
        file_of(tmp_path, "b.jsonl", json.dumps({"body": "three"}) + "\n" + json.dumps({"body": " "})),
        file_of(tmp_path, "c.csv", "id,body\n1,four\n2,\n"),
        file_of(tmp_path, "d", "five"),
    ]
    assert [text.strip() for text in read_corpus(paths, "body")] == ["one", "two", "three", "four", "five"]


@pytest.mark.parametrize(("name", "content"), [("c.txt", ""), ("c.txt", " \n\n\t"), ("c.csv", "text\n \n")])
def test_a_corpus_without_any_text_is_refused(tmp_path: Path, name: str, content: str) -> None:
    path = file_of(tmp_path, name, content)
    with pytest.raises(DataError, match=rf"^{path}: there is no text$"):
        read_corpus([path], "text")


def test_no_file_at_all_is_refused() -> None:
    with pytest.raises(DataError, match=r"^the corpus: there is no text$"):
        read_corpus([], "text")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.txt: there is no such file"):
        read_corpus([str(tmp_path / "missing.txt")], "text")


def test_the_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = file_of(tmp_path, "c.txt", b"fine\n\nna\xefve\n")
    with pytest.raises(DataError, match=r"c\.txt, line 3: not valid UTF-8; save the file as UTF-8 and try again$"):
        read_corpus([path], "text")


def test_a_tables_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"c\.csv has no column 'text'; it has 'body'"):
        read_corpus([file_of(tmp_path, "c.csv", "body\nx\n")], "text")


def test_a_tables_bad_text_is_told_by_its_place(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"c\.jsonl, line 1, column 'text' is int 5"):
        read_corpus([file_of(tmp_path, "c.jsonl", '{"text": 5}\n')], "text")


@given(st.integers(2, 200), st.floats(0.01, 0.5), st.integers(0, 9))
def test_a_share_and_at_least_one_text_is_held_out(count: int, share: float, seed: int) -> None:
    texts = [f"text {number}" for number in range(count)]
    train, valid = split_corpus(texts, share, seed)
    assert sorted([*train, *valid]) == sorted(texts)
    assert len(valid) == max(1, round(share * count))
    assert train == [text for text in texts if text not in set(valid)]  # in their order
    assert (train, valid) == split_corpus(texts, share, seed)


def test_another_seed_holds_out_other_texts() -> None:
    texts = [f"text {number}" for number in range(500)]
    assert split_corpus(texts, 0.1, 0)[1] != split_corpus(texts, 0.1, 1)[1]
