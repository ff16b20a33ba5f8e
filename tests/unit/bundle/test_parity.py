from __future__ import annotations

import json
from pathlib import Path

import pytest

from bothways.bundle.manifest import Kind, Manifest
from bothways.bundle.parity import (
    ENSEMBLE,
    NASTY_TEXTS,
    ParityRow,
    dump_parity_record,
    parity_texts,
    parse_parity_record,
    with_decisions,
)
from bothways.bundle.read import read_manifest
from bothways.errors import BundleBroken
from bothways.nn.classifier import CHUNK_TOKENS
from bothways.text.cleaning import WORD_START
from bothways.text.subword_tokenizer import FIRST_PIECE_ID, SubwordTokenizer
from bothways.text.tokenizer_document import parse_tokenizer
from bothways.text.validation import check_text
from tests.bundles import LABELS, TinyClassifiers, TinyLanguageModels

GOOD = {
    "text": "a",
    "ids": [2, 20],
    "probabilities": {
        "forward": dict(zip(LABELS, [0.5, 0.25, 0.25], strict=True)),
        "backward": dict(zip(LABELS, [0, 1, 0], strict=True)),
        ENSEMBLE: dict(zip(LABELS, [0.25, 0.625, 0.125], strict=True)),
    },
    "decision": {"label": "good", "chosen": ["good"]},
}

EARLY_EXIT = {"read": "both", "probabilities": GOOD["probabilities"][ENSEMBLE], "decision": GOOD["decision"]}  # type: ignore[index]
TOO_LARGE, NEGATIVE = dict.fromkeys(LABELS, 1.5), dict.fromkeys(LABELS, -0.5)


@pytest.fixture(scope="module")
def manifest(bundle_path: Path) -> Manifest:
    return read_manifest(bundle_path)


def line(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def test_texts_are_nasty_ones_and_words_of_the_tokenizers_own_pieces(tiny_tokenizer: SubwordTokenizer) -> None:
    """A proof is published: no text of a user may get into it."""
    texts = parity_texts(tiny_tokenizer, 3)
    assert texts[: len(NASTY_TEXTS)] == list(NASTY_TEXTS)
    composed = texts[len(NASTY_TEXTS) :]
    assert len(composed) == 24
    pieces = tiny_tokenizer.tokens(list(range(FIRST_PIECE_ID, len(tiny_tokenizer))))
    characters = {character for piece in pieces for character in piece.replace(WORD_START, " ")}
    for text in composed:
        assert set(text) <= characters


def test_texts_are_the_same_for_the_same_seed_and_others_for_another(tiny_tokenizer: SubwordTokenizer) -> None:
    again = parse_tokenizer(tiny_tokenizer.to_bytes())
    assert parity_texts(tiny_tokenizer, 3) == parity_texts(again, 3)
    assert parity_texts(tiny_tokenizer, 3) != parity_texts(tiny_tokenizer, 4)


def test_texts_are_texts_of_many_lengths(tiny_tokenizer: SubwordTokenizer) -> None:
    texts = [check_text(text, "proof") for text in parity_texts(tiny_tokenizer, 0)]
    lengths = [len(tiny_tokenizer.tokenize(text)) for text in texts]
    assert min(lengths) == 1
    assert max(lengths) > CHUNK_TOKENS  # longer than a chunk of the trainer
    assert len(set(lengths)) > 15
    assert sum(length > 32 for length in lengths) > 5  # longer than a window of the runtime


def test_a_proof_comes_back_as_it_was_dumped(torch_models: TinyClassifiers, manifest: Manifest) -> None:
    rows = with_decisions(torch_models.parity_record, torch_models.task, None)
    data = dump_parity_record(rows)
    assert parse_parity_record(data, manifest, "parity.jsonl") == rows
    assert dump_parity_record(parse_parity_record(data, manifest, "parity.jsonl")) == data
    assert data.count(b"\n") == len(torch_models.parity_record) == len(NASTY_TEXTS) + 24


def test_a_packs_proof_holds_losses(torch_language_models: TinyLanguageModels, pack_path: Path) -> None:
    manifest = read_manifest(pack_path)
    assert manifest.kind is Kind.LANGUAGE_MODEL
    rows = parse_parity_record(dump_parity_record(torch_language_models.parity_record), manifest, "parity.jsonl")
    assert [row.loss for row in rows] == [row.loss for row in torch_language_models.parity_record]
    assert all(row.loss is not None and set(row.loss) == {"forward", "backward"} for row in rows)
    assert rows[0].loss == {"forward": 0.0, "backward": 0.0}  # the empty text


def test_line_breaks_inside_a_text_do_not_break_a_line(manifest: Manifest) -> None:
    row = ParityRow.model_validate({**GOOD, "text": "a\nb\r\x0b\x0c\x85\u2028"})
    assert parse_parity_record(dump_parity_record([row]), manifest, "parity.jsonl") == [row]


def test_the_row_of_these_tests_is_good(manifest: Manifest) -> None:
    (row,) = parse_parity_record(line(), manifest, "parity.jsonl")
    assert row.ids == [2, 20]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "parity.jsonl has no rows, so this bundle cannot be verified"),
        (b"\n", "line 1: not strict JSON"),
        (line() + b"\n\n", "line 2: not strict JSON"),
        (b"[]", "line 1: Input should be"),
        (b'{"text": "a", "text": "b"}', "line 1: not strict JSON: the key 'text' occurs twice"),
        (line(ids=None), "line 1: ids: Input should be a valid list"),
        (line(ids=[1.5]), "line 1: ids.0: Input should be a valid integer"),
        (line(ids=["1"]), "line 1: ids.0: Input should be a valid integer"),
        (line(ids=[2**64]), "line 1: not strict JSON"),
        (line(text=3), "line 1: text.str: Input should be a valid string"),
        (line(text="\ud800"), "line 1: "),
        (line(more=1), "line 1: more: Extra inputs"),
        (
            line(loss={"forward": 1.0}),
            "line 1: expected numbers for backward, ensemble, forward as probabilities, and no",
        ),
        (line(decision=None), "line 1: the decision is not the one that follows from the scores and the manifest"),
        (line(decision={"label": "bad", "chosen": ["bad"]}), "line 1: the decision is not the one that follows"),
        (line(decision={"label": "good", "chosen": []}), "line 1: the decision is not the one that follows"),
        (line(decision={"label": 1.5, "chosen": []}), "line 1: decision.label"),
        (line(early_exit={"read": "both"}), "line 1: early_exit.probabilities: Field required"),
        (line(early_exit=EARLY_EXIT), "line 1: the early exit is not the one that follows from the scores"),
        (line(probabilities=None), "expected numbers for backward, ensemble, forward"),
        (line(probabilities=None, loss={"forward": 1.0, "backward": 1.0}), "expected numbers for backward, ensemble"),
        (line(probabilities={"forward": {"bad": 1.0}}), "expected numbers for backward, ensemble, forward"),
        (line(probabilities={**GOOD["probabilities"], "sideways": {}}), "expected numbers for"),  # type: ignore[dict-item]
        (line(probabilities={**GOOD["probabilities"], "forward": {"x": 1.0}}), "expected probabilities for"),  # type: ignore[dict-item]
        (line(probabilities={**GOOD["probabilities"], "forward": TOO_LARGE}), "less than or equal to 1"),  # type: ignore[dict-item]
        (line(probabilities={**GOOD["probabilities"], "forward": NEGATIVE}), "greater than or equal to 0"),  # type: ignore[dict-item]
        (line().replace(b"0.625", b"NaN"), "line 1: not strict JSON: NaN"),
        (line().replace(b"0.625", b"1e999"), "line 1: not strict JSON"),
        (line() + b"\n" + line()[:-1], "line 2: not strict JSON"),
    ],
)
def test_a_broken_proof_is_refused_by_line(manifest: Manifest, data: bytes, problem: str) -> None:
    with pytest.raises(BundleBroken) as caught:
        parse_parity_record(data, manifest, "parity.jsonl")
    assert str(caught.value).startswith("parity.jsonl")
    assert problem in str(caught.value)
