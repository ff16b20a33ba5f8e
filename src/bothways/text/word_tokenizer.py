"""Turn texts into words by spaCy's rules and fastai's, kept as data in one JSON document; for imported models.

In: a checked string. Out: a ``TokenizedText``, as written. Words outside the vocabulary become the unknown token. As in
fastai, and unlike ours, a user who types ``xxpad`` gets the control token: the model was trained that way.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from bothways import strict_json
from bothways.text.fastai_cleaning import CONTROL_TOKENS, clean_before, mark_token
from bothways.text.reading import TokenizedText
from bothways.text.tokenizer import UNKNOWN_ID
from bothways.text.word_rules import WordSplitter, WordTables

LONGEST_VOCABULARY = 1_000_000
LEAST_OCCURRENCES = 3
MOST_WORDS = 60_000
"""fastai's limits of a vocabulary: words that occur less often, and the rarest beyond so many, are unknown."""

_FIRST_TOKENS = ("xxunk", "xxpad", "xxbos")
_MARKERS = frozenset({"xxmaj", "xxup", "xxrep", "xxwrep"})
_REPETITIONS = frozenset({"xxrep", "xxwrep"})
_WORDS_REMEMBERED = 200_000

Word = Annotated[str, Field(max_length=10_000)]


class WordTokenizerDocument(BaseModel):
    """What ``tokenizer.json`` holds for words.

    Attributes:
        words: The engine that executes the tables.
        cleaning: fastai's rules, by version.
        marks_field: Whether ``xxfld 1`` stands before every text.
        ends: Whether ``xxeos`` stands behind every text.
        language: Of the tables, for the record.
        source: What the tables were taken from, for the record.
        tables: spaCy's rules as data.
        vocabulary: The word of each id. Of equal words the last one counts; an empty one is a filler that no text has.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    words: Literal["spacy"] = "spacy"
    cleaning: Literal["fastai-v1", "fastai-v2"]
    marks_field: bool = False
    ends: bool = False
    language: Annotated[str, Field(max_length=100)]
    source: Annotated[str, Field(max_length=200)]
    tables: WordTables
    vocabulary: Annotated[list[Word], Field(min_length=len(_FIRST_TOKENS), max_length=LONGEST_VOCABULARY)]

    @model_validator(mode="after")
    def _agree(self) -> WordTokenizerDocument:
        if (found := tuple(self.vocabulary[: len(_FIRST_TOKENS)])) != _FIRST_TOKENS:
            shown = ", ".join(word[:20] for word in found)
            raise ValueError(f"the vocabulary begins with {shown}, expected {', '.join(_FIRST_TOKENS)}")
        return self


class WordTokenizer:
    """Tokenizes into words exactly as fastai does with spaCy, without either. Safe to share between threads."""

    def __init__(self, document: WordTokenizerDocument) -> None:
        self.document = document
        self._splitter = WordSplitter(document.tables)
        vocabulary = document.vocabulary
        self._ids = _IdsOfTokens({word: i for i, word in enumerate(vocabulary) if word}, document.cleaning)
        self._is_marker = np.array([word in _MARKERS for word in vocabulary])
        self._is_repetition = np.array([word in _REPETITIONS for word in vocabulary])

    def __len__(self) -> int:
        """How many ids there are: every id is below this."""
        return len(self.document.vocabulary)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return the word that each id stands for."""
        vocabulary = self.document.vocabulary
        return [vocabulary[i] for i in ids]

    def id_of(self, word: str) -> int | None:
        """Return a word's id, None if the vocabulary does not have it."""
        return self._ids.known.get(word)

    def compose(self, ids: Sequence[int]) -> str:
        """Return a text that is written with these words; control tokens and fillers are left out."""
        control = {*CONTROL_TOKENS[self.document.cleaning], "", "xxfake"}
        return " ".join(word for word in self.tokens(ids) if word not in control)

    def words_of(self, text: str) -> list[str]:
        """Return a text's tokens as fastai sees them before it looks them up."""
        document = self.document
        cleaned = clean_before(text, document.cleaning, marks_field=document.marks_field, ends=document.ends)
        return [word for token in self._splitter.split(cleaned) for word in mark_token(token, document.cleaning)]

    def tokenize(self, text: str) -> TokenizedText:
        """Return a text's tokens as written: xxbos, then every word with its markers.

        Guarantee 3: an ensemble calls this once a text, whatever the number of its members.

        Args:
            text: A checked text (``checking.check_text``); may be empty.
        """
        document, known = self.document, self._ids
        if len(known) > _WORDS_REMEMBERED:
            known.clear()
        cleaned = clean_before(text, document.cleaning, marks_field=document.marks_field, ends=document.ends)
        found = array("i")
        for token in self._splitter.split(cleaned):
            found.extend(known[token])
        return self._grouped(np.frombuffer(found, dtype=np.int32))

    def settled(self, text: str) -> None:
        """Return None: fastai's rules look for repeated words across any white space, spaCy's for more."""

    def _grouped(self, ids: np.ndarray[tuple[int], np.dtype[np.int32]]) -> TokenizedText:
        """Put markers (and how often they repeat) into one group with the word behind them."""
        joins_next = self._is_marker[ids]
        joins_next[1:] |= self._is_repetition[ids[:-1]]
        joins_next[0] = False  # the start of the text is a group of its own
        is_start = np.ones(len(ids), dtype=bool)
        is_start[1:] = ~joins_next[:-1]
        starts = np.flatnonzero(is_start).astype(np.int32)
        sizes = np.diff(starts, append=len(ids))
        counts = sizes - 1
        counts[0] = 1
        if joins_next[-1] and len(counts) > 1:
            counts[-1] = sizes[-1]  # markers at the text's end, without a word
        return TokenizedText(ids, starts, counts.astype(np.int32))

    def adapted(self, texts: Iterable[str]) -> WordTokenizer:
        """Return a tokenizer by the same rules whose vocabulary are the words of these texts, the most frequent first.

        fastai's rule: words that occur at least ``LEAST_OCCURRENCES`` times, at most ``MOST_WORDS`` of them.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(self.words_of(text))
        control = CONTROL_TOKENS[self.document.cleaning]
        frequent = [word for word, count in counts.most_common(MOST_WORDS) if count >= LEAST_OCCURRENCES]
        vocabulary = [*control, *(word for word in frequent if word not in control)]
        return WordTokenizer(self.document.model_copy(update={"vocabulary": vocabulary[:MOST_WORDS]}))

    def to_bytes(self) -> bytes:
        """Return the document that ``parse_tokenizer`` reads; the same bytes for the same tokenizer."""
        fields = self.document.model_dump()
        tables, vocabulary = fields.pop("tables"), fields.pop("vocabulary")
        lines = [f" {strict_json.dump(key)}: {strict_json.dump(value)}" for key, value in fields.items()]
        lines.append(f' "tables": {strict_json.dump(tables)}')
        words = ",\n".join(f"  {strict_json.dump(word)}" for word in vocabulary)
        return ("{\n" + ",\n".join(lines) + ',\n "vocabulary": [\n' + words + "\n ]\n}\n").encode()


class _IdsOfTokens(dict[str, tuple[int, ...]]):
    """The ids of each of the splitter's tokens with its markers, found out on first sight."""

    def __init__(self, known: dict[str, int], cleaning: str) -> None:
        super().__init__()
        self.known = known
        self._cleaning = cleaning

    def __missing__(self, token: str) -> tuple[int, ...]:
        ids = tuple(self.known.get(word, UNKNOWN_ID) for word in mark_token(token, self._cleaning))
        if len(token) <= 40:
            self[token] = ids
        return ids
