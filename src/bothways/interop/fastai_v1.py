"""Extract what an export of fastai v1 records of its model.

Input: the inert value of the file. Output: ``LearnerFacts``. Such a file does not record the direction. It records the
classes of the learner, of its lists and of its callbacks, and the processors of its texts and labels in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bothways.errors import ForeignModelError, shown
from bothways.interop.facts import LONGEST_NAME, Fact, described
from bothways.interop.fastai_modules import FoundModel, match_model
from bothways.interop.fastai_rules import Rules, read_rules
from bothways.interop.fastai_tasks import task_of_v1
from bothways.interop.known_objects import Known, called, path_of, require
from bothways.interop.learner_facts import (
    MOST_PARTS,
    LearnerFacts,
    Requested,
    control_tokens,
    words_of,
)
from bothways.interop.pickle_reader import GlobalName
from bothways.text.fastai_cleaning import DEFAULT_POST_RULES, DEFAULT_RULES, FASTAI_V1, POST_RULES, RULES
from bothways.text.piece_model import PieceModel

_DATA, _TRANSFORM, _BLOCK = "fastai.text.data", "fastai.text.transform", "fastai.data_block"

_LEARNERS: Final = (
    "fastai.text.learner.RNNLearner",
    "fastai.text.learner.LanguageLearner",
    "fastai.basic_train.Learner",
)
_TEXT_LISTS: Final = (f"{_DATA}.TextList", f"{_DATA}.LMTextList")
_LABEL_LISTS: Final = (
    f"{_BLOCK}.CategoryList",
    f"{_BLOCK}.MultiCategoryList",
    f"{_BLOCK}.FloatList",
    f"{_BLOCK}.EmptyLabelList",
    f"{_DATA}.LMLabelList",
)
_PIECES: Final = Known(parts=frozenset({"train_func", "vocab", "sp_model", "sp_vocab"}))
_PIECE_PROCESSORS: Final = {
    f"{_DATA}.SPProcessor": _PIECES,
    "fastai_contrib.text_data.SPProcessor2": _PIECES,  # MultiFiT's, which does nothing else in a prediction
}
_TEXT_PROCESSORS: Final = {
    f"{_DATA}.OpenFileProcessor": Known(parts=frozenset({"ref_ds"})),
    f"{_DATA}.TokenizeProcessor": Known(parts=frozenset({"tokenizer"})),
    f"{_DATA}.NumericalizeProcessor": Known(parts=frozenset({"vocab"})),
    **_PIECE_PROCESSORS,
}
_TOKENIZERS: Final = {
    f"{_TRANSFORM}.Tokenizer": Known(parts=frozenset({"tok_func", "pre_rules", "post_rules", "special_cases"}))
}
_VOCABULARIES: Final = {f"{_TRANSFORM}.Vocab": Known(parts=frozenset({"stoi"}))}
_SPLITTERS: Final = {f"{_TRANSFORM}.SpacyTokenizer": None, f"{_TRANSFORM}.BaseTokenizer": " "}
"""Classes of ``tok_func``, and the separator at which they split. None for spaCy."""
_CALLBACKS: Final = tuple(
    f"fastai.{name}"
    for name in (
        "basic_train.Recorder",
        "callbacks.csv_logger.CSVLogger",
        "callbacks.flat_cos_anneal.FlatCosAnnealScheduler",
        "callbacks.fp16.MixedPrecision",
        "callbacks.general_sched.GeneralScheduler",
        "callbacks.lr_finder.LRFinder",
        "callbacks.mem.PeakMemMetric",
        "callbacks.cpu_mem.CpuPeakMemMetric",
        "callbacks.misc.StopAfterNBatches",
        "callbacks.mixup.MixUpCallback",
        "callbacks.mlflow.MLFlowTracker",
        "callbacks.one_cycle.OneCycleScheduler",
        "callbacks.oversampling.OverSamplingCallback",
        "callbacks.rnn.RNNTrainer",
        "callbacks.tensorboard.LearnerTensorboardWriter",
        "callbacks.tracker.EarlyStoppingCallback",
        "callbacks.tracker.ReduceLROnPlateauCallback",
        "callbacks.tracker.SaveModelCallback",
        "callbacks.tracker.TerminateOnNaNCallback",
        "callbacks.tracker.TrackEpochCallback",
        "callbacks.tracker.TrackerCallback",
        "train.BnFreeze",
        "train.GradientClipping",
        "train.ShowGraph",
    )
)
"""fastai's callbacks that do nothing in ``learn.predict``."""


@dataclass(frozen=True)
class _Splitting:
    """How texts are cleaned and split into words."""

    rules: Rules
    post_rules: Rules
    language: str | None = None
    control_tokens: tuple[str, ...] | None = None
    separator: str | None = None
    sentencepiece: PieceModel | None = None


def from_v1_export(root: Fact, requested: Requested) -> LearnerFacts:
    """Return what an export of fastai v1 records of its model.

    Args:
        root: The fact of the whole file.
        requested: What the caller requests where the file leaves a choice.

    Raises:
        ForeignModelError: The model is of a kind that is not supported, or a field has a value that can't be true.
        ConfigError: Something is requested that the file records.
    """
    source, data = root.work.source, root.part("data")
    if not isinstance(data.value, dict):
        raise ForeignModelError(f"{source}: its data is {described(data.value)}, expected the processors of fastai v1")
    _require_one_of(root.part("cls"), _LEARNERS, "its learner")
    _require_one_of(data.part("x_cls"), _TEXT_LISTS, "its list of texts")
    _require_one_of(data.part("y_cls"), _LABEL_LISTS, "its list of labels")
    for name in ("tfms", "normalize"):
        if not _is_empty(found := data.part(name)):
            raise ForeignModelError(
                f"{source}: its texts are changed by {name} ({described(found.value)}), expected none"
            )
    _check_callbacks(root.part("cb_state"))
    tokenize, numericalize = _processors(data.part("x_proc"))
    splitting = (
        _splitting_into_pieces(tokenize, requested)
        if tokenize is numericalize
        else _splitting_into_words(tokenize, requested)
    )
    require(numericalize.part("vocab"), _VOCABULARIES, "its vocabulary")
    model = match_model(Fact(root.part("model").value, "its model", root.work))
    task, remarks = task_of_v1(root, model.value_range, requested)
    remarks += _remarks(source, tokenize, model)
    return LearnerFacts(
        "fastai 1",
        model.state,
        vocabulary=words_of(numericalize.part("vocab")),
        cleaning=FASTAI_V1,
        rules=splitting.rules.unless(DEFAULT_RULES[FASTAI_V1]),
        post_rules=splitting.post_rules.unless(DEFAULT_POST_RULES[FASTAI_V1]),
        begins=tokenize.part("include_bos").flag(default=True),
        marks_field=tokenize.part("mark_fields").flag(default=False),
        ends=tokenize.part("include_eos").flag(default=False),
        language=splitting.language,
        control_tokens=splitting.control_tokens,
        separator=splitting.separator,
        sentencepiece=splitting.sentencepiece,
        task=task,
        pooling=model.pooling,
        remarks=[*splitting.rules.remarks, *remarks],
    )


def _splitting_into_words(tokenize: Fact, requested: Requested) -> _Splitting:
    """Return how a TokenizeProcessor splits texts."""
    tokenizer = tokenize.part("tokenizer")
    require(tokenizer, _TOKENIZERS, "its tokenizer")
    splitter = _require_one_of(tokenizer.part("tok_func"), _SPLITTERS, "its tokenizer")
    requested.refuse_sentencepiece(tokenize.work.source, f"splits texts with {splitter.rpartition('.')[2]}")
    language = tokenizer.part("lang")
    return _Splitting(
        read_rules(tokenizer.part("pre_rules"), _TRANSFORM, RULES[FASTAI_V1], requested=requested.rules),
        read_rules(tokenizer.part("post_rules"), _TRANSFORM, POST_RULES[FASTAI_V1], is_last=True),
        language="en" if language.is_missing else language.text(longest=LONGEST_NAME),
        control_tokens=control_tokens(tokenizer.part("special_cases"), FASTAI_V1),
        separator=_SPLITTERS[splitter],
    )


def _splitting_into_pieces(processor: Fact, requested: Requested) -> _Splitting:
    """Return how an SPProcessor splits texts. It has the path of its SentencePiece model, not the model."""
    source = processor.work.source
    if requested.sentencepiece is None:
        raise ForeignModelError(
            f"{source} uses a SentencePiece model (SPProcessor), of which it contains only the path: pass the file, "
            "usually spm.model, with --sentencepiece"
        )
    rules, post_rules = DEFAULT_RULES[FASTAI_V1], DEFAULT_POST_RULES[FASTAI_V1]
    pre, post = processor.part("pre_rules"), processor.part("post_rules")
    return _Splitting(
        read_rules(pre, _TRANSFORM, RULES[FASTAI_V1], requested=requested.rules, default=rules),
        read_rules(post, _TRANSFORM, POST_RULES[FASTAI_V1], is_last=True, default=post_rules),
        sentencepiece=requested.sentencepiece,
    )


def _remarks(source: str, tokenize: Fact, model: FoundModel) -> list[str]:
    remarks = []
    if tokenize.part("mark_fields").flag(default=False):
        remarks.append(
            f"{source}: the learner marks text columns (mark_fields). If it has several, pass a text as "
            "'FIRST xxfld 2 SECOND', which is what learn.predict makes of a list of them"
        )
    if not model.masks_padding:
        remarks.append(
            f"{source} was saved by fastai 1.0.46 or older: predictions can differ for texts that contain the word "
            "xxpad or ' @,@ '"
        )
    return remarks


def _require_one_of(fact: Fact, paths: tuple[str, ...] | dict[str, str | None], what: str) -> str:
    """Return the path of a class, which must be one of these."""
    path = path_of(fact.value) if isinstance(fact.value, GlobalName) else ""
    if path not in paths:
        names = " or ".join(name.rpartition(".")[2] for name in paths)
        raise ForeignModelError(f"{fact.work.source}: {what} is {called(fact.value)}, expected fastai's {names}")
    return path


def _is_empty(fact: Fact) -> bool:
    return fact.is_missing or (isinstance(fact.value, list | tuple | dict) and not fact.value)


def _check_callbacks(callbacks: Fact) -> None:
    """Refuse callbacks that may change predictions. ``learn.predict`` does not call those in ``callback_fns``."""
    if not isinstance(callbacks.value, dict):
        return
    callbacks.work.charge(len(callbacks.value))
    for kind in callbacks.value:
        if path_of(kind) not in _CALLBACKS:
            raise ForeignModelError(
                f"{callbacks.work.source} has the callback {called(kind)}, which may change predictions, expected only "
                "fastai's own: remove it from learn.callbacks and export the learner again"
            )


def _processors(fact: Fact) -> tuple[Fact, Fact]:
    """Return the processors that tokenize and numericalize texts. Only one that opens files may precede them.

    SPProcessor does both.
    """
    source, found = fact.work.source, fact.records(MOST_PARTS)
    paths = [require(processor, _TEXT_PROCESSORS, "a processor of its texts") for processor in found]
    names = [path.rpartition(".")[2] for path in paths]
    if paths and paths[-1] in _PIECE_PROCESSORS and names[:-1] in ([], ["OpenFileProcessor"]):
        return found[-1], found[-1]
    if names[-2:] != ["TokenizeProcessor", "NumericalizeProcessor"] or names[:-2] not in ([], ["OpenFileProcessor"]):
        raise ForeignModelError(
            f"{source} is not a text model: its texts have the processors {shown(', '.join(names[:9])) or 'none'}, "
            "expected TokenizeProcessor, NumericalizeProcessor"
        )
    return found[-2], found[-1]
