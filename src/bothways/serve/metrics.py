"""Prometheus metrics of the server. They never contain a text or any part of one.

What a model does now, such as the length of its queue, is read from the service at the time of the scrape, so that no
metric keeps a replaced model in memory.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from bothways.bundle.manifest import AbstentionReason
from bothways.errors import ServingError
from bothways.runtime.prediction import Prediction
from bothways.serve.answers import Answer
from bothways.serve.batching import Batcher
from bothways.serve.observation import Observation
from bothways.tasks.labels import label_text
from bothways.text.coverage import Unreadable
from bothways.version import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_MODEL = ["model", "version"]
_PROBABILITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_REASONS = (*Unreadable, *AbstentionReason)
_MOST_LABELS = 1000
"""The predicted labels of models with more are not counted by label."""
_MOST_REMEMBERED = 1000
"""Metrics that are found again without their labels being compared."""


class Measured(Protocol):
    """A model whose state is reported."""

    @property
    def name(self) -> str:
        """The name of the model."""

    @property
    def version(self) -> str:
        """The version of the model."""

    @property
    def batcher(self) -> Batcher:
        """The running batch of the model."""

    @property
    def loaded_at_s(self) -> float:
        """The time of loading, in seconds since 1970."""


class ServerMetrics:
    """The counters, gauges and histograms of one server."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "bothways_requests",
            "Requests by route and status.",
            ["route", "method", "status", *_MODEL],
            registry=registry,
        )
        self.rejections = Counter("bothways_rejections", "Rejected requests by reason.", ["reason"], registry=registry)
        for reason in sorted(_kinds(ServingError)):
            self.rejections.labels(reason)  # a counter that begins at 0 shows its first increase
        self.in_progress = Gauge("bothways_requests_in_progress", "Requests being answered.", registry=registry)
        self.texts = Counter("bothways_texts", "Texts classified.", _MODEL, registry=registry)
        self.bad_texts = Counter("bothways_bad_texts", "Texts that could not be classified.", _MODEL, registry=registry)
        self.tokens = Counter("bothways_tokens", "Tokens of the texts classified.", _MODEL, registry=registry)
        self.labels = Counter("bothways_labels", "Predicted labels.", ["label", *_MODEL], registry=registry)
        self.abstained = Counter(
            "bothways_abstained",
            "Texts from which a model abstains, by reason.",
            ["cause", *_MODEL],
            registry=registry,
        )
        self.probability = Histogram(
            "bothways_label_probability",
            "Probability of the most probable label.",
            _MODEL,
            buckets=_PROBABILITIES,
            registry=registry,
        )
        self.latency = Histogram(
            "bothways_latency_seconds",
            "Seconds per stage of a request.",
            ["stage", *_MODEL],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self.reloads = Counter(
            "bothways_reloads", "Reloads of bundles by result.", ["result", *_MODEL], registry=registry
        )
        version = Gauge("bothways_build", "1, with the version of bothways.", ["version"], registry=registry)
        version.labels(__version__).set(1)
        ProcessCollector(registry=registry)
        self._requests_of = lru_cache(_MOST_REMEMBERED)(self.requests.labels)
        self._latency_of = lru_cache(_MOST_REMEMBERED)(self.latency.labels)
        self._abstained_of = lru_cache(_MOST_REMEMBERED)(self.abstained.labels)
        self._label_of = lru_cache(_MOST_REMEMBERED)(self.labels.labels)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Record the duration of a stage of a request for which no model is chosen yet."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._latency_of(name, "", "").observe(time.perf_counter() - started)

    def texts_of(self, model: str, version: str) -> int:
        """Return the number of texts that a model has classified."""
        wanted = {"model": model, "version": version}
        samples = (sample for metric in self.texts.collect() for sample in metric.samples)
        return int(sum(found.value for found in samples if found.name.endswith("_total") and found.labels == wanted))

    def stages_of(self, model: str, version: str) -> dict[str, tuple[int, float]]:
        """Return the number of requests that a model has answered, and the sum of their seconds, by stage."""
        counts: dict[str, int] = {}
        seconds: dict[str, float] = {}
        for sample in (sample for metric in self.latency.collect() for sample in metric.samples):
            if (sample.labels["model"], sample.labels["version"]) == (model, version):
                if sample.name.endswith("_count"):
                    counts[sample.labels["stage"]] = int(sample.value)
                elif sample.name.endswith("_sum"):
                    seconds[sample.labels["stage"]] = sample.value
        return {stage: (count, seconds[stage]) for stage, count in counts.items()}

    def report_models(self, models: Callable[[], Iterable[Measured]]) -> None:
        """Report the state of the models at every scrape.

        Args:
            models: Returns the models that are being served.
        """
        self._registry.register(_Models(models))

    def count_request(self, observation: Observation, seconds: float) -> None:
        """Count a request that was answered, and record how long it took. Probes have no influence on the latency."""
        of_model = (observation.model, observation.version)
        labels = (observation.route, observation.method, str(observation.status))
        self._requests_of(*labels, *of_model).inc()
        if not observation.is_probe:
            self._latency_of("request", *of_model).observe(seconds)

    def count_answer(self, answer: Answer, model: str, version: str) -> None:
        """Count the texts and tokens of an answered request, and record the duration of each stage."""
        self.texts.labels(model, version).inc(answer.classified)
        self.bad_texts.labels(model, version).inc(len(answer.items) - answer.classified)
        self.tokens.labels(model, version).inc(answer.tokens)
        for reason in _REASONS:
            self._abstained_of(reason, model, version)  # a counter that begins at 0 shows its first increase
        for prediction in answer.predictions:
            self._count_prediction(prediction, model, version)
        for stage, seconds in answer.stages.items():
            self._latency_of(stage, model, version).observe(seconds)

    def _count_prediction(self, prediction: Prediction, model: str, version: str) -> None:
        """Count the labels of a prediction, its probability, and the reason to abstain."""
        if len(prediction.labels) <= _MOST_LABELS:
            for label in prediction.chosen:
                self._label_of(label_text(label), model, version).inc()
        if prediction.probability is not None:
            self.probability.labels(model, version).observe(prediction.probability)
        if prediction.abstained is not None:
            self._abstained_of(prediction.abstained, model, version).inc()

    def render(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self._registry)


def _kinds(error: type[ServingError]) -> set[str]:
    """Return the kinds of an error's subclasses."""
    return {kind for base in error.__subclasses__() for kind in {base.kind} | _kinds(base)}


class _Models(Collector):
    """The state of the models at the time of a scrape."""

    def __init__(self, models: Callable[[], Iterable[Measured]]) -> None:
        self._models = models

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the gauges of all models."""
        info = GaugeMetricFamily("bothways_model", "1 per model that is served.", labels=[*_MODEL, "digest"])
        gauges: dict[str, tuple[str, Callable[[Measured], float]]] = {
            "bothways_queue_tokens": (
                "Tokens of the texts waiting or in progress.",
                lambda served: served.batcher.tokens,
            ),
            "bothways_queue_limit_tokens": (
                "The most tokens that may wait or be in progress.",
                lambda served: served.batcher.max_tokens,
            ),
            "bothways_queue_seconds": (
                "Seconds that reading the queue takes at the measured speed.",
                lambda served: served.batcher.seconds,
            ),
            "bothways_batch_texts": (
                "Texts in progress. At most 32 are read at a time.",
                lambda served: served.batcher.texts_in_progress,
            ),
            "bothways_model_loaded_timestamp_seconds": (
                "Time of loading, in seconds since 1970.",
                lambda served: served.loaded_at_s,
            ),
        }
        families = {name: GaugeMetricFamily(name, text, labels=_MODEL) for name, (text, _) in gauges.items()}
        shares = GaugeMetricFamily(
            "bothways_label_training_share", "Share of the training rows with a label.", labels=["label", *_MODEL]
        )
        for served in self._models():
            labels = [served.name, served.version]
            info.add_metric([*labels, served.batcher.model.digest], 1)
            for name, (_, value) in gauges.items():
                families[name].add_metric(labels, value(served))
            model = served.batcher.model
            if model.training_shares is not None and len(model.labels) <= _MOST_LABELS:
                for label, share in zip(model.labels, model.training_shares.tolist(), strict=True):
                    shares.add_metric([label_text(label), *labels], share)
        yield from (info, *families.values(), shares)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Return no metrics, so that registering the collector does not read the models."""
        return iter(())
