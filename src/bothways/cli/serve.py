"""``bothways serve``: answer requests over HTTP."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bothways.cli.options import PrecisionName
from bothways.errors import DependencyMissing


class LogName(StrEnum):
    """How requests are logged."""

    TEXT = "text"
    JSON = "json"
    NONE = "none"


def serve(
    bundles: Annotated[
        list[str], typer.Argument(metavar="BUNDLE...", help="Paths or NAME=PATH; the first is the default.")
    ],
    host: Annotated[str | None, typer.Option(help="The address to listen at [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen at [8080].")] = None,
    precision: Annotated[
        PrecisionName | None, typer.Option(help="int8: faster, near the trainer's numbers only.")
    ] = None,
    cascade: Annotated[bool | None, typer.Option("--cascade", help="One direction where it is sure.")] = None,
    threads: Annotated[int | None, typer.Option(help="To compute with [one for each core].")] = None,
    max_queue_tokens: Annotated[int | None, typer.Option(help="That wait or are read; else 429 [100000].")] = None,
    max_body_bytes: Annotated[int | None, typer.Option(help="Of a request's body; else 413 [2000000].")] = None,
    max_texts: Annotated[int | None, typer.Option(help="Of a request; else 413 [1000].")] = None,
    header_timeout_s: Annotated[float | None, typer.Option(help="For a request's header [10].")] = None,
    body_timeout_s: Annotated[float | None, typer.Option(help="For a request's body; else 408 [10].")] = None,
    request_timeout_s: Annotated[float | None, typer.Option(help="For a whole request; else 504 [60].")] = None,
    linger_s: Annotated[float | None, typer.Option(help="New requests are still taken after SIGTERM [0].")] = None,
    drain_s: Annotated[float | None, typer.Option(help="For requests that were taken, after SIGTERM [20].")] = None,
    watch_s: Annotated[float | None, typer.Option(help="Between looks for another bundle [only on SIGHUP].")] = None,
    log: Annotated[LogName | None, typer.Option(help="How requests are logged [text].")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE.toml", help="Any of these, with underscores.")] = None,
) -> None:
    """Serve bundles over HTTP, each request's answer the same bits as predict's.

    Options win over variables (BOTHWAYS_PORT=80), and those over the file of --config.

    Example: bothways serve reviews.bundle --port 8080
    """
    options = {
        "host": host,
        "port": port,
        "precision": precision.value if precision else None,
        "cascade": cascade,
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
        from bothways.serve.service import named_bundles  # noqa: PLC0415
        from bothways.serve.settings import read_settings  # noqa: PLC0415
    except ImportError as error:
        raise DependencyMissing(f"serving needs {error.name}: pip install 'bothways[serve]'") from None
    run(named_bundles(bundles), read_settings(options, config))
