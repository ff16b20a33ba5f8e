"""Tokenizing takes linear time for every text: ten times the text takes about ten times as long.

The texts are those of ``python -m benchmarks.pathological``, which prints the time per character.
"""

from __future__ import annotations

import pytest
from benchmarks.pathological import seconds, subword_tokenizer, texts, word_tokenizer

from bothways.text.fastai_cleaning import FASTAI_V1, FASTAI_V2, RULES
from bothways.text.tokenizer import Tokenizer
from tests.hostile.measure import slowness
from tests.pieces import make_piece_tokenizer
from tests.words import make_word_tokenizer

LARGEST_US_PER_CHARACTER = 20
"""On a fast processor. Ordinary English takes 0.1 to 1 µs per character."""
LARGEST_GROWTH = 3
"""By how much the time per character may grow from a text to one ten times as long."""
SHORTEST_S = 0.005
"""Shorter times are not compared."""


def check_linear(tokenizer: Tokenizer, size: int) -> None:
    """Fail if a text takes too long, or much longer per character than one of a tenth of its size."""
    for (name, short), (_, long) in zip(texts(size // 10), texts(size), strict=True):
        for attempt in range(3):  # another process may have disturbed a measurement
            short_s, long_s = max(seconds(tokenizer, short), SHORTEST_S / 10), seconds(tokenizer, long)
            is_linear = long_s < SHORTEST_S or long_s < LARGEST_GROWTH * 10 * short_s
            limit_s = 1e-6 * LARGEST_US_PER_CHARACTER * size
            if is_linear and (long_s < limit_s or long_s < limit_s * slowness()):
                break
            assert attempt < 2, f"{name}: {size // 10} characters take {short_s:.3f} s, {size} take {long_s:.3f} s"


@pytest.mark.parametrize("byte_fallback", [False, True])
def test_the_subword_tokenizer_is_linear(byte_fallback: bool) -> None:
    check_linear(subword_tokenizer(byte_fallback=byte_fallback), 20_000)


@pytest.mark.parametrize("cleaning", [FASTAI_V1, FASTAI_V2])
def test_the_word_tokenizer_is_linear(cleaning: str) -> None:
    pytest.importorskip("spacy")
    check_linear(word_tokenizer("en", cleaning), 20_000)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_the_piece_tokenizer_is_linear(algorithm: str) -> None:
    check_linear(make_piece_tokenizer("fastai-v2", algorithm), 20_000)


@pytest.mark.slow
@pytest.mark.parametrize("cleaning", [FASTAI_V1, FASTAI_V2])
@pytest.mark.parametrize("rule", sorted({rule for rules in RULES.values() for rule in rules}))
def test_every_rule_alone_is_linear(cleaning: str, rule: str) -> None:
    if rule in RULES[cleaning]:
        check_linear(make_word_tokenizer(cleaning, separator=" ", rules=[rule], post_rules=[]), 60_000)


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "de", "fr", "ru", "hu", "fi", "tr", "bn", "ar", "el"])
def test_the_word_tokenizer_of_every_kind_of_rules_is_linear(language: str) -> None:
    pytest.importorskip("spacy")
    check_linear(word_tokenizer(language, FASTAI_V2), 60_000)


@pytest.mark.slow
@pytest.mark.parametrize("byte_fallback", [False, True])
def test_the_subword_tokenizer_is_linear_for_long_texts(byte_fallback: bool) -> None:
    check_linear(subword_tokenizer(byte_fallback=byte_fallback), 300_000)
