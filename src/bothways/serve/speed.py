"""Predict how long a model takes to read, from the steps that it has taken so far.

A step takes a fixed time, in which all weights are fetched from memory, and a time per token. Their ratio is measured
once, when the model is loaded. The speed is then corrected by every step, because other programs and other models use
the same cores. So texts that are read together are predicted to be read faster than one after the other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np

from bothways.runtime.classifier import Classifier
from bothways.runtime.sessions import WINDOW_TOKENS
from bothways.runtime.slots import BATCH_SLOTS, TokenCounts
from bothways.text.reading import TokenizedText

EFFICIENT_TEXTS = 8
"""Number of texts per step that is nearly as fast per token as a full batch: 87 to 97 % for models of every size."""
_MEASURED_TEXTS, _MEASURED_STEPS = 16, 3
_MEMORY_S = 1.0
"""Time constant of the average speed, in seconds of reading."""
_LARGEST_RATIO = 20.0
"""A step that takes longer was interrupted, for example by a suspended machine."""


class ReadingSpeed:
    """The predicted duration of steps and of work.

    Safe to read from any thread. Only the thread that reads calls ``add``.
    """

    def __init__(self, step_s: float, token_s: float) -> None:
        """Start with a speed.

        Args:
            step_s: Seconds per step, regardless of its texts.
            token_s: Seconds per token in addition.
        """
        self._step_s, self._token_s = step_s, token_s
        self._measured_s = self._predicted_s = _MEMORY_S
        self.factor = 1.0

    @classmethod
    def of(cls, model: Classifier) -> ReadingSpeed:
        """Measure the speed of a model on this machine. This takes a few steps."""
        (alone, alone_s), (several, several_s) = (
            min(_timed_steps(model, texts), key=lambda step: step[1] / step[0]) for texts in (1, _MEASURED_TEXTS)
        )
        token_s = max(several_s - alone_s, 0.1 * several_s) / (several - alone)
        return cls(max(0.0, several_s - token_s * several), token_s)

    @property
    def tokens_per_s(self) -> float:
        """The speed at which several long texts are read together."""
        return 1 / (self.factor * self.work(WINDOW_TOKENS, 1) / WINDOW_TOKENS)

    def step_s(self, tokens: float) -> float:
        """Return the predicted seconds of a step that reads this number of tokens."""
        return self.factor * (self._step_s + self._token_s * tokens)

    def work(self, tokens: float, steps: int) -> float:
        """Return the time that a text adds to the steps in which it is read together with others.

        Args:
            tokens: The number of tokens.
            steps: The number of steps in which it is read.

        Returns:
            Seconds at the speed of loading. Multiply by ``factor`` for seconds at the present speed.
        """
        return self._token_s * tokens + self._step_s * steps / EFFICIENT_TEXTS

    def add(self, tokens: float, seconds: float) -> None:
        """Correct the speed by a step that has been taken."""
        predicted_s = self._step_s + self._token_s * tokens
        seconds = min(seconds, _LARGEST_RATIO * self.factor * predicted_s)
        kept = math.exp(-seconds / _MEMORY_S)
        self._measured_s = kept * self._measured_s + seconds
        self._predicted_s = kept * self._predicted_s + predicted_s
        self.factor = self._measured_s / self._predicted_s


def steps_of(text: TokenizedText) -> int:
    """Return the number of steps in which a text is read, one window per step."""
    return math.ceil(len(text) / WINDOW_TOKENS)


def _timed_steps(model: Classifier, texts: int) -> Iterator[tuple[float, float]]:
    """Yield the tokens, per direction, and the seconds of each of a few steps."""
    length = (_MEASURED_STEPS + 1) * WINDOW_TOKENS
    starts = np.arange(length, dtype=np.int32)
    text = TokenizedText(np.zeros(length, dtype=np.int32), starts, (starts == 0).astype(np.int32))
    counts = TokenCounts()
    with closing(model.slots(BATCH_SLOTS, counts)) as slots:
        for number in range(texts):
            slots.admit(number, text)
        for _ in range(_MEASURED_STEPS):
            before, started = counts.real, time.perf_counter()
            slots.step()
            yield (counts.real - before) / len(model.directions), time.perf_counter() - started
