"""SentencePiece models in files and exports: what is read, and what is refused by name."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceProcessor

from bothways.errors import ConfigError, ForeignModelError
from bothways.interop.fastai_file import ForeignModel, model_of
from bothways.interop.learner_facts import Requested
from bothways.interop.pickle_reader import Record
from bothways.interop.sentencepiece_file import read_piece_file, read_piece_model
from bothways.text.piece_model import PieceModel
from bothways.text.word_tokenizer import WordTokenizer
from tests.hostile.foreign_files import LABELS, tiny_state
from tests.pieces import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    field,
    made,
    piece_model_of,
    reference,
    small_table,
    trained,
)
from tests.unit.interop.exports import an_object, v1_export, v2_export, vocabulary

PIECES = [("<unk>", 0.0, UNKNOWN), ("▁", -1.0, NORMAL), ("a", -2.5, NORMAL), ("▁xxbos", 0.0, USER_DEFINED)]


def test_a_trained_model_is_read_whole(tmp_path: Path) -> None:
    data = trained("unigram")
    (tmp_path / "spm.model").write_bytes(data)
    model, theirs = read_piece_file(tmp_path / "spm.model"), reference(data)
    assert [piece for piece, _ in model.pieces] == [theirs.id_to_piece(i) for i in range(len(theirs))]
    assert [struct.pack("<f", score) for _, score in model.pieces] == [
        struct.pack("<f", theirs.get_score(i)) for i in range(len(theirs))
    ]
    assert model.unknown == 9
    assert model.user_defined == list(range(9))
    assert sum(len(prefixes) * len(lasts) for prefixes, lasts, _ in model.replacements) > 200_000
    assert len(model.model_dump_json(include={"replacements"})) < 300_000


def test_the_kinds_of_pieces_and_the_settings_are_read() -> None:
    pieces = [*PIECES, ("<s>", 0.0, CONTROL), ("b", -1.25, UNUSED)]
    model = read_piece_model(made(pieces, {3: 2}, prefix=0, spaces=0), "x")
    assert (model.algorithm, model.starts_with_space, model.joins_spaces) == ("bpe", False, False)
    assert (model.unknown, model.user_defined, model.control, model.unused) == (0, [3], [4], [5])
    assert model.ids_of_pieces() == {"▁": 1, "a": 2, "▁xxbos": 3}


def trie(*units: int) -> bytes:
    return struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units)


LOOP = [0 << 10, *([0] * 96), ord("a") | (ord("a") << 10)]
"""A trie in which ``a`` leads back to the place before it."""

REFUSED = {
    "nothing": (b"", "0 pieces, of which 0 is for unknown characters"),
    "another file": (b"PK\3\4 not a model", "is not a SentencePiece model, or is damaged"),
    "an integer without end": (b"\x08" + b"\xff" * 20, "an integer does not end"),
    "a group": (b"\x0b", "a field of the wire type 3"),
    "two unknown pieces": (made([*PIECES, ("?", 0.0, UNKNOWN)]), "of which 2 is for unknown"),
    "a number as a piece": (made(PIECES) + field(1, 7), "a number instead of a text"),
    "text as a kind": (made(PIECES) + field(1, field(1, b"x") + field(3, b"y")), "a text instead of a number"),
    "a broken score": (made(PIECES) + field(1, field(1, b"x") + field(2, b"y")), "a score that is not a number"),
    "a score that is not finite": (made([*PIECES, ("b", float("inf"), NORMAL)]), "finite"),
    "an unknown kind": (made([*PIECES, ("b", 0.0, 9)]), "a piece of the kind 9"),
    "a piece that is not UTF-8": (made(PIECES) + field(1, field(1, b"\xff")), "a piece is not UTF-8"),
    "an empty piece": (made([*PIECES, ("", 0.0, NORMAL)]), "a piece has 0 characters"),
    "a long piece": (made([*PIECES, ("a" * 101, 0.0, NORMAL)]), "a piece has 101 characters"),
    "equal pieces": (made([*PIECES, PIECES[1]]), "a piece occurs twice"),
    "an unknown algorithm": (made(PIECES, {3: 7}), "the unknown model type 7, expected unigram, bpe, word or char"),
    "spaces after words": (made(PIECES, {24: 1}), "has treat_whitespace_as_suffix"),
    "bytes": (made(PIECES, {35: 1}), "has byte_fallback"),
    "a byte": (made([*PIECES, ("<0x00>", 0.0, BYTE)]), "has byte_fallback"),
    "real spaces": (made(PIECES, escape=0), "has escape_whitespaces=false"),
    "an unknown setting": (made(PIECES) + field(3, field(7, 1)), "has the setting 7 of the normalization"),
    "a short table": (made(PIECES, charsmap=b"abc"), "a table of replacements of a wrong size"),
    "a table that ends early": (made(PIECES, charsmap=struct.pack("<I", 400) + b"x"), "of a wrong size"),
    "a table with a loop": (made(PIECES, charsmap=trie(*LOOP) + b"x\0"), "more or longer replacements"),
    "a replacement without an end": (
        made(PIECES, charsmap=trie(0, *[0] * 96, ord("a") | 256, *[0x80000000] * 200) + b"x"),
        "a replacement without an end",
    ),
    "half of a character": (made(PIECES, charsmap=trie(0, *[0] * 159, 160 | 256) + b"x\0"), "a part of a character"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_refused_by_name(name: str) -> None:
    data, message = REFUSED[name]
    with pytest.raises(ForeignModelError, match=message):
        read_piece_model(data, "spm.model")


def test_a_damaged_model_is_read_or_refused() -> None:
    data = made(PIECES, {3: 1}, prefix=1, charsmap=small_table())
    assert read_piece_model(data, "spm.model").replacements == [([""], "a", "x")]
    for stop in range(len(data)):
        for damaged in (data[:stop], data[:stop] + bytes([data[stop] ^ 0x55]) + data[stop + 1 :]):
            with contextlib.suppress(ForeignModelError):
                assert read_piece_model(damaged, "spm.model").pieces


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ForeignModelError, match=r"spm\.model can't be read: No such file"):
        read_piece_file(tmp_path / "spm.model")


# In exports.


@pytest.fixture(scope="module")
def model() -> PieceModel:
    return piece_model_of(trained("unigram", "fastai-v1"))


def of_v1(model: PieceModel, **options: object) -> dict[str, Any]:
    """Return an export of a learner with an SPProcessor."""
    words = [piece for piece, _ in model.pieces]
    export = v1_export(tiny_state(words=len(words)), words, LABELS)
    vocab = export["data"]["x_proc"][1].state["vocab"]
    state = {"pre_rules": None, "post_rules": None, "sp_model": "spm.model", "vocab": vocab, **options}
    export["data"]["x_proc"] = [an_object("fastai.text.data.SPProcessor", state)]
    return export


def of_v2(model: PieceModel, state: object) -> Record:
    """Return an export of a learner with a SentencePieceTokenizer, whose processor has a state."""
    words = vocabulary(2, [*model.ids_of_pieces(), "xxfake"])
    export = v2_export(tiny_state(words=len(words)), words, LABELS)
    tokenizer = an_object(
        "fastai.text.core.SentencePieceTokenizer",
        {"sp_model": None, "tok": an_object("sentencepiece.SentencePieceProcessor", state)},
    )
    learner: Any = export.state
    loader = learner["dls"].state["loaders"][0]
    pipeline = loader.state["dataset"].state["tls"].state["items"][0].state["tfms"].state["fs"].state["items"]
    pipeline[1].state["tok"] = tokenizer
    return export


def opened(
    export: object,
    model: PieceModel | None = None,
    words: list[str] | None = None,
    rules: tuple[str, ...] | None = None,
) -> ForeignModel:
    task: dict[str, Any] = {} if words is None else {"task": "single-label", "labels": tuple(LABELS)}
    requested = Requested(sentencepiece=model, rules=rules, **task)
    return model_of(export, "x.pkl", read_vocabulary=lambda: (words or [], []), requested=requested)


def ids(found: ForeignModel, text: str) -> list[int]:
    return list(map(int, WordTokenizer(found.tokenizer).tokenize(text).ids))


@pytest.mark.parametrize("keeps_options", [True, False])
def test_an_export_of_v2_contains_its_model(keeps_options: bool) -> None:
    data = trained("unigram")
    options = {"_add_bos": False, "_reverse": False, "_return_type": None, "model_proto": data}
    found = opened(of_v2(piece_model_of(data), options if keeps_options else data))
    assert found.tokenizer.words == "sentencepiece"
    pieces = SentencePieceProcessor(model_proto=data).EncodeAsPieces("xxbos xxmaj that film")
    assert ids(found, "That film") == [found.tokenizer.vocabulary.index(piece) for piece in pieces]


def test_an_export_of_v1_needs_the_model_it_was_trained_with(model: PieceModel) -> None:
    with pytest.raises(ForeignModelError, match="contains only the path: pass the file"):
        opened(of_v1(model))
    found = opened(of_v1(model), model)
    theirs = reference(trained("unigram", "fastai-v1"))
    assert ids(found, "That  film ") == theirs.EncodeAsIds("xxbos xxmaj that film")
    multifit = of_v1(model)
    processor = an_object("fastai_contrib.text_data.SPProcessor2", multifit["data"]["x_proc"][0].state)
    multifit["data"]["x_proc"] = [processor]
    assert opened(multifit, model).tokenizer == found.tokenizer
    with pytest.raises(ConfigError, match="records its cleaning rules: drop --rules"):
        opened(of_v1(model), model, rules=("fix_html",))
    with pytest.raises(ConfigError, match="its vocabulary is not the pieces of the SentencePiece model"):
        opened(of_v1(model), piece_model_of(trained("bpe", "fastai-v1")))


def test_a_model_that_is_not_needed_is_refused(model: PieceModel) -> None:
    words = vocabulary(1, ["a", "b"])
    with pytest.raises(ConfigError, match="splits texts with SpacyTokenizer: drop --sentencepiece"):
        opened(v1_export(tiny_state(words=len(words)), words, LABELS), model)
    with pytest.raises(ConfigError, match="contains its own model: drop --sentencepiece"):
        opened(of_v2(piece_model_of(trained("unigram")), trained("unigram")), model)
    with pytest.raises(ConfigError, match="has no pieces of SentencePiece: drop --sentencepiece"):
        opened(tiny_state(words=len(words)), model, words)


def test_weights_with_pieces_need_their_model(model: PieceModel) -> None:
    first = [piece for piece, _ in model.pieces]
    second = vocabulary(2, list(model.ids_of_pieces()))
    for words in (first, second):
        with pytest.raises(ConfigError, match=r"pieces of SentencePiece .* with --sentencepiece"):
            opened(tiny_state(words=len(words)), None, words)
        found = opened(tiny_state(words=len(words)), model, words)
        assert found.tokenizer.cleaning == ("fastai-v1" if words is first else "fastai-v2")
    with pytest.raises(ConfigError, match="has the word '▁quagga', which is not a piece of the SentencePiece model"):
        opened(tiny_state(words=len(second)), model, [*second[:-1], "▁quagga"])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"_add_bos": True, "model_proto": b""}, "has _add_bos=True, expected False"),
        ({"_enable_sampling": True, "model_proto": b""}, "has _enable_sampling=True, expected False"),
        ({"Encode": an_object("__main__.Own", {}), "model_proto": b""}, "has __main__.Own as its Encode"),
        ({"model_proto": "spm.model"}, "expected a SentencePiece model"),
        (None, "expected a SentencePiece model"),
    ],
)
def test_a_processor_that_differs_from_fastais_is_refused(model: PieceModel, state: object, message: str) -> None:
    with pytest.raises(ForeignModelError, match=message):
        opened(of_v2(model, state))
