"""Train the subword pieces of a tokenizer on texts. Needs the dependencies of training.

Pieces are trained with sentencepiece and applied with Hugging Face ``tokenizers``. The trainer of ``tokenizers``
returns different scores in every run (docs/decisions/002), which would break "same seed, same bytes".
"""

from __future__ import annotations

import io
import itertools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bothways.errors import DataError, DependencyMissing
from bothways.text.cleaning import WORD_START, clean, mark_chunk, split_chunks
from bothways.text.fields import Text, fields_of
from bothways.text.subword_tokenizer import BYTE_TOKENS, SubwordTokenizer

CLEANING = "bothways-1"
_CHARACTERS_COVERED = 0.9995
_RAREST_CHARACTER = 1e-6
"""Rarer characters are read as bytes. At most 500 are rarer than ``_CHARACTERS_COVERED`` and not rarer than this."""
_MOST_DISTINCT_CHUNKS = 2_000_000
_RESERVED, _STAND_IN, _PART_END = "▅", "\ufdd0", "\ufdd1"
"""sentencepiece skips words with the first. Cleaning removes the others, so no word contains them."""
_JOINERS = "\u200c\u200d"
_FREQUENT_WORD = 4
"""Number of occurrences from which on a word that is part of no other word is considered for a piece."""


@dataclass(frozen=True)
class WordCounts:
    """How often words and characters occur in texts, as the tokenizer sees them.

    Attributes:
        words: Words in lower case, without special tokens. Not all of them, if there are millions.
        characters: The characters of all words, and the start of each word.
    """

    words: Counter[str]
    characters: Counter[str]


def train_tokenizer(texts: Iterable[Text], vocabulary_size: int) -> SubwordTokenizer:
    """Train a tokenizer on texts. The same texts produce the same bytes.

    Every character of the texts has a piece, in any script, except those that are rarer than one in a million. These,
    and all characters that do not occur, are read as their bytes.

    Args:
        texts: Validated texts. They are read once, and only their distinct words are kept in memory.
        vocabulary_size: Requested number of pieces, ≥ 8. The result has fewer pieces if the corpus is too small for
            them, and more if the corpus needs more single characters. Control tokens and the 256 byte tokens come on
            top.

    Raises:
        DataError: The texts contain no word.
        DependencyMissing: sentencepiece is not installed.
    """
    try:
        import sentencepiece  # noqa: PLC0415  (an optional dependency)
    except ImportError:
        raise DependencyMissing("training a tokenizer needs sentencepiece: pip install 'bothways[train]'") from None

    counts = count_words(texts)
    if not counts.words:
        raise DataError("the texts contain no words. Training a tokenizer needs texts with words")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(counts.words),
            model_writer=model,
            input_format="tsv",
            model_type="unigram",
            vocab_size=1 + max(vocabulary_size, 2 * _characters_needed(counts.characters) + 8),
            user_defined_symbols=[_PART_END],
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
    except RuntimeError as error:  # no texts are known that cause one
        raise DataError(f"no tokenizer can be trained on these texts: {error}") from None
    trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [
        (trained.id_to_piece(i).replace(_STAND_IN, _RESERVED), trained.get_score(i))
        for i in range(1, trained.get_piece_size())
        if trained.id_to_piece(i) not in (_PART_END, *BYTE_TOKENS)  # typed in the texts
    ]
    pieces += _missing_characters(pieces, counts.characters)
    return SubwordTokenizer.from_pieces(pieces, CLEANING, byte_fallback=True)


def _lines(words: Mapping[str, int]) -> Iterator[str]:
    """Yield each word with its count, and one occurrence of each frequent word with an end after each of its parts.

    sentencepiece considers a string for a piece only if different characters follow it in different words. A word that
    is part of no other word would be cut into pieces, however frequent it is.
    """
    for word, count in sorted(words.items()):
        is_frequent = count >= _FREQUENT_WORD
        if is_frequent:
            parts = ("".join(part) for _, part in itertools.groupby(word, _is_letter))
            yield f"{_PART_END.join(parts)}{_PART_END}\t1".replace(_RESERVED, _STAND_IN)
        yield f"{word}\t{count - is_frequent}".replace(_RESERVED, _STAND_IN)


def _is_letter(character: str) -> bool:
    """Return whether a character is a letter, or a mark or joiner within a word. No piece mixes them with others."""
    return character.isalpha() or unicodedata.category(character)[0] == "M" or character in _JOINERS


def count_words(texts: Iterable[Text]) -> WordCounts:
    """Count the words of texts as the tokenizer sees them: cleaned, in lower case and without special tokens."""
    chunks: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for text in texts:
        for field in fields_of(text):
            chunks.update(chunk for chunk, _ in split_chunks(clean(field, CLEANING)))
        if len(chunks) > _MOST_DISTINCT_CHUNKS:
            kept = _fewer(chunks)
            characters += _count_characters(_as_words(chunks - kept))
            chunks = kept
    words = _as_words(chunks)
    return WordCounts(words, characters + _count_characters(words))


def _fewer(chunks: Counter[str]) -> Counter[str]:
    """Return the chunks that occur several times: chunks that occur once add little, as their pieces occur in others.

    In scripts without spaces nearly all chunks occur once. Half of the chunks are kept there, those that came first.
    """
    kept = Counter({chunk: count for chunk, count in chunks.items() if count > 1})
    if len(kept) < len(chunks) // 10:
        once = (chunk for chunk, count in chunks.items() if count == 1)
        kept.update(itertools.islice(once, len(chunks) // 2 - len(kept)))
    return kept


def _as_words(chunks: Mapping[str, int]) -> Counter[str]:
    words: Counter[str] = Counter()
    for chunk, count in chunks.items():
        words[mark_chunk(chunk)[1]] += count
    return words


def _count_characters(words: Counter[str]) -> Counter[str]:
    characters: Counter[str] = Counter({WORD_START: words.total()}) if words else Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    return characters


def _characters_needed(characters: Counter[str]) -> int:
    """Return the number of distinct characters needed to cover ``_CHARACTERS_COVERED`` of all characters."""
    covered, wanted = 0, _CHARACTERS_COVERED * characters.total()
    for number, (_, count) in enumerate(characters.most_common(), start=1):
        covered += count
        if covered >= wanted:
            return number
    return len(characters)


def _missing_characters(pieces: list[tuple[str, float]], characters: Counter[str]) -> list[tuple[str, float]]:
    """Return a piece for each character that has none and is not too rare, the most frequent first."""
    known = {piece for piece, _ in pieces}
    lowest = min(score for _, score in pieces)
    least = _RAREST_CHARACTER * characters.total()
    missing = [(-count, character) for character, count in characters.items() if character not in known]
    return [(character, lowest) for negative, character in sorted(missing) if -negative >= least]
