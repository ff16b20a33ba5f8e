"""The Open Inference Protocol over gRPC, in the same process and with the same models, limits and numbers as over HTTP.

The deadline of a call is that of its client. A call that its client cancels is read no further. ``ModelStreamInfer`` is
a call with any number of requests, each of which is answered, counted and logged as one of ``ModelInfer``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from bothways.errors import (
    AddressUnusable,
    DeadlinePassed,
    ModelUnknown,
    Overloaded,
    RequestInvalid,
    RequestTooLarge,
    ServingError,
    Unauthorized,
    Unavailable,
)
from bothways.serve.grpc_messages import CLASSES, HEALTH_SERVICE, SERVICE, make, parameters_of
from bothways.serve.log import log_error
from bothways.serve.observation import REQUEST_ID_HEADER, Observation, read_request_id
from bothways.serve.observed import report
from bothways.serve.predict import classify
from bothways.serve.protocols.open_inference import InferInput, model_metadata, texts_of_tensors
from bothways.serve.protocols.protocol import Query, Reply, refuse_many_texts, served_by
from bothways.serve.protocols.tensors import (
    EXTENSIONS,
    Wanted,
    choices_in,
    input_names,
    output_in,
    output_tensors,
    wanted_outputs,
)
from bothways.serve.service import Service
from bothways.serve.tls import Certificate
from bothways.serve.trace_context import HEADER, read_trace_context
from bothways.version import __version__

_STATUS: dict[type[ServingError], grpc.StatusCode] = {
    Unauthorized: grpc.StatusCode.UNAUTHENTICATED,
    ModelUnknown: grpc.StatusCode.NOT_FOUND,
    RequestInvalid: grpc.StatusCode.INVALID_ARGUMENT,
    RequestTooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    DeadlinePassed: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_CANCELED = 499
_MOST_CALLS = 256
"""Calls at a time. Further ones get RESOURCE_EXHAUSTED. Their messages are in memory, each at most max-body-bytes."""
_MOST_STREAMED = 8
"""Requests of a stream whose answers wait for those of earlier ones. Further ones are not read until there is room."""
_STREAM = f"/{SERVICE}/ModelStreamInfer"
_PROBES = ("/ServerLive", "/ServerReady", "/ModelReady", "/Check")
_SERVING, _NOT_SERVING = 1, 2


@dataclass(frozen=True)
class _Call:
    """A call that is being answered.

    Attributes:
        context: grpc's context of the call.
        observation: What the server knows about the call.
    """

    context: Any
    observation: Observation


@dataclass(frozen=True)
class _Refusal:
    """Why a request is not answered.

    Attributes:
        code: The status of the call.
        message: What is wrong.
        trailers: Metadata to send with the status.
    """

    code: grpc.StatusCode
    message: str
    trailers: Sequence[tuple[str, str]] = ()


_Handler = Callable[[Any, _Call], Awaitable[Message]]


class GrpcServer:
    """The gRPC server of a service.

    Attributes:
        addresses: The addresses that it listens on, with the port.
        certificate: The certificate that new connections see. None for no TLS.
    """

    def __init__(self, service: Service, addresses: Sequence[str], port: int, certificate: Certificate | None) -> None:
        """Create the server. It listens after ``start``.

        Args:
            service: The service.
            addresses: The addresses to listen on.
            port: The port to listen on.
            certificate: The certificate and its private key. None for no TLS.

        Raises:
            AddressUnusable: An address is already in use, or is not one of this machine.
        """
        self._service, self.certificate = service, certificate
        self.addresses: list[str] = []
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", service.settings.max_body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=_MOST_CALLS,
        )
        for name, handlers in ((SERVICE, self._handlers()), (HEALTH_SERVICE, {"Check": self._check_health})):
            found = {method: self._method(f"/{name}/{method}", handler) for method, handler in handlers.items()}
            if name == SERVICE:
                found["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
                    self._infer_stream, CLASSES["ModelInferRequest"].FromString, _serialized
                )
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, found),))
        for address in addresses:
            where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            try:
                self._listen(where)
            except RuntimeError:
                raise AddressUnusable(
                    f"can't listen on {where} for gRPC: in use, or no address of this machine"
                ) from None
            self.addresses.append(where)

    def _method(self, route: str, handler: _Handler) -> Any:
        message = route.rpartition("/")[2].replace("Check", "HealthCheck")
        return grpc.unary_unary_rpc_method_handler(
            partial(self._answer, route, handler),
            request_deserializer=CLASSES[f"{message}Request"].FromString,
            response_serializer=_serialized,
        )

    def _listen(self, where: str) -> None:
        if self.certificate is None:
            self._server.add_insecure_port(where)
        else:
            credentials = grpc.dynamic_ssl_server_credentials(_configuration(self.certificate), self._renewed())
            self._server.add_secure_port(where, credentials)

    def _renewed(self) -> Callable[[], Any]:
        """Return a function that returns the certificate if it has changed. gRPC calls it at each handshake."""
        last = self.certificate

        def renewed() -> Any:
            nonlocal last
            if self.certificate is last or self.certificate is None:
                return None
            last = self.certificate
            return _configuration(last)

        return renewed

    async def start(self) -> None:
        """Begin to accept calls."""
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, and cancel those that are not answered after some seconds."""
        await self._server.stop(grace_s)

    def _handlers(self) -> Mapping[str, _Handler]:
        return {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "RepositoryIndex": self._repository_index,
            "ModelInfer": self._infer,
        }

    async def _answer(self, route: str, handler: _Handler, request: Any, context: Any) -> Message:
        """Answer a call. An error becomes its status."""
        found = await self._reply(route, handler, request, context)
        return await _abort(context, found) if isinstance(found, _Refusal) else found

    async def _infer_stream(self, requests: AsyncIterator[Any], context: Any) -> AsyncGenerator[Message]:
        """Answer the requests of a stream in their order. The error of one does not affect the others."""
        answers: asyncio.Queue[tuple[str, asyncio.Task[Message | _Refusal]] | None] = asyncio.Queue()
        room = asyncio.Semaphore(_MOST_STREAMED)
        tasks: set[asyncio.Task[Any]] = set()

        async def read() -> None:
            try:
                async for request in requests:
                    await room.acquire()
                    task = asyncio.create_task(self._reply(_STREAM, self._infer, request, context))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    answers.put_nowait((request.id, task))
            finally:
                answers.put_nowait(None)

        reading = asyncio.create_task(read())
        try:
            while (waiting := await answers.get()) is not None:
                number, answer = waiting
                found = await answer
                if not isinstance(found, _Refusal):
                    yield make("ModelStreamInferResponse", infer_response=found)
                elif found.code is grpc.StatusCode.UNAUTHENTICATED:
                    await _abort(context, found)
                else:
                    failed = make("ModelInferResponse", id=number)
                    yield make("ModelStreamInferResponse", error_message=found.message, infer_response=failed)
                room.release()
        finally:
            for task in (reading, *tasks):
                task.cancel()
            await asyncio.gather(reading, *tasks, return_exceptions=True)

    async def _reply(self, route: str, handler: _Handler, request: Any, context: Any) -> Message | _Refusal:
        """Return the reply to a request, or why there is none, and count and log it."""
        started = time.perf_counter()
        metadata = [(key, str(value)) for key, value in context.invocation_metadata() or ()]
        observation = Observation(
            "GRPC",
            read_request_id([value for key, value in metadata if key == REQUEST_ID_HEADER]),
            read_trace_context([value for key, value in metadata if key == HEADER]),
            route,
            is_probe=route.endswith(_PROBES),
            status=_CANCELED,
        )
        try:
            if not observation.is_probe:
                self._service.keys.require(dict(metadata))
            reply = await handler(request, _Call(context, observation))
            observation.status = 200
            return reply
        except ServingError as error:
            observation.status = error.status
            self._service.metrics.rejections.labels(error.kind).inc()
            code = next((_STATUS[base] for base in type(error).__mro__ if base in _STATUS), grpc.StatusCode.UNKNOWN)
            trailers = [("retry-after", str(error.retry_after_s))] if isinstance(error, Overloaded) else []
            return _Refusal(code, str(error), trailers)
        except Exception as error:  # noqa: BLE001  (a bug must not affect the next call)
            observation.status = 500
            log_error("internal error", error, route=observation.route)
            return _Refusal(grpc.StatusCode.INTERNAL, "internal error")
        finally:
            report(self._service, observation, time.perf_counter() - started)

    async def _check_health(self, _: Any, __: _Call) -> Message:
        return make("HealthCheckResponse", status=_SERVING if self._service.is_ready else _NOT_SERVING)

    async def _server_live(self, _: Any, __: _Call) -> Message:
        return make("ServerLiveResponse", live=True)

    async def _server_ready(self, _: Any, __: _Call) -> Message:
        return make("ServerReadyResponse", ready=self._service.is_ready)

    async def _model_ready(self, request: Any, _: _Call) -> Message:
        served_by(self._service, _names(request.name, request.version))
        return make("ModelReadyResponse", ready=self._service.is_ready)

    async def _server_metadata(self, _: Any, __: _Call) -> Message:
        return make("ServerMetadataResponse", name="bothways", version=__version__, extensions=EXTENSIONS)

    async def _model_metadata(self, request: Any, _: _Call) -> Message:
        chosen = served_by(self._service, _names(request.name, request.version))
        found = model_metadata(self._service, chosen.served)
        known = ("name", "versions", "platform", "inputs", "outputs")
        return make("ModelMetadataResponse", **{key: found[key] for key in known})

    async def _repository_index(self, _: Any, __: _Call) -> Message:
        state = "UNAVAILABLE" if self._service.is_draining else "READY"
        models = [{"name": each.name, "version": each.version, "state": state} for each in self._service.models]
        return make("RepositoryIndexResponse", models=models)

    async def _infer(self, request: Any, call: _Call) -> Message:
        settings = self._service.settings
        left_s = call.context.time_remaining()
        limit_s = settings.request_timeout_s if left_s is None else min(left_s, settings.request_timeout_s)
        deadline_s = time.monotonic() + limit_s
        query, wanted = self._parsed(request)
        call.observation.choose(query.served.name, query.served.version)
        refuse_many_texts(len(query.texts), settings)
        with self._service.bodies.hold() as held:
            held.resize(request.ByteSize())
            served, answer = await classify(self._service, query, deadline_s)
        call.observation.choose(served.name, served.version)
        call.observation.record(answer)
        tensors = list(output_tensors(wanted, served.model, answer))
        return make(
            "ModelInferResponse",
            model_name=served.name,
            model_version=served.version,
            id=request.id,
            outputs=[{"name": each.name, "datatype": each.datatype, "shape": each.shape} for each in tensors],
            raw_output_contents=[each.raw for each in tensors],
        )

    def _parsed(self, request: Any) -> tuple[Query, Wanted]:
        """Return the texts and the wanted outputs of a request.

        Raises:
            ServingError: The request is invalid, or its model is not served.
        """
        chosen = served_by(self._service, _names(request.model_name, request.model_version))
        raw = list(request.raw_input_contents)
        if raw and len(raw) != len(request.inputs):
            raise RequestInvalid(
                f"raw_input_contents has {len(raw)} elements, expected {len(request.inputs)}, one per input"
            )
        inputs = [
            InferInput.model_construct(
                name=tensor.name,
                datatype=tensor.datatype,
                shape=list(tensor.shape),
                parameters={"binary_data_size": len(raw[number])} if raw else {},
                data=None if raw else list(tensor.contents.bytes_contents),
            )
            for number, tensor in enumerate(request.inputs)
        ]
        model = chosen.served.model
        texts = texts_of_tensors(inputs, input_names(model), b"".join(raw), self._service.settings)
        outputs = {each.name: output_in(each.name, parameters_of(each), in_binary=True) for each in request.outputs}
        wanted = Wanted(request.id, outputs or None, True, choices_in(parameters_of(request)))
        wanted_outputs(wanted, model)
        return Query(texts, chosen.served, _no_reply, chosen.version), wanted


def _configuration(certificate: Certificate) -> Any:
    chain, key = certificate.content
    return grpc.ssl_server_certificate_configuration([(key, chain)])


def _names(model: str, version: str) -> dict[str, str | None]:
    """Return the names of a model and a version. Empty ones are not set."""
    return {"model": model or None, "version": version or None}


def _serialized(message: Message) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _no_reply(*_: object) -> Reply:
    raise AssertionError("replies to calls are rendered from tensors")


async def _abort(context: Any, refusal: _Refusal) -> Message:
    """End a call with a status. Never returns."""
    if refusal.trailers:
        context.set_trailing_metadata(refusal.trailers)
    await context.abort(refusal.code, refusal.message)
    raise AssertionError("abort raises")
