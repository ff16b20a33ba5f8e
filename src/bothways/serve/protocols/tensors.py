"""The inputs and outputs of models as tensors, for the Open Inference Protocol over HTTP and gRPC.

There is one input, ``text`` (BYTES, [n] or [n, 1]). For a model with several text columns there is one such input per
column, under the column's name and in any order. The outputs, with C labels or targets:

- single-label: ``label`` (BYTES, [n]) and ``probabilities`` (FP64, [n, C], bit-identical to ``predict_proba``).
- multi-label: ``labels`` (BYTES, [n], a JSON list of the chosen labels each), ``chosen`` (BOOL, [n, C]) and
  ``probabilities``. On request also ``label``, the most probable one.
- regression: ``value`` (FP64, [n], or [n, C] for several targets, bit-identical to ``predict``).

If abstention was calibrated, also ``abstained`` (BYTES, [n], the reason, empty if the model answers) and, for
single-label, ``label_set`` (BYTES, [n], a JSON list each).

On request there are also ``forward``, ``backward`` and ``linear``, with the datatype and shape of ``probabilities`` or
``value``. Where early exit skipped a direction, its numbers are NaN, which is null in JSON. ``probabilities`` with the
parameter ``classification`` (k) are the k most probable labels: BYTES, [n, k], ``probability:position:label`` each, as
in Triton.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bothways import strict_json
from bothways.bundle.parity import ENSEMBLE
from bothways.errors import RequestInvalid, quoted
from bothways.runtime.classifier import Classifier
from bothways.serve.answers import Answer, Classified
from bothways.serve.protocols.choices import Choices, ranked
from bothways.serve.protocols.protocol import all_classified, matching
from bothways.tasks.labels import label_text
from bothways.tasks.task import Task

INPUT = "text"
LABEL, LABELS, CHOSEN, PROBABILITIES, VALUE = "label", "labels", "chosen", "probabilities", "value"
ABSTAINED, LABEL_SET = "abstained", "label_set"
CLASSIFICATION = "classification"
EXTENSIONS = ("binary_tensor_data", CLASSIFICATION, "model_repository", "model_configuration", "statistics")
PLATFORM = "bothways_ulmfit"
_BY_LABEL, _MOST_VALUES = "thresholds", 100_000
_CHOICES = ("threshold", _BY_LABEL, "top_k")
Datatype = Literal["BYTES", "BOOL", "FP64"]


@dataclass(frozen=True)
class Output:
    """A requested output.

    Attributes:
        in_binary: Whether it is sent as a binary tensor.
        classification: The number of labels to return instead of all probabilities. None for the probabilities.
    """

    in_binary: bool = False
    classification: int | None = None


@dataclass(frozen=True)
class Wanted:
    """What a request wants in its reply.

    Attributes:
        id: The id of the request, to be repeated in the reply.
        outputs: The outputs by name. None for the default ones.
        in_binary: Whether the default outputs are sent as binary tensors.
        choices: The thresholds.
    """

    id: str | None
    outputs: Mapping[str, Output] | None
    in_binary: bool = False
    choices: Choices = field(default_factory=Choices)


@dataclass(frozen=True, eq=False)
class Tensor:
    """An output of a model for all texts of a request.

    Attributes:
        name: Its name.
        datatype: The type of its elements.
        shape: Its shape. The first size is the number of texts.
        data: The elements in row-major order.
        in_binary: Whether it is sent as a binary tensor.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    data: Sequence[str] | NDArray[np.float64] | NDArray[np.bool_]
    in_binary: bool

    @property
    def raw(self) -> bytes:
        """The elements as raw bytes: little-endian, and a string as its length in 4 bytes followed by UTF-8."""
        if isinstance(self.data, np.ndarray):
            return self.data.astype("<f8" if self.datatype == "FP64" else "?").tobytes()
        return b"".join(map(binary_element, self.data))


def choices_in(parameters: Mapping[str, object]) -> Choices:
    """Return the thresholds in the parameters of a request. Other parameters are ignored.

    ``thresholds`` may be a string with a JSON object: parameters of gRPC are never objects.

    Raises:
        RequestInvalid: A threshold is invalid, or ``top_k`` is used instead of ``classification``.
    """
    found = {key: parameters[key] for key in _CHOICES if key in parameters}
    if isinstance(by_label := found.get(_BY_LABEL), str):
        try:
            found[_BY_LABEL] = strict_json.parse(by_label.encode("utf-8", "surrogatepass"), most_values=_MOST_VALUES)
        except ValueError as error:
            raise RequestInvalid(
                f'parameters.{_BY_LABEL} is not a JSON object: {error}, expected for example {{"plot": 0.3}}'
            ) from None
    choices = matching(found, Choices, "parameters")
    if choices.top_k is not None:
        raise RequestInvalid(f"top_k is not supported: set {CLASSIFICATION} in the parameters of {PROBABILITIES}")
    return choices


def output_in(name: str, parameters: Mapping[str, object], *, in_binary: bool) -> Output:
    """Return a requested output.

    Raises:
        RequestInvalid: ``classification`` is not a positive integer.
    """
    count = parameters.get(CLASSIFICATION)
    if count is None or count == 0:
        return Output(in_binary)
    if type(count) is not int or count < 0 or name != PROBABILITIES:
        raise RequestInvalid(
            f"{CLASSIFICATION} is {quoted(count, 40)} for the output {quoted(name, 40)}, expected a number of labels "
            f"for the output {PROBABILITIES}"
        )
    return Output(in_binary, count)


def input_names(model: Classifier) -> Sequence[str]:
    """Return the names of a model's inputs."""
    return model.text_columns if len(model.text_columns) > 1 else (INPUT,)


def default_outputs(model: Classifier) -> tuple[str, ...]:
    """Return the names of the outputs that a reply has unless others are requested."""
    if not model.labels:
        return (VALUE,)
    found = (LABEL, PROBABILITIES) if model.task.thresholds is None else (LABELS, CHOSEN, PROBABILITIES)
    if model.abstention is None:
        return found
    return (*found, ABSTAINED, *([LABEL_SET] if model.abstention.label_sets is not None else []))


def known_outputs(model: Classifier) -> tuple[str, ...]:
    """Return the names of all outputs, the default ones first."""
    more = () if model.task.thresholds is None else (LABEL,)
    return (*default_outputs(model), *more, *model.scored_by)


def wanted_outputs(wanted: Wanted, model: Classifier) -> Mapping[str, Output]:
    """Return the outputs of a reply by name.

    Raises:
        RequestInvalid: The model has no output of a requested name, or no thresholds.
    """
    wanted.choices.task_of(model)
    if wanted.outputs is None:
        return dict.fromkeys(default_outputs(model), Output(wanted.in_binary))
    known = known_outputs(model)
    if (unknown := next((output for output in wanted.outputs if output not in known), None)) is not None:
        raise RequestInvalid(f"output not found: {quoted(unknown, 40)}. Available outputs: {', '.join(known)}")
    return wanted.outputs


def shape_of(name: str, model: Classifier) -> tuple[Datatype, tuple[int, ...]]:
    """Return the datatype of an output, and its shape per text."""
    if name in (LABEL, LABELS, ABSTAINED, LABEL_SET):
        return "BYTES", ()
    columns = len(model.labels or model.targets)
    return "BOOL" if name == CHOSEN else "FP64", (columns,) if columns else ()


def output_tensors(wanted: Wanted, model: Classifier, answer: Answer) -> Iterator[Tensor]:
    """Yield the outputs of a reply.

    Raises:
        RequestInvalid: A text can't be classified, or the model has no such output.
    """
    found, task = all_classified(answer), wanted.choices.task_of(model)
    for name, output in wanted_outputs(wanted, model).items():
        datatype, shape = shape_of(name, model)
        if output.classification is not None:
            best = [line for each in found for line in _best(each, task, output.classification)]
            yield Tensor(name, "BYTES", (len(found), min(output.classification, task.outputs)), best, output.in_binary)
        else:
            data = _elements(name, found, model, task)
            yield Tensor(name, datatype, (len(found), *shape), data, output.in_binary)


def binary_element(text: str) -> bytes:
    """Return a string as an element of a binary tensor."""
    data = text.encode("utf-8")
    return struct.pack("<I", len(data)) + data


def _elements(
    name: str, found: Sequence[Classified], model: Classifier, task: Task
) -> Sequence[str] | NDArray[np.float64] | NDArray[np.bool_]:
    by_name: dict[str, Callable[[Classified], object]] = {
        LABEL: lambda each: "" if each.prediction.label is None else label_text(each.prediction.label),
        LABELS: lambda each: strict_json.dump(list(task.decide(each.prediction.scores[ENSEMBLE]).chosen)),
        ABSTAINED: lambda each: each.prediction.abstained or "",
        LABEL_SET: lambda each: strict_json.dump(list(each.prediction.label_set or ())),
    }
    if name in by_name:
        return [str(by_name[name](each)) for each in found]
    if name == CHOSEN:
        rows = [set(task.decide(each.prediction.scores[ENSEMBLE]).chosen) for each in found]
        return np.array([[label in row for label in task.label_values] for row in rows], dtype=np.bool_).ravel()
    key, unread = (name if name in model.scored_by else ENSEMBLE), np.full(task.outputs, np.nan)
    return np.array([each.prediction.scores.get(key, unread) for each in found], dtype=np.float64).ravel()


def _best(found: Classified, task: Task, count: int) -> list[str]:
    scores = found.prediction.scores[ENSEMBLE]
    return [f"{float(scores[n])}:{n}:{task.labels[n]}" for n in ranked(scores)[:count]]
