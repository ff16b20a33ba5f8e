"""Hold what a fastai file records of its model, and read what fastai v1 and v2 record in the same way.

Input: facts of an inert value. Output: ``LearnerFacts``, vocabularies, labels and rules. What this module does not
understand is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bothways.bundle.manifest import FastaiPooling
from bothways.errors import ConfigError, ForeignModelError
from bothways.interop.facts import Fact, Work, described
from bothways.interop.pickle_reader import Record
from bothways.tasks.labels import LONGEST_LABEL
from bothways.tasks.task import TaskName
from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS
from bothways.text.piece_model import PieceModel
from bothways.text.reading import Direction
from bothways.text.splitters import WordsBy
from bothways.text.word_rules import WordTables

MOST_WORDS = 1_000_000
MOST_LABELS = 100_000
MOST_PARTS = 1000
"""Items of a pipeline, of a list of rules, and of other short lists. Real ones have at most a few dozen."""

FILLER = "xxfake"


ValueRange = tuple[float, float]
"""The lowest and the highest value of a regression model."""


@dataclass(frozen=True)
class TaskFacts:
    """What is known of what a model predicts.

    Attributes:
        name: Which task.
        labels: Labels in the order of the outputs, or the names of several targets. Empty if they are not known.
        threshold: Probability from which on a label is assigned, for multi-label.
        value_range: Range of the numbers, for regression. None if there is none.
        separator: The string between the labels in a cell.
        label_column: Column from which the learner took its labels.
        label_columns: The columns with 0 or 1 per label, or with a number per target. Empty unless there are several.
    """

    name: TaskName
    labels: tuple[str, ...] = ()
    threshold: float | None = None
    value_range: ValueRange | None = None
    separator: str | None = None
    label_column: str | None = None
    label_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Requested:
    """What a caller requests where a file leaves a choice.

    Attributes:
        probabilities: What to apply to the outputs of a classifier whatever ``learn.predict`` applies. None for that.
        rules: Names of the cleaning rules to apply, in order. None for those that the file records.
        task: What saved weights predict. None if the caller does not say.
        labels: Labels in the order of the outputs, or the names of targets. Empty for those that the file records.
        threshold: Probability from which on a label is assigned, for multi-label. None for that of ``learn.predict``.
        y_range: Range of the numbers of saved weights. ``none`` if they have no range, None if the caller does not say.
        words_by: What splits texts into words, for saved weights. None if the caller does not say.
        language: spaCy's code of the language, for saved weights. None if the caller does not say.
        sentencepiece: The SentencePiece model of a file that does not contain it.
    """

    probabilities: Literal["softmax", "sigmoid"] | None = None
    task: TaskName | None = None
    labels: tuple[str, ...] = ()
    threshold: float | None = None
    y_range: ValueRange | Literal["none"] | None = None
    rules: tuple[str, ...] | None = None
    words_by: WordsBy | None = None
    language: str | None = None
    sentencepiece: PieceModel | None = None

    def refuse_sentencepiece(self, source: str, reason: str) -> None:
        """Refuse a SentencePiece model that the caller passed for a file that needs none.

        Raises:
            ConfigError: A model was passed.
        """
        if self.sentencepiece is not None:
            raise ConfigError(f"{source} {reason}: drop --sentencepiece")


@dataclass(frozen=True, eq=False)
class LearnerFacts:
    """What a file records of its model. Attributes are None if the file does not record them.

    Attributes:
        library: ``fastai 1`` or ``fastai 2``, or ``fastai`` if the file does not show the version.
        state: Arrays by fastai's names.
        vocabulary: The word of each id.
        cleaning: Name of the set of cleaning rules.
        rules: Names of the cleaning rules in order. None for those of the version.
        post_rules: Names of the rules for tokens in order. None for those of the version.
        begins: Whether texts begin with ``xxbos``.
        marks_field: Whether texts begin with ``xxfld 1``.
        ends: Whether texts end with ``xxeos``.
        language: Language of the spaCy tokenizer.
        control_tokens: Words that the tokenizer never splits.
        tables: spaCy's rules.
        separator: Text between two words, for fastai's BaseTokenizer.
        sentencepiece: The model of a SentencePiece tokenizer. Without it and a separator, spaCy splits texts.
        task: What it predicts. None for a language model, and for saved weights.
        direction: Direction in which the model reads.
        pooling: The part of a text that a classifier pools.
        text_column: Column from which the learner took its texts.
        remarks: Notes for the user.
    """

    library: str
    state: Mapping[str, object]
    vocabulary: list[str] | None = None
    cleaning: str | None = None
    rules: list[str] | None = None
    post_rules: list[str] | None = None
    begins: bool = True
    marks_field: bool = False
    ends: bool = False
    language: str | None = None
    control_tokens: tuple[str, ...] | None = None
    tables: WordTables | None = None
    separator: str | None = None
    sentencepiece: PieceModel | None = None
    task: TaskFacts | None = None
    direction: Direction | None = None
    pooling: FastaiPooling | None = None
    text_column: str | None = None
    remarks: list[str] = field(default_factory=list)


def vocabulary_of(value: object, source: str) -> list[str]:
    """Return the words of a vocabulary file: a list of words, or an object of fastai that contains one.

    Raises:
        ForeignModelError: The value is not a list of words.
    """
    return words_of(Fact(value, "", Work.on(value, source)))


def without_fillers(words: Sequence[str], filler: str) -> list[str]:
    """Return a vocabulary of fastai v2 with another string for its fillers, which no text contains as a word."""
    return [filler if word == FILLER else word for word in words]


def labels_of(value: object, source: str) -> list[str]:
    """Return the labels that ``dls.vocab`` of a classifier contains after the words. Empty if there are none.

    Raises:
        ForeignModelError: The labels are not different texts or numbers.
    """
    fact = Fact(value, "", Work.on(value, source))
    pair = fact.parts(MOST_WORDS)
    if len(pair) == 2 and pair[0].parts(MOST_WORDS):
        return Fact(pair[1].value, "labels", fact.work).labels(most=MOST_LABELS, longest=LONGEST_LABEL)
    return []


def words_of(fact: Fact) -> list[str]:
    """Return the words of a vocabulary, or of an object of fastai that contains one.

    Raises:
        ForeignModelError: There is no list of words.
    """
    if isinstance(fact.value, Record) and isinstance(fact.value.state, dict) and "itos" in fact.value.state:
        fact = Fact(fact.value.state["itos"], fact.name, fact.work)
    words = fact.parts(MOST_WORDS)
    if len(words) == 2 and words[0].parts(MOST_WORDS) and words[1].parts(MOST_WORDS):
        fact = words[0]  # dls.vocab of a classifier: words, then labels
        words = fact.parts(MOST_WORDS)
    if not words or not all(isinstance(word.value, str) for word in words):
        subject = f"{fact.work.source}: {fact.name} is" if fact.name else f"{fact.work.source} contains"
        raise ForeignModelError(f"{subject} {described(fact.value)}, expected a vocabulary: a list of words")
    return Fact(fact.value, fact.name or "vocabulary", fact.work).texts(most=MOST_WORDS, may_be_empty=True)


def control_tokens(fact: Fact, cleaning: str) -> tuple[str, ...]:
    """Return the words that the tokenizer never splits. Defaults to those of a version of fastai.

    Raises:
        ForeignModelError: The value is not a list of words.
    """
    if fact.is_missing:
        return FASTAI_CONTROL_TOKENS[cleaning]
    if not isinstance(fact.value, Record | list | tuple):
        raise fact.refusal("a list of words")
    return tuple(fact.texts(most=MOST_PARTS))
