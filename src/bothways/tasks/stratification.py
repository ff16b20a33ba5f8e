"""Choose texts to set aside so that every label keeps its share, where a text may have any number of labels.

In: the labels of each text. Out: the texts to hold. Does not know files or rows.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping

import numpy as np

LabelsByText = Mapping[str, Collection[str]]
"""Each text's different labels, maybe none."""


def held_texts(labels_by_text: LabelsByText, share: float, seed: int) -> set[str]:
    """Return texts to set aside, about this share of each label's: iterative stratification (Sechidis et al., 2011).

    Each text goes to the side that lacks more of its label. A label of two or more texts is to have one held; but none
    is held that is the last of one of its labels to train on.

    Args:
        labels_by_text: What to choose from, in any order.
        share: Above 0 and below 1.
        seed: Decides which.
    """
    left_to_train = Counter(label for labels in labels_by_text.values() for label in labels)
    lack: dict[str | None, float] = {  # how many texts validation lacks more than training does; None: of any label
        label: 2 * max(1, share * count) - count if count > 1 else -1 for label, count in left_to_train.items()
    }
    lack[None] = 2 * max(1, share * len(labels_by_text)) - len(labels_by_text)
    held: set[str] = set()
    for text, label in _rarest_first(labels_by_text, seed):
        labels = labels_by_text[text]
        is_held = (lack[label], lack[None]) > (0, 0) and all(left_to_train[each] > 1 for each in labels)
        if is_held:
            held.add(text)
            left_to_train.subtract(labels)
        for each in (*labels, None):
            lack[each] += -1 if is_held else 1
    return held


def _rarest_first(labels_by_text: LabelsByText, seed: int) -> Iterator[tuple[str, str | None]]:
    """Return every text once, with the label that it comes for: always the one with the fewest texts that did not come.

    A rare label has few chances to be spread evenly, a common one many. Texts without a label come last.
    """
    in_order = sorted(labels_by_text)
    texts = [in_order[i] for i in np.random.default_rng(seed).permutation(len(in_order))]
    texts_by_label: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        for label in labels_by_text[text]:
            texts_by_label[label].append(text)
    to_come = {label: len(with_label) for label, with_label in texts_by_label.items()}
    queue = sorted((count, label) for label, count in to_come.items())
    came: set[str] = set()
    while queue:
        count, label = heapq.heappop(queue)
        if count != to_come[label]:  # some came for another label since; there is a newer entry
            continue
        for text in texts_by_label[label]:
            if text not in came:
                came.add(text)
                yield text, label
                for each in labels_by_text[text]:
                    to_come[each] -= 1
                    if to_come[each]:
                        heapq.heappush(queue, (to_come[each], each))
    yield from ((text, None) for text in texts if text not in came)
