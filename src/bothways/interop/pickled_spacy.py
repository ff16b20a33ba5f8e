"""Read the tokenizer of spaCy that an export of fastai v2 contains: its language and its rules.

Input: the record of a spaCy language. Output: the code of the language, and the rules as data.
"""

from __future__ import annotations

from pydantic import ValidationError

from bothways.errors import shown
from bothways.interop.facts import LONGEST_NAME, Fact, Work
from bothways.interop.pickle_reader import Record
from bothways.text.word_patterns import Pattern
from bothways.text.word_rules import LONGEST_EXCEPTION, WordTables

_ORTH = 65
"""spaCy's number for the attribute that holds a token's text, in the rules that it pickles."""


def pickled_spacy(pipe: Fact) -> tuple[str | None, WordTables | None]:
    """Return the language and the rules of a pickled spaCy tokenizer, as far as the file has them."""
    language, tokenizer = None, None
    for record in pipe.work.everything_below(pipe.value):
        if isinstance(record, Record):
            if tokenizer is None and record.name == "spacy.tokenizer.Tokenizer":
                tokenizer = record
            parts = record.name.split(".", 4)
            if language is None and parts[:2] == ["spacy", "lang"] and len(parts) > 2:
                language = Fact(parts[2], "the language of spaCy", pipe.work).text(longest=LONGEST_NAME)
    return language, _tables(tokenizer, pipe.work) if tokenizer else None


def _tables(tokenizer: Record, work: Work) -> WordTables | None:
    """Return the rules of a pickled spaCy tokenizer, or None if it is not in the form that spaCy has used since 2.3."""
    if len(tokenizer.arguments) != 7:
        return None
    _, rules, *searches = tokenizer.arguments
    if not isinstance(rules, dict):
        return None
    exceptions = {}
    for chunk, tokens in rules.items():
        if not isinstance(chunk, str):
            return None
        parts = Fact(tokens, f"the exception {shown(chunk[:LONGEST_NAME])}", work).parts(LONGEST_EXCEPTION)
        texts = [_orth(part.value) for part in parts]
        exceptions[chunk] = [text for text in texts if text is not None]
        if len(exceptions[chunk]) != len(texts):
            return None
    try:
        prefix, suffix, infix, token_match, url_match = map(_pattern, searches)
        return WordTables(
            exceptions=exceptions,
            prefix=prefix,
            suffix=suffix,
            infix=infix,
            token_match=token_match,
            url_match=url_match,
        )
    except (LookupError, ValidationError):
        return None


def _orth(token: object) -> str | None:
    """Return the text of a token in spaCy's rules, or None if it has none."""
    if not isinstance(token, dict):
        return None
    found = next((token[key] for key in (_ORTH, "ORTH", "orth") if key in token), None)
    return found if isinstance(found, str) else None


def _pattern(search: object) -> Pattern | None:
    """Return the regular expression whose ``search``, ``match`` or ``finditer`` was pickled."""
    if search is None:
        return None
    if isinstance(search, Record) and search.name.endswith(".getattr") and search.arguments:
        compiled = search.arguments[0]
        if isinstance(compiled, Record) and compiled.name == "re._compile" and len(compiled.arguments) == 2:
            pattern, flags = compiled.arguments
            if isinstance(flags, Record) and flags.arguments:
                flags = flags.arguments[0]
            if isinstance(pattern, str) and isinstance(flags, int):
                return Pattern(pattern=pattern, flags=flags)
    raise LookupError("not a pattern of re")
