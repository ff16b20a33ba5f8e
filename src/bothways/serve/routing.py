"""Find routes below a URL prefix, and reply to requests for which there is no route."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bothways.errors import quoted
from bothways.serve.observation import observation_of
from bothways.serve.responses import json_response

_LONGEST_COMPARED = 200
"""Longer paths are not compared with routes."""


class UnderRootPath:
    """An ASGI application below a URL prefix, regardless of whether a proxy removes the prefix."""

    def __init__(self, app: ASGIApp, root_path: str, routes: Sequence[Route]) -> None:
        self._app, self._root_path, self._routes = app, root_path, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. ASGI defines ``root_path`` as the beginning of ``path``."""
        if scope["type"] == "http":
            outer = scope.get("root_path", "")
            path, root_path = self._inner_path(scope["path"].removeprefix(outer)), outer + self._root_path
            scope["root_path"], scope["path"] = root_path, root_path + path
        await self._app(scope, receive, send)

    def _inner_path(self, path: str) -> str:
        """Return a path without the prefix. Routes win: with the prefix ``/v1``, a proxy can send ``/v1/classify``."""
        if path == self._root_path:
            return "/"
        if not path.startswith(f"{self._root_path}/"):
            return path
        inner = path.removeprefix(self._root_path)
        is_route = [any(route.path_regex.match(one) for route in self._routes) for one in (path, inner)]
        return path if is_route == [True, False] else inner


def allowed_methods(routes: Iterable[Route], scope: Scope) -> list[str]:
    """Return the methods of all routes with the path of a request."""
    found = [route.methods or set() for route in routes if route.matches(scope)[0] is not Match.NONE]
    return sorted(set().union(*found))


def reply_wrong_method(routes: Sequence[Route], request: Request) -> Response:
    """Return the reply to a request with a method that its route does not have."""
    allowed = ", ".join(allowed_methods(routes, request.scope))
    message = f"{observation_of(request).method} is not allowed here, expected {allowed}"
    return json_response({"error": message, "kind": "wrong_method"}, 405, {"allow": allowed})


def reply_no_route(routes: Sequence[Route], request: Request) -> Response:
    """Return the reply to a request with a path that no route has. It names the most similar route, if any."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    similar = nearest_route(path, [route.path for route in routes])
    hint = f"did you mean {similar}?" if similar else "GET /openapi.json lists all routes"
    return json_response({"error": f"no route {quoted(path, _LONGEST_COMPARED)}: {hint}", "kind": "unknown_route"}, 404)


def nearest_route(path: str, routes: Iterable[str]) -> str | None:
    """Return the route that is most similar to a path, or None if none is similar."""
    by_example = {_filled(route, path): route for route in routes}
    found = get_close_matches(path[:_LONGEST_COMPARED], by_example, n=1, cutoff=0.7)
    return by_example[found[0]] if found else None


def _filled(route: str, path: str) -> str:
    """Return a route with the parts of a path in place of its parameters, where both have as many parts."""
    parts, given = route.split("/"), path.rstrip("/").split("/")
    if len(parts) != len(given):
        return route
    return "/".join(value if part.startswith("{") else part for part, value in zip(parts, given, strict=True))
