"""Bundles on the command line: names, versions, paths and weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from bothways.errors import ConfigError
from bothways.serve.bundles import ModelVersion, parse_bundles, read_bundles
from bothways.serve.settings import Settings, read_settings


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a/b.bundle", ModelVersion("b", "1", Path("a/b.bundle"))),
        ("c=d/e", ModelVersion("c", "1", Path("d/e"))),
        ("c=d=e", ModelVersion("c", "1", Path("d=e"))),
        ("c@v2=d", ModelVersion("c", "v2", Path("d"))),
        ("me@home@2=d", ModelVersion("me@home", "2", Path("d"))),
        ("c@v2=d:0", ModelVersion("c", "v2", Path("d"), 0)),
        ("c=d:e:2.5", ModelVersion("c", "1", Path("d:e"), 2.5)),
        ("c=C:\\d", ModelVersion("c", "1", Path("C:\\d"))),
        ("missing/a=b.bundle", ModelVersion("a=b", "1", Path("missing/a=b.bundle"))),
    ],
)
def test_a_bundle_has_a_name_a_version_a_path_and_a_weight(value: str, expected: ModelVersion) -> None:
    # The weight 0 of the only version is refused, so each value has another version beside it.
    others = () if expected.weight == 1 else (f"{expected.name}@other=x:1",)
    assert parse_bundles([value, *others])[0] == expected


def test_a_path_that_exists_is_a_path_and_its_name_is_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F15: also with ``=``, ``@`` and ``:`` in it, and as a symbolic link to a release."""
    monkeypatch.chdir(tmp_path)
    for folder in ("run=3@home:9", "release-7.bundle"):
        Path(folder).mkdir()
    Path("current.bundle").symlink_to("release-7.bundle")
    assert parse_bundles(["run=3@home:9"]) == (ModelVersion("run=3@home:9", "1", Path("run=3@home:9")),)
    assert parse_bundles(["c=run=3@home:9"]) == (ModelVersion("c", "1", Path("run=3@home:9")),)
    assert parse_bundles(["current.bundle/"])[0].name == "current"
    assert parse_bundles(["."])[0].name == tmp_path.name


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        (["a=x", "a=y"], "two bundles are named 'a'"),
        (["a@2=x", "a@2=y"], "two bundles are the version '2' of 'a'"),
        (["=x"], "the name of the bundle '=x' is empty"),
        (["@v1=x"], "the name of the bundle '@v1=x' is empty"),
        (["a@=x"], "the version of the bundle 'a@=x' is empty"),
        (["a="], "the path of the bundle 'a=' is empty"),
        (["a=:3"], "the path of the bundle 'a=:3' is empty"),
        (["/"], "has no last part"),
        (["a=x:-1"], "the weight of x is '-1', expected 0 or more"),
        (["a=x:nan"], "the weight of x is 'nan'"),
        (["a=x:inf"], "the weight of x is 'inf'"),
        (["a=/tmp:many"], "the weight of the bundle 'a=/tmp:many' is 'many', expected a number"),
        (["a@1=x:90", "a@2=y"], "some versions of 'a' have a weight"),
        (["a@1=x:0", "b=y", "a@2=y:0"], "the weights of 'a' are all 0"),
    ],
)
def test_what_is_wrong_is_named(values: list[str], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_bundles(values)
    assert fault in str(caught.value)


def test_bundles_are_named_by_arguments_or_by_a_file(tmp_path: Path) -> None:
    config = tmp_path / "serve.toml"
    config.write_text("max_texts = 4\n")
    assert read_bundles(["m=a"], config) == parse_bundles(["m=a"])
    config.write_text('bundles = ["m@v1=a:90", "m@v2=b:10"]\n')
    assert read_bundles([], config) == parse_bundles(["m@v1=a:90", "m@v2=b:10"])
    assert read_settings({}, config, {}) == Settings()


@pytest.mark.parametrize(
    ("content", "values", "fault"),
    [
        ("", [], "no bundle, expected at least one"),
        ('bundles = ["m=a"]', ["m=a"], "named both as arguments and by bundles in "),
        ("bundles = []", [], "must be a list of strings"),
        ('bundles = "m=a"', [], "must be a list of strings"),
        ("bundles = [1]", [], "must be a list of strings"),
        ('bundles = ["m=a", "m=b"]', [], "serve.toml: two bundles are named 'm'"),
        ("bundles = [", [], "is not valid TOML"),
    ],
)
def test_a_file_that_names_no_bundles_is_an_error(content: str, values: list[str], fault: str, tmp_path: Path) -> None:
    config = tmp_path / "serve.toml"
    config.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_bundles(values, config)
    assert fault in str(caught.value)
