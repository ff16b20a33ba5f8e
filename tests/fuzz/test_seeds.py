"""D2, D3, D4: inputs that once did harm, and some thousand random changes of harmless files, in a few seconds.

``make test-fuzz`` runs millions of cases with the same targets. An input that it finds becomes a file in ``seeds``.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bothways.errors import BothwaysError
from tests.fuzz.code import CODE, SOURCE
from tests.fuzz.quick import quick_readers
from tests.fuzz.targets import SEEDS, TARGETS, Target

BY_FOLDER = {target.folder: target for target in TARGETS.values()}
SEED_FILES = sorted(path for path in SEEDS.glob("*/*") if path.is_file())
CHANGES = 150


def read_or_refuse(target: Target, path: Path, data: bytes) -> bool:
    """Read an input. Return whether it was refused, in one clear line."""
    path.write_bytes(target.wrap(data))
    try:
        target.entrance.read(path)
    except BothwaysError as error:
        message = str(error)
        assert message.isprintable(), ascii(message)
        assert len(message) <= 2000
        return True
    return False


@pytest.mark.parametrize("seed", SEED_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_input_that_once_did_harm_is_read_or_refused(seed: Path) -> None:
    target = BY_FOLDER[seed.parent.name]
    with target.entrance.place() as path:
        read_or_refuse(target, path, seed.read_bytes())


def changed(data: bytes, words: tuple[bytes, ...], rng: random.Random) -> bytes:
    """Return data with one to three random changes: bytes set, removed, repeated, or words of the format inserted."""
    content = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(content) + 1)
        match rng.randrange(4):
            case 0:
                content[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del content[place : place + rng.randint(1, 20)]
            case 2:
                content[place:place] = content[place : place + rng.randint(1, 50)] * rng.randint(1, 3)
            case _:
                content[place:place] = rng.choice(words) if words else b"\xff"
    return bytes(content)


@pytest.mark.parametrize("name", TARGETS)
def test_a_file_with_random_changes_is_read_or_refused(name: str) -> None:
    target, rng = TARGETS[name], random.Random(name)
    with quick_readers(), target.entrance.place() as path:
        for seed in target.seeds:
            read_or_refuse(target, path, seed)
        refused = sum(
            read_or_refuse(target, path, changed(rng.choice(target.seeds), target.words, rng)) for _ in range(CHANGES)
        )
    assert refused > 0


def test_the_code_of_each_target_is_known_so_that_its_count_begins_again_when_it_changes() -> None:
    assert CODE.keys() == TARGETS.keys()
    for pattern in {pattern for patterns in CODE.values() for pattern in patterns}:
        assert [*SOURCE.glob(pattern)], f"no file has the path {pattern}"
