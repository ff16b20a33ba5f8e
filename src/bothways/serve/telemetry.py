"""Send traces and metrics of requests to an OpenTelemetry collector, if the variables of OpenTelemetry name one.

The SDK is an extra, and imported only then. Spans are made when a request has been answered, from the times of its
stages. They have the IDs that the log line and the reply of the request have. They never contain a text or a path.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from bothways.errors import shown
from bothways.serve.answers import Answer
from bothways.serve.log import log_message
from bothways.serve.metrics import Measured
from bothways.serve.observation import OTHER, Observation
from bothways.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import CallbackOptions
    from opentelemetry.metrics import Observation as Measurement
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

    Attributes = Mapping[str, str | int | float]
    Models = Callable[[], Iterable[Measured]]

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_ENDPOINTS = {
    "TRACES": (_ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
    "METRICS": (_ENDPOINT, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"),
}
_PROTOCOLS = (
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
)
_PROTOCOL = "http/protobuf"
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Those of OpenTelemetry's conventions for HTTP servers."""
_SERVICE = "bothways"
_NS = 1_000_000_000


class Telemetry:
    """What is sent to a collector. Sending happens in threads of the SDK, and its failures are lines of the log."""

    def __init__(self, spans: Spans | None, measures: Measures | None) -> None:
        self._spans, self._measures = spans, measures

    def record(self, observation: Observation, seconds: float) -> None:
        """Record a request that was answered in this number of seconds."""
        if self._spans is not None and not observation.is_probe:
            self._spans.record(observation, observation.started_ns + round(seconds * _NS))
        if self._measures is not None:
            self._measures.record(observation, seconds)

    def count_answer(self, answer: Answer, model: str, version: str) -> None:
        """Count the texts and tokens of an answer. A request in JSON lines has one per group of lines."""
        if self._measures is not None:
            self._measures.count_answer(answer, model, version)

    def close(self, timeout_s: float) -> None:
        """Send what has not been sent yet, for at most this number of seconds."""
        closing = threading.Thread(target=self._shut_down, daemon=True)
        closing.start()
        closing.join(timeout_s)

    def _shut_down(self) -> None:
        for part in (self._spans, self._measures):
            if part is not None:
                part.provider.shutdown()


def start_telemetry(models: Models, environment: Mapping[str, str] = os.environ) -> Telemetry | None:
    """Return what sends to the collector that the variables name, or None if they name none.

    Args:
        models: Returns the models that are being served.
        environment: The variables, as OpenTelemetry defines them.
    """
    wanted = {kind for kind in _ENDPOINTS if _is_wanted(kind, environment)}
    if not wanted:
        return None
    for name in _PROTOCOLS:
        if environment.get(name, _PROTOCOL) != _PROTOCOL:
            log_message(f"{name} is {shown(environment[name])}, but only {_PROTOCOL} is supported", logging.WARNING)
    try:
        spans = Spans(resource_of(environment)) if "TRACES" in wanted else None
        measures = Measures(resource_of(environment), models) if "METRICS" in wanted else None
    except ImportError as error:
        log_message(
            f"{_ENDPOINT} is set, but sending to it needs {error.name}: pip install 'bothways[telemetry]'",
            logging.WARNING,
        )
        return None
    except ValueError as error:
        log_message(f"the OTEL_ variables are invalid, nothing is sent: {shown(error)}", logging.WARNING)
        return None
    return Telemetry(spans, measures)


def _is_wanted(kind: str, environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    is_off = environment.get(f"OTEL_{kind}_EXPORTER", "otlp") == "none"
    return not is_off and any(environment.get(name) for name in _ENDPOINTS[kind])


def resource_of(environment: Mapping[str, str]) -> Attributes:
    """Return what identifies this server, except what the variables state."""
    is_named = "OTEL_SERVICE_NAME" in environment or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return {"service.version": __version__} | ({} if is_named else {"service.name": _SERVICE})


class Spans:
    """The spans of requests: one per request, and one per stage of its answer."""

    def __init__(self, attributes: Attributes) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415

        class Ids(RandomIdGenerator):
            """Returns the IDs of the request whose spans are being made."""

            def generate_span_id(self) -> int:
                return ids.pop("span", None) or super().generate_span_id()

            def generate_trace_id(self) -> int:
                return ids.pop("trace", None) or super().generate_trace_id()

        ids: dict[str, int] = {}
        self._ids = ids
        self.provider: TracerProvider = TracerProvider(resource=Resource.create(attributes), id_generator=Ids())
        self.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self.provider.get_tracer(_SERVICE, __version__)

    def record(self, observation: Observation, ended_ns: int) -> None:
        """Record the spans of a request."""
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags  # noqa: PLC0415

        of_request = observation.trace
        context = None
        if of_request.parent_id:
            flags = TraceFlags(TraceFlags.SAMPLED if of_request.is_sampled else TraceFlags.DEFAULT)
            parent = SpanContext(int(of_request.trace_id, 16), int(of_request.parent_id, 16), True, flags)
            context = trace.set_span_in_context(NonRecordingSpan(parent))
        self._ids.update(span=int(of_request.span_id, 16), trace=int(of_request.trace_id, 16))
        name = observation.method if observation.route == OTHER else f"{observation.method} {observation.route}"
        span = self._tracer.start_span(
            name, context, trace.SpanKind.SERVER, attributes_of(observation), start_time=observation.started_ns
        )
        self._ids.clear()
        if observation.status >= 500:
            span.set_status(trace.StatusCode.ERROR)
        inner = trace.set_span_in_context(span)
        for stage, begin_ns, end_ns in stages_of(observation):
            self._tracer.start_span(stage, inner, start_time=begin_ns).end(end_ns)
        span.end(ended_ns)


class Measures:
    """The metrics of requests and models."""

    def __init__(self, attributes: Attributes, models: Models) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
        from opentelemetry.metrics import Observation as Measurement  # noqa: PLC0415
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

        def queue_tokens(_: CallbackOptions) -> Iterator[Measurement]:
            for served in models():
                yield Measurement(served.batcher.tokens, _model_attributes(served.name, served.version))

        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
        self.provider: MeterProvider = MeterProvider([reader], Resource.create(attributes))
        meter = self.provider.get_meter(_SERVICE, __version__)
        self._duration = meter.create_histogram(
            "http.server.request.duration",
            "s",
            "Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=_BUCKETS_S,
        )
        self._texts = meter.create_counter("bothways.texts", "{text}", "Texts classified.")
        self._tokens = meter.create_counter("bothways.tokens", "{token}", "Tokens of the texts classified.")
        meter.create_observable_gauge(
            "bothways.queue.tokens", [queue_tokens], "{token}", "Tokens of the texts waiting or in progress."
        )

    def record(self, observation: Observation, seconds: float) -> None:
        """Record a request."""
        if not observation.is_probe:
            self._duration.record(seconds, _request_attributes(observation))

    def count_answer(self, answer: Answer, model: str, version: str) -> None:
        """Count the texts and tokens of an answer."""
        of_model = _model_attributes(model, version)
        self._texts.add(answer.classified, of_model)
        self._tokens.add(answer.tokens, of_model)


def _model_attributes(model: str, version: str) -> dict[str, str]:
    return {"bothways.model": model, "bothways.model.version": version} if model else {}


def _request_attributes(observation: Observation) -> dict[str, str | int]:
    """Return the attributes of a request that have few values, named by OpenTelemetry's conventions."""
    return {
        "http.request.method": observation.method if observation.method != OTHER else "_OTHER",
        "http.response.status_code": observation.status,
        **({} if observation.route == OTHER else {"http.route": observation.route}),
        **_model_attributes(observation.model, observation.version),
    }


def attributes_of(observation: Observation) -> Attributes:
    """Return the attributes of a request's span."""
    answer: Answer | None = observation.answer
    counts = {} if answer is None else {"bothways.texts": len(answer.items), "bothways.tokens": answer.tokens}
    return {**_request_attributes(observation), **counts, "bothways.request_id": observation.request_id}


def stages_of(observation: Observation) -> list[tuple[str, int, int]]:
    """Return the stages of an answer in their order, each with its begin and end in nanoseconds since 1970."""
    if observation.answer is None:
        return []
    found, end_ns = [], observation.answered_ns
    for stage, seconds in reversed(observation.answer.stages.items()):
        begin_ns = end_ns - round(seconds * _NS)
        found.append((stage, begin_ns, end_ns))
        end_ns = begin_ns
    return list(reversed(found))
