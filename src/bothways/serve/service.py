"""Classify the texts of requests with the models that are served, and replace models by newer ones.

Takes texts and the name of a model, and returns a prediction or a ``TextError`` per text. Independent of HTTP.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bothways.errors import DeadlinePassed, ModelUnknown, Overloaded, TextError, Unavailable, quoted, shown
from bothways.runtime.classifier import Classifier
from bothways.runtime.verify import Verification, load_verified
from bothways.serve.access import ApiKeys
from bothways.serve.answers import Answer, Classified
from bothways.serve.batching import Batcher
from bothways.serve.bodies import Bodies
from bothways.serve.bundles import ModelVersion
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
        source: The bundle as it was named at the start.
        model: The classifier loaded from the bundle.
        batcher: The running batch of this model.
        verification: The result of replaying the parity record on this machine.
        loaded_at_s: The time of loading, in seconds since 1970.
    """

    source: ModelVersion
    model: Classifier
    batcher: Batcher
    verification: Verification
    loaded_at_s: float

    @property
    def name(self) -> str:
        """The name by which clients select the model."""
        return self.source.name

    @property
    def version(self) -> str:
        """The version by which clients can select this one among the versions of the model."""
        return self.source.version


class Service:
    """The served models by name and version. The first name is the default model.

    Attributes:
        settings: The settings of the server.
        metrics: The metrics of the server.
        keys: The API keys of the clients.
        bodies: The bodies of the requests in progress.
        problem: Why the last reload failed. Empty if it succeeded.
        is_draining: Whether the server is shutting down.
    """

    def __init__(self, bundles: Sequence[ModelVersion], settings: Settings, metrics: ServerMetrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.keys = ApiKeys(None if settings.api_key_file is None else Path(settings.api_key_file))
        self.bodies = Bodies(settings)
        self.problem = ""
        self.is_draining = False
        self._is_closed = False
        self._bundles = tuple(bundles)
        self._models: dict[tuple[str, str], ServedModel] = {}  # by name and version
        self._tokenizing_now = 0
        self._tokenizing_oversized = False
        self._tokens_per_character = defaultdict[tuple[str, str], float](
            lambda: _INITIAL_TOKENS_PER_CHARACTER
        )  # by model
        metrics.report_models(lambda: self.models)
        self._tokenizing = ThreadPoolExecutor(TOKENIZING_THREADS, "bothways-tokens")

    @property
    def models(self) -> list[ServedModel]:
        """All versions of all models that are loaded, in the order in which they were named."""
        models = self._models
        return [models[key] for key in map(_key, self._bundles) if key in models]

    @property
    def is_ready(self) -> bool:
        """Whether all models are loaded and verified, the last reload succeeded, and no shutdown has begun."""
        return len(self._models) == len(self._bundles) and not self.problem and not self.is_draining

    def model(self, name: str | None = None, version: str | None = None) -> ServedModel:
        """Return a version of a model: the named one, or one chosen at random by the weights of the versions.

        Args:
            name: The name of the model. Defaults to the first one.
            version: The version. Defaults to a random choice.

        Raises:
            ModelUnknown: No model has this name, or it has no such version.
            Unavailable: The model is still loading, or the server is shutting down.
        """
        models = self.models
        if not models:
            raise Unavailable("the models are still loading: retry later")
        if self._is_closed:
            raise Unavailable("the server is shutting down: send the request to another replica")
        name = self._bundles[0].name if name is None else name
        sources = [source for source in self._bundles if source.name == name]
        if not sources:
            available = ", ".join(dict.fromkeys(source.name for source in self._bundles))
            raise ModelUnknown(f"model not found: {quoted(name, 100)}. Available models: {shown(available)}")
        if version is not None and version not in [source.version for source in sources]:
            available = ", ".join(source.version for source in sources)
            raise ModelUnknown(
                f"the model {quoted(name, 100)} has no version {quoted(version, 100)}. "
                f"Available versions: {shown(available)}"
            )
        loaded = [served for served in models if served.name == name and version in (None, served.version)]
        weights = [1.0 if version is not None else served.source.weight for served in loaded]
        if not any(weights):
            raise Unavailable(f"the model {quoted(name, 100)} is still loading: retry later")
        return random.choices(loaded, weights)[0]  # noqa: S311  (no secret)

    def load_all(self) -> None:
        """Load and verify every bundle, then replace the models that are being served.

        No model is replaced until all new ones have replayed their parity records on this machine. Requests that an
        old model has accepted are answered by the old model.

        Raises:
            BothwaysError: One of the bundles can't be served. The previous models stay in place.
        """
        try:
            self.keys.read()
            found = [(source, *self._load_verified(source.path)) for source in self._bundles]
        except Exception as error:
            self.problem = str(error)
            raise
        new = [
            ServedModel(source, model, self._batcher(model), verification, time.time())
            for source, model, verification in found
        ]
        old, self._models = self._models, {_key(served.source): served for served in new}
        self.problem = ""
        for served in old.values():
            served.batcher.close()

    def close(self, timeout_s: float) -> None:
        """Reject new requests, answer the accepted ones, and reject those that are left after the timeout."""
        self._is_closed = True
        self.bodies.close()
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
        started, key = time.monotonic(), _key(served.source)
        characters = sum(lengths := list(map(_characters, texts)))
        estimates = [math.ceil(self._tokens_per_character[key] * length) for length in lengths]
        is_oversized = sum(estimates) > served.batcher.max_tokens
        if is_oversized:
            estimates = []  # probably too large for any queue: submit() rejects it as such once the exact size is known
        with self._room_to_tokenize(is_oversized), served.batcher.reserve(estimates, deadline_s) as reserved:
            loop = asyncio.get_running_loop()
            tokens = await loop.run_in_executor(self._tokenizing, _tokenized, served.model, texts)
            good = [item for item in tokens if not isinstance(item, TextError)]
            self._count_tokens(key, characters, sum(map(len, good)))
            tokenized = time.monotonic()
            request = served.batcher.submit(good, deadline_s, reserved)
        try:
            found = await asyncio.wrap_future(request.answer)
        finally:
            served.batcher.cancel(request)  # no effect on a request that has been answered
        joined, predictions = request.started_s or tokenized, iter(found)
        items = [item if isinstance(item, TextError) else Classified(next(predictions), item) for item in tokens]
        answer = Answer(items, tokenized - started, joined - tokenized, time.monotonic() - joined)
        self.metrics.count_answer(answer, served.name, served.version)
        return answer

    @contextmanager
    def _room_to_tokenize(self, is_oversized: bool) -> Iterator[None]:
        """Count a request that is being tokenized. Of requests that are probably refused afterwards, there is only one.

        Raises:
            Overloaded: Too many requests are being tokenized or wait for it.
        """
        if is_oversized and self._tokenizing_oversized:
            raise Overloaded("another request with very many tokens is being tokenized: send fewer texts, or retry", 1)
        if self._tokenizing_now >= _MAX_TOKENIZING:
            raise Overloaded(f"{self._tokenizing_now} requests are already waiting to be tokenized", 1)
        self._tokenizing_now += 1
        self._tokenizing_oversized |= is_oversized
        try:
            yield
        finally:
            self._tokenizing_now -= 1
            self._tokenizing_oversized &= not is_oversized

    def _count_tokens(self, key: tuple[str, str], characters: int, tokens: int) -> None:
        """Update the tokens per character of a model."""
        if characters:
            total = _CHARACTERS_REMEMBERED * self._tokens_per_character[key] + tokens
            self._tokens_per_character[key] = total / (_CHARACTERS_REMEMBERED + characters)

    def _batcher(self, model: Classifier) -> Batcher:
        return Batcher(model, self.settings.max_queue_tokens, self.settings.max_queue_s)

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


def _key(source: ModelVersion) -> tuple[str, str]:
    return source.name, source.version


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
