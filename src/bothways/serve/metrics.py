"""Count what a server does, for Prometheus. No text, and nothing of one, is ever kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bothways.errors import TextError

if TYPE_CHECKING:
    from bothways.serve.service import Answer, ServedModel

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "bothways_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self.rejections = Counter("bothways_rejections", "Refused requests by reason.", ["reason"], registry=registry)
        self.texts = Counter("bothways_texts", "Texts that were classified.", registry=registry)
        self.bad_texts = Counter("bothways_bad_texts", "Texts that can't be classified.", registry=registry)
        self.tokens = Counter("bothways_tokens", "Tokens of the texts that were classified.", registry=registry)
        self.latency = Histogram(
            "bothways_latency_seconds",
            "Seconds of each stage of a request.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._queue = Gauge("bothways_queue_tokens", "Tokens that wait or are read.", ["model"], registry=registry)
        self._flight = Gauge(
            "bothways_batch_texts", "Texts that have begun; 32 are read at a time.", ["model"], registry=registry
        )
        self._models = Gauge(
            "bothways_model", "1 for each model that is served; its identity.", ["model", "digest"], registry=registry
        )

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.latency.labels(name).observe(time.perf_counter() - started)

    def serving(self, models: Mapping[str, ServedModel]) -> None:
        """Tell which models are served from now on."""
        for gauge in (self._queue, self._flight, self._models):
            gauge.clear()
        for name, served in models.items():
            self._models.labels(name, served.model.digest).set(1)
            self._queue.labels(name).set_function(partial(getattr, served.batcher, "tokens"))
            self._flight.labels(name).set_function(partial(getattr, served.batcher, "texts_in_flight"))

    def answered(self, answer: Answer) -> None:
        """Count the texts of a request that was answered, and how long each stage took."""
        bad = sum(isinstance(item, TextError) for item in answer.items)
        self.texts.inc(len(answer.items) - bad)
        self.bad_texts.inc(bad)
        self.tokens.inc(answer.tokens)
        for stage, seconds in (("tokenize", answer.tokenize_s), ("wait", answer.wait_s), ("read", answer.read_s)):
            self.latency.labels(stage).observe(seconds)

    def page(self) -> bytes:
        """Return everything as Prometheus reads it."""
        return generate_latest(self._registry)
