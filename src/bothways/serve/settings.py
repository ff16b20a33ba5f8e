"""What can be set about a server: by options, by variables of the environment, in a TOML file, in this order.

In: those three. Out: ``Settings``, or every fault at once; and the names of bundles.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bothways.errors import ConfigError
from bothways.runtime.encoder import Precision

VARIABLE_PREFIX = "BOTHWAYS_"
_Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
_Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseModel):
    """How a server serves. Every field is an option of ``bothways serve``, a variable, and a key of a TOML file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """The address to listen at; 0.0.0.0 for all."""
    port: Annotated[int, Field(ge=1, le=65_535)] = 8080
    """The port to listen at."""
    precision: Precision = "float32"
    """In which weights are multiplied."""
    early_exit: bool = False
    """Whether one direction is enough where it is sure, as the bundle's cascade says."""
    threads: _Count | None = None
    """To compute with; else one for each core that the process may use."""
    max_queue_tokens: _Count = 100_000
    """Tokens of each model's requests that wait or are read; more are refused at once (429)."""
    max_body_bytes: _Count = 2_000_000
    """Bytes of a request's body (413)."""
    max_texts: _Count = 1_000
    """Texts of a request (413)."""
    body_timeout_s: _Seconds = 10.0
    """Seconds that a request's body may take to come (408)."""
    request_timeout_s: _Seconds = 60.0
    """Seconds from a request's header to its reply (504); a client may ask for less."""
    header_timeout_s: _Seconds = 10.0
    """Seconds that a request's header may take to come."""
    linger_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """Seconds that new requests are still taken after SIGTERM, until a load balancer notices that it isn't ready."""
    drain_s: _Seconds = 20.0
    """Seconds that requests which were taken may still take after SIGTERM."""
    watch_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """Seconds between two looks whether another bundle lies at a model's path; 0: only SIGHUP makes it look."""
    log: Literal["text", "json", "none"] = "text"
    """How each request is logged on standard error; never with its texts."""


def read_settings(
    options: Mapping[str, object], config: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Settings:
    """Return settings from options that are not None, variables such as ``BOTHWAYS_PORT``, and a TOML file.

    Raises:
        ConfigError: The file can't be read, or there are unknown keys or impossible values; all of them are listed.
    """
    values: dict[str, Any] = _from_file(config) if config is not None else {}
    known = {f"{VARIABLE_PREFIX}{name.upper()}": name for name in Settings.model_fields}
    values |= {name: environment[variable] for variable, name in known.items() if variable in environment}
    values |= {name: value for name, value in options.items() if value is not None}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, f['loc']))}: {f['msg']}, found {f['input']!r}" for f in error.errors()]
        raise ConfigError("; ".join(faults)) from None


def named_bundles(values: Sequence[str]) -> dict[str, Path]:
    """Return bundles by name, from ``PATH`` or ``NAME=PATH``; a path alone is named by its last part without a suffix.

    Raises:
        ConfigError: Two have the same name, or a name is empty.
    """
    found: dict[str, Path] = {}
    for value in values:
        name, is_named, rest = value.partition("=")
        path = Path(rest if is_named else value)
        name = name if is_named else path.resolve().stem
        if not name or name in found:
            raise ConfigError(
                f"two bundles are named {name!r}: name them with NAME=PATH" if name else "a name is empty"
            )
        found[name] = path
    return found


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
