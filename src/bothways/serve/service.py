"""Classify the texts of requests with the models that are served, and put newer models in their places.

In: texts, the name of a model. Out: a prediction or a ``TextError`` for each text. Does not know HTTP.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bothways.errors import DeadlinePassed, ModelUnknown, Overloaded, TextError, Unavailable
from bothways.runtime.classifier import Classifier
from bothways.runtime.prediction import Prediction
from bothways.runtime.verify import Verification, load_verified
from bothways.serve.batching import Batcher
from bothways.serve.metrics import Metrics
from bothways.serve.settings import Settings
from bothways.text.reading import TokenizedText
from bothways.text.validation import check_text

TOKENIZING_THREADS = 2
_MOST_TOKENIZING = 64
"""Requests that wait for their tokens; before they have them, nobody knows how much room they need in the queue."""
_FIRST_TOKENS_A_CHARACTER = 0.2
"""Taken for the texts' own until some were tokenized."""
_CHARACTERS_REMEMBERED = 10_000
"""So a flood of texts of a character each, which have more tokens for it, hardly counts."""


@dataclass(frozen=True, eq=False)
class Classified:
    """A text's prediction, and the tokens it was made of."""

    prediction: Prediction
    text: TokenizedText


@dataclass(frozen=True, eq=False)
class Answer:
    """What became of a request's texts, in their order.

    Attributes:
        items: Of each text its prediction, or what is wrong with it.
        tokenize_s: Seconds until all had their tokens.
        wait_s: Seconds until the first text joined the batch.
        read_s: Seconds from then on.
    """

    items: list[Classified | TextError]
    tokenize_s: float
    wait_s: float
    read_s: float

    @property
    def tokens(self) -> int:
        """Tokens of all texts together."""
        return sum(len(item.text) for item in self.items if isinstance(item, Classified))


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model in service.

    Attributes:
        name: By which clients ask for it.
        path: Its bundle.
        model: What the bundle holds.
        batcher: Reads for it.
        verification: What the replay of its proof on this machine found.
        loaded_at_s: When, in seconds since 1970.
    """

    name: str
    path: Path
    model: Classifier
    batcher: Batcher
    verification: Verification
    loaded_at_s: float


class Service:
    """The models by name, the first one the default.

    Attributes:
        settings: How it serves.
        metrics: What it counts.
        problem: Why the last reload failed; empty if it did not.
        is_draining: Whether it is about to end.
    """

    def __init__(self, bundles: Mapping[str, Path], settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.problem = ""
        self.is_draining = False
        self._is_closed = False
        self._bundles = dict(bundles)
        self._models: dict[str, ServedModel] = {}
        self._tokenizing_now = 0
        self._tokens_a_character = dict.fromkeys(bundles, _FIRST_TOKENS_A_CHARACTER)  # by model
        self._tokenizing = ThreadPoolExecutor(TOKENIZING_THREADS, "bothways-tokens")

    @property
    def models(self) -> list[ServedModel]:
        """All models, the default first."""
        return [self._models[name] for name in self._bundles if name in self._models]

    @property
    def is_ready(self) -> bool:
        """Whether every model's proof was replayed here, the last reload succeeded, and the end has not begun."""
        return len(self._models) == len(self._bundles) and not self.problem and not self.is_draining

    def model(self, name: str | None = None) -> ServedModel:
        """Return a model by its name, or the default.

        Raises:
            ModelUnknown: There is no such model.
            Unavailable: No model has been loaded yet, or the end has begun.
        """
        if not self._models:
            raise Unavailable("the models are being loaded: try again")
        if self._is_closed:
            raise Unavailable("the server is about to end: ask another one")
        if name is None:
            return self.models[0]
        if name not in self._models:
            raise ModelUnknown(f"there is no model {name[:100]!r}, expected one of {', '.join(self._models)}")
        return self._models[name]

    def load_all(self) -> None:
        """Load and prove every bundle; those that are served are replaced by what lies at their paths now, or stay.

        A new model takes its place only after its proof was replayed on this machine; requests that the old one has
        taken are answered by it.

        Raises:
            BothwaysError: One of the bundles can't be served; all models that were served go on.
        """
        try:
            found = [(name, path, *self._proven(path)) for name, path in self._bundles.items()]
        except Exception as error:
            self.problem = str(error)
            raise
        new = [
            ServedModel(name, path, model, Batcher(model, self.settings.max_queue_tokens), verification, time.time())
            for name, path, model, verification in found
        ]
        old, self._models = self._models, {served.name: served for served in new}
        self.problem = ""
        self.metrics.serving(self._models)
        for served in old.values():
            served.batcher.close()

    def close(self, timeout_s: float) -> None:
        """Refuse new requests, answer those that were taken, or refuse them when the time is over, and end."""
        self._is_closed = True
        deadline = time.monotonic() + timeout_s
        for served in self._models.values():
            served.batcher.close(timeout_s=max(0.0, deadline - time.monotonic()))
        self._tokenizing.shutdown(wait=False)

    async def classify(self, served: ServedModel, texts: Sequence[object], deadline_s: float) -> Answer:
        """Return a prediction, or what is wrong with it, for each text.

        Args:
            served: By which model.
            texts: What the client sent as texts.
            deadline_s: On the monotonic clock.

        Raises:
            ServingError: The texts are too many or too long, the queue is full, or the deadline has passed.
        """
        left_s = deadline_s - time.monotonic()
        try:
            async with asyncio.timeout(left_s):
                return await self._classified(served, texts, deadline_s)
        except TimeoutError:
            raise DeadlinePassed("the deadline passed before all texts were read") from None

    async def _classified(self, served: ServedModel, texts: Sequence[object], deadline_s: float) -> Answer:
        started = time.monotonic()
        characters = sum(len(text) for text in texts if isinstance(text, str))
        estimate = math.ceil(self._tokens_a_character[served.name] * characters)
        if estimate > served.batcher.most_tokens:
            estimate = 0  # it may be too large, and is told so whatever waits
        if self._tokenizing_now >= _MOST_TOKENIZING:
            raise Overloaded(f"{self._tokenizing_now} requests wait for their tokens already", 1)
        self._tokenizing_now += 1
        try:
            with served.batcher.room(estimate):
                loop = asyncio.get_running_loop()
                tokens = await loop.run_in_executor(self._tokenizing, _tokenized, served.model, texts)
        finally:
            self._tokenizing_now -= 1
        good = [item for item in tokens if not isinstance(item, TextError)]
        if characters:
            remembered = _CHARACTERS_REMEMBERED * self._tokens_a_character[served.name]
            tokens_a_character = (remembered + sum(map(len, good))) / (_CHARACTERS_REMEMBERED + characters)
            self._tokens_a_character[served.name] = tokens_a_character
        tokenized = time.monotonic()
        ticket = served.batcher.submit(good, deadline_s)
        try:
            found: list[Prediction] = await asyncio.wrap_future(ticket.answer)
        finally:
            served.batcher.cancel(ticket)  # changes nothing once it has its answer
        joined, predictions = ticket.started_s or tokenized, iter(found)
        items = [item if isinstance(item, TextError) else Classified(next(predictions), item) for item in tokens]
        answer = Answer(items, tokenized - started, joined - tokenized, time.monotonic() - joined)
        self.metrics.answered(answer)
        return answer

    def _proven(self, path: Path) -> tuple[Classifier, Verification]:
        settings = self.settings
        model, verification = load_verified(
            path, threads=settings.threads, early_exit=settings.early_exit, precision=settings.precision
        )
        if not verification.passed:
            raise Unavailable(f"{path} does not give its trainer's numbers on this machine: {verification.problem}")
        return model, verification


def _tokenized(model: Classifier, texts: Sequence[object]) -> list[TokenizedText | TextError]:
    """Tokenize each text once (guarantee 3); what can't be a text gets its error."""
    found: list[TokenizedText | TextError] = []
    for number, text in enumerate(texts):
        try:
            found.append(model.tokenizer.tokenize(check_text(text, f"text {number}")))
        except TextError as error:
            found.append(error)
    return found
