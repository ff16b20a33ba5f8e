"""``bothways serve``: answer requests over HTTP."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bothways.errors import DependencyMissing
from bothways.runtime.encoder import Precision
from bothways.serve.settings import Settings, named_bundles, read_settings


class LogName(StrEnum):
    """How requests are logged."""

    TEXT = "text"
    JSON = "json"
    NONE = "none"


def _of(setting: str, *names: str) -> Any:
    """Return the option of a setting: its description and default, which it does not set itself."""
    field = Settings.model_fields[setting]
    default = "" if field.default is None else f" [{field.default}]"
    return typer.Option(*names, help=f"{field.description}{default}")


def serve(
    bundles: Annotated[
        list[str], typer.Argument(metavar="BUNDLE...", help="Paths or NAME=PATH; the first is the default.")
    ],
    host: Annotated[str | None, _of("host")] = None,
    port: Annotated[int | None, _of("port")] = None,
    precision: Annotated[Precision | None, _of("precision")] = None,
    early_exit: Annotated[bool | None, _of("early_exit", "--early-exit")] = None,
    threads: Annotated[int | None, _of("threads")] = None,
    max_queue_tokens: Annotated[int | None, _of("max_queue_tokens")] = None,
    max_body_bytes: Annotated[int | None, _of("max_body_bytes")] = None,
    max_texts: Annotated[int | None, _of("max_texts")] = None,
    header_timeout_s: Annotated[float | None, _of("header_timeout_s")] = None,
    body_timeout_s: Annotated[float | None, _of("body_timeout_s")] = None,
    request_timeout_s: Annotated[float | None, _of("request_timeout_s")] = None,
    linger_s: Annotated[float | None, _of("linger_s")] = None,
    drain_s: Annotated[float | None, _of("drain_s")] = None,
    watch_s: Annotated[float | None, _of("watch_s")] = None,
    log: Annotated[LogName | None, _of("log")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE.toml", help="Any of these, with underscores.")] = None,
) -> None:
    """Serve bundles over HTTP, each request's answer the same bits as predict's.

    Options win over variables (BOTHWAYS_PORT=80), and those over the file of --config.

    Example: bothways serve reviews.bundle --port 8080
    """
    options = {
        "host": host,
        "port": port,
        "precision": precision,
        "early_exit": early_exit,
        "threads": threads,
        "max_queue_tokens": max_queue_tokens,
        "max_body_bytes": max_body_bytes,
        "max_texts": max_texts,
        "header_timeout_s": header_timeout_s,
        "body_timeout_s": body_timeout_s,
        "request_timeout_s": request_timeout_s,
        "linger_s": linger_s,
        "drain_s": drain_s,
        "watch_s": watch_s,
        "log": log.value if log else None,
    }
    try:
        from bothways.serve.server import serve as run  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise DependencyMissing(f"serving needs {error.name}: pip install 'bothways[serve]'") from None
    run(named_bundles(bundles), read_settings(options, config))
