"""Token ids equal those of sentencepiece, on real texts in many languages, with models trained as fastai trains them.

That fastai passes these texts to sentencepiece is what the generated learners of ``oracle/`` show.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.pieces import data_sets, distinct

from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS, FASTAI_V1, FASTAI_V2, clean_before, mark_token
from bothways.text.word_tokenizer import WordTokenizer, WordTokenizerDocument
from tests.pieces import piece_model_of, reference, train

LANGUAGES = Path(__file__).parents[2] / "benchmarks" / "coverage" / "languages.txt"
SIZES = {"English": 8_000, "German": 1_000, "Chinese": 5_000, "odd characters": 4_000, "62 languages": 2_000}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("BOTHWAYS_DATA" not in os.environ, reason="BOTHWAYS_DATA is not set: no real data sets"),
]


def sets() -> Iterator[tuple[str, list[str]]]:
    yield from data_sets(Path(os.environ["BOTHWAYS_DATA"]))
    yield "62 languages", distinct([line for line in LANGUAGES.read_text("utf-8").splitlines() if line[:1] != "#"])


def cleaned(text: str, cleaning: str) -> str:
    """Return what fastai passes to sentencepiece."""
    if cleaning == FASTAI_V2:
        return clean_before(text, cleaning)
    words = clean_before(text, cleaning, strips=True).split()
    return " ".join(marked for word in words for marked in mark_token(word, cleaning))


@pytest.mark.parametrize("cleaning", [FASTAI_V1, FASTAI_V2])
@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_real_texts_have_the_ids_of_sentencepiece(cleaning: str, algorithm: str) -> None:
    special = ["▁" + token for token in FASTAI_CONTROL_TOKENS[cleaning]]
    count = tokens = 0
    for language, texts in sets():
        inputs = [cleaned(text, cleaning) for text in texts]
        data = train(inputs, algorithm, SIZES[language], special)
        model, theirs = piece_model_of(data), reference(data)
        pieces = [piece for piece, _ in model.pieces]
        vocabulary = pieces if cleaning == FASTAI_V1 else [*FASTAI_CONTROL_TOKENS[cleaning], *sorted(pieces)]
        fields = {"cleaning": cleaning, "language": "any", "source": "a test", "vocabulary": vocabulary}
        ours = WordTokenizer(
            WordTokenizerDocument.model_validate({**fields, "words": "sentencepiece", "sentencepiece": model})
        )
        ids = {word: i for i, word in enumerate(vocabulary)}
        for text, given in zip(texts, inputs, strict=True):
            if cleaning == FASTAI_V1:
                expected = theirs.EncodeAsIds(given)
            else:
                expected = [ids.get(piece, 0) for piece in theirs.EncodeAsPieces(given)]
            assert ours.tokenize(text).ids.tolist() == expected, ascii(text[:200])
            count, tokens = count + 1, tokens + len(expected)
    assert count > 20_000
    print(f"\n{cleaning}, {algorithm}: {count:,} texts, {tokens:,} tokens, no id differs")
