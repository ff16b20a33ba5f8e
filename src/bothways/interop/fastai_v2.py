"""Extract what an export of fastai v2 records of its model.

Input: the inert value of the file. Output: ``LearnerFacts``. ``learn.predict`` gives a text to the transforms of the
validation set, beginning with the first that takes a text, then to the transforms of its loader, then to the model. So
these are the transforms that must be known. The pipeline of a backward model ends with ``reverse_text``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bothways.errors import ForeignModelError, shown
from bothways.interop.facts import Fact
from bothways.interop.fastai_modules import is_name, match_model
from bothways.interop.fastai_rules import read_rules
from bothways.interop.fastai_tasks import task_of_v2
from bothways.interop.known_objects import Known, called, is_code, path_of, require, state_of
from bothways.interop.learner_facts import (
    MOST_PARTS,
    LearnerFacts,
    Requested,
    control_tokens,
    words_of,
)
from bothways.interop.pickle_reader import GlobalName, Record
from bothways.interop.pickled_spacy import pickled_spacy
from bothways.interop.sentencepiece_file import pickled_piece_model
from bothways.text.fastai_cleaning import DEFAULT_RULES, FASTAI_V2, RULES
from bothways.text.piece_model import PieceModel
from bothways.text.reading import Direction
from bothways.text.word_rules import WordTables

_CORE, _DATA, _TRANSFORMS = "fastai.text.core", "fastai.text.data", "fastai.data.transforms"
_MOST_REPORTED = 5

_LEARNERS: Final = ("fastai.text.learner.TextLearner", "fastai.text.learner.LMLearner", "fastai.learner.Learner")
_PREDICTS: Final = frozenset(
    {"predict", "get_preds", "validate", "all_batches", "one_batch", "added_cbs", "validation_context", "ordered_cbs"}
    | {"_do_epoch_validate", "_do_one_batch", "_with_events", "_call_one", "_split", "_set_device", "no_logging"}
)
"""Methods of a learner that take part in a prediction, and that an attribute could replace."""

_LOADER = Known(
    parts=frozenset(
        {"after_item", "before_batch", "after_batch", "dataset", "fake_l", "sort_func", "items", "lens", "chunks"}
        | {"rng", "_device", "device", "multiprocessing_context", "it", "wgts"}
    )
)
_LISTS = frozenset({"dataloaders", "tls", "tfms", "items", "splits", "types", "_dl_type", "_dbunch_type"})
_CONTAINERS: Final = {
    "fastai.data.core.DataLoaders": Known(parts=frozenset({"_device", "device"})),
    f"{_DATA}.TextDataLoaders": Known(parts=frozenset({"_device", "device"})),
}
_LOADERS: Final = {
    f"{_DATA}.SortedDL": _LOADER,
    f"{_DATA}.LMDataLoader": _LOADER,
    "fastai.data.core.TfmdDL": _LOADER,
}
_DATASETS: Final = {
    "fastai.data.core.Datasets": Known({"n_inp": (1,)}, _LISTS),
    "fastai.data.core.TfmdLists": Known(parts=_LISTS),
}
_ITEM_LISTS: Final = {"fastai.data.core.TfmdLists": Known(parts=_LISTS)}
_PIPELINES: Final = ("fasttransform.transform.Pipeline", "fastcore.transform.Pipeline")
_FUNCTION_TRANSFORMS: Final = ("fasttransform.transform.Transform", "fastcore.transform.Transform")
"""The class of a transform that was made of a function. fastai 2.8 has its transforms in another library."""

_OWN_PARTS = frozenset({"__signature__", "input_types"})
_TOKENIZER: Final = {
    f"{_CORE}.Tokenizer": Known({"split_idx": (None,)}, frozenset({"tok", "rules", "counter", "lengths", *_OWN_PARTS}))
}
_NUMERICALIZE: Final = {
    f"{_DATA}.Numericalize": Known({"split_idx": (None,)}, frozenset({"vocab", "o2i", "special_toks", *_OWN_PARTS}))
}
_SPLITTERS: Final = {
    f"{_CORE}.SpacyTokenizer": Known(parts=frozenset({"pipe"})),
    f"{_CORE}.BaseTokenizer": Known(),
    f"{_CORE}.SentencePieceTokenizer": Known(parts=frozenset({"tok", "sp_model", "cache_dir"})),
}
_STEPS: Final = {
    "after_item": {f"{_TRANSFORMS}.ToTensor": Known(parts=_OWN_PARTS)},
    "before_batch": {f"{_DATA}.Pad_Chunk": Known(parts=_OWN_PARTS), f"{_DATA}.Pad_Input": Known(parts=_OWN_PARTS)},
    "after_batch": {},
}
"""The transforms that a loader may have at each stage. For a single text, there is nothing to pad."""
_STEP_FUNCTIONS: Final = {
    "after_item": (),
    "before_batch": (f"{_DATA}.pad_input_chunk", f"{_DATA}.pad_input"),
    "after_batch": (),
}
_PADDING_OPTIONS: Final = frozenset({"pad_idx", "pad_fields", "pad_first", "seq_len", "pad_len", "n_inp"})
_NOTHING: Final = ("fastcore.imports.noop", "fastcore.basics.noop")
_REVERSE: Final = f"{_DATA}.reverse_text"
_TEXT_TYPES: Final = frozenset(
    {("builtins", "str"), ("__builtin__", "unicode"), ("builtins", "object"), ("__builtin__", "object")}
)
"""Types of which a text is an instance. ``__builtin__.str`` is the type of bytes."""

_CALLBACKS: Final = frozenset(
    f"fastai.{name}"
    for name in (
        "callback.azureml.AzureMLCallback",
        "callback.channelslast.ChannelsLast",
        "callback.comet.CometCallback",
        "callback.core.TrainEvalCallback",
        "callback.cutmix.CutMix",
        "callback.data.CollectDataCallback",
        "callback.data.CudaCallback",
        "callback.fp16.MixedPrecision",
        "callback.fp16.ModelToHalf",
        "callback.fp16.NativeMixedPrecision",
        "callback.fp16.NonNativeMixedPrecision",
        "callback.hook.ActivationStats",
        "callback.mixup.CutMix",
        "callback.mixup.MixUp",
        "callback.neptune.NeptuneCallback",
        "callback.progress.CSVLogger",
        "callback.progress.ProgressCallback",
        "callback.progress.ShowGraphCallback",
        "callback.rnn.ModelResetter",
        "callback.rnn.RNNCallback",
        "callback.rnn.RNNRegularizer",
        "callback.schedule.ParamScheduler",
        "callback.tensorboard.TensorBoardCallback",
        "callback.tensorboard.TensorBoardProjectorCallback",
        "callback.tracker.EarlyStoppingCallback",
        "callback.tracker.ReduceLROnPlateau",
        "callback.tracker.SaveModelCallback",
        "callback.tracker.TerminateOnNaNCallback",
        "callback.tracker.TrackerCallback",
        "callback.training.BnFreeze",
        "callback.training.GradientAccumulation",
        "callback.training.GradientClip",
        "callback.training.ShortEpochCallback",
        "callback.wandb.WandbCallback",
        "learner.CastToTensor",
        "learner.Recorder",
    )
)
"""fastai's callbacks that do nothing to a prediction that runs on a CPU."""


@dataclass(frozen=True)
class _Pipeline:
    """The transforms of one part of the dataset.

    Attributes:
        before: Transforms that ``learn.predict`` leaves out for a text.
        applied: Transforms that it applies, in order.
    """

    before: list[Fact]
    applied: list[Fact]


@dataclass(frozen=True)
class _Splitting:
    """How texts are split into words."""

    language: str | None = None
    tables: WordTables | None = None
    separator: str | None = None
    sentencepiece: PieceModel | None = None
    control_tokens: tuple[str, ...] | None = None


def from_v2_export(root: Fact, requested: Requested) -> LearnerFacts:
    """Return what an export of fastai v2 records of its model.

    Args:
        root: The fact of the whole file.
        requested: What the caller requests where the file leaves a choice.

    Raises:
        ForeignModelError: The model is of a kind that is not supported, or a field has a value that can't be true.
        ConfigError: Something is requested that the file records.
    """
    _check_learner(root)
    texts, targets = _pipelines(root)
    tokenizer, numericalize, is_backward = _text_steps(texts, root.work.source)
    rules = read_rules(tokenizer.part("rules"), _CORE, RULES[FASTAI_V2], requested=requested.rules)
    splitting = _splitting(tokenizer.part("tok"))
    reason = "splits texts without SentencePiece" if splitting.sentencepiece is None else "contains its own model"
    requested.refuse_sentencepiece(root.work.source, reason)
    model = match_model(Fact(root.part("model").value, "its model", root.work))
    transforms = [each for pipeline in targets for each in (*pipeline.before, *pipeline.applied)]
    task, remarks = task_of_v2(transforms, root, model.value_range, requested)
    return LearnerFacts(
        "fastai 2",
        model.state,
        vocabulary=_vocabulary(numericalize, splitting.separator or ""),
        cleaning=FASTAI_V2,
        rules=rules.unless(DEFAULT_RULES[FASTAI_V2]),
        begins=rules.begins,
        ends=rules.ends,
        language=splitting.language,
        control_tokens=splitting.control_tokens,
        tables=splitting.tables,
        separator=splitting.separator,
        sentencepiece=splitting.sentencepiece,
        task=task,
        direction=Direction.BACKWARD if is_backward else Direction.FORWARD,
        text_column=_column(texts.before),
        remarks=[*rules.remarks, *_own_functions(texts.before), *_joined_columns(tokenizer), *remarks],
        pooling=model.pooling,
    )


def _check_learner(root: Fact) -> None:
    """Refuse a learner that predicts in another way than fastai's."""
    source, path = root.work.source, path_of(root.value)
    if path not in _LEARNERS:
        raise ForeignModelError(f"{source}: its learner is {called(root.value)}, expected fastai's TextLearner")
    for name, value in state_of(root).items():
        if name in _PREDICTS and is_code(value):
            raise ForeignModelError(f"{source}: its learner has {called(value)} as its {name}, expected fastai's own")
    for callback in root.part("cbs").records(MOST_PARTS):
        advice = "remove it with learn.remove_cb and export the learner again"
        if path_of(callback.value) not in _CALLBACKS:
            raise ForeignModelError(
                f"{source} has the callback {called(callback.value)}, which may change predictions, expected only "
                f"fastai's own: {advice}"
            )
        for name, value in state_of(callback).items():
            if isinstance(name, str) and name.startswith(("before_", "after_")) and is_code(value):
                raise ForeignModelError(
                    f"{source}: its callback {called(callback.value)} has {called(value)} as its {shown(name)}, "
                    f"expected fastai's own: {advice}"
                )


def _pipelines(root: Fact) -> tuple[_Pipeline, list[_Pipeline]]:
    """Return the transforms of the texts, and those of the targets. Check the steps of the loader."""
    source, loaders = root.work.source, root.part("dls")
    require(loaders, _CONTAINERS, "its data loaders")
    found = loaders.part("loaders").records(MOST_PARTS)
    if not found:
        raise ForeignModelError(
            f"{source} contains no data loaders, which describe the tokenizer: export the learner with its data"
        )
    loader = found[min(1, len(found) - 1)]  # that of the validation set, with which fastai predicts
    require(loader, _LOADERS, "its data loader")
    for stage in _STEPS:
        _check_stage(loader.part(stage), stage)
    dataset = loader.part("dataset")
    is_single = require(dataset, _DATASETS, "its dataset").endswith(".TfmdLists")
    lists = [dataset] if is_single else dataset.part("tls").records(MOST_PARTS)
    if not lists:
        raise ForeignModelError(f"{source} has no pipeline from texts to ids, expected an export of a text learner")
    if len(lists) > 2:
        raise ForeignModelError(f"{source} has {len(lists) - 1} targets, expected at most one")
    texts, *targets = [_pipeline(each) for each in lists]
    return texts, targets


def _check_stage(pipeline: Fact, stage: str) -> None:
    for transform in _transforms(pipeline):
        if _is_for_training(transform) or path_of(transform.value) in _STEPS[stage]:
            if path_of(transform.value) in _STEPS[stage]:
                require(transform, _STEPS[stage], f"a transform in {stage}")
            continue
        functions = _functions(transform)
        if functions and all(_is_harmless(function, _STEP_FUNCTIONS[stage]) for function in functions):
            continue
        name = called((functions or [transform.value])[0])
        raise ForeignModelError(
            f"{pipeline.work.source} changes its texts with {name} in {stage}, expected only fastai's padding: remove "
            "it from the data loaders and export the learner again"
        )


def _is_harmless(function: object, known: Sequence[str]) -> bool:
    """Return whether a function does nothing to a single text."""
    if isinstance(function, Record) and path_of(function) == "functools.partial" and function.arguments:
        state = function.state
        options = state[2] if isinstance(state, tuple) and len(state) == 4 and state[1] == () else {"": None}
        if not isinstance(options, dict) or not options.keys() <= _PADDING_OPTIONS:
            return False
        function = function.arguments[0]
    return isinstance(function, GlobalName) and (path_of(function) in known or path_of(function) in _NOTHING)


def _pipeline(lists: Fact) -> _Pipeline:
    require(lists, _ITEM_LISTS, "its dataset")
    transforms = _transforms(lists.part("tfms"))
    start = next((i for i, kind in enumerate(lists.part("types").parts(MOST_PARTS)) if _takes_text(kind)), None)
    if start is None:  # without types, fastai can't predict. The tokenizer is then the first that takes a text
        start = next((i for i, each in enumerate(transforms) if path_of(each.value) in _TOKENIZER), len(transforms))
    return _Pipeline(transforms[:start], transforms[start:])


def _takes_text(kind: Fact) -> bool:
    kinds = [each.value for each in kind.parts(MOST_PARTS)] or [kind.value]
    return any(isinstance(each, GlobalName) and (each.module, each.name) in _TEXT_TYPES for each in kinds)


def _transforms(pipeline: Fact) -> list[Fact]:
    """Return the transforms of a pipeline in order. Empty if there is no pipeline."""
    if pipeline.is_missing:
        return []
    if path_of(pipeline.value) not in _PIPELINES:
        raise ForeignModelError(
            f"{pipeline.work.source}: {pipeline.name} is {called(pipeline.value)}, expected a Pipeline"
        )
    return pipeline.part("fs").records(MOST_PARTS)


def _is_for_training(transform: Fact) -> bool:
    """Return whether a transform does nothing but in training."""
    known = path_of(transform.value) in _FUNCTION_TRANSFORMS
    split = state_of(transform).get("split_idx")
    return known and type(split) is int and split == 0


def _functions(transform: Fact) -> list[object]:
    """Return the functions that a transform consists of. Empty if it is not made of functions."""
    if path_of(transform.value) not in _FUNCTION_TRANSFORMS:
        return []
    state = state_of(transform)
    return _dispatched(Fact(state.get("encodes"), "encodes", transform.work))


def _dispatched(encodes: Fact) -> list[object]:
    """Return the functions among which plum, or fastcore before it, chooses by the type of their argument."""
    path, state = path_of(encodes.value), state_of(encodes)
    if path.startswith("plum.") and path.endswith(".Function"):
        found = [state.get("_f")]
        for name in ("_pending", "_resolved"):
            registered = (each.parts(MOST_PARTS) for each in encodes.part(name).parts(MOST_PARTS))
            found += [parts[0].value for parts in registered if parts]
        return [each for each in found if each is not None]
    if path == "fastcore.dispatch.TypeDispatch":
        return [*_leaves(encodes.part("funcs")), *(each.value for each in encodes.part("bases").parts(MOST_PARTS))]
    return [] if encodes.is_missing else [encodes.value]


def _leaves(types: Fact) -> list[object]:
    """Return the functions of a dictionary by the type of the first argument, then of the second."""
    found: list[object] = []
    outer = types.part("d").value
    for inner in outer.values() if isinstance(outer, dict) else [outer]:
        deeper = state_of(Fact(inner, "", types.work)).get("d")
        types.work.charge(1)
        found += deeper.values() if isinstance(deeper, dict) else [inner]
    return found


def _text_steps(texts: _Pipeline, source: str) -> tuple[Fact, Fact, bool]:
    """Return the tokenizer, the vocabulary's transform, and whether the ids are reversed."""
    tokenizer = numericalize = None
    is_backward = False
    for transform in texts.applied:
        path, functions = path_of(transform.value), _functions(transform)
        if _is_for_training(transform) or (functions and all(_is_harmless(each, ()) for each in functions)):
            continue
        if tokenizer is None and path in _TOKENIZER:
            require(transform, _TOKENIZER, "its tokenizer")
            tokenizer = transform
        elif tokenizer is not None and numericalize is None and path in _NUMERICALIZE:
            require(transform, _NUMERICALIZE, "its vocabulary")
            numericalize = transform
        elif numericalize is not None and functions and all(path_of(each) == _REVERSE for each in functions):
            is_backward = not is_backward
        else:
            _refuse_step(transform, functions, tokenizer, numericalize)
    for step, name in ((tokenizer, "Tokenizer"), (numericalize, "Numericalize")):
        if step is None:
            raise ForeignModelError(f"{source} is not a text model: its pipeline has no {name}")
    assert tokenizer is not None
    assert numericalize is not None
    return tokenizer, numericalize, is_backward


def _refuse_step(
    transform: Fact, functions: Sequence[object], tokenizer: Fact | None, numericalize: Fact | None
) -> None:
    source, name = transform.work.source, called((list(functions) or [transform.value])[0])
    if numericalize is not None:
        raise ForeignModelError(f"{source} changes its ids with {name}, expected only fastai's reverse_text")
    if tokenizer is not None:
        raise ForeignModelError(f"{source} changes its words with {name}, expected fastai's Numericalize")
    raise ForeignModelError(
        f"{source} calls {name} on every text, expected fastai's Tokenizer as the first step: it can't be imported"
    )


def _splitting(tok: Fact) -> _Splitting:
    path = require(tok, _SPLITTERS, "its tokenizer")
    if path.endswith(".BaseTokenizer"):
        return _Splitting(separator=_separator(tok.part("split_char")))
    if path.endswith(".SentencePieceTokenizer"):
        return _Splitting(sentencepiece=pickled_piece_model(tok.part("tok")))
    language, tables = pickled_spacy(tok.part("pipe"))
    return _Splitting(language, tables, control_tokens=control_tokens(tok.part("special_toks"), FASTAI_V2))


def _separator(fact: Fact) -> str:
    """Return the separator of a BaseTokenizer. Empty for None, with which ``str.split`` splits at white space."""
    return "" if fact.value is None else fact.text(longest=100)


def _vocabulary(numericalize: Fact, filler: str) -> list[str]:
    """Return the word of each id. A word that the transform does not look up becomes a filler.

    fastai looks words up in ``o2i``, which has no fillers if fastai made the vocabulary.
    """
    words, known = words_of(numericalize.part("vocab")), numericalize.part("o2i").value
    if not isinstance(known, dict):
        return words
    numericalize.work.charge(len(known))
    last = {word: i for i, word in enumerate(words)}
    for word, i in last.items():
        found = known.get(word, 0)
        if type(found) is not int or found not in (0, i):
            raise Fact(found, f"{numericalize.name}.o2i[{shown(word, 40)}]", numericalize.work).refusal(f"{i}")
    unknown = [word for word, i in known.items() if type(i) is not int or (i and last.get(word) != i)]
    if unknown:
        raise Fact(unknown[0], f"a word of {numericalize.name}.o2i", numericalize.work).refusal(
            "a word of its vocabulary"
        )
    return [word if i == 0 or known.get(word, 0) else filler for i, word in enumerate(words)]


def _column(transforms: Sequence[Fact]) -> str | None:
    for transform in transforms:
        if path_of(transform.value) == f"{_TRANSFORMS}.ColReader":
            columns = transform.part("cols").parts(MOST_PARTS) or [transform.part("cols")]
            name = columns[0].value
            return name if len(columns) == 1 and isinstance(name, str) and is_name(name) else None
    return None


def _joined_columns(tokenizer: Fact) -> list[str]:
    """Return a remark if the learner joined several columns, which a text must then contain with their marks."""
    columns = tokenizer.part("text_cols").parts(MOST_PARTS)
    if len(columns) < 2:
        return []
    return [
        f"{tokenizer.work.source}: the learner read {len(columns)} columns as one text. learn.predict takes them as "
        "'xxfld 1 FIRST xxfld 2 SECOND', and so does the bundle"
    ]


def _own_functions(transforms: Sequence[Fact]) -> list[str]:
    """Return a remark if functions of the learner's author came before those that ``learn.predict`` applies."""
    own = [called(function) for transform in transforms for function in _functions(transform)]
    own += [called(transform.value) for transform in transforms if path_of(transform.value) not in _READERS]
    own = [name for name in dict.fromkeys(own) if name not in (*_NOTHING, *_FUNCTION_TRANSFORMS)]
    if not own:
        return []
    return [
        f"{transforms[0].work.source}: before tokenization the learner calls its own function "
        f"{', '.join(own[:_MOST_REPORTED])}, which is not imported, and which learn.predict does not call. Pass texts "
        "to the bundle as this function returns them."
    ]


_READERS: Final = frozenset(f"{_TRANSFORMS}.{name}" for name in ("ColReader", "ItemGetter", "AttrGetter"))
"""Transforms that read a text from a row."""
