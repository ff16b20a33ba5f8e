"""Read the tokenizer of spaCy that an export of fastai v2 contains: its language and its rules.

Input: the record of a spaCy language. Output: the code of the language, and the rules as data.
"""

from __future__ import annotations

import re

from pydantic import ValidationError

from bothways.errors import ForeignModelError, shown
from bothways.interop.facts import LONGEST_NAME, MISSING, Fact, Work
from bothways.interop.known_objects import called, path_of, state_of
from bothways.interop.pickle_reader import Record
from bothways.text.word_patterns import Pattern
from bothways.text.word_rules import LONGEST_EXCEPTION, WordTables

_LANGUAGE = re.compile(r"spacy\.lang\.([a-z]{2,8})\.[A-Za-z]+")
_ORTH = 65
"""spaCy's number for the attribute that holds a token's text, in the rules that it pickles."""


def pickled_spacy(pipe: Fact) -> tuple[str | None, WordTables | None]:
    """Return the code and the rules of the language that fastai's SpacyTokenizer calls. None if there is none.

    Raises:
        ForeignModelError: The method is not that of a spaCy language, its texts go through more than its tokenizer, or
            that has rules of its own.
    """
    if pipe.is_missing:
        return None, None
    language = _owner(pipe)
    path = path_of(language.value) if isinstance(language.value, Record) else ""
    found = _LANGUAGE.fullmatch(path)
    if found is None:
        raise ForeignModelError(
            f"{pipe.work.source}: its tokenizer calls {called(pipe.value)}, expected the pipe of a spaCy language: it "
            "can't be imported"
        )
    for name in ("_components", "pipeline"):  # the latter is that of spaCy 2
        components = state_of(language).get(name)
        if isinstance(components, list | tuple) and components:
            raise ForeignModelError(
                f"{pipe.work.source}: its spaCy pipeline has {len(components)} components, which may change its "
                "tokens, expected a blank one: it can't be imported"
            )
    tokenizer = language.part("tokenizer")
    tables = None
    if isinstance(tokenizer.value, Record) and path_of(tokenizer.value) == "spacy.tokenizer.Tokenizer":
        tables = _tables(tokenizer.value, pipe.work)
    if tables is None:
        raise ForeignModelError(
            f"{pipe.work.source}: spaCy splits its texts with {called(tokenizer.value)}, expected the rules of spaCy "
            "2.3 or later: it can't be imported"
        )
    return Fact(found[1], "the language of spaCy", pipe.work).text(longest=LONGEST_NAME), tables


def _owner(method: Fact) -> Fact:
    """Return the object that a bound method belongs to. Missing if it is not the method ``pipe``."""
    value = method.value
    if isinstance(value, Record) and path_of(value) == "builtins.getattr":
        match value.arguments:
            case (owner, "pipe"):
                return Fact(owner, method.name, method.work)
    if isinstance(value, Record) and isinstance(value.function, Record) and len(value.arguments) == 2:
        function, owner = value.arguments  # as cloudpickle writes it
        if value.function.arguments == ("MethodType",) and called(function) == "spacy.language.Language.pipe":
            return Fact(owner, method.name, method.work)
    return Fact(MISSING, method.name, method.work)


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
