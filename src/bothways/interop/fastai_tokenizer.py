"""Build the tokenizer of a fastai model from what its file records and from what the caller says of it.

Input: facts, the vocabulary and the caller's options. Output: a ``WordTokenizerDocument``. What can be checked against
the vocabulary is checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bothways.errors import ConfigError, ForeignModelError, quoted, shown
from bothways.interop.learner_facts import LearnerFacts, Requested, without_fillers
from bothways.interop.spacy_tables import tables_from_spacy
from bothways.schema import Faults, validated
from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS, FASTAI_V1, FASTAI_V2
from bothways.text.piece_model import WORD_START, PieceModel
from bothways.text.splitters import WordsBy
from bothways.text.word_rules import WordSplitter, WordTables
from bothways.text.word_tokenizer import WordTokenizerDocument

_FEW_PIECES: Final = 3
"""A vocabulary of words can have a few that begin like a piece, because someone typed them."""
_ANY_LANGUAGE: Final = "any"
"""Language of a tokenizer whose file does not record one."""
_MOST_SPLIT_WORDS: Final = 0.1
"""Share of a vocabulary's words that spaCy may split further. It was at most 0.045 for vocabularies of spaCy, with the
rules of another language too, and at least 0.14 for texts that were only split at spaces (docs/LOG.md)."""
_FEW_SPLIT_WORDS: Final = 10
_SEPARATOR: Final = " "
"""The default separator of fastai's BaseTokenizer."""


def tokenizer_of(
    facts: LearnerFacts,
    words: list[str],
    name: str,
    requested: Requested,
    *,
    is_version_1: bool | None,
    may_assume_english: bool,
) -> WordTokenizerDocument:
    """Return the tokenizer of a model.

    Args:
        facts: What the file records.
        words: The word of each id.
        name: Name of the file in error messages.
        requested: What the caller requests where the file leaves a choice.
        is_version_1: Whether the model is of fastai v1. None if its weights do not show the version.
        may_assume_english: Whether spaCy's rules of English are meant if neither file nor caller say anything.

    Raises:
        ConfigError: An option is missing, contradicts the file, or does not fit the vocabulary.
        ForeignModelError: The vocabulary is not one of fastai, or spaCy does not support the language.
        DependencyMissing: The model needs spaCy for its tokenizer, and spaCy is not installed.
    """
    words_by = _words_by(facts, words, name, requested, may_assume_english=may_assume_english)
    pieces = facts.sentencepiece or requested.sentencepiece
    has_ids_of_pieces = pieces is not None and words == [piece for piece, _ in pieces.pieces]
    cleaning = facts.cleaning or (FASTAI_V1 if has_ids_of_pieces else _cleaning_of(words, name, is_version_1))
    if pieces is not None and cleaning == FASTAI_V1 and not has_ids_of_pieces:
        raise ConfigError(
            f"{name}: its vocabulary is not the pieces of the SentencePiece model: pass the model that it was trained "
            "with"
        )
    if facts.cleaning is None and cleaning == FASTAI_V2:
        words = without_fillers(words, _SEPARATOR if words_by == "split" else "")
    rules, language = requested.rules, requested.language
    trained_on = facts.language or language or ("en" if words_by != "sentencepiece" else _ANY_LANGUAGE)
    if language is not None and trained_on != language:
        raise ConfigError(f"{name} records the language {quoted(trained_on)}: drop --language")
    fields: dict[str, object] = {
        "cleaning": cleaning,
        "rules": facts.rules if facts.cleaning is not None or rules is None else list(rules),
        "post_rules": facts.post_rules,
        "begins": facts.begins,
        "marks_field": facts.marks_field,
        "ends": facts.ends,
        "language": trained_on,
        "vocabulary": words,
        "words": words_by,
    }
    if words_by == "split":
        separator = _SEPARATOR if facts.separator is None else facts.separator
        fields |= {"separator": separator, "source": f"BaseTokenizer of {facts.library}"}
    elif words_by == "sentencepiece":
        fields |= {"sentencepiece": pieces, "source": f"SentencePiece of {facts.library}"}
    elif facts.tables is not None:
        fields |= {"tables": facts.tables, "source": "spaCy, as exported with the model"}
    else:
        control = FASTAI_CONTROL_TOKENS[cleaning] if facts.control_tokens is None else facts.control_tokens
        tables, version = tables_from_spacy(trained_on, control)
        if facts.vocabulary is None and not may_assume_english:
            _check_words(words, tables, name)
        fields |= {"tables": tables, "source": f"spaCy {version}"}
    try:
        return validated(WordTokenizerDocument, fields)
    except Faults as error:
        raise ForeignModelError(f"{name}: {error}") from None


def _words_by(
    facts: LearnerFacts, words: Sequence[str], name: str, requested: Requested, *, may_assume_english: bool
) -> WordsBy:
    """Return what splits texts into words: as the file records it, or as the caller says for saved weights."""
    given, pieces = requested.words_by, requested.sentencepiece
    if facts.vocabulary is not None:
        recorded: WordsBy = "split" if facts.separator is not None else "spacy"
        if facts.sentencepiece or pieces:
            recorded = "sentencepiece"
        if given not in (None, recorded):
            raise ConfigError(f"{name} records another tokenizer than --tokenizer {given}: drop --tokenizer")
        return recorded
    if given is None and pieces is None and requested.language is None and not may_assume_english:
        _check_pieces(words, None, name)
        raise ConfigError(
            f"{name} records only weights, not how texts were split: add --language with spaCy's code of their "
            "language, such as en, or --tokenizer split for fastai's BaseTokenizer. If something else split them, "
            "import the learner's export instead"
        )
    words_by = given or ("spacy" if pieces is None else "sentencepiece")
    if words_by == "spacy" and requested.language is None and not may_assume_english:
        raise ConfigError(f"{name} does not record its language: add --language with spaCy's code of it, such as en")
    if words_by == "sentencepiece" and pieces is None:
        raise ConfigError(
            f"{name} does not contain the SentencePiece model: pass it, usually spm.model, with --sentencepiece"
        )
    if words_by != "sentencepiece" and pieces is not None:
        raise ConfigError(f"--sentencepiece has no effect with --tokenizer {words_by}: drop one of the two")
    _check_pieces(words, pieces, name)
    return words_by


def _check_words(words: Sequence[str], tables: WordTables, name: str) -> None:
    """Refuse a vocabulary with many words that spaCy's rules would have split."""
    split = WordSplitter(tables).split
    real = [word for word in words if word and not word.startswith("xx")]
    further = [word for word in real if split(word) != [word]]
    if len(further) >= max(_FEW_SPLIT_WORDS, _MOST_SPLIT_WORDS * len(real)):
        raise ConfigError(
            f"{name}: spaCy would have split {len(further)} of the {len(real)} words of its vocabulary, such as "
            f"{quoted(further[0], 40)}: if fastai's BaseTokenizer made it, replace --language with --tokenizer split"
        )


def _check_pieces(words: Sequence[str], pieces: PieceModel | None, name: str) -> None:
    """Refuse weights whose vocabulary has pieces without a SentencePiece model, or a model without pieces."""
    found = sum(word.startswith(WORD_START) and word.strip(WORD_START).isalpha() for word in words)
    if pieces is None and found > _FEW_PIECES:
        raise ConfigError(
            f"{name}: its vocabulary has {found} pieces of SentencePiece (words that begin with {WORD_START}): pass "
            "the model, usually spm.model, with --sentencepiece"
        )
    if pieces is None:
        return
    if found <= _FEW_PIECES:
        raise ConfigError(f"{name}: its vocabulary has no pieces of SentencePiece: drop --sentencepiece")
    known = {piece for piece, _ in pieces.pieces}
    if WORD_START in known and (other := [word for word in words if word.startswith(WORD_START) and word not in known]):
        raise ConfigError(
            f"{name}: its vocabulary has the word {quoted(other[0], 40)}, which is not a piece of the SentencePiece "
            "model: pass the model that it was trained with"
        )


def _cleaning_of(words: list[str], name: str, is_version_1: bool | None) -> str:
    """Return the cleaning rules of fastai v1 or v2, as the head shows the version, or the order of control tokens."""
    by_order = {control: cleaning for cleaning, control in FASTAI_CONTROL_TOKENS.items()}
    found = by_order.get(tuple(words[: len(FASTAI_CONTROL_TOKENS[FASTAI_V1])]))
    if found is not None:
        return found if is_version_1 is None else FASTAI_V1 if is_version_1 else FASTAI_V2
    older = [word for word in FASTAI_CONTROL_TOKENS[FASTAI_V1] if word in words[:20]]  # from before xxeos
    if words[: len(older)] == older and len(older) > 4 and is_version_1 is not False:
        if "\n" in words and "\n " not in words:
            raise ForeignModelError(
                f"{name}: its vocabulary has line breaks as fastai 1.0.42 and older split them, which can't be imported"
            )
        return FASTAI_V1
    raise ForeignModelError(
        f"{name}: its vocabulary begins with {shown(', '.join(words[:9]))}, expected the control tokens of fastai v1 "
        "or v2 in their order: models with other control tokens can't be imported"
    )
