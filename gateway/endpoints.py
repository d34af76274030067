"""Namespaces as they are served: the bridges of each, and the paths that lead to them.

The default namespace stands at the top, any other one under `/n/{name}`, with the same paths: `Endpoints.routes` is the
only list of them.
"""

from collections.abc import Mapping
from typing import Any, Final

from starlette.routing import BaseRoute, Mount, Route, Router, WebSocketRoute

from bridges.http import HttpBridge
from bridges.sse import SseBridge
from bridges.websocket import WebSocketBridge, deny
from gateway.core.admission import Admission
from gateway.core.authentication import Authentication
from gateway.core.clock import Clock
from gateway.core.errors import NoSuchEndpoint
from gateway.core.namespace import DEFAULT_NAMESPACE, Namespace
from gateway.core.offenders import Offenders
from gateway.core.origins import Origins
from gateway.core.problem import problem

__all__ = ["Endpoints", "namespace_routes"]

ANY_METHOD: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""The bridge itself refuses what it doesn't serve, with the right words."""


class Endpoints:
    """One namespace with its admission and bridges."""

    def __init__(
        self,
        namespace: Namespace,
        origins: Origins,
        clock: Clock,
        heartbeat_seconds: float,
        authentication: Authentication,
        offenders: Offenders,
    ) -> None:
        counters = namespace.counters
        admission = Admission(origins, namespace.role_limits, clock, counters, authentication, offenders)
        self.websocket = WebSocketBridge(namespace, admission, counters, heartbeat_seconds)
        self.sse = SseBridge(namespace, admission, counters, heartbeat_seconds)
        self.http = HttpBridge(namespace, admission, counters)

    def routes(self) -> list[BaseRoute]:
        """Everything that is served of a namespace, whichever it is."""
        return [
            WebSocketRoute("/ws", self.websocket),
            Route("/sse", self.sse),
            Route("/ticket", self.http.ticket, methods=ANY_METHOD),
            Route("/publish", self.http.publish, methods=ANY_METHOD),
            Route("/request", self.http.request, methods=ANY_METHOD),
            Route("/last", self.http.last),
            Route("/history", self.http.history),
            Route("/presence", self.http.presence),
        ]


class NotServed:
    """Answers what leads nowhere with a 404 problem, WebSocket handshakes too."""

    def __init__(self, hint: str) -> None:
        self._hint = hint

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse one request."""
        error = NoSuchEndpoint(f"{scope.get('method', 'GET')} {scope['path']} is not served here: {self._hint}")
        if scope["type"] == "websocket":
            await receive()  # websocket.connect
            await deny(scope, send, error)
            return
        status, headers, body = problem(error)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def namespace_routes(endpoints: Mapping[str, Endpoints]) -> list[BaseRoute]:
    """The routes of all namespaces, and what answers WebSocket handshakes for anything else."""
    no_endpoint = NotServed("see docs/http.md for what is")
    no_namespace = NotServed("expected /n/ and the name of a namespace")
    others: list[BaseRoute] = [
        Mount(f"/{name}", Router(served.routes(), redirect_slashes=False, default=no_endpoint))
        for name, served in endpoints.items()
        if name != DEFAULT_NAMESPACE
    ]
    return [
        Mount("/n", Router(others, redirect_slashes=False, default=no_namespace)),
        *endpoints[DEFAULT_NAMESPACE].routes(),
        WebSocketRoute("/{path:path}", no_endpoint),
    ]
