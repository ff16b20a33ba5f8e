"""Read the rules of spaCy's word tokenizer for a language, as data.

Input: a language's code and the control tokens that the model's library adds. Output: ``WordTables`` and the version of
spaCy that they were read from. This is the only module that imports spaCy, and only when it is called. It does not know
how the rules are applied.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bothways.errors import DependencyMissing, ForeignModelError, quoted
from bothways.schema import Faults, validated
from bothways.text.word_patterns import Pattern
from bothways.text.word_rules import WordTables

_LANGUAGE = re.compile(r"[a-z]{2,8}")


def tables_from_spacy(language: str, control_tokens: Sequence[str]) -> tuple[WordTables, str]:
    """Return the rules of spaCy's tokenizer for a language, and spaCy's version.

    Args:
        language: spaCy's code of the language, such as ``en``, or ``xx`` for any language.
        control_tokens: Words that no rule may split. Added last, as fastai does.

    Raises:
        DependencyMissing: spaCy is not installed.
        ForeignModelError: spaCy does not support the language, or does not split it into words by rules.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of spaCy's own dependencies, which its users can't act on
            import spacy  # noqa: PLC0415  (optional, and slow to import)
            from spacy.tokenizer import Tokenizer  # noqa: PLC0415
    except ImportError as error:
        raise DependencyMissing("this model needs spaCy for its tokenizer: pip install 'bothways[spacy]'") from error
    tokenizer = _blank_tokenizer(spacy, language)
    if type(tokenizer) is not Tokenizer:
        raise ForeignModelError(
            f"spaCy splits the language {quoted(language)} into words with {type(tokenizer).__name__}, expected its "
            "rule-based tokenizer: models in this language can't be imported"
        )
    for token in control_tokens:
        tokenizer.add_special_case(token, [{spacy.symbols.ORTH: token}])
    rules = {
        chunk: [_text_of(token, spacy.symbols.ORTH) for token in tokens] for chunk, tokens in tokenizer.rules.items()
    }
    try:
        fields = {
            "exceptions": rules,
            "prefix": _pattern(language, "prefix_search", tokenizer.prefix_search, "search"),
            "suffix": _pattern(language, "suffix_search", tokenizer.suffix_search, "search"),
            "infix": _pattern(language, "infix_finditer", tokenizer.infix_finditer, "finditer"),
            "token_match": _pattern(language, "token_match", tokenizer.token_match, "match"),
            "url_match": _pattern(language, "url_match", tokenizer.url_match, "match"),
            "faster_heuristics": tokenizer.faster_heuristics,
        }
        tables = validated(WordTables, fields)
    except Faults as error:
        raise ForeignModelError(
            f"spaCy's rules for the language {quoted(language)} can't be stored in a bundle: {error}"
        ) from error
    return tables, str(spacy.__version__)


def _blank_tokenizer(spacy: Any, language: str) -> Any:
    if not _LANGUAGE.fullmatch(language):
        raise ForeignModelError(f"invalid language {quoted(language, 40)}, expected one of spaCy's codes, such as 'en'")
    try:
        spacy.util.get_lang_class(language)
    except ImportError as error:
        raise ForeignModelError(
            f"spaCy {spacy.__version__} does not support the language {quoted(language)}: check --language"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return spacy.blank(language).tokenizer
    except ImportError as error:
        raise ForeignModelError(
            f"spaCy splits the language {quoted(language)} into words with another library, expected its rule-based "
            "tokenizer: models in this language can't be imported"
        ) from error


def _text_of(token: Mapping[Any, Any], orth: int) -> str:
    return next(str(value) for name, value in token.items() if name in {orth, "ORTH", "orth"})


def _pattern(language: str, name: str, function: Callable[..., Any] | None, method: str) -> Pattern | None:
    """Return the regular expression of a tokenizer rule. spaCy's rules are methods of compiled expressions."""
    if function is None:
        return None
    expression = getattr(function, "__self__", None)
    if not isinstance(expression, re.Pattern) or getattr(function, "__name__", "") != method:
        raise ForeignModelError(
            f"the {name} of spaCy's tokenizer for the language {quoted(language)} is "
            f"{quoted(function)}, expected the method "
            f"{method} of a regular expression: models in this language can't be imported"
        )
    return Pattern(pattern=expression.pattern, flags=expression.flags)
