"""Read one text that arrives in parts, such as a live transcript.

Input: the parts of a text. Output: the forward model's scores of the text so far after each part, and the complete
prediction at the end. Windows begin where continuous batching begins them, so every result has the same bits as that of
the same text read at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bothways.errors import ConfigError
from bothways.runtime.linear import LinearModel
from bothways.runtime.prediction import Prediction
from bothways.runtime.sessions import WINDOW_TOKENS
from bothways.runtime.slots import MemberStates, Pooled, ReadText, Screening, SlotEngine
from bothways.tasks.metrics import Scores
from bothways.text.coverage import is_wordless
from bothways.text.ngrams import NgramReader
from bothways.text.reading import Ids, TokenizedText, concatenate
from bothways.text.tokenizer import Tokenizer
from bothways.text.validation import check_text

_MOST_KEPT_WINDOWS = 128
"""More windows are needed only where combining marks, entities or tags follow each other without a space."""


class TextReader:
    """Read a text as its parts arrive. Created by ``Classifier.open``. Not to be shared between threads.

    Guarantee 6: a text read in parts gets the same prediction as the whole text read at once, to the last bit.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        engine: SlotEngine,
        forward: int,
        to_scores: Callable[[Pooled], Scores],
        to_prediction: Callable[[ReadText], Prediction],
        linear: LinearModel | None = None,
        screen: Callable[[TokenizedText, bool], Screening | None] = lambda text, is_wordless: None,
    ) -> None:
        self._tokenizer = tokenizer
        self._others = engine.without(forward)
        self._forward = forward
        self._states = engine.initial_states(forward)
        self._to_scores = to_scores
        self._to_prediction = to_prediction
        self._linear = linear
        self._screen, self._is_wordless = screen, True
        self._ngrams = NgramReader()
        self._settled = [tokenizer.tokenize("")]
        self._unread: Ids = self._settled[0].ids
        self._read_tokens = 0
        self._windows: list[tuple[Ids, MemberStates]] = []
        """The first windows of the unread and pending tokens, as they were read last, each with the states after it."""
        self._pending = ""
        self._parts = 0
        self._is_open = True

    def append(self, part: str) -> Scores:
        """Append a part of the text, and return the forward model's scores of the text so far.

        The cost depends on the part, not on the text before it. Only the last words are read again with the next part,
        because it may change their tokens. These are at most some 3,000 characters where the text has no space or
        repeats one word. They are more where combining marks, entities or tags follow each other without a space.

        Args:
            part: The next part, of any length, cut anywhere.

        Returns:
            The scores, (C,) float64: probabilities, or the value for regression.

        Raises:
            TextError: The part is not a string, or contains half of a surrogate pair. The reader is unchanged.
            ConfigError: The reader is closed.
        """
        self._check_open()
        checked = check_text(part, f"part {self._parts}")
        self._pending += checked
        self._is_wordless = self._is_wordless and is_wordless(checked)
        if self._linear is not None:
            self._ngrams.append(checked)
        self._parts += 1
        count = self._tokenizer.stable_length(self._pending)
        if count:
            self._settle(self._tokenizer.tokenize(self._pending[:count]))
            self._pending = self._pending[count:]
        self._pending = self._tokenizer.without_repetitions(self._pending)
        return self._to_scores(self._pooled(self._tokenizer.tokenize(self._pending)))

    def close(self) -> Prediction:
        """End the text and return its prediction, the same as that of the whole text read at once.

        The other direction reads the text only now, so this takes time in proportion to the text's length.

        Raises:
            ConfigError: The reader is already closed.
        """
        self._check_open()
        self._is_open = False
        rest = self._tokenizer.tokenize(self._pending)
        text = concatenate([*self._settled, rest])
        pooled = [*self._others.run([text], lookahead=1)] if self._others.members else [[]]
        every = [*pooled[0][: self._forward], self._pooled(rest), *pooled[0][self._forward :]]
        self._ngrams.end_field()
        linear = None if self._linear is None else self._linear.scores_of(self._ngrams.ngrams())
        return self._to_prediction(ReadText(every, linear, self._screen(text, self._is_wordless)))

    def _settle(self, text: TokenizedText) -> None:
        """Read the whole windows among tokens that later parts cannot change."""
        self._settled.append(text)
        self._unread = np.concatenate([self._unread, text.ids[1:]])
        whole = len(self._unread) // WINDOW_TOKENS
        self._states, known = self._known(self._unread[: whole * WINDOW_TOKENS])
        _advance(self._states, self._unread[known * WINDOW_TOKENS : whole * WINDOW_TOKENS])
        self._windows = self._windows[whole:] if known == whole else []
        self._unread = self._unread[whole * WINDOW_TOKENS :]
        self._read_tokens += whole * WINDOW_TOKENS

    def _pooled(self, rest: TokenizedText) -> Pooled:
        """Return the forward model's pooled vector of the text, given the tokens that are not settled yet."""
        ids = np.concatenate([self._unread, rest.ids[1:]])
        states, known = self._known(ids)
        del self._windows[known:]
        whole = min(len(ids) // WINDOW_TOKENS, _MOST_KEPT_WINDOWS)
        for window in range(known, whole):
            part = ids[window * WINDOW_TOKENS : (window + 1) * WINDOW_TOKENS]
            _advance(states, part)
            self._windows.append((part, states.extract(0)))
        _advance(states, ids[max(known, whole) * WINDOW_TOKENS :])
        states.take_last(0)
        return states.pooled(0, self._read_tokens + len(ids))

    def _known(self, ids: Ids) -> tuple[MemberStates, int]:
        """Return a copy of the states after as many windows as were read with the same tokens, and their number."""
        known, states = 0, self._states
        for window, after in self._windows:
            if not np.array_equal(ids[known * WINDOW_TOKENS : (known + 1) * WINDOW_TOKENS], window):
                break
            known, states = known + 1, after
        return states.extract(0), known

    def _check_open(self) -> None:
        if not self._is_open:
            raise ConfigError("this reader is closed. Open a new one for another text")


def _advance(states: MemberStates, ids: Ids) -> None:
    """Read tokens that begin with a window, as many windows at once as continuous batching reads of a single text."""
    tokens = states.session.batch_texts * WINDOW_TOKENS
    for start in range(0, len(ids), tokens):
        part = ids[start : start + tokens]
        states.advance(np.array([0]), part[:, None].astype(np.int64), np.array([len(part)], dtype=np.int32))
