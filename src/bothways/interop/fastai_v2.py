"""Extract what an export of fastai v2 records of its model.

Input: the inert value of the file. Output: ``LearnerFacts``. The pipeline of a backward model ends with
``reverse_text``.
"""

from __future__ import annotations

from collections.abc import Sequence

from bothways.errors import ForeignModelError, shown
from bothways.interop.facts import Fact
from bothways.interop.fastai_modules import is_name, module_state, pooling_of
from bothways.interop.learner_facts import (
    FILLER,
    MOST_LABELS,
    MOST_PARTS,
    LearnerFacts,
    control_tokens,
    model_of_export,
    require_rules,
    require_softmax,
    without_fillers,
    words_of,
)
from bothways.interop.pickle_reader import GlobalName, Record
from bothways.interop.pickled_spacy import pickled_spacy
from bothways.tasks.labels import LONGEST_LABEL
from bothways.text.fastai_cleaning import FASTAI_V2
from bothways.text.reading import Direction

_RULES = (
    "fix_html",
    "replace_rep",
    "replace_wrep",
    "spec_add_spaces",
    "rm_useless_spaces",
    "replace_all_caps",
    "replace_maj",
    "lowercase",
)
_MOST_REPORTED = 5


def from_v2_export(root: Fact) -> LearnerFacts:
    """Return what an export of fastai v2 records of its model.

    Raises:
        ForeignModelError: The model is of a kind that is not supported, or a field has a value that can't be true.
    """
    source = root.work.source
    model, pipelines = model_of_export(root), _v2_pipelines(root)
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
    vocabulary, known = words_of(numericalize.part("vocab")), numericalize.part("o2i").value
    if isinstance(known, dict) and FILLER not in known:
        vocabulary = without_fillers(vocabulary)
    tok = tokenizer.part("tok")
    if tok.class_name not in ("SpacyTokenizer", "WordTokenizer"):
        raise ForeignModelError(
            f"{source} uses the tokenizer {tok.class_name}, expected SpacyTokenizer: other tokenizers can't be imported"
        )
    language, tables = pickled_spacy(tok.part("pipe"))
    labels, label_column = _v2_labels(pipelines[1:], root.part("loss_func"))
    return LearnerFacts(
        "fastai 2",
        module_state(model, root.work),
        vocabulary=vocabulary,
        cleaning=FASTAI_V2,
        ends=ends,
        language=language,
        control_tokens=control_tokens(tok.part("special_toks"), FASTAI_V2),
        tables=tables,
        labels=labels,
        direction=Direction.BACKWARD if is_backward else Direction.FORWARD,
        text_column=_column(first),
        label_column=label_column,
        remarks=_own_functions(first[:place]),
        pooling=pooling_of(model, root.work),
    )


def _v2_pipelines(root: Fact) -> list[list[Fact]]:
    """Return the transforms of each of the dataset's pipelines, in order: at least one pipeline."""
    source = root.work.source
    loaders = root.part("dls").part("loaders").parts(MOST_PARTS)
    if not loaders:
        raise ForeignModelError(
            f"{source} contains no data loaders, which describe the tokenizer: export the learner with its data"
        )
    dataset = loaders[0].part("dataset")
    pipelines = [lists.part("tfms").part("fs").records(MOST_PARTS) for lists in dataset.part("tls").parts(MOST_PARTS)]
    if not pipelines:
        raise ForeignModelError(f"{source} has no pipeline from texts to ids, expected an export of a text learner")
    return pipelines


def _v2_rules(rules: Fact) -> bool:
    """Return whether texts end with ``xxeos``. Refuse rules other than fastai v2's own."""
    source, found, ends = rules.work.source, [], False
    for rule in rules.parts(MOST_PARTS):
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
    require_rules(found, _RULES, "rules", source)
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
            require_softmax(loss)
            labels = by_class["Categorize"].part("vocab").labels(most=MOST_LABELS, longest=LONGEST_LABEL)
            return labels, _column(transforms)
    return [], None


def _column(transforms: Sequence[Fact]) -> str | None:
    for transform in transforms:
        if transform.class_name == "ColReader":
            columns = transform.part("cols").parts(MOST_PARTS) or [transform.part("cols")]
            name = columns[0].value
            return name if len(columns) == 1 and isinstance(name, str) and is_name(name) else None
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
