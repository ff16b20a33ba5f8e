"""Describe exported classifiers of fastai 1.0.61 as rows of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from making1 import bunch, classifier, export, fastai_text, plain_bunch
from table import EXACT, Import, Learner
from texts import TEXTS

VERSION = "1.0.61"
BOTH = ("forward", "backward")
SOFTMAX = (
    Import("refused", "raw scores|softmax|loss"),
    Import("exact", options={"probabilities": "softmax"}, scores="softmax"),
)
"""Imports of a classifier whose `predict` returns raw scores."""
PRE = list(fastai_text.defaults.text_pre_rules)
POST = list(fastai_text.defaults.text_post_rules)


def row(
    kind: str,
    name: str,
    finding: str,
    what: str,
    imports: tuple[Import, ...] = EXACT,
    *,
    ways: tuple[str, ...] = ("forward",),
    data: Callable[[str], Any] | None = None,
    loading: dict[str, Any] | None = None,
    texts: Any = TEXTS,
    task: str = "single-label",
    before: Callable[[Any], Any] | None = None,
    ids: bool = True,
    labels: Any = None,
    is_loaded: bool = True,
    in_sample: bool = False,
    copied: Callable[[Any, Path], dict[str, str]] | None = None,
    **options: Any,
) -> Iterator[Learner]:
    """Yield an exported classifier for each direction.

    Args:
        kind: Row of the table.
        name: Name within the kind.
        finding: E1 to E6, or ``plain``.
        what: A description in one sentence.
        imports: How it is imported, and what is expected.
        ways: Directions.
        data: Returns the data of a direction; the plain ones by default.
        loading: Options of `bunch`, instead of data.
        texts: Texts to predict.
        task: What the outputs mean.
        before: Changes the finished learner before it is exported.
        ids: Whether ids are compared.
        labels: Labels, if the learner does not show them.
        is_loaded: Whether predictions are those of `load_learner`.
        in_sample: Whether the quick test includes it.
        copied: Copies more files of the learner.
        options: Options of `making1.classifier`.
    """
    for direction in ways:
        full = f"v1-{kind}-{name}-{direction}"

        def make(direction: str = direction, full: str = full) -> Any:
            if data is not None:
                loaded = data(direction)
            elif loading is not None:
                loaded = bunch(backwards=direction == "backward", **loading)
            else:
                loaded = plain_bunch(direction)
            return classifier(loaded, full, texts=texts, **options)

        made = export(
            make,
            direction=direction,
            task=task,
            texts=texts,
            before=before,
            ids=ids,
            labels=labels,
            is_loaded=is_loaded,
            copied=copied,
        )
        yield Learner(full, kind, finding, what, made, imports, direction, in_sample and direction == ways[-1])
