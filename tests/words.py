"""A word tokenizer with small hand-made tables, for tests that need no spaCy."""

from __future__ import annotations

from collections.abc import Sequence

from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS
from bothways.text.word_patterns import Pattern
from bothways.text.word_rules import WordTables
from bothways.text.word_tokenizer import WordTokenizer, WordTokenizerDocument

WORDS = ["the", "a", "cat", "dog", "sat", "on", "mat", "good", "bad", ".", ",", "!"]


def make_word_tokenizer(cleaning: str, words: Sequence[str] = WORDS, **options: object) -> WordTokenizer:
    """Return a tokenizer that has these words in its vocabulary. By default it splits off punctuation."""
    control = FASTAI_CONTROL_TOKENS[cleaning]
    tables = WordTables(
        exceptions={**{token: [token] for token in control}, "don't": ["do", "n't"]},
        prefix=Pattern(pattern=r'^"|^\(', flags=32),
        suffix=Pattern(pattern=r'"$|\)$|,$|!$|\.$', flags=32),
        infix=Pattern(pattern=r"-", flags=32),
        token_match=None,
        url_match=None,
    )
    return WordTokenizer(
        WordTokenizerDocument.model_validate(
            {
                "cleaning": cleaning,
                "language": "en",
                "source": "a test",
                **({"words": "split"} if "separator" in options else {"tables": tables}),
                "vocabulary": [*control, *words],
                **options,
            }
        )
    )
