"""Extract what an export of fastai v1 records of its model.

Input: the inert value of the file. Output: ``LearnerFacts``. Such a file does not record the direction.
"""

from __future__ import annotations

from bothways.errors import ForeignModelError
from bothways.interop.facts import LONGEST_NAME, Fact, described
from bothways.interop.fastai_modules import module_state, pooling_of
from bothways.interop.learner_facts import (
    MOST_LABELS,
    MOST_PARTS,
    LearnerFacts,
    control_tokens,
    model_of_export,
    require_rules,
    require_softmax,
    words_of,
)
from bothways.tasks.labels import LONGEST_LABEL
from bothways.text.fastai_cleaning import FASTAI_V1

_RULES = ("fix_html", "replace_rep", "replace_wrep", "spec_add_spaces", "rm_useless_spaces")
_POST_RULES = ("replace_all_caps", "deal_caps")


def from_v1_export(root: Fact) -> LearnerFacts:
    """Return what an export of fastai v1 records of its model.

    Raises:
        ForeignModelError: The model is of a kind that is not supported, or a field has a value that can't be true.
    """
    source, data = root.work.source, root.part("data")
    if not isinstance(data.value, dict):
        raise ForeignModelError(f"{source}: its data is {described(data.value)}, expected the processors of fastai v1")
    processors = {processor.class_name: processor for processor in data.part("x_proc").records(MOST_PARTS)}
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
    require_rules(tokenizer.part("pre_rules").parts(MOST_PARTS), _RULES, "pre_rules", source)
    require_rules(tokenizer.part("post_rules").parts(MOST_PARTS), _POST_RULES, "post_rules", source)
    if tokenizer.part("tok_func").class_name != "SpacyTokenizer":
        raise ForeignModelError(
            f"{source} uses the tokenizer {tokenizer.part('tok_func').class_name}, expected SpacyTokenizer"
        )
    if not tokenize.part("include_bos").flag(default=True):
        raise ForeignModelError(f"{source} has texts without xxbos (include_bos=False), which can't be imported")
    model, language = model_of_export(root), tokenizer.part("lang")
    return LearnerFacts(
        "fastai 1",
        module_state(model, root.work),
        vocabulary=words_of(numericalize.part("vocab")),
        cleaning=FASTAI_V1,
        marks_field=tokenize.part("mark_fields").flag(default=False),
        ends=tokenize.part("include_eos").flag(default=False),
        language="en" if language.is_missing else language.text(longest=LONGEST_NAME),
        control_tokens=control_tokens(tokenizer.part("special_cases"), FASTAI_V1),
        labels=_v1_labels(data, root.part("loss_func")),
        pooling=pooling_of(model, root.work),
    )


def _v1_labels(data: Fact, loss: Fact) -> list[str]:
    source = data.work.source
    processors = {processor.class_name: processor for processor in data.part("y_proc").records(MOST_PARTS)}
    if "MultiCategoryProcessor" in processors:
        raise ForeignModelError(
            f"{source} is a multi-label classifier, expected one label per text: it can't be imported"
        )
    if "CategoryProcessor" not in processors:
        if data.part("y_cls").class_name == "FloatList":
            raise ForeignModelError(f"{source} is a regression model, expected a classifier: it can't be imported")
        return []
    require_softmax(loss)
    return processors["CategoryProcessor"].part("classes").labels(most=MOST_LABELS, longest=LONGEST_LABEL)
