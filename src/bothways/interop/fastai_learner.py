"""Extract what a fastai file records of its model: weights, vocabulary, labels, pooling and the direction.

Input: the inert values that ``torch_file`` read. Output: ``LearnerFacts``. Nothing is executed. What this module does
not understand is refused or reported in a remark, never guessed. An export of fastai v1 does not record the direction.
In v2 the pipeline of a backward model ends with ``reverse_text``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import ValidationError

from bothways.bundle.manifest import FastaiPooling
from bothways.errors import ForeignModelError, shown
from bothways.interop.facts import LONGEST_NAME, Fact, Work, class_name, described, is_encodable
from bothways.interop.pickle_reader import GlobalName, Record
from bothways.tasks.labels import LONGEST_LABEL
from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS, FASTAI_V1, FASTAI_V2
from bothways.text.reading import Direction
from bothways.text.word_patterns import Pattern
from bothways.text.word_rules import LONGEST_EXCEPTION, WordTables

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
_MOST_WORDS = 1_000_000
_MOST_LABELS = 100_000
_MOST_PARTS = 1000
"""Items of a pipeline, of a list of rules, and of other short lists. Real ones have at most a few dozen."""
_MOST_TENSORS = 10_000
_DEEPEST_MODULE = 50
_LARGEST_WINDOW = 1_000_000
_LONGEST_TAIL = 1_000_000_000
_MOST_REPORTED = 5


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
        ForeignModelError: The value is not a fastai model, is of a kind that is not supported, or has a field with a
            value that can't be true. The message names the field.
    """
    root = Fact(value, "", Work.on(value, source))
    if isinstance(value, dict) and {"model", "data", "cls"} <= value.keys():
        return _from_v1_export(root)
    if isinstance(value, Record) and isinstance(value.state, dict) and {"model", "dls"} <= value.state.keys():
        return _from_v2_export(root)
    if isinstance(value, dict) and isinstance(value.get("model"), dict):
        value = value["model"]  # learn.save stores the optimizer next to the model
    if isinstance(value, Record) and isinstance(value.state, dict) and "_modules" in value.state:
        return LearnerFacts("fastai", _module_state(value, root.work), pooling=_pooling(value, root.work))
    if isinstance(value, dict) and value and all(isinstance(name, str) for name in value):
        if len(value) > _MOST_TENSORS or any(not _is_name(name) for name in value):
            raise Fact(value, "", root.work).refusal(f"at most {_MOST_TENSORS} tensors with short names")
        return LearnerFacts("fastai", value)
    raise ForeignModelError(
        f"{source} contains {described(value)}, expected a model: an export of fastai, or weights that learn.save or "
        "save_encoder wrote"
    )


def vocabulary_of(value: object, source: str) -> list[str]:
    """Return the words of a vocabulary file: a list of words, or an object of fastai that contains one.

    Raises:
        ForeignModelError: The value is not a list of words.
    """
    return _vocabulary(Fact(value, "", Work.on(value, source)))


def without_fillers(words: Sequence[str]) -> list[str]:
    """Return a vocabulary of fastai v2 with empty strings for its fillers, so that no text can contain one."""
    return ["" if word == _FILLER else word for word in words]


def labels_of(value: object, source: str) -> list[str]:
    """Return the labels that ``dls.vocab`` of a classifier contains after the words. Empty if there are none.

    Raises:
        ForeignModelError: The labels are not different texts or numbers.
    """
    fact = Fact(value, "", Work.on(value, source))
    pair = fact.parts(_MOST_WORDS)
    if len(pair) == 2 and pair[0].parts(_MOST_WORDS):
        return Fact(pair[1].value, "labels", fact.work).labels(most=_MOST_LABELS, longest=LONGEST_LABEL)
    return []


def _vocabulary(fact: Fact) -> list[str]:
    if isinstance(fact.value, Record) and isinstance(fact.value.state, dict) and "itos" in fact.value.state:
        fact = Fact(fact.value.state["itos"], fact.name, fact.work)
    words = fact.parts(_MOST_WORDS)
    if len(words) == 2 and words[0].parts(_MOST_WORDS) and words[1].parts(_MOST_WORDS):
        fact = words[0]  # dls.vocab of a classifier: words, then labels
        words = fact.parts(_MOST_WORDS)
    if not words or not all(isinstance(word.value, str) for word in words):
        subject = f"{fact.work.source}: {fact.name} is" if fact.name else f"{fact.work.source} contains"
        raise ForeignModelError(f"{subject} {described(fact.value)}, expected a vocabulary: a list of words")
    return Fact(fact.value, fact.name or "vocabulary", fact.work).texts(most=_MOST_WORDS, may_be_empty=True)


def _from_v1_export(root: Fact) -> LearnerFacts:
    source, data = root.work.source, root.part("data")
    if not isinstance(data.value, dict):
        raise ForeignModelError(f"{source}: its data is {described(data.value)}, expected the processors of fastai v1")
    processors = {processor.class_name: processor for processor in data.part("x_proc").records(_MOST_PARTS)}
    if "SPProcessor" in processors:
        raise ForeignModelError(
            f"{source} uses a SentencePiece tokenizer, expected spaCy's: other tokenizers can't be imported"
        )
    if unknown := processors.keys() - {"TokenizeProcessor", "NumericalizeProcessor", "OpenFileProcessor"}:
        raise ForeignModelError(
            f"{source} processes its texts with {min(unknown)}, expected only fastai's own processors of texts"
        )
    for name in ("TokenizeProcessor", "NumericalizeProcessor"):
        if name not in processors:
            raise ForeignModelError(f"{source} is not a text model: it has no {name}")
    tokenize, numericalize = processors["TokenizeProcessor"], processors["NumericalizeProcessor"]
    tokenizer = tokenize.part("tokenizer")
    _require_rules(tokenizer.part("pre_rules").parts(_MOST_PARTS), _V1_RULES, "pre_rules", source)
    _require_rules(tokenizer.part("post_rules").parts(_MOST_PARTS), _V1_POST_RULES, "post_rules", source)
    if tokenizer.part("tok_func").class_name != "SpacyTokenizer":
        raise ForeignModelError(
            f"{source} uses the tokenizer {tokenizer.part('tok_func').class_name}, expected SpacyTokenizer"
        )
    if not tokenize.part("include_bos").flag(default=True):
        raise ForeignModelError(f"{source} has texts without xxbos (include_bos=False), which can't be imported")
    model, language = _model(root), tokenizer.part("lang")
    return LearnerFacts(
        "fastai 1",
        _module_state(model, root.work),
        vocabulary=_vocabulary(numericalize.part("vocab")),
        cleaning=FASTAI_V1,
        marks_field=tokenize.part("mark_fields").flag(default=False),
        ends=tokenize.part("include_eos").flag(default=False),
        language="en" if language.is_missing else language.text(longest=LONGEST_NAME),
        control_tokens=_control_tokens(tokenizer.part("special_cases"), FASTAI_V1),
        labels=_v1_labels(data, root.part("loss_func")),
        pooling=_pooling(model, root.work),
    )


def _model(root: Fact) -> Record:
    model = root.part("model").value
    if not isinstance(model, Record):
        raise ForeignModelError(f"{root.work.source}: its model is {described(model)}, expected a torch module")
    return model


def _control_tokens(fact: Fact, cleaning: str) -> tuple[str, ...]:
    """Return the words that the tokenizer never splits. Defaults to those of a version of fastai."""
    return tuple(fact.texts(most=_MOST_PARTS)) or FASTAI_CONTROL_TOKENS[cleaning]


def _v1_labels(data: Fact, loss: Fact) -> list[str]:
    source = data.work.source
    processors = {processor.class_name: processor for processor in data.part("y_proc").records(_MOST_PARTS)}
    if "MultiCategoryProcessor" in processors:
        raise ForeignModelError(
            f"{source} is a multi-label classifier, expected one label per text: it can't be imported"
        )
    if "CategoryProcessor" not in processors:
        if data.part("y_cls").class_name == "FloatList":
            raise ForeignModelError(f"{source} is a regression model, expected a classifier: it can't be imported")
        return []
    _require_softmax(loss)
    return processors["CategoryProcessor"].part("classes").labels(most=_MOST_LABELS, longest=LONGEST_LABEL)


def _from_v2_export(root: Fact) -> LearnerFacts:
    source = root.work.source
    model, pipelines = _model(root), _v2_pipelines(root)
    first = pipelines[0]
    by_class = {transform.class_name: transform for transform in first}
    for name in ("Tokenizer", "Numericalize"):
        if name not in by_class:
            raise ForeignModelError(f"{source} is not a text model: its pipeline has no {name}")
    tokenizer, numericalize = by_class["Tokenizer"], by_class["Numericalize"]
    place = [transform.class_name for transform in first].index("Tokenizer")
    is_backward = False
    for transform in first[place + 1 :]:
        if "reverse_text" in {name.name for name in _names(transform)}:
            is_backward = True
        elif transform.class_name != "Numericalize":
            raise ForeignModelError(
                f"{source} changes its ids with {transform.class_name}, expected only Numericalize and reverse_text"
            )
    ends = _v2_rules(tokenizer.part("rules"))
    vocabulary, known = _vocabulary(numericalize.part("vocab")), numericalize.part("o2i").value
    if isinstance(known, dict) and _FILLER not in known:
        vocabulary = without_fillers(vocabulary)
    tok = tokenizer.part("tok")
    if tok.class_name not in ("SpacyTokenizer", "WordTokenizer"):
        raise ForeignModelError(
            f"{source} uses the tokenizer {tok.class_name}, expected SpacyTokenizer: other tokenizers can't be imported"
        )
    language, tables = _spacy_facts(tok.part("pipe"))
    labels, label_column = _v2_labels(pipelines[1:], root.part("loss_func"))
    return LearnerFacts(
        "fastai 2",
        _module_state(model, root.work),
        vocabulary=vocabulary,
        cleaning=FASTAI_V2,
        ends=ends,
        language=language,
        control_tokens=_control_tokens(tok.part("special_toks"), FASTAI_V2),
        tables=tables,
        labels=labels,
        direction=Direction.BACKWARD if is_backward else Direction.FORWARD,
        text_column=_column(first),
        label_column=label_column,
        remarks=_own_functions(first[:place]),
        pooling=_pooling(model, root.work),
    )


def _v2_pipelines(root: Fact) -> list[list[Fact]]:
    """Return the transforms of each of the dataset's pipelines, in order: at least one pipeline."""
    source = root.work.source
    loaders = root.part("dls").part("loaders").parts(_MOST_PARTS)
    if not loaders:
        raise ForeignModelError(
            f"{source} contains no data loaders, which describe the tokenizer: export the learner with its data"
        )
    dataset = loaders[0].part("dataset")
    pipelines = [lists.part("tfms").part("fs").records(_MOST_PARTS) for lists in dataset.part("tls").parts(_MOST_PARTS)]
    if not pipelines:
        raise ForeignModelError(f"{source} has no pipeline from texts to ids, expected an export of a text learner")
    return pipelines


def _spacy_facts(pipe: Fact) -> tuple[str | None, WordTables | None]:
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


def _v2_rules(rules: Fact) -> bool:
    """Return whether texts end with ``xxeos``. Refuse rules other than fastai v2's own."""
    source, found, ends = rules.work.source, [], False
    for rule in rules.parts(_MOST_PARTS):
        record = rule.value
        if not isinstance(record, Record) or record.name != "functools.partial":
            found.append(rule)
            continue
        state = record.state[2] if isinstance(record.state, tuple) and len(record.state) > 2 else {}
        function = Fact(record.arguments[0] if record.arguments else None, rules.name, rules.work)
        options = Fact(state, f"the options of {function.class_name}", rules.work)
        if function.class_name != "lowercase" or not isinstance(state, dict) or state.keys() - {"add_eos", "add_bos"}:
            raise ForeignModelError(
                f"{source} cleans its texts with {function.class_name} and unknown options, expected fastai's own rules"
            )
        if not options.part("add_bos").flag(default=True):
            raise ForeignModelError(f"{source} has texts without xxbos (add_bos=False), which can't be imported")
        ends = options.part("add_eos").flag(default=False)
        found.append(function)
    _require_rules(found, _V2_RULES, "rules", source)
    return ends


def _v2_labels(pipelines: Sequence[list[Fact]], loss: Fact) -> tuple[list[str], str | None]:
    source = loss.work.source
    for transforms in pipelines:
        by_class = {transform.class_name: transform for transform in transforms}
        if "MultiCategorize" in by_class or "OneHotEncode" in by_class or "EncodedMultiCategorize" in by_class:
            raise ForeignModelError(
                f"{source} is a multi-label classifier, expected one label per text: it can't be imported"
            )
        if "RegressionSetup" in by_class:
            raise ForeignModelError(f"{source} is a regression model, expected a classifier: it can't be imported")
        if "Categorize" in by_class:
            _require_softmax(loss)
            labels = by_class["Categorize"].part("vocab").labels(most=_MOST_LABELS, longest=LONGEST_LABEL)
            return labels, _column(transforms)
    return [], None


def _pooling(model: Record, work: Work) -> FastaiPooling | None:
    """Return the part of a text that a classifier's sentence encoder pools, or None if there is no such encoder."""
    for record in work.everything_below(model):
        kind = class_name(record)
        if kind not in ("SentenceEncoder", "MultiBatchEncoder") or not isinstance(record, Record):
            continue
        if not isinstance(record.state, dict):
            continue
        encoder = Fact(record, kind, work)
        window, longest = encoder.part("bptt").integer(1, _LARGEST_WINDOW), encoder.part("max_len")
        tokens = None if longest.value is None else longest.integer(1, _LONGEST_TAIL)
        is_version_1 = kind == "MultiBatchEncoder"
        # v1 pools the windows that begin *after* the position max_len tokens before the end. v2 also pools a window
        # that begins there.
        tail = tokens - 1 if tokens is not None and is_version_1 else tokens
        if tail is not None and tail < window:
            raise ForeignModelError(
                f"{work.source} pools max_len={tokens} tokens in windows of bptt={window}, expected at least one window"
            )
        return FastaiPooling(window_tokens=window, tail_tokens=tail, last_skips_padding=not is_version_1)
    return None


def _module_state(module: Record, work: Work) -> dict[str, object]:
    """Return the arrays of a module and its submodules by name, like ``state_dict``."""
    found: dict[str, object] = {}
    waiting: list[tuple[str, object, int]] = [("", module, 0)]
    visited = 0
    while waiting:
        before, record, depth = waiting.pop()
        visited += 1
        if not isinstance(record, Record) or not isinstance(record.state, dict) or depth > _DEEPEST_MODULE:
            continue
        for part in ("_parameters", "_buffers", "_modules"):
            content = record.state.get(part)
            if not isinstance(content, dict):
                continue
            work.charge(len(content))
            for key, value in content.items():
                name = f"{before}{key}" if isinstance(key, str) and len(key) <= LONGEST_NAME else ""
                if not _is_name(name):
                    raise Fact(key, f"a name in {part} of {before or 'the model'}", work).refusal("a short name")
                if part == "_modules":
                    waiting.append((f"{name}.", value, depth + 1))
                elif isinstance(value, np.ndarray):
                    found[name] = value
        if max(len(found), len(waiting), visited) > _MOST_TENSORS:
            raise ForeignModelError(
                f"{work.source} has more than {_MOST_TENSORS} tensors or modules, expected an AWD-LSTM"
            )
    return found


def _is_name(name: str) -> bool:
    """Return whether a text can be the name of a tensor: it is short and can be written to a file and a terminal."""
    return 0 < len(name) <= LONGEST_NAME and name.isprintable() and is_encodable(name)


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


def _require_rules(rules: Sequence[Fact], expected: Sequence[str], what: str, source: str) -> None:
    found = [rule.class_name for rule in rules]
    if found != list(expected):
        listed = ", ".join(found[: 2 * len(expected)]) or "none"
        raise ForeignModelError(
            f"{source} has the {what} {listed}, expected fastai's own ({', '.join(expected)}): "
            "models with other cleaning rules can't be imported"
        )


def _require_softmax(loss: Fact) -> None:
    names = {loss.class_name}
    for _ in range(4):  # v1's FlattenedLoss contains the loss
        if isinstance(loss.value, Record) and isinstance(loss.value.state, dict) and "func" in loss.value.state:
            loss = loss.part("func")
            names.add(loss.class_name)
    if not names & _SOFTMAX_LOSSES:
        raise ForeignModelError(
            f"{loss.work.source} was trained with the loss {' of '.join(sorted(names))}, expected a loss whose "
            "probabilities are a softmax, such as cross entropy"
        )


def _column(transforms: Sequence[Fact]) -> str | None:
    for transform in transforms:
        if transform.class_name == "ColReader":
            columns = transform.part("cols").parts(_MOST_PARTS) or [transform.part("cols")]
            name = columns[0].value
            return name if len(columns) == 1 and isinstance(name, str) and _is_name(name) else None
    return None


def _own_functions(transforms: Sequence[Fact]) -> list[str]:
    """Return a remark if the author of the learner wrote functions that it calls, as far as the file records them."""
    own: list[str] = []
    for transform in transforms:
        records = list(transform.work.everything_below(transform.value))
        named = sorted({r.path for r in records if isinstance(r, GlobalName) and r.module == "__main__"})
        if not named and any("_make_function" in r.name or "_fill_function" in r.name for r in records):
            named = ["a lambda"]
        own += named
    if not own:
        return []
    return [
        f"{transforms[0].work.source}: before tokenization the learner calls its own function "
        f"{shown(', '.join(own[:_MOST_REPORTED]))}, which is not imported. Pass texts to the bundle as this function "
        "returns them."
    ]


def _names(fact: Fact) -> list[GlobalName]:
    return [found for found in fact.work.everything_below(fact.value) if isinstance(found, GlobalName)]
