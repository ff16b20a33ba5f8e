"""C3: no change of a single field of a bundle is verified with other answers.

First as it happens: one change, and nothing else. Then as someone with tools but without the key could do it: digests
and sizes are corrected after the change, so that only the parity record is left to notice it. A signature notices all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bothways
from bothways.bundle.manifest import MANIFEST_FILE, FastaiPooling, Kind
from bothways.bundle.parity import LARGEST_DIFFERENCE, ParityRow
from bothways.bundle.read import read_bundle, read_manifest
from bothways.bundle.sign import sign
from bothways.bundle.signature import SIGNATURE_FILE
from bothways.errors import BundleError
from bothways.interop.reference import reference_record
from bothways.runtime.language_model import LanguageModel
from bothways.tasks.regression import Regression
from bothways.tasks.single_label import SingleLabel
from bothways.text.fields import Text
from bothways.text.reading import Direction, SpecialTokenPlacement
from bothways.text.subword_tokenizer import SubwordTokenizer
from bothways.training.models import weights_of
from tests.bundles import (
    TinyClassifiers,
    TinyLanguageModels,
    edit_manifest,
    make_classifiers,
    write_classifiers,
    write_pack,
    write_with_early_exit,
)
from tests.hostile.bundle_changes import Change, changes_of
from tests.keys import key_pair
from tests.words import make_word_tokenizer

KINDS = ["single-label", "multi-label", "targets", "early exit", "integers", "pooled words", "two columns", "pack"]
KINDS += ["linear", "linear first"]
ROWS, LONGEST_TOKENS = 12, 80


@dataclass
class Answers:
    """All that a bundle answers for the texts of its parity record."""

    labels: list[Any]
    numbers: list[float]


def texts_of(bundle: Path) -> list[Text]:
    found = read_bundle(bundle, read_manifest(bundle).kind)
    return [row.text_in(found.manifest.training.text_columns) for row in found.parity_record]


def answers_of(bundle: Path, texts: list[Text]) -> Answers:
    manifest = read_manifest(bundle)
    labels: list[Any] = [manifest.kind, manifest.task, manifest.labels, manifest.label_kind]
    numbers: list[float] = []
    if manifest.kind is Kind.LANGUAGE_MODEL:
        model = LanguageModel(read_bundle(bundle, manifest.kind))
        losses = [
            model.loss(text, way) for text in texts for way in sorted(manifest.directions) if isinstance(text, str)
        ]
        return Answers(labels, losses)
    for early_exit in (False, True):
        if early_exit and manifest.early_exit is None:
            continue
        for found in bothways.load(bundle, threads=1, early_exit=early_exit).stream(texts):
            labels.append([found.label, type(found.label), found.chosen, found.read])
            numbers += [number for name in sorted(found.scores) for number in found.scores[name].tolist()]
    task = manifest.decisions
    unit = float(task.units.max()) if isinstance(task, Regression) else 1
    return Answers(labels, [number / unit for number in numbers])


def outcome(bundle: Path, **options: Any) -> str:
    """Return how ``verify`` ends. Anything but a verdict or a ``BundleError`` comes through."""
    try:
        result = bothways.verify(bundle, **options)
    except BundleError:
        return "refused"
    return "passed" if result.passed else "failed"


def short(rows: list[ParityRow]) -> list[ParityRow]:
    """Return rows that are read fast."""
    return [row for row in rows if len(row.ids) < LONGEST_TOKENS][-ROWS:]


@pytest.fixture(scope="module")
def bundles(
    torch_models: TinyClassifiers,
    multi_label_torch_models: TinyClassifiers,
    targets_torch_models: TinyClassifiers,
    fields_torch_models: TinyClassifiers,
    linear_torch_models: TinyClassifiers,
    torch_language_models: TinyLanguageModels,
    tiny_tokenizer: SubwordTokenizer,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """A bundle of each kind, with a short parity record."""
    folder = tmp_path_factory.mktemp("sealed")
    placements = dict.fromkeys(Direction, SpecialTokenPlacement.READING_ORDER)
    integers = SingleLabel(("1", "2", "10"), temperature=1.5, label_kind="integer")
    classifiers = {
        "single-label": torch_models,
        "multi-label": multi_label_torch_models,
        "targets": targets_torch_models,
        "integers": make_classifiers(tiny_tokenizer, placements, task=integers),
        "two columns": fields_torch_models,
        "linear": linear_torch_models,
        "pooled words": make_classifiers(make_word_tokenizer("fastai-v2"), placements),
    }
    paths = {kind: folder / f"{number}.bundle" for number, kind in enumerate(KINDS)}
    for kind, tiny in classifiers.items():
        rows, members = short(tiny.parity_record), tiny.members
        if kind == "pooled words":
            pooling = FastaiPooling(window_tokens=5, tail_tokens=9, last_skips_padding=True)
            members = [member.model_copy(update={"pooling": pooling}) for member in tiny.members]
            weights = {m.direction: weights_of(tiny.models[m.direction], m, tiny.task.outputs) for m in members}
            rows = short(reference_record(members, weights, tiny.task, tiny.tokenizer))
        write_classifiers(paths[kind], tiny, parity_record=rows, members=members, verify=lambda _: None)
    texts = [row.text for row in short(torch_models.parity_record) if isinstance(row.text, str)]
    write_with_early_exit(paths["single-label"], paths["early exit"], Direction.FORWARD, texts)
    write_with_early_exit(paths["linear"], paths["linear first"], Direction.BACKWARD, texts, starts_with_linear=True)
    tiny_pack = torch_language_models
    short_pack = TinyLanguageModels(tiny_pack.models, tiny_pack.members, tiny_pack.tokenizer)
    vars(short_pack)["parity_record"] = short(tiny_pack.parity_record)
    write_pack(paths["pack"], short_pack)
    return paths


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return key_pair(tmp_path_factory.mktemp("keys"))


def all_changes(bundle: Path) -> list[Change]:
    return list(changes_of(bundle, random.Random(27)))


def sample(changes: list[Change], kind: str, count: int) -> list[Change]:
    """Return some of the changes, as many from every file."""
    rng = random.Random(100 + KINDS.index(kind))
    files = sorted({change.file for change in changes})
    by_file = [[change for change in changes if change.file == name] for name in files]
    return [change for each in by_file for change in rng.sample(each, min(len(each), count // len(files)))]


def changed_copies(bundle: Path, changes: list[Change], folder: Path) -> Iterator[tuple[Change, Path]]:
    """Yield each change with a copy of the bundle in which nothing else is changed."""
    path = Path(shutil.copytree(bundle, folder / "changed.bundle"))
    for change in changes:
        (path / change.file).write_bytes(change.content())
        yield change, path
        for name in (change.file, MANIFEST_FILE):
            (path / name).write_bytes((bundle / name).read_bytes())


def is_same(path: Path, bundle: Path, name: str) -> bool:
    """Return whether a JSON file has the content that it has in the bundle, perhaps with other white space."""
    found = []
    for folder in (path, bundle):
        try:
            found.append(json.dumps(json.loads((folder / name).read_bytes()), sort_keys=True))
        except ValueError:
            return False
    return found[0] == found[1]


def correct_digests(path: Path, name: str) -> None:
    """Record size and digest of a changed file, and then the digest of the manifest."""
    if name == MANIFEST_FILE:
        with contextlib.suppress(ValueError, AttributeError, TypeError):  # not even an object
            edit_manifest(path, lambda fields: None)
    elif name != SIGNATURE_FILE:
        data = (path / name).read_bytes()
        record = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        edit_manifest(path, lambda fields: fields["files"].update({name: record}))


def check_refused(bundle: Path, changes: list[Change], folder: Path) -> None:
    assert outcome(bundle) == "passed"
    for change, path in changed_copies(bundle, changes, folder):
        assert outcome(path) == "refused" or is_same(path, bundle, MANIFEST_FILE), change


@pytest.mark.parametrize("kind", KINDS)
def test_c3_a_change_of_a_field_is_refused(bundles: dict[str, Path], kind: str, tmp_path: Path) -> None:
    """The manifest's digest covers all of its fields, and its fields the digests of the files: nothing is harmless."""
    check_refused(bundles[kind], sample(all_changes(bundles[kind]), kind, 80), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_c3_every_change_of_a_field_is_refused(bundles: dict[str, Path], kind: str, tmp_path: Path) -> None:
    changes = all_changes(bundles[kind])
    assert len(changes) > 600
    check_refused(bundles[kind], changes, tmp_path)


def check_corrected(bundle: Path, changes: list[Change], folder: Path) -> dict[str, int]:
    """Check that changes with corrected digests are noticed, or answer the same. Return how many ended how."""
    texts = texts_of(bundle)
    expected = answers_of(bundle, texts)
    found = {"refused": 0, "failed": 0, "passed": 0}
    for change, path in changed_copies(bundle, changes, folder):
        correct_digests(path, change.file)
        end = outcome(path)
        found[end] += 1
        if end == "passed":
            now = answers_of(path, texts)
            assert now.labels == expected.labels, change
            np.testing.assert_allclose(
                now.numbers, expected.numbers, rtol=0, atol=2 * LARGEST_DIFFERENCE, err_msg=str(change)
            )
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_c3_a_change_with_corrected_digests_fails_or_answers_the_same(
    bundles: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    found = check_corrected(bundles[kind], sample(all_changes(bundles[kind]), kind, 20), tmp_path)
    assert found["refused"] > 3
    assert found["failed"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_c3_every_change_with_corrected_digests_fails_or_answers_the_same(
    bundles: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    assert check_corrected(bundles[kind], all_changes(bundles[kind]), tmp_path)["failed"] > 50


def check_signed(bundle: Path, changes: list[Change], keys: tuple[Path, Path], folder: Path) -> None:
    for change, path in changed_copies(bundle, changes, folder):
        correct_digests(path, change.file)
        if not (is_same(path, bundle, MANIFEST_FILE) and is_same(path, bundle, SIGNATURE_FILE)):
            assert outcome(path, key=keys[1]) == "refused", change


def signed(bundle: Path, keys: tuple[Path, Path], folder: Path) -> Path:
    copy = Path(shutil.copytree(bundle, folder / "signed.bundle"))
    sign(copy, key=keys[0])
    assert outcome(copy) == outcome(copy, key=keys[1]) == "passed"
    return copy


@pytest.mark.parametrize("kind", KINDS)
def test_c3_a_signature_notices_a_change_with_corrected_digests(
    bundles: dict[str, Path], keys: tuple[Path, Path], kind: str, tmp_path: Path
) -> None:
    bundle = signed(bundles[kind], keys, tmp_path)
    check_signed(bundle, sample(all_changes(bundle), kind, 60), keys, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_c3_a_signature_notices_every_change_with_corrected_digests(
    bundles: dict[str, Path], keys: tuple[Path, Path], kind: str, tmp_path: Path
) -> None:
    bundle = signed(bundles[kind], keys, tmp_path)
    check_signed(bundle, all_changes(bundle), keys, tmp_path)
