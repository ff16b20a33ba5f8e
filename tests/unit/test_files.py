from __future__ import annotations

import gzip
import io
import os
import stat
import sys
from pathlib import Path

import pytest

from bothways import files
from bothways.errors import ConfigError, DataError, DependencyMissing, OutputExists
from bothways.files import COMPRESSIONS, open_for_reading, open_for_writing, refuse_existing, split_suffix

SUFFIXES = ["", *COMPRESSIONS]


@pytest.mark.parametrize(
    ("path", "suffixes"),
    [
        ("a.csv", (".csv", "")),
        ("folder.zst/A.CSV.GZ", (".csv", ".gz")),
        ("a.jsonl.zst", (".jsonl", ".zst")),
        ("a.gz", ("", ".gz")),
        ("a", ("", "")),
        ("a.b.c", (".c", "")),
        ("-", ("", "")),
    ],
)
def test_a_path_has_a_suffix_and_a_compression(path: str, suffixes: tuple[str, str]) -> None:
    assert split_suffix(path) == suffixes


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read_again(tmp_path: Path, suffix: str) -> None:
    path = str(tmp_path / f"a.csv{suffix}")
    content = b"one\ntwo\r\n\0\xff" * 50_000
    with open_for_writing(path) as stream:
        for start in range(0, len(content), 1_000):
            stream.write(content[start : start + 1_000])
    with open_for_reading(path) as stream:
        assert stream.readline() == b"one\n"
        assert b"one\n" + stream.read() == content
    assert [entry.name for entry in tmp_path.iterdir()] == [f"a.csv{suffix}"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_content_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        with open_for_writing(str(tmp_path / folder / f"{folder}.csv{suffix}")) as stream:
            stream.write(b"content")
    one, two = ((tmp_path / folder / f"{folder}.csv{suffix}").read_bytes() for folder in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_is_there_before_the_end(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.csv{suffix}"
    with open_for_writing(str(path)) as stream:
        stream.write(b"content")
        assert not path.exists()
    assert path.exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, BrokenPipeError])
def test_nothing_is_left_behind_after_an_error(tmp_path: Path, suffix: str, error: type[BaseException]) -> None:
    def stop_midway() -> None:
        with open_for_writing(str(tmp_path / f"a.csv{suffix}")) as stream:
            stream.write(b"content" * 10_000)
            raise error

    with pytest.raises(error):
        stop_midway()
    assert list(tmp_path.iterdir()) == []


def test_a_new_file_has_the_rights_that_any_program_would_give_it(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with open_for_writing(str(tmp_path / "a.csv")) as stream:
            stream.write(b"content")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.csv").stat().st_mode) == 0o640


def test_what_exists_is_never_written_over(tmp_path: Path) -> None:
    file, folder, link = tmp_path / "file.csv", tmp_path / "folder.csv", tmp_path / "link.csv"
    file.write_bytes(b"precious")
    folder.mkdir()
    link.symlink_to(tmp_path / "nowhere")
    for taken in (file, folder, link):
        with pytest.raises(OutputExists, match=rf"{taken.name} exists: choose another"):
            refuse_existing(taken)
        with pytest.raises(OutputExists), open_for_writing(str(taken)):
            pytest.fail("the block must not run")
    assert file.read_bytes() == b"precious"
    assert len(list(tmp_path.iterdir())) == 3


def test_what_came_to_exist_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with pytest.raises(OutputExists), open_for_writing(str(path)):
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_to_write_to_must_exist(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"the folder .*nowhere does not exist: create it first"),
        open_for_writing(str(tmp_path / "nowhere" / "a.csv")),
    ):
        pytest.fail("the block must not run")


def test_a_folder_to_write_to_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="Not a directory"), open_for_writing(str(tmp_path / "file" / "a.csv")):
        pytest.fail("the block must not run")


def test_the_content_of_gzip_files_carries_no_name_and_no_time(tmp_path: Path) -> None:
    with open_for_writing(str(tmp_path / "secret.csv.gz")) as stream:
        stream.write(b"content")
    data = (tmp_path / "secret.csv.gz").read_bytes()
    assert gzip.decompress(data) == b"content"
    assert b"secret" not in data
    assert data[4:8] == b"\0\0\0\0"


def test_a_dash_is_the_standard_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    typed, shown = io.TextIOWrapper(io.BytesIO(b"typed")), io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdin", typed)
    monkeypatch.setattr(sys, "stdout", shown)
    with open_for_reading("-") as stream:
        assert stream.read() == b"typed"
    with open_for_writing("-") as stream:
        stream.write(b"shown")
    assert isinstance(shown.buffer, io.BytesIO)
    assert shown.buffer.getvalue() == b"shown"


def test_an_error_of_the_reader_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"fine")
    with pytest.raises(FileNotFoundError), open_for_reading(str(tmp_path / "a.csv")):
        (tmp_path / "another").read_bytes()


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.csv.zst").write_bytes(b"")
    with (
        pytest.raises(DependencyMissing, match=r"\.zst files need pyarrow: pip install 'bothways\[parquet\]'"),
        open_for_reading(str(tmp_path / "a.csv.zst")),
    ):
        pytest.fail("the block must not run")
    with pytest.raises(DependencyMissing, match="Parquet files need pyarrow"):
        files.require_pyarrow("Parquet")
