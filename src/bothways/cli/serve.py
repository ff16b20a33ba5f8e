"""``bothways serve``: serve bundles over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bothways.errors import DependencyMissing
from bothways.runtime.encoder import Precision
from bothways.serve.settings import LogFormat, Settings


def _option(setting: str, *names: str) -> Any:
    """Return the option of a setting, with the description and the default of the setting as its help."""
    field = Settings.model_fields[setting]
    default = field.default
    if isinstance(default, float):
        default = f"{default:g}"
    return typer.Option(*names, help=f"{field.description}{f' Defaults to {default}.' if default else ''}")


def serve(
    bundles: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="BUNDLE",
            help="Bundles to serve: PATH, NAME=PATH, or NAME@VERSION=PATH:WEIGHT for several versions of a model. PATH "
            "can be a reference such as hf://USER/NAME@REVISION. The first model is the default.",
        ),
    ] = None,
    host: Annotated[str | None, _option("host")] = None,
    port: Annotated[int | None, _option("port")] = None,
    uds: Annotated[str | None, _option("uds")] = None,
    grpc_port: Annotated[int | None, _option("grpc_port")] = None,
    precision: Annotated[Precision | None, _option("precision")] = None,
    early_exit: Annotated[bool | None, _option("early_exit", "--early-exit")] = None,
    key: Annotated[str | None, _option("key")] = None,
    threads: Annotated[int | None, _option("threads")] = None,
    max_queue_tokens: Annotated[int | None, _option("max_queue_tokens")] = None,
    max_queue_s: Annotated[float | None, _option("max_queue_s")] = None,
    max_body_bytes: Annotated[int | None, _option("max_body_bytes")] = None,
    max_total_body_bytes: Annotated[int | None, _option("max_total_body_bytes")] = None,
    max_texts: Annotated[int | None, _option("max_texts")] = None,
    header_timeout_s: Annotated[float | None, _option("header_timeout_s")] = None,
    keep_alive_s: Annotated[float | None, _option("keep_alive_s")] = None,
    body_timeout_s: Annotated[float | None, _option("body_timeout_s")] = None,
    request_timeout_s: Annotated[float | None, _option("request_timeout_s")] = None,
    linger_s: Annotated[float | None, _option("linger_s")] = None,
    drain_s: Annotated[float | None, _option("drain_s")] = None,
    watch_s: Annotated[float | None, _option("watch_s")] = None,
    root_path: Annotated[str | None, _option("root_path")] = None,
    cors_origin: Annotated[list[str] | None, _option("cors_origin", "--cors-origin")] = None,
    api_key_file: Annotated[str | None, _option("api_key_file")] = None,
    ssl_certfile: Annotated[str | None, _option("ssl_certfile")] = None,
    ssl_keyfile: Annotated[str | None, _option("ssl_keyfile")] = None,
    log: Annotated[LogFormat | None, _option("log")] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="File with settings, named like the options but with underscores. It may also list the bundles.",
        ),
    ] = None,
) -> None:
    """Serve bundles over HTTP.

    Predictions are bit-identical to those of bothways predict.

    Options take precedence over variables such as BOTHWAYS_PORT, and variables over the file of --config.

    Example: bothways serve reviews.bundle --port 8080
    """
    options = {name: value for name, value in locals().items() if name in Settings.model_fields}
    try:
        from bothways.serve.server import serve as run  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise DependencyMissing(f"serving needs {error.name}: pip install 'bothways[serve]'") from None
    run(bundles or [], options, config)
