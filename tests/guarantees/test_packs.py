"""The packs that come with bothways give their trainer's numbers here, too (guarantee 1)."""

from __future__ import annotations

from pathlib import Path

import pytest

import bothways
from bothways.bundle.manifest import Kind
from bothways.bundle.packs import pack_path
from bothways.bundle.read import read_bundle

BASE = Path(__file__).parents[2] / "packs" / "en-base"


@pytest.mark.parametrize(
    "pack",
    [pytest.param(pack_path("en-small"), id="en-small"), pytest.param(BASE, id="en-base", marks=pytest.mark.slow)],
)
def test_packs_prove_themselves(pack: Path) -> None:
    assert bothways.verify(pack).passed


def test_the_packs_of_english_share_a_tokenizer() -> None:
    """So that texts that were read for one are read for the other."""
    small, base = ((path / "tokenizer.json").read_bytes() for path in (Path(pack_path("en-small")), BASE))
    assert small == base


def test_the_wheel_has_room_for_the_small_pack() -> None:
    files = list(Path(pack_path("en-small")).iterdir())
    assert sum(file.stat().st_size for file in files) < 32_000_000


def test_each_pack_says_what_it_was_trained_on_and_how_well_it_predicts() -> None:
    for path in (pack_path("en-small"), BASE):
        training = read_bundle(path, Kind.LANGUAGE_MODEL).manifest.training
        assert training.about is not None
        assert "CC BY-SA 3.0" in training.about
        assert "Compute: " in training.about
        assert all(metrics["perplexity_per_word"] < 340 for metrics in training.validation.values())
