"""Classify the texts of requests with the models that are served, and replace models by newer ones.

Takes texts and the name of a model, and returns a prediction or a ``TextError`` per text. Independent of HTTP.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bothways.errors import DeadlinePassed, ModelUnknown, Overloaded, TextError, Unavailable, quoted, shown
from bothways.runtime.classifier import Classifier
from bothways.runtime.verify import Verification, load_verified
from bothways.serve.answers import Answer, Classified
from bothways.serve.batching import Batcher
from bothways.serve.metrics import ServerMetrics
from bothways.serve.settings import Settings
from bothways.text.reading import TokenizedText
from bothways.text.validation import check_item

TOKENIZING_THREADS = 2
_MAX_TOKENIZING = 64
"""Requests that are being tokenized or wait for it. Until then, their size in the queue is only an estimate."""
_INITIAL_TOKENS_PER_CHARACTER = 0.2
"""The estimate for a model until it has tokenized some texts."""
_CHARACTERS_REMEMBERED = 10_000
"""Weight of the previous estimate, so that many one-character texts, with more tokens per character, barely move it."""


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model that is being served.

    Attributes:
        name: The name by which clients select the model.
        path: The path of its bundle.
        model: The classifier loaded from the bundle.
        batcher: The running batch of this model.
        verification: The result of replaying the parity record on this machine.
        loaded_at_s: The time of loading, in seconds since 1970.
    """

    name: str
    path: Path
    model: Classifier
    batcher: Batcher
    verification: Verification
    loaded_at_s: float


class Service:
    """The served models by name. The first one is the default.

    Attributes:
        settings: The settings of the server.
        metrics: The metrics of the server.
        problem: Why the last reload failed. Empty if it succeeded.
        is_draining: Whether the server is shutting down.
    """

    def __init__(self, bundles: Mapping[str, Path], settings: Settings, metrics: ServerMetrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.problem = ""
        self.is_draining = False
        self._is_closed = False
        self._bundles = dict(bundles)
        self._models: dict[str, ServedModel] = {}
        self._tokenizing_now = 0
        self._tokens_per_character = dict.fromkeys(bundles, _INITIAL_TOKENS_PER_CHARACTER)  # by model
        self._tokenizing = ThreadPoolExecutor(TOKENIZING_THREADS, "bothways-tokens")

    @property
    def models(self) -> list[ServedModel]:
        """All models that are loaded, the default first."""
        return [self._models[name] for name in self._bundles if name in self._models]

    @property
    def is_ready(self) -> bool:
        """Whether all models are loaded and verified, the last reload succeeded, and no shutdown has begun."""
        return len(self._models) == len(self._bundles) and not self.problem and not self.is_draining

    def model(self, name: str | None = None) -> ServedModel:
        """Return a model by its name, or the default model if the name is None.

        Raises:
            ModelUnknown: No model has this name.
            Unavailable: The models are still loading, or the server is shutting down.
        """
        if not self._models:
            raise Unavailable("the models are still loading: retry later")
        if self._is_closed:
            raise Unavailable("the server is shutting down: send the request to another replica")
        if name is None:
            return self.models[0]
        if name not in self._models:
            raise ModelUnknown(
                f"model not found: {quoted(name, 100)}. Available models: {shown(', '.join(self._models))}"
            )
        return self._models[name]

    def load_all(self) -> None:
        """Load and verify every bundle, then replace the models that are being served.

        No model is replaced until all new ones have replayed their parity records on this machine. Requests that an
        old model has accepted are answered by the old model.

        Raises:
            BothwaysError: One of the bundles can't be served. The previous models stay in place.
        """
        try:
            found = [(name, path, *self._load_verified(path)) for name, path in self._bundles.items()]
        except Exception as error:
            self.problem = str(error)
            raise
        new = [
            ServedModel(name, path, model, Batcher(model, self.settings.max_queue_tokens), verification, time.time())
            for name, path, model, verification in found
        ]
        old, self._models = self._models, {served.name: served for served in new}
        self.problem = ""
        self.metrics.set_models({served.name: served.batcher for served in new})
        for served in old.values():
            served.batcher.close()

    def close(self, timeout_s: float) -> None:
        """Reject new requests, answer the accepted ones, and reject those that are left after the timeout."""
        self._is_closed = True
        deadline = time.monotonic() + timeout_s
        for served in self._models.values():
            served.batcher.close(timeout_s=max(0.0, deadline - time.monotonic()))
        self._tokenizing.shutdown(wait=False)

    async def classify(self, served: ServedModel, texts: Sequence[object], deadline_s: float) -> Answer:
        """Classify texts.

        Args:
            served: The model to use.
            texts: The values that the client sent as texts, of any type.
            deadline_s: The deadline on the monotonic clock.

        Returns:
            A prediction per text, or an error for a text that can't be classified.

        Raises:
            ServingError: The texts exceed a limit, the queue is full, or the deadline has passed.
        """
        left_s = deadline_s - time.monotonic()
        try:
            async with asyncio.timeout(left_s):
                return await self._classified(served, texts, deadline_s)
        except TimeoutError:
            raise DeadlinePassed("the deadline passed before all texts were classified") from None

    async def _classified(self, served: ServedModel, texts: Sequence[object], deadline_s: float) -> Answer:
        started = time.monotonic()
        characters = sum(map(_characters, texts))
        estimate = math.ceil(self._tokens_per_character[served.name] * characters)
        if estimate > served.batcher.max_tokens:
            estimate = 0  # probably too large for any queue: submit() rejects it as such once the exact size is known
        if self._tokenizing_now >= _MAX_TOKENIZING:
            raise Overloaded(f"{self._tokenizing_now} requests are already waiting to be tokenized", 1)
        self._tokenizing_now += 1
        try:
            with served.batcher.reserve(estimate):
                loop = asyncio.get_running_loop()
                tokens = await loop.run_in_executor(self._tokenizing, _tokenized, served.model, texts)
        finally:
            self._tokenizing_now -= 1
        good = [item for item in tokens if not isinstance(item, TextError)]
        if characters:
            remembered = _CHARACTERS_REMEMBERED * self._tokens_per_character[served.name]
            tokens_per_character = (remembered + sum(map(len, good))) / (_CHARACTERS_REMEMBERED + characters)
            self._tokens_per_character[served.name] = tokens_per_character
        tokenized = time.monotonic()
        request = served.batcher.submit(good, deadline_s)
        try:
            found = await asyncio.wrap_future(request.answer)
        finally:
            served.batcher.cancel(request)  # no effect on a request that has been answered
        joined, predictions = request.started_s or tokenized, iter(found)
        items = [item if isinstance(item, TextError) else Classified(next(predictions), item) for item in tokens]
        answer = Answer(items, tokenized - started, joined - tokenized, time.monotonic() - joined)
        self.metrics.count_answer(answer)
        return answer

    def _load_verified(self, path: Path) -> tuple[Classifier, Verification]:
        settings = self.settings
        model, verification = load_verified(
            path,
            threads=settings.threads,
            early_exit=settings.early_exit,
            precision=settings.precision,
            key=settings.key,
        )
        if not verification.passed:
            raise Unavailable(f"{path} does not reproduce its parity record on this machine: {verification.problem}")
        return model, verification


def _characters(text: object) -> int:
    """Return the number of characters that a client sent as one text."""
    fields = text.values() if isinstance(text, dict) else text if isinstance(text, list | tuple) else [text]
    return sum(len(field) for field in fields if isinstance(field, str))


def _tokenized(model: Classifier, texts: Sequence[object]) -> list[TokenizedText | TextError]:
    """Tokenize each text once (guarantee 3). A value that is not a valid text yields its error instead."""
    found: list[TokenizedText | TextError] = []
    for number, text in enumerate(texts):
        try:
            found.append(model.tokenizer.tokenize(check_item(text, f"text {number}", model.text_columns)))
        except TextError as error:
            found.append(error)
    return found
