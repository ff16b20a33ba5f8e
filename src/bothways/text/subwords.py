"""Train the subword pieces of a tokenizer on texts. Needs the dependencies of training.

Pieces are trained with sentencepiece and applied with Hugging Face ``tokenizers``. The trainer of ``tokenizers``
returns different scores in every run (docs/decisions/002), which would break "same seed, same bytes".
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable

from bothways.errors import DataError, DependencyMissing
from bothways.text.cleaning import WORD_START, clean, mark_chunk, split_chunks
from bothways.text.fields import Text, fields_of
from bothways.text.subword_tokenizer import SubwordTokenizer

CLEANING = "bothways-1"
_CHARACTERS_COVERED = 0.9995
_MOST_DISTINCT_WORDS = 2_000_000


def train_tokenizer(texts: Iterable[Text], vocabulary_size: int) -> SubwordTokenizer:
    """Train a tokenizer on texts. The same texts produce the same bytes.

    Args:
        texts: Validated texts. They are read once, and only their distinct words are kept in memory.
        vocabulary_size: Requested number of pieces, ≥ 8. The result has fewer pieces if the corpus is too small for
            them, and more if the corpus needs more single characters.

    Raises:
        DataError: The texts contain no word, or no word that sentencepiece can use.
        DependencyMissing: sentencepiece is not installed.
    """
    try:
        import sentencepiece  # noqa: PLC0415  (an optional dependency)
    except ImportError:
        raise DependencyMissing("training a tokenizer needs sentencepiece: pip install 'bothways[train]'") from None

    words = count_words(texts)
    if not words:
        raise DataError("the texts contain no words. Training a tokenizer needs texts with words")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(f"{word}\t{count}" for word, count in sorted(words.items())),
            model_writer=model,
            input_format="tsv",
            model_type="unigram",
            vocab_size=max(vocabulary_size, 2 * _characters_needed(words) + 8),
            hard_vocab_limit=False,
            character_coverage=_CHARACTERS_COVERED,
            normalization_rule_name="identity",
            num_threads=1,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=3,
        )
    except RuntimeError as error:  # sentencepiece skips words with its own reserved characters, such as "▅"
        raise DataError(f"no tokenizer can be trained on these texts: {error}") from None
    trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [(trained.id_to_piece(i), trained.get_score(i)) for i in range(1, trained.get_piece_size())]
    return SubwordTokenizer.from_pieces(pieces, CLEANING)


def count_words(texts: Iterable[Text]) -> Counter[str]:
    """Count the words of texts as the tokenizer sees them: cleaned, in lower case and without special tokens."""
    chunks: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for text in texts:
        for field in fields_of(text):
            chunks.update(chunk for chunk, _ in split_chunks(clean(field, CLEANING)))
        if len(chunks) > _MOST_DISTINCT_WORDS:  # words seen once add little: their pieces occur in other words
            chunks = Counter({chunk: count for chunk, count in chunks.items() if count > 1})
    for chunk, count in chunks.items():
        words[mark_chunk(chunk)[1]] += count
    return words


def _characters_needed(words: Counter[str]) -> int:
    """Return the number of distinct characters needed to cover ``_CHARACTERS_COVERED`` of all characters."""
    characters: Counter[str] = Counter({WORD_START: words.total()})
    for word, count in words.items():
        for character in word:
            characters[character] += count
    covered, wanted = 0, _CHARACTERS_COVERED * characters.total()
    for number, (_, count) in enumerate(characters.most_common(), start=1):
        covered += count
        if covered >= wanted:
            return number
    return len(characters)
