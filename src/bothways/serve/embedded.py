"""The server as a part of another application: an ASGI application with all routes, without a process of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator

from starlette.applications import Starlette

from bothways.errors import ConfigError
from bothways.serve.app import build_app
from bothways.serve.bundles import parse_bundles
from bothways.serve.log import start_embedded_log
from bothways.serve.metrics import ServerMetrics
from bothways.serve.service import Service
from bothways.serve.settings import PROCESS_SETTINGS, read_settings


def make_app(bundles: tuple[str | os.PathLike[str], ...], options: dict[str, object]) -> Starlette:
    """Return the application that serves bundles. See ``bothways.serve.asgi_app``."""
    if not bundles:
        raise ConfigError("no bundle, expected at least one: asgi_app('reviews.bundle')")
    if foreign := PROCESS_SETTINGS & options.keys():
        raise ConfigError(
            f"{', '.join(sorted(foreign))}: settings of the server's own process, expected options that concern models "
            "and requests: give these to the server that runs your application"
        )
    settings = read_settings({"log": "none", **options}, environment={}, as_keywords=True)
    start_embedded_log(settings.log)
    service = Service(parse_bundles([os.fspath(bundle) for bundle in bundles]), settings, ServerMetrics())
    service.load_all()

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        service.close(settings.drain_s)

    app = build_app(service)
    app.router.lifespan_context = lifespan
    return app
