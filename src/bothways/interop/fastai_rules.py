"""Read the cleaning rules of a fastai tokenizer: fastai's own functions, in any order, with the options they have.

Input: the fact of a list of functions. Output: their names. A function is fastai's if its module and name are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bothways.errors import ConfigError, ForeignModelError, shown
from bothways.interop.facts import Fact
from bothways.interop.known_objects import called, path_of
from bothways.interop.pickle_reader import GlobalName, Record

_MOST_RULES = 100
_OPTIONS = {"add_bos": True, "add_eos": False}
"""The options of v2's rule ``lowercase``, by their names in its order, with their defaults."""


@dataclass(frozen=True)
class Rules:
    """The rules of a tokenizer.

    Attributes:
        names: fastai's names of the rules, in order.
        begins: Whether ``lowercase`` adds ``xxbos``.
        ends: Whether ``lowercase`` adds ``xxeos``.
        remarks: Notes for the user.
    """

    names: list[str]
    begins: bool = True
    ends: bool = False
    remarks: tuple[str, ...] = ()

    def unless(self, defaults: Sequence[str]) -> list[str] | None:
        """Return the names, or None if they are the version's own."""
        return None if self.names == list(defaults) else self.names


def read_rules(
    fact: Fact,
    module: str,
    known: Collection[str],
    *,
    requested: Sequence[str] | None = None,
    is_last: bool = False,
    default: Sequence[str] | None = None,
) -> Rules:
    """Return the rules of a tokenizer.

    Args:
        fact: A list of functions.
        module: The module of fastai that defines them.
        known: Names of the functions that are known.
        requested: The rules that the caller requests. They must be those that follow own functions.
        is_last: Whether the rules apply to tokens. The user can't apply these before the import.
        default: The rules if the file has no list of them. None if it must have one.

    Raises:
        ForeignModelError: A rule is not fastai's, or has unknown options.
        ConfigError: Other rules are requested than those that follow own functions.
    """
    source = fact.work.source
    if fact.is_missing and default is not None:
        if requested is not None:
            _check_request(requested, default, source, is_own=False)
        return Rules(list(default))
    if not isinstance(fact.value, Record | list | tuple):
        raise fact.refusal("a list of functions")
    names: list[str] = []
    own: list[object] = []
    options: list[tuple[bool, bool]] = []
    for rule in fact.parts(_MOST_RULES):
        function, values = _function_and_options(rule)
        name = _known_name(function, module, known)
        if name is None:
            if names or is_last:
                raise ForeignModelError(_refusal(source, function, known, None))
            own.append(function)
            continue
        if values is not None and name != "lowercase":
            raise ForeignModelError(
                f"{source} cleans every text with {called(function)} and options of its own, expected fastai's rules "
                "without options: it can't be imported"
            )
        if name == "lowercase":
            options.append(_begin_and_end(values, rule))
        names.append(name)
    if own and requested is None:
        raise ForeignModelError(_refusal(source, own[0], known, names))
    if requested is not None:
        _check_request(requested, names, source, is_own=bool(own))
    if len(set(options)) > 1:
        raise fact.refusal("rules that add xxbos and xxeos once")
    begins, ends = options[0] if options else (True, False)
    return Rules(names, begins, ends, tuple(_remark(source, own) if own else ()))


def _known_name(function: object, module: str, known: Collection[str]) -> str | None:
    path = path_of(function) if isinstance(function, GlobalName) else ""
    before, _, name = path.rpartition(".")
    return name if before == module and name in known else None


def _function_and_options(rule: Fact) -> tuple[object, dict[object, object] | None]:
    """Return the function of a rule, and the options of a partial by their names."""
    record = rule.value
    if not isinstance(record, Record) or path_of(record) != "functools.partial":
        return record, None
    function = record.arguments[0] if record.arguments else None
    state = record.state if isinstance(record.state, tuple) and len(record.state) == 4 else (None, (), {}, None)
    positional, keywords = state[1], state[2]
    if not isinstance(positional, tuple) or not isinstance(keywords, dict) or len(positional) > 100:
        raise rule.refusal("a function with options")
    names = [*_OPTIONS, *(str(number) for number in range(len(positional)))]
    return function, {**dict(zip(names, positional, strict=False)), **keywords}


def _begin_and_end(options: dict[object, object] | None, rule: Fact) -> tuple[bool, bool]:
    """Return whether ``lowercase`` adds a control token before and after the text."""
    if unknown := [name for name in options or {} if name not in _OPTIONS]:
        raise ForeignModelError(
            f"{rule.work.source} cleans its texts with lowercase and the option {shown(unknown[0], 40)}, expected "
            f"{' or '.join(_OPTIONS)}: it can't be imported"
        )
    values = [(options or {}).get(name, default) for name, default in _OPTIONS.items()]
    begins, ends = (Fact(value, "an option of lowercase", rule.work).flag(default=True) for value in values)
    return begins, ends


def _refusal(source: str, function: object, known: Collection[str], rest: Sequence[str] | None) -> str:
    message = (
        f"{source} cleans every text with its own function {called(function)}, expected only fastai's rules "
        f"({', '.join(known)})"
    )
    if rest is None:
        return f"{message}: it can't be imported"
    listed = ",".join(rest)
    return f"{message}. To apply it to your texts yourself, import the model with --rules {listed or quoted_empty()}"


def quoted_empty() -> str:
    """Return how a shell writes an empty list."""
    return "''"


def _check_request(requested: Sequence[str], names: Sequence[str], source: str, *, is_own: bool) -> None:
    if not is_own:
        raise ConfigError(f"{source} records its cleaning rules: drop --rules")
    if list(requested) != list(names):
        raise ConfigError(
            f"{source}: after its own functions it applies the rules {', '.join(names) or 'none'}, but --rules has "
            f"{', '.join(requested) or 'none'}: pass --rules {','.join(names) or quoted_empty()}"
        )


def _remark(source: str, own: Sequence[object]) -> list[str]:
    listed = ", ".join(called(function) for function in own[:5])
    return [
        f"{source}: the learner cleans every text with its own function {listed}, which is not imported, as requested. "
        "Pass texts to the bundle as this function returns them."
    ]
