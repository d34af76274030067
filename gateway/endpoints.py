"""Namespaces as they are served: the bridges of each, and the paths that lead to them.

The default namespace stands at the top, any other one under `/n/{name}`, with the same paths: `Endpoints.routes` is the
only list of them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Self

from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount, Route, Router, WebSocketRoute

from bridges.http import HttpBridge
from bridges.http_login import CookieRenewal, LoginBridge
from bridges.mqtt_websocket import MqttOptions, MqttWebSocketBridge
from bridges.mqtt_websocket_tunnel import Dial, MqttTunnelBridge
from bridges.peerjs import PeerJsBridge, PeerJsOptions
from bridges.polling import PollingBridge
from bridges.sse import SseBridge
from bridges.websocket import WebSocketBridge
from bridges.websocket_raw import RawBridge
from gateway.config import Settings
from gateway.core.admission import Admission
from gateway.core.authentication import Authentication
from gateway.core.clock import Clock
from gateway.core.departures import Guest
from gateway.core.errors import NoSuchEndpoint
from gateway.core.namespace import DEFAULT_NAMESPACE, Namespace
from gateway.core.offenders import Offenders
from gateway.core.origins import Origins
from gateway.core.shared_limits import SharedLimits
from gateway.mqtt_websocket import mqtt_options
from gateway.peerjs import peerjs_options
from gateway.refusal import refuse

__all__ = ["BridgeOptions", "Endpoints", "namespace_routes"]

ANY_METHOD: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""The bridge itself refuses what it doesn't serve, with the right words."""


@dataclass(frozen=True, slots=True)
class BridgeOptions:
    """What the configuration says of bridges, for all namespaces alike."""

    heartbeat_seconds: float
    compress_from_bytes: int | None
    peerjs: PeerJsOptions | None
    mqtt: MqttOptions | None
    """None if MQTT isn't served, or passed through."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As it is configured."""
        beat, listen = settings.heartbeat, settings.listen
        return cls(
            beat.interval_seconds,
            listen.compress_from_bytes,
            peerjs_options(settings.peerjs),
            mqtt_options(settings.mqtt),
        )


class Endpoints:
    """One namespace with its admission and bridges."""

    def __init__(
        self,
        namespace: Namespace,
        origins: Origins,
        clock: Clock,
        random: Random,
        authentication: Authentication,
        offenders: Offenders,
        options: BridgeOptions,
        mqtt_tunnel: Dial | None,
    ) -> None:
        counters = namespace.counters
        admission = Admission(origins, namespace.role_limits, clock, counters, authentication, offenders)
        self.namespace, self.admission = namespace, admission
        beat_seconds, compress_from_bytes = options.heartbeat_seconds, options.compress_from_bytes
        self.websocket = WebSocketBridge(namespace, admission, counters, beat_seconds, compress_from_bytes)
        self.raw = RawBridge(namespace, admission, counters, compress_from_bytes)
        self.sse = SseBridge(namespace, admission, counters, beat_seconds)
        self.polling = PollingBridge(namespace, admission, counters, clock)
        self._mqtt: MqttWebSocketBridge | MqttTunnelBridge | None = None
        if options.mqtt is not None:
            self._mqtt = MqttWebSocketBridge(namespace, admission, counters, clock, options.mqtt)
        elif mqtt_tunnel is not None:
            self._mqtt = MqttTunnelBridge(namespace.role_limits, admission, counters, clock, mqtt_tunnel)
        self.http = HttpBridge(namespace, admission, counters)
        peerjs = options.peerjs
        self._peerjs = None if peerjs is None else PeerJsBridge(namespace, admission, peerjs, clock, random)
        self._login = LoginBridge(admission, counters, clock)
        self._renewal = [Middleware(CookieRenewal, admission=admission, clock=clock)]

    @property
    def tunnels(self) -> Collection[Guest]:
        """The connections that have no session, since they are passed through."""
        return tuple(self._mqtt.tunnels) if isinstance(self._mqtt, MqttTunnelBridge) else ()

    def share(self, shared: SharedLimits) -> None:
        """Limit what comes to all nodes together."""
        self.admission.share(self.namespace.name, shared)
        self.namespace.share(self.namespace.name, shared)
        if self._peerjs is not None:
            self._peerjs.share(shared)

    def routes(self) -> list[BaseRoute]:
        """Everything that is served of a namespace, whichever it is."""
        mqtt = [] if self._mqtt is None else [WebSocketRoute("/mqtt", self._mqtt)]
        return [
            WebSocketRoute("/ws", self.websocket),
            WebSocketRoute("/ws/raw", self.raw),
            *mqtt,
            Route("/sse", self.sse),
            Route("/poll", self.polling, middleware=self._renewal),
            Route("/ticket", self.http.ticket, methods=ANY_METHOD, middleware=self._renewal),
            Route("/publish", self.http.publish, methods=ANY_METHOD, middleware=self._renewal),
            Route("/request", self.http.request, methods=ANY_METHOD, middleware=self._renewal),
            Route("/last", self.http.last, middleware=self._renewal),
            Route("/history", self.http.history, middleware=self._renewal),
            Route("/presence", self.http.presence, middleware=self._renewal),
            Route("/problems", self.http.problems, middleware=self._renewal),
            *self._peerjs_routes(),
        ]

    def _peerjs_routes(self) -> list[BaseRoute]:
        if self._peerjs is None:
            return []
        return [
            WebSocketRoute("/peerjs/peerjs", self._peerjs),
            Route("/peerjs/ice", self._peerjs.ice, middleware=self._renewal),
            Route("/peerjs/{key:path}/id", self._peerjs.new_id, middleware=self._renewal),
            Route("/peerjs/{key:path}/peers", self._peerjs.peers, middleware=self._renewal),
        ]

    def login_routes(self) -> list[BaseRoute]:
        """What is served of logins. They are those of the whole gateway, so they stand at the top alone."""
        return [
            Route("/login", self._login.login, methods=ANY_METHOD),
            Route("/logout", self._login.logout, methods=ANY_METHOD),
            Route("/session", self._login.session, middleware=self._renewal),
        ]


class NotServed:
    """Answers what leads nowhere with a 404 problem, WebSocket handshakes too."""

    def __init__(self, hint: str) -> None:
        self._hint = hint

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse one request."""
        error = NoSuchEndpoint(f"{scope.get('method', 'GET')} {scope['path']} is not served here: {self._hint}")
        await refuse(error, scope, receive, send)


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
