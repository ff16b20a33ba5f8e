"""Serve bundles over HTTP, without torch: request → texts → tokens → one running batch → predictions → reply."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bothways.errors import DependencyMissing

if TYPE_CHECKING:
    from starlette.applications import Starlette


def asgi_app(*bundles: str | os.PathLike[str], **settings: object) -> Starlette:
    """Return an ASGI application with all routes of ``bothways serve``, to mount into FastAPI or Starlette.

    ::

        app.mount("/classify", bothways.serve.asgi_app("reviews.bundle", precision="int8"))

    The bundles are loaded and verified before it returns, so that the first request is answered at once. Guarantee 8:
    the predictions are those of ``model.predict``, bit for bit.

    Args:
        bundles: Paths, or texts such as ``NAME=PATH``, as in ``bothways serve``. The first is the default model.
        settings: Options of ``bothways serve`` that concern models and requests, with underscores: ``precision``,
            ``max_texts``. Variables of the environment are not read. ``log="json"`` or ``"text"`` writes a line per
            request to standard error.

    Raises:
        ConfigError: There is no bundle, two have the same name, or a setting is unknown or invalid.
        BundleError: A bundle can't be read.
        Unavailable: A bundle does not reproduce its parity record on this machine.
        DependencyMissing: The extra ``serve`` is not installed.
    """
    try:
        from bothways.serve.embedded import make_app  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise DependencyMissing(f"serving needs {error.name}: pip install 'bothways[serve]'") from None
    return make_app(bundles, settings)
