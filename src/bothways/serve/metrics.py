"""Prometheus metrics of the server. They never contain a text or any part of one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bothways.errors import TextError
from bothways.serve.answers import Answer
from bothways.serve.batching import Batcher

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class ServerMetrics:
    """The counters, gauges and histograms of one server."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "bothways_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self.rejections = Counter("bothways_rejections", "Rejected requests by reason.", ["reason"], registry=registry)
        self.texts = Counter("bothways_texts", "Texts classified.", registry=registry)
        self.bad_texts = Counter("bothways_bad_texts", "Texts that could not be classified.", registry=registry)
        self.tokens = Counter("bothways_tokens", "Tokens of the texts classified.", registry=registry)
        self.latency = Histogram(
            "bothways_latency_seconds",
            "Seconds per stage of a request.",
            ["stage"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._queue = Gauge(
            "bothways_queue_tokens",
            "Tokens of the texts waiting or in progress.",
            ["model", "version"],
            registry=registry,
        )
        self._in_progress = Gauge(
            "bothways_batch_texts",
            "Texts in progress. At most 32 are read at a time.",
            ["model", "version"],
            registry=registry,
        )
        self._models = Gauge(
            "bothways_model", "1 per model that is served.", ["model", "version", "digest"], registry=registry
        )

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Record the duration of a stage of a request."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.latency.labels(name).observe(time.perf_counter() - started)

    def set_models(self, batchers: Mapping[tuple[str, str], Batcher]) -> None:
        """Replace the models whose gauges are reported.

        Args:
            batchers: The batcher of each model that is served, by the model's name and version.
        """
        for gauge in (self._queue, self._in_progress, self._models):
            gauge.clear()
        for (name, version), batcher in batchers.items():
            self._models.labels(name, version, batcher.model.digest).set(1)
            self._queue.labels(name, version).set_function(partial(getattr, batcher, "tokens"))
            self._in_progress.labels(name, version).set_function(partial(getattr, batcher, "texts_in_progress"))

    def count_answer(self, answer: Answer) -> None:
        """Count the texts and tokens of an answered request, and record the duration of each stage."""
        bad = sum(isinstance(item, TextError) for item in answer.items)
        self.texts.inc(len(answer.items) - bad)
        self.bad_texts.inc(bad)
        self.tokens.inc(answer.tokens)
        for stage, seconds in (("tokenize", answer.tokenize_s), ("wait", answer.wait_s), ("read", answer.read_s)):
            self.latency.labels(stage).observe(seconds)

    def render(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self._registry)
