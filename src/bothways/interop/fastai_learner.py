"""Extract what a fastai file records of its model: weights, vocabulary, labels, pooling and the direction.

Input: the inert values that ``torch_file`` read. Output: ``LearnerFacts``. Nothing is executed. What is not understood
is refused or reported in a remark, never guessed.
"""

from __future__ import annotations

from bothways.errors import ForeignModelError
from bothways.interop.facts import Fact, Work, described
from bothways.interop.fastai_modules import MOST_TENSORS, is_name, match_model
from bothways.interop.fastai_v1 import from_v1_export
from bothways.interop.fastai_v2 import from_v2_export
from bothways.interop.learner_facts import LearnerFacts, Requested
from bothways.interop.pickle_reader import Record


def learner_facts(value: object, source: str, requested: Requested | None = None) -> LearnerFacts:
    """Return what a file records of its model.

    Args:
        value: The value that ``torch_file.read_foreign_file`` returned.
        source: Name of the file in error messages.
        requested: What the caller requests where the file leaves a choice.

    Raises:
        ForeignModelError: The value is not a fastai model, is of a kind that is not supported, or has a field with a
            value that can't be true. The message names the field.
    """
    root, requested = Fact(value, "", Work.on(value, source)), requested or Requested()
    if isinstance(value, dict) and {"model", "data", "cls"} <= value.keys():
        return from_v1_export(root, requested)
    if isinstance(value, Record) and isinstance(value.state, dict) and {"model", "dls"} <= value.state.keys():
        return from_v2_export(root, requested)
    if isinstance(value, dict) and isinstance(value.get("model"), dict):
        value = value["model"]  # learn.save stores the optimizer next to the model
    if isinstance(value, Record) and isinstance(value.state, dict) and "_modules" in value.state:
        model = match_model(Fact(value, "the model", root.work))
        return LearnerFacts("fastai", model.state, pooling=model.pooling)
    if isinstance(value, dict) and value and all(isinstance(name, str) for name in value):
        if len(value) > MOST_TENSORS or any(not is_name(name) for name in value):
            raise Fact(value, "", root.work).refusal(f"at most {MOST_TENSORS} tensors with short names")
        return LearnerFacts("fastai", value)
    raise ForeignModelError(
        f"{source} contains {described(value)}, expected a model: an export of fastai, or weights that learn.save or "
        "save_encoder wrote"
    )
