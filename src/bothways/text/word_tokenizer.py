"""Tokenize texts as fastai does, by rules stored as one JSON document, for imported models.

The input is a validated string, the output a ``TokenizedText`` in written order. fastai's rules clean the text, a
splitter splits it into words, and words that are not in the vocabulary become the unknown token. As in fastai, and
unlike in the subword tokenizer, ``xxpad`` or ``xxfld`` typed by a user becomes the control token, because the model was
trained that way.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import Field, model_validator

from bothways import strict_json
from bothways.errors import TextError, quoted, shown
from bothways.schema import Document, Items
from bothways.text.fastai_cleaning import (
    FASTAI_CONTROL_TOKENS,
    FASTAI_V1,
    POST_RULES,
    RULES,
    START,
    clean_before,
    mark_token,
)
from bothways.text.fields import Text, fields_of
from bothways.text.piece_model import WORD_START, PieceModel
from bothways.text.piece_splitter import PieceSplitter
from bothways.text.reading import TokenizedText
from bothways.text.splitters import SeparatorSplitter, Splitter, WordsBy
from bothways.text.tokenizer import UNKNOWN_ID
from bothways.text.word_rules import WordSplitter, WordTables

MAX_DOCUMENT_VOCABULARY = 1_000_000
"""Maximum vocabulary size that a document may have."""

MIN_OCCURRENCES = 3
MAX_VOCABULARY = 60_000
"""fastai's limits of a new vocabulary: rarer words, and the rarest words beyond this size, are unknown."""

MOST_RULES = 20
"""Maximum number of cleaning rules that a document may list. fastai has at most 9, but a rule may be listed again."""

_FIRST_TOKENS = ("xxunk", "xxpad", "xxbos")
_SPECIAL_TOKENS = frozenset({"xxmaj", "xxup", "xxrep", "xxwrep"})
_REPEAT_TOKENS = frozenset({"xxrep", "xxwrep"})
"""Tokens that belong to the next word. As pieces they begin with ``▁``, and a ``▁`` alone belongs to the next piece."""

_MAX_CACHED_TOKENS = 200_000
_MAX_CACHED_TOKEN_LENGTH = 40

_WordText = Annotated[str, Field(max_length=10_000)]
_RuleNames = Annotated[Items[Annotated[str, Field(max_length=100)]], Field(max_length=MOST_RULES)]

_DATA_OF_ENGINES = {"spacy": "tables", "sentencepiece": "sentencepiece", "split": "separator"}
"""The field that holds the data of each engine."""

_OPTIONAL_FIELDS = ("rules", "post_rules", "begins", *_DATA_OF_ENGINES.values())
"""Fields that a document contains only if they differ from their defaults."""


class WordTokenizerDocument(Document):
    """The content of ``tokenizer.json`` for words.

    Attributes:
        words: The engine that splits texts. Each has its own data: ``tables``, ``sentencepiece`` or ``separator``.
        cleaning: The version of fastai's cleaning rules.
        rules: fastai's names of the rules for texts, in order. None for the rules of the version.
        post_rules: fastai's names of the rules for tokens, in order. None for the rules of the version.
        begins: Whether every text begins with ``xxbos``. In ``fastai-v2`` the rule ``lowercase`` adds it.
        marks_field: Whether ``xxfld`` and a number precede each field, so that every text begins with ``xxfld 1``.
        ends: Whether every text ends with ``xxeos``. In ``fastai-v2`` the rule ``lowercase`` adds it.
        language: The language of the texts, for information only.
        source: The library that the data of the engine was read from, for information only.
        tables: spaCy's rules as data.
        sentencepiece: A SentencePiece model as data.
        separator: The text between two words. Empty for any white space.
        vocabulary: The word of each id. The last one of equal words is used. A word that the engine never returns is a
            filler: one with the separator for ``split``, else an empty one. ``fastai-v1`` with ``sentencepiece`` has
            the pieces of the model, in their order.
    """

    words: WordsBy = "spacy"
    cleaning: Literal["fastai-v1", "fastai-v2"]
    rules: _RuleNames | None = None
    post_rules: _RuleNames | None = None
    begins: bool = True
    marks_field: bool = False
    ends: bool = False
    language: Annotated[str, Field(max_length=100)]
    source: Annotated[str, Field(max_length=200)]
    tables: WordTables | None = None
    sentencepiece: PieceModel | None = None
    separator: Annotated[str, Field(max_length=100)] | None = None
    vocabulary: Annotated[Items[_WordText], Field(min_length=len(_FIRST_TOKENS), max_length=MAX_DOCUMENT_VOCABULARY)]

    @model_validator(mode="after")
    def _agree(self) -> WordTokenizerDocument:
        for engine, data in _DATA_OF_ENGINES.items():
            if (getattr(self, data) is not None) is not (engine == self.words):
                expected = "is missing" if engine == self.words else f"is present, but the engine is {self.words}"
                raise ValueError(f"the field {data} {expected}")
        if self.has_ids_of_pieces:
            assert self.sentencepiece is not None
            if self.vocabulary != [piece for piece, _ in self.sentencepiece.pieces]:
                raise ValueError(
                    "the vocabulary is not the pieces of the SentencePiece model, as expected for fastai-v1"
                )
        elif (found := tuple(self.vocabulary[: len(_FIRST_TOKENS)])) != _FIRST_TOKENS:
            raise ValueError(
                f"the vocabulary begins with {shown(', '.join(found))}, expected {', '.join(_FIRST_TOKENS)}"
            )
        for key, names, known in (
            ("rules", self.rules, RULES[self.cleaning]),
            ("post_rules", self.post_rules, POST_RULES[self.cleaning]),
        ):
            if unknown := [name for name in names or () if name not in known]:
                raise ValueError(f"{key}: unknown rule {quoted(unknown[0])}, expected {', '.join(known) or 'none'}")
        return self

    @property
    def has_ids_of_pieces(self) -> bool:
        """Whether ids are those of the SentencePiece model, as in fastai v1. In v2 they are those of a vocabulary."""
        return self.sentencepiece is not None and self.cleaning == FASTAI_V1

    def splitter(self) -> Splitter:
        """Return the engine with its data."""
        if self.separator is not None:
            return SeparatorSplitter(self.separator)
        if self.sentencepiece is not None:
            return PieceSplitter(self.sentencepiece)
        assert self.tables is not None
        return WordSplitter(self.tables)


class WordTokenizer:
    """A tokenizer that produces the same words as fastai and its tokenizers. Safe to share between threads."""

    byte_ids: Final = range(0)

    def __init__(self, document: WordTokenizerDocument) -> None:
        self.document = document
        self._splitter = document.splitter()
        vocabulary = document.vocabulary
        known = {word: i for i, word in enumerate(vocabulary) if self._splitter.can_return(word)}
        self.unknown_id = UNKNOWN_ID
        if document.has_ids_of_pieces and document.sentencepiece is not None:
            known = document.sentencepiece.ids_of_pieces()
            self.unknown_id = document.sentencepiece.unknown
        self._ids = _IdsOfTokens(known, self.unknown_id, document)
        prefix = WORD_START if document.sentencepiece is not None else ""
        self._start_id = known.get(prefix + START)
        special = {*(prefix + token for token in _SPECIAL_TOKENS), prefix}
        self._is_special = np.array([bool(word) and word in special for word in vocabulary])
        self._is_repeat = np.array([word.removeprefix(prefix) in _REPEAT_TOKENS for word in vocabulary])

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

    @property
    def has_pieces(self) -> bool:
        """Whether tokens are pieces of words."""
        return self.document.sentencepiece is not None

    def whole_words(self) -> list[str]:
        """Return the words of the vocabulary that texts can contain, in the order of their ids, without pieces."""
        prefix = WORD_START if self.has_pieces else ""
        control = {*FASTAI_CONTROL_TOKENS[self.document.cleaning], "xxfake", ""}
        words = [word.removeprefix(prefix) for word in self._ids.known if word.startswith(prefix)]
        return [word for word in words if word not in control]

    def decode(self, ids: Sequence[int]) -> str:
        """Return a text made of these words, without control tokens and fillers."""
        control = {*FASTAI_CONTROL_TOKENS[self.document.cleaning], "", "xxfake"}
        if self.has_pieces:
            control |= {WORD_START + word for word in control if word}
        words = [word for word in self.tokens(ids) if word in self._ids.known and word not in control]
        return "".join(words).replace(WORD_START, " ").strip() if self.has_pieces else " ".join(words)

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
        tokens = self._splitter.split(self._cleaned(text))
        return [word for token in tokens for word in self._ids.words_of(token)]

    def tokenize(self, text: Text) -> TokenizedText:
        """Return the tokens of a text in written order: ``xxbos``, then the special tokens and the word of each group.

        A text that has no tokens, because the model was trained without ``xxbos``, is one unknown word. fastai raises
        an error for it.

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
        return self._grouped(np.frombuffer(found or array("i", [self.unknown_id]), dtype=np.int32))

    def stable_length(self, text: str) -> None:
        """Return None: fastai's rules for repeated words need the whole text."""

    def without_repetitions(self, text: str) -> str:
        """Return the text: fastai's rules count every repetition."""
        return text

    def _cleaned(self, text: Text) -> str:
        document = self.document
        if not document.marks_field and len(fields_of(text)) > 1:
            raise TextError(f"a text has {len(fields_of(text))} fields, but this tokenizer does not mark fields")
        cleaned = clean_before(
            text,
            document.cleaning,
            document.rules,
            begins=document.begins,
            marks_field=document.marks_field,
            ends=document.ends,
            strips=document.has_ids_of_pieces,
        )
        if document.has_ids_of_pieces:  # fastai v1 marks capitals between white space, before there are pieces
            words = cleaned.split()
            return " ".join(marked for word in words for marked in mark_token(word, FASTAI_V1, document.post_rules))
        return cleaned

    def _grouped(self, ids: np.ndarray[tuple[int], np.dtype[np.int32]]) -> TokenizedText:
        """Group special tokens, and the counts that follow repeat tokens, with the next word."""
        joins_next = self._is_special[ids]
        joins_next[1:] |= self._is_repeat[ids[:-1]]
        begins = ids[0] == self._start_id
        if begins:
            joins_next[0] = False  # the start token is a group of its own
        is_start = np.ones(len(ids), dtype=bool)
        is_start[1:] = ~joins_next[:-1]
        starts = np.flatnonzero(is_start).astype(np.int32)
        sizes = np.diff(starts, append=len(ids))
        counts = sizes - 1
        if begins:
            counts[0] = 1
        if joins_next[-1]:
            counts[-1] = sizes[-1]  # special tokens at the end of the text, without a word
        return TokenizedText(ids, starts, counts.astype(np.int32))

    def adapted(self, texts: Iterable[Text]) -> WordTokenizer:
        """Return a tokenizer with the same rules and a vocabulary of the words of these texts, most frequent first.

        As in fastai, the vocabulary has at most ``MAX_VOCABULARY`` words that occur at least ``MIN_OCCURRENCES`` times.
        A tokenizer with a SentencePiece model stays the same, because its pieces can represent the words of any text.
        """
        if self.document.sentencepiece is not None:
            return self
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(self.words_of(text))
        control = FASTAI_CONTROL_TOKENS[self.document.cleaning]
        frequent = [word for word, count in counts.most_common(MAX_VOCABULARY) if count >= MIN_OCCURRENCES]
        vocabulary = [*control, *(word for word in frequent if word not in control)]
        return WordTokenizer(self.document.model_copy(update={"vocabulary": vocabulary[:MAX_VOCABULARY]}))

    def to_bytes(self) -> bytes:
        """Return the JSON document that ``parse_tokenizer`` reads. Equal tokenizers produce equal bytes."""
        document = self.document
        fields = document.model_dump(exclude={"vocabulary"})
        for name in _OPTIONAL_FIELDS:
            if fields[name] == WordTokenizerDocument.model_fields[name].default:
                del fields[name]
        lines = [f" {strict_json.dump(key)}: {strict_json.dump(value)}" for key, value in fields.items()]
        words = ",\n".join(f"  {strict_json.dump(word)}" for word in document.vocabulary)
        return ("{\n" + ",\n".join(lines) + ',\n "vocabulary": [\n' + words + "\n ]\n}\n").encode()


class _IdsOfTokens(dict[str, tuple[int, ...]]):
    """The ids of each token of the splitter with its special tokens, computed when the token first occurs."""

    def __init__(self, known: dict[str, int], unknown_id: int, document: WordTokenizerDocument) -> None:
        super().__init__()
        self.known = known
        self._unknown_id = unknown_id
        self._cleaning = document.cleaning
        self._post_rules = [] if document.has_ids_of_pieces else document.post_rules

    def words_of(self, token: str) -> tuple[str, ...]:
        """Return the token with its special tokens."""
        return mark_token(token, self._cleaning, self._post_rules)

    def __missing__(self, token: str) -> tuple[int, ...]:
        ids = tuple(self.known.get(word, self._unknown_id) for word in self.words_of(token))
        if len(token) <= _MAX_CACHED_TOKEN_LENGTH:
            self[token] = ids
        return ids
