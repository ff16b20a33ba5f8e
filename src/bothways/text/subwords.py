"""Train the subword pieces of a tokenizer on a corpus; needs the training tier.

In: texts. Out: a ``SubwordTokenizer``. Pieces are estimated by sentencepiece and executed by Hugging Face
``tokenizers``: the trainer of the latter gives other scores at every run (docs/decisions/002), which would break "same
seed, same bytes".
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable

from bothways.errors import DataError, DependencyMissing
from bothways.text.cleaning import WORD_START, clean, mark_chunk, split_chunks
from bothways.text.subword_tokenizer import SubwordTokenizer

CLEANING = "bothways-1"
_CHARACTERS_COVERED = 0.9995
_MOST_DISTINCT_WORDS = 2_000_000


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> SubwordTokenizer:
    """Return a tokenizer whose pieces are learnt from these texts; the same texts give the same bytes.

    Args:
        texts: Checked texts, read once; only their distinct words are held.
        vocabulary_size: Pieces wanted, ≥ 8. Fewer come of a corpus too small for so many, more of one with more
            characters than that.

    Raises:
        DataError: The texts hold no word at all, or none that can be learnt from.
        DependencyMissing: The training tier is not installed.
    """
    try:
        import sentencepiece  # noqa: PLC0415  (training tier)
    except ImportError:
        raise DependencyMissing("training a tokenizer needs sentencepiece: pip install 'bothways[train]'") from None

    words = count_words(texts)
    if not words:
        raise DataError("the texts hold no word at all: nothing to learn a tokenizer from")
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
    except RuntimeError as error:  # it passes over words with its own reserved signs, such as "▅"
        raise DataError(f"no tokenizer can be learnt from these texts: {error}") from None
    trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [(trained.id_to_piece(i), trained.get_score(i)) for i in range(1, trained.get_piece_size())]
    return SubwordTokenizer.from_pieces(pieces, CLEANING)


def count_words(texts: Iterable[str]) -> Counter[str]:
    """Return how often each word occurs, as the tokenizer will see it: clean, in lower case, without its markers."""
    chunks: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for text in texts:
        chunks.update(chunk for chunk, _ in split_chunks(clean(text, CLEANING)))
        if len(chunks) > _MOST_DISTINCT_WORDS:  # rare words teach nothing that their pieces don't
            chunks = Counter({chunk: count for chunk, count in chunks.items() if count > 1})
    for chunk, count in chunks.items():
        words[mark_chunk(chunk)[1]] += count
    return words


def _characters_needed(words: Counter[str]) -> int:
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
