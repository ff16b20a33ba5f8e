"""Classify the texts of requests with the models that are served.

Takes texts and the name of a model, and returns a prediction or a ``TextError`` per text. Independent of HTTP.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bothways.errors import DeadlinePassed, Overloaded, TextError, Unavailable
from bothways.runtime.classifier import Classifier
from bothways.runtime.slots import PreparedText
from bothways.serve.access import ApiKeys
from bothways.serve.answers import Answer, Classified
from bothways.serve.bodies import Bodies
from bothways.serve.bundles import ModelVersion
from bothways.serve.metrics import ServerMetrics
from bothways.serve.models import Models, ServedModel
from bothways.serve.settings import Settings
from bothways.serve.telemetry import Telemetry
from bothways.text.validation import check_item

TOKENIZING_THREADS = 2
_MAX_TOKENIZING = 64
"""Requests that are being tokenized or wait for it. Until then, their size in the queue is only an estimate."""
_FEW_CHARACTERS = 300
"""So few, counting one more per text, are tokenized in the event loop in about 1 ms. Empty texts take time, too."""
_INITIAL_TOKENS_PER_CHARACTER = 0.2
"""The estimate for a model until it has tokenized some texts."""
_CHARACTERS_REMEMBERED = 10_000
"""Weight of the previous estimate, so that many one-character texts, with more tokens per character, barely move it."""


class Service:
    """Classify with the models of a server.

    Attributes:
        settings: The settings of the server.
        metrics: The metrics of the server.
        keys: The API keys of the clients.
        bodies: The bodies of the requests in progress.
        telemetry: What sends traces and metrics to a collector, if anything does.
        is_draining: Whether the server is shutting down.
        config_problem: Why the bundles to serve could not be read again from the configuration. Empty if they could.
    """

    def __init__(self, bundles: Sequence[ModelVersion], settings: Settings, metrics: ServerMetrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.keys = ApiKeys(None if settings.api_key_file is None else Path(settings.api_key_file))
        self.bodies = Bodies(settings)
        self.telemetry: Telemetry | None = None
        self.is_draining = False
        self.config_problem = ""
        self._is_closed = False
        self._models = Models(bundles, settings, metrics)
        self._tokens_per_character = defaultdict[tuple[str, str], float](
            lambda: _INITIAL_TOKENS_PER_CHARACTER
        )  # by model
        metrics.report_models(lambda: self.models)
        self._start_tokenizing()

    def _start_tokenizing(self) -> None:
        self._process_id = os.getpid()
        self._tokenizing_now = 0
        self._tokenizing_oversized = False
        self._tokenizing = ThreadPoolExecutor(TOKENIZING_THREADS, "bothways-tokens")

    @property
    def models(self) -> list[ServedModel]:
        """All versions of all models that answer requests, in the order in which they were named."""
        return self._models.served

    @property
    def problem(self) -> str:
        """Why bundles could not be reloaded. Empty if all that are named answer."""
        return ". ".join(filter(None, [self.config_problem, self._models.problem]))

    @property
    def is_ready(self) -> bool:
        """Whether verified models answer requests. A reload that fails changes nothing about that."""
        return self._models.is_started and not self.is_draining

    def model(self, name: str | None = None, version: str | None = None) -> ServedModel:
        """Return a version of a model: the named one, or one chosen at random by the weights of the versions.

        Args:
            name: The name of the model. Defaults to the first one.
            version: The version. Defaults to a random choice.

        Raises:
            ModelUnknown: No model has this name, or it has no such version.
            Unavailable: The model is still loading, or the server is shutting down.
        """
        if self._is_closed:
            raise Unavailable("the server is shutting down: send the request to another replica")
        if self._process_id != os.getpid():  # an application that a server loads before it forks its workers
            self._start_tokenizing()
            self._models.start_again_after_fork()
        return self._models.choose(name, version)

    def load_all(self) -> None:
        """Load and verify every bundle. See ``Models.load_all``."""
        self._models.load_all()

    def reload(self, bundles: Sequence[ModelVersion], *, only_changed: bool) -> None:
        """Load and verify bundles again. See ``Models.reload``."""
        self._models.reload(bundles, only_changed=only_changed)

    def close(self, timeout_s: float) -> None:
        """Reject new requests, answer the accepted ones, and reject those that are left after the timeout."""
        self._is_closed = True
        self.bodies.close()
        self._models.close(timeout_s)
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
        started, key = time.monotonic(), (served.name, served.version)
        characters = sum(lengths := list(map(_characters, texts)))
        estimates = [math.ceil(self._tokens_per_character[key] * length) for length in lengths]
        is_oversized = sum(estimates) > served.batcher.max_tokens
        if is_oversized:
            estimates = []  # probably too large for any queue: submit() rejects it as such once the exact size is known
        with self._room_to_tokenize(is_oversized), served.batcher.reserve(estimates, deadline_s) as reserved:
            if characters + len(texts) <= _FEW_CHARACTERS:
                tokens = _tokenized(served.model, texts)
            else:
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
        if self.telemetry is not None:
            self.telemetry.count_answer(answer, served.name, served.version)
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


def _characters(text: object) -> int:
    """Return the number of characters that a client sent as one text."""
    fields = text.values() if isinstance(text, dict) else text if isinstance(text, list | tuple) else [text]
    return sum(len(field) for field in fields if isinstance(field, str))


def _tokenized(model: Classifier, texts: Sequence[object]) -> list[PreparedText | TextError]:
    """Tokenize each text once (guarantee 3). A value that is not a valid text yields its error instead."""
    found: list[PreparedText | TextError] = []
    for number, text in enumerate(texts):
        try:
            found.append(model.prepare(check_item(text, f"text {number}", model.text_columns)))
        except TextError as error:
            found.append(error)
    return found
