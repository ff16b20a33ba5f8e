from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from bothways.data.corpus import Corpus
from bothways.errors import DataError


def file_of(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def read_corpus(paths: list[str], column: str) -> list[str]:
    corpus = Corpus(paths, column)
    texts = list(corpus.read())
    assert (corpus.texts, corpus.characters) == (len(texts), sum(map(len, texts)))
    return texts


def numbered(folder: Path, count: int) -> Corpus:
    return Corpus([file_of(folder, "c.txt", "\n\n".join(f"text {number}" for number in range(count)))], "text")


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
    with pytest.raises(DataError, match=rf"^{path} contains no text$"):
        read_corpus([path], "text")


def test_no_file_at_all_is_refused() -> None:
    with pytest.raises(DataError, match=r"^the corpus contains no text$"):
        read_corpus([], "text")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"file not found: .*missing\.txt"):
        read_corpus([str(tmp_path / "missing.txt")], "text")


def test_the_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = file_of(tmp_path, "c.txt", b"fine\n\nna\xefve\n")
    with pytest.raises(DataError, match=r"c\.txt, line 3: not valid UTF-8\. Save the file as UTF-8, or pass its enc"):
        read_corpus([path], "text")


def test_a_tables_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"c\.csv has no column 'text'\. It has 'body'"):
        read_corpus([file_of(tmp_path, "c.csv", "body\nx\n")], "text")


def test_a_tables_bad_text_is_reported_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"c\.jsonl, line 1, column 'text': the text is int 5"):
        read_corpus([file_of(tmp_path, "c.jsonl", '{"text": 5}\n')], "text")


@pytest.mark.parametrize("count", [2, 49, 50, 200, 5000])
def test_two_in_a_hundred_and_at_least_one_text_is_held_out(tmp_path: Path, count: int) -> None:
    train, valid = numbered(tmp_path, count).split(0)
    assert sorted([*train, *valid]) == list(range(count))
    assert len(valid) == max(1, round(0.02 * count))
    assert train.tolist() == sorted(train)  # in their order


def test_no_more_is_held_out_of_a_long_corpus_than_can_be_validated_on(tmp_path: Path) -> None:
    corpus = Corpus([file_of(tmp_path, "c.txt", "\n\n".join(["word " * 100_000] * 400))], "text")
    _, valid = corpus.split(0)
    assert len(valid) == 4  # of half a million characters each


def test_another_seed_holds_out_other_texts_and_the_same_the_same(tmp_path: Path) -> None:
    corpus = numbered(tmp_path, 5000)
    assert corpus.split(0)[1].tolist() == corpus.split(0)[1].tolist() != corpus.split(1)[1].tolist()


def test_a_sample_is_spread_over_the_corpus(tmp_path: Path) -> None:
    corpus = numbered(tmp_path, 100)
    assert list(corpus.sample(10**9)) == list(corpus.read())
    sample = list(corpus.sample(corpus.characters // 9))
    assert [text.strip() for text in sample] == [f"text {number}" for number in range(0, 100, 10)]


def test_other_texts_and_another_order_have_another_digest(tmp_path: Path) -> None:
    def digest(content: str) -> str:
        return Corpus([file_of(tmp_path, "c.txt", content)], "text").digest

    found = [digest(content) for content in ("a\n\nb", "b\n\na", "ab", "a\n\nb\n\nc")]
    assert len(set(found)) == 4
    assert digest("a\n\nb") == found[0]
