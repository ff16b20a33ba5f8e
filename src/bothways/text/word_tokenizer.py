"""Tokenize texts into words by the rules of spaCy and fastai, stored as one JSON document, for imported models.

The input is a validated string, the output a ``TokenizedText`` in written order. Words that are not in the vocabulary
become the unknown token. As in fastai, and unlike in the subword tokenizer, ``xxpad`` or ``xxfld`` typed by a user
becomes the control token, because the model was trained that way.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from bothways import strict_json
from bothways.errors import TextError, shown
from bothways.schema import Document, Items
from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS, clean_before, mark_token
from bothways.text.fields import Text, fields_of
from bothways.text.reading import TokenizedText
from bothways.text.tokenizer import UNKNOWN_ID
from bothways.text.word_rules import WordSplitter, WordTables

MAX_DOCUMENT_VOCABULARY = 1_000_000
"""Maximum vocabulary size that a document may have."""

MIN_OCCURRENCES = 3
MAX_VOCABULARY = 60_000
"""fastai's limits of a new vocabulary: rarer words, and the rarest words beyond this size, are unknown."""

_FIRST_TOKENS = ("xxunk", "xxpad", "xxbos")
_SPECIAL_TOKENS = frozenset({"xxmaj", "xxup", "xxrep", "xxwrep"})
_REPEAT_TOKENS = frozenset({"xxrep", "xxwrep"})
_MAX_CACHED_TOKENS = 200_000
_MAX_CACHED_TOKEN_LENGTH = 40

_WordText = Annotated[str, Field(max_length=10_000)]


class WordTokenizerDocument(Document):
    """The content of ``tokenizer.json`` for words.

    Attributes:
        words: The engine that applies the tables.
        cleaning: The version of fastai's cleaning rules.
        marks_field: Whether ``xxfld`` and a number precede each field, so that every text begins with ``xxfld 1``.
        ends: Whether every text ends with ``xxeos``.
        language: The language of the tables, for information only.
        source: The library that the tables were read from, for information only.
        tables: spaCy's rules as data.
        vocabulary: The word of each id. The last one of equal words is used. An empty word is a filler that no text
            contains.
    """

    words: Literal["spacy"] = "spacy"
    cleaning: Literal["fastai-v1", "fastai-v2"]
    marks_field: bool = False
    ends: bool = False
    language: Annotated[str, Field(max_length=100)]
    source: Annotated[str, Field(max_length=200)]
    tables: WordTables
    vocabulary: Annotated[Items[_WordText], Field(min_length=len(_FIRST_TOKENS), max_length=MAX_DOCUMENT_VOCABULARY)]

    @model_validator(mode="after")
    def _agree(self) -> WordTokenizerDocument:
        if (found := tuple(self.vocabulary[: len(_FIRST_TOKENS)])) != _FIRST_TOKENS:
            raise ValueError(
                f"the vocabulary begins with {shown(', '.join(found))}, expected {', '.join(_FIRST_TOKENS)}"
            )
        return self


class WordTokenizer:
    """A tokenizer that produces the same words as fastai with spaCy, without either. Safe to share between threads."""

    def __init__(self, document: WordTokenizerDocument) -> None:
        self.document = document
        self._splitter = WordSplitter(document.tables)
        vocabulary = document.vocabulary
        self._ids = _IdsOfTokens({word: i for i, word in enumerate(vocabulary) if word}, document.cleaning)
        self._is_special = np.array([word in _SPECIAL_TOKENS for word in vocabulary])
        self._is_repeat = np.array([word in _REPEAT_TOKENS for word in vocabulary])

    def __len__(self) -> int:
        """Return the size of the vocabulary. All ids are smaller than this."""
        return len(self.document.vocabulary)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return the word of each id."""
        vocabulary = self.document.vocabulary
        return [vocabulary[i] for i in ids]

    def id_of(self, word: str) -> int | None:
        """Return the id of a word, or None if it is not in the vocabulary."""
        return self._ids.known.get(word)

    def decode(self, ids: Sequence[int]) -> str:
        """Return a text made of these words, without control tokens and fillers."""
        control = {*FASTAI_CONTROL_TOKENS[self.document.cleaning], "", "xxfake"}
        return " ".join(word for word in self.tokens(ids) if word not in control)

    @property
    def has_field_token(self) -> bool:
        """Whether texts may have several fields."""
        return self.document.marks_field

    def with_field_token(self) -> WordTokenizer:
        """Return a tokenizer for texts with several fields, marked as in fastai. The field token is in the vocabulary.

        The fields are joined as in fastai, so that spaCy's rules and ``xxwrep`` apply across them.
        """
        if self.has_field_token:
            return self
        return WordTokenizer(self.document.model_copy(update={"marks_field": True}))

    def words_of(self, text: Text) -> list[str]:
        """Return the tokens of a text before they are looked up in the vocabulary."""
        cleaning = self.document.cleaning
        return [word for token in self._splitter.split(self._cleaned(text)) for word in mark_token(token, cleaning)]

    def tokenize(self, text: Text) -> TokenizedText:
        """Return the tokens of a text in written order: ``xxbos``, then the special tokens and the word of each group.

        Guarantee 3: an ensemble calls this once per text, regardless of the number of its members.

        Args:
            text: A text validated by ``text.validation``. May be empty.

        Raises:
            TextError: The text has several fields, but the tokenizer does not mark them.
        """
        cached_ids = self._ids
        if len(cached_ids) > _MAX_CACHED_TOKENS:
            cached_ids.clear()
        found = array("i")
        for token in self._splitter.split(self._cleaned(text)):
            found.extend(cached_ids[token])
        return self._grouped(np.frombuffer(found, dtype=np.int32))

    def stable_length(self, text: str) -> None:
        """Return None: fastai's rules for repeated words and spaCy's exceptions need the whole text."""

    def without_repetitions(self, text: str) -> str:
        """Return the text: fastai's rules count every repetition."""
        return text

    def _cleaned(self, text: Text) -> str:
        document = self.document
        if not document.marks_field and len(fields_of(text)) > 1:
            raise TextError(f"a text has {len(fields_of(text))} fields, but this tokenizer does not mark fields")
        return clean_before(text, document.cleaning, marks_field=document.marks_field, ends=document.ends)

    def _grouped(self, ids: np.ndarray[tuple[int], np.dtype[np.int32]]) -> TokenizedText:
        """Group special tokens, and the counts that follow repeat tokens, with the next word."""
        joins_next = self._is_special[ids]
        joins_next[1:] |= self._is_repeat[ids[:-1]]
        joins_next[0] = False  # the start token is a group of its own
        is_start = np.ones(len(ids), dtype=bool)
        is_start[1:] = ~joins_next[:-1]
        starts = np.flatnonzero(is_start).astype(np.int32)
        sizes = np.diff(starts, append=len(ids))
        counts = sizes - 1
        counts[0] = 1
        if joins_next[-1] and len(counts) > 1:
            counts[-1] = sizes[-1]  # special tokens at the end of the text, without a word
        return TokenizedText(ids, starts, counts.astype(np.int32))

    def adapted(self, texts: Iterable[Text]) -> WordTokenizer:
        """Return a tokenizer with the same rules and a vocabulary of the words of these texts, most frequent first.

        As in fastai, the vocabulary has at most ``MAX_VOCABULARY`` words that occur at least ``MIN_OCCURRENCES`` times.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(self.words_of(text))
        control = FASTAI_CONTROL_TOKENS[self.document.cleaning]
        frequent = [word for word, count in counts.most_common(MAX_VOCABULARY) if count >= MIN_OCCURRENCES]
        vocabulary = [*control, *(word for word in frequent if word not in control)]
        return WordTokenizer(self.document.model_copy(update={"vocabulary": vocabulary[:MAX_VOCABULARY]}))

    def to_bytes(self) -> bytes:
        """Return the JSON document that ``parse_tokenizer`` reads. Equal tokenizers produce equal bytes."""
        fields = self.document.model_dump()
        tables, vocabulary = fields.pop("tables"), fields.pop("vocabulary")
        lines = [f" {strict_json.dump(key)}: {strict_json.dump(value)}" for key, value in fields.items()]
        lines.append(f' "tables": {strict_json.dump(tables)}')
        words = ",\n".join(f"  {strict_json.dump(word)}" for word in vocabulary)
        return ("{\n" + ",\n".join(lines) + ',\n "vocabulary": [\n' + words + "\n ]\n}\n").encode()


class _IdsOfTokens(dict[str, tuple[int, ...]]):
    """The ids of each token of the splitter with its special tokens, computed when the token first occurs."""

    def __init__(self, known: dict[str, int], cleaning: str) -> None:
        super().__init__()
        self.known = known
        self._cleaning = cleaning

    def __missing__(self, token: str) -> tuple[int, ...]:
        ids = tuple(self.known.get(word, UNKNOWN_ID) for word in mark_token(token, self._cleaning))
        if len(token) <= _MAX_CACHED_TOKEN_LENGTH:
            self[token] = ids
        return ids
