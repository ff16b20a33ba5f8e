"""Describe exported classifiers of fastai 2 as rows of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fastai.text.all import (
    replace_all_caps,
    replace_maj,
    replace_rep,
    replace_wrep,
    rm_useless_spaces,
    spec_add_spaces,
)
from fastai.text.core import fix_html, lowercase
from making2 import classifier, export, loaders, plain_loaders
from table import EXACT, Import, Learner
from texts import TEXTS

VERSION = "2.8.12"
RULES = [
    fix_html,
    replace_rep,
    replace_wrep,
    spec_add_spaces,
    rm_useless_spaces,
    replace_all_caps,
    replace_maj,
    lowercase,
]
SOFTMAX = (
    Import("refused", "raw scores|softmax|loss"),
    Import("exact", options={"probabilities": "softmax"}, scores="softmax"),
)
"""Imports of a classifier whose `predict` returns raw scores."""


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
    in_sample: bool = False,
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
        data: Returns the data loaders of a direction; the plain ones by default.
        loading: Options of `loaders`, instead of data. ``backwards`` is added to those of the text.
        texts: Texts to predict.
        task: What the outputs mean.
        before: Changes the finished learner before it is exported.
        ids: Whether ids are compared.
        labels: Labels, if the learner does not show them.
        in_sample: Whether the quick test includes it.
        options: Options of `making2.classifier`.
    """
    for direction in ways:
        full = f"v2-{kind}-{name}-{direction}"

        def loaded(direction: str = direction) -> Any:
            if data is not None:
                return data(direction)
            if loading is None:
                return plain_loaders(direction)
            given = dict(loading)
            text = given.pop("text", None) or {}
            if isinstance(text, dict):
                text = {**text, "backwards": direction == "backward"}
            return loaders(text=text, **given)

        def make(direction: str = direction, full: str = full, loaded: Callable[[], Any] = loaded) -> Any:
            return classifier(loaded(), full, direction=direction, texts=texts, **options)

        made = export(make, direction=direction, task=task, texts=texts, before=before, ids=ids, labels=labels)
        yield Learner(full, kind, finding, what, made, imports, direction, in_sample and direction == ways[-1])


BOTH = ("forward", "backward")
