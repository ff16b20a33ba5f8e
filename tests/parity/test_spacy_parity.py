"""Our word splitter produces the tokens of the installed spaCy for every text, in every rule-based language."""

import csv
import os
import pkgutil
import random
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.errors import ForeignModelError
from bothways.interop.spacy_tables import tables_from_spacy
from bothways.text import pattern_limits
from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS, FASTAI_V1, FASTAI_V2, clean_before
from bothways.text.word_rules import WordSplitter
from tests.parity.nasty_texts import NASTY_TEXTS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    spacy = pytest.importorskip("spacy")

REFUSED = {"ja", "ko", "th", "vi", "zh"}
LANGUAGES = sorted({m.name for m in pkgutil.iter_modules(spacy.lang.__path__) if m.ispkg} - REFUSED)
RULES = (FASTAI_V1, FASTAI_V2)
TEXTS_PER_LANGUAGE = 150

TYPED = (
    "xxmaj xxpad don't it's U.S. e.g. http://a.b.com/x?y=1 www.foo.de foo@bar.org 10km 5.3mg $5 20€ 100% l'eau d'un "
    ":) :-) ( ) : ; ' \" .. ... … — -- - _ * & a. b. 8) (8 :( :/ o.O 's n't 've He's ’s km² °C. °c. C++ 3:30pm 1-2 a-b "
    "x/y A.B a,b <a> <a #tag @user '' , ! ? « » ä. ß İ ŉ 𝐀 👍 👍🏽 文。文 αβ-γ 1. (1) 1) З.П. м/с א. ١ 10' 5& 12mg + "
    "5+ 3^2 a=b ..).. .-. .'. ).( \\n n°5 5°C aujourd'hui rock'n'roll 'n US$5 '80 (a.b) AB. 5. k. %. '. ²."
)
PIECES = TYPED.split()
SIGNS = ".,:;'\"()[]-_/<>=+*&%$#@!?01258aAbBdDoOpPxXzZ°µ’“”|^~"
SPACES = [*[" "] * 12, "  ", "\n", "\t", "\u00a0", "\u2028", "\x1c", "\n ", " \n", "\r\n", "   ", "\x85", "\u3000"]

Split = Callable[[str], list[str]]


@cache
def splitters(language: str) -> tuple[Split, Split, tuple[str, ...]]:
    """Return our splitter and spaCy's, both with fastai's control tokens, and the keys of the exceptions."""
    tables, version = tables_from_spacy(language, FASTAI_CONTROL_TOKENS[FASTAI_V2])
    assert version == spacy.__version__
    tokenizer = spacy.blank(language).tokenizer
    for token in FASTAI_CONTROL_TOKENS[FASTAI_V2]:
        tokenizer.add_special_case(token, [{spacy.symbols.ORTH: token}])
    return WordSplitter(tables).split, lambda text: [token.text for token in tokenizer(text)], tuple(tables.exceptions)


def check(language: str, text: str) -> None:
    our_split, their_split, _ = splitters(language)
    ours, theirs = our_split(text), their_split(text)
    assert ours == theirs, f"{language}: {text!r}"


def drawn_texts(language: str, count: int) -> Iterator[str]:
    """Return texts of pieces to which several rules apply, joined with or without white space of any kind."""
    rng = random.Random(language)
    keys = splitters(language)[2]
    alphabet = [*SIGNS, *sorted(set("".join(keys[:1500])))]

    def piece() -> str:
        kind = rng.random()
        if kind < 0.3:
            return rng.choice(PIECES)
        if kind < 0.6:
            return rng.choice(keys)
        if kind < 0.85:
            return "".join(rng.choices(alphabet, k=rng.randint(1, 7)))
        if kind < 0.95:
            return "".join(rng.choices(SIGNS[:20], k=rng.randint(1, 6)))
        return chr(rng.choice([rng.randrange(32, 0x3100), rng.randrange(0x1F300, 0x1F700)]))

    for _ in range(count):
        pieces = (piece() + (rng.choice(SPACES) if rng.random() < 0.6 else "") for _ in range(9))
        yield "".join(list(pieces)[: rng.randint(1, 9)])


def test_most_languages_are_tested() -> None:
    assert len(LANGUAGES) >= 70  # a rule that checks nothing must fail


@pytest.mark.slow
def test_the_patterns_of_every_language_are_accepted() -> None:
    """Half of each limit is enough for all languages, so that small changes in a new version of spaCy are accepted."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MOST_PLAIN_CHARACTERS", "MOST_CLASSES", "LONGEST_CLASSES", "MOST_POSITIONS"):
            patch.setattr(pattern_limits, name, getattr(pattern_limits, name) // 2)
        for language in LANGUAGES:
            tables_from_spacy(language, ())


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_rule_based_language_splits_alike(language: str) -> None:
    for text in drawn_texts(language, TEXTS_PER_LANGUAGE):
        check(language, text)


@pytest.mark.parametrize(
    "language", ["de", "en", "es", "fi", pytest.param("fr", marks=pytest.mark.slow), "hu", "tr", "xx"]
)
@pytest.mark.parametrize("clean", [str, *(lambda text, rules=rules: clean_before(text, rules) for rules in RULES)])
def test_nasty_texts_split_alike(clean: Callable[[str], str], language: str) -> None:
    assert len(NASTY_TEXTS) >= 120
    for text in NASTY_TEXTS:
        check(language, clean(text))


def test_earlier_texts_do_not_change_a_split() -> None:
    text = "xxmaj: (:-)well-known"
    expected = ["xxmaj", ":", "(", ":", "-)well", "-", "known"]
    assert splitters("en")[0](text) == expected
    assert splitters("en")[0]("(:-)well-known") == ["(:", "-)well", "-", "known"]
    assert splitters("en")[0](text) == expected


@st.composite
def glued_texts(draw: st.DrawFn, language: str) -> str:
    keys = splitters(language)[2]
    piece = st.one_of(st.sampled_from(PIECES), st.sampled_from(keys), st.text(SIGNS, max_size=6), st.text(max_size=4))
    space = st.sampled_from([*SPACES, *[""] * 8])
    return "".join(draw(st.lists(st.one_of(piece, space), max_size=14)))


@pytest.mark.parametrize("language", ["de", "en", "es"])
@settings(max_examples=250)
@given(data=st.data())
def test_any_text_splits_alike(language: str, data: Any) -> None:
    check(language, data.draw(glued_texts(language)))


@pytest.mark.parametrize("language", sorted(REFUSED))
def test_languages_of_other_tokenizers_are_refused(language: str) -> None:
    with pytest.raises(ForeignModelError, match="expected its rule-based tokenizer"):
        tables_from_spacy(language, ())


@pytest.mark.parametrize(
    ("language", "message"), [("qq", "does not support"), ("../en", "expected one of spaCy's codes")]
)
def test_unknown_languages_are_refused(language: str, message: str) -> None:
    with pytest.raises(ForeignModelError, match=message):
        tables_from_spacy(language, ())


def read_texts(folder: Path, name: str) -> list[str]:
    if name.endswith(".parquet"):
        from pyarrow import parquet

        return list(parquet.read_table(folder / name)["text"].slice(0, 4_000).to_pylist())
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)]


@pytest.mark.real_data
@pytest.mark.skipif("BOTHWAYS_DATA" not in os.environ, reason="BOTHWAYS_DATA is not set: no real data sets")
def test_real_texts_split_alike() -> None:
    folder, compared = Path(os.environ["BOTHWAYS_DATA"]), 0
    for language, names in (
        ("en", ("imdb/test.parquet", "trec6/train.csv", "trec6/test.csv", "sms_spam/sms.csv")),
        ("de", ("germeval2018/train.csv", "germeval2018/test.csv")),
    ):
        for name in names:
            texts = read_texts(folder, name)
            for text in texts:
                for rules in RULES:
                    check(language, clean_before(text, rules))
            compared += len(texts)
    print(f"\n{compared} real texts, each cleaned by {len(RULES)} sets of rules: the same tokens as spaCy's")
    assert compared >= 20_000
