"""The Open Inference Protocol over gRPC: the numbers of ``predict``, deadlines of clients, and limits as over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import grpc
import numpy as np
import pytest

from bothways.errors import Unavailable
from bothways.runtime.classifier import Classifier
from bothways.serve.batching import Batcher
from bothways.serve.bundles import parse_bundles
from bothways.serve.grpc_messages import CLASSES, SERVICE, make
from bothways.serve.grpc_server import GrpcServer
from bothways.serve.metrics import ServerMetrics
from bothways.serve.service import Service
from bothways.serve.settings import Settings
from tests.serve.conftest import HOST, RunningServer, free_port, running
from tests.serve.test_abuse import eventually

pytestmark = pytest.mark.enable_socket
TEXTS = ["what a lovely film", "the DOG ate the cat", "schöne Grüße 👋", ""]


class Client:
    """A client of the service, with the messages of the server. ``test_clients.py`` has an independent one."""

    def __init__(self, port: int, channel: Any = None) -> None:
        self.port, self.channel = port, channel or grpc.insecure_channel(f"{HOST}:{port}")

    def method(self, name: str) -> Any:
        return self.channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=CLASSES[f"{name}Response"].FromString,
        )

    def stream(self, requests: Iterator[Any]) -> Any:
        method = self.channel.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=CLASSES["ModelStreamInferResponse"].FromString,
        )
        return method(requests, timeout=60)

    def call(self, method_name: str, /, timeout_s: float | None = 30, **fields: Any) -> Any:
        return self.method(method_name)(make(f"{method_name}Request", **fields), timeout=timeout_s)

    def infer(self, model: str, texts: Sequence[str], timeout_s: float | None = 30, **fields: Any) -> Any:
        fields = {"inputs": [tensor_of(texts)], **fields}
        return self.call("ModelInfer", timeout_s, model_name=model, **fields)


def tensor_of(texts: Sequence[str]) -> dict[str, Any]:
    contents = {"bytes_contents": [text.encode() for text in texts]}
    return {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "contents": contents}


def elements(raw: bytes) -> list[str]:
    found, position = [], 0
    while position < len(raw):
        (length,) = struct.unpack_from("<I", raw, position)
        found.append(raw[position + 4 : position + 4 + length].decode())
        position += 4 + length
    return found


@contextlib.contextmanager
def refused(code: grpc.StatusCode, message: str) -> Iterator[None]:
    """Check that a call ends with a code."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert (caught.value.code(), message in caught.value.details()) == (code, True), caught.value.details()


@pytest.fixture(scope="module")
def client_and_server(
    bundle_path: Path,
    multi_label_bundle_path: Path,
    targets_bundle_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Client, RunningServer]]:
    bundles = [f"tiny={bundle_path}", f"topics={multi_label_bundle_path}", f"houses={targets_bundle_path}"]
    limits = ["--max-texts", 50, "--max-body-bytes", 100_000, "--threads", 1]
    port = free_port()
    with running(*bundles, *limits, "--grpc-port", port, folder=tmp_path_factory.mktemp("grpc")) as server:
        client = Client(port)
        yield client, server
        client.channel.close()


@pytest.fixture
def client(client_and_server: tuple[Client, RunningServer]) -> Client:
    return client_and_server[0]


def test_the_server_and_its_models_are_described(client: Client) -> None:
    assert client.call("ServerLive").live
    assert client.call("ServerReady").ready
    assert client.call("ModelReady", name="topics", version="1").ready
    assert client.call("ServerMetadata").name == "bothways"
    metadata = client.call("ModelMetadata", name="topics")
    assert (metadata.name, list(metadata.versions)) == ("topics", ["1"])
    assert [(each.name, list(each.shape)) for each in metadata.outputs][:3] == [
        ("labels", [-1]),
        ("chosen", [-1, 4]),
        ("probabilities", [-1, 4]),
    ]
    check = client.channel.unary_unary("/grpc.health.v1.Health/Check")
    assert check(b"") == b"\x08\x01"  # SERVING, as the probes of Kubernetes read it
    index = [(each.name, each.state) for each in client.call("RepositoryIndex").models]
    assert index == [("tiny", "READY"), ("topics", "READY"), ("houses", "READY")]


def test_numbers_are_those_of_predict(
    client: Client, model: Classifier, multi_label_model: Classifier, targets_model: Classifier
) -> None:
    reply = client.infer("tiny", TEXTS, id="7")
    assert (reply.model_name, reply.model_version, reply.id) == ("tiny", "1", "7")
    assert [each.name for each in reply.outputs] == ["label", "probabilities"]
    labels, probabilities = reply.raw_output_contents
    assert elements(labels) == model.predict(TEXTS).tolist()
    assert np.array_equal(np.frombuffer(probabilities, "<f8").reshape(-1, 3), model.predict_proba(TEXTS))
    labels, chosen, _ = client.infer("topics", TEXTS).raw_output_contents
    expected = [list(each) for each in multi_label_model.predict(TEXTS)]
    assert [json.loads(each) for each in elements(labels)] == expected
    rows = np.frombuffer(chosen, np.bool_).reshape(len(TEXTS), -1)
    names = multi_label_model.labels
    assert [[names[n] for n in np.flatnonzero(row)] for row in rows] == expected
    (values,) = client.infer("houses", TEXTS).raw_output_contents
    assert np.array_equal(np.frombuffer(values, "<f8").reshape(-1, 2), targets_model.predict(TEXTS))


def test_raw_tensors_parameters_and_requested_outputs(client: Client, multi_label_model: Classifier) -> None:
    raw = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in TEXTS)
    inputs = [{"name": "text", "datatype": "BYTES", "shape": [len(TEXTS), 1]}]
    outputs = [
        {"name": "labels"},
        {"name": "backward"},
        {"name": "probabilities", "parameters": {"classification": {"int64_param": 2}}},
    ]
    fields: dict[str, Any] = {"inputs": inputs, "outputs": outputs, "raw_input_contents": [raw], "model_name": "topics"}
    first, *others = multi_label_model.labels
    parameters = {"threshold": {"double_param": 0.0}, "thresholds": {"string_param": json.dumps({first: 1.0})}}
    labels, backward, best = client.call("ModelInfer", **fields, parameters=parameters).raw_output_contents
    assert [json.loads(each) for each in elements(labels)] == [others] * len(TEXTS)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "parameters.thresholds is not a JSON object: Expecting"):
        client.call("ModelInfer", **fields, parameters={"thresholds": {"string_param": "plot"}})
    expected = multi_label_model.predict_proba_by_direction(TEXTS)
    assert np.array_equal(np.frombuffer(backward, "<f8").reshape(len(TEXTS), -1), expected["backward"])
    most_probable = expected["ensemble"].argmax(axis=1)
    assert [each.split(":")[2] for each in elements(best)[::2]] == [multi_label_model.labels[n] for n in most_probable]


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"model": "other"}, grpc.StatusCode.NOT_FOUND, "model not found: 'other'"),
        ({"model_version": "2"}, grpc.StatusCode.NOT_FOUND, "has no version '2'"),
        ({"inputs": []}, grpc.StatusCode.INVALID_ARGUMENT, "expected one input named 'text', found none"),
        ({"texts": ["a"] * 51}, grpc.StatusCode.INVALID_ARGUMENT, "51 texts, but at most 50"),
        ({"texts": ["a" * 200_000]}, grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
        ({"raw_input_contents": [b"", b""]}, grpc.StatusCode.INVALID_ARGUMENT, "has 2 elements, expected 1"),
        ({"outputs": [{"name": "logits"}]}, grpc.StatusCode.INVALID_ARGUMENT, "output not found: 'logits'"),
    ],
)
def test_errors_are_those_of_http_as_codes(
    client: Client, fields: dict[str, Any], code: grpc.StatusCode, message: str
) -> None:
    with refused(code, message):
        client.infer(fields.pop("model", "tiny"), fields.pop("texts", ["a film"]), **fields)


def soon() -> float:
    return time.monotonic() + 1


def test_a_server_that_is_loading_full_slow_or_stopping_refuses_with_the_codes_of_the_page(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(threads=1, max_queue_tokens=2_000, max_queue_s=86_400)
    service, port = Service(parse_bundles([f"tiny={bundle_path}"]), settings, ServerMetrics()), free_port()
    status = grpc.StatusCode

    async def run() -> None:
        server = GrpcServer(service, [HOST], port, None)
        assert server.addresses == [f"{HOST}:{port}"]
        await server.start()
        async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
            client = Client(port, channel)
            with refused(status.UNAVAILABLE, "still loading"):
                await client.infer("tiny", ["a film"])
            service.load_all()
            await refuse_by_limits(client, service.model().batcher)
            assert await codes_of(client, 300) == {status.RESOURCE_EXHAUSTED: 300 - 256, status.UNAVAILABLE: 256}
            service.close(0)
            with refused(status.UNAVAILABLE, "the server is shutting down"):
                await client.infer("tiny", ["a film"])
        await server.stop(0)

    async def refuse_by_limits(client: Client, batcher: Batcher) -> None:
        with refused(status.INVALID_ARGUMENT, "the limit is 2000 (max-queue-tokens)"):
            await client.infer("tiny", ["the cat " * 2_000])
        with batcher.reserve([1_999], soon()), refused(status.RESOURCE_EXHAUSTED, "the queue holds 1999 of 2000"):
            await client.infer("tiny", ["a film"])
        with monkeypatch.context() as patch, batcher.reserve([200], soon()):
            patch.setattr(batcher.speed, "factor", 1e5)  # a very slow machine
            with refused(status.RESOURCE_EXHAUSTED, "can't be answered before its deadline in 30 s"):
                await client.infer("tiny", ["a film"], 30)
        with monkeypatch.context() as patch:
            patch.setattr(service, "settings", settings.model_copy(update={"request_timeout_s": 1e-4}))
            with refused(status.DEADLINE_EXCEEDED, "the deadline passed"):
                await client.infer("tiny", ["the cat " * 100], None)

    async def codes_of(client: Client, count: int) -> Counter[grpc.StatusCode]:
        """Return how calls end of which none is answered before all are sent."""
        are_sent, ended = asyncio.Event(), Counter[grpc.StatusCode]()

        async def classify(*_: object) -> NoReturn:
            await are_sent.wait()
            raise Unavailable("later")

        async def ask() -> None:
            try:
                await client.infer("tiny", ["a film"])
            except grpc.RpcError as error:
                ended[error.code()] += 1

        with monkeypatch.context() as patch:
            patch.setattr(service, "classify", classify)
            asking = asyncio.gather(*(ask() for _ in range(count)))
            while ended.total() < count - 256:
                await asyncio.sleep(0.01)
            are_sent.set()
            await asking
        return ended

    asyncio.run(run())


def test_a_stream_answers_its_requests_in_order_with_an_error_per_request(
    client_and_server: tuple[Client, RunningServer], model: Classifier
) -> None:
    """ModelStreamInfer, the bidirectional stream of Triton: short texts do not overtake long ones."""
    client, server = client_and_server
    texts = ["the cat " * 500, *TEXTS, *["a film"] * 20]
    models = ["tiny"] * len(texts)
    models[2] = "other"

    def requests() -> Iterator[Any]:
        for number, (name, text) in enumerate(zip(models, texts, strict=True)):
            tensor = {
                "name": "text",
                "datatype": "BYTES",
                "shape": [1],
                "contents": {"bytes_contents": [text.encode()]},
            }
            yield make("ModelInferRequest", model_name=name, id=str(number), inputs=[tensor])

    replies = list(client.stream(requests()))
    assert [reply.infer_response.id for reply in replies] == [str(number) for number in range(len(texts))]
    assert [bool(reply.error_message) for reply in replies] == [name == "other" for name in models]
    assert replies[2].error_message.startswith("model not found: 'other'")
    raw = b"".join(reply.infer_response.raw_output_contents[1] for reply in replies if not reply.error_message)
    assert np.array_equal(np.frombuffer(raw, "<f8").reshape(-1, 3), model.predict_proba(texts[:2] + texts[3:]))
    eventually(lambda: f"GRPC /{SERVICE}/ModelStreamInfer 404" in server.log_text)
    endless = (request for _ in iter(int, 1) for request in requests())
    call = client.stream(endless)
    next(call)
    call.cancel()
    eventually(lambda: server.metric("bothways_queue_tokens", '{model="tiny",version="1"}') == 0)


def test_a_canceled_call_is_read_no_further(client_and_server: tuple[Client, RunningServer]) -> None:
    client, server = client_and_server
    before = server.metric("bothways_texts_total")
    request = make("ModelInferRequest", model_name="tiny", inputs=[tensor_of(["the cat " * 12_000])])
    call = client.method("ModelInfer").future(request)
    eventually(lambda: server.metric("bothways_queue_tokens", '{model="tiny",version="1"}') > 0)
    call.cancel()
    eventually(lambda: server.metric("bothways_queue_tokens", '{model="tiny",version="1"}') == 0)
    assert server.metric("bothways_texts_total") == before
    eventually(lambda: f"GRPC /{SERVICE}/ModelInfer 499" in server.log_text)


def test_calls_are_counted_and_logged(client_and_server: tuple[Client, RunningServer]) -> None:
    client, server = client_and_server
    client.infer("tiny", ["a film"])
    page = server.request("/metrics").body.decode()
    assert f'route="/{SERVICE}/ModelInfer",status="200"' in page.replace('method="GRPC",', "")
    assert f"GRPC /{SERVICE}/ModelInfer 200" in server.log_text


def test_a_port_in_use_is_an_error(client: Client, bundle_path: Path, tmp_path: Path) -> None:
    """``test_proxied.py`` has keys and certificates."""
    with running(bundle_path, "--grpc-port", client.port, "--threads", 1, folder=tmp_path, wait=False) as second:
        assert second.process.wait(timeout=60) == 1
        assert f"can't listen on {HOST}:{client.port} for gRPC" in second.log_text
