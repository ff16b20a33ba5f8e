"""Traces and metrics of requests reach an OpenTelemetry collector, if the variables name one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from bothways.serve.telemetry import resource_of, start_telemetry
from tests.serve.conftest import HOST, running
from tests.serve.test_abuse import eventually

pytestmark = pytest.mark.enable_socket
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """A collector that keeps what it receives."""

    def __init__(self) -> None:
        received = self.received = list[tuple[str, bytes]]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer((HOST, 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server.server_address[1]}"

    def spans(self, trace_id: str = TRACE) -> list[Span]:
        requests = [ExportTraceServiceRequest.FromString(body) for path, body in self.received if path == "/v1/traces"]
        spans = [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return [span for span in spans if span.trace_id.hex() == trace_id]

    def metrics(self) -> dict[str, str]:
        """Return the newest value of each metric as text."""
        bodies = [body for path, body in self.received if path == "/v1/metrics"]
        return {
            metric.name: str(metric)
            for body in bodies
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


def attributes(span: Span) -> dict[str, object]:
    return {item.key: item.value.string_value or item.value.int_value for item in span.attributes}


@pytest.mark.server
def test_a_request_is_a_span_with_a_span_per_stage_in_the_trace_of_the_client(
    bundle_path: Path, tmp_path: Path
) -> None:
    with collecting() as collector:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "shop"}
        with running(f"tiny={bundle_path}", "--threads", 1, folder=tmp_path, variables=variables) as server:
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "order-17"}
            reply = server.request("/v1/classify", {"texts": ["a secret film", 1]}, headers)
            server.request("/secret", headers=headers)
            own = server.request("/v1/models").headers["traceparent"].split("-")
            server.request("/v1/classify", b'"a"\n"b"\n', {"content-type": "application/jsonlines"})
            unsampled = server.request("/v1/models", headers={"traceparent": f"00-{'1' * 32}-{PARENT}-00"})
            server.request("/health/ready", headers=headers)
            assert server.stop() == 0  # sends the rest
    spans = {span.name: span for span in collector.spans()}
    assert set(spans) == {"POST /v1/classify", "GET", "tokenize", "wait", "read"}
    request = spans["POST /v1/classify"]
    assert (request.parent_span_id.hex(), request.kind) == (PARENT, Span.SPAN_KIND_SERVER)
    assert reply.headers["traceparent"] == f"00-{TRACE}-{request.span_id.hex()}-01"
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/v1/classify",
        "http.response.status_code": 200,
        "bothways.model": "tiny",
        "bothways.model.version": "1",
        "bothways.texts": 2,
        "bothways.tokens": request.attributes and attributes(request)["bothways.tokens"],
        "bothways.request_id": "order-17",
    }
    times = [request.start_time_unix_nano]
    for stage in ("tokenize", "wait", "read"):
        assert spans[stage].parent_span_id == request.span_id
        times += [spans[stage].start_time_unix_nano, spans[stage].end_time_unix_nano]
    assert [*times, request.end_time_unix_nano] == sorted([*times, request.end_time_unix_nano])
    assert [span.span_id.hex() for span in collector.spans(own[1])] == [own[2]]
    assert collector.spans("1" * 32) == []
    assert unsampled.headers["traceparent"].startswith(f"00-{'1' * 32}-")
    metrics = collector.metrics()
    assert set(metrics) == {
        "http.server.request.duration",
        "bothways.texts",
        "bothways.tokens",
        "bothways.queue.tokens",
    }
    assert 'string_value: "/v1/classify"' in metrics["http.server.request.duration"]
    assert "as_int: 3" in metrics["bothways.texts"]  # one and two lines
    received = b"".join(body for _, body in collector.received)
    assert b"shop" in received
    assert b"secret" not in received


@pytest.mark.server
def test_a_collector_that_does_not_answer_delays_nothing_and_is_a_line_of_the_log(
    bundle_path: Path, tmp_path: Path
) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with running(bundle_path, "--log", "json", folder=tmp_path, variables=variables) as server:
        assert server.classify(["a film"]).status == 200
        eventually(lambda: "127.0.0.1" in server.log_text.partition("/v1/classify")[2])
        assert all(line.startswith('{"time": "') for line in server.log_text.splitlines())
        assert server.stop() == 0


def test_only_one_protocol_is_supported(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_METRICS_EXPORTER": "none"}
    found = start_telemetry(list, {**endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert found is not None
    found.close(5)
    assert "OTEL_EXPORTER_OTLP_PROTOCOL is grpc, but only http/protobuf is supported" in caplog.text


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
        },
    ],
)
def test_nothing_is_sent_unless_a_collector_is_named(variables: dict[str, str]) -> None:
    assert start_telemetry(list, variables) is None
    assert resource_of(variables)["service.name"] == "bothways"
    assert "service.name" not in resource_of({"OTEL_RESOURCE_ATTRIBUTES": "service.name=shop"})
