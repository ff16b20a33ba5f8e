"""Find out what a file of fastai says of its model: weights, words, labels, windows and the direction, if recorded.

In: the inert values that ``torch_file`` read. Out: ``LearnerFacts``. Executes nothing; what is not understood is
refused or told, never guessed. fastai v1's export holds no direction at all; v2's pipeline ends with ``reverse_text``
or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import ValidationError

from bothways.bundle.manifest import FastaiPooling
from bothways.errors import ForeignModelError
from bothways.interop.pickle_reader import GlobalName, Record
from bothways.text.fastai_cleaning import CONTROL_TOKENS, FASTAI_V1, FASTAI_V2
from bothways.text.reading import Direction
from bothways.text.word_patterns import Pattern
from bothways.text.word_rules import WordTables

_V1_RULES = ("fix_html", "replace_rep", "replace_wrep", "spec_add_spaces", "rm_useless_spaces")
_V1_POST_RULES = ("replace_all_caps", "deal_caps")
_V2_RULES = (*_V1_RULES, "replace_all_caps", "replace_maj", "lowercase")
_SOFTMAX_LOSSES = frozenset(
    {
        "CrossEntropyLoss",
        "CrossEntropyLossFlat",
        "FocalLoss",
        "FocalLossFlat",
        "LabelSmoothingCrossEntropy",
        "LabelSmoothingCrossEntropyFlat",
        "cross_entropy",
    }
)
_FILLER = "xxfake"
_ORTH = 65
"""spaCy's number for the text of a token, in the rules that it pickles."""


@dataclass(frozen=True, eq=False)
class LearnerFacts:
    """What a file says of its model; None where it says nothing.

    Attributes:
        library: ``fastai 1`` or ``fastai 2``, or ``fastai`` if the file can't tell.
        state: Arrays by fastai's names.
        vocabulary: The word of each id.
        cleaning: The set of cleaning rules.
        marks_field: Whether ``xxfld 1`` stands before a text.
        ends: Whether ``xxeos`` stands behind it.
        language: Of the spaCy tokenizer.
        control_tokens: Words that the tokenizer never splits.
        tables: spaCy's rules, if the file holds them.
        labels: In the order of the classes; empty for a language model.
        direction: The way it reads, if recorded.
        pooling: What of a text a classifier pools.
        text_column: Where the learner took its texts from.
        label_column: Where it took the labels from.
        remarks: What a person should know.
    """

    library: str
    state: Mapping[str, object]
    vocabulary: list[str] | None = None
    cleaning: str | None = None
    marks_field: bool = False
    ends: bool = False
    language: str | None = None
    control_tokens: tuple[str, ...] | None = None
    tables: WordTables | None = None
    labels: list[str] = field(default_factory=list)
    direction: Direction | None = None
    pooling: FastaiPooling | None = None
    text_column: str | None = None
    label_column: str | None = None
    remarks: list[str] = field(default_factory=list)


def learner_facts(value: object, source: str) -> LearnerFacts:
    """Return what the content of a file says.

    Args:
        value: What ``torch_file.read_foreign_file`` gave.
        source: The file, for messages.

    Raises:
        ForeignModelError: It is no model of fastai, or one of a kind that is not supported.
    """
    if isinstance(value, dict) and {"model", "data", "cls"} <= value.keys():
        return _from_v1_export(value, source)
    if isinstance(value, Record) and isinstance(value.state, dict) and {"model", "dls"} <= value.state.keys():
        return _from_v2_export(value.state, source)
    if isinstance(value, dict) and isinstance(value.get("model"), dict):
        value = value["model"]  # as learn.save writes it, beside the optimizer
    if isinstance(value, Record) and isinstance(value.state, dict) and "_modules" in value.state:
        return LearnerFacts("fastai", _module_state(value, source), pooling=_pooling(value, source))
    if isinstance(value, dict) and value and all(isinstance(name, str) for name in value):
        return LearnerFacts("fastai", value)
    raise ForeignModelError(
        f"{source} holds {_described(value)}, expected a model: an export of fastai, or the weights that learn.save or "
        "save_encoder write"
    )


def vocabulary_of(value: object, source: str) -> list[str]:
    """Return the words of a vocabulary file: a list, or an object that holds one as fastai's do.

    Raises:
        ForeignModelError: It is no list of words.
    """
    if isinstance(value, Record) and isinstance(value.state, dict) and "itos" in value.state:
        value = value.state["itos"]
    words = _items(value)
    if len(words) == 2 and _items(words[0]) and _items(words[1]):  # dls.vocab of a classifier: words, then labels
        words = _items(words[0])
    if not words or not all(isinstance(word, str) for word in words):
        raise ForeignModelError(f"{source} holds {_described(value)}, expected a vocabulary: a list of words")
    return [str(word) for word in words]


def without_fillers(words: Sequence[str]) -> list[str]:
    """Return a vocabulary of fastai v2, whose fillers are no words: no text has one, not even if somebody types it."""
    return ["" if word == _FILLER else word for word in words]


def labels_of(value: object) -> list[str]:
    """Return the labels that stand beside the words in ``dls.vocab`` of a classifier; empty if there are none."""
    pair = _items(value)
    if len(pair) == 2 and _items(pair[0]):
        return [str(label) for label in _items(pair[1])]
    return []


def _from_v1_export(state: Mapping[object, object], source: str) -> LearnerFacts:
    data = state["data"]
    if not isinstance(data, dict):
        raise ForeignModelError(f"{source}: its data are {_described(data)}, expected the processors of fastai v1")
    processors = {_class(p): p for p in _items(data.get("x_proc")) if isinstance(p, Record)}
    if "SPProcessor" in processors:
        raise ForeignModelError(f"{source} uses a SentencePiece tokenizer, which is not supported: only spaCy's words")
    if unknown := processors.keys() - {"TokenizeProcessor", "NumericalizeProcessor", "OpenFileProcessor"}:
        raise ForeignModelError(f"{source} changes its texts by {min(unknown)}, which is unknown")
    try:
        tokenize, numericalize = (
            _state(processors[name], source) for name in ("TokenizeProcessor", "NumericalizeProcessor")
        )
    except KeyError as error:
        raise ForeignModelError(f"{source} is no model of texts: it has no {error.args[0]}") from None
    tokenizer = _state(tokenize.get("tokenizer"), source)
    _require_rules(tokenizer.get("pre_rules"), _V1_RULES, "pre_rules", source)
    _require_rules(tokenizer.get("post_rules"), _V1_POST_RULES, "post_rules", source)
    if _class(tokenizer.get("tok_func")) != "SpacyTokenizer":
        raise ForeignModelError(
            f"{source} uses the tokenizer {_class(tokenizer.get('tok_func'))}, expected SpacyTokenizer"
        )
    if not tokenize.get("include_bos", True):
        raise ForeignModelError(f"{source} begins its texts without xxbos (include_bos=False), which is not supported")
    model = state["model"]
    if not isinstance(model, Record):
        raise ForeignModelError(f"{source}: its model is {_described(model)}, expected modules of torch")
    return LearnerFacts(
        "fastai 1",
        _module_state(model, source),
        vocabulary=vocabulary_of(numericalize.get("vocab"), source),
        cleaning=FASTAI_V1,
        marks_field=bool(tokenize.get("mark_fields", False)),
        ends=bool(tokenize.get("include_eos", False)),
        language=str(tokenizer.get("lang", "en")),
        control_tokens=_words(tokenizer.get("special_cases")) or CONTROL_TOKENS[FASTAI_V1],
        labels=_v1_labels(data, state.get("loss_func"), source),
        pooling=_pooling(model, source),
    )


def _v1_labels(data: Mapping[object, object], loss: object, source: str) -> list[str]:
    processors = {_class(p): p for p in _items(data.get("y_proc")) if isinstance(p, Record)}
    if "MultiCategoryProcessor" in processors:
        raise ForeignModelError(f"{source} gives several labels to a text, which is not supported yet")
    if "CategoryProcessor" not in processors:
        if _class(data.get("y_cls")) == "FloatList":
            raise ForeignModelError(f"{source} predicts numbers, not labels, which is not supported")
        return []
    _require_softmax(loss, source)
    return [str(label) for label in _items(_state(processors["CategoryProcessor"], source).get("classes"))]


def _from_v2_export(state: Mapping[object, object], source: str) -> LearnerFacts:
    model = state["model"]
    if not isinstance(model, Record):
        raise ForeignModelError(f"{source}: its model is {_described(model)}, expected modules of torch")
    loaders = _items(_state(state["dls"], source).get("loaders"))
    if not loaders:
        raise ForeignModelError(f"{source} holds no data loaders: nothing tells how its texts become words")
    dataset = _state(_state(loaders[0], source).get("dataset"), source)
    pipelines = [_transforms(lists, source) for lists in _items(dataset.get("tls"))]
    if not pipelines:
        raise ForeignModelError(f"{source} has no pipeline from a text to ids")
    by_class = {_class(transform): transform for transform in pipelines[0]}
    try:
        tokenizer, numericalize = (_state(by_class[name], source) for name in ("Tokenizer", "Numericalize"))
    except KeyError as error:
        raise ForeignModelError(f"{source} is no model of texts: its pipeline has no {error.args[0]}") from None
    classes = [_class(transform) for transform in pipelines[0]]
    behind = pipelines[0][classes.index("Tokenizer") + 1 :]
    reversing = [transform for transform in behind if "reverse_text" in _function_names(transform)]
    if unknown := [t for t in behind if _class(t) != "Numericalize" and not any(t is r for r in reversing)]:
        raise ForeignModelError(f"{source} changes its ids by {_class(unknown[0])}, which is unknown")
    ends = _v2_rules(tokenizer.get("rules"), source)
    vocabulary, remarks = vocabulary_of(numericalize.get("vocab"), source), []
    known = numericalize.get("o2i")
    if isinstance(known, dict) and _FILLER not in known:
        vocabulary = without_fillers(vocabulary)
    own = [name for t in pipelines[0][: classes.index("Tokenizer")] for name in _own_functions(t)]
    if own:
        remarks.append(
            f"{source}: before its tokenizer the learner calls {', '.join(own)}, a function of its own, which is not "
            "imported: give the bundle the texts that it returns"
        )
    tok = _state(tokenizer.get("tok"), source)
    if _class(tokenizer.get("tok")) not in ("SpacyTokenizer", "WordTokenizer"):
        raise ForeignModelError(
            f"{source} uses the tokenizer {_class(tokenizer.get('tok'))}, which is not supported: only spaCy's words"
        )
    spacy = next((r for r in _records(tok.get("pipe")) if r.name == "spacy.tokenizer.Tokenizer"), None)
    language = next((r.name.split(".")[2] for r in _records(tok.get("pipe")) if r.name.startswith("spacy.lang.")), None)
    labels, label_column = _v2_labels(pipelines[1:], state.get("loss_func"), source)
    return LearnerFacts(
        "fastai 2",
        _module_state(model, source),
        vocabulary=vocabulary,
        cleaning=FASTAI_V2,
        ends=ends,
        language=language,
        control_tokens=_words(tok.get("special_toks")) or CONTROL_TOKENS[FASTAI_V2],
        tables=_tables(spacy) if spacy else None,
        labels=labels,
        direction=Direction.BACKWARD if reversing else Direction.FORWARD,
        text_column=_column(pipelines[0]),
        label_column=label_column,
        remarks=remarks,
        pooling=_pooling(model, source),
    )


def _transforms(lists: object, source: str) -> list[Record]:
    """Return the transforms of one of a dataset's pipelines, in order."""
    pipeline = _state(lists, source).get("tfms")
    return [t for t in _items(_state(pipeline, source).get("fs")) if isinstance(t, Record)]


def _v2_rules(rules: object, source: str) -> bool:
    """Refuse rules other than fastai v2's own; give whether texts end with ``xxeos``."""
    found, ends = [], False
    for rule in _items(rules):
        if isinstance(rule, Record) and rule.name == "functools.partial":
            options = rule.state[2] if isinstance(rule.state, tuple) and len(rule.state) > 2 else {}
            name = _class(rule.arguments[0]) if rule.arguments else ""
            if name != "lowercase" or not isinstance(options, dict) or options.keys() - {"add_eos", "add_bos"}:
                raise ForeignModelError(f"{source} cleans its texts by {name} with options, which is unknown")
            if not options.get("add_bos", True):
                raise ForeignModelError(f"{source} begins its texts without xxbos, which is not supported")
            ends = bool(options.get("add_eos", False))
            found.append(rule.arguments[0])
        else:
            found.append(rule)
    _require_rules(found, _V2_RULES, "rules", source)
    return ends


def _v2_labels(pipelines: Sequence[list[Record]], loss: object, source: str) -> tuple[list[str], str | None]:
    for transforms in pipelines:
        by_class = {_class(transform): transform for transform in transforms}
        if "MultiCategorize" in by_class or "OneHotEncode" in by_class or "EncodedMultiCategorize" in by_class:
            raise ForeignModelError(f"{source} gives several labels to a text, which is not supported yet")
        if "RegressionSetup" in by_class:
            raise ForeignModelError(f"{source} predicts numbers, not labels, which is not supported")
        if "Categorize" in by_class:
            _require_softmax(loss, source)
            vocabulary = _state(by_class["Categorize"], source).get("vocab")
            return [str(label) for label in _items(vocabulary)], _column(transforms)
    return [], None


def _pooling(model: Record, source: str) -> FastaiPooling | None:
    """Return what a classifier's sentence encoder pools; None if there is none."""
    for record in _records(model):
        kind = _class(record)
        if kind not in ("SentenceEncoder", "MultiBatchEncoder") or not isinstance(record.state, dict):
            continue
        window, longest = record.state.get("bptt"), record.state.get("max_len")
        if not isinstance(window, int) or not isinstance(longest, int | None):
            raise ForeignModelError(f"{source}: bptt and max_len are {window!r:.40} and {longest!r:.40}, no numbers")
        is_version_1 = kind == "MultiBatchEncoder"
        # v1 pools the windows that begin *behind* the place max_len before the end; v2 those that begin there, too.
        tail = longest - 1 if longest is not None and is_version_1 else longest
        try:
            return FastaiPooling(window_tokens=window, tail_tokens=tail, last_skips_padding=not is_version_1)
        except ValidationError:
            raise ForeignModelError(
                f"{source} pools max_len={longest} tokens in windows of bptt={window}: expected at least one window"
            ) from None
    return None


def _module_state(module: Record, source: str) -> dict[str, object]:
    """Return the arrays of a module and all below it by their names, as ``state_dict`` does."""
    found: dict[str, object] = {}
    waiting: list[tuple[str, object, int]] = [("", module, 0)]
    while waiting:
        before, record, depth = waiting.pop()
        if not isinstance(record, Record) or not isinstance(record.state, dict) or depth > 50:
            continue
        for part in ("_parameters", "_buffers"):
            arrays = record.state.get(part)
            if isinstance(arrays, dict):
                found |= {f"{before}{name}": a for name, a in arrays.items() if isinstance(a, np.ndarray)}
        below = record.state.get("_modules")
        if isinstance(below, dict):
            waiting += [(f"{before}{name}.", child, depth + 1) for name, child in below.items()]
        if len(found) > 10_000 or len(waiting) > 10_000:
            raise ForeignModelError(f"{source} has more than 10,000 tensors or modules, which no AWD-LSTM has")
    return found


def _tables(tokenizer: Record) -> WordTables | None:
    """Return the rules of a pickled spaCy tokenizer; None if it is not written the way it is since spaCy 2.3."""
    if len(tokenizer.arguments) != 7:
        return None
    _, rules, *searches = tokenizer.arguments
    if not isinstance(rules, dict):
        return None
    try:
        exceptions = {str(chunk): [_orth(token) for token in _items(tokens)] for chunk, tokens in rules.items()}
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


def _orth(token: object) -> str:
    if not isinstance(token, dict):
        raise LookupError("no token")
    return str(next(token[key] for key in (_ORTH, "ORTH", "orth") if key in token))


def _pattern(search: object) -> Pattern | None:
    """Return the pattern whose ``search``, ``match`` or ``finditer`` was pickled."""
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
    raise LookupError("no pattern of re")


def _require_rules(rules: object, expected: Sequence[str], what: str, source: str) -> None:
    found = [_class(rule) for rule in _items(rules)]
    if found != list(expected):
        raise ForeignModelError(
            f"{source} has the {what} {', '.join(found) or 'none'}, which are not fastai's own ({', '.join(expected)}):"
            " models with other cleaning rules can't be imported"
        )


def _require_softmax(loss: object, source: str) -> None:
    names = {_class(loss)}
    while isinstance(loss, Record) and isinstance(loss.state, dict) and "func" in loss.state:  # v1's FlattenedLoss
        loss = loss.state["func"]
        names.add(_class(loss))
    if not names & _SOFTMAX_LOSSES:
        raise ForeignModelError(
            f"{source} was trained with the loss {' of '.join(sorted(names))}: only losses whose probabilities are a "
            "softmax are supported"
        )


def _column(transforms: Sequence[Record]) -> str | None:
    for transform in transforms:
        if _class(transform) == "ColReader" and isinstance(transform.state, dict):
            columns = _items(transform.state.get("cols")) or [transform.state.get("cols")]
            return columns[0] if len(columns) == 1 and isinstance(columns[0], str) else None
    return None


def _own_functions(transform: Record) -> list[str]:
    """Return the names of functions that the learner's author wrote, as far as the file has them."""
    return sorted({name.path for name in _names(transform) if name.module == "__main__"}) or (
        ["a lambda"]
        if any("_make_function" in record.name or "_fill_function" in record.name for record in _records(transform))
        else []
    )


def _function_names(value: object) -> set[str]:
    return {name.name for name in _names(value)}


def _names(value: object) -> Iterator[GlobalName]:
    return (found for found in _everything_below(value) if isinstance(found, GlobalName))


def _records(value: object) -> Iterator[Record]:
    return (found for found in _everything_below(value) if isinstance(found, Record))


def _everything_below(value: object) -> Iterator[object]:
    """Return every value that can be reached, each once: what a pickle holds may share parts, and may be a circle."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str | bytes | int | float | np.ndarray) or found is None or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        if isinstance(found, Record):
            waiting += [found.state, found.function, *found.arguments, *found.keywords.values(), *found.items]
            waiting += [part for pair in found.pairs for part in pair]
        elif isinstance(found, Mapping):
            waiting += [*found.keys(), *found.values()]
        elif isinstance(found, list | tuple | set | frozenset):
            waiting += found


def _items(value: object) -> list[object]:
    """Return the items of a list, tuple, array or fastcore ``L``; none of anything else."""
    for _ in range(4):
        if not isinstance(value, Record):
            break
        value = value.state.get("items") if isinstance(value.state, dict) and "items" in value.state else value.items
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return list(value.tolist())
    return list(value) if isinstance(value, list | tuple) else []


def _words(value: object) -> tuple[str, ...]:
    return tuple(str(word) for word in _items(value) if isinstance(word, str))


def _state(value: object, source: str) -> Mapping[object, object]:
    if isinstance(value, Record) and isinstance(value.state, dict):
        return value.state
    raise ForeignModelError(f"{source} holds {_described(value)} where fastai keeps an object: it can't be imported")


def _class(value: object) -> str:
    """Return the last part of a class's or function's name."""
    if isinstance(value, GlobalName):
        return value.name.rpartition(".")[2]
    if isinstance(value, Record):
        return value.name.rpartition(".")[2] or "an object of unknown kind"
    return type(value).__name__


def _described(value: object) -> str:
    if isinstance(value, Record | GlobalName):
        return f"a {value.name or 'record'}"
    if isinstance(value, dict | list | tuple):
        first = ", ".join(str(key)[:40] for key in list(value)[:3])
        return (
            f"a {type(value).__name__} of {len(value)} ({first} ...)" if value else f"an empty {type(value).__name__}"
        )
    return f"a {type(value).__name__}"
