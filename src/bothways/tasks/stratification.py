"""Choose a held-out set in which every label keeps its share, where a text may have any number of labels.

In: the labels of each text. Out: the held-out texts. Does not know files or rows.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from bothways.text.fields import Text, fields_of

LabelsByText = Mapping[Text, Collection[str]]
"""The distinct labels of each text, possibly none."""


def held_texts(labels_by_text: LabelsByText, share: float, seed: int) -> set[Text]:
    """Return held-out texts, about this share of each label: iterative stratification (Sechidis et al., 2011).

    Each text goes to the side that lacks more of its label. A label with two or more texts should have one held out,
    but a text is never held out if it is the last training text of one of its labels.

    Args:
        labels_by_text: The texts to choose from, in any order.
        share: Share of the texts to hold out, above 0 and below 1.
        seed: Random seed.
    """
    left_to_train = Counter(label for labels in labels_by_text.values() for label in labels)
    lack: dict[
        str | None, float
    ] = {  # texts that validation lacks minus those that training lacks; None counts all texts
        label: 2 * max(1, share * count) - count if count > 1 else -1 for label, count in left_to_train.items()
    }
    lack[None] = 2 * max(1, share * len(labels_by_text)) - len(labels_by_text)
    held: set[Text] = set()
    for text, label in _rarest_first(labels_by_text, seed):
        labels = labels_by_text[text]
        is_held = (lack[label], lack[None]) > (0, 0) and all(left_to_train[each] > 1 for each in labels)
        if is_held:
            held.add(text)
            left_to_train.subtract(labels)
        for each in (*labels, None):
            lack[each] += -1 if is_held else 1
    return held


def _rarest_first(labels_by_text: LabelsByText, seed: int) -> Iterator[tuple[Text, str | None]]:
    """Yield every text once, with the label for which it is placed: the label with the fewest texts left.

    A rare label has few chances to be distributed evenly, a common one many. Texts without a label come last.
    """
    in_order = sorted(labels_by_text, key=fields_of)
    texts = [in_order[i] for i in np.random.default_rng(seed).permutation(len(in_order))]
    texts_by_label: dict[str, list[Text]] = defaultdict(list)
    for text in texts:
        for label in labels_by_text[text]:
            texts_by_label[label].append(text)
    remaining = {label: len(with_label) for label, with_label in texts_by_label.items()}
    queue = sorted((count, label) for label, count in remaining.items())
    placed: set[Text] = set()
    while queue:
        count, label = heapq.heappop(queue)
        if count != remaining[label]:  # some were placed for another label since; there is a newer entry
            continue
        for text in texts_by_label[label]:
            if text not in placed:
                placed.add(text)
                yield text, label
                for each in labels_by_text[text]:
                    remaining[each] -= 1
                    if remaining[each]:
                        heapq.heappush(queue, (remaining[each], each))
    yield from ((text, None) for text in texts if text not in placed)
