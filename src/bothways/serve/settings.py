"""Settings of the server, from options, environment variables and a TOML file, in this order of precedence.

Also parses the bundles that a server is started with. Every error in the settings is reported at once.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bothways.errors import ConfigError
from bothways.runtime.encoder import Precision

VARIABLE_PREFIX = "BOTHWAYS_"
LogFormat = Literal["text", "json", "none"]
_Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
_Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseModel):
    """Settings of a server. Every field is an option of ``bothways serve``, a variable, and a key of a TOML file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """IP address to listen on. Use 0.0.0.0 for all interfaces."""
    port: Annotated[int, Field(ge=1, le=65_535)] = 8080
    """Port to listen on."""
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
    max_body_bytes: _Count = 2_000_000
    """Maximum size of a request body in bytes. Larger ones are rejected with 413."""
    max_texts: _Count = 1_000
    """Maximum number of texts per request. Requests with more are rejected with 413."""
    body_timeout_s: _Seconds = 10.0
    """Seconds within which a request body must arrive. Slower requests are rejected with 408."""
    request_timeout_s: _Seconds = 60.0
    """Seconds to answer a request, after which it gets 504. Clients can set a shorter time with X-Request-Timeout."""
    header_timeout_s: _Seconds = 10.0
    """Seconds within which a request header must arrive. Slower connections are closed."""
    linger_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """Seconds to accept new requests after SIGTERM, until a load balancer has noticed the failing readiness probe."""
    drain_s: _Seconds = 20.0
    """Seconds after SIGTERM and the linger time to finish accepted requests."""
    watch_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """Check bundle paths for changes every N seconds. 0 disables it (reload on SIGHUP only)."""
    log: LogFormat = "text"
    """Format of the request log on standard error. It never contains texts."""


def read_settings(
    options: Mapping[str, object], config: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Settings:
    """Combine options that are not None, variables such as ``BOTHWAYS_PORT``, and a TOML file.

    Args:
        options: Values by the name of their field.
        config: The TOML file, if any.
        environment: The environment variables.

    Raises:
        ConfigError: The file can't be read, or there are unknown keys or invalid values. The message lists all of
            them, each with its source.
    """
    values: dict[str, object] = _read_toml(config) if config is not None else {}
    sources = {name: f"{name} in {config}" for name in values}
    for name in Settings.model_fields:
        variable = VARIABLE_PREFIX + name.upper()
        if variable in environment:
            values[name], sources[name] = environment[variable], f"variable {variable}"
    for name, value in options.items():
        if value is not None:
            values[name], sources[name] = value, f"--{name.replace('_', '-')}"
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        faults = [
            f"{sources[str(fault['loc'][0])]}: "
            + ("unknown key" if fault["type"] == "extra_forbidden" else f"{fault['msg']}, found {fault['input']!r}")
            for fault in error.errors()
        ]
        raise ConfigError(". ".join(faults)) from None


def parse_bundles(values: Sequence[str]) -> dict[str, Path]:
    """Parse the bundles to serve.

    Args:
        values: Each either ``NAME=PATH`` or ``PATH``. The name of the latter is the last part of the path, without
            its suffix.

    Returns:
        The paths by name, in the order of the values.

    Raises:
        ConfigError: Two bundles have the same name, or a name is empty.
    """
    found: dict[str, Path] = {}
    for value in values:
        name, is_named, rest = value.partition("=")
        path = Path(rest if is_named else value)
        name = name if is_named else path.resolve().stem
        if not name:
            raise ConfigError(f"the name of the bundle {value!r} is empty: use NAME=PATH")
        if name in found:
            raise ConfigError(f"two bundles are named {name!r}: use NAME=PATH to give them different names")
        found[name] = path
    return found


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
