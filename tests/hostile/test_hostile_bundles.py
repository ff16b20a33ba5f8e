"""Bundles that are damaged, wrong or made to do harm (C2 of serving.md): refused by name, at once, never by accident.

The first half breaks files as disks and people do; the digests give those away. The second half writes a manifest that
agrees with the broken file, as an attacker would.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load, save

import bothways
from bothways.bundle import read
from bothways.bundle.manifest import DOMAIN_FILE, LARGEST_MANIFEST_BYTES, LINEAR_FILE, MANIFEST_FILE, Kind
from bothways.bundle.read import read_bundle
from bothways.errors import BundleBroken, BundleError, BundleMissing, BundleTooNew, ConfigError, quoted
from bothways.text.subword_tokenizer import MAX_PIECE_LENGTH
from tests.bundles import (
    FILES,
    LABELS,
    THRESHOLDS,
    edit_json,
    edit_manifest,
    edit_weights,
    record_decisions,
    replace_file,
    run_python,
    tensors,
    write_with_abstention,
)

LISTED = [name for name in FILES if name != MANIFEST_FILE]
WEIGHTS = ["backward.safetensors", "forward.safetensors"]
TEXTS = ["what a lovely film", "", "I HATED it " * 40]
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 37964\n"

Fields = dict[str, Any]
Arrays = dict[str, NDArray[np.float32]]


@pytest.fixture
def bundle(bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_path, tmp_path / "hostile.bundle"))


def refuse(bundle: Path, name: str, problem: str = "", error: type[BundleError] = BundleBroken) -> str:
    """Check that loading and verifying refuse the bundle with one readable line that names the file."""
    with pytest.raises(BundleError) as caught:
        bothways.load(bundle)
    message = str(caught.value)
    assert type(caught.value) is error, message
    assert name in message
    assert problem in message
    assert message.isprintable()
    assert len(message) < 1000
    with pytest.raises(BundleError):
        bothways.verify(bundle)
    return message


def message_of_loading(bundle: Path) -> str:
    """Return the message by which a bundle is refused, empty if it is loaded; any other error comes through."""
    try:
        bothways.load(bundle)
    except BundleError as error:
        return str(error)
    return ""


def test_the_copy_that_these_tests_break_is_good(bundle: Path) -> None:
    assert bothways.verify(bundle).passed
    assert bothways.load(bundle).predict(TEXTS).shape == (3,)


# Files as disks and people break them


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_anywhere_is_refused(bundle: Path, name: str) -> None:
    data = (bundle / name).read_bytes()
    last = len(data.rstrip()) - 1 if name == MANIFEST_FILE else len(data) - 1  # its digest covers no last line break
    cuts = sorted({len(data) * part // 64 for part in range(64)} | {0, 1, last})
    for cut in cuts:
        (bundle / name).write_bytes(data[:cut])
        with pytest.raises(BundleBroken, match=name):
            bothways.load(bundle)


@pytest.mark.parametrize("name", LISTED)
def test_a_flipped_bit_in_any_region_is_refused(bundle: Path, name: str) -> None:
    data = (bundle / name).read_bytes()
    for region in range(64):
        place = len(data) * region // 64
        flipped = bytearray(data)
        flipped[place] ^= 1 << region % 8
        (bundle / name).write_bytes(flipped)
        with pytest.raises(BundleBroken, match=f"{name} is not the file that its manifest records"):
            bothways.load(bundle)


def test_a_flipped_bit_in_the_manifest_is_refused_unless_the_content_stays(bundle: Path) -> None:
    """The manifest's digest covers its content, not its white space and how its numbers are written."""
    path = bundle / MANIFEST_FILE
    data = path.read_bytes()
    content = json.loads(data)
    refused = 0
    for place in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        message = message_of_loading(bundle)
        refused += bool(message)
        assert "hostile.bundle" in message or json.loads(flipped) == content
    assert refused > 100


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\x00", random.Random(1).randbytes(4096), LFS_POINTER, b"PK\x05\x06" + bytes(18), b"\x80\x04N."],
    ids=["empty", "one byte", "NUL", "random", "Git LFS pointer", "zip", "pickle"],
)
def test_other_content_is_refused(bundle: Path, name: str, content: bytes) -> None:
    (bundle / name).write_bytes(content)
    refuse(bundle, name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("garbage", [b"\x00", b"garbage", b"{}", b"\n{}"], ids=repr)
def test_trailing_garbage_is_refused(bundle: Path, name: str, garbage: bytes) -> None:
    with (bundle / name).open("ab") as file:
        file.write(garbage)
    refuse(bundle, name)


@pytest.mark.parametrize("name", LISTED)
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    refuse(bundle, name, "is missing")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["folder", "link", "dangling link", "link to itself", "pipe", "socket", "device"])
def test_what_is_no_plain_file_is_refused_at_once(
    bundle: Path, name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bundle / name
    kept = shutil.move(path, tmp_path / "kept")
    match kind:
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(kept)  # the right content: what a link points to could change after the check
        case "dangling link":
            path.symlink_to(tmp_path / "nowhere")
        case "link to itself":
            path.symlink_to(path)
        case "pipe":
            os.mkfifo(path)
        case "socket":
            monkeypatch.chdir(bundle)  # a socket's path must be short
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(name)
        case _:
            path.symlink_to("/dev/zero")
    problem = {"folder": "is not a regular file", "pipe": "is not a regular file", "socket": "can't be opened"}
    refuse(bundle, name, problem.get(kind, "is a symbolic link"))


def test_a_hard_link_is_a_plain_file(bundle: Path, tmp_path: Path) -> None:
    os.link(bundle / "README.md", tmp_path / "elsewhere")
    assert bothways.verify(bundle).passed


@pytest.mark.parametrize(
    "name", ["extra.py", "__init__.py", "forward.safetensors.bak", ".hidden", "x\ny", "SubwordTokenizer.json", "\udcff"]
)
def test_an_unlisted_file_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).write_text("surplus")
    refuse(bundle, quoted(name), "which its manifest does not list. Remove")


def test_an_unlisted_folder_is_refused(bundle: Path) -> None:
    (bundle / "__pycache__").mkdir()
    refuse(bundle, "__pycache__", "does not list")


@pytest.mark.parametrize("function", ["open", "fdopen"])
def test_a_disk_that_fails_is_told(bundle: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    class Broken:
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self, _: int) -> bytes:
            raise OSError(5, "Input/output error")

    def broken(*_: Any, **__: Any) -> Any:
        if function == "open":
            raise PermissionError(13, "Permission denied")
        return Broken()

    monkeypatch.setattr(os, function, broken)
    with pytest.raises(BundleBroken) as caught:
        bothways.load(bundle)
    monkeypatch.undo()
    expected = "can't be opened: Permission denied" if function == "open" else "can't be read: Input/output error"
    assert str(caught.value) == f"{bundle / MANIFEST_FILE} {expected}"


AS_ANYONE = """
import os, sys
import bothways
if os.geteuid() == 0:
    os.setuid(65534)
try:
    bothways.load(sys.argv[1])
except bothways.BundleError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("mode", "problem"),
    [(0o000, "BundleMissing"), (0o400, "BundleMissing"), (0o111, "BundleBroken {} can't be listed: Permission denied")],
)
def test_a_folder_that_may_not_be_read_is_told(bundle: Path, mode: int, problem: str) -> None:
    for folder in [*bundle.parents][:-1]:
        if folder.stat().st_uid == os.getuid() and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    bundle.chmod(mode)
    try:
        finished = run_python(AS_ANYONE, str(bundle))
    finally:
        bundle.chmod(0o755)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith(problem.format(bundle))
    assert str(bundle) in finished.stdout


def test_what_is_no_folder_is_no_bundle(bundle: Path, tmp_path: Path) -> None:
    refuse(tmp_path / "nowhere", "nowhere", "bundle not found", BundleMissing)
    refuse(bundle / "README.md", "README.md", "a bundle is a directory with a file bundle.json", BundleMissing)
    refuse(tmp_path, str(tmp_path), "it contains no bundle.json", BundleMissing)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    refuse(tmp_path / "dangling", "dangling", "is not a bundle", BundleMissing)
    (bundle / MANIFEST_FILE).unlink()
    refuse(bundle, "hostile.bundle", "it contains no bundle.json", BundleMissing)


@pytest.mark.parametrize("path", ["", "\x00", "x" * 5000, "a/" * 3000, "/proc/self/mem"])
def test_strange_paths_are_no_bundles(path: str) -> None:
    with pytest.raises((BundleMissing, ConfigError)):
        bothways.load(path)


def test_a_link_to_a_bundle_is_followed(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(bundle)
    assert bothways.verify(tmp_path / "current").passed


@pytest.mark.parametrize("how", ["truncated", "overwritten", "removed", "replaced"])
def test_nothing_done_to_the_files_later_changes_a_loaded_model(bundle: Path, how: str) -> None:
    """A mapped file cut short would take the process down (SIGBUS)."""
    model = bothways.load(bundle)
    read_before = read_bundle(bundle, Kind.CLASSIFIER)
    expected = model.predict_proba_by_direction(TEXTS)
    for path in list(bundle.iterdir()):
        size = path.stat().st_size
        match how:
            case "truncated":
                os.truncate(path, 0)
            case "overwritten":
                with path.open("r+b") as file:
                    file.write(b"\xff" * size)
            case "removed":
                path.unlink()
            case _:
                (bundle / "new").write_bytes(bytes(size))
                (bundle / "new").replace(path)
    for name, rows in model.predict_proba_by_direction(TEXTS).items():
        assert np.array_equal(rows, expected[name])
    again = bothways.Classifier(read_before)  # all was in memory, nothing is read late
    assert np.array_equal(again.predict_proba(TEXTS), expected["ensemble"])


def test_a_file_that_changes_between_two_reads_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest was read already when a new bundle is copied over the old one."""
    original = read._refuse_unlisted

    def changed_meanwhile(*arguments: Any) -> None:
        original(*arguments)
        (bundle / "forward.safetensors").write_bytes(bytes((bundle / "forward.safetensors").stat().st_size))

    monkeypatch.setattr(read, "_refuse_unlisted", changed_meanwhile)
    refuse(bundle, "forward.safetensors", "its SHA-256 differs")


# Manifests that are no strict JSON


def rewrite(bundle: Path, old: str, new: str) -> None:
    text = (bundle / MANIFEST_FILE).read_text()
    assert old in text
    (bundle / MANIFEST_FILE).write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"format": 2', '"format": 2, "format": 2', "the key 'format' occurs twice"),
        ('"temperature": 1.0', '"temperature": NaN', "NaN is not a JSON number"),
        ('"temperature": 1.0', '"temperature": Infinity', "Infinity is not a JSON number"),
        ('"temperature": 1.0', '"temperature": 1e999', "too large"),
        ('"seed": 5', f'"seed": {2**63}', "does not fit into 64 bits"),
        ('"seed": 5', f'"seed": {"9" * 5000}', "does not fit into 64 bits"),
        ('"seed": 5', '"seed": ' + "[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('"seed": 5', '"seed": 5,', "strict JSON"),
        ('"bad"', '"\\ud800"', "contains a lone surrogate"),
        ('"bad"', '"b\nad"', "strict JSON"),
        ('"format": 2', f'"{"k" * 10**6}": 1, "{"k" * 10**6}": 1', "occurs twice"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_a_manifest_that_is_no_strict_json_is_refused(bundle: Path, old: str, new: str, problem: str) -> None:
    rewrite(bundle, old, new)
    refuse(bundle, MANIFEST_FILE, problem)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_a_manifest_in_another_encoding_is_refused(bundle: Path, encoding: str) -> None:
    text = (bundle / MANIFEST_FILE).read_text().replace('"bad"', '"schön"')
    (bundle / MANIFEST_FILE).write_text(text, encoding=encoding)
    refuse(bundle, MANIFEST_FILE, "is not strict JSON")


@pytest.mark.parametrize("document", ["null", "3", '"text"', "[]", "[{}]", "true"])
def test_a_manifest_that_is_no_object_is_refused(bundle: Path, document: str) -> None:
    (bundle / MANIFEST_FILE).write_text(document)
    refuse(bundle, MANIFEST_FILE, "expected an object")


def test_a_manifest_without_an_end_is_not_read(bundle: Path) -> None:
    with (bundle / MANIFEST_FILE).open("r+b") as file:
        file.truncate(100 * 1024 * 1024)
    refuse(bundle, MANIFEST_FILE, f"has 104857600 bytes, expected at most {LARGEST_MANIFEST_BYTES}")


@pytest.mark.parametrize("number", [3, 4, 999, 2**62])
def test_a_newer_format_asks_for_a_newer_version(bundle: Path, number: int) -> None:
    edit_manifest(bundle, lambda fields: fields.update(format=number, an_unknown_key=[1, 2]))
    refuse(bundle, MANIFEST_FILE, f"has format {number}, but this version reads 1 to 2. Install a newer", BundleTooNew)


@pytest.mark.parametrize("number", [0, -1, -(2**62), "1", 1.0, True, "2", 2.0, None, [2]])
def test_a_format_that_is_none_is_refused(bundle: Path, number: object) -> None:
    edit_manifest(bundle, lambda fields: fields.update(format=number))
    refuse(bundle, MANIFEST_FILE, "format")


# Manifests that agree with themselves in everything but one


def set_labels(*labels: str) -> Callable[[Fields], object]:
    return lambda fields: fields.update(labels=list(labels))


def rename(old: str, new: str) -> Callable[[Fields], object]:
    return lambda fields: fields["files"].update({new: fields["files"].pop(old)})


MANIFESTS: dict[str, tuple[Callable[[Fields], object], str]] = {
    "two equal labels": (set_labels("a", "b", "a"), "a label occurs twice"),
    "an empty label": (set_labels("a", "", "b"), "labels.1"),
    "one label": (set_labels("a"), "at least 2 labels"),
    "no label": (set_labels(), "at least 2 labels"),
    "a label of 10 MB": (set_labels("a", "b", "x" * 10**7), "labels.2"),
    "a label that is a number": (lambda m: m.update(labels=["a", 1, "b"]), "labels.1"),
    "labels by name": (lambda m: m.update(labels={"a": 0, "b": 1}), "labels"),
    "a negative weight": (lambda m: m["combination"].update(weights=[1.5, -0.5]), "combination.weights"),
    "weights below one": (lambda m: m["combination"].update(weights=[0.3, 0.3]), "add up to 0.6, expected 1"),
    "three weights": (lambda m: m["combination"].update(weights=[0.3, 0.3, 0.4]), "3 weights for 2 members"),
    "no weights": (lambda m: m["combination"].update(weights=[]), "0 weights for 2 members"),
    "temperature 0": (lambda m: m["calibration"].update(temperature=0), "calibration.temperature"),
    "a negative temperature": (lambda m: m["calibration"].update(temperature=-1), "calibration.temperature"),
    "one direction twice": (lambda m: m.update(members=[m["members"][0]] * 2), "two members read forward"),
    "the other's weights": (lambda m: m["members"][0].update(weights=WEIGHTS[0]), "must be forward.safetensors"),
    "weights outside": (lambda m: m["members"][0].update(weights="../forward.safetensors"), "members.0.weights"),
    "absolute weights": (lambda m: m["members"][0].update(weights="/etc/passwd"), "members.0.weights"),
    "a file outside": (rename("README.md", "../README.md"), "files"),
    "an absolute file": (rename("README.md", "/etc/passwd"), "files"),
    "a file with a backslash": (rename("README.md", "..\\README.md"), "files"),
    "a file with NUL": (rename("README.md", "README.md\x00"), "files"),
    "a file name of 64 KB": (rename("README.md", "r" * 65536), "files"),
    "a file name that clears the screen": (rename("README.md", "\x1b[2J\n"), "files"),
    "a file in other case": (rename("README.md", "readme.md"), "files"),
    "a file listed that is none of these": (lambda m: m["files"].update({"x.pkl": m["files"]["README.md"]}), "files"),
    "a huge file": (lambda m: m["files"]["README.md"].update(size_bytes=2**60), "files.README.md.size_bytes"),
    "a digest of another kind": (lambda m: m["files"]["README.md"].update(sha256="md5:0"), "files.README.md.sha256"),
    "no digest": (lambda m: m["files"]["README.md"].pop("sha256"), "files.README.md.sha256"),
    "an unknown key": (lambda m: m.update(hook="os.system"), "hook"),
    "an unknown key of 1 MB": (lambda m: m.update({"k" * 10**6: 1}), "kkkk"),
    "an unknown key with line breaks": (lambda m: m.update({"a\nb\x1b": 1}), "a\\nb\\x1b: Extra inputs"),
    "members that are none": (lambda m: m.update(members="both"), "members"),
    "no member": (lambda m: m.update(members=[]), "members"),
    "no width of the head": (lambda m: m["members"][1].update(widths_head=None), "needs widths_head"),
    "another task": (lambda m: m.update(task="next-token"), "next-token"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_contradicts_itself_is_refused(bundle: Path, case: str) -> None:
    change, problem = MANIFESTS[case]
    edit_manifest(bundle, change)
    refuse(bundle, MANIFEST_FILE, problem)


MULTI_LABEL_MANIFESTS: dict[str, tuple[Callable[[Fields], object], str]] = {
    "no thresholds": (lambda m: m.pop("thresholds"), "needs thresholds, one per label"),
    "a threshold less": (lambda m: m["thresholds"].pop(), "3 thresholds for 4 labels"),
    "a threshold more": (lambda m: m["thresholds"].append(0.5), "5 thresholds for 4 labels"),
    "a million thresholds": (lambda m: m.update(thresholds=[0.5] * 10**6), "1000000 thresholds for 4 labels"),
    "a threshold of 0": (lambda m: m["thresholds"].__setitem__(2, 0.0), "thresholds.2"),
    "a threshold of 1": (lambda m: m["thresholds"].__setitem__(2, 1.0), "thresholds.2"),
    "a negative threshold": (lambda m: m["thresholds"].__setitem__(2, -0.5), "thresholds.2"),
    "a huge threshold": (lambda m: m["thresholds"].__setitem__(2, 1e308), "thresholds.2"),
    "a threshold that is text": (lambda m: m["thresholds"].__setitem__(2, "0.5"), "thresholds.2"),
    "a threshold that is true": (lambda m: m["thresholds"].__setitem__(2, True), "thresholds.2"),
    "a threshold that is null": (lambda m: m["thresholds"].__setitem__(2, None), "thresholds.2"),
    "thresholds by label": (lambda m: m.update(thresholds=dict.fromkeys(m["labels"], 0.5)), "thresholds"),
    "one threshold": (lambda m: m.update(thresholds=0.5), "thresholds"),
    "no label": (lambda m: m.update(labels=[], thresholds=[]), "needs at least 1 labels, found 0"),
    "two equal labels": (lambda m: m["labels"].__setitem__(1, m["labels"][0]), "a label occurs twice"),
    "thresholds of one label a text": (lambda m: m.update(task="single-label"), "has no thresholds"),
    "an unknown task": (lambda m: m.update(task="any-label"), "task"),
    "a separator without end": (lambda m: m["training"].update(label_separator="|" * 10**6), "label_separator"),
    "an empty separator": (lambda m: m["training"].update(label_separator=""), "label_separator"),
}


@pytest.fixture
def multi_label_bundle(multi_label_bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(multi_label_bundle_path, tmp_path / "hostile.bundle"))


@pytest.mark.parametrize("case", MULTI_LABEL_MANIFESTS)
def test_a_multi_label_manifest_that_contradicts_itself_is_refused(multi_label_bundle: Path, case: str) -> None:
    change, problem = MULTI_LABEL_MANIFESTS[case]
    edit_manifest(multi_label_bundle, change)
    refuse(multi_label_bundle, MANIFEST_FILE, problem)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_threshold_that_is_no_number_is_refused(multi_label_bundle: Path, number: str) -> None:
    rewrite(multi_label_bundle, str(THRESHOLDS[0]), number)
    refuse(multi_label_bundle, MANIFEST_FILE, "is not strict JSON")


def test_another_task_fails_the_proof(bundle: Path, multi_label_bundle_path: Path, tmp_path: Path) -> None:
    """One label a text or any number: the same logits, but other probabilities."""
    edit_manifest(bundle, lambda m: m.update(task="multi-label", thresholds=[0.5] * 3))
    several = Path(shutil.copytree(multi_label_bundle_path, tmp_path / "several.bundle"))
    edit_manifest(several, lambda m: m.update(task="single-label", thresholds=None))
    for path in (bundle, several):
        refuse(path, "parity.jsonl, line 1: the decision is not the one that follows")
        record_decisions(path)
        result = bothways.verify(path)
        assert not result.passed
        assert min(result.differences.values()) > 0.01


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["calibration"].update(temperature=1.6),
        lambda m: m["labels"].reverse(),
        lambda m: m["combination"].update(weights=[0.25, 0.75]),
    ],
    ids=["temperature", "order of the labels", "weights"],
)
def test_what_makes_multi_label_probabilities_is_proven(
    multi_label_bundle: Path, change: Callable[[Fields], object]
) -> None:
    assert bothways.verify(multi_label_bundle).passed
    edit_manifest(multi_label_bundle, change)
    record_decisions(multi_label_bundle)
    result = bothways.verify(multi_label_bundle)
    assert result.differences["ensemble"] > 1e-4
    assert not result.passed


@pytest.mark.parametrize(
    ("change", "name", "problem"),
    [
        (set_labels("a", "b"), "forward.safetensors", "head.layers.1.weight is F32 [3, 8], expected F32 [2, 8]"),
        (set_labels("a", "b", "c", "d"), "forward.safetensors", "expected F32 [4, 8]"),
        (
            lambda m: [x["architecture"].update(vocabulary_size=7) for x in m["members"]],
            "hostile.bundle",
            "has 105 ids",
        ),
        (
            lambda m: m["members"][1]["architecture"].update(width_hidden=25),
            "backward.safetensors",
            "expected F32 [100",
        ),
        (lambda m: m["members"][1]["architecture"].update(width_hidden=65536), "backward.safetensors", "expected F32"),
        (lambda m: m["members"][1]["architecture"].update(layers=3), "backward.safetensors", "lacks the tensor"),
        (lambda m: m["members"][1]["architecture"].update(layers=1), "backward.safetensors", "unexpected tensor"),
        (lambda m: m["members"][1].update(widths_head=[9]), "backward.safetensors", "expected F32 [9"),
    ],
)
def test_a_manifest_that_contradicts_the_weights_is_refused(
    bundle: Path, change: Callable[[Fields], object], name: str, problem: str
) -> None:
    edit_manifest(bundle, change)
    refuse(bundle, name, problem)


def test_a_bundle_of_the_other_kind_is_refused(bundle: Path, pack_path: Path) -> None:
    assert bothways.verify(pack_path).passed
    with pytest.raises(BundleBroken, match=r"tiny\.pack is a language-model, expected a classifier"):
        bothways.load(pack_path)
    with pytest.raises(BundleBroken, match=r"hostile\.bundle is a classifier, expected a language-model"):
        read_bundle(bundle, Kind.LANGUAGE_MODEL)


def test_a_classifier_that_says_it_is_a_pack_is_refused(bundle: Path) -> None:
    def claim(fields: Fields) -> None:
        fields.update(kind="language-model", task="next-token", labels=[], combination=None, calibration=None)

    edit_manifest(bundle, claim)
    refuse(bundle, MANIFEST_FILE, "a language model's member has no widths_head")

    def claim_more(fields: Fields) -> None:
        claim(fields)
        for member in fields["members"]:
            member["widths_head"] = None

    edit_manifest(bundle, claim_more)
    with pytest.raises(BundleBroken, match=r"forward\.safetensors lacks the tensor decoder\.bias"):
        bothways.verify(bundle)


# Tokenizers whose digest is right

TOKENIZERS: dict[str, tuple[Callable[[Fields], object], str]] = {
    "a piece twice": (lambda t: t["pieces"].__setitem__(1, t["pieces"][0]), "a piece occurs twice"),
    "control tokens moved": (lambda t: t["control_tokens"].reverse(), "control tokens"),
    "padding moved": (lambda t: t["control_tokens"].insert(0, t["control_tokens"].pop(1)), "control tokens"),
    "a control token more": (lambda t: t["control_tokens"].append("xxnew"), "control tokens"),
    "a piece with a space": (lambda t: t["pieces"][3].__setitem__(0, "a b"), "can't occur in a word"),
    "the unknown piece": (lambda t: t["pieces"][3].__setitem__(0, " unknown"), "can't occur in a word"),
    "an empty piece": (lambda t: t["pieces"][3].__setitem__(0, ""), "can't occur in a word"),
    "half a character": (lambda t: t["pieces"][3].__setitem__(0, "\ud800"), "contains a lone surrogate"),
    "a piece without end": (lambda t: t["pieces"][3].__setitem__(0, "x" * 10**6), "a piece has 1000000 characters"),
    "unknown rules": (lambda t: t.update(cleaning="my-regex"), "unknown cleaning rules 'my-regex'"),
    "rules without end": (lambda t: t.update(cleaning="x" * 10**6), "unknown cleaning rules"),
    "a pattern": (lambda t: t.update(pattern="(a+)+$"), "pattern"),
    "a key without end": (lambda t: t.update({"k" * 10**6: 1}), "kkk"),
    "another model": (lambda t: t.update(subwords="bpe"), "subwords"),
    "no piece": (lambda t: t.update(pieces=[]), "pieces"),
    "a piece without a score": (lambda t: t["pieces"].__setitem__(3, ["a"]), "pieces.3"),
    "a score that is text": (lambda t: t["pieces"][3].__setitem__(1, "-1"), "pieces.3.1"),
    "one piece less": (lambda t: t["pieces"].pop(), "the tokenizer has 104 ids, but the members have 105"),
    "one piece more": (lambda t: t["pieces"].append(["zzzz", -9.0]), "the tokenizer has 106 ids"),
}


@pytest.mark.parametrize("case", TOKENIZERS)
def test_a_wrong_tokenizer_is_refused(bundle: Path, case: str) -> None:
    change, problem = TOKENIZERS[case]
    edit_json(bundle, "tokenizer.json", change)
    refuse(bundle, "hostile.bundle" if "one piece" in case else "tokenizer.json", problem)


@pytest.mark.parametrize("score", [b"NaN", b"-Infinity", b"1e999"])
def test_a_score_that_is_no_number_is_refused(bundle: Path, score: bytes) -> None:
    data = (bundle / "tokenizer.json").read_bytes()
    end = data.rindex(b"]\n ]")
    start = data.rindex(b", ", 0, end) + 2
    replace_file(bundle, "tokenizer.json", data[:start] + score + data[end:])
    refuse(bundle, "tokenizer.json", "is not strict JSON")


@pytest.mark.parametrize("score", [1e308, -1e308, 0.0, 5e-324])
def test_extreme_scores_are_caught_by_the_proof(bundle: Path, score: float) -> None:
    edit_json(bundle, "tokenizer.json", lambda t: t.update(pieces=[[piece, score] for piece, _ in t["pieces"]]))
    assert bothways.load(bundle).predict(TEXTS).shape == (3,)
    result = bothways.verify(bundle)
    assert not result.passed
    assert "are tokenized differently than in training" in result.problem


def test_the_longest_piece_allowed_is_harmless(bundle: Path) -> None:
    edit_json(bundle, "tokenizer.json", lambda t: t["pieces"][-1].__setitem__(0, "x" * MAX_PIECE_LENGTH))
    assert bothways.load(bundle).predict(["x" * 5000]).shape == (1,)


# Weights whose digest is right


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda arrays: arrays.pop("idf"), "lacks the tensor idf"),
        (lambda arrays: arrays.update(more=arrays["bias"]), "contains the unexpected tensor more"),
        (lambda arrays: arrays.update(bias=arrays["bias"][:1]), "bias is F32 [1], expected F32 [3]"),
        (lambda arrays: arrays.update(idf=arrays["idf"].astype(np.float32)), "idf is F32 ["),
        (lambda arrays: arrays["weight"].__setitem__((0, 0), np.nan), "weight contains values that are not finite"),
        (lambda arrays: arrays["words"].__setitem__(1, 0), "the hashes in words are not in rising order"),
        (lambda arrays: arrays["characters"].__setitem__(1, arrays["characters"][0]), "not in rising order"),
    ],
)
def test_a_linear_member_with_other_arrays_is_refused(
    linear_bundle_path: Path, tmp_path: Path, change: Callable[[dict[str, NDArray[Any]]], object], problem: str
) -> None:
    bundle = Path(shutil.copytree(linear_bundle_path, tmp_path / "linear.bundle"))
    arrays = {name: array.copy() for name, array in load(bundle.joinpath(LINEAR_FILE).read_bytes()).items()}
    change(arrays)
    replace_file(bundle, LINEAR_FILE, save(arrays))
    refuse(bundle, LINEAR_FILE, problem)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda fields: fields["linear"].update(words=3), "words is U32 ["),
        (lambda fields: fields["linear"].update(weight=0.0), "linear.weight"),
        (lambda fields: fields.pop("linear"), "the files listed are not those of these members: linear.safetensors"),
        (lambda fields: fields["linear"].update(weights="forward.safetensors"), "linear.weights"),
    ],
)
def test_a_manifest_that_contradicts_the_linear_member_is_refused(
    linear_bundle_path: Path, tmp_path: Path, change: Callable[[Fields], object], problem: str
) -> None:
    bundle = Path(shutil.copytree(linear_bundle_path, tmp_path / "linear.bundle"))
    edit_manifest(bundle, change)
    refuse(bundle, "linear", problem)


@pytest.fixture(scope="module")
def careful_path(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with an abstention."""
    return write_with_abstention(bundle_path, tmp_path_factory.mktemp("careful") / "careful.bundle", TEXTS)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda arrays: arrays.pop("limits"), "lacks the tensor limits"),
        (lambda arrays: arrays.update(more=arrays["mean"]), "contains the unexpected tensor more"),
        (lambda arrays: arrays.update(mean=arrays["mean"][:1]), "mean is F32 [1], expected F32 [96]"),
        (lambda arrays: arrays["scale"].__setitem__(3, 0), "scale contains a value that is not above 0"),
        (lambda arrays: arrays["variances"].__setitem__(2, -1), "variances contains a value that is not above 0"),
        (lambda arrays: arrays["limits"].__setitem__(0, 0), "limits contains a value that is not above 0"),
        (lambda arrays: arrays["token_losses"].__setitem__(0, np.inf), "token_losses contains values that are not"),
    ],
)
def test_a_domain_with_other_arrays_is_refused(
    careful_path: Path, tmp_path: Path, change: Callable[[dict[str, NDArray[Any]]], object], problem: str
) -> None:
    bundle = Path(shutil.copytree(careful_path, tmp_path / "careful.bundle"))
    arrays = {name: array.copy() for name, array in load(bundle.joinpath(DOMAIN_FILE).read_bytes()).items()}
    change(arrays)
    replace_file(bundle, DOMAIN_FILE, save(arrays))
    refuse(bundle, DOMAIN_FILE, problem)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda fields: fields["abstention"]["domain"].update(components=3), "components is F16 ["),
        (lambda fields: fields["abstention"].update(threshold=1.5), "abstention.threshold"),
        (lambda fields: fields["abstention"].update(risk=0), "abstention.risk"),
        (lambda fields: fields["abstention"]["reference"].update(label_shares=[1]), "needs one share per label"),
        (lambda fields: fields.pop("abstention"), "the files listed are not those of these members: domain."),
        (lambda fields: fields.update(abstention=None), "the files listed are not those of these members: domain."),
    ],
)
def test_a_manifest_that_contradicts_the_domain_is_refused(
    careful_path: Path, tmp_path: Path, change: Callable[[Fields], object], problem: str
) -> None:
    bundle = Path(shutil.copytree(careful_path, tmp_path / "careful.bundle"))
    edit_manifest(bundle, change)
    refuse(bundle, problem)


def safetensors(header: dict[str, Any] | bytes, body: bytes) -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + body


def taken_apart(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def with_dtype(dtype: str, scale: float) -> Callable[[dict[str, Any], bytes], bytes]:
    def change(header: dict[str, Any], body: bytes) -> bytes:
        last = max(header, key=lambda name: header[name]["data_offsets"][1])
        start, stop = header[last]["data_offsets"]
        header[last].update(dtype=dtype, data_offsets=[start, start + int((stop - start) * scale)])
        return safetensors(header, body[:start] + bytes(int((stop - start) * scale)))

    return change


def with_half(number: float | None = None, dtype: str = "F16") -> Callable[[dict[str, Any], bytes], bytes]:
    """Store all weights in 2 bytes, the first of them another number."""

    def change(header: dict[str, Any], body: bytes) -> bytes:
        half = np.frombuffer(body, dtype=np.float32).astype(np.float16)
        if number is not None:
            half[0] = number
        for entry in header.values():
            entry.update(dtype=dtype, data_offsets=[offset // 2 for offset in entry["data_offsets"]])
        return safetensors(header, half.tobytes())

    return change


def with_offsets(shift_start: int, shift_stop: int) -> Callable[[dict[str, Any], bytes], bytes]:
    def change(header: dict[str, Any], body: bytes) -> bytes:
        start, stop = header["head.layers.0.bias"]["data_offsets"]
        header["head.layers.0.bias"]["data_offsets"] = [start + shift_start, stop + shift_stop]
        return safetensors(header, body)

    return change


def with_duplicate(header: dict[str, Any], body: bytes) -> bytes:
    entry = json.dumps({"head.layers.0.bias": header["head.layers.0.bias"]})
    return safetensors((json.dumps(header)[:-1] + ", " + entry[1:]).encode(), body)


def with_entry(name: str, **entry: Any) -> Callable[[dict[str, Any], bytes], bytes]:
    return lambda header, body: safetensors({**header, name: {**header.get(name, {}), **entry}}, body)


SAFETENSORS: dict[str, tuple[Callable[[dict[str, Any], bytes], bytes], str]] = {
    "an oversize header": (lambda header, body: struct.pack("<Q", 2**40) + bytes(99), "its header claims"),
    "a negative header": (lambda header, body: struct.pack("<q", -8) + bytes(99), "its header claims"),
    "a header one byte too long": (lambda header, body: struct.pack("<Q", 92) + bytes(91), "its header claims"),
    "a header without end": (lambda header, body: safetensors(b"[" * 10**6, body), "broken header"),
    "a deep header": (lambda header, body: safetensors(b'{"a":' * 10**5 + b"1" + b"}" * 10**5, body), "deeply"),
    "a header in latin-1": (lambda header, body: safetensors(b'{"\xe4": {}}', body), "broken header"),
    "a header that is a list": (lambda header, body: safetensors(b"[]", body), "not an object of objects"),
    "a tensor twice": (with_duplicate, "the key 'head.layers.0.bias' occurs twice"),
    "overlapping tensors": (with_offsets(-4, -4), "safetensors"),
    "a hole": (with_offsets(4, 0), "safetensors"),
    "a tensor behind the end": (with_offsets(0, 10**6), "safetensors"),
    "a tensor before the start": (with_offsets(-(10**6), 0), "safetensors"),
    "a tensor that ends before it starts": (with_offsets(10**6, 0), "safetensors"),
    "F64": (with_dtype("F64", 2), "F64"),
    "F16": (with_dtype("F16", 0.5), "F16"),
    "BF16": (with_dtype("BF16", 0.5), "BF16"),
    "all BF16": (with_half(dtype="BF16"), "expected F32 [105, 16]. All tensors must be F32, or all F16"),
    "infinity in half precision": (with_half(np.inf), "contains values that are not finite numbers"),
    "no number in half precision": (with_half(np.nan), "contains values that are not finite numbers"),
    "I8": (with_dtype("I8", 0.25), "I8"),
    "I32 as F32's size": (with_dtype("I32", 1), "I32"),
    "F8": (with_dtype("F8_E4M3", 0.25), "F8_E4M3"),
    "an unknown type": (with_dtype("F1024", 1), "F1024"),
    "another shape": (with_entry("head.layers.0.bias", shape=[2, 4]), "head.layers.0.bias is F32 [2, 4]"),
    "a shape of booleans": (with_entry("head.layers.0.bias", shape=[True]), "head.layers.0.bias"),
    "a shape without end": (with_entry("head.layers.0.bias", shape=[1] * 10**5), "head.layers.0.bias is F32 [1, 1"),
    "a tensor more": (with_entry("zz", dtype="F32", shape=[0], data_offsets=[0, 0]), "unexpected tensor zz"),
    "bytes behind the last tensor": (lambda header, body: safetensors(header, body + b"\x00" * 4), "safetensors"),
    "bytes missing": (lambda header, body: safetensors(header, body[:-4]), "safetensors"),
}


@pytest.mark.parametrize("case", SAFETENSORS)
@pytest.mark.parametrize("name", WEIGHTS)
def test_wrong_weights_are_refused(bundle: Path, case: str, name: str) -> None:
    change, problem = SAFETENSORS[case]
    replace_file(bundle, name, change(*taken_apart(bundle / name)))
    refuse(bundle, name, problem)


def test_the_parts_of_these_tests_fit_together_again(bundle: Path) -> None:
    header, body = taken_apart(bundle / "forward.safetensors")
    replace_file(bundle, "forward.safetensors", safetensors(header, body))
    assert bothways.verify(bundle).passed


def test_weights_rounded_to_half_precision_are_read_and_fail_the_proof(bundle: Path) -> None:
    path = bundle / "backward.safetensors"
    replace_file(bundle, path.name, with_half()(*taken_apart(path)))
    assert bothways.load(bundle).predict(TEXTS).shape == (3,)
    result = bothways.verify(bundle)
    assert result.differences["forward"] < 1e-5 < result.differences["backward"] < 0.1


def test_a_missing_tensor_is_named(bundle: Path) -> None:
    edit_weights(bundle, "backward.safetensors", lambda arrays: arrays.pop("encoder.layers.1.weight_hh"))
    refuse(bundle, "backward.safetensors", "lacks the tensor encoder.layers.1.weight_hh")


@pytest.mark.parametrize("tensor", ["encoder.embedding.weight", "encoder.layers.0.bias_hh", "head.layers.1.bias"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_refused(bundle: Path, tensor: str, value: float) -> None:
    data = (bundle / "backward.safetensors").read_bytes()
    header, body = taken_apart(bundle / "backward.safetensors")
    start, _ = header[tensor]["data_offsets"]
    broken = body[:start] + struct.pack("<f", value) + body[start + 4 :]
    replace_file(bundle, "backward.safetensors", safetensors(header, broken))
    assert (bundle / "backward.safetensors").read_bytes() != data
    refuse(bundle, "backward.safetensors", f"{tensor} contains values that are not finite numbers")


@pytest.mark.parametrize("norm", ["norms.0", "norms.1"])
def test_a_negative_variance_is_refused(bundle: Path, norm: str) -> None:
    tensor = f"head.{norm}.running_var"
    edit_weights(bundle, "forward.safetensors", lambda arrays: arrays[tensor].__setitem__(2, -0.1))
    refuse(bundle, "forward.safetensors", f"{tensor} contains a negative variance")


@pytest.mark.parametrize(
    "value",
    [0.0, 1e-45, -1e-40, 1e30, -3.4e38, 3.4e38],
    ids=["0", "denormal", "-denormal", "1e30", "lowest", "largest"],
)
@pytest.mark.parametrize("part", ["", "encoder.", "head."])
def test_weights_all_of_one_extreme_value_do_no_harm_and_fail_the_proof(bundle: Path, part: str, value: float) -> None:
    def fill(arrays: Arrays) -> None:
        for name, array in arrays.items():
            if name.startswith(part):
                array[...] = abs(value) if name.endswith("running_var") else value

    edit_weights(bundle, "backward.safetensors", fill)
    model = bothways.load(bundle)
    assert len(list(model.stream(TEXTS))) == len(TEXTS)
    result = bothways.verify(bundle)
    assert not result.passed
    assert result.problem.startswith(("backward differs by", "ensemble differs by"))
    assert result.differences["forward"] < 1e-5


def overflow(arrays: Arrays) -> None:
    """Products of finite weights that are infinite with both signs: their sum is no number."""
    signs = np.where(np.arange(arrays["encoder.embedding.weight"].size) % 2, 1, -1).astype(np.float32)
    arrays["encoder.embedding.weight"][...] = 3e38 * signs.reshape(arrays["encoder.embedding.weight"].shape)
    arrays["encoder.layers.0.weight_ih"][...] = 3e38


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("kind", ["bundle", "pack"])
def test_weights_that_overflow_fail_the_proof_in_any_place(
    bundle: Path, pack_path: Path, tmp_path: Path, kind: str, direction: str
) -> None:
    path = bundle if kind == "bundle" else Path(shutil.copytree(pack_path, tmp_path / "hostile.pack"))
    edit_weights(path, f"{direction}.safetensors", overflow)
    result = bothways.verify(path)
    assert not result.passed
    if kind == "pack":
        assert result.differences[direction] == np.inf
        assert result.problem.startswith(f"{direction} differs by inf")
    finished = run_python(
        "from bothways.runtime.verify import _main; import sys; sys.exit(_main(sys.argv[1]))", str(path)
    )
    assert finished.returncode == 1
    told = json.loads(finished.stdout)
    assert told["passed"] is False
    assert (told["differences"][direction] is None) == (kind == "pack")


# Bundles that are whole, but not what was trained


def test_directions_in_each_others_place_fail_the_proof(bundle: Path) -> None:
    """The forum's bug in its purest form: every digest is right, and both models read the wrong way round."""
    forward, backward = ((bundle / name).read_bytes() for name in ("forward.safetensors", "backward.safetensors"))
    replace_file(bundle, "forward.safetensors", backward)
    replace_file(bundle, "backward.safetensors", forward)
    assert bothways.load(bundle).predict(TEXTS).shape == (3,)
    result = bothways.verify(bundle)
    assert not result.passed
    assert result.differences["forward"] > 0.01
    assert result.differences["backward"] > 0.01
    assert "differs by" in result.problem


def test_markers_placed_otherwise_fail_the_proof(bundle: Path) -> None:
    edit_manifest(bundle, lambda fields: fields["members"][1].update(special_tokens="as-written"))
    result = bothways.verify(bundle)
    assert not result.passed
    assert result.differences["forward"] < 1e-5 < result.differences["backward"]


def test_labels_in_another_order_fail_the_proof(bundle: Path) -> None:
    edit_manifest(bundle, lambda fields: fields["labels"].reverse())
    result = bothways.verify(bundle)
    assert not result.passed
    assert min(result.differences.values()) > 1e-3


def test_members_in_another_order_are_the_same_numbers(bundle: Path) -> None:
    before = bothways.load(bundle).predict_proba_by_direction(TEXTS)
    edit_manifest(bundle, lambda fields: fields["members"].reverse())
    after = bothways.load(bundle).predict_proba_by_direction(TEXTS)
    assert np.array_equal(before["forward"], after["forward"])
    assert np.array_equal(before["backward"], after["backward"])
    assert bothways.verify(bundle).passed


def edit_proof(bundle: Path, number: int, change: Callable[[Fields], object]) -> None:
    rows = [json.loads(line) for line in (bundle / "parity.jsonl").read_bytes().splitlines()]
    change(rows[number])
    replace_file(bundle, "parity.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def rotate(probabilities: dict[str, float]) -> None:
    """Return each label the probability of another one."""
    values = list(probabilities.values())
    probabilities.update(zip(probabilities, [*values[1:], values[0]], strict=True))


@pytest.mark.parametrize("name", ["forward", "backward", "ensemble"])
@pytest.mark.parametrize("number", [0, 20, -1])
def test_a_number_of_the_proof_that_is_changed_fails_it(bundle: Path, name: str, number: int) -> None:
    edit_proof(bundle, number, lambda row: rotate(row["probabilities"][name]))
    record_decisions(bundle)
    result = bothways.verify(bundle)
    assert not result.passed
    assert result.problem.startswith(f"{name} differs by")


def test_tokens_of_the_proof_that_are_changed_fail_it(bundle: Path) -> None:
    edit_proof(bundle, 5, lambda row: row["ids"].reverse())
    result = bothways.verify(bundle)
    assert (result.passed, result.different_tokens) == (False, 1)
    assert result.problem == f"1 of {result.texts} texts are tokenized differently than in training"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda row: row.update(text="\ud800"), "line 6"),
        (lambda row: row.update(text=None), "line 6"),
        (lambda row: row.update(ids=[1.5]), "line 6"),
        (lambda row: row.pop("probabilities"), "line 6: expected numbers for backward, ensemble, forward"),
        (lambda row: row["probabilities"].pop("backward"), "line 6: expected numbers for"),
        (lambda row: row["probabilities"].update(forward={"a": 1.0}), "line 6: expected probabilities for each output"),
        (lambda row: row["probabilities"]["forward"].update(dict.fromkeys(LABELS, 2.0)), "line 6"),
    ],
)
def test_a_row_that_proves_nothing_is_refused(bundle: Path, change: Callable[[Fields], object], problem: str) -> None:
    edit_proof(bundle, 5, change)
    refuse(bundle, "parity.jsonl", problem)


def test_a_bundle_without_a_proof_is_refused(bundle: Path) -> None:
    replace_file(bundle, "parity.jsonl", b"")
    refuse(bundle, "parity.jsonl", "has no rows, so this bundle cannot be verified")


def test_a_random_change_anywhere_never_raises_anything_else(bundle: Path) -> None:
    """Fuzzing with right digests: each file is cut, flipped and spliced; only a ``BundleError`` may come out."""
    rng = random.Random(11)
    originals = {name: (bundle / name).read_bytes() for name in FILES}
    refused = 0
    for _ in range(100):
        name = rng.choice(FILES)
        data = bytearray(originals[name])
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(600, len(data)))
            match rng.randrange(4):
                case 0:
                    data[place] = rng.randrange(256)
                case 1:
                    del data[place : place + rng.randint(1, 9)]
                case 2:
                    data[place:place] = rng.choice([b'"', b"[", b"]", b"{", b"}", b",", b"-", b"9" * 9, b"\\u0000"])
                case _:
                    data[place:place] = data[:20]
        (bundle / MANIFEST_FILE).write_bytes(originals[MANIFEST_FILE])
        if name == MANIFEST_FILE:
            (bundle / name).write_bytes(data)
        else:
            replace_file(bundle, name, bytes(data))
        message = message_of_loading(bundle)
        assert message.isprintable()
        assert len(message) < 1000
        if message:
            refused += 1
        else:
            assert bothways.verify(bundle).texts >= 1
        (bundle / name).write_bytes(originals[name])
    assert refused > 30


def test_the_digest_of_a_bundle_covers_its_manifest_as_documented(bundle: Path) -> None:
    fields = json.loads((bundle / MANIFEST_FILE).read_bytes())
    recorded = fields.pop("digest")
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    assert bothways.load(bundle).digest == recorded == hashlib.sha256(canonical.encode()).hexdigest()
    assert set(tensors(bundle / "forward.safetensors")) == set(tensors(bundle / "backward.safetensors"))
