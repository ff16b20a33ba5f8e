"""Settings of the server, from options, environment variables and a TOML file, in this order of precedence.

Every error in the settings is reported at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from bothways.errors import ConfigError, quoted, shown
from bothways.runtime.encoder import Precision
from bothways.schema import Document, Fault, Faults, validated
from bothways.toml_file import read_toml

VARIABLE_PREFIX = "BOTHWAYS_"
BUNDLES_KEY = "bundles"
"""The key of a TOML file with the bundles to serve (``serve.bundles``)."""
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")
LogFormat = Literal["text", "json", "none"]
_Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
_Seconds = Annotated[float, Field(gt=0, le=86_400)]
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_ORIGIN = re.compile(r"\*|https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")


def _root_path(value: str) -> str:
    """Return a URL prefix without the final slash.

    Raises:
        ValueError: It is not an absolute path.
    """
    path = value.rstrip("/")
    if not _ROOT_PATH.fullmatch(path):
        raise ValueError("expected a path such as /reviews")
    return path


def _origins(value: object) -> object:
    """Split the origins of a variable at commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _origin(value: str) -> str:
    """Check an origin.

    Raises:
        ValueError: Browsers never send such an origin.
    """
    if not _ORIGIN.fullmatch(value):
        raise ValueError("expected * or an origin such as https://example.com:8443, in lower case and without a path")
    return value


_RootPath = Annotated[str, AfterValidator(_root_path)]
_Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_origins)]


PROCESS_SETTINGS = frozenset(
    {
        *("host", "port", "uds", "grpc_port", "header_timeout_s", "keep_alive_s", "linger_s", "watch_s"),
        *("ssl_certfile", "ssl_keyfile"),
    }
)
"""Settings that have no effect in another application (``serve.embedded``)."""


class Settings(Document):
    """Settings of a server. Every field is an option of ``bothways serve``, a variable, and a key of a TOML file."""

    model_config = ConfigDict(strict=False, use_attribute_docstrings=True)

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address or host name to listen on. Use * for all interfaces, 0.0.0.0 for all with IPv4."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """Port to listen on. Use 0 for any free port, which the log reports."""
    uds: Annotated[str, Field(min_length=1)] | None = None
    """Path of a Unix domain socket to listen on, instead of a host and a port."""
    grpc_port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    """Port to listen on for gRPC (Open Inference Protocol). Needs the extra grpc. Defaults to no gRPC."""
    precision: Precision = "float32"
    """Precision of the matrix products. int8 is faster and only approximates the trainer's probabilities."""
    early_exit: bool = False
    """Skip the second direction when the first is confident. The bundle must have been calibrated for it."""
    key: str | None = None
    """PEM file with an Ed25519 public key. Only bundles signed with it by bothways sign are served."""
    threads: _Count | None = None
    """Compute threads. Defaults to all cores available to the process."""
    max_queue_tokens: _Count = 100_000
    """Maximum number of tokens waiting or in progress, per model. Further requests are rejected with 429."""
    max_queue_s: _Seconds = 30.0
    """Maximum seconds that a request waits for earlier ones, by the measured speed. Beyond it, requests get 429."""
    max_body_bytes: _Count = 2_000_000
    """Maximum size of a request body in bytes. Larger ones are rejected with 413."""
    max_total_body_bytes: _Count = 64_000_000
    """Maximum size of the bodies of all requests in progress, in bytes. Further requests are rejected with 429."""
    max_texts: _Count = 1_000
    """Maximum number of texts per request. Requests with more are rejected with 413."""
    body_timeout_s: _Seconds = 10.0
    """Seconds within which a request body must arrive. Slower requests are rejected with 408."""
    request_timeout_s: _Seconds = 60.0
    """Seconds to answer a request. It gets 429 if it would take longer. Clients can set less with X-Request-Timeout."""
    header_timeout_s: _Seconds = 10.0
    """Seconds within which a request header must arrive. Slower connections are closed."""
    keep_alive_s: _Seconds = 75.0
    """Seconds to keep an idle connection open. Should exceed the idle timeout of a load balancer."""
    linger_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """Seconds to accept new requests after SIGTERM, until a load balancer has noticed the failing readiness probe."""
    drain_s: _Seconds = 20.0
    """Seconds after SIGTERM and the linger time to finish accepted requests."""
    watch_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """Check bundles, config file, keys and certificate for changes every N seconds. 0 disables it (SIGHUP only)."""
    root_path: _RootPath = ""
    """URL prefix under which a proxy publishes the server, such as /reviews. The proxy may remove it or not."""
    cors_origin: _Origins = ()
    """Origin whose web pages may use the server, such as https://example.com, or * for all. Repeatable."""
    api_key_file: str | None = None
    """File with one API key per line. Requests need one, except probes and /metrics. A reload reads it again."""
    ssl_certfile: str | None = None
    """PEM file with the certificate chain. The server then speaks HTTPS. A reload reads it again."""
    ssl_keyfile: str | None = None
    """PEM file with the private key. Defaults to the file of the certificate."""
    log: LogFormat = "text"
    """Format of the log on standard error. none leaves out the lines about requests. It never contains texts."""


def read_settings(
    options: Mapping[str, object],
    config: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    *,
    as_keywords: bool = False,
) -> Settings:
    """Combine options that are not None, variables such as ``BOTHWAYS_PORT``, and a TOML file.

    ``PORT``, which Cloud Run and Heroku set, is read if there is no ``BOTHWAYS_PORT``. Variables that Kubernetes sets
    for a Service are ignored.

    Args:
        options: Values by the name of their field.
        config: The TOML file, if any.
        environment: The environment variables.
        as_keywords: Whether errors name options as keywords, such as ``max_texts``, instead of ``--max-texts``.

    Raises:
        ConfigError: The file can't be read, or there are unknown keys or invalid values. The message lists all of
            them, each with its source.
    """
    values: dict[str, object] = read_toml(config) if config is not None else {}
    values.pop(BUNDLES_KEY, None)
    sources = {name: f"{shown(name)} in {config}" for name in values}
    ignored = [*kubernetes_variables(environment), *([] if environment.get("PORT") else ["PORT"])]
    variables = {name: value for name, value in environment.items() if name not in ignored}
    for name in Settings.model_fields:
        variable = VARIABLE_PREFIX + name.upper()
        if name == "port" and variable not in variables:
            variable = "PORT"
        if variable in variables:
            values[name], sources[name] = variables[variable], f"variable {variable}"
    for name, value in options.items():
        if value is not None:
            values[name], sources[name] = value, name if as_keywords else f"--{name.replace('_', '-')}"
    try:
        return validated(Settings, values)
    except Faults as error:
        raise ConfigError(". ".join(_described(fault, sources, config) for fault in error.faults)) from None


def kubernetes_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that are named like a setting, but that Kubernetes sets for a Service named ``bothways``.

    For every Service of a namespace, Kubernetes sets ``NAME_PORT=tcp://ADDRESS:PORT`` in every container.
    """
    names = (VARIABLE_PREFIX + name.upper() for name in Settings.model_fields)
    return {name: environment[name] for name in names if _SERVICE_LINK.match(environment.get(name, ""))}


def _described(fault: Fault, sources: Mapping[str, str], config: Path | None) -> str:
    if not fault.location:
        return f"{config}: {fault.message}"
    source = sources[str(fault.location[0])]
    if fault.kind == "extra_forbidden":
        return f"{source}: unknown key"
    return f"{source}: {fault.message}, found {quoted(fault.value)}"
