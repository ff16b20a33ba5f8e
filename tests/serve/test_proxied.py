"""F12, behind load balancers and proxies: connections, prefixes, origins, keys, certificates, IDs, unknown routes."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import re
import shutil
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.routing import Route

from bothways.errors import ConfigError
from bothways.runtime.classifier import Classifier
from bothways.serve.access import ApiKeys
from bothways.serve.app import build_app
from bothways.serve.grpc_messages import CLASSES, SERVICE, make
from bothways.serve.metrics import ServerMetrics
from bothways.serve.observation import read_request_id
from bothways.serve.routing import UnderRootPath
from bothways.serve.service import Service
from bothways.serve.settings import Settings, read_settings
from bothways.serve.tls import Certificate, read_certificate
from bothways.serve.trace_context import read_trace_context
from tests.console import run_bothways
from tests.serve.conftest import HOST, START_S, Reply, RunningServer, free_port, running
from tests.serve.test_abuse import eventually

pytestmark = pytest.mark.enable_socket

ROOT = Path(__file__).parents[2]
NGINX = shutil.which("nginx")
KEY, ORIGIN, PREFIX = "k-3f9a", "https://shop.example", "/reviews"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
BODY = {"texts": ["what a film"]}
HEADER_S, KEEP_ALIVE_S = 0.5, 2.5


@pytest.fixture(scope="module")
def proxied(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with everything that is off by default."""
    folder = tmp_path_factory.mktemp("proxied")
    (folder / "keys").write_text(f"# the shop\n{KEY}\n\nk-old\n")
    options = [f"--root-path={PREFIX}/", "--cors-origin", ORIGIN, "--api-key-file", folder / "keys", "--log", "json"]
    timeouts = ["--header-timeout-s", HEADER_S, "--keep-alive-s", KEEP_ALIVE_S, "--body-timeout-s", 2]
    with running(f"tiny={bundle_path}", *options, *timeouts, "--threads", 1, folder=folder) as found:
        yield found


def lines(server: RunningServer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log_text.splitlines()]


def line_of(server: RunningServer, reply: Reply) -> dict[str, Any]:
    """Return the log line of a request."""

    def found() -> list[dict[str, Any]]:
        return [line for line in lines(server) if line.get("request_id") == reply.headers["x-request-id"]]

    eventually(lambda: bool(found()))
    (line,) = found()
    return line


def lifetime_s(server: RunningServer, sent: bytes, drip: bytes = b"") -> float:
    """Return the seconds after which the server closes a connection, at most 30."""
    with server.connect() as connection:
        connection.settimeout(0.1)
        connection.sendall(sent)
        started = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - started < 30:
                connection.sendall(drip)
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(65_536):
                        break
        return time.monotonic() - started


@pytest.mark.server
def test_an_idle_connection_outlives_the_timeout_of_headers_and_then_closes(proxied: RunningServer) -> None:
    request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert KEEP_ALIVE_S - 0.5 < lifetime_s(proxied, request) < KEEP_ALIVE_S + 3
    assert HEADER_S - 0.5 < lifetime_s(proxied, request[:30]) < HEADER_S + 2
    assert HEADER_S - 0.5 < lifetime_s(proxied, request[:-2] + b"X-Slow: ", b"a") < HEADER_S + 2


def test_a_connection_is_used_again_after_a_pause_that_is_longer_than_a_header_may_take(proxied: RunningServer) -> None:
    connection = http.client.HTTPConnection(HOST, proxied.port, timeout=10)
    with contextlib.closing(connection):
        for pause in (2.5 * HEADER_S, 0):
            connection.request("POST", "/v1/classify", json.dumps(BODY), AUTHORIZED)
            reply = connection.getresponse()
            assert (reply.status, len(json.loads(reply.read())["results"])) == (200, 1)
            used = connection.sock.getsockname()
            time.sleep(pause)
        assert used == connection.sock.getsockname()


@pytest.mark.parametrize("prefix", ["", PREFIX], ids=["removed", "kept"])
def test_the_prefix_may_be_removed_by_the_proxy_or_not(proxied: RunningServer, prefix: str) -> None:
    assert proxied.request(f"{prefix}/v1/classify", BODY, AUTHORIZED).status == 200
    assert proxied.request(f"{prefix}/health/ready").status == 200
    assert proxied.request(f"{prefix}/v2/models/tiny", headers=AUTHORIZED).value["name"] == "tiny"
    assert proxied.request(f"{prefix}/openapi.json", headers=AUTHORIZED).value["servers"] == [{"url": PREFIX}]
    assert f'<base href="{PREFIX}/">' in proxied.request(f"{prefix}/").body.decode()
    assert proxied.request(f"{prefix}/v1/clasify", BODY).value["error"].endswith("did you mean /v1/classify?")


def test_the_page_is_also_at_the_prefix_itself(proxied: RunningServer) -> None:
    assert f'<base href="{PREFIX}/">' in proxied.request(PREFIX).body.decode()
    assert proxied.request(f"{PREFIX}er/v1/classify", BODY, AUTHORIZED).status == 404


def test_a_prefix_may_begin_like_a_route() -> None:
    service = Service((), Settings(root_path="/v1"), ServerMetrics())
    routes = [route for route in build_app(service).routes if isinstance(route, Route)]
    inner = UnderRootPath(build_app(service), "/v1", routes)._inner_path
    assert [inner(path) for path in ("/v1/v1/classify", "/v1/classify", "/v1/metrics", "/metrics", "/v1", "/v1x")] == [
        *("/v1/classify", "/v1/classify", "/metrics", "/metrics", "/", "/v1x")
    ]


def test_allowed_origins_may_send_requests_and_read_replies_others_not(proxied: RunningServer) -> None:
    def preflight(origin: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(HOST, proxied.port, timeout=10)
        with contextlib.closing(connection):
            asked = {
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type, x-api-key",
            }
            connection.request("OPTIONS", "/v1/classify", headers={"Origin": origin} | asked)
            return connection.getresponse()

    allowed, other = preflight(ORIGIN), preflight("https://other.example")
    assert (allowed.status, allowed.getheader("access-control-allow-origin")) == (200, ORIGIN)
    assert "x-api-key" in str(allowed.getheader("access-control-allow-headers")).lower()
    assert (other.status, other.getheader("access-control-allow-origin")) == (400, None)
    reply = proxied.request("/v1/classify", BODY, {"Origin": ORIGIN} | AUTHORIZED)
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert "x-request-id" in reply.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in {*reply.headers, *dict(allowed.getheaders())}
    refused = proxied.request("/v1/classify", BODY, {"Origin": ORIGIN})
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, ORIGIN)
    assert (
        "access-control-allow-origin" not in proxied.request("/", headers={"Origin": "https://other.example"}).headers
    )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"Authorization": f"bearer  {KEY}"}, 200),
        ({"X-API-Key": "k-old"}, 200),
        ({"X-API-Key": KEY.upper()}, 401),
        ({"X-API-Key": "# the shop"}, 401),
        ({"X-API-Key": ""}, 401),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({"Authorization": f"Bearer {KEY}k-old"}, 401),
        ({"Authorization": "Bearer"}, 401),
    ],
)
def test_requests_need_a_key_of_the_file(proxied: RunningServer, headers: dict[str, str], status: int) -> None:
    reply = proxied.request("/v1/classify", BODY, headers)
    assert reply.status == status
    if status == 401:
        assert (reply.value["kind"], reply.headers["www-authenticate"]) == ("unauthorized", "Bearer")
        assert "X-API-Key: KEY" in reply.value["error"]


def test_every_route_but_probes_metrics_and_the_page_needs_a_key(proxied: RunningServer) -> None:
    document = proxied.request("/openapi.json", headers=AUTHORIZED).value
    paths, schemes = document["paths"], document["components"]["securitySchemes"]
    assert [(scheme["type"], scheme.get("scheme"), scheme.get("name")) for scheme in schemes.values()] == [
        ("http", "bearer", None),
        ("apiKey", None, "X-API-Key"),
    ]
    statuses = {
        (path, method): proxied.request(path.replace("{model}", "tiny"), b"{}" if method == "post" else None).status
        for path, operations in paths.items()
        for method in operations
        if "{version}" not in path
    }
    for (path, method), status in statuses.items():
        schemes_of = [[*each] for each in paths[path][method].get("security", [])]
        assert schemes_of == ([["bearer"], ["header"]] if status == 401 else []), (path, method)
        assert ("401" in paths[path][method]["responses"]) == (status == 401), (path, method)
    is_open = {path for (path, _), status in statuses.items() if status != 401}
    assert is_open == {"/health", "/health/live", "/health/ready", "/ping", "/v2/health/live", "/v2/health/ready"} | {
        path for path in paths if path.endswith("/ready")
    } - {"/v2/models/{model}/versions/{version}/ready"}
    assert [proxied.request(path).status for path in ("/metrics", "/", "/openapi.json")] == [200, 200, 401]
    version = "/v2/models/tiny/versions/1"
    assert [proxied.request(f"{version}{path}").status for path in ("/ready", "", "/stats")] == [200, 401, 401]
    assert proxied.request("/predict", {"inputs": "a"}).value["error"].startswith("the request has no API key")


def test_keys_are_read_again_at_a_reload_and_a_broken_file_changes_nothing(
    bundle_path: Path, tmp_path: Path, proxied: RunningServer
) -> None:
    keys = proxied.log.parent / "keys"
    good = keys.read_text()

    def reload(content: str, done: str) -> None:
        count = proxied.log_text.count(done)
        keys.write_text(content)
        proxied.process.send_signal(signal.SIGHUP)
        eventually(lambda: proxied.log_text.count(done) > count)

    def status(key: str) -> int:
        return proxied.request("/v1/classify", BODY, {"X-API-Key": key}).status

    reload("k-new\n", "reloaded tiny")
    assert [status("k-new"), status(KEY)] == [200, 401]
    reload("k new\n", "can't be read again")
    assert [status("k-new"), status("k new")] == [200, 401]
    failed = [line for line in lines(proxied) if line["level"] == "error"]
    assert re.search(r"the API keys in \S+, line 1: not a key", failed[-1]["message"])
    assert not any("k-new" in line or KEY in line for line in proxied.log_text.splitlines())
    reload(good, "reloaded tiny")
    assert [status("k-new"), status(KEY)] == [401, 200]


@pytest.mark.parametrize("path", ["/v1/classify", "/nothing", "/metrics", "/health/ready", "/v1/models"])
def test_every_reply_has_the_id_of_the_request_and_its_trace(proxied: RunningServer, path: str) -> None:
    body = {"texts": 1} if path == "/v1/classify" else None
    given = proxied.request(path, body, {"X-Request-ID": "abc-1", "traceparent": TRACEPARENT})
    assert given.headers["x-request-id"] == "abc-1"
    trace = given.headers["traceparent"].split("-")
    assert [trace[0], trace[1], trace[3]] == ["00", TRACE, "01"]
    assert trace[2] != "00f067aa0ba902b7"
    for _ in range(2):
        own = proxied.request(path, body, {"X-Request-ID": 'a"b c', "traceparent": TRACEPARENT.upper()})
        assert re.fullmatch(r"[0-9a-f]{32}", own.headers["x-request-id"])
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", own.headers["traceparent"])
        assert TRACE not in own.headers["traceparent"]


def test_the_log_line_of_a_request_has_its_id_trace_and_model(proxied: RunningServer) -> None:
    headers = AUTHORIZED | {"X-Request-ID": "order-17", "traceparent": TRACEPARENT}
    line = line_of(proxied, proxied.request("/v1/classify", BODY, headers))
    assert line | {"time": 0, "ms": 0} == {
        "time": 0,
        "level": "info",
        "message": "POST /v1/classify 200",
        "method": "POST",
        "route": "/v1/classify",
        "status": 200,
        "ms": 0,
        "model": "tiny",
        "version": "1",
        "request_id": "order-17",
        "trace_id": TRACE,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    (example,) = re.findall(r'\{"time".*?\}', (ROOT / "docs" / "serving.md").read_text(), flags=re.DOTALL)
    assert list(json.loads(example)) == list(line)
    missing = proxied.request("/secret/path?name=secret", None)
    line = line_of(proxied, missing)
    assert (line["message"], line["route"]) == ("GET other 404", "other")
    assert "secret" not in proxied.log_text
    assert missing.value["kind"] == "unknown_route"


def test_f16_every_line_of_the_json_log_has_one_form(proxied: RunningServer) -> None:
    start = lines(proxied)[0]
    assert (start["level"], start["model"], start["version"]) == ("info", "tiny", "1")
    assert start["message"].startswith("serving tiny")
    assert all(list(line)[:3] == ["time", "level", "message"] for line in lines(proxied))


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("POST", "/v1/clasify", 404, "no route '/v1/clasify': did you mean /v1/classify?"),
        ("POST", "/v1/classify/", 404, "no route '/v1/classify/': did you mean /v1/classify?"),
        ("POST", "/v2/model/tiny/infer", 404, "did you mean /v2/models/{model}/infer?"),
        ("POST", "/v2/models/tiny/inferr", 404, "did you mean /v2/models/{model}/infer?"),
        ("GET", "/favicon.ico", 404, "no route '/favicon.ico': GET /openapi.json lists all routes"),
        ("GET", "/%0d%0aX:%201", 404, r"no route '/\\r\\nX: 1': GET /openapi.json lists all routes"),
        ("GET", "/v1/classify", 405, "GET is not allowed here, expected POST"),
        ("PUT", "/", 405, "PUT is not allowed here, expected GET, HEAD, POST"),
        ("NONSENSE", "/health/live", 405, "other is not allowed here, expected GET, HEAD"),
    ],
)
def test_requests_without_a_route_get_json_with_the_nearest_one_and_are_counted(
    proxied: RunningServer, method: str, path: str, status: int, error: str
) -> None:
    label = "other" if method == "NONSENSE" else method
    labels = f'{{method="{label}",model="",route="other",status="{status}",version=""}}'
    before = proxied.metric("bothways_requests_total", labels)
    connection = http.client.HTTPConnection(HOST, proxied.port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path)
        reply = connection.getresponse()
        value = json.loads(reply.read())
    assert (reply.status, error.replace("\\\\", "\\") in value["error"]) == (status, True), value
    assert (reply.getheader("allow") or "") == (error.partition("expected ")[2] if status == 405 else "")
    assert proxied.metric("bothways_requests_total", labels) == before + 1


def test_an_id_has_128_characters_of_a_few_kinds() -> None:
    for valid in ("7", "a" * 128, "order-17._~+/=:@-"):
        assert read_request_id([valid]) == valid
    for invalid in ("", "a" * 129, "-a", "a b", "ä", "a,b", 'a"', "a\n"):
        assert re.fullmatch(r"[0-9a-f]{32}", read_request_id([invalid])), invalid
    assert re.fullmatch(r"[0-9a-f]{32}", read_request_id(["a", "a"]))


def test_the_trace_context_is_read_strictly() -> None:
    valid = ["00-" + TRACEPARENT[3:-2] + flags for flags in ("00", "01", "ff")]
    later = ["cc-" + TRACEPARENT[3:], "01-" + TRACEPARENT[3:] + "-more"]
    for header in valid + later:
        found = read_trace_context([header])
        assert (found.trace_id, found.parent_id) == (TRACE, "00f067aa0ba902b7")
        assert found.is_sampled == (header[53:55] != "00")
    invalid = [
        "",
        TRACEPARENT + "-more",
        TRACEPARENT + " ",
        " " + TRACEPARENT,
        "ff-" + TRACEPARENT[3:],
        TRACEPARENT.upper(),
        TRACEPARENT.replace(TRACE, "0" * 32),
        TRACEPARENT.replace("00f067aa0ba902b7", "0" * 16),
        TRACEPARENT[:-1],
        "01-" + TRACEPARENT[3:] + ".more",
        TRACEPARENT.replace("4bf9", "4bg9"),
        TRACEPARENT.replace("4bf9", "４bf9"),
    ]
    for headers in [[], [TRACEPARENT, TRACEPARENT], *([header] for header in invalid)]:
        found = read_trace_context(headers)
        assert (found.trace_id != TRACE, found.parent_id, len(found.traceparent)) == (True, "", 55)
        assert read_trace_context([found.traceparent]).trace_id == found.trace_id


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a self-signed certificate for localhost and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def infer_over_grpc(port: int, crt: Path, metadata: list[tuple[str, str]]) -> str:
    """Return how the server answers a call over TLS."""
    with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(crt.read_bytes())) as channel:
        infer = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=CLASSES["ModelInferResponse"].FromString,
        )
        tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}}
        try:
            infer(make("ModelInferRequest", model_name="tiny", inputs=[tensor]), timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            return str(error)
        return "answered"


@pytest.mark.server
def test_it_speaks_https_with_a_certificate(bundle_path: Path, model: Classifier, tmp_path: Path) -> None:
    crt, key = certificate(tmp_path, "own")
    (tmp_path / "keys").write_text(KEY)
    grpc_port = free_port()
    options = [
        "--ssl-certfile",
        crt,
        "--ssl-keyfile",
        key,
        "--api-key-file",
        tmp_path / "keys",
        "--grpc-port",
        grpc_port,
    ]
    with running(bundle_path, *options, folder=tmp_path, wait=False) as server:

        def request(path: str, body: object = None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Any:
            context = ssl.create_default_context(cafile=str(crt))
            context.maximum_version = version
            connection = http.client.HTTPSConnection("localhost", server.port, timeout=10, context=context)
            with contextlib.closing(connection):
                connection.request(
                    "GET" if body is None else "POST", path, json.dumps(body) if body else None, AUTHORIZED
                )
                return json.loads(connection.getresponse().read())

        def is_ready() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return bool(request("/health/ready")["ready"])
            return False

        eventually(is_ready, within_s=START_S)
        expected = model.predict_proba(BODY["texts"])[0].tolist()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            found = request("/v1/classify", BODY, version)["results"][0]
            assert found["probabilities"]["ensemble"] == expected
        assert "UNAUTHENTICATED" in infer_over_grpc(grpc_port, crt, [])
        assert infer_over_grpc(grpc_port, crt, [("authorization", f"Bearer {KEY}")]) == "answered"
        assert f"at https://127.0.0.1:{server.port}" in server.log_text
        with pytest.raises((http.client.HTTPException, OSError)):
            server.request("/health/live")
        with server.connect(), server.connect() as sending:
            sending.sendall(b"GET /hea")
            started = time.monotonic()
            assert server.stop() == 0
        assert time.monotonic() - started < 10  # connections without a request do not delay it


@pytest.mark.server
def test_a_renewed_certificate_is_shown_without_a_restart_and_no_connection_is_lost(
    bundle_path: Path, tmp_path: Path
) -> None:
    crt, key = certificate(tmp_path, "own")
    grpc_port = free_port()
    options = ["--ssl-certfile", crt, "--ssl-keyfile", key, "--grpc-port", grpc_port, "--header-timeout-s", 2]
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    with (
        running(f"tiny={bundle_path}", *options, folder=tmp_path, wait=False) as server,
        contextlib.ExitStack() as closing,
    ):

        def connect() -> http.client.HTTPSConnection:
            return http.client.HTTPSConnection(HOST, server.port, timeout=30, context=anyone)

        def status(connection: http.client.HTTPSConnection) -> int:
            connection.request("POST", "/v1/classify", json.dumps(BODY))
            reply = connection.getresponse()
            reply.read()
            return reply.status

        def shown() -> bytes:
            with server.connect() as opened, anyone.wrap_socket(opened) as secured:
                return secured.getpeercert(binary_form=True) or b""

        def is_renewed(times: int) -> bool:
            return server.log_text.count("the certificate was renewed") == times

        def send_until(ended: threading.Event) -> list[int]:
            found = []
            while not ended.is_set():
                with contextlib.closing(connect()) as connection:
                    found += [status(connection), status(connection)]
            return found

        eventually(lambda: "serving" in server.log_text, within_s=START_S)
        key.write_bytes(certificate(tmp_path, "other")[1].read_bytes())
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: "nothing is reloaded" in server.log_text)
        for number in range(1, 4):
            before, ended, idle = shown(), threading.Event(), closing.enter_context(contextlib.closing(connect()))
            with contextlib.ExitStack() as stack:
                kept, silent = stack.enter_context(contextlib.closing(connect())), stack.enter_context(server.connect())
                sending = [stack.enter_context(ThreadPoolExecutor(1)).submit(send_until, ended) for _ in range(4)]
                stack.callback(ended.set)
                assert [status(kept), status(idle)] == [200, 200]
                certificate(tmp_path, "own")
                server.process.send_signal(signal.SIGHUP)
                eventually(partial(is_renewed, number))
                assert shown() == ssl.PEM_cert_to_DER_cert(crt.read_text()) != before
                kept.request("GET", "/health/live")
                reply = kept.getresponse()
                assert (reply.status, reply.getheader("connection")) == (200, "close")
                reply.read()
                with anyone.wrap_socket(silent) as secured:  # a handshake that began before the renewal
                    assert secured.getpeercert(binary_form=True) == before
            statuses = [found for each in sending for found in each.result()]
            assert set(statuses) == {200}
            assert infer_over_grpc(grpc_port, crt, []) == "answered"
        idle.sock.settimeout(10)
        assert idle.sock.recv(1) == b""  # after header-timeout-s
        assert server.stop() == 0
        assert "stopped after draining" in server.log_text


def test_wrong_certificates_keys_and_prefixes_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (crt, own), (_, other) = certificate(tmp_path, "own"), certificate(tmp_path, "other")
    (tmp_path / "text").write_text("no keys here\n")
    (tmp_path / "empty").write_text("# none\n")
    encrypted = serialization.BestAvailableEncryption(b"secret")
    private = serialization.load_pem_private_key(own.read_bytes(), None)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "encrypted").write_bytes(private.private_bytes(pem, pkcs8, encrypted))
    no_pair = "are not a certificate and its private key"
    cases: list[tuple[dict[str, object], str]] = [
        ({"ssl_keyfile": other}, "--ssl-keyfile needs --ssl-certfile"),
        ({"ssl_certfile": "no.pem"}, r"no\.pem can't be read: No such file or directory"),
        ({"ssl_certfile": crt, "ssl_keyfile": other}, rf"{no_pair} \(key values mismatch\)"),
        ({"ssl_certfile": crt, "ssl_keyfile": "encrypted"}, f"{no_pair} .* a key without a password"),
        ({"ssl_certfile": "text"}, no_pair),
        ({"ssl_certfile": crt}, no_pair),
        ({"api_key_file": "none"}, "the API keys in none can't be read: No such file or directory"),
        ({"api_key_file": "text"}, "line 1: not a key, expected visible ASCII characters without spaces"),
        ({"api_key_file": "empty"}, "the file has no keys, expected one per line"),
        ({"root_path": "reviews"}, "--root-path: expected a path such as /reviews, found 'reviews'"),
        ({"cors_origin": ["https://a.example/"]}, r"--cors-origin: expected \* or an origin such as https"),
    ]
    for options, message in cases:
        with pytest.raises(ConfigError, match=message):
            _check({name: str(value) if isinstance(value, Path) else value for name, value in options.items()})
    assert _check({"ssl_certfile": str(crt), "ssl_keyfile": str(own)}) == Certificate(
        crt, own, (crt.read_bytes(), own.read_bytes())
    )
    origins = read_settings(
        {}, environment={"BOTHWAYS_CORS_ORIGIN": "https://a.example, http://b.example:80"}
    ).cors_origin
    assert origins == ("https://a.example", "http://b.example:80")


def _check(options: dict[str, object]) -> Certificate | None:
    settings = read_settings(options, environment={})
    ApiKeys(None if settings.api_key_file is None else Path(settings.api_key_file))
    return read_certificate(settings)


def test_f16_errors_at_the_start_are_lines_of_the_log(tmp_path: Path, bundle_path: Path) -> None:
    finished = run_bothways("serve", str(bundle_path), "--log", "json", "--api-key-file", "nowhere")
    (line,) = finished.stderr.splitlines()
    assert finished.returncode == 2
    message = "the API keys in nowhere can't be read: No such file or directory"
    assert json.loads(line) | {"time": 0} == {"time": 0, "level": "error", "message": message}


@pytest.mark.server
@pytest.mark.skipif(NGINX is None, reason="no nginx")
def test_the_configuration_of_nginx_in_deploy_works(proxied: RunningServer, tmp_path: Path) -> None:
    assert NGINX is not None
    port = free_port()
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{proxied.port}").replace("listen 80;", f"listen {HOST}:{port};")
    folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    temporary = "".join(f"{name}_temp_path {tmp_path}/{name};" for name in folders)
    main = f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}} "
    (tmp_path / "nginx.conf").write_text(f"{main} http {{ access_log off; {temporary} {text} }}")
    command = [NGINX, "-e", f"{tmp_path}/error.log", "-p", str(tmp_path), "-c", f"{tmp_path}/nginx.conf"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    nginx = RunningServer(process, port, tmp_path / "error.log")
    try:
        eventually(lambda: _answers(nginx))
        reply = nginx.request("/reviews/v1/classify", BODY, AUTHORIZED)
        assert (reply.status, reply.headers["x-model"]) == (200, "tiny")
        assert line_of(proxied, reply)["request_id"] == reply.headers["x-request-id"]
        assert f'<base href="{PREFIX}/">' in nginx.request("/reviews/").body.decode()
        assert nginx.request("/reviews/metrics").status == 404
        lines = nginx.request(
            "/reviews/v1/classify", b'"a"\n"b"\n', AUTHORIZED | {"Content-Type": "application/jsonlines"}
        )
        assert len(lines.body.splitlines()) == 2
        too_large = nginx.request("/reviews/v1/classify", bytes(2_050_000), AUTHORIZED)
        assert (too_large.status, too_large.value["kind"]) == (413, "too_large")  # the server's reply, not nginx's
    finally:
        process.terminate()
        process.wait()


def _answers(server: RunningServer) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return server.request("/reviews/health/live", timeout_s=5).status == 200
    return False
