"""Files are found by patterns as pathlib finds them, and written whole or not at all, also through fsspec."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.data.storage import Storage, is_pattern, is_url, url_text
from bothways.errors import ConfigError, DataError

NAMES = ["a.csv", "b.csv", "a.parquet", "x/a.csv", "x/y/a.csv", "x/y/b.csv", "part-[1].csv"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files")
    for name in NAMES:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    return path


@settings(deadline=None)
@given(pattern=st.lists(st.sampled_from(["*", "**", "a*", "*.csv", "[ab].csv", "?.csv", "x", "y", "none"]), max_size=4))
def test_a_pattern_finds_the_files_that_pathlib_finds(folder: Path, pattern: list[str]) -> None:
    text = "/".join([*pattern, "*.csv"])
    expected = sorted(str(path.relative_to(folder)) for path in folder.glob(text) if path.is_file())
    storage = Storage(f"{folder}/{text}")
    if not expected:
        with pytest.raises(DataError, match="no file matches the pattern"):
            storage.files()
        return
    files = storage.files()
    assert [file.path for file in files] == [str(folder / name) for name in expected]
    fixed = "/".join(pattern[: next((n for n, part in enumerate(pattern) if set(part) & set("*?[")), len(pattern))])
    assert [file.name for file in files] == [name.removeprefix(f"{fixed}/") for name in expected]
    assert all(file.size == len(Path(file.path).read_text()) for file in files)


def test_a_single_file_has_its_name_and_a_folder_is_refused(folder: Path) -> None:
    (file,) = Storage(f"file://{folder}/x/y/b.csv").files()
    assert (file.name, file.path) == ("b.csv", str(folder / "x/y/b.csv"))
    for path in (folder, folder / "missing.csv"):
        with pytest.raises(DataError, match=r"file not found: .*A folder needs a pattern, such as FOLDER/\*\.parquet"):
            Storage(str(path)).files()


def test_a_path_with_special_characters_that_exists_is_no_pattern(folder: Path) -> None:
    assert is_pattern(f"{folder}/*.csv")
    assert not is_pattern(f"{folder}/part-[1].csv")
    assert not is_pattern(f"{folder}/a.csv")
    assert is_url("s3://bucket/x")
    assert not is_url("C:/x")


def test_files_of_fsspec_are_found_read_and_written(tmp_path: Path) -> None:
    """``memory://`` stands for the many storages of fsspec. All of them have this interface."""
    root = f"memory://{uuid.uuid4().hex}"
    storage = Storage(root)
    (tmp_path / "local.csv").write_text("text\nfilm\n")
    storage.publish(tmp_path / "local.csv", f"{storage.path}/x/part-0.csv")
    storage.write(f"{storage.path}/x/other.txt", b"abc")
    assert not (tmp_path / "local.csv").exists()
    assert storage.read(f"{storage.path}/x/other.txt") == b"abc"
    assert storage.size_of(f"{storage.path}/x/other.txt") == 3
    assert storage.size_of(f"{storage.path}/missing") is None
    (file,) = Storage(f"{root}/**/*.csv").files()
    assert file.name == "x/part-0.csv"
    storage.fetch(file.path, tmp_path / "copy.csv")
    assert (tmp_path / "copy.csv").read_text() == "text\nfilm\n"
    assert len(Storage(f"{root}/**/*").files()) == 2, "nothing unfinished is left"
    assert storage.contains(Storage(root), file.path)
    assert not storage.contains(Storage(str(tmp_path)), file.path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://bucket/x?colour=red", "the URL 's3://bucket/x' cannot be used: Unexpected query parameter"),
        ("nonsense://x/y", "nonsense:// URLs cannot be read: Protocol not known: nonsense"),
    ],
)
def test_urls_that_cannot_be_used_are_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Storage(url)
    assert str(caught.value).startswith(message)


def test_keys_in_a_url_are_never_shown() -> None:
    url = "s3://KEY:SECRET@bucket/part-*.csv?endpoint_override=localhost:1&scheme=http"
    assert url_text(url) == str(Storage(url)) == "s3://bucket/part-*.csv"
    with pytest.raises(ConfigError) as caught:
        Storage("s3://KEY:SECRET@bucket/x?colour=red")
    assert "SECRET" not in str(caught.value)


def test_what_the_disk_refuses_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    storage = Storage(str(tmp_path / "file"))
    with pytest.raises(DataError, match="file cannot be written: "):
        storage.write(f"{storage.path}/x", b"")
    with pytest.raises(DataError, match="cannot be read: "):
        storage.read(f"{storage.path}/x")
