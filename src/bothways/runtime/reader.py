"""Read one text that comes in parts, such as a transcript while somebody speaks.

In: parts of a text. Out: what the forward model says so far after each, and the whole prediction at the end. Windows
are cut where the slot engine cuts them, so that every number is the one that the same text gets at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from bothways.errors import ConfigError
from bothways.runtime.graph import WINDOW_TOKENS
from bothways.runtime.slots import BATCH_SLOTS, MemberStates, Pooled, SlotEngine
from bothways.text.reading import Ids, TokenizedText, concatenate
from bothways.text.tokenizer import Tokenizer
from bothways.text.validation import check_text

if TYPE_CHECKING:
    from bothways.runtime.classifier import Prediction, Probabilities


class TextReader:
    """Reads a text as it comes. Made by ``Classifier.open``; not to be shared between threads.

    Guarantee 6: a text read in parts gets what the same text gets at once, to the last bit.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        engine: SlotEngine,
        forward: int,
        to_probabilities: Callable[[Pooled], Probabilities],
        to_prediction: Callable[[list[Pooled]], Prediction],
    ) -> None:
        self._tokenizer = tokenizer
        self._others = engine.without(forward)
        self._forward = forward
        self._states = engine.begun(forward)
        self._to_probabilities = to_probabilities
        self._to_prediction = to_prediction
        self._settled = [tokenizer.tokenize("")]
        self._unread: Ids = self._settled[0].ids
        self._read_tokens = 0
        self._pending = ""
        self._parts = 0
        self._is_open = True

    def append(self, part: str) -> Probabilities:
        """Take more of the text, and give the forward model's probabilities of all so far, (C,) float64.

        What it costs depends on the part, not on what came before. Only the last words are read again with the next
        part, or as much as has no space or line break in it, or repeats one word.

        Args:
            part: What comes next, of any length, cut anywhere.

        Raises:
            TextError: The part is no string, or holds half of a surrogate pair; the reader is as it was.
            ConfigError: The reader is closed.
        """
        self._refuse_closed()
        self._pending += check_text(part, f"part {self._parts}")
        self._parts += 1
        count = self._tokenizer.stable_length(self._pending)
        if count:
            self._settle(self._tokenizer.tokenize(self._pending[:count]))
            self._pending = self._pending[count:]
        return self._to_probabilities(self._pooled(self._tokenizer.tokenize(self._pending)))

    def close(self) -> Prediction:
        """End the text and give its prediction, which is that of the whole text given at once.

        The other direction reads the text now, so this takes as long as the text is.

        Raises:
            ConfigError: The reader is closed already.
        """
        self._refuse_closed()
        self._is_open = False
        rest = self._tokenizer.tokenize(self._pending)
        pooled = (
            [*self._others.run([concatenate([*self._settled, rest])], lookahead=1)] if self._others.members else [[]]
        )
        return self._to_prediction([*pooled[0][: self._forward], self._pooled(rest), *pooled[0][self._forward :]])

    def _settle(self, text: TokenizedText) -> None:
        """Read windows of tokens that nothing will change."""
        self._settled.append(text)
        self._unread = np.concatenate([self._unread, text.ids[1:]])
        whole = len(self._unread) // WINDOW_TOKENS * WINDOW_TOKENS
        _advance(self._states, self._unread[:whole])
        self._unread = self._unread[whole:]
        self._read_tokens += whole

    def _pooled(self, rest: TokenizedText) -> Pooled:
        """Return the forward model's pooled vector of the text if this is the rest of it."""
        ids, states = np.concatenate([self._unread, rest.ids[1:]]), self._states.copied()
        _advance(states, ids)
        states.take_last(0)
        return states.pooled(0, self._read_tokens + len(ids))

    def _refuse_closed(self) -> None:
        if not self._is_open:
            raise ConfigError("this reader is closed: open another one for another text")


def _advance(states: MemberStates, ids: Ids) -> None:
    """Read tokens from a window's beginning on, as many windows at once as the slot engine would."""
    for start in range(0, len(ids), BATCH_SLOTS * WINDOW_TOKENS):
        part = ids[start : start + BATCH_SLOTS * WINDOW_TOKENS]
        states.advance(np.array([0]), part[:, None].astype(np.int64), np.array([len(part)], dtype=np.int32))
