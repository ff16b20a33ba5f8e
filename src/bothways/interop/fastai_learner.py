"""Extract what a fastai file records of its model: weights, vocabulary, labels, pooling and the direction.

Input: the inert values that ``torch_file`` read. Output: ``LearnerFacts``. Nothing is executed. What this module does
not understand is refused or reported in a remark, never guessed. An export of fastai v1 does not record the direction.
In v2 the pipeline of a backward model ends with ``reverse_text``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import ValidationError

from bothways.bundle.manifest import FastaiPooling
from bothways.errors import ForeignModelError
from bothways.interop.pickle_reader import GlobalName, Record
from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS, FASTAI_V1, FASTAI_V2
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
"""spaCy's number for the attribute that holds a token's text, in the rules that it pickles."""


@dataclass(frozen=True, eq=False)
class LearnerFacts:
    """What a file records of its model. Attributes are None if the file does not record them.

    Attributes:
        library: ``fastai 1`` or ``fastai 2``, or ``fastai`` if the file does not show the version.
        state: Arrays by fastai's names.
        vocabulary: The word of each id.
        cleaning: Name of the set of cleaning rules.
        marks_field: Whether texts begin with ``xxfld 1``.
        ends: Whether texts end with ``xxeos``.
        language: Language of the spaCy tokenizer.
        control_tokens: Words that the tokenizer never splits.
        tables: spaCy's rules.
        labels: Labels in the order of the classes. Empty for a language model.
        direction: Direction in which the model reads.
        pooling: The part of a text that a classifier pools.
        text_column: Column from which the learner took its texts.
        label_column: Column from which the learner took its labels.
        remarks: Notes for the user.
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
    """Return what a file records of its model.

    Args:
        value: The value that ``torch_file.read_foreign_file`` returned.
        source: Name of the file in error messages.

    Raises:
        ForeignModelError: The value is not a fastai model, or is of a kind that is not supported.
    """
    if isinstance(value, dict) and {"model", "data", "cls"} <= value.keys():
        return _from_v1_export(value, source)
    if isinstance(value, Record) and isinstance(value.state, dict) and {"model", "dls"} <= value.state.keys():
        return _from_v2_export(value.state, source)
    if isinstance(value, dict) and isinstance(value.get("model"), dict):
        value = value["model"]  # learn.save stores the optimizer next to the model
    if isinstance(value, Record) and isinstance(value.state, dict) and "_modules" in value.state:
        return LearnerFacts("fastai", _module_state(value, source), pooling=_pooling(value, source))
    if isinstance(value, dict) and value and all(isinstance(name, str) for name in value):
        return LearnerFacts("fastai", value)
    raise ForeignModelError(
        f"{source} contains {_described(value)}, expected a model: an export of fastai, or weights that learn.save or "
        "save_encoder wrote"
    )


def vocabulary_of(value: object, source: str) -> list[str]:
    """Return the words of a vocabulary file: a list of words, or an object of fastai that contains one.

    Raises:
        ForeignModelError: The value is not a list of words.
    """
    if isinstance(value, Record) and isinstance(value.state, dict) and "itos" in value.state:
        value = value.state["itos"]
    words = _items(value)
    if len(words) == 2 and _items(words[0]) and _items(words[1]):  # dls.vocab of a classifier: words, then labels
        words = _items(words[0])
    if not words or not all(isinstance(word, str) for word in words):
        raise ForeignModelError(f"{source} contains {_described(value)}, expected a vocabulary: a list of words")
    return [str(word) for word in words]


def without_fillers(words: Sequence[str]) -> list[str]:
    """Return a vocabulary of fastai v2 with empty strings for its fillers, so that no text can contain one."""
    return ["" if word == _FILLER else word for word in words]


def labels_of(value: object) -> list[str]:
    """Return the labels that ``dls.vocab`` of a classifier contains after the words. Empty if there are none."""
    pair = _items(value)
    if len(pair) == 2 and _items(pair[0]):
        return [str(label) for label in _items(pair[1])]
    return []


def _from_v1_export(state: Mapping[object, object], source: str) -> LearnerFacts:
    data = state["data"]
    if not isinstance(data, dict):
        raise ForeignModelError(f"{source}: its data is {_described(data)}, expected the processors of fastai v1")
    processors = {_class(p): p for p in _items(data.get("x_proc")) if isinstance(p, Record)}
    if "SPProcessor" in processors:
        raise ForeignModelError(
            f"{source} uses a SentencePiece tokenizer, expected spaCy's: other tokenizers can't be imported"
        )
    if unknown := processors.keys() - {"TokenizeProcessor", "NumericalizeProcessor", "OpenFileProcessor"}:
        raise ForeignModelError(
            f"{source} processes its texts with {min(unknown)}, expected only fastai's own processors of texts"
        )
    try:
        tokenize, numericalize = (
            _state(processors[name], source) for name in ("TokenizeProcessor", "NumericalizeProcessor")
        )
    except KeyError as error:
        raise ForeignModelError(f"{source} is not a text model: it has no {error.args[0]}") from None
    tokenizer = _state(tokenize.get("tokenizer"), source)
    _require_rules(tokenizer.get("pre_rules"), _V1_RULES, "pre_rules", source)
    _require_rules(tokenizer.get("post_rules"), _V1_POST_RULES, "post_rules", source)
    if _class(tokenizer.get("tok_func")) != "SpacyTokenizer":
        raise ForeignModelError(
            f"{source} uses the tokenizer {_class(tokenizer.get('tok_func'))}, expected SpacyTokenizer"
        )
    if not tokenize.get("include_bos", True):
        raise ForeignModelError(f"{source} has texts without xxbos (include_bos=False), which can't be imported")
    model = state["model"]
    if not isinstance(model, Record):
        raise ForeignModelError(f"{source}: its model is {_described(model)}, expected a torch module")
    return LearnerFacts(
        "fastai 1",
        _module_state(model, source),
        vocabulary=vocabulary_of(numericalize.get("vocab"), source),
        cleaning=FASTAI_V1,
        marks_field=bool(tokenize.get("mark_fields", False)),
        ends=bool(tokenize.get("include_eos", False)),
        language=str(tokenizer.get("lang", "en")),
        control_tokens=_words(tokenizer.get("special_cases")) or FASTAI_CONTROL_TOKENS[FASTAI_V1],
        labels=_v1_labels(data, state.get("loss_func"), source),
        pooling=_pooling(model, source),
    )


def _v1_labels(data: Mapping[object, object], loss: object, source: str) -> list[str]:
    processors = {_class(p): p for p in _items(data.get("y_proc")) if isinstance(p, Record)}
    if "MultiCategoryProcessor" in processors:
        raise ForeignModelError(
            f"{source} is a multi-label classifier, expected one label per text: it can't be imported"
        )
    if "CategoryProcessor" not in processors:
        if _class(data.get("y_cls")) == "FloatList":
            raise ForeignModelError(f"{source} is a regression model, expected a classifier: it can't be imported")
        return []
    _require_softmax(loss, source)
    return [str(label) for label in _items(_state(processors["CategoryProcessor"], source).get("classes"))]


def _from_v2_export(state: Mapping[object, object], source: str) -> LearnerFacts:
    model = state["model"]
    if not isinstance(model, Record):
        raise ForeignModelError(f"{source}: its model is {_described(model)}, expected a torch module")
    loaders = _items(_state(state["dls"], source).get("loaders"))
    if not loaders:
        raise ForeignModelError(
            f"{source} contains no data loaders, which describe the tokenizer: export the learner with its data"
        )
    dataset = _state(_state(loaders[0], source).get("dataset"), source)
    pipelines = [_transforms(lists, source) for lists in _items(dataset.get("tls"))]
    if not pipelines:
        raise ForeignModelError(f"{source} has no pipeline from texts to ids, expected an export of a text learner")
    by_class = {_class(transform): transform for transform in pipelines[0]}
    try:
        tokenizer, numericalize = (_state(by_class[name], source) for name in ("Tokenizer", "Numericalize"))
    except KeyError as error:
        raise ForeignModelError(f"{source} is not a text model: its pipeline has no {error.args[0]}") from None
    classes = [_class(transform) for transform in pipelines[0]]
    following = pipelines[0][classes.index("Tokenizer") + 1 :]
    reversing = [transform for transform in following if "reverse_text" in _function_names(transform)]
    if unknown := [t for t in following if _class(t) != "Numericalize" and not any(t is r for r in reversing)]:
        raise ForeignModelError(
            f"{source} changes its ids with {_class(unknown[0])}, expected only Numericalize and reverse_text"
        )
    ends = _v2_rules(tokenizer.get("rules"), source)
    vocabulary, remarks = vocabulary_of(numericalize.get("vocab"), source), []
    known = numericalize.get("o2i")
    if isinstance(known, dict) and _FILLER not in known:
        vocabulary = without_fillers(vocabulary)
    own = [name for t in pipelines[0][: classes.index("Tokenizer")] for name in _own_functions(t)]
    if own:
        remarks.append(
            f"{source}: before tokenization the learner calls its own function {', '.join(own)}, which is not "
            "imported. Pass texts to the bundle as this function returns them."
        )
    tok = _state(tokenizer.get("tok"), source)
    if _class(tokenizer.get("tok")) not in ("SpacyTokenizer", "WordTokenizer"):
        raise ForeignModelError(
            f"{source} uses the tokenizer {_class(tokenizer.get('tok'))}, expected SpacyTokenizer: other tokenizers "
            "can't be imported"
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
        control_tokens=_words(tok.get("special_toks")) or FASTAI_CONTROL_TOKENS[FASTAI_V2],
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
    """Return whether texts end with ``xxeos``. Refuse rules other than fastai v2's own."""
    found, ends = [], False
    for rule in _items(rules):
        if isinstance(rule, Record) and rule.name == "functools.partial":
            options = rule.state[2] if isinstance(rule.state, tuple) and len(rule.state) > 2 else {}
            name = _class(rule.arguments[0]) if rule.arguments else ""
            if name != "lowercase" or not isinstance(options, dict) or options.keys() - {"add_eos", "add_bos"}:
                raise ForeignModelError(
                    f"{source} cleans its texts with {name} and unknown options, expected fastai's own rules"
                )
            if not options.get("add_bos", True):
                raise ForeignModelError(f"{source} has texts without xxbos (add_bos=False), which can't be imported")
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
            raise ForeignModelError(
                f"{source} is a multi-label classifier, expected one label per text: it can't be imported"
            )
        if "RegressionSetup" in by_class:
            raise ForeignModelError(f"{source} is a regression model, expected a classifier: it can't be imported")
        if "Categorize" in by_class:
            _require_softmax(loss, source)
            vocabulary = _state(by_class["Categorize"], source).get("vocab")
            return [str(label) for label in _items(vocabulary)], _column(transforms)
    return [], None


def _pooling(model: Record, source: str) -> FastaiPooling | None:
    """Return the part of a text that a classifier's sentence encoder pools, or None if there is no such encoder."""
    for record in _records(model):
        kind = _class(record)
        if kind not in ("SentenceEncoder", "MultiBatchEncoder") or not isinstance(record.state, dict):
            continue
        window, longest = record.state.get("bptt"), record.state.get("max_len")
        if not isinstance(window, int) or not isinstance(longest, int | None):
            raise ForeignModelError(
                f"{source}: bptt and max_len are {window!r:.40} and {longest!r:.40}, expected integers"
            )
        is_version_1 = kind == "MultiBatchEncoder"
        # v1 pools the windows that begin *after* the position max_len tokens before the end. v2 also pools a window
        # that begins there.
        tail = longest - 1 if longest is not None and is_version_1 else longest
        try:
            return FastaiPooling(window_tokens=window, tail_tokens=tail, last_skips_padding=not is_version_1)
        except ValidationError:
            raise ForeignModelError(
                f"{source} pools max_len={longest} tokens in windows of bptt={window}, expected at least one window"
            ) from None
    return None


def _module_state(module: Record, source: str) -> dict[str, object]:
    """Return the arrays of a module and its submodules by name, like ``state_dict``."""
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
            raise ForeignModelError(f"{source} has more than 10,000 tensors or modules, expected an AWD-LSTM")
    return found


def _tables(tokenizer: Record) -> WordTables | None:
    """Return the rules of a pickled spaCy tokenizer, or None if it is not in the form that spaCy has used since 2.3."""
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
        raise LookupError("not a token")
    return str(next(token[key] for key in (_ORTH, "ORTH", "orth") if key in token))


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


def _require_rules(rules: object, expected: Sequence[str], what: str, source: str) -> None:
    found = [_class(rule) for rule in _items(rules)]
    if found != list(expected):
        raise ForeignModelError(
            f"{source} has the {what} {', '.join(found) or 'none'}, expected fastai's own ({', '.join(expected)}): "
            "models with other cleaning rules can't be imported"
        )


def _require_softmax(loss: object, source: str) -> None:
    names = {_class(loss)}
    while isinstance(loss, Record) and isinstance(loss.state, dict) and "func" in loss.state:  # v1's FlattenedLoss
        loss = loss.state["func"]
        names.add(_class(loss))
    if not names & _SOFTMAX_LOSSES:
        raise ForeignModelError(
            f"{source} was trained with the loss {' of '.join(sorted(names))}, expected a loss whose probabilities are "
            "a softmax, such as cross entropy"
        )


def _column(transforms: Sequence[Record]) -> str | None:
    for transform in transforms:
        if _class(transform) == "ColReader" and isinstance(transform.state, dict):
            columns = _items(transform.state.get("cols")) or [transform.state.get("cols")]
            return columns[0] if len(columns) == 1 and isinstance(columns[0], str) else None
    return None


def _own_functions(transform: Record) -> list[str]:
    """Return the names of functions that the author of the learner wrote, as far as the file records them."""
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
    """Yield every value that can be reached, each once. Values of a pickle may share parts and contain themselves."""
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
    """Return the items of a list, tuple, array or fastcore ``L``. Empty for any other value."""
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
    raise ForeignModelError(
        f"{source} contains {_described(value)}, expected an object of fastai: it can't be imported"
    )


def _class(value: object) -> str:
    """Return the last part of the name of a class or function."""
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
